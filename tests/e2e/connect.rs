//! Who gets into which namespace, and what those hear who don't.

use antimony_host::client::{ConnectError, Connection};
use serde_json::json;

use crate::harness::{Lines, Server, User, within};
use crate::{ONE_NODE, TWO_ROUTERS};

fn refused(message: &str) -> ConnectError {
    ConnectError::Refused(message.to_owned())
}

/// A connection of its own for each attempt: for some microseconds after it has refused a join, the library ignores
/// another one to the same namespace on the same connection.
async fn stranger(server: &Server) -> Connection {
    Connection::open(&server.url).await.unwrap()
}

const GLOBAL: [&str; 4] = ["/lab-commands", "/lab-updates", "/status-messages", "/shell-commands"];

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_every_namespace_says_unauthorized() {
    let server = Server::start().await;
    let admin = server.admin().await;
    drop(admin.join("/lab-updates").await);
    for path in GLOBAL {
        for auth in [None, Some(json!({})), Some(json!({ "token": null }))] {
            let error = stranger(&server).await.connect(path, auth.clone()).await.unwrap_err();
            assert_eq!(error, refused("Unauthorized"), "{path} with {auth:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_bad_token_every_namespace_says_invalid_token() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let other = Server::start().await;
    let mut tampered = admin.token.clone();
    tampered.replace_range(tampered.len() - 8.., "AAAAAAAA");
    for path in GLOBAL {
        // An empty one is what the deployed web client shows after a login, and "Invalid Token" what it then acts on.
        for token in ["", "nonsense", "a.b.c", &tampered, &other.token("somebody", &[])] {
            let error = stranger(&server).await.connect_with_token(path, token).await.unwrap_err();
            assert_eq!(error, refused("Invalid Token"), "{path} with {token}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_does_not_exist_says_invalid_namespace() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let unknown = "01890000-0000-7000-8000-000000000000";
    // The lab has never been deployed, so its log isn't there yet.
    for path in [format!("/logs/{lab}"), format!("/logs/{unknown}"), format!("/shells/{unknown}"), "/nowhere".into()] {
        assert_eq!(admin.try_join(&path).await.unwrap_err(), refused("Invalid namespace"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_namespaces_leave_the_others_of_their_connection_alive() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    for (path, token) in [("/lab-updates", ""), ("/status-messages", "nonsense"), ("/nowhere", &admin.token)] {
        admin.connection.connect_with_token(path, token).await.unwrap_err();
        assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])), "after {path} was refused");
    }
    // And the same namespace can be joined after all.
    admin.join("/lab-updates").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_right_after_the_connect_is_answered() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    for round in 0..200 {
        let commands = admin.join_elsewhere("/lab-commands").await;
        let answer = commands.call("data", json!({ "labId": lab, "command": 5 }));
        assert_eq!(within(&format!("the answer of round {round}"), answer).await, Ok(json!([])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_outside_the_collection_gets_no_access_to_logs_and_shells() {
    if !User::Myself.can_run_labs("access to logs and shells") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let shell = admin.open_shell(&lab, "r1").await;
    let outsider = server.member("outsider", &["elsewhere"]).await;
    let insider = server.member("insider", &["course"]).await;

    let log = format!("/logs/{lab}");
    assert_eq!(outsider.try_join(&log).await.unwrap_err(), refused("No Access"));
    Lines::of(insider.join(&log).await).until("host name is r1").await;

    let terminal = format!("/shells/{shell}");
    assert_eq!(outsider.try_join(&terminal).await.unwrap_err(), refused("No Access"));
    assert_eq!(insider.try_join(&terminal).await.unwrap_err(), refused("No Access"), "somebody else's terminal");
    admin.join(&terminal).await;
    admin.destroy(&lab).await.unwrap();
}
