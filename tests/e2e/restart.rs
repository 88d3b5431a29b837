//! What a server still knows after it was ended and started again.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Server, ServerBuilder, User, expect_data, next};
use crate::{ONE_NODE, TWO_ROUTERS};

#[tokio::test(flavor = "multi_thread")]
async fn collections_topologies_labs_users_and_tokens_survive_a_restart() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    let collection = admin.api.create_collection("other", false, true).await.unwrap();
    let topology = admin.api.create_topology(&collection, ONE_NODE).await.unwrap();
    let member_token = server.token("student", &["other"]);
    let member = Client::connect(&server, &member_token).await;
    let theirs = member.api.create_lab(&topology, "theirs").await.unwrap();
    let shown = |client: &Client| {
        let api = client.api.clone();
        async move {
            let mut all = Vec::new();
            for path in ["/collections", "/topologies", "/labs"] {
                all.push(api.get(path).await.unwrap());
            }
            all
        }
    };
    let (admins, members) = (shown(&admin).await, shown(&member).await);
    assert_eq!(members[2][0]["id"], theirs);
    assert_eq!(members[2][0]["creator"]["id"], "student");
    assert!(server.terminate().await.success());

    let place = std::sync::Arc::clone(server.place());
    drop(server);
    let server = ServerBuilder::at(&place).start().await;
    // The same tokens: the key they are signed with has survived as well.
    let admin = Client::connect(&server, &admin.token).await;
    let member = Client::connect(&server, &member_token).await;
    assert_eq!(shown(&admin).await, admins);
    assert_eq!(shown(&member).await, members);
    admin.api.request(Method::DELETE, &format!("/labs/{lab}"), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_that_ran_when_the_server_ended_is_failed_and_told_of_and_can_be_deployed_again() {
    if !User::Myself.can_run_labs("a restart with a running lab") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    assert!(server.terminate().await.success());
    let place = std::sync::Arc::clone(server.place());
    drop(server);

    let server = ServerBuilder::at(&place).start().await;
    let admin = server.admin().await;
    assert_eq!(admin.state(&lab).await, Some(3), "its nodes are gone");
    let log = admin.log(&lab).await;
    assert!(log.iter().any(|line| line.contains("lost: its nodes ended with the server")), "{log:?}");
    // It happened before anybody could be connected; whoever comes is told once.
    let mut status = admin.join("/status-messages").await;
    let severity = |message: &Value| message["payload"]["severity"] == 3;
    expect_data(&mut status, "that the lab was lost", severity).await;
    let mut again = admin.join_elsewhere("/status-messages").await;
    admin.deploy(&lab).await.unwrap();
    assert_ne!(next(&mut again).await.data()["payload"]["severity"], 3, "they have been told already");
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])));
    admin.destroy(&lab).await.unwrap();
}
