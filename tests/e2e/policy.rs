//! Who may do what by default, and that a refusal means that nothing has happened.

use std::time::Duration;

use antimony_host::client::AckError;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Server, User, code_of, eventually, expect_data};
use crate::{ONE_NODE, TWO_ROUTERS};

/// The sentence of a refusal, which has to be 5403 and to name the plugin that spoke.
async fn refused(client: &Client, lab: &str, command: u8) -> String {
    match client.command(lab, command, json!({})).await {
        Err(antimony_host::client::AckError::Refused { code: 5403, message }) => {
            assert!(message.contains("auth-policy"), "the sentence names the plugin: {message}");
            message
        }
        other => panic!("error 5403 was due: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_may_not_deploy_or_destroy_what_somebody_else_created() {
    if !User::Myself.can_run_labs("refused commands") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    let member = server.member("student", &["course"]).await;
    refused(&member, &lab, 0).await;
    assert_eq!(admin.state(&lab).await, None, "the refused deploy did nothing");

    admin.deploy(&lab).await.unwrap();
    let before = (admin.api.lab(&lab).await.unwrap(), admin.log(&lab).await);
    refused(&member, &lab, 1).await;
    refused(&member, &lab, 0).await;
    // The lab answers other commands, so whatever the refused ones had set off would have begun by now.
    admin.command(&lab, 5, json!({})).await.unwrap();
    let after = (admin.api.lab(&lab).await.unwrap(), admin.log(&lab).await);
    assert_eq!(before, after, "neither the lab nor its log have changed");
    admin.destroy(&lab).await.unwrap();
}

/// Nothing about it is created by the member, so that it is the deploy that is judged.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_may_not_deploy_what_asks_too_much_of_the_host_wherever_the_topology_says_so() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let topology = admin.api.create_topology(&collection, ONE_NODE).await.unwrap();
    let member = server.member("student", &["course"]).await;
    let lab = member.api.create_lab(&topology, "mine").await.unwrap();
    let n1 = "topology: {nodes: {n1: {kind: linux, image: x, group: g}}, PLACE}";
    let change = async |definition: &str| {
        let change = json!({ "collectionId": collection, "definition": definition, "syncUrl": "" });
        admin.api.request(Method::PATCH, &format!("/topologies/{topology}"), Some(&change)).await.unwrap();
    };
    for (definition, words) in [
        (n1.replace("PLACE", "defaults: {binds: ['/etc:/mnt']}"), "bind /etc:/mnt"),
        (n1.replace("PLACE", "defaults: {privileged: true}"), "privileged mode"),
        (n1.replace("PLACE", "kinds: {linux: {cap-add: [SYS_ADMIN]}}"), "the capability SYS_ADMIN"),
        (n1.replace("PLACE", "kinds: {linux: {devices: [/dev/mem]}}"), "device /dev/mem"),
        (n1.replace("PLACE", "groups: {g: {network-mode: host}}"), "the network mode host"),
        (n1.replace("PLACE", "groups: {g: {license: /etc/shadow}}"), "bind /etc/shadow"),
        (
            n1.replace("PLACE", "groups: {g: {stages: {create: {exec: [{command: id, target: host}]}}}}"),
            "privileged mode",
        ),
        (n1.replace("PLACE", "defaults: {ports: ['8080:80']}"), "a port of the host (ports: 8080:80)"),
        (format!("mgmt: {{bridge: docker0}}\n{}", n1.replace("PLACE", "links: []")), "(bridge docker0)"),
        (
            format!("mgmt: {{network: other}}\n{}", n1.replace("PLACE", "links: []")),
            "a management network of its own (network other)",
        ),
    ] {
        let definition = format!("name: one\n{definition}\n");
        change(&definition).await;
        // The lab hears of it a moment later; until then, it is refused as well.
        eventually(async || match member.deploy(&lab).await {
            Err(AckError::Refused { code: 5403, message }) if message.contains(words) => Ok(()),
            other => Err(format!("{definition}: {other:?}")),
        })
        .await;
        assert_eq!(admin.state(&lab).await, None, "nothing was begun");
        assert!(admin.api.lab(&lab).await.unwrap()["instance"].is_null());
    }
    // Administrators may: what is in the way is this runtime alone.
    let privileged = n1.replace("PLACE", "defaults: {privileged: true}");
    change(&format!("name: one\n{privileged}\n")).await;
    assert_eq!(code_of(admin.deploy(&lab).await), 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_deploys_and_destroys_what_they_created() {
    if !User::Myself.can_run_labs("a member's own lab") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", false, true).await.unwrap();
    let topology = admin.api.create_topology(&collection, TWO_ROUTERS).await.unwrap();
    let member = server.member("student", &["course"]).await;
    let lab = member.api.create_lab(&topology, "mine").await.unwrap();
    assert_eq!(member.deploy(&lab).await, Ok(Value::Null));
    member.open_shell(&lab, "r2").await;
    // Somebody else of the same collection sees it and may use its nodes, and no more.
    let other = server.member("other", &["course"]).await;
    other.api.lab(&lab).await.unwrap();
    other.open_shell(&lab, "r1").await;
    assert_eq!(other.command(&lab, 5, json!({})).await.unwrap().as_array().unwrap().len(), 1, "only their own shells");
    refused(&other, &lab, 1).await;
    assert_eq!(member.destroy(&lab).await, Ok(Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_shell_cannot_be_closed() {
    if !User::Myself.can_run_labs("closing somebody else's shell") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let shell = admin.open_shell(&lab, "n1").await;
    let member = server.member("student", &["course"]).await;
    assert_eq!(code_of(member.command(&lab, 7, json!({ "shellId": shell })).await), 5403);
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([{ "id": shell, "node": "n1" }])));
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_outside_the_collection_sees_nothing_of_its_labs() {
    if !User::Myself.can_run_labs("updates and messages of other collections") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let hidden = admin.create_lab("course", ONE_NODE).await;
    let shown = admin.create_lab("elsewhere", ONE_NODE).await;
    let outsider = server.member("outsider", &["elsewhere"]).await;
    let mut updates = outsider.join("/lab-updates").await;
    let mut statuses = outsider.join("/status-messages").await;
    for lab in [&hidden, &shown] {
        admin.deploy(lab).await.unwrap();
        admin.destroy(lab).await.unwrap();
    }
    // The last that there is to hear of the lab that they may see has come: nothing of the other came before.
    let not_hidden = |data: &Value| assert!(!data.to_string().contains(&hidden), "{data}");
    expect_data(&mut updates, "an update of the visible lab", |data| {
        not_hidden(data);
        data["payload"]["labId"] == *shown
    })
    .await;
    expect_data(&mut statuses, "a message about the visible lab", |data| {
        not_hidden(data);
        data["payload"]["severity"] == 0
    })
    .await;
    for namespace in [&mut updates, &mut statuses] {
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(200), namespace.next_event()).await {
            not_hidden(event.unwrap().data());
        }
    }

    let ids: Vec<_> = outsider.api.get("/labs").await.unwrap().as_array().unwrap().clone();
    assert_eq!(ids.iter().map(|lab| &lab["id"]).collect::<Vec<_>>(), [&json!(shown)]);
    let (status, _) = outsider.api.lab(&hidden).await.unwrap_err().refusal().unwrap();
    assert!([403, 404].contains(&status), "{status}");
    for command in [0, 1, 5] {
        let code = code_of(outsider.command(&hidden, command, json!({})).await);
        assert!([5403, 5005].contains(&code), "command {command}: {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_create_collections_and_members_write_where_they_may() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let open = admin.api.create_collection("open", true, true).await.unwrap();
    let closed = admin.api.create_collection("closed", false, false).await.unwrap();
    let member = server.member("student", &["open", "closed"]).await;
    let forbidden = |result: Result<String, antimony_host::client::ApiError>| {
        assert_eq!(result.unwrap_err().refusal().map(|(status, _)| status), Some(403));
    };
    forbidden(member.api.create_collection("mine", true, true).await);
    forbidden(member.api.create_topology(&closed, ONE_NODE).await);
    let topology = member.api.create_topology(&open, ONE_NODE).await.unwrap();
    member.api.create_lab(&topology, "mine").await.unwrap();
    let closed_topology = admin.api.create_topology(&closed, ONE_NODE).await.unwrap();
    forbidden(member.api.create_lab(&closed_topology, "mine").await);
    let collections = member.api.get("/collections").await.unwrap();
    assert_eq!(collections.as_array().unwrap().len(), 2);
}
