//! What counts in the end for each key, and where it comes from, without anything secret.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::environment::VARIABLES;
use super::keys::Node;
use super::places::{Place, child};
use super::reading::Reading;
use super::{Config, Folders};
use crate::plugins::PluginsConfig;
use crate::plugins::config::Hook;
use crate::store::config::Location;

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
    /// The command line, by this argument.
    Argument(&'static str),
    /// Nothing was said.
    Default,
}

/// What the values that nobody has said depend on.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The folder that relative paths start from.
    pub config_dir: &'a Path,
    /// Where things are kept.
    pub folders: &'a Folders,
    /// Whether the command line says so.
    pub data_is_named: bool,
    /// The database that is used, where that can be told.
    pub database: Option<&'a Location>,
}

impl Circumstances<'_> {
    /// What keys come to whose value follows from something else. Those that nobody has said are shown like this; those that
    /// are marked, in any case.
    fn computed(&self, config: &Config) -> Vec<(&'static str, bool, Value)> {
        let plugins = |hook| {
            let default = PluginsConfig::default();
            default.entries(hook).iter().map(|entry| json!({ "path": entry.path })).collect::<Value>()
        };
        let mut all = vec![
            ("auth.usersFile", false, json!(config.auth.users(self.config_dir, &self.folders.data).path)),
            ("containerlab.dockerHost", false, json!(config.containerlab.engine_address())),
            ("fileSystem.run", self.data_is_named, json!(self.folders.run)),
            ("fileSystem.storage", self.data_is_named, json!(self.folders.data)),
            ("plugins.auth-policy", false, plugins(Hook::AuthPolicy)),
            ("plugins.command-validator", false, plugins(Hook::CommandValidator)),
            ("plugins.status-formatter", false, plugins(Hook::StatusFormatter)),
            ("runtime", false, json!(config.runtime.name())),
            ("server.cors.origins", false, json!([])),
            ("server.headers.frameAncestors", false, json!([])),
            ("server.trustedProxies", false, json!(config.server.trusted_proxies.texts())),
            // What the file says of some kinds is among those of all others.
            ("shell.commands", true, json!(config.shell.options().commands.lines())),
        ];
        all.extend(self.database.map(|database| ("database.kind", false, json!(database.kind().name()))));
        match self.database {
            Some(Location::Sqlite(path)) => all.push(("database.localFile", false, json!(path))),
            Some(Location::Postgres(postgres)) => {
                all.push(("database.sslMode", false, json!(postgres.ssl_mode.to_string())));
            }
            None => {}
        }
        all
    }
}

impl Reading {
    /// What counts for each key, in the order of the keys; `variable` answers what a variable of the environment is set to.
    pub fn effective(&self, at: Circumstances<'_>, variable: impl Fn(&str) -> Option<String>) -> Vec<Effective> {
        let mut all = Vec::new();
        self.collect(&mut all, "", Node::root(), Some(&self.said));
        for (key, in_any_case, value) in at.computed(&self.config) {
            let Some(row) = all.iter_mut().find(|row| row.key == key) else { continue };
            if in_any_case || row.from == Origin::Default {
                row.value = shown(key, &value);
            }
            if at.data_is_named && key.starts_with("fileSystem.") {
                row.from = Origin::Argument("--data");
            }
        }
        // The words of other servers stand for it.
        if let Some(key) = self.runtime_said_by
            && let Some(row) = all.iter_mut().find(|row| row.key == "runtime")
        {
            row.from = Origin::File(self.place(key));
        }
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
        let (config_dir, folders) = (Path::new("/etc"), Folders::within("/data"));
        let at = Circumstances { config_dir, folders: &folders, data_is_named: false, database: None };
        let all = reading.effective(at, set);
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
    #[test]
    fn where_nobody_has_said_anything_what_counts_is_shown_all_the_same() {
        let folders = Folders::within("/data");
        let database = Location::Sqlite("/data/antimony.db".into());
        let at = |text: &str, data_is_named| {
            let at = Circumstances {
                config_dir: Path::new("/etc"),
                folders: &folders,
                data_is_named,
                database: Some(&database),
            };
            let all = Reading::of(text).effective(at, |_| None);
            move |key: &str| {
                let row = all.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("{key}: {all:?}"));
                (row.value.clone(), row.from)
            }
        };
        let of = at("", false);
        for (key, value) in [
            ("runtime", json!("auto")),
            ("server.trustedProxies", json!(["127.0.0.0/8", "::1"])),
            ("plugins.auth-policy", json!([{"path": "builtin:auth-policy"}])),
            ("auth.usersFile", json!("/data/users.yml")),
            ("fileSystem.storage", json!("/data")),
            ("fileSystem.run", json!("/data/run")),
            ("database.kind", json!("sqlite")),
            ("database.localFile", json!("/data/antimony.db")),
            ("server.cors.origins", json!([])),
        ] {
            assert_eq!(of(key), (value, Origin::Default), "{key}");
        }
        assert_eq!(of("shell.commands").0["default"], json!(["bash", "sh"]));
        assert_eq!(of("shell.commands").0["arista_ceos"], json!(["Cli", "bash", "sh"]));

        let text = "general: {provider: dummy}\nshell: {commands: {arista_ceos: [\"Cli -p 15\"]}}\n\
                    fileSystem: {storage: /srv}\nauth: {usersFile: team.yml}\n";
        let of = at(text, true);
        let file = |line, column| Origin::File(Some(Place { line, column }));
        assert_eq!(of("runtime"), (json!("embedded"), file(1, 11)));
        assert_eq!(of("auth.usersFile"), (json!("team.yml"), file(4, 8)));
        assert_eq!(of("fileSystem.storage"), (json!("/data"), Origin::Argument("--data")), "it counts more");
        let (commands, from) = of("shell.commands");
        assert_eq!((&commands["arista_ceos"], &commands["default"]), (&json!(["Cli -p 15"]), &json!(["bash", "sh"])));
        assert_eq!(from, file(2, 9));
    }
}
