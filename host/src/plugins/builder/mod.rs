//! Builds plugins from source: what `antimony-host plugin build` does, for plugin authors and for the bundled ones.
//!
//! A project is recognised by its files, built by its language's own tools, turned into a component, and written with
//! the digest of its source in it. Everything here blocks for as long as a compiler runs; it never loads what it built,
//! which is [`super::PluginHost`]'s part.

mod rust;

use std::path::{Path, PathBuf};

use super::source;

/// A component that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// Where it was written.
    pub path: PathBuf,
    /// Name of the project.
    pub name: String,
    /// Its size in bytes.
    pub size: usize,
    /// Digest of the source that it was built from.
    pub source: String,
    /// What compiled it, for people.
    pub toolchain: String,
}

/// Why a plugin wasn't built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is nothing in the folder that could be built.
    #[error("{dir} holds no plugin: expected a Cargo.toml there, or folders that each have one", dir = .0.display())]
    NoProject(PathBuf),
    /// It is written in a language that can't be built from here.
    #[error(
        "{dir} looks like a plugin in {language}, which this command does not build yet: build it with {tool} and name \
         the resulting component in the configuration", dir = .dir.display()
    )]
    Language {
        /// The project.
        dir: PathBuf,
        /// Its language.
        language: &'static str,
        /// What builds it.
        tool: &'static str,
    },
    /// The project can't become a component as it is; says what to change.
    #[error("{manifest}: {problem}", manifest = .manifest.display())]
    Project {
        /// Its manifest.
        manifest: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// No compiler on this machine makes WebAssembly.
    #[error(
        "no Rust compiler here can make WebAssembly. Install the target with `rustup target add wasm32-unknown-unknown`, \
         or on Debian the packages of a compiler that brings the library's source: `apt-get install \
         --no-install-recommends rustc-web rust-web-src`{}", .0.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    NoToolchain(Option<String>),
    /// The compiler failed.
    #[error("{tool} failed for {dir}:\n{output}", dir = .dir.display())]
    Compile {
        /// The project.
        dir: PathBuf,
        /// What was run.
        tool: String,
        /// The end of what it said.
        output: String,
    },
    /// What was compiled is not a plugin.
    #[error("{module} does not make a component: {reason}", module = .module.display())]
    Componentize {
        /// The compiled module.
        module: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file couldn't be read or written, or a program not be run.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or program.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}

impl BuildError {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Io { path: path.into(), source }
    }
}

/// Takes a line of what goes on, for the terminal.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

/// A language that plugins can be built from. One case for each that [`build`] knows how to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
}

/// Builds the plugin in `dir`, or, where `dir` itself is none, every plugin in the folders right below it.
///
/// The component is written to `out`, or into it where that is a folder, or else beside the project's manifest; its name
/// is that of the project. Where `dir` is a folder of projects, `out` is a folder in any case, and made where there is none. A component that was there before is replaced in one step, and only after everything went
/// well. Blocks until the compiler is done.
///
/// # Errors
/// [`BuildError`]; nothing has been written for the project that failed.
pub fn build(dir: &Path, out: Option<&Path>, progress: Progress<'_>) -> Result<Vec<Built>, BuildError> {
    let dir = dir.canonicalize().map_err(BuildError::io(dir))?;
    let projects = projects(&dir)?;
    if let Some(out) = out
        && projects.iter().any(|(project, _)| *project != dir)
    {
        std::fs::create_dir_all(out).map_err(BuildError::io(out))?;
    }
    projects
        .into_iter()
        .map(|(project, Language::Rust)| {
            let compiled = rust::compile(&project, progress)?;
            finish(&project, compiled, out, progress)
        })
        .collect()
}

/// Whether plugins in Rust can be built on this machine, for a project in `dir`; if not, the error says what to install.
///
/// # Errors
/// [`BuildError::NoToolchain`].
pub fn can_build(dir: &Path) -> Result<(), BuildError> {
    rust::available(dir)
}

/// What a language's own tools made of a project.
struct Compiled {
    name: String,
    component: Vec<u8>,
    toolchain: String,
    /// The contract that it was built against, as far as that lies outside the project.
    wit: Option<PathBuf>,
}

fn finish(
    project: &Path,
    mut compiled: Compiled,
    out: Option<&Path>,
    progress: Progress<'_>,
) -> Result<Built, BuildError> {
    let digest = source::digest(project, compiled.wit.as_deref()).map_err(BuildError::io(project))?;
    source::record(&mut compiled.component, &digest);
    let file = format!("{}.wasm", compiled.name);
    let path = match out {
        Some(out) if out.is_dir() => out.join(file),
        Some(out) => out.to_path_buf(),
        None => project.join(file),
    };
    super::files::write_atomically(&path, &compiled.component).map_err(BuildError::io(&path))?;
    let size = compiled.component.len();
    progress(&format!("{}: {size} bytes, {digest}", path.display()));
    Ok(Built { path, name: compiled.name, size, source: digest, toolchain: compiled.toolchain })
}

/// The projects in `dir`: itself, or those right below it, by name.
fn projects(dir: &Path) -> Result<Vec<(PathBuf, Language)>, BuildError> {
    if let Some(language) = detect(dir)? {
        return Ok(vec![(dir.to_path_buf(), language)]);
    }
    let mut found = Vec::new();
    for entry in dir.read_dir().map_err(BuildError::io(dir))? {
        let path = entry.map_err(BuildError::io(dir))?.path();
        if path.is_dir()
            && let Some(language) = detect(&path)?
        {
            found.push((path, language));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    if found.is_empty() { Err(BuildError::NoProject(dir.into())) } else { Ok(found) }
}

fn detect(dir: &Path) -> Result<Option<Language>, BuildError> {
    let manifest = dir.join("Cargo.toml");
    if manifest.is_file() {
        // A manifest without a package is that of a workspace: the plugins are its members.
        let text = std::fs::read_to_string(&manifest).map_err(BuildError::io(&manifest))?;
        let workspace = text.lines().any(|line| line.trim() == "[workspace]");
        let package = text.lines().any(|line| line.trim() == "[package]");
        return Ok((package || !workspace).then_some(Language::Rust));
    }
    let other = |language, tool| Err(BuildError::Language { dir: dir.into(), language, tool });
    if dir.join("package.json").is_file() {
        return other("JavaScript", "componentize-js");
    }
    if dir.join("pyproject.toml").is_file() {
        return other("Python", "componentize-py");
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn fail(dir: &Path) -> BuildError {
        build(dir, None, &mut |_| {}).unwrap_err()
    }

    #[test]
    fn a_folder_without_a_project_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = fail(dir.path());
        assert!(matches!(error, BuildError::NoProject(_)), "{error}");
        assert!(error.to_string().contains("Cargo.toml"), "{error}");
    }

    #[test]
    fn a_language_that_is_not_built_here_is_named_with_its_tool() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("package.json"), "{}").unwrap();
        assert!(fail(dir.path()).to_string().contains("componentize-js"));
    }

    #[test]
    fn a_crate_that_is_no_cdylib_is_told_what_to_add() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        std::fs::write(dir.path().join("src/lib.rs"), "").unwrap();
        let manifest = "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
        std::fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
        let error = fail(dir.path());
        assert!(error.to_string().contains("crate-type = [\"cdylib\"]"), "{error}");
    }

    #[test]
    fn a_broken_manifest_is_shown_as_cargo_tells_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Cargo.toml"), "[package\n").unwrap();
        let error = fail(dir.path());
        assert!(matches!(error, BuildError::Compile { .. }), "{error}");
        assert!(error.to_string().contains("TOML") || error.to_string().contains("Cargo.toml:1"), "{error}");
    }
}
