//! `plugin new`: writes a project that builds and passes its own tests at once.
//!
//! The contract and the templates are carried in the program, so that a plugin needs nothing from this repository.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::plugins::config::Hook;

/// The contract, as every project gets it.
const WIT: [(&str, &str); 6] = [
    ("types.wit", include_str!("../../../../wit/types.wit")),
    ("command-validator.wit", include_str!("../../../../wit/command-validator.wit")),
    ("auth-policy.wit", include_str!("../../../../wit/auth-policy.wit")),
    ("status-formatter.wit", include_str!("../../../../wit/status-formatter.wit")),
    ("README.md", include_str!("../../../../wit/README.md")),
    ("CHANGELOG.md", include_str!("../../../../wit/CHANGELOG.md")),
];

/// The longest name of a project, in bytes: what `describe` may answer.
const MAX_NAME: usize = 64;

/// A language that plugins are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Language {
    /// Rust: the smallest and fastest.
    Rust,
    /// JavaScript.
    Js,
    /// Python.
    Python,
}

/// A project that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name, which is that of its folder.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Its files, relative to that, in the order in which a newcomer would read them.
    pub files: Vec<String>,
}

/// Why no project was written.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// It can't be called that.
    #[error(
        "{0:?} can't be the name of a plugin: it has to be of lower-case letters, digits and single hyphens, begin with \
         a letter, and have {MAX_NAME} of them at most"
    )]
    Name(String),
    /// There is something already.
    #[error("{dir} is there already, and nothing in it is overwritten", dir = .0.display())]
    Exists(PathBuf),
    /// A file can't be written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// Writes a project for a plugin of `hook` into the folder `dir`, whose last part is its name.
///
/// # Errors
/// [`NewError`]. What had been written by then is left.
pub fn create(dir: &Path, hook: Hook, language: Language) -> Result<Project, NewError> {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    if !is_name(&name) {
        return Err(NewError::Name(name));
    }
    if dir.exists() {
        return Err(NewError::Exists(dir.into()));
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        |source| NewError::Io { path, source }
    };
    let mut files = Vec::new();
    for (file, template) in templates(hook, language) {
        let path = dir.join(&file);
        let folder = path.parent().unwrap_or(dir);
        fs::create_dir_all(folder).map_err(io(folder))?;
        let text = fill(template, &name, hook);
        fs::write(&path, text).map_err(io(&path))?;
        files.push(file);
    }
    let wit = dir.join("wit");
    fs::create_dir_all(&wit).map_err(io(&wit))?;
    for (file, text) in WIT {
        let path = wit.join(file);
        fs::write(&path, text).map_err(io(&path))?;
        files.push(format!("wit/{file}"));
    }
    Ok(Project { name, dir: dir.into(), files })
}

/// Whether it can be the name of a crate, of a package of npm, and of a plugin.
fn is_name(name: &str) -> bool {
    let letters = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= MAX_NAME && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.split('-').all(letters)
}

/// The text of a template for one project. Its placeholders are words in double braces.
fn fill(template: &str, name: &str, hook: Hook) -> String {
    let (summary, settings) = match hook {
        Hook::CommandValidator => ("Limits how many shells a person may have open at once", "{ max-shells: 5 }"),
        Hook::AuthPolicy => (
            "Keeps the labs of protected collections from being deployed or destroyed by others than administrators",
            "{ protected: [exam] }",
        ),
        Hook::StatusFormatter => ("Words the message about a lab that is up", "{ deployed: \"{lab} is ready\" }"),
    };
    // What the plugin leaves to others has to be decided by one: the bundled plugin of its hook.
    let bundled = format!("    - path: builtin:{hook}\n");
    let (before, after) = match hook {
        Hook::StatusFormatter => (String::new(), bundled),
        Hook::CommandValidator | Hook::AuthPolicy => (bundled, String::new()),
    };
    template
        .replace("{{name}}", name)
        .replace("{{world}}", hook.name())
        .replace("{{summary}}", summary)
        .replace("{{settings}}", settings)
        .replace("{{before}}", &before)
        .replace("{{after}}", &after)
}

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("templates/", $path))
    };
}

/// The files of a project, in the order in which one would read them.
fn templates(hook: Hook, language: Language) -> Vec<(String, &'static str)> {
    let cases = match hook {
        Hook::CommandValidator => template!("cases/command-validator.yml"),
        Hook::AuthPolicy => template!("cases/auth-policy.yml"),
        Hook::StatusFormatter => template!("cases/status-formatter.yml"),
    };
    let mut files = match language {
        Language::Rust => rust(hook),
        Language::Js => javascript(hook),
        Language::Python => python(hook),
    };
    files.push(("cases.yml", cases));
    files.push((".gitignore", template!("gitignore")));
    files.into_iter().map(|(file, text)| (file.to_owned(), text)).collect()
}

fn rust(hook: Hook) -> Vec<(&'static str, &'static str)> {
    let source = match hook {
        Hook::CommandValidator => template!("rust/command-validator.rs"),
        Hook::AuthPolicy => template!("rust/auth-policy.rs"),
        Hook::StatusFormatter => template!("rust/status-formatter.rs"),
    };
    vec![
        ("README.md", template!("rust/README.md.in")),
        ("src/lib.rs", source),
        ("Cargo.toml", template!("rust/Cargo.toml.in")),
    ]
}

fn javascript(hook: Hook) -> Vec<(&'static str, &'static str)> {
    let (plugin, rules, test) = match hook {
        Hook::CommandValidator => (
            template!("js/command-validator.js"),
            template!("js/command-validator.rules.js"),
            template!("js/command-validator.test.js"),
        ),
        Hook::AuthPolicy => {
            (template!("js/auth-policy.js"), template!("js/auth-policy.rules.js"), template!("js/auth-policy.test.js"))
        }
        Hook::StatusFormatter => (
            template!("js/status-formatter.js"),
            template!("js/status-formatter.rules.js"),
            template!("js/status-formatter.test.js"),
        ),
    };
    vec![
        ("README.md", template!("js/README.md.in")),
        ("plugin.js", plugin),
        ("rules.js", rules),
        ("test/rules.test.js", test),
        ("package.json", template!("js/package.json.in")),
        ("antimony-plugin.toml", template!("antimony-plugin.toml.in")),
    ]
}

fn python(hook: Hook) -> Vec<(&'static str, &'static str)> {
    let (plugin, rules, test) = match hook {
        Hook::CommandValidator => (
            template!("python/command-validator.py"),
            template!("python/command-validator.rules.py"),
            template!("python/command-validator.test.py"),
        ),
        Hook::AuthPolicy => (
            template!("python/auth-policy.py"),
            template!("python/auth-policy.rules.py"),
            template!("python/auth-policy.test.py"),
        ),
        Hook::StatusFormatter => (
            template!("python/status-formatter.py"),
            template!("python/status-formatter.rules.py"),
            template!("python/status-formatter.test.py"),
        ),
    };
    vec![
        ("README.md", template!("python/README.md.in")),
        ("plugin.py", plugin),
        ("rules.py", rules),
        ("test_rules.py", test),
        ("requirements.txt", template!("python/requirements.txt")),
        ("antimony-plugin.toml", template!("antimony-plugin.toml.in")),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_its_name_in_it_and_no_placeholder_is_left() {
        let dir = tempfile::tempdir().unwrap();
        for language in [Language::Rust, Language::Js, Language::Python] {
            for hook in Hook::ALL {
                let dir = dir.path().join(format!("my-{hook}-{language:?}").to_lowercase());
                let project = create(&dir, hook, language).unwrap();
                for file in &project.files {
                    let text = fs::read_to_string(dir.join(file)).unwrap();
                    let placeholder = text.contains("{{") && !file.ends_with(".rs");
                    assert!(!placeholder, "{file}: {text}");
                }
                let readme = fs::read_to_string(dir.join("README.md")).unwrap();
                assert!(readme.starts_with(&format!("# {}\n", project.name)), "{readme}");
                assert!(readme.contains(&format!("  {hook}:\n")) && readme.contains(".wasm\n"), "{readme}");
            }
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("mine");
        fs::create_dir(&there).unwrap();
        assert!(matches!(create(&there, Hook::AuthPolicy, Language::Rust), Err(NewError::Exists(_))));
    }

    #[test]
    fn names_are_those_that_all_languages_accept() {
        for (name, expected) in [
            ("a", true),
            ("quotas-2", true),
            ("", false),
            ("2a", false),
            ("A", false),
            ("a--b", false),
            ("a_b", false),
            ("a-", false),
        ] {
            assert_eq!(is_name(name), expected, "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        let error = create(&dir.path().join("My Plugin"), Hook::AuthPolicy, Language::Rust).unwrap_err();
        assert!(error.to_string().contains("My Plugin"), "{error}");
    }
}
