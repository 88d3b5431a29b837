//! A runtime to run a test on: whether this machine has it, servers that use it, and what is left of it in the end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::harness::{Place, Server, ServerBuilder, User, eventually, leave_out};
use crate::networks;

/// What nodes run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// The server's own.
    Embedded,
    /// The program of that name, and Docker.
    Containerlab,
}

/// What `tests/containerlab/prepare` has found or made.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    /// The program.
    pub(crate) containerlab: PathBuf,
    /// Where the Docker engine answers, as Docker's own programs are told.
    pub(crate) docker_host: String,
}

impl Prepared {
    /// An error is the sentence that says why there is nothing.
    fn read() -> Result<Self, String> {
        let folder = root().join("target/containerlab");
        let Ok(text) = fs::read_to_string(folder.join("environment")) else {
            return Err(match fs::read_to_string(folder.join("left-out")) {
                Ok(why) => why.trim().to_owned(),
                Err(_) => "tests/containerlab/prepare has not been run".to_owned(),
            });
        };
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned).ok_or_else(|| format!("target/containerlab/environment has no {name}"))
        };
        let prepared = Self { containerlab: value("CONTAINERLAB")?.into(), docker_host: value("DOCKER_HOST")? };
        if !geteuid().is_root() {
            return Err("containerlab wants root".to_owned());
        }
        if !prepared.docker(&["version"]).status.success() {
            return Err(format!(
                "no Docker engine answers at {} any more; tests/containerlab/prepare starts one",
                prepared.docker_host
            ));
        }
        Ok(prepared)
    }

    /// The same program with another engine.
    pub(crate) fn with_engine(&self, docker_host: String) -> Self {
        Self { docker_host, ..self.clone() }
    }

    /// Runs Docker's own client.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", &self.docker_host).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
    }

    /// The same where it has to work; answers what it printed.
    pub(crate) fn docker_succeeds(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// All containers, running or not, whose topology lies below one of these folders: their ids and names. An error is what
    /// the client of an engine says that doesn't answer.
    fn containers_of(&self, places: &[PathBuf]) -> Result<Vec<(String, String)>, String> {
        let format = "{{.ID}} {{.Names}} {{.Label \"clab-topo-file\"}}";
        let output = self.docker(&["ps", "--all", "--filter", "label=containerlab", "--format", format]);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let listed = String::from_utf8_lossy(&output.stdout);
        let parts = listed.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ' ');
            Some((parts.next()?.to_owned(), parts.next()?.to_owned(), parts.next()?.to_owned()))
        });
        let ours = parts.filter(|(_, _, file)| places.iter().any(|place| Path::new(file).starts_with(place)));
        Ok(ours.map(|(id, name, _)| (id, name)).collect())
    }
}

/// A runtime, for one test.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    prepared: Option<Prepared>,
    places: Mutex<Vec<PathBuf>>,
}

impl Bench {
    /// Where this machine has the runtime; otherwise says that `test` was left out.
    pub(crate) fn ready(runtime: Runtime, test: &str) -> Option<Self> {
        let prepared = match runtime {
            Runtime::Embedded => {
                if !User::Myself.can_run_labs(test) {
                    return None;
                }
                None
            }
            Runtime::Containerlab => match Prepared::read() {
                Ok(prepared) => Some(prepared),
                Err(why) => {
                    leave_out(&format!("containerlab::{test}"), &why);
                    return None;
                }
            },
        };
        Some(Self { runtime, prepared, places: Mutex::new(Vec::new()) })
    }

    /// The same with an engine of its own.
    pub(crate) fn with_engine(mut self, docker_host: String) -> Self {
        self.prepared = self.prepared.as_ref().map(|prepared| prepared.with_engine(docker_host));
        self
    }

    /// containerlab and its engine; only where that is the runtime.
    pub(crate) fn prepared(&self) -> &Prepared {
        self.prepared.as_ref().expect("this is about containerlab")
    }

    pub(crate) fn is_containerlab(&self) -> bool {
        self.runtime == Runtime::Containerlab
    }

    /// A server that uses this runtime.
    pub(crate) fn builder(&self) -> ServerBuilder {
        self.builder_at(&Place::new(User::Myself))
    }

    /// The same with the data of an earlier one.
    pub(crate) fn builder_at(&self, place: &Arc<Place>) -> ServerBuilder {
        self.configured(ServerBuilder::at(place), place, "")
    }

    /// The same, with more in its configuration.
    pub(crate) fn builder_with(&self, config: &str) -> ServerBuilder {
        let place = Place::new(User::Myself);
        self.configured(ServerBuilder::at(&place), &place, config)
    }

    fn configured(&self, builder: ServerBuilder, place: &Place, config: &str) -> ServerBuilder {
        self.places.lock().unwrap().push(place.data());
        let builder = if config.is_empty() { builder } else { builder.config(config) };
        let Some(prepared) = &self.prepared else {
            return builder.runtime(Some("embedded"));
        };
        // Found by its name, as on an operator's machine.
        let mut path = prepared.containerlab.parent().expect("a program is in a folder").as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        builder
            .runtime(Some("containerlab"))
            .env("PATH", path.to_str().expect("a path that is text"))
            .env("DOCKER_HOST", &prepared.docker_host)
    }

    pub(crate) async fn server(&self) -> Server {
        self.builder().start().await
    }

    /// The containers that servers of this test have made; none on the embedded runtime.
    pub(crate) fn containers(&self) -> Vec<(String, String)> {
        let places = self.places.lock().unwrap();
        self.prepared.as_ref().map(|prepared| prepared.containers_of(&places).unwrap()).unwrap_or_default()
    }

    /// The container of the node of that name; the servers of this test have made only one such.
    pub(crate) fn container(&self, node: &str) -> String {
        let all = self.containers();
        let ends = format!("-{node}");
        let mut found = all.iter().filter(|(_, name)| name.ends_with(&ends));
        let (id, _) = found.next().unwrap_or_else(|| panic!("no container of {node}: {all:?}"));
        assert!(found.next().is_none(), "more than one container of {node}: {all:?}");
        id.clone()
    }

    /// The names of labs whose containers others have made on the same engine.
    pub(crate) fn others(&self) -> BTreeSet<String> {
        let format = "{{.Names}} {{.Label \"containerlab\"}}";
        let listed =
            self.prepared().docker_succeeds(&["ps", "--all", "--filter", "label=containerlab", "--format", format]);
        let ours: BTreeSet<String> = self.containers().into_iter().map(|(_, name)| name).collect();
        let parts = listed.lines().filter_map(|line| line.split_once(' '));
        parts.filter(|(name, _)| !ours.contains(*name)).map(|(_, lab)| lab.to_owned()).collect()
    }

    /// The management networks of this run that are there.
    pub(crate) fn networks(&self) -> Vec<String> {
        let begin = networks();
        let filter = format!("name={begin}");
        let listed = self.prepared().docker_succeeds(&["network", "ls", "--filter", &filter, "--format", "{{.Name}}"]);
        listed.lines().filter(|name| name.starts_with(&begin)).map(str::to_owned).collect()
    }

    /// Processes of containerlab itself that work on a topology of this test's servers.
    pub(crate) fn programs(&self) -> BTreeSet<u32> {
        let places = self.places.lock().unwrap();
        let ours = places.iter().filter_map(|place| place.to_str());
        let mut found = BTreeSet::new();
        for place in ours {
            found.extend(processes_with(place).into_iter().filter(|id| {
                let program = fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
                self.prepared.as_ref().is_some_and(|prepared| {
                    fs::canonicalize(&prepared.containerlab).is_ok_and(|known| known == program)
                })
            }));
        }
        found
    }

    /// Waits until no container, and no process of containerlab, of this test is there.
    pub(crate) async fn leaves_nothing(&self) {
        eventually(async || match (self.containers(), self.programs()) {
            (containers, programs) if containers.is_empty() && programs.is_empty() => Ok(()),
            left => Err(format!("left behind: {left:?}")),
        })
        .await;
    }
}

impl Drop for Bench {
    /// A test that fails in the middle of a lab doesn't spoil the engine for others.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if let Some(prepared) = &self.prepared {
            let places = self.places.lock().unwrap_or_else(|lock| lock.into_inner());
            for (id, _) in prepared.containers_of(&places).unwrap_or_default() {
                let _ = prepared.docker(&["rm", "--force", "--volumes", &id]);
            }
            drop(places);
            // Those would take addresses from labs of other runs for ever.
            let begin = networks();
            let listed =
                prepared.docker(&["network", "ls", "--filter", &format!("name={begin}"), "--format", "{{.Name}}"]);
            for network in String::from_utf8_lossy(&listed.stdout).lines().filter(|name| name.starts_with(&begin)) {
                // What is in use by a test beside this one is refused.
                let _ = prepared.docker(&["network", "rm", network]);
            }
        }
    }
}

/// A command that waits so long that it can be told from all others on this machine by its time: `sleep 8123456`.
pub(crate) fn mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("sleep 8{:07}{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// All processes of this machine whose command line has this in it, but for those of this program.
pub(crate) fn processes_with(words: &str) -> Vec<u32> {
    let ids = fs::read_dir("/proc").expect("a system with /proc").flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_them = |id: &u32| {
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).replace('\0', " ").contains(words)
    };
    ids.filter(|id| *id != std::process::id()).filter(has_them).collect()
}

/// SIGKILL, to something that this test has had started.
pub(crate) fn sigkill(process: u32) {
    kill(Pid::from_raw(i32::try_from(process).expect("a process id is an i32")), Signal::SIGKILL).expect("SIGKILL");
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a workspace")
}
