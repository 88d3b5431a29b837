//! Terminals in nodes.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use antimony_host::runtime::{RuntimeDriver, RuntimeError};
use antimony_host::topology::{Node, Topology};
use bytes::Bytes;

use crate::harness::{PATIENCE, Shell, deploy, destroy, node, number, one, request, run_in, runtime, two_routers};

/// Line 19.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_shell_that_exists_opens_and_without_any_nothing_is_left_half_open() {
    let runtime = runtime();
    deploy(&runtime, "shells", one(node("r1"))).await;
    let mut pty = runtime
        .open_pty("shells", "r1", request(&[&["no-such-shell", "-l"], &["sh", "-c", "echo it is sh"]]))
        .await
        .unwrap();
    let mut seen = Vec::new();
    while let Some(chunk) = tokio::time::timeout(PATIENCE, pty.output.recv()).await.unwrap() {
        seen.extend(chunk);
    }
    assert_eq!(String::from_utf8_lossy(&seen), "it is sh\r\n");
    assert_eq!(pty.exit.await.unwrap(), "exit status 0");

    let refused = runtime.open_pty("shells", "r1", request(&[&["no-such-shell"], &["nor-this"]])).await;
    let Err(RuntimeError::Failed(text)) = refused else { panic!("a shell opened") };
    assert!(text.contains("no-such-shell") && text.contains("nor-this") && text.contains("r1"), "{text}");
    let (_, text) = run_in(&runtime, "shells", "r1", "ls -d /proc/[0-9]* | wc -l; echo; ls -l /proc/*/exe").await;
    assert!(!text.contains("antimony-host"), "{text}");
    destroy(&runtime, "shells").await;
}

/// Line 21.
#[tokio::test(flavor = "multi_thread")]
async fn ending_a_shell_ends_everything_on_its_terminal() {
    let runtime = runtime();
    deploy(&runtime, "hangup", one(node("r1"))).await;
    let count = async |what: &str| {
        let (_, text) = run_in(
            &runtime,
            "hangup",
            "r1",
            &format!("echo \"<$(cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep {what}' | wc -l)>\""),
        )
        .await;
        number(&text)
    };
    for (mark, by_dropping) in [("77001", false), ("77002", true)] {
        let mut shell = Shell::open(&runtime, "hangup", "r1").await;
        // One that ignores being hung up, one in the background, one in the foreground that ignores SIGTERM too.
        shell.run(&format!("nohup sleep {mark} >/dev/null 2>&1 & sleep {mark} &")).await;
        shell.send(&format!("trap '' HUP TERM; sleep {mark}; sleep {mark}\n")).await;
        let deadline = Instant::now() + PATIENCE;
        while count(mark).await < 3 {
            assert!(Instant::now() < deadline);
        }
        if by_dropping {
            drop(shell);
        } else {
            shell.pty.control.terminate();
            while shell.read().await {}
            assert!(shell.pty.exit.await.unwrap().starts_with("signal"));
        }
        while count(mark).await > 0 {
            assert!(Instant::now() < deadline);
        }
    }
    destroy(&runtime, "hangup").await;
}

/// Line 20: a paste arrives whole and in order, and so do the last bytes of something that ends right away.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_paste_and_the_last_output_arrive_whole() {
    let runtime = runtime();
    deploy(&runtime, "paste", one(node("r1"))).await;
    let mut pty = runtime
        .open_pty("paste", "r1", request(&[&["sh", "-c", "stty raw -echo; echo ready; head -c 1048576 | cksum"]]))
        .await
        .unwrap();
    let mut seen = String::new();
    while !seen.contains("ready") {
        seen.push_str(&String::from_utf8_lossy(
            &tokio::time::timeout(PATIENCE, pty.output.recv()).await.unwrap().unwrap(),
        ));
    }
    let paste: Vec<u8> =
        (0..1_048_576_u32).map(|index| b' ' + u8::try_from(index.wrapping_mul(2_654_435_761) >> 26).unwrap()).collect();
    let mut sum = Command::new("cksum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(&paste).unwrap();
    let sum = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    for part in paste.chunks(10_000) {
        pty.input.send(Bytes::copy_from_slice(part)).await.unwrap();
    }
    while let Some(chunk) = tokio::time::timeout(PATIENCE, pty.output.recv()).await.unwrap() {
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(seen.contains(sum.trim()), "{seen} is not {sum}");

    for _ in 0..20 {
        let mut pty = runtime.open_pty("paste", "r1", request(&[&["sh", "-c", "printf %5000d 7"]])).await.unwrap();
        let mut length = 0;
        while let Some(chunk) = tokio::time::timeout(PATIENCE, pty.output.recv()).await.unwrap() {
            length += chunk.len();
        }
        assert_eq!(length, 5000);
    }
    destroy(&runtime, "paste").await;
}

/// Line 6, as far as the runtime goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_slows_nobody_else_down() {
    let runtime = runtime();
    let flood = Node { cmd: Some("yes this is a line of some length, over and over".to_owned()), ..node("flood") };
    let topology = Topology { nodes: vec![flood, node("quiet")], links: vec![], ..two_routers() };
    deploy(&runtime, "flood", topology).await;
    let mut log = runtime.follow_log("flood", "flood", None).await.unwrap();
    let mut bytes = 0;
    while bytes < 20_000_000 {
        bytes += tokio::time::timeout(PATIENCE, log.recv()).await.unwrap().unwrap().data.len();
    }
    assert_eq!(run_in(&runtime, "flood", "quiet", "true").await.0, 0);
    let begun = Instant::now();
    destroy(&runtime, "flood").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "destroy took {:?}", begun.elapsed());
}

/// An opening that nobody waits for any more must not leave a shell behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_nobody_waits_for_is_closed_again() {
    let runtime = runtime();
    deploy(&runtime, "hasty", one(node("r1"))).await;
    for micros in [0, 200, 1000, 5000] {
        let opening = runtime.open_pty("hasty", "r1", request(&[&["sh", "-c", "trap '' HUP; exec sleep 88001"]]));
        let _ = tokio::time::timeout(Duration::from_micros(micros), opening).await;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, text) = run_in(
            &runtime,
            "hasty",
            "r1",
            "echo \"<$(cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 8[8]001' | wc -l)>\"",
        )
        .await;
        if number(&text) == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
    let mut quick = request(&[&["sh"]]);
    quick.timeout = Duration::ZERO;
    // On a busy machine the shell may be there before anybody looks at the clock.
    loop {
        match runtime.open_pty("hasty", "r1", quick.clone()).await {
            Err(RuntimeError::TimedOut(..)) => break,
            opened => drop(opened.unwrap()),
        }
        assert!(Instant::now() < deadline);
    }
    destroy(&runtime, "hasty").await;
}
