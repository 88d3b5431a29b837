//! The AsyncAPI document: where it is to be had, and that every part of it is really seen on the wire.

use std::collections::BTreeSet;

use antimony_host::client::Connection;
use serde_json::{Value, json};

use crate::harness::{
    Client, Lines, Server, ServerBuilder, Shell, User, code_of, contract, expect_data, next, run_program,
};
use crate::{ENDLESS_DEPLOY, TWO_ROUTERS};

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_printed_and_served_to_anybody() {
    let printed = run_program(&["asyncapi"]).await;
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.starts_with("# The Socket.IO API"), "{printed:.80}");
    let server = Server::start().await;
    for path in ["/asyncapi.yaml", "/api/asyncapi.yaml"] {
        let answer = antimony_host::client::http().get(format!("{}{path}", server.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/yaml");
        assert_eq!(answer.text().await.unwrap(), printed, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_channel_message_and_value_of_the_document_is_seen_on_the_wire() {
    let test = "all of the contract";
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let config = "shell:\n  userLimit: 2\n";
    let server = ServerBuilder::new(User::Myself).config(config).start().await;
    refusals(&server).await;
    let admin = server.admin().await;
    let mut statuses = admin.join("/status-messages").await;
    let mut updates = admin.join("/lab-updates").await;
    let mut shell_commands = admin.join("/shell-commands").await;
    // One of its nodes says what it is told.
    let telling = "    r1:\n      cmd: sh -c 'rm -f /tmp/say; mkfifo /tmp/say; while :; do cat /tmp/say; done'\n";
    let lab = admin.create_lab("course", &TWO_ROUTERS.replace("    r1:\n", telling)).await;
    expect_data(&mut updates, "an update about the lab", |data| data["payload"]["labId"] == *lab).await;

    failures(&server, &admin).await;
    for severity in [1, 3, 2, 0] {
        expect_data(&mut statuses, "a status", |data| data["payload"]["severity"] == severity).await;
    }

    // The first line of the log comes live, to somebody who has had the backlog.
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    let mut log = Lines::of(admin.join_once_there(&format!("/logs/{lab}")).await);
    log.until("its host name is r1").await;
    deploy.await.unwrap().unwrap();
    let command = json!({ "labId": lab, "command": 5 });
    admin.commands.call("data", command.to_string()).await.unwrap();
    for command in [2, 3, 4] {
        admin.command(&lab, command, json!({ "node": "r1" })).await.unwrap();
    }
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    shell.succeeds("true").await;
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([{ "id": shell.id, "node": "r1" }])));
    let typed = shell.terminal.namespace().call_binary("data", "echo bytes $((1 + 1))\r").await;
    assert_eq!(typed, Ok(Value::Null));
    shell.terminal.until("bytes 2").await;
    let resized = shell.terminal.namespace().call("resize", json!({ "cols": 132, "rows": 43 })).await;
    assert_eq!(resized, Ok(Value::Null));
    assert_eq!(shell.succeeds("stty size").await, "43 132");
    let mut node_log = Lines::of(admin.join(&format!("/logs/{lab}/r1")).await);
    shell.succeeds("until [ -p /tmp/say ]; do sleep 0.02; done; echo for the log > /tmp/say").await;
    node_log.until("for the log").await;
    let mut stats = admin.join(&format!("/stats/{lab}")).await;
    expect_data(&mut stats, "what nodes use", |data| data["payload"]["nodes"][0]["node"] == "r1").await;
    let another = admin.open_shell(&lab, "r2").await;
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "r2" })).await), 5008);
    admin.command(&lab, 7, json!({ "shellId": another })).await.unwrap();
    assert_eq!(code_of(admin.command(&lab, 7, json!({ "shellId": another })).await), 5007);
    let closed = next(&mut shell_commands).await;
    assert_eq!(closed.data()["payload"]["command"], 1);
    // A process that goes on without its terminal: there is nobody left to talk to.
    shell.terminal.namespace().emit("data", "exec sleep 600 <&- >&- 2>&-\r").await.unwrap();
    let broken = next(&mut shell_commands).await;
    assert_eq!(
        (&broken.data()["payload"]["shellId"], &broken.data()["payload"]["command"]),
        (&json!(shell.id), &json!(0))
    );
    assert_eq!(code_of(shell.terminal.namespace().call("data", "too late\r").await), 5007);
    admin.command(&lab, 2, json!({ "node": "r2" })).await.unwrap();
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "r2" })).await), 5004);
    admin.destroy(&lab).await.unwrap();

    let mut seen = contract::seen(&server.url);
    seen.extend(fatal(test).await);
    let missing: BTreeSet<String> = contract::all_there_is().difference(&seen).cloned().collect();
    assert_eq!(missing, BTreeSet::new(), "in the document, and not seen");
}

/// Each way not to be let in.
async fn refusals(server: &Server) {
    let stranger = server.member("stranger", &[]).await;
    let admin = server.admin().await;
    let lab = admin.create_lab("hidden", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    assert_eq!(stranger.try_join(&format!("/logs/{lab}")).await.unwrap_err().to_string(), "No Access");
    assert_eq!(stranger.try_join("/shells/none").await.unwrap_err().to_string(), "Invalid namespace");
    assert_eq!(code_of(stranger.command(&lab, 1, json!({})).await), 5403);
    admin.destroy(&lab).await.unwrap();
    for (auth, refusal) in [(json!({}), "Unauthorized"), (json!({ "token": "x" }), "Invalid Token")] {
        let connection = Connection::open(&server.url).await.unwrap();
        assert_eq!(connection.connect("/lab-updates", Some(auth)).await.unwrap_err().to_string(), refusal);
    }
}

/// Each error that doesn't need a lab that runs.
async fn failures(server: &Server, admin: &Client) {
    let lab = admin.create_lab("failing", crate::specification::NO_SUCH_PROGRAM).await;
    assert_eq!(code_of(admin.destroy(&lab).await), 5003);
    assert_eq!(code_of(admin.deploy(&lab).await), 5001);
    assert_eq!(code_of(admin.command("nothing", 5, json!({})).await), 5005);
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "n9" })).await), 5006);
    assert_eq!(code_of(admin.commands.call("data", json!({ "labId": lab })).await), 5422);
    let endless = admin.create_lab("endless", ENDLESS_DEPLOY).await;
    let deploy = admin.command_in_background(&endless, 0, json!({}));
    Lines::of(admin.join_once_there(&format!("/logs/{endless}")).await).until("deploy has begun").await;
    assert_eq!(code_of(admin.deploy(&endless).await), 5002);
    admin.destroy(&endless).await.unwrap();
    assert_eq!(code_of(deploy.await.unwrap()), 5000, "of {}", server.url);
}

/// What is seen of a server whose formatter finds everything fatal, which no bundled one does.
async fn fatal(test: &str) -> BTreeSet<String> {
    let Some(formatter) = crate::plugins::build(test, "tests/guests/bad-formatter").await else {
        return BTreeSet::from(["Severity 4".to_owned()]);
    };
    let entry = format!("    - path: {}\n      settings: {{ fatal: true }}\n", formatter.display());
    let config = format!("plugins:\n  status-formatter:\n{entry}");
    let server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let admin = server.admin().await;
    let mut statuses = admin.join("/status-messages").await;
    let lab = admin.create_lab("course", crate::ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    expect_data(&mut statuses, "a fatal status", |data| data["payload"]["severity"] == 4).await;
    admin.destroy(&lab).await.unwrap();
    contract::seen(&server.url)
}
