//! Plugins in JavaScript: `componentize-js`, from npm, puts an engine and the source into one component.
//!
//! The project's own copy of the tool is used, in the version that its lock file names, with the project's own node. The
//! component imports no WASI: everything that could is left out of the engine.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::marker::{Marker, Workshop};
use super::run::{run, version};
use super::{BuildError, Compiled, Install, Progress};

/// The tool's place below a folder `node_modules`.
const TOOL: &str = "@bytecodealliance/componentize-js";

/// Calls the tool. It has a program of its own, but that one takes no path that a project may have.
const SCRIPT: &str = r#"
import { writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";
const [sourcePath, witPath, worldName, out] = process.argv.slice(1);
try {
    const { component } = await componentize({
        sourcePath, witPath, worldName, disableFeatures: ["random", "stdio", "clocks", "http", "fetch-event"],
    });
    await writeFile(out, component);
} catch (error) {
    console.error(error?.message ?? error);
    process.exit(1);
}
"#;

/// What matters here of a package.json.
#[derive(Deserialize)]
struct Package {
    main: Option<String>,
    version: Option<String>,
}

/// Makes a component of the project in `project`.
pub(super) fn compile(project: &Path, install: Install, progress: Progress<'_>) -> Result<Compiled, BuildError> {
    let marker = Marker::read(project)?;
    let manifest = project.join("package.json");
    let problem = |problem: &str| BuildError::Project { manifest: manifest.clone(), problem: problem.into() };
    if project.to_string_lossy().contains(char::is_whitespace) {
        return Err(problem("its path has a space in it, which componentize-js can't cope with"));
    }
    let main = package(&manifest)?.main.unwrap_or_else(|| "plugin.js".into());
    let source = project.join(&main);
    if !source.is_file() {
        return Err(problem(&format!("`main` is {main}, and there is no such file")));
    }
    let node = version(Path::new("node")).ok_or(BuildError::NoProgram {
        program: "node",
        language: "JavaScript",
        hint: "install Node.js, version 20 or later, with npm",
    })?;
    let tool = match installed(project) {
        Some(tool) => tool,
        None => {
            let locked = project.join("package-lock.json").is_file();
            // What is locked is kept to, as by `npm ci`; but that refuses a lock which leaves out what other platforms need.
            let arguments: &[&str] = if locked { &["install", "--no-save"] } else { &["install"] };
            if install == Install::No {
                let command = format!("npm {}", arguments.join(" "));
                return Err(BuildError::NotInstalled { dir: project.into(), tool: TOOL, command });
            }
            progress(&format!("installing {TOOL} in {}", project.display()));
            let mut npm = Command::new("npm");
            npm.args(arguments).args(["--no-audit", "--no-fund"]).current_dir(project);
            run(npm, "npm", project, progress)?;
            installed(project).ok_or_else(|| problem(&format!("{TOOL} has to be among its `devDependencies`")))?
        }
    };
    let toolchain = format!("componentize-js {} and node {node}", package(&tool)?.version.unwrap_or_default());
    progress(&format!("building {} with {toolchain}", marker.name));

    // The tool says of a mistake that there is one, and node where.
    let mut check = Command::new("node");
    check.current_dir(project).arg("--check").arg(&source);
    run(check, "node --check", project, progress)?;

    let workshop = Workshop::new()?;
    let out = workshop.path().join("component.wasm");
    let mut command = Command::new("node");
    command.current_dir(project).args(["--input-type=module", "--eval", SCRIPT]);
    command.arg(&source).arg(workshop.wit()).arg(marker.world.name()).arg(&out);
    // What the tool leaves behind goes with the rest.
    command.env("TMPDIR", workshop.path());
    run(command, "componentize-js", project, progress)?;
    let component = std::fs::read(&out).map_err(BuildError::io(&out))?;
    Ok(Compiled { name: marker.name, component, toolchain, wit: Some(workshop.wit()), workshop: Some(workshop) })
}

fn package(manifest: &Path) -> Result<Package, BuildError> {
    let text = std::fs::read(manifest).map_err(BuildError::io(manifest))?;
    serde_json::from_slice(&text)
        .map_err(|error| BuildError::Project { manifest: manifest.into(), problem: error.to_string() })
}

/// The manifest of the tool, where node would find it.
fn installed(project: &Path) -> Option<PathBuf> {
    let places = project.ancestors().map(|dir| dir.join("node_modules").join(TOOL).join("package.json"));
    places.into_iter().find(|manifest| manifest.is_file())
}
