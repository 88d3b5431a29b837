//! What the machine has of labs on containerlab: containers, networks, links, processes, entries in files of the system.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::bench::{Bench, processes_with};
use crate::harness::{System, eventually};

/// The machine's lists at one moment. Taken from Docker, `/proc`, `/sys` and `/etc` alone, never from the server.
pub(crate) struct Machine {
    system: System,
    programs: Vec<PathBuf>,
    entries: BTreeSet<String>,
}

impl Machine {
    /// The lists as they are now; `programs` are the files whose processes count, besides containerlab's.
    pub(crate) fn now(on: &Bench, programs: &[PathBuf]) -> Self {
        Self { system: System::now(programs), programs: programs.to_vec(), entries: entries(on) }
    }

    /// Waits until nothing is there that wasn't there at that moment.
    pub(crate) async fn is_back(&self, on: &Bench) {
        eventually(async || {
            let now = entries(on);
            let left: Vec<_> = now.difference(&self.entries).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:#?}")) }
        })
        .await;
        System::wait_until_as_in_company(&self.system, &self.programs).await;
    }
}

fn entries(on: &Bench) -> BTreeSet<String> {
    let mut entries = BTreeSet::new();
    let mut add = |kind: &str, lines: &str| {
        entries.extend(lines.lines().map(|line| format!("{kind} {line}")));
    };
    let docker = on.prepared();
    add("container", &docker.docker_succeeds(&["ps", "--all", "--format", "{{.Names}}"]));
    add("network", &docker.docker_succeeds(&["network", "ls", "--format", "{{.Name}}"]));
    add("volume", &docker.docker_succeeds(&["volume", "ls", "--quiet"]));
    add("host", &fs::read_to_string("/etc/hosts").unwrap_or_default());
    for folder in ["/run/netns", "/etc/ssh/ssh_config.d"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            add("file", &entry.path().display().to_string());
        }
    }
    let program = docker.containerlab.display().to_string();
    for id in processes_with(&program).into_iter().chain(processes_with("containerlab ")) {
        // Not whoever looks for it, or for its folder.
        if fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.ends_with("containerlab")) {
            add("process", &id.to_string());
        }
    }
    entries
}
