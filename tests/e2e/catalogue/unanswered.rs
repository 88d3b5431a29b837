//! A command without an ack callback, for every command and every error: line 2.

use serde_json::{Value, json};

use crate::harness::{Client, Lines, Server, ServerBuilder, User, code_of, eventually};
use crate::{ENDLESS_DEPLOY, ONE_NODE};

/// Sends a command with nobody who waits for its answer, and then with somebody: it is refused both times, and this is
/// the code.
async fn refused(client: &Client, lab: &str, command: u8, more: Value) -> i64 {
    let mut message = json!({ "labId": lab, "command": command });
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.commands.emit("data", message.clone()).await.unwrap();
    client.commands.emit("data", message.to_string()).await.unwrap();
    code_of(client.command(lab, command, more).await)
}

const UNKNOWN: &str = "01890000-0000-7000-8000-000000000000";

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_every_command_without_anybody_who_waits_for_it_leaves_all_as_it_was() {
    if !User::Myself.can_run_labs("errors without acknowledgement") {
        return;
    }
    let config = "shell:\n  userLimit: 1\n";
    let mut server = ServerBuilder::new(User::Myself).config(config).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let node = || json!({ "node": "n1" });
    let shell = |id: &str| json!({ "shellId": id });

    // Nothing that could be read.
    for args in [vec![], vec![Value::Null], vec![json!("{")], vec![json!({ "labId": lab, "command": 8 })]] {
        admin.commands.emit_args("data", args).await.unwrap();
    }
    for (command, needs) in [(2, "node"), (3, "node"), (4, "node"), (6, "node"), (7, "shellId")] {
        assert_eq!(refused(&admin, &lab, command, json!({ needs: null })).await, 5422, "command {command}");
    }
    // A lab that isn't there, and one that doesn't run.
    for command in 0..=7 {
        assert_eq!(refused(&admin, UNKNOWN, command, json!({ "node": "n1", "shellId": UNKNOWN })).await, 5005);
    }
    for (command, more) in [(1, json!({})), (2, node()), (3, node()), (4, node()), (6, node())] {
        assert_eq!(refused(&admin, &lab, command, more).await, 5003, "command {command}");
    }
    assert_eq!(refused(&admin, &lab, 7, shell(UNKNOWN)).await, 5007);

    // Somebody who may not: neither deploy, nor destroy, nor act on nodes.
    admin.deploy(&lab).await.unwrap();
    let mine = admin.open_shell(&lab, "n1").await;
    let member = server.member("student", &["course"]).await;
    for (command, more) in [(0, json!({})), (1, json!({})), (2, node()), (4, node()), (7, shell(&mine))] {
        assert_eq!(refused(&member, &lab, command, more).await, 5403, "command {command}");
    }
    // Nodes and shells that aren't there, one shell too many, a node that doesn't run.
    for command in [2, 3, 4, 6] {
        assert_eq!(refused(&admin, &lab, command, json!({ "node": "N1" })).await, 5006, "command {command}");
    }
    assert_eq!(refused(&admin, &lab, 7, shell(UNKNOWN)).await, 5007);
    assert_eq!(refused(&admin, &lab, 6, node()).await, 5008);
    admin.command(&lab, 2, node()).await.unwrap();
    assert_eq!(refused(&admin, &lab, 6, node()).await, 5004);
    admin.destroy(&lab).await.unwrap();

    // What the runtime can't do, before it begins (5000) and when it has begun (5001).
    let topology = |name: &str, key: &str| format!("name: {name}\ntopology:\n  nodes:\n    n1:\n      {key}\n");
    let other = admin.create_lab("other", &topology("other", "kind: nokia_srlinux")).await;
    assert_eq!(refused(&admin, &other, 0, json!({})).await, 5000);
    let broken = admin.create_lab("broken", &topology("broken", "{kind: linux, cmd: /no/such/program}")).await;
    assert_eq!(code_of(admin.deploy(&broken).await), 5001);
    admin.commands.emit("data", json!({ "labId": broken, "command": 0 })).await.unwrap();
    eventually(async || match code_or_done(&admin, &broken).await {
        5001 => Ok(()),
        other => Err(format!("{other} instead of 5001")),
    })
    .await;

    // A lab that is being deployed.
    let endless = admin.create_lab("endless", ENDLESS_DEPLOY).await;
    admin.commands.emit("data", json!({ "labId": endless, "command": 0 })).await.unwrap();
    Lines::of(admin.join_once_there(&format!("/logs/{endless}")).await).until("deploy has begun").await;
    for (command, more) in [(0, json!({})), (2, node()), (3, node()), (4, node()), (6, node())] {
        assert_eq!(refused(&admin, &endless, command, more).await, 5002, "command {command}");
    }
    admin.destroy(&endless).await.unwrap();

    // All over the same connection, and nothing has come of any of it.
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])));
    assert_eq!((admin.state(&lab).await, admin.state(&endless).await), (None, None));
    assert!(server.is_alive());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// The code of a deploy that fails, also while another one is under way.
async fn code_or_done(client: &Client, lab: &str) -> i64 {
    client.deploy(lab).await.map_or_else(|error| error.code().unwrap_or(-1), |_| 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_without_anybody_who_waits_for_its_answer_is_carried_out() {
    if !User::Myself.can_run_labs("commands without acknowledgement") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let send = async |command: u8, more: Value| {
        let mut message = json!({ "labId": lab, "command": command });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        admin.commands.emit("data", message).await.unwrap();
    };
    // What REST shows of it: the lab's state and the node's.
    let becomes = async |lab_state: Option<i64>, node_state: Option<&str>| {
        eventually(async || {
            let shown = admin.api.lab(&lab).await.unwrap();
            let now = (shown["instance"]["state"].as_i64(), shown["instance"]["nodes"][0]["state"].as_str());
            if now == (lab_state, node_state) {
                Ok(())
            } else {
                Err(format!("{now:?} instead of {:?}", (lab_state, node_state)))
            }
        })
        .await;
    };
    let shells = async || admin.command(&lab, 5, json!({})).await.unwrap().as_array().unwrap().clone();

    send(0, json!({})).await;
    becomes(Some(1), Some("running")).await;
    send(2, json!({ "node": "n1" })).await;
    becomes(Some(1), Some("exited")).await;
    send(3, json!({ "node": "n1" })).await;
    becomes(Some(1), Some("running")).await;
    let mut statuses = admin.join("/status-messages").await;
    send(4, json!({ "node": "n1" })).await;
    let restarted = |data: &Value| data["payload"]["content"].as_str().is_some_and(|text| text.contains("restarted"));
    crate::harness::expect_data(&mut statuses, "that the node was restarted", restarted).await;
    becomes(Some(1), Some("running")).await;
    send(5, json!({})).await;
    send(6, json!({ "node": "n1" })).await;
    eventually(async || if shells().await.len() == 1 { Ok(()) } else { Err("no shell has been opened".into()) }).await;
    send(7, json!({ "shellId": shells().await[0]["id"] })).await;
    eventually(async || if shells().await.is_empty() { Ok(()) } else { Err("the shell has not been closed".into()) })
        .await;
    let first = admin.api.lab(&lab).await.unwrap()["instance"]["name"].clone();
    send(0, json!({})).await;
    eventually(async || {
        let shown = admin.api.lab(&lab).await.unwrap();
        let anew = shown["instance"]["state"] == 1 && shown["instance"]["name"] != first;
        if anew { Ok(()) } else { Err(format!("it was not deployed anew: {shown}")) }
    })
    .await;
    send(1, json!({})).await;
    becomes(None, None).await;
    assert!(server.is_alive());
}
