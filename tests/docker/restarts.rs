//! The engine goes and comes back.

use std::time::Duration;

use antimony_host::runtime::docker::{Docker, DockerError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Lab, OwnEngine, until};
use crate::logs::read;
use crate::watching::next;

#[tokio::test]
async fn what_is_followed_goes_on_when_the_engine_is_back() {
    let Some(mut engine) = OwnEngine::start("an engine that is restarted").await else { return };
    let docker = Docker::connect(Some(&engine.host())).await.unwrap();
    let (lab, lost) = (Lab::new(&docker), Lab::new(&docker));
    let counting = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done";
    lab.run("tty", &["-t"], counting);
    lab.run("pipe", &[], counting);
    let removed = lost.run("r1", &[], "sleep 1000");
    // Its process and what holds that.
    let first = docker.details(&removed).await.unwrap().pid.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
    let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap();
    let processes = [first, parent].map(Pid::from_raw);
    let watch = docker.watch();
    watch.ready().await;
    let mut events = watch.subscribe();
    let mut logs = Vec::new();
    for node in ["tty", "pipe"] {
        let mut log = watch.follow_log(&lab.name, node, None).await.unwrap();
        let text = read(&mut log, Some("line 20")).await.0;
        logs.push((log, text));
    }

    engine.take_down();
    until("the loss of the engine", async || (!watch.view().connected()).then_some(())).await;
    let error = docker.containers(None).await.unwrap_err();
    assert!(matches!(error, DockerError::Broken(_) | DockerError::Unreachable { .. }), "{error}");
    assert_eq!(watch.view().node(&lost.name, "r1").unwrap().container.id, removed);
    // One container is gone altogether when the engine is back.
    for process in processes {
        kill(process, Signal::SIGKILL).unwrap();
    }
    std::fs::remove_dir_all(engine.path(&format!("data/containers/{removed}"))).unwrap();
    engine.bring_up().await;
    until("the return of the engine", async || watch.view().connected().then_some(())).await;
    let gone = tokio::time::timeout(Duration::from_secs(60), next(&mut events, &lost.name)).await.unwrap();
    assert_eq!(gone, "r1 Exited");
    let gone = next(&mut events, &lost.name).await;
    assert!(gone.starts_with("lost: ") && gone.contains("engine was away"), "{gone}");

    for ((log, text), node) in logs.iter_mut().zip(["tty", "pipe"]) {
        let last = text.lines().last().unwrap().trim().trim_start_matches("line ").parse::<u32>().unwrap();
        let end = format!("line {}", last + 200);
        *text += &read(log, Some(&end)).await.0;
        // What the engine had read and not yet written down when it was killed, it has lost itself.
        let mut whole = watch.follow_log(&lab.name, node, None).await.unwrap();
        let whole = read(&mut whole, Some(&end)).await.0;
        let until_end = |text: &str| text.split_once(&end).map(|(before, _)| before.to_owned()).unwrap();
        assert_eq!(until_end(text), until_end(&whole), "{node}");
        assert!(whole.lines().count() >= last as usize, "{whole}");
    }
}
