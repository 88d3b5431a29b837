//! Capacity and ends of labs: what is refused for lack of room and in which words, who is warned of an end that comes near,
//! and what becomes of a lab whose end is moved while it runs.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Server, ServerBuilder, User, eventually, expect_data};
use crate::{ONE_NODE, TWO_ROUTERS};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

/// So many minutes from now, to the second.
fn in_minutes(minutes: i32) -> Timestamp {
    Timestamp::from_second((Timestamp::now() + MINUTE * minutes).as_second()).unwrap()
}

async fn server(config: &str) -> Server {
    ServerBuilder::new(User::Myself).config(config).start().await
}

/// A collection with a topology in it; answers the topology.
async fn topology(admin: &Client, collection: &str, definition: &str) -> String {
    let collection = admin.api.create_collection(collection, true, true).await.unwrap();
    admin.api.create_topology(&collection, definition).await.unwrap()
}

fn lab(name: &str, topology: &str, start: Timestamp, end: Option<Timestamp>) -> Value {
    json!({ "name": name, "topologyId": topology, "startTime": start, "endTime": end })
}

/// The sentence of a refusal for lack of room.
fn no_room(answer: Result<impl std::fmt::Debug, antimony_host::client::ApiError>) -> String {
    let error = answer.expect_err("there was room");
    assert_eq!(error.refusal(), Some((400, 5000)), "{error}");
    error.to_string()
}

async fn patch(client: &Client, lab: &str, body: Value) -> Result<Value, antimony_host::client::ApiError> {
    client.api.request(Method::PATCH, &format!("/labs/{lab}"), Some(&body)).await
}

/// Waits for a warning in words; what else is told meanwhile is passed over.
async fn warning(status: &mut antimony_host::client::Namespace) -> String {
    let warning = |message: &Value| message["payload"]["severity"] == 2;
    let message = expect_data(status, "a warning", warning).await;
    message["payload"]["content"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_want_the_last_place_at_once_one_gets_it() {
    let server = server("capacity: { collections: { course: { labs: 1 } } }\n").await;
    let admin = server.admin().await;
    let topology = topology(&admin, "course", ONE_NODE).await;
    let (start, end) = (in_minutes(60), in_minutes(120));
    let all = (0..8).map(|number| {
        let (api, body) = (admin.api.clone(), lab(&format!("lab{number}"), &topology, start, Some(end)));
        tokio::spawn(async move { api.create("/labs", &body).await })
    });
    let answers = futures::future::join_all(all.collect::<Vec<_>>()).await;
    let (created, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().map(|answer| answer.unwrap()).partition(Result::is_ok);
    assert_eq!((created.len(), admin.api.get("/labs").await.unwrap().as_array().unwrap().len()), (1, 1));
    for answer in refused {
        let said = no_room(answer);
        assert!(said.contains(&format!("'course' has 1 of 1 labs between {start} and {end}")), "{said}");
    }
    admin.api.create("/labs", &lab("after", &topology, end, None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_named_to_those_who_may_see_it_and_to_nobody_else() {
    let server = server("capacity: { labs: 2, nodes: 3, memory: 1GiB, collections: { course: { labs: 9 } } }\n").await;
    let admin = server.admin().await;
    let (mine, other) = (topology(&admin, "course", ONE_NODE).await, topology(&admin, "other", ONE_NODE).await);
    let (start, first, last) = (in_minutes(60), in_minutes(90), in_minutes(120));
    let ada = server.member("ada", &["course"]).await;
    ada.api.create("/labs", &lab("bgp", &mine, start, Some(first))).await.unwrap();
    admin.api.create("/labs", &lab("secret", &other, start, Some(last))).await.unwrap();

    let wanted = lab("ospf", &mine, start, Some(last));
    let said = no_room(ada.api.create("/labs", &wanted).await);
    assert!(said.contains("this server has 2 of 2 labs between"), "{said}");
    assert!(
        said.contains(&format!(": bgp (until {first}) and one you can't see; it would fit from {first} on")),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
    let said = no_room(admin.api.create("/labs", &wanted).await);
    assert!(said.contains(&format!("bgp (until {first}) and secret (until {last})")), "{said}");

    let capacity = ada.api.get("/capacity").await.unwrap();
    assert_eq!(
        capacity,
        json!({
            "limits": { "labs": 2, "nodes": 3, "memory": 1_u64 << 30 },
            "reserved": { "labs": 0, "nodes": 0, "memory": 0 },
            "collections": [{
                "name": "course",
                "limits": { "labs": 9, "nodes": null, "memory": null },
                "reserved": { "labs": 0, "nodes": 0, "memory": 0 },
            }],
        })
    );
    let meanwhile = admin.api.get(&format!("/capacity?from={start}&to={last}")).await.unwrap();
    assert_eq!(meanwhile["reserved"], json!({ "labs": 2, "nodes": 2, "memory": 512 << 20 }));
    assert_eq!(meanwhile["collections"].as_array().unwrap().len(), 2);
    let after = admin.api.get(&format!("/capacity?from={first}&to={last}")).await.unwrap();
    assert_eq!((&after["reserved"]["labs"], &after["collections"][0]["reserved"]["labs"]), (&json!(1), &json!(0)));
    for query in ["from=soon", &format!("to={}", in_minutes(-1)), &format!("from={last}&to={first}")] {
        let refused = admin.api.get(&format!("/capacity?{query}")).await.unwrap_err();
        assert_eq!(refused.refusal(), Some((422, 5422)), "{query}: {refused}");
    }
    let figures = reqwest::get(format!("{}/metrics", server.url)).await.unwrap().text().await.unwrap();
    for line in ["antimony_reserved_labs 0", "antimony_capacity_labs 2", "antimony_capacity_memory_bytes 1073741824"] {
        assert!(figures.lines().any(|one| one == line), "{line}: {figures}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topology_does_not_grow_beyond_what_its_labs_have_reserved_room_for() {
    let server = server("capacity: { collections: { course: { nodes: 2 } } }\n").await;
    let admin = server.admin().await;
    let (course, elsewhere) = (topology(&admin, "course", ONE_NODE).await, topology(&admin, "other", ONE_NODE).await);
    for (name, topology) in [("bgp", &course), ("elsewhere", &elsewhere)] {
        admin.api.create("/labs", &lab(name, topology, in_minutes(60), None)).await.unwrap();
    }
    let nodes = |count: usize| {
        let nodes: String = (0..count).map(|number| format!("    n{number}: {{kind: linux}}\n")).collect();
        json!({ "definition": format!("name: one\ntopology:\n  nodes:\n{nodes}") })
    };
    let change = async |topology: &str, count: usize| {
        admin.api.request(Method::PATCH, &format!("/topologies/{topology}"), Some(&nodes(count))).await
    };
    change(&course, 2).await.unwrap();
    let said = no_room(change(&course, 3).await);
    assert!(said.contains("'course' has room for 2 nodes in all, and 3 would be needed"), "{said}");
    let shown = admin.api.get("/topologies").await.unwrap();
    let shown = shown.as_array().unwrap().iter().find(|one| one["id"] == *course).unwrap();
    assert_eq!(shown["definition"], nodes(2)["definition"], "it stays as it was");
    change(&elsewhere, 3).await.unwrap();
    let said = no_room(admin.api.create("/labs", &lab("more", &course, in_minutes(90), None)).await);
    assert!(said.contains("2 of 2 nodes") && said.contains("(0 free, 2 needed): bgp (without an end)"), "{said}");
    assert!(said.contains("there is no later time"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_does_not_fit_is_refused_and_one_that_was_reserved_is_not() {
    if !User::Myself.can_run_labs("deploys and capacity") {
        return;
    }
    let server = server("capacity: { collections: { course: { nodes: 2 } } }\n").await;
    let admin = server.admin().await;
    let two = topology(&admin, "course", TWO_ROUTERS).await;
    let reserved = lab("reserved", &two, Timestamp::now() + SignedDuration::from_secs(2), Some(in_minutes(60)));
    let reserved = admin.api.create("/labs", &reserved).await.unwrap();
    let other = admin.api.create_lab(&two, "other").await.unwrap();
    let ada = server.member("ada", &["course"]).await;
    let refused = |answer: Result<Value, antimony_host::client::AckError>| {
        let said = answer.expect_err("there was room").to_string();
        assert!(said.contains("5000") && said.contains("'course' has 2 of 2 nodes"), "{said}");
        assert!(said.contains("reserved (until "), "{said}");
    };
    refused(admin.deploy(&other).await);
    // The schedule deploys what is reserved.
    eventually(async || match admin.state(&reserved).await {
        Some(1) => Ok(()),
        state => Err(format!("{state:?}")),
    })
    .await;
    refused(admin.deploy(&other).await);
    assert_eq!(admin.state(&other).await, None);
    admin.deploy(&reserved).await.unwrap();
    let capacity = ada.api.get("/capacity").await.unwrap();
    assert_eq!(capacity["collections"][0]["reserved"]["nodes"], 2, "{capacity}");
    admin.destroy(&reserved).await.unwrap();
    admin.deploy(&other).await.unwrap();
    admin.destroy(&other).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_that_runs_is_extended_its_users_are_warned_and_it_ends_at_its_new_end() {
    if !User::Myself.can_run_labs("an extension while a lab runs") {
        return;
    }
    let server =
        server("capacity: { collections: { course: { labs: 1 } } }\nschedule: { warnBefore: [3600, 300] }\n").await;
    let admin = server.admin().await;
    let topology = topology(&admin, "course", ONE_NODE).await;
    let ada = server.member("ada", &["course"]).await;
    let stranger = server.member("stranger", &["elsewhere"]).await;
    let mut status = ada.join("/status-messages").await;
    let mut strangers = stranger.join("/status-messages").await;
    let (first, second) = (in_minutes(20), in_minutes(30));
    let id = ada.api.create("/labs", &lab("bgp", &topology, in_minutes(-1), Some(first))).await.unwrap();
    ada.deploy(&id).await.unwrap();
    let said = warning(&mut status).await;
    assert!(said.starts_with("Lab bgp ends in ") && said.contains(&format!("minutes, at {first}")), "{said}");

    // Nothing but its end; and not into the time of somebody else.
    let refused = patch(&ada, &id, json!({ "name": "ospf", "endTime": second })).await.unwrap_err();
    assert!(refused.refusal() == Some((400, 5000)) && refused.to_string().contains("only its end"), "{refused}");
    patch(&ada, &id, json!({ "endTime": in_minutes(-1) })).await.unwrap_err();
    let next = admin.api.create("/labs", &lab("next", &topology, second, None)).await.unwrap();
    let said = no_room(patch(&ada, &id, json!({ "indefinite": true })).await);
    assert!(said.contains("next (without an end)") && said.contains(&format!("until {second}")), "{said}");
    // Whoever may not change it may not extend it.
    let eve = server.member("eve", &["course"]).await;
    let refused = patch(&eve, &id, json!({ "endTime": second })).await.unwrap_err();
    assert_eq!(refused.refusal(), Some((403, 5403)), "{refused}");

    patch(&ada, &id, json!({ "endTime": second })).await.unwrap();
    assert_eq!(ada.api.lab(&id).await.unwrap()["endTime"].as_str(), Some(&*second.to_string()));
    assert_eq!(ada.state(&id).await, Some(1), "it runs on");
    let said = warning(&mut status).await;
    assert!(said.contains(&second.to_string()), "of the first end they have been warned: {said}");

    admin.api.request(Method::DELETE, &format!("/labs/{next}"), None).await.unwrap();
    patch(&ada, &id, json!({ "indefinite": true })).await.unwrap();
    assert_eq!(ada.api.lab(&id).await.unwrap()["endTime"], Value::Null);
    let soon = Timestamp::now() + SignedDuration::from_secs(2);
    patch(&ada, &id, json!({ "endTime": soon })).await.unwrap();
    let said = warning(&mut status).await;
    assert!(said.contains("second"), "{said}");
    eventually(async || match ada.state(&id).await {
        None => Ok(()),
        state => Err(format!("{state:?}")),
    })
    .await;
    assert!(Timestamp::now() >= soon);

    // Strangers have heard nothing of all that: what they hear first is of a lab that they may see.
    let theirs = admin.api.create_collection("elsewhere", true, true).await.unwrap();
    let theirs = admin.api.create_topology(&theirs, ONE_NODE).await.unwrap();
    let theirs = stranger.api.create("/labs", &lab("theirs", &theirs, in_minutes(-1), Some(first))).await.unwrap();
    stranger.deploy(&theirs).await.unwrap();
    let said = warning(&mut strangers).await;
    assert!(said.starts_with("Lab theirs ends in"), "{said}");
    stranger.destroy(&theirs).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_is_given_once_over_restarts_and_one_that_was_missed_is_made_up_for() {
    if !User::Myself.can_run_labs("warnings over a restart") {
        return;
    }
    let mut first = server("schedule: { warnBefore: [] }\n").await;
    let admin = first.admin().await;
    let topology = topology(&admin, "course", ONE_NODE).await;
    let (end, other) = (in_minutes(40), in_minutes(50));
    let id = admin.api.create("/labs", &lab("bgp", &topology, in_minutes(-1), Some(end))).await.unwrap();
    admin.deploy(&id).await.unwrap();
    assert!(first.terminate().await.success());
    let place = std::sync::Arc::clone(first.place());
    drop(first);

    let warned = "schedule: { warnBefore: [3600] }\n";
    let mut second = ServerBuilder::at(&place).config(warned).start().await;
    let admin = second.admin().await;
    // It is given before anybody can be there; whoever comes hears of it.
    let mut status = admin.join("/status-messages").await;
    let said = warning(&mut status).await;
    assert!(said.contains(&end.to_string()), "{said}");
    assert!(second.terminate().await.success());
    drop(second);

    let third = ServerBuilder::at(&place).config(warned).start().await;
    let admin = third.admin().await;
    let mut status = admin.join("/status-messages").await;
    patch(&admin, &id, json!({ "endTime": other })).await.unwrap();
    let said = warning(&mut status).await;
    assert!(said.contains(&other.to_string()), "they have been warned of the first end: {said}");
    // What is left of the lab, which could not outlive the server, holds its place until it is destroyed.
    assert_eq!(admin.api.get("/capacity").await.unwrap()["reserved"]["labs"], 1);
    admin.destroy(&id).await.unwrap();
    assert_eq!(admin.api.get("/capacity").await.unwrap()["reserved"]["labs"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_reserved_is_known_after_a_restart_and_stays_where_limits_are_lowered() {
    let mut first = server("{}\n").await;
    let admin = first.admin().await;
    let topology = topology(&admin, "course", ONE_NODE).await;
    let (start, end) = (in_minutes(60), in_minutes(120));
    let mut labs = Vec::new();
    for name in ["bgp", "ospf"] {
        labs.push(admin.api.create("/labs", &lab(name, &topology, start, Some(end))).await.unwrap());
    }
    let capacity = admin.api.get("/capacity").await.unwrap();
    assert_eq!(capacity["limits"], json!({ "labs": null, "nodes": null, "memory": null }));
    assert!(first.terminate().await.success());
    let place = std::sync::Arc::clone(first.place());
    drop(first);

    let mut server =
        ServerBuilder::at(&place).config("capacity: { labs: 1, collections: { nobody: { labs: 1 } } }\n").start().await;
    let admin = server.admin().await;
    let said = no_room(admin.api.create("/labs", &lab("more", &topology, start, Some(end))).await);
    assert!(
        said.contains("this server has 2 of 1 labs") && said.contains("bgp (until") && said.contains("(0 free"),
        "{said}"
    );
    patch(&admin, &labs[0], json!({ "name": "renamed" })).await.unwrap();
    patch(&admin, &labs[0], json!({ "endTime": end - MINUTE })).await.unwrap();
    no_room(patch(&admin, &labs[0], json!({ "endTime": end })).await);
    patch(&admin, &labs[0], json!({ "startTime": end, "endTime": end + MINUTE })).await.unwrap();
    assert!(server.log().contains("capacity.collections.nobody"), "{}", server.log());
}
