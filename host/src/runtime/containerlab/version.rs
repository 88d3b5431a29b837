//! What is there: the containerlab program with its version and rights, and the container engine that it uses.
//!
//! [`probe`] asks for both. The driver does so at its start, `runtime: auto` to choose, and `doctor` to print; each answer is a
//! whole sentence for an operator. Nothing is changed and nothing is kept.

use std::fmt;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

use super::config::ContainerlabConfig;
use super::engine;
use crate::runtime::docker::{self, Docker};

/// The oldest containerlab that the driver was written for: in earlier ones `destroy --name` doesn't work.
pub const MINIMUM: Version = Version { major: 0, minor: 69, patch: 0 };

/// How long each question may take: these are answered at once, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// A version of containerlab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Version {
    /// Builds that were given no version call themselves so.
    const UNKNOWN: Self = Self { major: 0, minor: 0, patch: 0 };

    /// Reads `0.79.0`, `v0.79.0`, `0.70` or `0.80.0-rc1`.
    fn parse(text: &str) -> Option<Self> {
        let core = text.trim().trim_start_matches('v').split(['-', '+']).next()?;
        let numbers: Vec<u32> = core.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        match numbers[..] {
            [major, minor] => Some(Self { major, minor, patch: 0 }),
            [major, minor, patch] => Some(Self { major, minor, patch }),
            _ => None,
        }
    }
}

/// A containerlab that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundProgram {
    /// Where it is.
    pub path: PathBuf,
    /// Its version; `None`: it calls itself 0.0.0, as builds from source do.
    pub version: Option<Version>,
    /// Whether it has commands of its own to start and stop nodes, which keep their links. Docker's lose them.
    pub lifecycle: bool,
}

impl FoundProgram {
    /// What an operator should know although it works, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let path = self.path.display();
        let mut warnings = Vec::new();
        if self.version.is_none() {
            warnings.push(format!("{path} doesn't say which version it is (0.0.0), so it is taken for a recent one"));
        }
        if !self.lifecycle {
            warnings.push(format!(
                "{path} has no commands to start and stop nodes: they lose their links when stopped; a newer one keeps them"
            ));
        }
        warnings
    }
}

/// A container engine that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundEngine {
    /// Where it listens, such as `unix:///var/run/docker.sock`.
    pub address: String,
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// The newest version of Docker's API that it speaks, such as `1.41`.
    pub api: String,
}

/// Both, ready to run labs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The program.
    pub program: FoundProgram,
    /// The engine.
    pub engine: FoundEngine,
}

/// What is missing, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// There is no such program.
    #[error(
        "there is no containerlab: {0} was found neither as a path nor in PATH; install it (https://containerlab.dev/install), \
         or say where it is with containerlab.program"
    )]
    Program(PathBuf),
    /// It can't be run, or isn't containerlab.
    #[error("{path} can't be used as containerlab: {problem}")]
    Unusable {
        /// The program.
        path: PathBuf,
        /// What went wrong.
        problem: String,
    },
    /// It is older than [`MINIMUM`].
    #[error(
        "{path} is containerlab {version}, and at least {MINIMUM} is needed: upgrade it (containerlab version upgrade)"
    )]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: Version,
    },
    /// It doesn't know the engine that it shall make containers with.
    #[error(
        "containerlab.runtime is {runtime}, which {path} was built without: take a containerlab that has it, or leave the key \
         out to use Docker"
    )]
    Runtime {
        /// The program.
        path: PathBuf,
        /// What it was asked for.
        runtime: String,
    },
    /// It would be refused what it needs.
    #[error(
        "containerlab needs root to make links between nodes: run the server as root, or make {0} set-user-ID root \
         (chmod u+s) and the server's user a member of the group clab_admins"
    )]
    Rights(PathBuf),
    /// Nothing listens there.
    #[error(
        "no container engine answers at {address}: {problem}; start it (systemctl start docker), or say where it listens with containerlab.dockerHost"
    )]
    Engine {
        /// Where it was looked for.
        address: String,
        /// What went wrong.
        problem: String,
    },
    /// It may not be talked to.
    #[error(
        "the container engine at {0} refuses this user: run the server as root, or make its user a member of the group docker"
    )]
    EngineRights(String),
}

impl Missing {
    /// Whether containerlab isn't there at all, rather than there and of no use: the operator of a machine without it
    /// hasn't made a mistake.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Program(_))
    }
}

/// Looks for everything that the driver needs.
///
/// # Errors
/// The first thing that is missing; [`find_program`] and [`find_engine`] tell of each by itself.
pub async fn probe(config: &ContainerlabConfig) -> Result<Found, Missing> {
    let (program, engine) = tokio::join!(find_program(config), find_engine(config));
    Ok(Found { program: program?, engine: engine? })
}

/// Looks for the program, its version and its rights.
///
/// # Errors
/// [`Missing`], one of the program's.
pub async fn find_program(config: &ContainerlabConfig) -> Result<FoundProgram, Missing> {
    let path = locate(&config.program, std::env::var_os("PATH")).ok_or(Missing::Program(config.program.clone()))?;
    // At once: one that hangs is to be waited for once.
    let (said, help) = tokio::join!(ask(&path, &["version", "--json"]), ask(&path, &["--help"]));
    let said = said?;
    let version = parse_version(&said).ok_or_else(|| Missing::Unusable {
        path: path.clone(),
        problem: format!("it doesn't say its version, but: {}", said.trim().chars().take(200).collect::<String>()),
    })?;
    if version != Version::UNKNOWN && version < MINIMUM {
        return Err(Missing::TooOld { path, version });
    }
    if !may_become_root(&path) {
        return Err(Missing::Rights(path));
    }
    if let Some(runtime) = config.runtime.clone()
        && !engine::is_known(&path, &runtime).await
    {
        return Err(Missing::Runtime { path, runtime });
    }
    let lifecycle = has_lifecycle(&help?);
    Ok(FoundProgram { path, version: Some(version).filter(|version| *version != Version::UNKNOWN), lifecycle })
}

/// Asks the container engine for its version.
///
/// # Errors
/// [`Missing::Engine`], [`Missing::EngineRights`].
pub async fn find_engine(config: &ContainerlabConfig) -> Result<FoundEngine, Missing> {
    let address = config.engine_address();
    let address = docker::normalized(&address).unwrap_or(address);
    let missing = |problem: String| Missing::Engine { address: address.clone(), problem };
    if let Some(socket) = address.strip_prefix("unix://") {
        // Before anything else, because the library's errors don't tell these apart.
        match tokio::net::UnixStream::connect(socket).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Missing::EngineRights(address));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(missing("there is no such socket".into()));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(missing("nothing listens on that socket".into()));
            }
            Err(error) => return Err(missing(error.to_string())),
        }
    }
    let docker = Docker::connect(Some(&address)).await.map_err(|error| missing(error.to_string()))?;
    let version = docker.version();
    Ok(FoundEngine { address, version: version.engine.clone(), api: version.api.clone() })
}

/// The executable file that `program` means.
fn locate(program: &Path, path: Option<std::ffi::OsString>) -> Option<PathBuf> {
    let is_program =
        |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    if program.components().count() > 1 || program.is_absolute() {
        return std::path::absolute(program).ok().filter(is_program);
    }
    let folders = path.as_deref().map(std::env::split_paths).into_iter().flatten();
    folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(program)).find(is_program)
}

/// What the program prints to its standard output. It sees nothing of the server's environment.
async fn ask(path: &Path, arguments: &[&str]) -> Result<String, Missing> {
    let unusable = |problem: String| Missing::Unusable { path: path.to_owned(), problem };
    let mut command = Command::new(path);
    command.args(arguments).env_clear().env("CLAB_VERSION_CHECK", "disable");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // A group of its own, which is ended as a whole: a script in the program's place may have started others.
    command.process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(|error| unusable(error.to_string()))?;
    let _group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let output = match tokio::time::timeout(PATIENCE, child.wait_with_output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(unusable(error.to_string())),
        Err(_) => return Err(unusable(format!("it didn't answer within {} s", PATIENCE.as_secs()))),
    };
    if !output.status.success() {
        return Err(unusable(format!("`{}` ended with {}", arguments.join(" "), output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A group of processes that ends when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Most of the time there is none of it left. Its number is nobody else's: it names what was begun a moment ago.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The version in the answer to `version --json`, or in that of programs which don't know `--json`.
fn parse_version(said: &str) -> Option<Version> {
    #[derive(serde::Deserialize)]
    struct Said {
        version: String,
    }
    if let Ok(said) = serde_json::from_str::<Said>(said) {
        return Version::parse(&said.version);
    }
    said.lines().find_map(|line| Version::parse(line.trim().strip_prefix("version:")?))
}

/// Whether the list of commands has those for nodes.
fn has_lifecycle(help: &str) -> bool {
    let has = |command: &str| help.lines().any(|line| line.split_whitespace().next() == Some(command));
    has("start") && has("stop")
}

/// Whether the program runs as root, or can become it.
fn may_become_root(path: &Path) -> bool {
    let set_user_id = |found: &std::fs::Metadata| found.uid() == 0 && found.mode() & libc::S_ISUID != 0;
    nix::unistd::geteuid().is_root() || path.metadata().as_ref().is_ok_and(set_user_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(major: u32, minor: u32, patch: u32) -> Option<Version> {
        Some(Version { major, minor, patch })
    }

    #[test]
    fn versions_are_read_in_all_the_ways_that_programs_write_them() {
        let json = r#"{"version":"0.79.0","commit":"none","date":"unknown","releaseNotes":"https://containerlab.dev/rn/0.79/"}"#;
        assert_eq!(parse_version(json), at(0, 79, 0));
        let banner =
            "  ____ ___\n\n    version: 0.70.2\n     commit: 1a2b\n rel. notes: https://containerlab.dev/rn/0.70/\n";
        assert_eq!(parse_version(banner), at(0, 70, 2));
        assert_eq!(Version::parse("v1.0.0-rc1"), at(1, 0, 0));
        assert_eq!(Version::parse("0.70"), at(0, 70, 0));
        assert_eq!(parse_version("hello"), None);
        assert!(at(0, 9, 9) < at(0, 10, 0));
    }

    #[test]
    fn whether_nodes_can_be_stopped_is_read_from_the_list_of_commands() {
        let help = "  COMMANDS  \n\n    start [--flags]   Start one or more nodes\n    stop [--flags]    Stop one or more nodes\n";
        assert!(has_lifecycle(help));
        assert!(!has_lifecycle("    save [--flags]   stop worrying\n    start   Start\n"));
    }

    #[test]
    fn a_program_is_looked_for_in_path_only_where_it_is_a_mere_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("clab-of-the-test");
        std::fs::write(&file, "").unwrap();
        let path = || Some(dir.path().into());
        assert_eq!(locate(Path::new("clab-of-the-test"), path()), None, "it isn't executable yet");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(locate(Path::new("clab-of-the-test"), path()), Some(file.clone()));
        assert_eq!(locate(&file, None), Some(file));
        assert_eq!(locate(Path::new("./clab-of-the-test"), path()), None);
    }

    #[tokio::test]
    async fn what_is_missing_is_said_in_a_sentence_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
            ContainerlabConfig { program: file, ..ContainerlabConfig::default() }
        };
        let absent = ContainerlabConfig { program: "/nowhere/clab".into(), ..ContainerlabConfig::default() };
        let said = find_program(&absent).await.unwrap_err().to_string();
        assert!(said.contains("/nowhere/clab") && said.contains("containerlab.program"), "{said}");
        let said = find_program(&script("old", "#!/bin/sh\necho '{\"version\":\"0.41.2\"}'\n")).await.unwrap_err();
        assert!(
            matches!(&said, Missing::TooOld { version, .. } if *version == Version { major: 0, minor: 41, patch: 2 })
        );
        assert!(said.to_string().contains("0.69.0"), "{said}");
        let said = find_program(&script("other", "#!/bin/sh\necho hello\n")).await.unwrap_err().to_string();
        assert!(said.contains("doesn't say its version, but: hello"), "{said}");
        let said = find_program(&script("broken", "#!/bin/sh\nexit 3\n")).await.unwrap_err().to_string();
        assert!(said.contains("exit status: 3"), "{said}");
        let nobody =
            ContainerlabConfig { docker_host: Some("unix:///nowhere.sock".into()), ..ContainerlabConfig::default() };
        let said = find_engine(&nobody).await.unwrap_err().to_string();
        assert!(said.contains("unix:///nowhere.sock: there is no such socket"), "{said}");
        let path = ContainerlabConfig { docker_host: Some("/nowhere.sock".into()), ..nobody };
        assert_eq!(find_engine(&path).await.unwrap_err().to_string(), said, "the same, written otherwise");
    }
}
