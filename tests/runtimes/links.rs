//! Links that go because of what somebody does to containers without containerlab.

use serde_json::{Value, json};

use crate::bench::{Bench, Runtime};
use crate::harness::{Client, Place, Shell, User, eventually, expect_data};
use crate::nodes::until_node_is;
use crate::two_routers;

const PING: &str = "ping -c 1 -W 1 10.0.0.1";

async fn until_log_says(client: &Client, lab: &str, words: &[&str]) -> String {
    let mut found = String::new();
    eventually(async || {
        let log = client.log(lab).await;
        match log.iter().find(|line| words.iter().all(|word| line.contains(word))) {
            Some(line) => {
                found.clone_from(line);
                Ok(())
            }
            None => Err(format!("{words:?} in {log:#?}")),
        }
    })
    .await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_go_with_a_restart_behind_our_back_are_made_again() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "docker restart loses links") else { return };
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    admin.deploy(&lab).await.unwrap();
    let mut peer = Shell::open(&admin, &lab, "r2").await;
    peer.succeeds(PING).await;
    on.prepared().docker_succeeds(&["restart", "--time", "1", &on.container("r1")]);
    until_log_says(&admin, &lab, &["r1", "made again", "r1:eth1 – r2:eth1"]).await;
    until_node_is(&admin, &lab, "r1", "running").await;
    eventually(async || match peer.run(PING).await {
        (0, _) => Ok(()),
        (_, printed) => Err(printed),
    })
    .await;
    // Both at once: each of them has lost it, and it is made once.
    let (one, two) = (on.container("r1"), on.container("r2"));
    on.prepared().docker_succeeds(&["restart", "--time", "1", &one, &two]);
    for node in ["r1", "r2"] {
        until_node_is(&admin, &lab, node, "running").await;
    }
    let mut peer = Shell::open(&admin, &lab, "r2").await;
    eventually(async || match peer.run(PING).await {
        (0, _) => Ok(()),
        (_, printed) => Err(printed),
    })
    .await;
    admin.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_go_with_a_restart_while_no_server_runs_are_made_again_by_the_next_one() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "docker restart without a server") else { return };
    let place = Place::new(User::Myself);
    let mut server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    admin.deploy(&lab).await.unwrap();
    assert!(server.terminate().await.success());
    drop(server);
    on.prepared().docker_succeeds(&["restart", "--time", "1", &on.container("r1")]);
    let server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    until_log_says(&admin, &lab, &["made again", "r1:eth1", "r2:eth1"]).await;
    let mut peer = Shell::open(&admin, &lab, "r2").await;
    eventually(async || match peer.run(PING).await {
        (0, _) => Ok(()),
        (_, printed) => Err(printed),
    })
    .await;
    admin.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_restarted_beside_one_that_is_gone_says_which_link_it_lacks() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a node without its neighbour") else { return };
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    admin.deploy(&lab).await.unwrap();
    on.prepared().docker_succeeds(&["rm", "--force", &on.container("r2")]);
    until_node_is(&admin, &lab, "r2", "exited").await;
    let mut statuses = admin.join("/status-messages").await;
    assert_eq!(admin.command(&lab, 4, json!({ "node": "r1" })).await, Ok(Value::Null));
    let told = |data: &Value| {
        let content = data["payload"]["content"].as_str().unwrap_or_default();
        data["payload"]["severity"] == 3
            && content.contains("r1:eth1 – r2:eth1")
            && content.contains("deploy the lab anew")
    };
    expect_data(&mut statuses, "that the link is gone", told).await;
    let line = until_log_says(&admin, &lab, &["node r1 runs without", "r1:eth1 – r2:eth1"]).await;
    assert!(line.contains("node r2 is gone: deploy the lab anew"), "{line}");
    assert_eq!(admin.deploy(&lab).await, Ok(Value::Null));
    Shell::open(&admin, &lab, "r2").await.succeeds(PING).await;
    admin.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}
