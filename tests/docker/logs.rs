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
            if enough.is_some_and(|enough| String::from_utf8_lossy(&text).contains(enough)) {
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
