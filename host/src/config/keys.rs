//! Which keys there are, asked of the JSON schema of the configuration's types: whether a key is known, what is meant by one
//! that isn't, and what kinds of value one takes.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::Config;
use super::elsewhere::{ALIASES, MEAN_NOTHING, SHARED_SECTIONS};
use super::places::child;

/// Marks keys that mean nothing here, and holds what there is instead.
const INSTEAD: &str = "x-instead";
/// Marks other spellings of a section, and holds the one that counts.
const ALIAS_OF: &str = "x-alias-of";
/// How much a key has to resemble another to be suggested for it; 1 is the same.
const RESEMBLANCE: f64 = 0.6;
/// How much it has to resemble a section of this server's own to be taken for that, misspelt.
const SAME: f64 = 0.8;

/// The schema, as a file is held against it.
pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(Config::schema);

/// Adds to the schema of the types what they don't say: other spellings, and keys that mean nothing here.
pub(super) fn schema(types: &Value) -> Value {
    let mut schema = types.clone();
    for (key, instead) in MEAN_NOTHING {
        let note =
            json!({"description": format!("Means nothing here: {instead}."), "deprecated": true, INSTEAD: instead});
        let place = match key.split_once('.') {
            None => properties_mut(&mut schema).map(|keys| (keys, *key)),
            Some((section, key)) => section_mut(&mut schema, section).map(|keys| (keys, key)),
        };
        let (keys, key) = place.expect("the section is one of ours");
        keys.insert(key.to_owned(), note);
    }
    let keys = properties_mut(&mut schema).expect("the configuration has keys");
    for (alias, key) in ALIASES {
        let mut section = keys.get(*key).cloned().expect("it is a section");
        section[ALIAS_OF] = json!(key);
        keys.insert((*alias).to_owned(), section);
    }
    schema
}

fn properties_mut(schema: &mut Value) -> Option<&mut Map<String, Value>> {
    schema.get_mut("properties").and_then(Value::as_object_mut)
}

/// The keys of a section, which is a type of its own.
fn section_mut<'s>(schema: &'s mut Value, section: &str) -> Option<&'s mut Map<String, Value>> {
    let pointer = schema["properties"][section]["$ref"].as_str()?.strip_prefix('#')?.to_owned();
    properties_mut(schema.pointer_mut(&pointer)?)
}

/// What a part of the file can be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node(&'static Value);

/// What the schema says of a key within a mapping.
#[derive(Debug)]
pub(super) enum Key {
    /// It is one of ours.
    Known(Node),
    /// It means nothing here; there is this instead.
    MeansNothing(&'static str),
    /// Nobody knows it.
    Unknown,
}

impl Node {
    pub(super) fn root() -> Self {
        Self(&SCHEMA)
    }

    /// The shapes that it can have: itself, what it refers to, its alternatives.
    fn shapes(self) -> Vec<&'static Value> {
        let mut shapes = vec![];
        let mut open = vec![self.0];
        while let Some(schema) = open.pop() {
            if let Some(pointer) = schema["$ref"].as_str().and_then(|name| name.strip_prefix('#')) {
                open.extend(SCHEMA.pointer(pointer));
            }
            for alternatives in ["anyOf", "oneOf", "allOf"] {
                open.extend(schema[alternatives].as_array().into_iter().flatten());
            }
            shapes.push(schema);
        }
        shapes
    }

    /// The keys that a mapping here has, if it is one whose keys are known.
    fn properties(self) -> Option<&'static Map<String, Value>> {
        self.shapes().into_iter().find_map(|shape| shape["properties"].as_object())
    }

    /// Whether it is a mapping whose keys are known, rather than one of any keys or a value.
    pub(super) fn is_section(self) -> bool {
        self.properties().is_some()
    }

    /// What a key within this mapping is. `None`: a mapping here may have any keys.
    pub(super) fn key(self, name: &str) -> Option<Key> {
        let properties = self.properties()?;
        Some(match properties.get(name) {
            None => Key::Unknown,
            Some(property) => match property[INSTEAD].as_str() {
                Some(instead) => Key::MeansNothing(instead),
                None => Key::Known(Self(property)),
            },
        })
    }

    /// Each key of this mapping that counts, by its name.
    pub(super) fn keys(self) -> impl Iterator<Item = (&'static str, Self)> {
        let known = |(name, property): (&'static String, &'static Value)| {
            let counts = property.get(INSTEAD).is_none() && property.get(ALIAS_OF).is_none();
            counts.then_some((name.as_str(), Self(property)))
        };
        self.properties().into_iter().flatten().filter_map(known)
    }

    /// What the entries of a list here are.
    pub(super) fn items(self) -> Option<Self> {
        self.shapes().into_iter().find_map(|shape| shape.get("items")).map(Self)
    }

    /// What the values of a mapping with any keys are.
    pub(super) fn values(self) -> Option<Self> {
        self.shapes().into_iter().find_map(|shape| shape.get("additionalProperties")).map(Self)
    }

    /// Whether a text can stand here, and no `other` sort of value.
    pub(super) fn is_text_rather_than(self, other: &Value) -> bool {
        let sorts: &[&str] = match other {
            Value::Bool(_) => &["boolean"],
            Value::Number(_) => &["number", "integer"],
            Value::Null => &["null"],
            _ => return false,
        };
        let shapes = self.shapes();
        let takes = |sort: &str| {
            shapes.iter().any(|shape| match &shape["type"] {
                Value::String(name) => name == sort,
                Value::Array(names) => names.iter().any(|name| name == sort),
                _ => false,
            })
        };
        takes("string") && !sorts.iter().any(|sort| takes(sort))
    }

    /// What it is when nothing is said, where that is known.
    pub(super) fn default(self) -> Option<&'static Value> {
        self.shapes().into_iter().find_map(|shape| shape.get("default"))
    }

    /// Whether its values are not for everybody's eyes, as its type says.
    pub(super) fn is_secret(self) -> bool {
        self.shapes().into_iter().any(|shape| shape["writeOnly"] == true)
    }
}

/// A section that only this server has and that is probably meant by a key that nobody knows.
pub(super) fn own_section_meant_by(name: &str) -> Option<&'static str> {
    let own = Node::root().keys().filter(|(name, node)| node.is_section() && !SHARED_SECTIONS.contains(name));
    own.map(|(section, _)| section).find(|section| {
        let slip = section.len() > 2 && strsim::damerau_levenshtein(section, name) == 1;
        slip || resemblance(section, name) >= SAME
    })
}

/// The full key that is probably meant by `name`, which nobody knows, in the mapping `parent` with the keys of `node`.
pub(super) fn nearest(parent: &str, node: Node, name: &str) -> Option<String> {
    let siblings = node.keys().map(|(sibling, _)| (resemblance(sibling, name), sibling));
    let best = siblings.filter(|(resemblance, _)| *resemblance >= RESEMBLANCE).max_by(|a, b| a.0.total_cmp(&b.0));
    let beside = best.map(|(_, sibling)| child(parent, sibling));
    // Or it is right, but for the section that it stands in.
    beside.or_else(|| elsewhere("", Node::root(), name))
}

/// The full key of that name in whatever section.
fn elsewhere(path: &str, node: Node, wanted: &str) -> Option<String> {
    node.keys().find_map(|(name, node)| {
        let path = child(path, name);
        if name.eq_ignore_ascii_case(wanted) { Some(path) } else { elsewhere(&path, node, wanted) }
    })
}

/// How much two keys look the same: 0 to 1, whatever way their words are put together.
fn resemblance(one: &str, other: &str) -> f64 {
    let plain = |key: &str| key.replace(['-', '_'], "").to_ascii_lowercase();
    strsim::normalized_damerau_levenshtein(&plain(one), &plain(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_beside_it_or_of_the_same_name_elsewhere() {
        let Some(Key::Known(shell)) = Node::root().key("shell") else { panic!("it is a section") };
        assert_eq!(nearest("shell", shell, "userLimitt").as_deref(), Some("shell.userLimit"));
        assert_eq!(nearest("shell", shell, "user_limit").as_deref(), Some("shell.userLimit"));
        assert_eq!(nearest("shell", shell, "latestBytes").as_deref(), Some("logs.latestBytes"));
        assert_eq!(nearest("shell", shell, "colour"), None);
        assert_eq!(nearest("", Node::root(), "sevrer").as_deref(), Some("server"));
    }

    #[test]
    fn a_section_of_this_server_is_recognised_however_it_is_misspelt() {
        for (name, section) in [
            ("plugin", Some("plugins")),
            ("Plugins", Some("plugins")),
            ("plugnis", Some("plugins")),
            ("decision_log", Some("decision-log")),
            ("decisonlog", Some("decision-log")),
            ("lgos", Some("logs")),
            ("database", None),
            ("telemetry", None),
        ] {
            assert_eq!(own_section_meant_by(name), section, "{name}");
        }
    }

    #[test]
    fn the_sections_that_are_shared_are_sections() {
        for section in SHARED_SECTIONS {
            assert!(matches!(Node::root().key(section), Some(Key::Known(node)) if node.is_section()), "{section}");
        }
        for (alias, _) in ALIASES {
            assert!(matches!(Node::root().key(alias), Some(Key::Known(_))), "{alias}");
        }
    }
}
