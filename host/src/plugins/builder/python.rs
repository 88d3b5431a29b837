//! Plugins in Python: `componentize-py`, from PyPI, puts an interpreter and the source into one component.
//!
//! The tool comes from the project's own environment, in the version that its `requirements.txt` names. What the
//! interpreter imports of WASI is replaced by traps, so that the component imports none.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::marker::{Marker, Workshop};
use super::run::{run, version};
use super::{BuildError, Compiled, Install, Progress};

/// The program that makes components.
const TOOL: &str = "componentize-py";
/// Where the environment is made. Others that are found: `.venv`, and the active one.
const ENVIRONMENT: &str = "target/venv";
/// The module that exports the world.
pub(super) const MODULE: &str = "plugin";

/// Makes a component of the project in `project`.
pub(super) fn compile(project: &Path, install: Install, progress: Progress<'_>) -> Result<Compiled, BuildError> {
    let marker = Marker::read(project)?;
    let environment = match installed(project) {
        Some(environment) => environment,
        None => {
            if install == Install::No {
                let pip = format!("{ENVIRONMENT}/bin/pip install {}", arguments(project).join(" "));
                let command = format!("python3 -m venv {ENVIRONMENT} && {pip}");
                return Err(BuildError::NotInstalled { dir: project.into(), tool: TOOL, command });
            }
            make(project, progress)?
        }
    };
    let tool = program(&environment, TOOL);
    let toolchain = version(&tool).unwrap_or_else(|| TOOL.into());
    progress(&format!("building {} with {toolchain}", marker.name));

    let workshop = Workshop::new()?;
    let out = workshop.path().join("component.wasm");
    let mut command = Command::new(&tool);
    // In a folder without Python in it, so that none but the project's modules are found.
    command.current_dir(workshop.path()).arg("--quiet").arg("-d").arg(workshop.wit());
    command.args(["-w", marker.world.name(), "componentize", "--stub-wasi", MODULE, "-p"]).arg(project);
    command.arg("-o").arg(&out);
    // Its packages are found through the environment, and nothing is left in the project.
    command.env("VIRTUAL_ENV", &environment).env("PYTHONDONTWRITEBYTECODE", "1").env("TMPDIR", workshop.path());
    command.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    // A mistake in the source is to be shown without the tool's own stack.
    command.env_remove("RUST_BACKTRACE");
    run(command, TOOL, project, progress)?;
    let component = std::fs::read(&out).map_err(BuildError::io(&out))?;
    Ok(Compiled { name: marker.name, component, toolchain, wit: Some(workshop.wit()), workshop: Some(workshop) })
}

/// Makes the environment, and installs what the project asks for.
fn make(project: &Path, progress: Progress<'_>) -> Result<PathBuf, BuildError> {
    let manifest = project.join("requirements.txt");
    if !manifest.is_file() {
        let problem = "is missing; it names the version of componentize-py to build with".into();
        return Err(BuildError::Project { manifest, problem });
    }
    let python = Path::new("python3");
    version(python).ok_or(BuildError::NoProgram {
        program: "python3",
        language: "Python",
        hint: "install Python 3, version 3.10 or later, with venv and pip",
    })?;
    let environment = project.join(ENVIRONMENT);
    progress(&format!("installing {TOOL} in {}", environment.display()));
    let mut venv = Command::new(python);
    venv.current_dir(project).args(["-m", "venv"]).arg(&environment);
    run(venv, "python3 -m venv", project, progress)?;
    let mut pip = Command::new(program(&environment, "pip"));
    pip.current_dir(project).arg("install").args(arguments(project));
    run(pip, "pip", project, progress)?;
    installed(project).ok_or_else(|| BuildError::Project {
        manifest: project.join("requirements.txt"),
        problem: format!("has to name {TOOL}, which makes the component"),
    })
}

/// What pip is told to install: with hashes where the project wrote some down.
fn arguments(project: &Path) -> Vec<&'static str> {
    let text = std::fs::read_to_string(project.join("requirements.txt")).unwrap_or_default();
    let hashes = text.contains("--hash=").then_some("--require-hashes");
    hashes.into_iter().chain(["-r", "requirements.txt"]).collect()
}

/// The environment that has the tool.
fn installed(project: &Path) -> Option<PathBuf> {
    let own = [ENVIRONMENT, ".venv"].map(|dir| project.join(dir));
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    own.into_iter().chain(active).find(|environment| program(environment, TOOL).is_file())
}

fn program(environment: &Path, name: &str) -> PathBuf {
    environment.join(if cfg!(windows) { "Scripts" } else { "bin" }).join(name)
}
