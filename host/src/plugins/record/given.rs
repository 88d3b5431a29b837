//! How a person's short case becomes a complete input: layers over layers, record by record.
//!
//! Wherever an input holds a record of `wit/`, such as a `lab`, its fields are those that the case names, over those that
//! the file's `given:` has under the record's name, over the defaults below. Variants and lists are taken as they are
//! written, lists item by item.

use std::fmt::Display;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

/// What is wrong with an input, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct Problem {
    at: String,
    problem: String,
}

impl Problem {
    pub(super) fn new(at: &str, problem: impl Display) -> Self {
        Self { at: at.into(), problem: problem.to_string() }
    }

    pub(super) fn missing(at: &str) -> Self {
        Self::new(at, "is missing")
    }
}

/// What cases have in common: fields of records, by the name that the record has in `wit/`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given(Map<String, Value>);

/// What can be given.
const RECORDS: [&str; 11] = [
    "identity",
    "collection",
    "topology",
    "lab",
    "node",
    "shell",
    "circumstances",
    "command",
    "command-request",
    "claims",
    "event",
];

/// A member of one collection, with a lab of their own in it that is up.
static DEFAULTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let defaults = json!({
        "identity": { "id": "ada", "admin": false, "collections": ["course"] },
        "collection": {
            "id": "collection-1", "name": "course", "public-write": true, "public-deploy": true, "creator": "root",
        },
        "topology": { "id": "topology-1", "name": "topology", "creator": "ada", "nodes": [] },
        "lab": {
            "id": "lab-1", "name": "lab", "topology-id": "topology-1", "creator": "ada", "start-time": 0,
            "state": "running", "nodes": [],
        },
        "node": { "name": "n1", "kind": "linux", "state": "running", "demands": [] },
        "shell": { "id": "shell-1", "lab-id": "lab-1", "node": "n1", "owner": "ada" },
        "circumstances": { "now": 0, "open-shells": 0, "running-labs": 0 },
        "command": { "lab-id": "lab-1" },
        "event": { "at": 0 },
        "lab-event": { "by": "ada" },
        "lab-failure": { "by": "ada", "detail": "" },
        "node-event": { "by": "ada" },
        "node-failure": { "by": "ada" },
    });
    match defaults {
        Value::Object(defaults) => defaults,
        _ => Map::new(),
    }
});

impl Given {
    /// Takes what a file has under `given:`.
    ///
    /// # Errors
    /// [`Problem`] for a name that no record has.
    pub fn new(given: Map<String, Value>) -> Result<Self, Problem> {
        match given.keys().find(|name| !RECORDS.contains(&name.as_str())) {
            None => Ok(Self(given)),
            Some(name) => Err(Problem::new(&format!("given.{name}"), format!("can be {}", RECORDS.join(", ")))),
        }
    }

    /// What is given of one record.
    pub(super) fn of(&self, record: &str) -> Option<&Value> {
        self.0.get(record)
    }

    /// All layers of a record, with the fields in Rust's spelling, once they are known to be layers of it.
    pub(super) fn layers<'a>(
        &'a self,
        record: &str,
        fields: &[&str],
        layers: &[&'a Value],
        at: &str,
    ) -> Result<Vec<&'a Map<String, Value>>, Problem> {
        let ours = DEFAULTS.get(record).and_then(Value::as_object);
        let theirs = self.of(record).into_iter().chain(layers.iter().copied());
        ours.into_iter().map(Ok).chain(theirs.map(|layer| check(layer, fields, at))).collect()
    }
}

fn check<'a>(layer: &'a Value, fields: &[&str], at: &str) -> Result<&'a Map<String, Value>, Problem> {
    let fields = || fields.iter().map(|field| kebab(field));
    let Value::Object(layer) = layer else {
        return Err(Problem::new(at, format!("has to be an object with {}", list(fields()))));
    };
    match layer.keys().find(|name| !fields().any(|field| field == **name)) {
        None => Ok(layer),
        Some(name) => Err(Problem::new(at, format!("has no field `{name}`, but {}", list(fields())))),
    }
}

/// Which case of a variant is meant, and the layers of its content.
pub(super) fn case<'a>(layers: &[&'a Value], cases: &[&str], at: &str) -> Result<(String, Vec<&'a Value>), Problem> {
    let (name, content) = match layers.last() {
        None => return Err(Problem::missing(at)),
        Some(Value::String(name)) => (name, None),
        Some(Value::Object(object)) if object.len() == 1 => {
            let (name, content) = object.iter().next().ok_or_else(|| Problem::missing(at))?;
            // `view-lab:` with nothing behind it.
            (name, Some(content).filter(|content| !content.is_null()))
        }
        Some(_) => return Err(Problem::new(at, "has to be the name of a case, or an object with one")),
    };
    if !cases.iter().any(|case| kebab(case) == *name) {
        let problem = format!("`{name}` is no case of it: it has {}", list(cases.iter().map(|case| kebab(case))));
        return Err(Problem::new(at, problem));
    }
    Ok((name.clone(), content.into_iter().collect()))
}

fn list(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// A name of Rust's as WIT spells it.
pub(super) fn kebab(name: &str) -> String {
    let mut kebab = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c == '_' {
            kebab.push('-');
        } else if c.is_ascii_uppercase() {
            if !kebab.is_empty() {
                kebab.push('-');
            }
            kebab.push(c.to_ascii_lowercase());
        } else {
            kebab.push(c);
        }
    }
    kebab
}
