//! Terminals in nodes.

use serde_json::{Value, json};

use antimony_host::client::AckError;

use crate::bench::{Bench, Runtime, mark, processes_with};
use crate::harness::{Lines, Shell, descendants, eventually, expect_data};
use crate::{lab, one_node, two_routers};

/// Line 19 of the catalogue.
pub(crate) async fn a_node_without_bash_gets_a_shell_and_one_without_any_a_clear_error_and_nothing_half_open(
    on: &Bench,
) {
    let server = on.server().await;
    let admin = server.admin().await;
    let topology = match on.runtime {
        // Programs are looked for where the node's own PATH says, so the commands need theirs.
        Runtime::Embedded => lab(
            "few-shells",
            "only-sh:
  exec: [\"/bin/mkdir -p /opt/few\", \"/bin/ln -s /bin/sh /opt/few/sh\", \"/bin/ln -s /bin/ls /opt/few/ls\"]
  env: {PATH: /opt/few}
neither:
  env: {PATH: /nowhere}",
        ),
        Runtime::Containerlab => lab("few-shells", "only-sh: {}\nneither: {image: \"lab/bare:1\"}"),
    };
    let lab = admin.create_lab("course", &topology).await;
    admin.deploy(&lab).await.unwrap();
    let mut screen = Shell::open(&admin, &lab, "only-sh").await;
    screen.fails("test -n \"$BASH_VERSION\"").await;
    assert_eq!(screen.succeeds("echo $((40 + 2))").await, "42");

    let mut statuses = admin.join("/status-messages").await;
    let processes = descendants(server.id());
    for _ in 0..3 {
        match admin.command(&lab, 6, json!({ "node": "neither" })).await {
            Err(AckError::Refused { code: 5000, message }) => {
                for word in ["bash", "sh", "neither"] {
                    assert!(message.contains(word), "{word:?} is missing in {message:?}");
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([{ "id": screen.id, "node": "only-sh" }])));
    eventually(async || {
        let now = descendants(server.id());
        let left: Vec<_> = now.difference(&processes).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left:?}")) }
    })
    .await;
    if on.is_containerlab() {
        let top = on.prepared().docker_succeeds(&["top", &on.container("neither")]);
        assert_eq!(top.lines().count(), 2, "a header and the node's own process: {top}");
    }
    // What didn't open isn't announced as opened: the next that is told of a shell is of this one.
    admin.command(&lab, 7, json!({ "shellId": screen.id })).await.unwrap();
    let told = expect_data(&mut statuses, "that a shell was closed", |data| data.to_string().contains("hell")).await;
    assert!(told.to_string().contains("only-sh"), "{told}");
    admin.destroy(&lab).await.unwrap();
}

/// Line 20, first half.
pub(crate) async fn output_that_is_cut_within_a_character_arrives_whole(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &one_node()).await;
    admin.deploy(&lab).await.unwrap();
    let mut screen = Shell::open(&admin, &lab, "n1").await;
    // In separate writes, with a pause in which what has been written is passed on.
    let pieces = "printf '<\\xe2'; sleep 0.1; printf '\\x82'; sleep 0.1; printf '\\xac\\xf0\\x9f'; sleep 0.1; printf '\\xa6\\x80>'";
    for _ in 0..3 {
        assert_eq!(screen.succeeds(pieces).await, "<€🦀>");
    }
    // And without pauses, at whatever places buffers end.
    let many = screen.succeeds("i=0; while [ $i -lt 20000 ]; do printf '€🦀'; i=$((i+1)); done").await;
    assert_eq!(many.matches("€🦀").count(), 20_000);
    assert!(!screen.terminal.text().contains('\u{fffd}'));
    // What is no character at all is replaced, and what follows still comes.
    assert_eq!(screen.succeeds("printf 'a\\xff\\xe2b'").await, "a\u{fffd}\u{fffd}b");
    admin.destroy(&lab).await.unwrap();
}

/// Line 20, second half.
pub(crate) async fn a_paste_of_a_mebibyte_arrives_whole_and_in_order_in_one_piece_and_in_many(on: &Bench) {
    const SIZE: usize = 1 << 20;
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &one_node()).await;
    admin.deploy(&lab).await.unwrap();
    // No two pieces of it are alike.
    let paste: String =
        (0..).flat_map(|number: u32| format!("{number:x} ").into_bytes()).take(SIZE).map(char::from).collect();
    let expected = std::process::Command::new("sh")
        .arg("-c")
        .arg("md5sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write as _;
            child.stdin.take().unwrap().write_all(paste.as_bytes())?;
            child.wait_with_output()
        })
        .unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    let expected = expected.split_whitespace().next().unwrap();
    for piece in [SIZE, 64 << 10, 1000] {
        let id = admin.open_shell(&lab, "n1").await;
        let mut terminal = Lines::of(admin.join(&format!("/shells/{id}")).await);
        let command =
            format!("stty raw -echo; echo ready$((1 + 1)); head -c {SIZE} | md5sum; stty sane; echo end$((1 + 1))\n");
        terminal.namespace().emit("data", command).await.unwrap();
        terminal.until("ready2").await;
        for part in paste.as_bytes().chunks(piece) {
            terminal.namespace().emit("data", std::str::from_utf8(part).unwrap()).await.unwrap();
        }
        let screen = terminal.until("end2").await;
        assert!(screen.contains(expected), "in pieces of {piece}: {expected} is not in {screen}");
        admin.command(&lab, 7, json!({ "shellId": id })).await.unwrap();
    }
    admin.destroy(&lab).await.unwrap();
}

/// Waits until so many processes on this machine have `mark` in their command line.
pub(crate) async fn until_running(mark: &str, count: usize) {
    eventually(async || match processes_with(mark) {
        there if there.len() == count => Ok(()),
        there => Err(format!("{} of {count} processes of {mark} are there: {there:?}", there.len())),
    })
    .await;
}

/// Line 21. What a server leaves that is killed is shown by `faults`, and for the embedded runtime by `e2e crash`.
pub(crate) async fn closing_a_shell_ends_its_process_and_what_it_started_in_the_node(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &one_node()).await;
    admin.deploy(&lab).await.unwrap();
    let (mark, of_other) = (mark(), mark());
    let other = Shell::open(&admin, &lab, "n1").await;
    other.terminal.namespace().emit("data", format!("{of_other}\n")).await.unwrap();
    until_running(&of_other, 1).await;
    for _ in 0..3 {
        let screen = Shell::open(&admin, &lab, "n1").await;
        // In the background, with signals ignored, and in the foreground.
        let typed = format!("trap '' HUP TERM; {mark} & (trap '' HUP; exec {mark}) >/dev/null 2>&1 & {mark}\n");
        screen.terminal.namespace().emit("data", typed).await.unwrap();
        until_running(&mark, 3).await;
        assert_eq!(admin.command(&lab, 7, json!({ "shellId": screen.id })).await, Ok(Value::Null));
        until_running(&mark, 0).await;
    }
    assert_eq!(processes_with(&of_other).len(), 1, "another shell's process goes on");
    admin.destroy(&lab).await.unwrap();
    until_running(&of_other, 0).await;
}

pub(crate) async fn a_terminal_has_the_size_that_its_viewer_says(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    admin.deploy(&lab).await.unwrap();
    let shell = admin.open_shell(&lab, "r1").await;
    let mut terminal = Lines::of(admin.join(&format!("/shells/{shell}")).await);
    let type_in = async |terminal: &Lines, text: &str| terminal.namespace().call("data", text).await.unwrap();
    type_in(&terminal, "stty size; echo size $((0 + 1))\n").await;
    assert!(terminal.until("size 1").await.contains("24 80"));
    // The program in the foreground is told too.
    let told = "sh -c 'trap \"echo now it is \\$(stty size); exit\" WINCH; echo size $((1 + 1)); while :; do sleep 0.1; done'\n";
    type_in(&terminal, told).await;
    terminal.until("size 2").await;
    assert_eq!(terminal.namespace().call("resize", json!({"cols": 132, "rows": 43})).await, Ok(json!(null)));
    terminal.until("now it is 43 132").await;
    admin.destroy(&lab).await.unwrap();
}

pub(crate) async fn what_is_run_in_a_node_is_what_the_operator_says_for_its_kind(on: &Bench) {
    let config = "shell:\n  commands:\n    linux: [no-such-program, \"sh -c 'echo this is my own; exec sh'\"]\n";
    let server = on.builder_with(config).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    admin.deploy(&lab).await.unwrap();
    let shell = admin.open_shell(&lab, "r1").await;
    Lines::of(admin.join(&format!("/shells/{shell}")).await).until("this is my own").await;
    admin.destroy(&lab).await.unwrap();
}

pub(crate) async fn a_shell_that_ends_by_itself_is_announced_as_closed(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &one_node()).await;
    admin.deploy(&lab).await.unwrap();
    let mut announced = admin.join("/shell-commands").await;
    // Docker tells signals as shells do.
    let killed = if on.is_containerlab() { "137" } else { "signal 9" };
    for (typed, told) in [("exit 7\r", "status 7"), ("kill -9 $$\r", killed)] {
        let shell = Shell::open(&admin, &lab, "n1").await;
        shell.terminal.namespace().emit("data", typed).await.unwrap();
        let closed = |data: &Value| data["payload"]["shellId"] == shell.id;
        let closed = expect_data(&mut announced, "that the shell has closed", closed).await;
        assert_eq!(closed["payload"]["command"], 1, "{closed}");
        let message = closed["payload"]["message"].as_str().unwrap();
        assert!(message.contains(told), "{typed:?} is told as {message:?}");
        assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])));
    }
    admin.destroy(&lab).await.unwrap();
}
