//! What the machine itself says is there: namespaces, processes, links, mounts, control groups.
//!
//! Taken from `/proc` and `/sys` alone, never from the server, so that a leak can't hide.

use std::collections::BTreeSet;
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
        let mut entries = BTreeSet::new();
        for process in entries_of("/proc") {
            if !process.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit()) {
                continue;
            }
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
        control_groups(Path::new("/sys/fs/cgroup"), &mut entries);
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
        eventually(async || {
            let now = Self::now(programs);
            let left = now.since(before);
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

fn control_groups(directory: &Path, entries: &mut BTreeSet<String>) {
    for entry in entries_of(directory).filter(|entry| entry.is_dir() && !entry.is_symlink()) {
        control_groups(&entry, entries);
        entries.insert(format!("cgroup {}", entry.display()));
    }
}
