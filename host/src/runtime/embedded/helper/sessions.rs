//! Terminal sessions in nodes: everything that a shell started and that is still tied to its terminal.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Sends a signal to every process of a session. Ids are those of the caller's PID namespace.
pub(super) fn signal(session: Pid, signal: Signal) {
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if session_of(&stat) == Some(session.as_raw()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// The session in a line of `/proc/PID/stat`: the fourth field after the name, which may contain anything.
fn session_of(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        assert_eq!(session_of("17 (a) b) (c) S 1 16 15 34816 17 4194304"), Some(15));
    }
}
