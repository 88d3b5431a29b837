//! What a server uses, by the kernel's own count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Memory, descriptors, threads and processes of a server at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Resident memory, in KiB.
    pub(crate) memory: u64,
    /// The most that it ever was, in KiB.
    pub(crate) peak: u64,
    /// Open descriptors but for those of the database, whose pool opens and closes its own as it sees fit.
    pub(crate) descriptors: usize,
    /// Its threads.
    pub(crate) threads: usize,
    /// What it has started and what that has started, as far as it hasn't ended.
    pub(crate) processes: usize,
}

impl Figures {
    /// Those of the process with this id. All are 0 once it has gone.
    pub(crate) fn of(id: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Self {
            memory: number("VmRSS"),
            peak: number("VmHWM"),
            descriptors: descriptors(id).iter().filter(|target| !target.contains("antimony.db")).count(),
            threads: usize::try_from(number("Threads")).expect("few"),
            processes: descendants(id).len(),
        }
    }
}

/// What the descriptors of a process lead to.
pub(crate) fn descriptors(id: u32) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    // They come and go while this looks.
    open.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned())).collect()
}

/// What a process has started, and what that has started, and so on; nothing that has ended.
pub(crate) fn descendants(root: u32) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("a system with /proc").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name of a program may have spaces and parentheses in it; behind it come the state and the parent.
        let mut fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).into_iter().flatten();
        if matches!(fields.next(), None | Some("Z" | "X")) {
            continue;
        }
        if let Some(parent) = fields.next().and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = BTreeSet::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        next.extend(children.get(&parent).into_iter().flatten().copied().filter(|id| found.insert(*id)));
    }
    found
}
