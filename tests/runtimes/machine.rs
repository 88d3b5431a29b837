//! What the machine has of labs on containerlab: containers, networks, links, processes, entries in files of the system.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::bench::Bench;
use crate::harness::{System, eventually};

/// The machine's lists at one moment. Taken from Docker, `/proc`, `/sys` and `/etc` alone, never from the server. Others may have
/// labs on the same engine meanwhile: what can be told to be of those is left out.
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
    for (_, name) in on.containers() {
        add("container", &name);
    }
    for name in on.networks() {
        add("network", &name);
    }
    add("host", &fs::read_to_string("/etc/hosts").unwrap_or_default());
    for folder in ["/run/netns", "/etc/ssh/ssh_config.d"] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            add("file", &entry.path().display().to_string());
        }
    }
    for id in on.programs() {
        add("process", &id.to_string());
    }
    // Entries and files name the lab that they belong to.
    let others = on.others();
    entries.retain(|entry| !others.iter().any(|lab| entry.contains(lab.as_str())));
    entries
}
