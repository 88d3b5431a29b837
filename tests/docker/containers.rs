//! Listing, and what can be done to one container.

use std::time::Duration;

use antimony_host::labs::model::NodeState;
use antimony_host::runtime::docker::{Health, Phase};

use crate::harness::{Lab, engine, until};

#[tokio::test]
async fn a_listing_answers_all_labs_with_what_their_labels_say() {
    let Some(docker) = engine("listing containers").await else { return };
    let lab = Lab::new(&docker);
    let id = lab.run("spine-1", &["-t"], "sleep 1000");
    lab.run("Leaf-a-b", &[], "exit 3");
    let gone = until("the end of a node", async || {
        let found = docker.container(&lab.name, "Leaf-a-b").await.unwrap().unwrap();
        (found.state() == NodeState::Exited).then_some(found)
    });
    let gone = gone.await;
    let all = docker.containers(None).await.unwrap();
    let ours: Vec<_> = all.iter().filter(|container| container.lab == lab.name).collect();
    assert_eq!(ours.iter().map(|container| container.node.as_str()).collect::<Vec<_>>(), ["Leaf-a-b", "spine-1"]);
    let spine = ours[1];
    assert_eq!((spine.id.as_str(), spine.kind.as_str(), spine.phase), (id.as_str(), "linux", Phase::Running));
    assert_eq!(spine.topology_file.as_deref(), Some("/labs/x.clab.yml".as_ref()));
    assert_eq!(spine.owner.as_deref(), Some("me"));
    assert_eq!(spine.status().container_name, lab.container("spine-1"));
    let details = docker.details(&id).await.unwrap();
    assert!(details.tty && details.running && details.pid.is_some() && details.started_at.is_some());
    let details = docker.details(&gone.id).await.unwrap();
    assert_eq!((details.tty, details.running, details.exit_code), (false, false, Some(3)));
    assert!(docker.stats(&id).await.unwrap().processes >= Some(1));
}

#[tokio::test]
async fn health_is_told_where_the_image_checks_it() {
    let Some(docker) = engine("health").await else { return };
    let lab = Lab::new(&docker);
    let check = ["--health-cmd", "test -e /ok", "--health-interval", "1s", "--health-retries", "1"];
    lab.run("r1", &[&check[..], &["--health-start-period", "60s"]].concat(), "sleep 1000");
    let first = docker.container(&lab.name, "r1").await.unwrap().unwrap();
    assert_eq!((first.health, first.state()), (Some(Health::Starting), NodeState::Starting));
    lab.docker(&["exec", &lab.container("r1"), "touch", "/ok"]);
    let healthy = until("health", async || {
        let found = docker.container(&lab.name, "r1").await.unwrap().unwrap();
        (found.health == Some(Health::Healthy)).then_some(found)
    });
    assert_eq!(healthy.await.state(), NodeState::Running);
}

#[tokio::test]
async fn stopping_gives_a_process_its_time_and_starting_and_removing_may_be_repeated() {
    let Some(docker) = engine("stopping containers").await else { return };
    let lab = Lab::new(&docker);
    let id = lab.run("r1", &[], "trap 'exit 7' TERM; while :; do sleep 0.1; done");
    for _ in 0..2 {
        docker.stop(&id, Duration::from_secs(30)).await.unwrap();
    }
    assert_eq!(docker.details(&id).await.unwrap().exit_code, Some(7), "it could react");
    for _ in 0..2 {
        docker.start(&id).await.unwrap();
    }
    lab.docker(&["pause", &id]);
    assert_eq!(docker.container(&lab.name, "r1").await.unwrap().unwrap().state(), NodeState::Exited);
    docker.start(&id).await.unwrap();
    assert_eq!(docker.container(&lab.name, "r1").await.unwrap().unwrap().state(), NodeState::Running);
    for _ in 0..2 {
        docker.remove(&id).await.unwrap();
    }
    assert_eq!(docker.containers(Some(&lab.name)).await.unwrap(), []);
}
