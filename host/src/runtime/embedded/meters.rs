//! What a node uses, as its cgroups tell it: which files say so in version 1 and version 2, and what stands in them.
//!
//! The keeper of a lab opens the files when it makes the folders (`cgroup`), where it sees them; the lab's first process
//! reads them as often as it is asked. What no cgroup tells is found out otherwise, by the helper's `usage`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use crate::runtime::stats::Memory;

/// Longest of these files that is read, in bytes: `memory.stat` has some fifty lines.
const LONGEST: usize = 16 << 10;

/// The open files of one node, as far as there are any.
#[derive(Debug, Default)]
pub(super) struct Meters {
    cpu: Option<(File, Version)>,
    memory: Option<MemoryMeter>,
    processes: Option<File>,
}

#[derive(Debug)]
struct MemoryMeter {
    usage: File,
    stat: File,
    version: Version,
    /// Bytes.
    limit: u64,
}

/// Of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

impl Meters {
    /// Opens what says of `folder` how much processor time was used. Without such a file there is no meter; so below.
    pub(super) fn add_cpu(&mut self, folder: &Path, version: Version) {
        let name = match version {
            Version::One => "cpuacct.usage",
            Version::Two => "cpu.stat",
        };
        self.cpu = File::open(folder.join(name)).ok().map(|file| (file, version));
    }

    /// The same for memory, of which the node may have `limit` bytes.
    pub(super) fn add_memory(&mut self, folder: &Path, version: Version, limit: u64) {
        let name = match version {
            Version::One => "memory.usage_in_bytes",
            Version::Two => "memory.current",
        };
        let open = |name| File::open(folder.join(name));
        self.memory =
            open(name).and_then(|usage| Ok(MemoryMeter { usage, stat: open("memory.stat")?, version, limit })).ok();
    }

    /// The same for processes.
    pub(super) fn add_processes(&mut self, folder: &Path) {
        self.processes = File::open(folder.join("pids.current")).ok();
    }

    /// Processor time used so far.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let (file, version) = self.cpu.as_ref()?;
        cpu(&read(file).ok()?, *version)
    }

    /// Memory in use.
    pub(super) fn memory(&self) -> Option<Memory> {
        let meter = self.memory.as_ref()?;
        let bytes = memory(&read(&meter.usage).ok()?, &read(&meter.stat).ok()?, meter.version)?;
        Some(Memory { bytes, limit: Some(meter.limit) })
    }

    /// Processes and threads.
    pub(super) fn processes(&self) -> Option<u64> {
        read(self.processes.as_ref()?).ok()?.trim().parse().ok()
    }
}

/// Reads a file of the kernel's anew.
fn read(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; LONGEST];
    let length = file.read_at(&mut bytes, 0)?;
    bytes.truncate(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The figure behind a name in a file of lines that are a name and a figure.
fn figure(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn cpu(text: &str, version: Version) -> Option<Duration> {
    match version {
        Version::One => text.trim().parse().ok().map(Duration::from_nanos),
        Version::Two => figure(text, "usage_usec").map(Duration::from_micros),
    }
}

/// Usage without the pages of files that were not used lately, which the kernel gives back before it is short of memory.
fn memory(usage: &str, stat: &str, version: Version) -> Option<u64> {
    let inactive = match version {
        Version::One => figure(stat, "total_inactive_file"),
        Version::Two => figure(stat, "inactive_file"),
    };
    Some(usage.trim().parse::<u64>().ok()?.saturating_sub(inactive.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_says_nanoseconds_and_counts_inactive_files_of_all_below() {
        assert_eq!(cpu("1500000000\n", Version::One), Some(Duration::from_millis(1500)));
        let stat = "cache 8192\nrss 4096\ninactive_file 1\nactive_file 0\ntotal_cache 8192\ntotal_inactive_file 4096\n";
        assert_eq!(memory("20480\n", stat, Version::One), Some(16384));
    }

    #[test]
    fn version_2_says_microseconds_among_other_things() {
        let text = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 0\n";
        assert_eq!(cpu(text, Version::Two), Some(Duration::from_millis(2500)));
        let stat = "anon 4096\nfile 8192\nworkingset_refault_file 7\ninactive_anon 0\ninactive_file 8192\n";
        assert_eq!(memory("12288\n", stat, Version::Two), Some(4096));
    }

    #[test]
    fn what_says_nothing_is_nothing() {
        for version in [Version::One, Version::Two] {
            assert_eq!(cpu("", version), None);
            assert_eq!(memory("", "inactive_file 1\n", version), None);
            assert_eq!(
                memory("5\n", "inactive_file 9\ntotal_inactive_file 9\n", version),
                Some(0),
                "counted a moment later"
            );
        }
        assert_eq!(Meters::default().cpu(), None);
    }

    #[test]
    fn a_file_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut meters = Meters::default();
        std::fs::write(dir.path().join("pids.current"), "3\n").unwrap();
        meters.add_processes(dir.path());
        assert_eq!(meters.processes(), Some(3));
        std::fs::write(dir.path().join("pids.current"), "14\n").unwrap();
        assert_eq!(meters.processes(), Some(14));
        assert_eq!((meters.cpu(), meters.memory()), (None, None));
    }
}
