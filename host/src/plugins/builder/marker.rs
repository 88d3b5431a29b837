//! What a project in JavaScript or Python says of itself: `antimony-plugin.toml`, beside its source.
//!
//! A crate needs none, since the bindings in its source name its world.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;

use super::BuildError;
use crate::plugins::config::Hook;

/// Name of the file.
pub(super) const FILE: &str = "antimony-plugin.toml";

/// The contract as this program knows it, so that building needs nothing of its repository.
const CONTRACT: [(&str, &str); 4] = [
    ("auth-policy.wit", include_str!("../../../../wit/auth-policy.wit")),
    ("command-validator.wit", include_str!("../../../../wit/command-validator.wit")),
    ("status-formatter.wit", include_str!("../../../../wit/status-formatter.wit")),
    ("types.wit", include_str!("../../../../wit/types.wit")),
];

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker {
    /// The world, as one of the hooks that there are.
    pub(super) world: Hook,
    /// Name of the project, and of the component's file: that of its folder unless it has another.
    pub(super) name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    world: String,
    name: Option<String>,
}

impl Marker {
    /// Reads the file of the project in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self, BuildError> {
        let manifest = dir.join(FILE);
        let problem = |problem: String| BuildError::Project { manifest: manifest.clone(), problem };
        let text = match std::fs::read_to_string(&manifest) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(problem(format!("is missing; it says which world the plugin is for: {}", example())));
            }
            Err(error) => return Err(BuildError::io(&manifest)(error)),
        };
        let written: Written = toml::from_str(&text).map_err(|error| problem(error.to_string()))?;
        let world = Hook::ALL
            .into_iter()
            .find(|hook| hook.name() == written.world)
            .ok_or_else(|| problem(format!("there is no world `{}`; write {}", written.world, example())))?;
        let folder = || dir.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = written.name.or_else(folder).unwrap_or_default();
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            return Err(problem(format!("`{name}` can't be the name of a file; give the plugin a `name`")));
        }
        Ok(Self { world, name })
    }
}

fn example() -> String {
    let worlds = Hook::ALL.map(|hook| format!("`world = \"{hook}\"`"));
    worlds.join(", or ")
}

/// A folder for what is made on the way, with the contract in it; gone when it is dropped.
pub(super) struct Workshop {
    dir: TempDir,
}

impl Workshop {
    pub(super) fn new() -> Result<Self, BuildError> {
        let dir = tempfile::Builder::new().prefix("antimony-build-").tempdir();
        let dir = dir.map_err(BuildError::io(&std::env::temp_dir()))?;
        let wit = dir.path().join("wit");
        std::fs::create_dir(&wit).map_err(BuildError::io(&wit))?;
        for (name, text) in CONTRACT {
            let path = wit.join(name);
            std::fs::write(&path, text).map_err(BuildError::io(&path))?;
        }
        Ok(Self { dir })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn wit(&self) -> PathBuf {
        self.dir.path().join("wit")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Marker, String> {
        let dir = tempfile::Builder::new().prefix("plugin").tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), text).unwrap();
        Marker::read(dir.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_project_is_called_like_its_folder_unless_it_says_otherwise() {
        assert!(read("name = \"mine\"\nworld = \"auth-policy\"").unwrap().name == "mine");
        let marker = read("world = \"status-formatter\"");
        // Temporary folders have letters and digits only.
        assert!(marker.as_ref().is_ok_and(|marker| marker.name.starts_with("plugin")), "{marker:?}");
        assert_eq!(marker.unwrap().world, Hook::StatusFormatter);
    }

    #[test]
    fn what_is_wrong_with_it_is_said_together_with_what_would_be_right() {
        for text in ["world = \"auth-polcy\"", "worlds = 1", "world =", "world = \"auth-policy\"\nname = \"a/b\""] {
            let error = read(text).unwrap_err();
            assert!(error.contains(FILE), "{error}");
        }
        assert!(read("world = \"auth-polcy\"").unwrap_err().contains("`world = \"auth-policy\"`"));
        let dir = tempfile::tempdir().unwrap();
        let error = Marker::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is missing") && error.contains("status-formatter"), "{error}");
    }

    #[test]
    fn the_contract_that_is_carried_along_is_all_of_wit() {
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("wit");
        let mut names: Vec<String> = wit
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".wit"))
            .collect();
        names.sort();
        assert_eq!(names, CONTRACT.map(|(name, _)| name));
    }
}
