//! Shells in nodes, and what is left of them.

use std::time::Duration;

use antimony_host::runtime::docker::Docker;
use antimony_host::runtime::{Pty, PtyRequest, RuntimeError};
use bytes::Bytes;

use crate::harness::{Lab, PATIENCE, engine, until};

pub(crate) fn request(commands: &[&[&str]]) -> PtyRequest {
    let commands = commands.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect();
    PtyRequest { size: (100, 30), commands, timeout: Duration::from_secs(30) }
}

pub(crate) async fn say(pty: &Pty, text: &str) {
    pty.input.send(Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
}

/// Reads until `enough` is in it.
pub(crate) async fn hear(pty: &mut Pty, enough: &str) -> String {
    let mut text = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&text).contains(enough) {
            text.extend_from_slice(&pty.output.recv().await.expect("the terminal goes on"));
        }
    };
    let done = tokio::time::timeout(PATIENCE, reading).await.is_ok();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(done, "{enough:?} never came, but {text:?}");
    text
}

async fn end(pty: Pty) -> String {
    let Pty { mut output, exit, control, .. } = pty;
    tokio::time::timeout(PATIENCE, async { while output.recv().await.is_some() {} }).await.unwrap();
    let how = tokio::time::timeout(PATIENCE, exit).await.unwrap().unwrap();
    drop(control);
    how
}

/// Whether a process of a container has this in its command line.
pub(crate) fn runs(lab: &Lab, node: &str, what: &str) -> bool {
    lab.docker(&["top", &lab.container(node), "-eo", "pid,args"]).contains(what)
}

#[tokio::test]
async fn the_first_command_that_exists_is_run_and_tells_how_it_ended() {
    let Some(docker) = engine("opening shells").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    let commands = request(&[&["no-such-shell"], &["/etc"], &["sh", "-i"]]);
    let mut pty = docker.open_pty(&lab.name, "r1", commands).await.unwrap();
    say(&pty, "stty size; echo ma''rk\n").await;
    let text = hear(&mut pty, "mark").await;
    assert!(text.contains("30 100"), "{text:?}");
    pty.control.resize(132, 43);
    until("the new size", async || {
        say(&pty, "stty size; echo ma''rk\n").await;
        hear(&mut pty, "mark").await.contains("43 132").then_some(())
    })
    .await;
    say(&pty, "exit 3\n").await;
    assert_eq!(end(pty).await, "exit status 3");
}

#[tokio::test]
async fn where_no_command_exists_all_are_named() {
    let Some(docker) = engine("nodes without a shell").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    lab.run("r2", &[], "exit 0");
    let open = async |node: &str| match docker.open_pty(&lab.name, node, request(&[&["bash"], &["zsh", "-l"]])).await {
        Ok(_) => panic!("{node} has neither"),
        Err(error) => error,
    };
    let error = open("r1").await.to_string();
    assert!(error.contains("bash: ") && error.contains("zsh -l: ") && error.contains("not found"), "{error}");
    until("the end of r2", async || matches!(open("r2").await, RuntimeError::NodeNotRunning(_)).then_some(())).await;
    assert!(matches!(open("r3").await, RuntimeError::NoNode(node) if node == "r3"));
    let error = docker.open_pty("dkt-no-such-lab", "r1", request(&[&["sh"]])).await.err().unwrap();
    assert!(matches!(error, RuntimeError::NoInstance(_)), "{error}");
}

#[tokio::test]
async fn bytes_pass_unchanged_in_both_directions() {
    let Some(docker) = engine("bytes in terminals").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    // Of what a terminal makes of it, nothing: all bytes, among them those that look like the header of a stream.
    let script = "stty raw -echo; echo ready; head -c 1048576 | md5sum; printf '\\000\\001\\002\\000\\000'; cat";
    let mut pty = docker.open_pty(&lab.name, "r1", request(&[&["sh", "-c", script]])).await.unwrap();
    hear(&mut pty, "ready").await;
    let paste: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(std::env::temp_dir().join(&lab.name), &paste).unwrap();
    let sum = std::process::Command::new("md5sum").arg(std::env::temp_dir().join(&lab.name)).output().unwrap();
    std::fs::remove_file(std::env::temp_dir().join(&lab.name)).unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap().split(' ').next().unwrap().to_owned();
    let input = pty.input.clone();
    let typing = tokio::spawn(async move {
        for part in paste.chunks(10_000) {
            input.send(Bytes::copy_from_slice(part)).await.unwrap();
        }
        input.send(Bytes::from_static(b"\x01\x02\x00gr\xc3\xbc\xc3\x9fe")).await.unwrap();
    });
    let text = hear(&mut pty, "gr\u{fc}\u{df}e").await;
    typing.await.unwrap();
    assert!(text.contains(&sum), "{text:?}");
    assert!(text.contains("\0\u{1}\u{2}\0\0\u{1}\u{2}\0gr"), "{text:?}");
}

/// Opens a shell with a job in the background and one that ignores everything, and answers it.
async fn busy(docker: &Docker, lab: &Lab) -> Pty {
    let mut pty = docker.open_pty(&lab.name, "r1", request(&[&["sh", "-i"]])).await.unwrap();
    say(&pty, "sleep 4242 & (trap '' HUP TERM INT; sleep 4243) & echo re''ady\n").await;
    hear(&mut pty, "ready").await;
    until("its jobs", async || (runs(lab, "r1", "sleep 4242") && runs(lab, "r1", "sleep 4243")).then_some(())).await;
    pty
}

async fn nothing_is_left(lab: &Lab) {
    until("the end of the shell's processes", async || {
        let some = ["sh -i", "sleep 4242", "sleep 4243"].iter().any(|what| runs(lab, "r1", what));
        (!some).then_some(())
    })
    .await;
    assert!(runs(lab, "r1", "sleep 1000"), "the node goes on");
}

#[tokio::test]
async fn what_runs_in_a_shell_ends_with_it_however_that_ends() {
    let Some(docker) = engine("ending shells").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    let pty = busy(&docker, &lab).await;
    pty.control.terminate();
    let how = end(pty).await;
    assert!(how.starts_with("signal ") || how.starts_with("exit status "), "{how}");
    nothing_is_left(&lab).await;

    drop(busy(&docker, &lab).await);
    nothing_is_left(&lab).await;

    let docker = docker.with_owner("other");
    let _pty = busy(&docker, &lab).await;
    docker.end_shells().await;
    nothing_is_left(&lab).await;
    assert!(docker.open_pty(&lab.name, "r1", request(&[&["sh"]])).await.is_err(), "the server is closing");
}
