//! The result must be right: what becomes of shells. Lines 19 to 23.

use std::fs;

use serde_json::{Value, json};

use antimony_host::client::AckError;

use crate::ONE_NODE;
use crate::harness::{Client, Lines, Server, Shell, User, code_of, descendants, eventually, expect_data};

/// Line 19.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_bash_gets_a_shell_and_one_without_any_a_clear_error_and_nothing_half_open() {
    if !User::Myself.can_run_labs("nodes without bash") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let topology = "name: few-shells
topology:
  defaults: {kind: linux}
  nodes:
    only-sh:
      exec: [\"mkdir -p /opt/few\", \"ln -s /bin/sh /opt/few/sh\", \"ln -s /bin/ls /opt/few/ls\"]
      env: {PATH: /opt/few}
    neither:
      env: {PATH: /nowhere}
";
    // Programs are looked for where the node's own PATH says, so the commands above need theirs.
    let topology = topology.replace("\"mkdir", "\"/bin/mkdir").replace("\"ln", "\"/bin/ln");
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
    // What didn't open isn't announced as opened: the next that is told of a shell is of this one.
    admin.command(&lab, 7, json!({ "shellId": screen.id })).await.unwrap();
    let told = expect_data(&mut statuses, "that a shell was closed", |data| data.to_string().contains("hell")).await;
    assert!(told.to_string().contains("only-sh"), "{told}");
    admin.destroy(&lab).await.unwrap();
}

/// Line 20, first half.
#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_cut_within_a_character_arrives_whole() {
    if !User::Myself.can_run_labs("characters that are cut") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
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
#[tokio::test(flavor = "multi_thread")]
async fn a_paste_of_a_mebibyte_arrives_whole_and_in_order_in_one_piece_and_in_many() {
    if !User::Myself.can_run_labs("a large paste") {
        return;
    }
    const SIZE: usize = 1 << 20;
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    // No two pieces of it are alike.
    let paste: String =
        (0..).flat_map(|number: u32| format!("{number:x} ").into_bytes()).take(SIZE).map(char::from).collect();
    let expected = std::process::Command::new("sh")
        .arg("-c")
        .arg("cksum")
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
    for piece in [SIZE, 64 << 10, 1000] {
        let id = admin.open_shell(&lab, "n1").await;
        let mut terminal = Lines::of(admin.join(&format!("/shells/{id}")).await);
        let command =
            format!("stty raw -echo; echo ready$((1 + 1)); head -c {SIZE} | cksum; stty sane; echo end$((1 + 1))\n");
        terminal.namespace().emit("data", command).await.unwrap();
        terminal.until("ready2").await;
        for part in paste.as_bytes().chunks(piece) {
            terminal.namespace().emit("data", std::str::from_utf8(part).unwrap()).await.unwrap();
        }
        let screen = terminal.until("end2").await;
        assert!(screen.contains(expected.trim()), "in pieces of {piece}: {expected} is not in {screen}");
        admin.command(&lab, 7, json!({ "shellId": id })).await.unwrap();
    }
    admin.destroy(&lab).await.unwrap();
}

/// Processes below the server whose command line has this in it.
fn processes_with(server: &Server, words: &str) -> Vec<u32> {
    let has_them = |id: &u32| {
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).replace('\0', " ").contains(words)
    };
    descendants(server.id()).into_iter().filter(has_them).collect()
}

/// Line 21. What a server leaves that is killed is shown by `crash`.
#[tokio::test(flavor = "multi_thread")]
async fn closing_a_shell_ends_its_process_and_what_it_started_in_the_node() {
    if !User::Myself.can_run_labs("closing a shell") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let mark = "sleep 86173";
    let other = Shell::open(&admin, &lab, "n1").await;
    other.terminal.namespace().emit("data", "sleep 86174\n").await.unwrap();
    for _ in 0..3 {
        let screen = Shell::open(&admin, &lab, "n1").await;
        // In the background, with signals ignored, and in the foreground.
        let typed = format!("trap '' HUP TERM; {mark} & nohup {mark} >/dev/null 2>&1 & {mark}\n");
        screen.terminal.namespace().emit("data", typed).await.unwrap();
        eventually(async || match processes_with(&server, mark).len() {
            3.. => Ok(()),
            few => Err(format!("{few} of 3 processes run")),
        })
        .await;
        assert_eq!(admin.command(&lab, 7, json!({ "shellId": screen.id })).await, Ok(Value::Null));
        eventually(async || match processes_with(&server, mark) {
            none if none.is_empty() => Ok(()),
            left => Err(format!("left in the node: {left:?}")),
        })
        .await;
    }
    assert_eq!(processes_with(&server, "sleep 86174").len(), 1, "another shell's process goes on");
    admin.destroy(&lab).await.unwrap();
}

/// Line 22.
#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_shells_opened_at_once_with_one_open_already_exactly_nineteen_open() {
    if !User::Myself.can_run_labs("twenty shells at once") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    // From two connections: the limit is the user's, whatever they are connected by.
    let tab = Client::connect(&server, &admin.token).await;
    for round in 0..3 {
        admin.open_shell(&lab, "n1").await;
        let all: Vec<_> = (0..20)
            .map(|number| [&admin, &tab][number % 2].command_in_background(&lab, 6, json!({ "node": "n1" })))
            .collect();
        let (mut opened, mut refused) = (0, 0);
        for answer in all {
            match answer.await.unwrap() {
                Ok(Value::String(_)) => opened += 1,
                Err(AckError::Refused { code: 5008, .. }) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((opened, refused), (19, 1), "round {round}");
        let open = admin.command(&lab, 5, json!({})).await.unwrap();
        let open = open.as_array().unwrap();
        assert_eq!(open.len(), 20);
        assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "n1" })).await), 5008);
        // Somebody else has places of their own.
        if round == 0 {
            let member = server.member("student", &["course"]).await;
            member.open_shell(&lab, "n1").await;
        }
        for shell in open {
            admin.command(&lab, 7, json!({ "shellId": shell["id"] })).await.unwrap();
        }
    }
    admin.destroy(&lab).await.unwrap();
}

/// Line 23. That somebody else's shell is 5403 is shown here and by `policy`.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_reloads_the_page_may_close_and_use_the_shells_that_they_opened_before() {
    if !User::Myself.can_run_labs("shells after a reload") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let before = server.member("student", &["course"]).await;
    let (first, second) = (before.open_shell(&lab, "n1").await, before.open_shell(&lab, "n1").await);
    let screen = Lines::of(before.join(&format!("/shells/{first}")).await);
    screen.namespace().emit("data", "echo $((40 + 2))=\n").await.unwrap();
    drop((screen, before));
    // With another token of the same person, as after another login.
    let after = server.member("student", &["course"]).await;
    let both = json!([{ "id": first, "node": "n1" }, { "id": second, "node": "n1" }]);
    assert_eq!(after.command(&lab, 5, json!({})).await, Ok(both));
    Lines::of(after.join(&format!("/shells/{first}")).await).until("42=").await;
    let stranger = server.member("stranger", &["course"]).await;
    assert_eq!(code_of(stranger.command(&lab, 7, json!({ "shellId": first })).await), 5403);
    assert_eq!(stranger.command(&lab, 5, json!({})).await, Ok(json!([])));
    assert_eq!(after.command(&lab, 7, json!({ "shellId": first })).await, Ok(Value::Null));
    assert_eq!(after.command(&lab, 5, json!({})).await, Ok(json!([{ "id": second, "node": "n1" }])));
    admin.destroy(&lab).await.unwrap();
}
