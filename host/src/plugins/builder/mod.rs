//! Builds plugins from source: what `antimony-host plugin build` does, for plugin authors and for the bundled ones.
//!
//! A project is recognised by its files, built by its language's own tools, turned into a component, and written with
//! the digest of its source in it. Everything here blocks for as long as a compiler runs; it never loads what it built,
//! which is [`super::PluginHost`]'s part.

mod js;
mod marker;
mod python;
mod run;
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
    #[error(
        "{dir} holds no plugin: expected a Cargo.toml there (Rust), or an antimony-plugin.toml beside a package.json \
         (JavaScript) or a plugin.py (Python), or folders that each have one", dir = .0.display()
    )]
    NoProject(PathBuf),
    /// The tools that its language is built with are not installed, and nobody asked for that.
    #[error(
        "{tool} is not installed for {dir}. Run there: {command} — or have this command do so with --install",
        dir = .dir.display()
    )]
    NotInstalled {
        /// The project.
        dir: PathBuf,
        /// What is missing.
        tool: &'static str,
        /// What installs it, run in the project's folder.
        command: String,
    },
    /// A program that a language can't do without is not on this machine.
    #[error("plugins in {language} need {program}, which can't be run here: {hint}")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// The language.
        language: &'static str,
        /// What to do about it.
        hint: &'static str,
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
    JavaScript,
    Python,
}

/// Whether what a project's language is built with may be fetched from its package registry, into the project's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    /// It has to be there already.
    No,
    /// What is missing is installed. For Rust there is nothing to install here.
    Missing,
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
    build_with(dir, out, Install::No, progress)
}

/// The same as [`build`], and first installs the tools that are missing, where `install` says so.
///
/// # Errors
/// [`BuildError`], as there.
pub fn build_with(
    dir: &Path,
    out: Option<&Path>,
    install: Install,
    progress: Progress<'_>,
) -> Result<Vec<Built>, BuildError> {
    let dir = dir.canonicalize().map_err(BuildError::io(dir))?;
    let projects = projects(&dir)?;
    if let Some(out) = out
        && projects.iter().any(|(project, _)| *project != dir)
    {
        std::fs::create_dir_all(out).map_err(BuildError::io(out))?;
    }
    projects
        .into_iter()
        .map(|(project, language)| {
            let compiled = match language {
                Language::Rust => rust::compile(&project, progress),
                Language::JavaScript => js::compile(&project, install, progress),
                Language::Python => python::compile(&project, install, progress),
            }?;
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
    /// Where that contract is, when it was made for the build.
    workshop: Option<marker::Workshop>,
}

fn finish(
    project: &Path,
    mut compiled: Compiled,
    out: Option<&Path>,
    progress: Progress<'_>,
) -> Result<Built, BuildError> {
    let digest = source::digest(project, compiled.wit.as_deref()).map_err(BuildError::io(project))?;
    drop(compiled.workshop.take());
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
    let marked = dir.join(marker::FILE).is_file();
    let python = dir.join(python::MODULE).with_extension("py").is_file();
    // A package.json alone may belong to anything, such as the tests of a folder of plugins.
    if dir.join("package.json").is_file() && (marked || !python) {
        return Ok(Some(Language::JavaScript));
    }
    Ok((marked || python).then_some(Language::Python))
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
    fn a_project_without_its_tools_is_told_what_to_run() {
        let dir = tempfile::Builder::new().prefix("plugin").tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("plugin.py", "");
        assert!(fail(dir.path()).to_string().contains("antimony-plugin.toml"));
        write("antimony-plugin.toml", "world = \"auth-policy\"");
        if std::env::var_os("VIRTUAL_ENV").is_none() {
            let error = fail(dir.path()).to_string();
            assert!(error.contains("target/venv/bin/pip install -r requirements.txt"), "{error}");
            assert!(error.contains("--install"), "{error}");
        }

        write("package.json", "{}");
        assert!(fail(dir.path()).to_string().contains("plugin.js"));
        write("plugin.js", "");
        let error = fail(dir.path());
        match error {
            BuildError::NotInstalled { command, .. } => assert_eq!(command, "npm install"),
            BuildError::NoProgram { program, .. } => assert_eq!(program, "node"),
            other => panic!("{other}"),
        }
        write("package.json", "{\"main\": 7}");
        assert!(matches!(fail(dir.path()), BuildError::Project { .. }));
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
