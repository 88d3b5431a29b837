//! Makes a configuration of a text: holds every key against the schema, takes out what doesn't count, and says of each
//! mistake where it is.

use std::path::Path;

use serde_json::{Map, Value};

use super::elsewhere::{ALIASES, NOT_TO_BE_MISSED, SHARED_SECTIONS};
use super::keys::{self, Key, Node};
use super::places::{Place, Places, child};
use super::{Config, ConfigError, Finding, Provider};
use crate::runtime::choose::RuntimeChoice;

/// The section whose absence has the server do without encryption, which is not to happen by oversight.
const TLS: &str = "server.tls";

/// What came of reading a configuration.
#[derive(Debug)]
pub struct Reading {
    /// The configuration, which is worth something where there are no errors.
    pub config: Config,
    /// Why it can't be used.
    pub errors: Vec<Finding>,
    /// What is to be said about it although it can be used.
    pub warnings: Vec<Finding>,
    /// All that counts of the text, with the keys as they are spelled here.
    pub(super) said: Value,
    /// The key of other servers that says what runs labs, where one does.
    pub(super) runtime_said_by: Option<&'static str>,
    places: Places,
}

impl Reading {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`]; whatever else is wrong is in [`Reading::errors`].
    pub fn of_file(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        Ok(Self::of(&text))
    }

    /// Reads a text.
    pub fn of(text: &str) -> Self {
        let mut reading = Self {
            config: Config::default(),
            errors: Vec::new(),
            warnings: Vec::new(),
            said: Value::Object(Map::new()),
            runtime_said_by: None,
            places: Places::of(text),
        };
        match serde_saphyr::from_str::<Option<Value>>(text) {
            // A file that holds comments only says nothing, which is fine.
            Ok(None | Some(Value::Null)) => {}
            Ok(Some(Value::Object(keys))) => reading.take(keys),
            Ok(Some(_)) => {
                let place = Some(Place { line: 1, column: 1 });
                reading.errors.push(Finding::new(place, "", "a configuration is a mapping of keys to values"));
            }
            Err(error) => {
                let at = error.location().filter(|at| at.line() > 0);
                let place = at.map(|at| Place { line: at.line(), column: at.column() });
                reading.errors.push(Finding::new(place, "", error.without_snippet().to_string()));
            }
        }
        reading
    }

    /// Where a key stands.
    pub(super) fn place(&self, key: &str) -> Option<Place> {
        // Places are those of the spelling in the file.
        let section = key.split('.').next().unwrap_or(key);
        let spelled =
            ALIASES.iter().find(|(_, real)| *real == section).map(|(alias, real)| key.replacen(real, alias, 1));
        let found = spelled.and_then(|spelled| self.places.key(&spelled));
        found.or_else(|| self.places.key(key))
    }

    fn take(&mut self, mut keys: Map<String, Value>) {
        self.check(&mut keys, Node::root(), "", true);
        for (alias, key) in ALIASES {
            let Some(section) = keys.remove(*alias) else { continue };
            if keys.contains_key(*key) {
                let problem =
                    format!("it is another spelling of `{key}`, which is there as well and is the one that counts");
                self.warnings.push(Finding::new(self.places.key(alias), *alias, problem));
            } else {
                keys.insert((*key).to_owned(), section);
            }
        }
        let errors_before = self.errors.len();
        // Each section by itself, so that all that is wrong is said at once.
        for (key, value) in &keys {
            let section = Map::from_iter([(key.clone(), value.clone())]);
            if let Err(finding) = self.parse(section) {
                self.errors.push(finding);
            }
        }
        if self.errors.len() == errors_before
            && let Ok(config) = self.parse(keys.clone())
        {
            self.config = config;
            self.settle_runtime(&keys);
        }
        self.said = Value::Object(keys);
    }

    fn parse(&self, keys: Map<String, Value>) -> Result<Config, Finding> {
        serde_path_to_error::deserialize(Value::Object(keys)).map_err(|error| {
            let key = error.path().to_string();
            let problem = error.into_inner().to_string();
            let problem = problem.strip_prefix(&format!("{key}: ")).map(str::to_owned).unwrap_or(problem);
            let place = self.places.value(&key);
            let place = place.or_else(|| self.place(&key));
            Finding::new(place, key, problem)
        })
    }

    /// Holds the keys of a mapping against what there can be; takes those out that don't count. In a mapping that is
    /// `shared` with other servers, an unknown key is a warning, and a key with nothing behind it is as if it weren't there, which is a warning too.
    fn check(&mut self, keys: &mut Map<String, Value>, node: Node, path: &str, shared: bool) {
        let mut left_out = Vec::new();
        for (name, value) in keys.iter_mut() {
            let full = child(path, name);
            let Some(key) = node.key(name) else { return };
            let place = self.places.key(&full);
            match key {
                Key::Known(_) if shared && value.is_null() => {
                    left_out.push(name.clone());
                    if full == TLS {
                        let problem = "it is empty, and without it nothing would be encrypted: write `certificate` and `key` \
                                       below it, or take it out to do without TLS";
                        self.errors.push(Finding::new(place, full, problem));
                    } else {
                        self.warnings.push(Finding::new(place, full, "it is empty, so it counts as left out"));
                    }
                }
                Key::Known(node) => {
                    let name = ALIASES.iter().find(|(alias, _)| alias == name).map_or(name.as_str(), |(_, key)| key);
                    let shared = if path.is_empty() { SHARED_SECTIONS.contains(&name) } else { shared };
                    self.check_value(value, node, &full, shared);
                }
                Key::MeansNothing(instead) => {
                    left_out.push(name.clone());
                    self.warnings.push(Finding::new(place, full, format!("it means nothing here: {instead}")));
                }
                Key::Unknown => {
                    left_out.push(name.clone());
                    self.unknown(place, path, node, name, shared);
                }
            }
        }
        for name in left_out {
            keys.remove(&name);
        }
    }

    fn check_value(&mut self, value: &mut Value, node: Node, path: &str, shared: bool) {
        match value {
            Value::Object(keys) if node.is_section() => self.check(keys, node, path, shared),
            Value::Object(keys) => {
                let Some(node) = node.values() else { return };
                for (name, value) in keys.iter_mut() {
                    self.check_value(value, node, &child(path, name), shared);
                }
            }
            Value::Array(entries) => {
                let Some(node) = node.items() else { return };
                for (index, entry) in entries.iter_mut().enumerate() {
                    self.check_value(entry, node, &format!("{path}[{index}]"), shared);
                }
            }
            // A name that looks like a number, such as a client id, is meant as it was written.
            other => {
                if node.is_text_rather_than(other)
                    && let Some(text) = self.places.plain(path)
                {
                    *other = Value::String(text.to_owned());
                }
            }
        }
    }

    fn unknown(&mut self, place: Option<Place>, parent: &str, node: Node, name: &str, shared: bool) {
        let meant = keys::own_section_meant_by(name);
        let nearest = meant.map(str::to_owned).or_else(|| keys::nearest(parent, node, name));
        let is_missed = nearest.as_deref().is_some_and(|nearest| NOT_TO_BE_MISSED.contains(&nearest));
        let known = || node.keys().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        let remedy = match nearest {
            Some(nearest) => format!("is `{nearest}` meant?"),
            None => format!("known here are {}", known()),
        };
        let full = child(parent, name);
        if is_missed {
            let problem = format!("nobody knows this key; {remedy} Without that one, more is open than with it");
            self.errors.push(Finding::new(place, full, problem));
        } else if shared && meant.is_none() {
            self.warnings.push(Finding::new(
                place,
                full,
                format!("nobody knows this key, so it has no effect; {remedy}"),
            ));
        } else {
            self.errors.push(Finding::new(place, full, format!("nobody knows this key; {remedy}")));
        }
    }

    /// Makes the runtime the one that the words of other servers mean, unless `runtime` says which it is.
    fn settle_runtime(&mut self, said: &Map<String, Value>) {
        let providers = [
            ("general.provider", self.config.general.provider),
            ("deployment.provider", self.config.deployment.provider),
        ];
        // The later word counts more.
        let Some((key, provider)) = providers.into_iter().rev().find_map(|(key, provider)| Some((key, provider?)))
        else {
            return;
        };
        let place = self.place(key);
        let wanted = provider.runtime();
        if said.contains_key("runtime") {
            let same = wanted == Ok(self.config.runtime);
            if !same && self.config.runtime != RuntimeChoice::Auto {
                self.warnings.push(Finding::new(place, key, "`runtime` says something else, and counts more"));
            }
            return;
        }
        match wanted {
            Ok(runtime) => {
                self.config.runtime = runtime;
                self.runtime_said_by = Some(key);
                if provider == Provider::Dummy {
                    let problem = "nothing is pretended here: labs run on the embedded runtime, which needs nothing to be \
                                   installed and has nodes of kind linux";
                    self.warnings.push(Finding::new(place, key, problem));
                }
            }
            Err(problem) => self.errors.push(Finding::new(place, key, problem)),
        }
    }
}

#[cfg(test)]
mod tests;
