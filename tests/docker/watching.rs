//! Hearing of what happens to labs behind our back, and not of what was announced.

use antimony_host::labs::model::NodeState;
use antimony_host::runtime::RuntimeEvent;
use tokio::sync::broadcast;

use crate::harness::{Lab, PATIENCE, engine};

/// What is told next about an instance, in words.
pub(crate) async fn next(events: &mut broadcast::Receiver<RuntimeEvent>, lab: &str) -> String {
    let waiting = async {
        loop {
            match events.recv().await.unwrap() {
                RuntimeEvent::Node { instance, node, state } if instance == lab => return format!("{node} {state:?}"),
                RuntimeEvent::InstanceLost { instance, reason } if instance == lab => return format!("lost: {reason}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("something is told")
}

#[tokio::test]
async fn whatever_happens_to_a_node_behind_our_back_is_told() {
    let Some(docker) = engine("watching nodes").await else { return };
    let lab = Lab::new(&docker);
    let (r1, r2) = (lab.run("r1", &[], "sleep 1000"), lab.run("r2", &[], "sleep 1000"));
    let watch = docker.watch();
    let mut events = watch.subscribe();
    watch.look(&lab.name).await.unwrap();
    watch.ready().await;
    while events.try_recv().is_ok() {}
    lab.docker(&["kill", &r1]);
    assert_eq!(next(&mut events, &lab.name).await, "r1 Exited");
    lab.docker(&["start", &r1]);
    assert_eq!(next(&mut events, &lab.name).await, "r1 Running");
    lab.docker(&["restart", "-t", "0", &r2]);
    assert_eq!(next(&mut events, &lab.name).await, "r2 Exited");
    assert_eq!(next(&mut events, &lab.name).await, "r2 Running");
    lab.docker(&["rm", "-f", &r1]);
    assert_eq!(next(&mut events, &lab.name).await, "r1 Exited");
    lab.run("r1", &[], "sleep 1000");
    // It is made first, and started a moment later, which may be seen or not.
    let mut told = next(&mut events, &lab.name).await;
    if told == "r1 Starting" {
        told = next(&mut events, &lab.name).await;
    }
    assert_eq!(told, "r1 Running");
    lab.docker(&["rm", "-f", &r2]);
    assert_eq!(next(&mut events, &lab.name).await, "r2 Exited");
    lab.docker(&["rm", "-f", &lab.container("r1")]);
    assert_eq!(next(&mut events, &lab.name).await, "r1 Exited");
    let lost = next(&mut events, &lab.name).await;
    assert!(lost.starts_with("lost: ") && lost.contains(&lab.container("r1")), "{lost}");
}

#[tokio::test]
async fn health_is_told_when_it_changes() {
    let Some(docker) = engine("watching health").await else { return };
    let lab = Lab::new(&docker);
    let check = ["--health-cmd", "test -e /ok", "--health-interval", "1s", "--health-start-period", "60s"];
    lab.run("r1", &check, "sleep 1000");
    let watch = docker.watch();
    watch.ready().await;
    let mut events = watch.subscribe();
    assert_eq!(watch.view().node(&lab.name, "r1").unwrap().container.state(), NodeState::Starting);
    lab.docker(&["exec", &lab.container("r1"), "touch", "/ok"]);
    assert_eq!(next(&mut events, &lab.name).await, "r1 Running");
}

#[tokio::test]
async fn what_was_announced_is_no_loss() {
    let Some(docker) = engine("announced changes").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    let watch = docker.watch();
    watch.ready().await;
    let mut events = watch.subscribe();
    let mut log = watch.follow_log(&lab.name, "r1", None).await.unwrap();

    // Taken down and brought up again: the node is told once, at the end.
    let expected = watch.expect(&lab.name);
    lab.docker(&["rm", "-f", &lab.container("r1")]);
    watch.look(&lab.name).await.unwrap();
    lab.run("r1", &[], "echo again; sleep 1000");
    watch.look(&lab.name).await.unwrap();
    drop(expected);
    assert_eq!(next(&mut events, &lab.name).await, "r1 Running");
    assert_eq!(log.recv().await.unwrap().data, "again\n", "the log went on with the next container");

    // Taken down for good: nothing is told.
    let expected = watch.expect(&lab.name);
    lab.docker(&["rm", "-f", &lab.container("r1")]);
    drop(expected);
    watch.look(&lab.name).await.unwrap();
    assert!(log.recv().await.is_none(), "the log has ended");
    assert!(watch.view().nodes(&lab.name).is_none());
    while let Ok(event) = events.try_recv() {
        assert!(!format!("{event:?}").contains(&lab.name), "{event:?}");
    }
}

#[tokio::test]
async fn what_happens_to_others_while_one_node_is_worked_on_is_told() {
    let Some(docker) = engine("changes beside announced ones").await else { return };
    let lab = Lab::new(&docker);
    for node in ["r1", "r2", "r3"] {
        lab.run(node, &[], "sleep 1000");
    }
    let watch = docker.watch();
    watch.ready().await;
    let mut events = watch.subscribe();
    let expected = watch.expect_node(&lab.name, "r1");
    lab.docker(&["kill", &lab.container("r1")]);
    watch.look(&lab.name).await.unwrap();
    lab.docker(&["rm", "-f", &lab.container("r2")]);
    assert_eq!(next(&mut events, &lab.name).await, "r2 Exited", "at once, and nothing of r1");
    drop(expected);
    assert_eq!(next(&mut events, &lab.name).await, "r1 Exited");

    let expected = watch.expect_node(&lab.name, "r1");
    lab.docker(&["rm", "-f", &lab.container("r1"), &lab.container("r3")]);
    assert_eq!(next(&mut events, &lab.name).await, "r3 Exited");
    let lost = next(&mut events, &lab.name).await;
    assert!(lost.starts_with("lost: "), "{lost}");
    drop(expected);
}

#[tokio::test]
async fn nodes_that_have_gone_while_a_lab_was_worked_on_are_told_afterwards() {
    let Some(docker) = engine("nodes that go meanwhile").await else { return };
    let lab = Lab::new(&docker);
    lab.run("r1", &[], "sleep 1000");
    lab.run("r2", &[], "sleep 1000");
    let watch = docker.watch();
    watch.ready().await;
    let mut events = watch.subscribe();
    let expected = watch.expect(&lab.name);
    lab.docker(&["rm", "-f", &lab.container("r1")]);
    watch.look(&lab.name).await.unwrap();
    drop(expected);
    assert_eq!(next(&mut events, &lab.name).await, "r1 Exited");
    assert_eq!(next(&mut events, &lab.name).await, "r2 Running");
}

#[tokio::test]
async fn what_was_to_stay_and_has_gone_meanwhile_is_a_loss() {
    let Some(docker) = engine("an announced lab that goes meanwhile").await else { return };
    let lab = Lab::new(&docker);
    let watch = docker.watch();
    watch.ready().await;
    let mut events = watch.subscribe();
    let expected = watch.expect(&lab.name);
    lab.run("r1", &[], "sleep 1000");
    watch.look(&lab.name).await.unwrap();
    lab.docker(&["rm", "-f", &lab.container("r1")]);
    watch.look(&lab.name).await.unwrap();
    expected.stays();
    let lost = next(&mut events, &lab.name).await;
    assert!(lost.starts_with("lost: "), "{lost}");
}
