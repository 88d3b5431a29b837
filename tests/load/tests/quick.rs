//! The small run: every server answers, and every message arrives. Says nothing about speed.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Says that something was left out; with `ANTIMONY_REQUIRE_ALL=1`, as in CI, that is a failure.
fn leave_out(what: &str) {
    let _ = std::io::stderr().write_all(format!("left out: {what}\n").as_bytes());
    let required = std::env::var_os("ANTIMONY_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "left out: {what}, and ANTIMONY_REQUIRE_ALL=1 forbids that");
}

#[test]
fn a_small_run_loses_nothing_and_prints_the_table() {
    let labs =
        Command::new("unshare").args(["--user", "--map-root-user", "--net", "true"]).stderr(Stdio::null()).status();
    if !nix::unistd::geteuid().is_root() && !labs.is_ok_and(|status| status.success()) {
        return leave_out("the load tool: this machine doesn't let ordinary users make user namespaces");
    }
    let run = Command::new(env!("CARGO_BIN_EXE_antimony-load")).arg("--quick").stdin(Stdio::null()).output();
    let run = run.expect("run the load tool");
    let (table, log) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{}\n{table}\n{log}", run.status);
    let row = |name: &str| {
        let row = table.lines().find(|line| line.starts_with(&format!("| {name}")));
        let row = row.unwrap_or_else(|| panic!("no row {name} in\n{table}"));
        row.split('|').skip(2).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    for name in ["messages lost", "messages doubled"] {
        assert_eq!(row(name)[0], "0", "{name}\n{table}");
    }
    for name in ["acks/s", "log fan-out", "memory per idle client", "start to first"] {
        for (server, cell) in row("figure").iter().zip(row(name)).take_while(|(server, _)| *server != "aim") {
            assert!(cell.starts_with(|c: char| c.is_ascii_digit()), "{server}: {name}: {cell}\n{table}");
        }
    }
    if let Some(line) = table.lines().find(|line| line.starts_with("left out: ")) {
        leave_out(line.trim_start_matches("left out: "));
    }
}
