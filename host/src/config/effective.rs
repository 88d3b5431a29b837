//! What counts in the end for each key, and where it comes from, without anything secret.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::environment::VARIABLES;
use super::keys::Node;
use super::places::{Place, child};
use super::reading::Reading;

/// What stands for a value that is not for everybody's eyes.
const HIDDEN: &str = "(hidden)";
/// Keys whose values are not for everybody's eyes contain one of these.
const SECRET_NAMES: &[&str] = &["password", "secret", "token", "credential"];

/// One key and what it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effective {
    /// The full key, or the name of a variable that stands for no key.
    pub key: String,
    /// What it is; `null`: nothing in particular.
    pub value: Value,
    /// Where that comes from.
    pub from: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The file, at this place.
    File(Option<Place>),
    /// A variable of this name.
    Environment(&'static str),
    /// Nothing was said.
    Default,
}

impl Reading {
    /// What counts for each key, in the order of the keys; `variable` answers what a variable of the environment is set to.
    pub fn effective(&self, variable: impl Fn(&str) -> Option<String>) -> Vec<Effective> {
        let mut all = Vec::new();
        self.collect(&mut all, "", Node::root(), Some(&self.said));
        for known in VARIABLES {
            let Some(value) = variable(known.name).filter(|value| !value.is_empty()) else { continue };
            let value = if known.secret { json!(HIDDEN) } else { shown("", &json!(value)) };
            let from = Origin::Environment(known.name);
            match known.key.and_then(|key| all.iter_mut().find(|row| row.key == key)) {
                Some(row) => (row.value, row.from) = (value, from),
                None => all.push(Effective { key: known.key.unwrap_or(known.name).to_owned(), value, from }),
            }
        }
        all
    }

    fn collect(&self, all: &mut Vec<Effective>, path: &str, node: Node, said: Option<&Value>) {
        for (name, node) in node.keys() {
            let key = child(path, name);
            let value = said.and_then(|said| said.get(name));
            if node.is_section() {
                self.collect(all, &key, node, value);
                continue;
            }
            let (value, from) = match value {
                Some(value) => (value, Origin::File(self.place(&key))),
                None => (node.default().unwrap_or(&Value::Null), Origin::Default),
            };
            let empty = value.is_null() || value == "";
            let value = if node.is_secret() && !empty { json!(HIDDEN) } else { shown(name, value) };
            all.push(Effective { key, value, from });
        }
    }
}

/// A value as anybody may see it.
fn shown(name: &str, value: &Value) -> Value {
    let is_secret = SECRET_NAMES.iter().any(|secret| name.to_ascii_lowercase().contains(secret));
    match value {
        Value::String(text) if is_secret && !text.is_empty() => json!(HIDDEN),
        Value::Number(_) if is_secret => json!(HIDDEN),
        Value::String(text) => json!(without_password(text)),
        Value::Array(entries) => entries.iter().map(|entry| shown(name, entry)).collect(),
        // What programs are given in their environment is often a secret, whatever it is called.
        Value::Object(keys) if name == "environment" => keys.keys().map(|key| (key.clone(), json!(HIDDEN))).collect(),
        Value::Object(keys) => {
            let shown = keys.iter().map(|(key, value)| (key.clone(), shown(key, value)));
            Value::Object(shown.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// An address without the password that it may have in it.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            format!("{scheme}://{}:{HIDDEN}@{host}{path}", user.split(':').next().unwrap_or_default())
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_value_and_an_origin_and_no_secret_is_shown() {
        let text = "server: {port: 80}\nfilesystem:\n  storage: /srv\ndatabase: {password: hunter2}\n\
                    containerlab:\n  dockerHost: tcp://me:hunter2@host:1/x\n  environment: {LICENCE: hunter2}\n\
                    plugins:\n  auth-policy:\n    - path: p\n      settings: {apiToken: hunter2, limit: 3}\n";
        let reading = Reading::of(text);
        assert!(reading.errors.is_empty(), "{:?}", reading.errors);
        let set = |name: &str| match name {
            "SB_NATIVE_USERNAME" => Some("ada".to_owned()),
            "SB_NATIVE_PASSWORD" => Some("hunter2".to_owned()),
            _ => None,
        };
        let all = reading.effective(set);
        let of = |key: &str| all.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("{key}: {all:?}"));
        let file = |line, column| Origin::File(Some(Place { line, column }));
        assert_eq!((&of("server.port").value, of("server.port").from), (&json!(80), file(1, 10)));
        assert_eq!((&of("server.host").value, of("server.host").from), (&json!("127.0.0.1"), Origin::Default));
        assert_eq!((&of("fileSystem.storage").value, of("fileSystem.storage").from), (&json!("/srv"), file(3, 3)));
        assert_eq!(of("containerlab.dockerHost").value, json!("tcp://me:(hidden)@host:1/x"));
        assert_eq!(of("plugins.auth-policy").value[0]["settings"], json!({"apiToken": HIDDEN, "limit": 3}));
        assert_eq!(of("SB_NATIVE_USERNAME").value, json!("ada"));
        assert_eq!(of("SB_NATIVE_PASSWORD").value, json!(HIDDEN));
        assert!(!format!("{all:?}").contains("hunter2"), "{all:#?}");
    }
}
