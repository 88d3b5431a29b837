//! What the machine itself says is there: namespaces, processes, links, mounts, control groups.
//!
//! Taken from `/proc` and `/sys` alone, never from the server, so that a leak can't hide. Other programs on the machine
//! make and end such things all the time; what is ours among them is found without asking the server either: this
//! process adopts all orphans of its servers (`PR_SET_CHILD_SUBREAPER`), so that whatever one of them has left behind,
//! however it tore itself loose, is a descendant of this process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::eventually;

/// The machine's lists at one moment. Needs root to be complete.
#[derive(Debug, Clone, Default)]
pub(crate) struct System {
    entries: BTreeSet<String>,
}

impl System {
    /// The lists as they are now; `programs` are the files whose processes count.
    pub(crate) fn now(programs: &[PathBuf]) -> Self {
        // Who adopts an orphan is decided when its parent ends, so this is early enough also for servers that run.
        nix::sys::prctl::set_child_subreaper(true).expect("every process may adopt orphans");
        let ours = descendants();
        let mut entries = BTreeSet::new();
        for id in &ours {
            let process = PathBuf::from(format!("/proc/{id}"));
            // A namespace lives as long as a process is in it, or somebody holds a descriptor of it.
            for link in entries_of(process.join("ns")).chain(entries_of(process.join("fd"))) {
                if let Some(namespace) = namespace(&link) {
                    entries.insert(format!("namespace {namespace}"));
                }
            }
            // A program that was removed or replaced while it ran is marked so.
            if let Ok(program) = fs::read_link(process.join("exe"))
                && programs.iter().any(|known| {
                    program == *known
                        || program.to_string_lossy().trim_end_matches(" (deleted)") == known.to_string_lossy()
                })
            {
                entries.insert(format!("process {}", process.display()));
            }
        }
        for link in entries_of("/sys/class/net") {
            entries.insert(format!("link {}", link.display()));
        }
        // Mount ids are used again, so they are left out.
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
            let fields: Vec<_> = line.split(' ').skip(3).collect();
            entries.insert(format!("mount {}", fields.join(" ")));
        }
        control_groups(Path::new("/sys/fs/cgroup"), &ours, &mut entries);
        Self { entries }
    }

    /// What is there now and wasn't in `before`.
    pub(crate) fn since<'a>(&'a self, before: &Self) -> BTreeSet<&'a str> {
        self.entries.iter().filter(|entry| !before.entries.contains(*entry)).map(String::as_str).collect()
    }

    /// How many entries of `kind`, such as `namespace net`, are new since `before`.
    pub(crate) fn count_since(&self, before: &Self, kind: &str) -> usize {
        self.since(before).iter().filter(|entry| entry.starts_with(kind)).count()
    }

    /// Waits until nothing is there that wasn't in `before`.
    pub(crate) async fn wait_until_as(before: &Self, programs: &[PathBuf]) {
        Self::wait_until_as_but_for(before, programs, None).await;
    }

    /// The same where this isn't the only program on the machine that runs labs: the control groups of others are empty
    /// for a moment too, and nothing tells them from ours.
    pub(crate) async fn wait_until_as_in_company(before: &Self, programs: &[PathBuf]) {
        Self::wait_until_as_but_for(before, programs, Some("cgroup")).await;
    }

    async fn wait_until_as_but_for(before: &Self, programs: &[PathBuf], kind: Option<&str>) {
        eventually(async || {
            let now = Self::now(programs);
            let mut left = now.since(before);
            left.retain(|entry| !kind.is_some_and(|kind| entry.starts_with(kind)));
            if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:#?}")) }
        })
        .await;
    }
}

fn entries_of(directory: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    // Processes come and go while this looks at them.
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// `net:[4026531840]`, if that is what `link` leads to.
fn namespace(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?.to_str()?.to_owned();
    let (kind, id) = target.split_once(":[")?;
    let is_namespace = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"].contains(&kind);
    (is_namespace && id.ends_with(']')).then_some(target)
}

/// This process and everything that it, or something below it, has started and that hasn't ended. What has ended waits
/// for whoever adopted it to take note; that is this process, which doesn't, rather than the machine's first, which does.
fn descendants() -> BTreeSet<u32> {
    loop {
        let mut parents = BTreeMap::new();
        let mut ended = BTreeSet::new();
        for process in entries_of("/proc") {
            let Some(id) = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else { continue };
            // The name of a program may have spaces and parentheses in it; behind it come the state and the parent.
            let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
            let mut fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).into_iter().flatten();
            if matches!(fields.next(), Some("Z" | "X")) {
                ended.insert(id);
            }
            if let Some(parent) = fields.next().and_then(|parent| parent.parse().ok()) {
                parents.insert(id, parent);
            }
        }
        // Whoever's parent ended while this was looking has another one by now.
        if parents.values().any(|parent| *parent != 0 && !parents.contains_key(parent)) {
            continue;
        }
        let own = std::process::id();
        let is_ours = |mut id: u32| {
            while id != own {
                match parents.get(&id) {
                    Some(parent) => id = *parent,
                    None => return false,
                }
            }
            true
        };
        return parents.keys().copied().filter(|id| is_ours(*id) && !ended.contains(id)).collect();
    }
}

/// Adds the folders of control groups but for those with processes of others in or below them; says whether there were
/// any in or below `directory`.
fn control_groups(directory: &Path, ours: &BTreeSet<u32>, entries: &mut BTreeSet<String>) -> bool {
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let mut others = procs.lines().any(|id| id.parse().is_ok_and(|id| !ours.contains(&id)));
    for entry in entries_of(directory).filter(|entry| entry.is_dir() && !entry.is_symlink()) {
        others |= control_groups(&entry, ours, entries);
    }
    if !others {
        entries.insert(format!("cgroup {}", directory.display()));
    }
    others
}
