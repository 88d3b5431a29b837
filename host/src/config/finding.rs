//! What is to be said about a configuration: where, about which key, what is wrong, and what would be right.

use std::fmt;

use serde::Serialize;

use super::places::Place;

/// One error or warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where in the file; `None`: it isn't about a place in it.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// The full key, such as `shell.userLimit`, or the name of a variable; empty: it is about the whole.
    pub key: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl Finding {
    pub(super) fn new(place: Option<Place>, key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place, key: key.into(), problem: problem.into() }
    }

    /// The same with the name of the file: `config.yml:3:5: shell.userLimitt: …`.
    pub fn in_file(&self, file: &std::path::Path) -> String {
        match self.place {
            Some(_) => format!("{}:{self}", file.display()),
            None => format!("{}: {self}", file.display()),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "{place}: ")?;
        }
        if self.key.is_empty() { f.write_str(&self.problem) } else { write!(f, "{}: {}", self.key, self.problem) }
    }
}
