//! Following logs, whatever happens to the node, its container, the engine or the follower meanwhile.

use antimony_host::runtime::docker::Docker;
use antimony_host::runtime::{LogChunk, LogPosition};
use tokio::sync::mpsc;

use crate::harness::{Lab, PATIENCE, engine};

/// Reads until `enough` is in it, or to the end for `None`.
pub(crate) async fn read(log: &mut mpsc::Receiver<LogChunk>, enough: Option<&str>) -> (String, Option<LogPosition>) {
    let (mut text, mut position) = (Vec::new(), None);
    let reading = async {
        while let Some(chunk) = log.recv().await {
            text.extend_from_slice(&chunk.data);
            position = chunk.position;
            // Not all of it each time.
            let new = text.len().saturating_sub(chunk.data.len() + enough.map_or(0, str::len));
            if enough.is_some_and(|enough| String::from_utf8_lossy(&text[new..]).contains(enough)) {
                return;
            }
        }
        assert!(enough.is_none(), "the log has ended");
    };
    if tokio::time::timeout(PATIENCE, reading).await.is_err() {
        panic!("{enough:?} never came, but {:?}", String::from_utf8_lossy(&text));
    }
    (String::from_utf8(text).unwrap(), position)
}

async fn is_followed_to_its_end(docker: &Docker, options: &[&str]) {
    let lab = Lab::new(docker);
    let script = "echo one; echo two >&2; printf three; read x </proc/self/nothing; sleep 1; echo four; sleep 1000";
    lab.run("r1", options, script);
    let watch = docker.watch();
    let mut log = watch.follow_log(&lab.name, "r1", None).await.unwrap();
    let (text, _) = read(&mut log, Some("four")).await;
    for part in ["one", "two", "three"] {
        assert_eq!(text.matches(part).count(), 1, "{text:?}");
    }
    drop(lab);
    read(&mut log, None).await;
}

#[tokio::test]
async fn a_log_is_followed_until_the_lab_is_gone_with_a_terminal_and_without() {
    let Some(docker) = engine("following logs").await else { return };
    is_followed_to_its_end(&docker, &["-t"]).await;
    is_followed_to_its_end(&docker, &[]).await;
}

#[tokio::test]
async fn a_log_goes_on_over_restarts_and_with_the_next_container() {
    let Some(docker) = engine("logs over restarts").await else { return };
    for options in [&["-t"][..], &[]] {
        let lab = Lab::new(&docker);
        let other = lab.run("other", &[], "sleep 1000");
        let script = "echo start $(date +%s%N); i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; done; printf end; sleep 1000";
        let id = lab.run("r1", options, script);
        let watch = docker.watch();
        let mut log = watch.follow_log(&lab.name, "r1", None).await.unwrap();
        let mut all = String::new();
        all += &read(&mut log, Some("line 50")).await.0;
        lab.docker(&["restart", "-t", "0", &id]);
        all += &read(&mut log, Some("line 50")).await.0;
        lab.docker(&["kill", &id]);
        lab.docker(&["start", &id]);
        all += &read(&mut log, Some("line 50")).await.0;
        lab.docker(&["rm", "-f", &id]);
        lab.run("r1", options, script);
        all += &read(&mut log, Some("line 50")).await.0;
        assert_eq!(all.matches("start ").count(), 4, "{all}");
        assert_eq!(all.matches("line 17\n").count() + all.matches("line 17\r\n").count(), 4, "{all}");
        lab.docker(&["rm", "-f", &other, &lab.container("r1")]);
        read(&mut log, None).await;
    }
}

#[tokio::test]
async fn whoever_comes_back_with_a_position_gets_the_next_byte() {
    let Some(docker) = engine("resuming logs").await else { return };
    for options in [&["-t"][..], &[]] {
        let lab = Lab::new(&docker);
        let script = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; done; echo the end; sleep 1000";
        lab.run("r1", options, script);
        let watch = docker.watch();
        let mut whole = watch.follow_log(&lab.name, "r1", None).await.unwrap();
        let (whole, _) = read(&mut whole, Some("the end")).await;
        assert_eq!(whole.lines().count(), 301);
        let (mut all, mut position, mut rounds) = (String::new(), None, 0);
        while !all.contains("the end") {
            let mut log = watch.follow_log(&lab.name, "r1", position.clone()).await.unwrap();
            let chunk = tokio::time::timeout(PATIENCE, log.recv()).await.unwrap().unwrap();
            all += std::str::from_utf8(&chunk.data).unwrap();
            position = Some(LogPosition::new(chunk.position.unwrap().as_str()));
            rounds += 1;
        }
        assert_eq!(all, whole, "in {rounds} rounds");
    }
}

/// The next piece that is passed on.
async fn piece(log: &mut mpsc::Receiver<LogChunk>) -> LogChunk {
    tokio::time::timeout(PATIENCE, log.recv()).await.expect("in time").expect("goes on")
}

#[tokio::test]
async fn whoever_comes_back_to_another_log_or_to_what_is_kept_no_longer_is_told() {
    let Some(docker) = engine("logs that were replaced").await else { return };
    for options in [&["-t"][..], &[]] {
        let lab = Lab::new(&docker);
        let first = lab.run("r1", options, "echo one; sleep 1000");
        let watch = docker.watch();
        let mut log = watch.follow_log(&lab.name, "r1", None).await.unwrap();
        let chunk = piece(&mut log).await;
        assert!(!chunk.elsewhere, "it is where it was to begin");
        let position = chunk.position;
        lab.docker(&["rm", "-f", &first]);
        // It keeps a file of so many bytes, and throws away what doesn't fit.
        let little = [options, &["--log-opt", "max-size=8k", "--log-opt", "max-file=2"]].concat();
        let wait = |file: &str| format!("while [ ! -e /{file} ]; do sleep 0.05; done");
        let script =
            format!("echo begun; {}; echo on; {}; seq 1 3000; echo the end; sleep 1000", wait("on"), wait("further"));
        let second = lab.run("r1", &little, &script);
        let chunk = piece(&mut log).await;
        assert!(chunk.elsewhere, "a container in the other's place");
        let mut again = watch.follow_log(&lab.name, "r1", position).await.unwrap();
        assert!(piece(&mut again).await.elsewhere, "the same for who has been away");
        let mut known = watch.follow_log(&lab.name, "r1", chunk.position.clone()).await.unwrap();
        lab.docker(&["exec", &second, "touch", "/on"]);
        assert!(!piece(&mut known).await.elsewhere);
        lab.docker(&["exec", &second, "touch", "/further"]);
        crate::harness::until("that all is printed", async || {
            lab.docker(&["logs", "--tail", "1", &second]).contains("the end").then_some(())
        })
        .await;
        let mut gone = watch.follow_log(&lab.name, "r1", chunk.position).await.unwrap();
        assert!(piece(&mut gone).await.elsewhere, "what came behind it is gone");
        let mut broken = watch.follow_log(&lab.name, "r1", Some(LogPosition::new("nonsense"))).await.unwrap();
        assert!(piece(&mut broken).await.elsewhere);
    }
}

#[tokio::test]
async fn a_line_without_an_end_comes_whole_and_piece_by_piece() {
    let Some(docker) = engine("long lines in logs").await else { return };
    for options in [&["-t"][..], &[]] {
        let lab = Lab::new(&docker);
        // 4 MiB, and more than one pause in which nothing ends.
        let script = "stty -opost 2>/dev/null; for i in 1 2 3 4; do head -c 1048576 /dev/zero | tr '\\0' $i; sleep 0.3; done; \
            printf '\\n2026-11-22T11:50:14.123456789Z printed\\n'; printf end; exec sleep 1000";
        lab.run("r1", options, script);
        let watch = docker.watch();
        let mut log = watch.follow_log(&lab.name, "r1", None).await.unwrap();
        let (text, position) = read(&mut log, Some("printed\n")).await;
        let line = text.lines().next().unwrap();
        assert_eq!(line.len(), 4 << 20);
        for (index, digit) in ["1", "2", "3", "4"].into_iter().enumerate() {
            assert_eq!(line[index << 20..(index + 1) << 20].matches(digit).count(), 1 << 20);
        }
        assert!(text.ends_with("\n2026-11-22T11:50:14.123456789Z printed\n"), "{:?}", &text[line.len()..]);
        let mut log = watch.follow_log(&lab.name, "r1", position).await.unwrap();
        lab.docker(&["kill", &lab.container("r1")]);
        assert_eq!(read(&mut log, Some("end")).await.0, "end");
    }
}

#[tokio::test]
async fn who_does_not_read_makes_the_engine_wait_and_loses_nothing() {
    let Some(docker) = engine("slow readers of logs").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "seq 1 200000; echo the end; sleep 1000");
    let watch = docker.watch();
    let mut log = watch.follow_log(&lab.name, "r1", None).await.unwrap();
    let first = tokio::time::timeout(PATIENCE, log.recv()).await.unwrap().unwrap();
    // What is passed on is bounded: nothing comes into a full channel, and no more is read then.
    crate::harness::until("a full channel", async || (log.len() == log.max_capacity()).then_some(())).await;
    let mut text = String::from_utf8(first.data.to_vec()).unwrap();
    text += &read(&mut log, Some("the end")).await.0;
    let numbers: Vec<&str> = text.lines().collect();
    assert_eq!(numbers.len(), 200_001);
    assert!(numbers.iter().zip(1..=200_000).all(|(line, number)| *line == number.to_string()));
}
