//! What processes use, by the PID namespace that they are in: for what no cgroup tells of a node.
//!
//! The lab's first process calls this: it sees the processes of all nodes, and may look at each. Memory is what processes
//! have for themselves alone; what of it they share, such as the host's programs, belongs to nobody. Processor time has that
//! of processes that have ended, as far as they were waited for by another one of the node.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// Most processes that are looked at. With more, nothing is said: it would hold up the lab.
const MOST: usize = 4096;

/// What the processes of one namespace use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) cpu: Duration,
    /// Bytes.
    pub(super) memory: u64,
    /// Threads.
    pub(super) processes: u64,
}

/// Sums by the inode of the namespace; `None`: there are too many processes, or they can't be listed. `inits` has that of
/// processes which may not be asked, as they have never run another program than the server's.
pub(super) fn by_namespace(inits: &HashMap<i32, u64>) -> Option<HashMap<u64, Sum>> {
    let units = Units::of_machine();
    let mut sums = HashMap::<u64, Sum>::new();
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for (number, id) in ids.enumerate() {
        if number >= MOST {
            return None;
        }
        let read = |name| fs::read_to_string(format!("/proc/{id}/{name}")).ok();
        let one = || {
            let told = || Some(fs::metadata(format!("/proc/{id}/ns/pid")).ok()?.ino());
            let namespace = inits.get(&id).copied().or_else(told)?;
            Some((namespace, process(&read("stat")?, &read("statm")?, units)?))
        };
        // One that has ended meanwhile uses nothing.
        if let Some((namespace, used)) = one() {
            let sum = sums.entry(namespace).or_default();
            sum.cpu += used.cpu;
            sum.memory += used.memory;
            sum.processes += used.processes;
        }
    }
    Some(sums)
}

/// What the kernel counts in.
#[derive(Clone, Copy)]
struct Units {
    ticks_per_second: u64,
    page: u64,
}

impl Units {
    fn of_machine() -> Self {
        let ask = |what| sysconf(what).ok().flatten().and_then(|value| u64::try_from(value).ok());
        Self {
            ticks_per_second: ask(SysconfVar::CLK_TCK).filter(|ticks| *ticks > 0).unwrap_or(100),
            page: ask(SysconfVar::PAGE_SIZE).unwrap_or(4096),
        }
    }
}

/// Reads `/proc/…/stat` and `/proc/…/statm`.
fn process(stat: &str, statm: &str, units: Units) -> Option<Sum> {
    // The name of the program is in parentheses, and may have anything in it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // User and system time, then those of children that have ended.
    let ticks = (11..15).map(field).sum::<Option<u64>>()?;
    let pages: Vec<u64> = statm.split_whitespace().map_while(|pages| pages.parse().ok()).collect();
    let &[_, resident, shared, ..] = &pages[..] else { return None };
    Some(Sum {
        cpu: Duration::from_millis(ticks.saturating_mul(1000) / units.ticks_per_second),
        memory: resident.saturating_sub(shared) * units.page,
        processes: field(17)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_read_whatever_its_program_is_called() {
        let stat =
            "7 (a) R (b) S 1 7 7 0 -1 4194560 100 200 0 0 150 50 25 5 20 0 3 0 1000 9999 300 18446744073709551615";
        let sum = process(stat, "2000 300 100 1 0 500 0\n", Units { ticks_per_second: 100, page: 4096 });
        assert_eq!(sum, Some(Sum { cpu: Duration::from_millis(2300), memory: 200 * 4096, processes: 3 }));
        assert_eq!(process("7 (a) S 1", "1 1 1", Units::of_machine()), None);
    }

    #[test]
    fn this_process_is_found_in_its_own_namespace() {
        let own = fs::metadata("/proc/self/ns/pid").unwrap().ino();
        // A machine with very many processes is no lab.
        if let Some(sums) = by_namespace(&HashMap::new()) {
            let sum = sums[&own];
            assert!(sum.processes >= 1 && sum.memory > 0, "{sum:?}");
        }
    }
}
