//! Where in the text of a configuration each key and value stands, and how its plain values were written.
//!
//! What a key means is decided elsewhere; this only remembers what the YAML reader throws away.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

/// A place in a file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[derive(Debug, Clone)]
struct Entry {
    /// Where its key stands; entries of lists have none.
    key: Option<Place>,
    value: Place,
    /// The text of a value without quotes.
    plain: Option<String>,
}

/// Where each key of a text stands, by its path, such as `plugins.auth-policy[1].mode`.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(HashMap<String, Entry>);

/// A mapping or list that the walk is inside of.
enum Level {
    /// The key whose value comes next, if it isn't the key that does.
    Map {
        path: String,
        key: Option<(String, Place)>,
    },
    List {
        path: String,
        index: usize,
    },
}

impl Places {
    /// Walks over the text, up to its end or to its first mistake.
    pub(super) fn of(text: &str) -> Self {
        let mut places = Self::default();
        let mut levels: Vec<Level> = Vec::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            let (is_map, is_list) =
                (matches!(event, Event::MappingStart(..)), matches!(event, Event::SequenceStart(..)));
            match &event {
                Event::MappingEnd | Event::SequenceEnd => {
                    levels.pop();
                    continue;
                }
                Event::Scalar(..) | Event::Alias(..) => {}
                _ if is_map || is_list => {}
                _ => continue,
            }
            let at = Place { line: span.start.line() as u64, column: span.start.col() as u64 + 1 };
            let plain = match &event {
                Event::Scalar(text, ScalarStyle::Plain, ..) => Some(text.to_string()),
                _ => None,
            };
            let path = match levels.last_mut() {
                None => String::new(),
                Some(Level::Map { path, key }) => match key.take() {
                    Some((key, key_at)) => {
                        let path = child(path, &key);
                        places.0.insert(path.clone(), Entry { key: Some(key_at), value: at, plain });
                        path
                    }
                    None => {
                        let text = if let Event::Scalar(text, ..) = &event { text.to_string() } else { "?".to_owned() };
                        *key = Some((text, at));
                        String::new()
                    }
                },
                Some(Level::List { path, index }) => {
                    let path = format!("{path}[{index}]");
                    *index += 1;
                    places.0.insert(path.clone(), Entry { key: None, value: at, plain });
                    path
                }
            };
            if is_map {
                levels.push(Level::Map { path, key: None });
            } else if is_list {
                levels.push(Level::List { path, index: 0 });
            }
        }
        places
    }

    /// Where the key stands, or the entry of a list; else what contains it.
    pub(super) fn key(&self, path: &str) -> Option<Place> {
        self.entry(path).map(|entry| entry.key.unwrap_or(entry.value))
    }

    /// Where the value stands; else what contains it.
    pub(super) fn value(&self, path: &str) -> Option<Place> {
        self.entry(path).map(|entry| entry.value)
    }

    /// How a value was written, if it was without quotes.
    pub(super) fn plain(&self, path: &str) -> Option<&str> {
        self.0.get(path)?.plain.as_deref()
    }

    /// What is said of the path, or of the nearest that contains it: below an alias nothing has a place of its own.
    fn entry(&self, mut path: &str) -> Option<&Entry> {
        loop {
            if let Some(entry) = self.0.get(path) {
                return Some(entry);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// The path of a key within what has the path `parent`.
pub(super) fn child(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_values_and_entries_have_places() {
        let text = "server:\n  port: 0123\nplugins:\n  auth-policy:\n    - path: a\n    - {path: 'b', mode: x}\n";
        let places = Places::of(text);
        let place = |line, column| Some(Place { line, column });
        assert_eq!((places.key("server"), places.key("server.port")), (place(1, 1), place(2, 3)));
        assert_eq!((places.value("server.port"), places.plain("server.port")), (place(2, 9), Some("0123")));
        assert_eq!(places.key("plugins.auth-policy[1].mode"), place(6, 19));
        assert_eq!(places.plain("plugins.auth-policy[1].path"), None, "it is quoted");
        assert_eq!(places.key("plugins.auth-policy[0].path.of.nothing"), place(5, 7));
        assert_eq!(Places::of("a: [\n").key("b"), None);
    }
}
