//! Plugins in Rust: cargo makes a core module, `wit-component` makes a component of it.
//!
//! Two kinds of toolchain are served. Usually the active one has the target `wasm32-unknown-unknown`. Where it has not,
//! and can't get it, there may be the source of the standard library, with it or with Debian's compiler; the library is
//! then compiled along. Either way the guest imports nothing but what its world says: no WASI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::run::run;
use super::{BuildError, Compiled, Progress};

const TARGET: &str = "wasm32-unknown-unknown";
/// How a guest is compiled, whatever its author's profile says: small, since it is copied for every call.
const PROFILE: [(&str, &str); 6] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
];
/// 32 KiB of stack instead of 1 MiB: all of a guest's memory is written anew for each call, its stack included. With so
/// much, stack and data of a small plugin share one page of 64 KiB, and its heap is a second one.
const STACK: &str = "-C link-arg=-zstack-size=32768";
/// What a surrounding `cargo test`, `clippy` or CI job may have set for its own build, and would spoil this one.
const FOREIGN: [&str; 9] = [
    "RUSTC",
    "CARGO_BUILD_RUSTC",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_MAKEFLAGS",
];

/// Compiles the crate in `project` to a component.
pub(super) fn compile(project: &Path, progress: Progress<'_>) -> Result<Compiled, BuildError> {
    let manifest = project.join("Cargo.toml");
    let package = Package::read(project, &manifest)?;
    let toolchain = Toolchain::find(project)?;
    let target_dir = package.target_dir.join("guests");

    progress(&format!("building {} with {}", package.name, toolchain.describe()));
    let mut cargo = cargo(project);
    cargo.args(["build", "--lib", "--release", "--target", TARGET, "--manifest-path"]).arg(&manifest);
    // A folder of its own: its lock is not that of a cargo that may be waiting for us, such as `cargo test`.
    cargo.arg("--target-dir").arg(&target_dir);
    // Where somebody wrote down which versions it is made of, it is made of those.
    if package.workspace.join("Cargo.lock").is_file() {
        cargo.arg("--locked");
    }
    cargo.envs(PROFILE).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", STACK);
    toolchain.apply(&mut cargo);
    run(cargo, "cargo build", project, progress)?;

    let module = target_dir.join(TARGET).join("release").join(format!("{}.wasm", package.library));
    let core = std::fs::read(&module).map_err(BuildError::io(&module))?;
    let component = componentize(&core).map_err(|reason| BuildError::Componentize { module, reason })?;
    let wit = nearest_wit(project, &package.workspace);
    Ok(Compiled { name: package.name, component, toolchain: toolchain.describe(), wit, workshop: None })
}

fn componentize(core: &[u8]) -> Result<Vec<u8>, String> {
    let encode = || wit_component::ComponentEncoder::default().validate(true).module(core)?.encode();
    encode().map_err(|error| format!("{error:#}"))
}

/// The `wit` folder nearest to a project, no further up than its workspace.
fn nearest_wit(project: &Path, workspace: &Path) -> Option<PathBuf> {
    project.ancestors().take_while(|dir| dir.starts_with(workspace)).map(|dir| dir.join("wit")).find(|wit| wit.is_dir())
}

/// What cargo says of a crate.
struct Package {
    name: String,
    /// Name of its library, as files are called.
    library: String,
    workspace: PathBuf,
    target_dir: PathBuf,
}

impl Package {
    fn read(project: &Path, manifest: &Path) -> Result<Self, BuildError> {
        let mut cargo = cargo(project);
        cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
        let output = cargo.stdin(Stdio::null()).output().map_err(BuildError::io(Path::new("cargo")))?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(BuildError::Compile { dir: project.into(), tool: "cargo metadata".into(), output });
        }
        let problem = |problem: String| BuildError::Project { manifest: manifest.into(), problem };
        let metadata: Metadata = serde_json::from_slice(&output.stdout)
            .map_err(|error| problem(format!("cargo metadata can't be read: {error}")))?;
        let package = metadata
            .packages
            .into_iter()
            .find(|package| package.manifest_path == manifest)
            .ok_or_else(|| problem("is a workspace, not a plugin: name the folder of one".into()))?;
        let library = package
            .targets
            .into_iter()
            .find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"))
            .ok_or_else(|| problem("a plugin is a library; add `[lib]` with `crate-type = [\"cdylib\"]`".into()))?;
        Ok(Self {
            name: package.name,
            library: library.name.replace('-', "_"),
            workspace: metadata.workspace_root,
            target_dir: metadata.target_directory,
        })
    }
}

#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(serde::Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<MetadataTarget>,
}

#[derive(serde::Deserialize)]
struct MetadataTarget {
    name: String,
    crate_types: Vec<String>,
}

/// What compiles.
struct Toolchain {
    /// The compiler, where it isn't the active one.
    rustc: Option<PathBuf>,
    /// Where it brings its library as source only: what links, since it then brings no linker of its own either.
    source: Option<PathBuf>,
}

impl Toolchain {
    /// Looks first for a compiler that has the target, then for one that has the source of the library; the active
    /// toolchain before Debian's.
    fn find(project: &Path) -> Result<Self, BuildError> {
        let debian = PathBuf::from("/usr/bin/rustc");
        let active = sysroot(Path::new("rustc"), project).map(|sysroot| (None, sysroot));
        let second = sysroot(&debian, project).map(|sysroot| (Some(debian), sysroot));
        let found: Vec<(Option<PathBuf>, PathBuf)> = active.into_iter().chain(second).collect();

        if let Some((rustc, _)) = found.iter().find(|(_, sysroot)| has_target(sysroot)) {
            return Ok(Self { rustc: rustc.clone(), source: None });
        }
        let Some((rustc, _)) = found.iter().find(|(_, sysroot)| has_source(sysroot)) else {
            let seen = found.iter().map(|(_, sysroot)| sysroot.display().to_string()).collect::<Vec<_>>().join(" and ");
            let why = (!seen.is_empty()).then(|| format!("neither the target nor the source is in {seen}"));
            return Err(BuildError::NoToolchain(why));
        };
        let system = Path::new("/usr/bin/wasm-ld");
        let linker = found.iter().find_map(|(_, sysroot)| linker(sysroot));
        match linker.or_else(|| system.is_file().then(|| system.to_path_buf())) {
            Some(linker) => Ok(Self { rustc: rustc.clone(), source: Some(linker) }),
            None => Err(BuildError::NoToolchain(Some("there is no rust-lld and no wasm-ld to link with".into()))),
        }
    }

    fn describe(&self) -> String {
        let rustc = self.rustc.as_ref().map_or("the active toolchain".into(), |rustc| rustc.display().to_string());
        let library = if self.source.is_some() { "the source of its standard library" } else { TARGET };
        format!("{rustc} and {library}")
    }

    fn apply(&self, cargo: &mut Command) {
        if let Some(rustc) = &self.rustc {
            cargo.env("RUSTC", rustc);
        }
        if let Some(linker) = &self.source {
            // That a stable compiler accepts unstable options is needed for the standard library alone.
            cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort");
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }
}

/// Whether a plugin in Rust can be built on this machine, and if not, what to do about it.
///
/// # Errors
/// [`BuildError::NoToolchain`].
pub(super) fn available(project: &Path) -> Result<(), BuildError> {
    Toolchain::find(project).map(|_| ())
}

/// Where a compiler keeps its libraries; `None`: it can't be run. Asked in the project's folder, since a
/// `rust-toolchain.toml` there chooses the toolchain.
fn sysroot(rustc: &Path, project: &Path) -> Option<PathBuf> {
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .current_dir(project)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    (output.status.success() && sysroot.is_dir()).then_some(sysroot)
}

fn has_target(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file()
}

fn linker(sysroot: &Path) -> Option<PathBuf> {
    let hosts = sysroot.join("lib/rustlib").read_dir().ok()?;
    hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|lld| lld.is_file())
}

fn cargo(project: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(project);
    for name in FOREIGN {
        cargo.env_remove(name);
    }
    cargo
}
