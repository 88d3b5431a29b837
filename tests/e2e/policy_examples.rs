//! The example policies in Rust, each in a real server, with what an institution would set.

use serde_json::{Value, json};

use crate::ONE_NODE;
use crate::harness::{Client, ServerBuilder, User};
use crate::plugins::build;

/// A configuration with the bundled policy, and an example behind it.
async fn with_example(test: &str, example: &str, settings: &str) -> Option<String> {
    let component = build(test, &format!("examples/plugins/{example}")).await?;
    Some(format!(
        "plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n      settings: {{ allow-host-access: true }}\n    \
         - path: {}\n      settings: {settings}\n",
        component.display()
    ))
}

/// A refusal has to be 5403 and to name the plugin and its rule.
fn refused(answer: Result<Value, antimony_host::client::AckError>, plugin: &str, rule: &str) {
    match answer {
        Err(antimony_host::client::AckError::Refused { code: 5403, message }) => {
            assert!(message.contains(plugin) && message.contains(rule), "{message}");
        }
        other => panic!("error 5403 was due: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_lab_is_refused_until_one_is_destroyed() {
    let test = "quotas";
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let settings = "{ everywhere: { max-running: 2 }, collections: { closed: { hours: [] } } }";
    let Some(config) = with_example(test, "quotas-and-hours", settings).await else { return };
    let server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let admin = server.admin().await;
    let mut topologies = Vec::new();
    for name in ["course", "closed"] {
        let collection = admin.api.create_collection(name, true, true).await.unwrap();
        topologies.push(admin.api.create_topology(&collection, ONE_NODE).await.unwrap());
    }
    let ada = server.member("ada", &["course", "closed"]).await;
    let lab = async |client: &Client, topology: usize, name: &str| {
        client.api.create_lab(&topologies[topology], name).await.unwrap()
    };
    let labs = [lab(&ada, 0, "one").await, lab(&ada, 0, "two").await, lab(&ada, 0, "three").await];
    ada.deploy(&labs[0]).await.unwrap();
    ada.deploy(&labs[1]).await.unwrap();
    refused(ada.deploy(&labs[2]).await, "quotas-and-hours", "max-running");
    assert_eq!(ada.state(&labs[2]).await, None, "nothing has happened");
    ada.deploy(&labs[1]).await.unwrap();
    // It is each person's own quota, and administrators have none.
    let bob = server.member("bob", &["course"]).await;
    let his = lab(&bob, 0, "his").await;
    bob.deploy(&his).await.unwrap();
    ada.destroy(&labs[0]).await.unwrap();
    ada.deploy(&labs[2]).await.unwrap();

    // A collection that is closed is so for everybody but administrators, and the schedule is no way around.
    for lab in [&labs[1], &labs[2]] {
        ada.destroy(lab).await.unwrap();
    }
    let closed = lab(&ada, 1, "closed").await;
    refused(ada.deploy(&closed).await, "quotas-and-hours", "opening-hours");
    admin.deploy(&closed).await.unwrap();
    let later = json!({
        "name": "later", "topologyId": topologies[0], "startTime": "2099-01-01T00:00:00Z", "endTime": null,
    });
    let error = ada.api.create("/labs", &later).await.unwrap_err();
    assert_eq!(error.refusal().map(|(status, _)| status), Some(403), "{error}");
    assert!(error.to_string().contains("no-scheduling"), "{error}");
    admin.destroy(&closed).await.unwrap();
    bob.destroy(&his).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_that_runs_is_extended_as_far_as_the_policy_allows() {
    let test = "extensions and a policy";
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let Some(config) = with_example(test, "quotas-and-hours", "{ everywhere: { max-hours: 2 } }").await else { return };
    let server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let admin = server.admin().await;
    let course = admin.api.create_collection("course", true, true).await.unwrap();
    let topology = admin.api.create_topology(&course, ONE_NODE).await.unwrap();
    let ada = server.member("ada", &["course"]).await;
    let at = |minutes| (jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes)).to_string();
    let new = |end: Option<String>| json!({"name": "lab", "topologyId": topology, "startTime": at(-1), "endTime": end});
    let limited = |error: antimony_host::client::ApiError| {
        assert_eq!(error.refusal(), Some((403, 5403)), "{error}");
        assert!(error.to_string().contains("max-hours") && error.to_string().contains("2 hours at most"), "{error}");
    };
    limited(ada.api.create("/labs", &new(None)).await.unwrap_err());
    limited(ada.api.create("/labs", &new(Some(at(150)))).await.unwrap_err());
    let lab = ada.api.create("/labs", &new(Some(at(60)))).await.unwrap();
    ada.deploy(&lab).await.unwrap();
    let path = format!("/labs/{lab}");
    let extend =
        async |client: &Client, body: Value| client.api.request(reqwest::Method::PATCH, &path, Some(&body)).await;
    extend(&ada, json!({"endTime": at(100)})).await.unwrap();
    limited(extend(&ada, json!({"endTime": at(150)})).await.unwrap_err());
    limited(extend(&ada, json!({"indefinite": true})).await.unwrap_err());
    extend(&admin, json!({"indefinite": true})).await.unwrap();
    ada.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topologies_are_refused_for_what_they_are_made_of() {
    let test = "safe topologies";
    let settings = "{ max-nodes: 2, kinds: [linux], images: [\"alpine:*\"], capabilities: [NET_ADMIN] }";
    let Some(config) = with_example(test, "safe-topologies", settings).await else { return };
    let server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let ada = server.member("ada", &["course"]).await;
    let node = |more: &str| format!("name: NAME\ntopology:\n  nodes:\n    n1:\n      kind: linux\n{more}");
    for (rule, definition) in [
        ("binds", node("      binds: [\"/etc:/mnt\"]\n")),
        ("privileged", node("      privileged: true\n")),
        ("capabilities", node("      cap-add: [SYS_ADMIN]\n")),
        ("images", node("      image: example.org/alpine:3\n")),
        ("kinds", node("    n2:\n      kind: nokia_srlinux\n")),
        ("max-nodes", node("    n2:\n      kind: linux\n    n3:\n      kind: linux\n")),
    ] {
        let definition = definition.replace("NAME", rule);
        let error = ada.api.create_topology(&collection, &definition).await.unwrap_err();
        assert_eq!(error.refusal().map(|(status, _)| status), Some(403), "{rule}: {error}");
        let message = error.to_string();
        assert!(message.contains("safe-topologies") && message.contains(rule), "{rule}: {message}");
        let topology = admin.api.create_topology(&collection, &definition).await.unwrap();
        // What an administrator has put there, others can't make a lab of either.
        let (status, _) = ada.api.create_lab(&topology, "mine").await.unwrap_err().refusal().unwrap();
        assert_eq!(status, 403, "{rule}");
    }
    let fine = node("      image: alpine:3.20\n      cap-add: [NET_ADMIN]\n");
    let topology = ada.api.create_topology(&collection, &fine).await.unwrap();
    ada.api.create_lab(&topology, "mine").await.unwrap();
}
