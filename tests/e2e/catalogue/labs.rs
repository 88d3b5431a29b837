//! The result must be right: what becomes of labs. Lines 17 and 26; what is the same on every runtime is in `tests/runtimes`.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::ONE_NODE;
use crate::harness::{Client, Place, Server, ServerBuilder, User, eventually, expect_data};

/// Line 17, where it makes a lab impossible here; what else comes from there is shown on every runtime by `runtimes`.
#[tokio::test(flavor = "multi_thread")]
async fn a_kind_from_a_group_that_this_runtime_cannot_run_is_refused_with_the_node_and_the_kind() {
    if !User::Myself.can_run_labs("a kind from a group") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let topology = "name: other
topology:
  groups:
    edge: {kind: nokia_srlinux, image: srl}
  nodes:
    of-group: {group: edge}
    plain: {kind: linux}
";
    let lab = admin.create_lab("other", topology).await;
    let error = admin.deploy(&lab).await.unwrap_err();
    assert!(error.to_string().contains("of-group") && error.to_string().contains("nokia_srlinux"), "{error}");
}

/// Line 26.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_missed_while_the_server_was_down_is_made_up_for_or_shown_as_missed() {
    if !User::Myself.can_run_labs("a missed start") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let idle = admin.create_lab("course", ONE_NODE).await;
    let topology = admin.api.lab(&idle).await.unwrap()["topologyId"].clone();
    // Far enough ahead that the server is down before it, however slow the machine.
    let start = Timestamp::now() + SignedDuration::from_secs(8);
    let end = start + SignedDuration::from_secs(1);
    let create = async |end: Option<Timestamp>| {
        let lab = json!({ "name": "scheduled", "topologyId": topology, "startTime": start, "endTime": end });
        admin.api.create("/labs", &lab).await.unwrap()
    };
    let (late, missed) = (create(None).await, create(Some(end)).await);
    assert!(server.terminate().await.success());
    assert!(Timestamp::now() < start, "this machine is too slow for this test");
    let place: Arc<Place> = Arc::clone(server.place());
    drop(server);
    while Timestamp::now() <= end {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    let server = ServerBuilder::at(&place).start().await;
    let admin: Client = server.admin().await;
    eventually(async || match admin.state(&late).await {
        Some(1) => Ok(()),
        other => Err(format!("the late lab's state is {other:?}")),
    })
    .await;
    // Whoever comes is told of the other once.
    let mut statuses = admin.join("/status-messages").await;
    let is_missed =
        |data: &Value| data["payload"]["content"].as_str().is_some_and(|text| text.contains("came and went"));
    expect_data(&mut statuses, "that a lab was missed", is_missed).await;
    assert_eq!(admin.state(&missed).await, None);
    assert_eq!(admin.state(&idle).await, None, "what was not scheduled doesn't start");
    admin.destroy(&late).await.unwrap();
}
