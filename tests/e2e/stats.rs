//! What nodes use, for those who may know it: by REST, and in a namespace while the lab has an instance. That the figures
//! are right is shown on both runtimes in `tests/runtimes`, and in `tests/embedded`.

use std::collections::BTreeSet;

use antimony_host::client::{ConnectError, Event, Namespace};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Server, ServerBuilder, User, code_of, eventually, expect_data, next, within};
use crate::{ONE_NODE, TWO_ROUTERS};

fn path(lab: &str) -> String {
    format!("/stats/{lab}")
}

async fn refusal(client: &Client, lab: &str) -> (u16, i64) {
    let refused = client.api.get(&format!("/labs/{lab}/stats")).await.expect_err("a refusal is due");
    refused.refusal().unwrap_or_else(|| panic!("{refused}"))
}

/// How many samplers the server says that it has.
async fn samplers(server: &Server) -> u64 {
    let answer = antimony_host::client::http().get(format!("{}/metrics", server.url)).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("antimony_stats_samplers "));
    line.unwrap_or_else(|| panic!("no samplers in {text}")).parse().unwrap()
}

async fn until_samplers(server: &Server, wanted: u64) {
    eventually(async || match samplers(server).await {
        count if count == wanted => Ok(()),
        count => Err(format!("{count} samplers, not {wanted}")),
    })
    .await;
}

/// When the next reading was taken.
async fn at(feed: &mut Namespace) -> Timestamp {
    let event = next(feed).await;
    assert_eq!(event.name, "data");
    taken(&event)
}

fn taken(reading: &Event) -> Timestamp {
    reading.data()["payload"]["at"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_hears_the_same_readings_of_one_sampler_that_ends_with_the_last_of_them() {
    if !User::Myself.can_run_labs("two listeners") {
        return;
    }
    let server = ServerBuilder::new(User::Myself).config("stats:\n  interval: 500ms\n").start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    assert_eq!(samplers(&server).await, 0);
    let mut first = admin.join(&path(&lab)).await;
    let reading = next(&mut first).await;
    let nodes = reading.data()["payload"]["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().map(|node| &node["node"]).collect::<Vec<_>>(), ["r1", "r2"]);
    assert!(nodes.iter().all(|node| node["running"] == true && node["cpu"]["percent"].is_null()), "{nodes:?}");
    assert_eq!(samplers(&server).await, 1);

    let member = server.member("student", &["course"]).await;
    let mut second = member.join(&path(&lab)).await;
    // Whoever is slow may miss one; but what both hear of is the same.
    let (mut by_first, mut by_second) = (BTreeSet::from([taken(&reading)]), BTreeSet::new());
    while by_first.intersection(&by_second).count() < 4 {
        by_second.insert(at(&mut second).await);
        while by_first.last() < by_second.last() {
            by_first.insert(at(&mut first).await);
        }
    }
    for heard in [&by_first, &by_second] {
        let apart = |(a, b): (&Timestamp, &Timestamp)| b.duration_since(*a).as_millis();
        let shortest = heard.iter().zip(heard.iter().skip(1)).map(apart).min();
        assert!(shortest >= Some(450), "{heard:?}");
    }
    assert_eq!(samplers(&server).await, 1);
    // Whoever asks once is told of the same feed, which knows what was before.
    let stats = admin.api.get(&format!("/labs/{lab}/stats")).await.unwrap();
    assert!(stats["nodes"][0]["cpu"]["percent"].is_number(), "{stats}");

    drop(first);
    at(&mut second).await;
    assert_eq!(samplers(&server).await, 1);
    drop(second);
    until_samplers(&server, 0).await;
    let stats = admin.api.get(&format!("/labs/{lab}/stats")).await.unwrap();
    assert!(stats["nodes"][0]["cpu"]["percent"].is_null(), "another feed: {stats}");
    until_samplers(&server, 0).await;
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_namespace_comes_and_goes_with_the_instance() {
    if !User::Myself.can_run_labs("stats and instances") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let missing = Some(ConnectError::Refused("Invalid namespace".to_owned()));
    for _ in 0..2 {
        assert_eq!(admin.try_join(&path(&lab)).await.err(), missing);
        assert_eq!(refusal(&admin, &lab).await, (400, 5003));
        admin.deploy(&lab).await.unwrap();
        let mut feed = admin.join(&path(&lab)).await;
        // It takes nothing.
        let told = within("an answer", feed.call("data", json!({ "labId": lab }))).await;
        assert_eq!(code_of(told), 5422);
        expect_data(&mut feed, "a reading", |data| data["payload"]["nodes"][0]["running"] == true).await;
        // It goes on over another deploy.
        admin.deploy(&lab).await.unwrap();
        let anew = |data: &Value| data["payload"]["nodes"][0]["cpu"]["percent"].is_number();
        expect_data(&mut feed, "a reading of the new instance", anew).await;
        admin.destroy(&lab).await.unwrap();
        within("the end of the namespace", async { while feed.next_event().await.is_some() {} }).await;
        until_samplers(&server, 0).await;
    }
    admin.api.request(Method::DELETE, &format!("/labs/{lab}"), None).await.unwrap();
    assert_eq!(admin.try_join(&path(&lab)).await.err(), missing);
    assert_eq!(refusal(&admin, &lab).await, (404, 5005));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_the_log_of_a_lab_hears_nothing_of_what_its_nodes_use() {
    if !User::Myself.can_run_labs("stats of others") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let stranger = server.member("stranger", &["other"]).await;
    let no_access = Some(ConnectError::Refused("No Access".to_owned()));
    assert_eq!(stranger.try_join(&path(&lab)).await.err(), no_access);
    assert_eq!(refusal(&stranger, &lab).await, (404, 5005));
    let member = server.member("student", &["course"]).await;
    let mut feed = member.join(&path(&lab)).await;
    at(&mut feed).await;
    // Under another name, the collection is not one of theirs.
    let collections = admin.api.get("/collections").await.unwrap();
    let id = collections.as_array().unwrap().iter().find(|each| each["name"] == "course").unwrap()["id"].clone();
    let collection = format!("/collections/{}", id.as_str().unwrap());
    admin.api.request(Method::PATCH, &collection, Some(&json!({"name": "secret"}))).await.unwrap();
    within("the end of the feed", async { while feed.next_event().await.is_some() {} }).await;
    assert_eq!(member.try_join(&path(&lab)).await.err(), no_access);
    assert_eq!(refusal(&member, &lab).await, (404, 5005));
    until_samplers(&server, 0).await;
    admin.destroy(&lab).await.unwrap();
}
