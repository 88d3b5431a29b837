//! Terminal sessions: everything that a shell started and that is still tied to its terminal.
//!
//! Used by both runtimes to end shells. Ids are those of the caller's PID namespace.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process as far as sessions are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// Id of its session, which is that of the process that began it.
    pub(super) session: i32,
    /// Whether it has ended, and only nobody has asked how.
    pub(super) has_ended: bool,
}

/// All processes that can be seen.
pub(super) fn processes() -> impl Iterator<Item = Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        parse(pid, &stat)
    })
}

/// Sends a signal to every process of a session.
pub(super) fn signal(session: Pid, signal: Signal) {
    for process in processes().filter(|process| process.session == session.as_raw()) {
        let _ = kill(Pid::from_raw(process.pid), signal);
    }
}

/// A line of `/proc/PID/stat`: what counts begins behind the name, which may contain anything.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session, has_ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let process = Process { pid: 17, parent: 1, session: 15, has_ended: false };
        assert_eq!(parse(17, "17 (a) b) (c) S 1 16 15 34816 17 4194304"), Some(process));
        assert!(parse(17, "17 (a) Z 1 16 15 34816").expect("is one").has_ended);
    }
}
