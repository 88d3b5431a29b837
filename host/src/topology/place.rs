//! Where in a definition something stands: line and column from the YAML reader, and the path of keys that leads there.
//!
//! The path is looked up only when there is an error to report, by walking over the text once more.

use std::fmt;

use serde_saphyr::granit_parser::{Event, Parser};
use serde_saphyr::{Location, Spanned};

use super::TopologyError;

/// A place in a definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Line and column, both from 1, where there is something to point at.
    pub position: Option<(u64, u64)>,
    /// Path such as `topology.links[0].endpoints[1]`, where it is known.
    pub path: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.position, &self.path) {
            (Some((line, column)), Some(path)) => write!(f, "line {line}, column {column} ({path})"),
            (Some((line, column)), None) => write!(f, "line {line}, column {column}"),
            (None, Some(path)) => f.write_str(path),
            (None, None) => f.write_str("the definition"),
        }
    }
}

/// Makes errors about one text.
pub(super) struct Places<'a> {
    text: &'a str,
}

impl<'a> Places<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text }
    }

    /// The place that `location` means.
    pub(super) fn at(&self, location: Location) -> Place {
        if location.line() == 0 {
            return Place::default();
        }
        let position = (location.line(), location.column());
        Place { position: Some(position), path: path_at(self.text, position) }
    }

    /// An error about a value or key of the text.
    pub(super) fn invalid<T>(&self, at: &Spanned<T>, problem: impl Into<String>) -> TopologyError {
        TopologyError::Invalid { place: self.at(at.referenced), problem: problem.into() }
    }

    /// An error about something that is not there.
    pub(super) fn invalid_at(&self, path: impl Into<String>, problem: impl Into<String>) -> TopologyError {
        TopologyError::Invalid { place: Place { position: None, path: Some(path.into()) }, problem: problem.into() }
    }

    /// An error about the whole of a mapping, which has no position of its own other than that of its first key.
    pub(super) fn invalid_whole<T>(
        &self,
        at: &Spanned<T>,
        path: impl Into<String>,
        problem: impl Into<String>,
    ) -> TopologyError {
        let position = (at.referenced.line(), at.referenced.column());
        TopologyError::Invalid {
            place: Place { position: Some(position), path: Some(path.into()) },
            problem: problem.into(),
        }
    }
}

/// A mapping or sequence that the walk is inside of.
enum Level {
    /// A mapping: its present key, and whether a key comes next.
    Map { key: String, key_next: bool },
    /// A sequence: the index of its present entry; `None` before the first.
    List { index: Option<usize> },
}

/// The path of the key or scalar that begins at `position`.
fn path_at(text: &str, position: (u64, u64)) -> Option<String> {
    let mut levels: Vec<Level> = Vec::new();
    // A list or mapping that begins here counts unless a key of it begins here too.
    let mut found = None;
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let opens = match &event {
            Event::MappingEnd | Event::SequenceEnd => {
                levels.pop();
                continue;
            }
            Event::MappingStart(..) => Some(Level::Map { key: String::new(), key_next: true }),
            Event::SequenceStart(..) => Some(Level::List { index: None }),
            Event::Scalar(..) | Event::Alias(..) => None,
            _ => continue,
        };
        // Whatever begins here is the next thing inside of the innermost level.
        match levels.last_mut() {
            Some(Level::Map { key, key_next }) => {
                if *key_next {
                    *key = if let Event::Scalar(text, ..) = &event { text.to_string() } else { "?".to_owned() };
                }
                *key_next = !*key_next;
            }
            Some(Level::List { index }) => *index = Some(index.map_or(0, |index| index + 1)),
            None => {}
        }
        let start = (span.start.line() as u64, span.start.col() as u64 + 1);
        if start > position {
            break;
        }
        if start == position {
            found = Some(path_of(&levels)).filter(|path| !path.is_empty());
        }
        match opens {
            Some(level) => levels.push(level),
            None if start == position => break,
            None => {}
        }
    }
    found
}

fn path_of(levels: &[Level]) -> String {
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Map { key, .. } => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&super::shown(key));
            }
            Level::List { index } => path.push_str(&format!("[{}]", index.unwrap_or(0))),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_by_the_keys_and_indexes_that_lead_to_it() {
        let text = "name: x\ntopology:\n  nodes:\n    r1: {kind: linux}\n  links:\n    - endpoints: [a:b, c:d]\n";
        assert_eq!(path_at(text, (1, 7)).as_deref(), Some("name"));
        assert_eq!(path_at(text, (4, 16)).as_deref(), Some("topology.nodes.r1.kind"));
        assert_eq!(path_at(text, (6, 19)).as_deref(), Some("topology.links[0].endpoints[0]"));
        assert_eq!(path_at(text, (6, 24)).as_deref(), Some("topology.links[0].endpoints[1]"));
        assert_eq!(path_at(text, (6, 18)).as_deref(), Some("topology.links[0].endpoints"));
        assert_eq!(path_at(text, (6, 25)), None);
    }
}
