//! Tests of what a call leaves behind in the whole process. Others beside them would be seen too, so they run in a
//! process of their own.

#![allow(clippy::print_stdout, reason = "what the other process has printed")]

use std::process::Command;
use std::time::{Duration, Instant};

/// Set in the process that is a test's own.
const ALONE: &str = "ANTIMONY_TEST_ALONE";

/// Runs the test named `name` (as `cargo test` names it) once more in a process of its own, prints what that prints, and
/// wants it to succeed. `false`: this is that process, and the test goes on.
pub(crate) fn elsewhere(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return false;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}, in a process of its own: {}", output.status);
    assert!(text.contains("1 passed"), "there is no test named {name}");
    true
}

/// Wants less than `bound` bytes more to be resident than the `before` that were, and says how many more are.
///
/// It waits for that: a thread of Wasmtime's compresses code that is often read from the cache once more, which takes a
/// hundred MiB for as long as it lasts.
pub(crate) fn grown(before: usize, bound: usize) -> usize {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let grown = resident().saturating_sub(before);
        if grown < bound {
            return grown;
        }
        assert!(Instant::now() < deadline, "{grown} bytes more are resident");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
