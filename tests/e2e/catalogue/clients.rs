//! A client must not be able to take the server down: commands and events at the wrong place. Lines 1, 3 and 4.

use jiff::{Timestamp, ToSpan};
use reqwest::Method;
use serde_json::{Value, json};

use antimony_host::client::AckError;

use crate::ONE_NODE;
use crate::harness::{Client, Raw, Server, User, within};

/// Line 1.
#[tokio::test(flavor = "multi_thread")]
async fn input_on_every_output_only_namespace_is_ignored_or_5422_and_the_server_lives() {
    if !User::Myself.can_run_labs("input on output-only namespaces") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let log = format!("/logs/{lab}");
    for path in ["/lab-updates", "/status-messages", "/shell-commands", &log] {
        let namespace = admin.join(path).await;
        for event in ["data", "backlog", "error", ""] {
            for args in [
                vec![],
                vec![Value::Null],
                vec![json!("text")],
                vec![json!({ "labId": lab, "command": 1 })],
                vec![json!([[]]), json!(1), json!("x".repeat(10_000))],
            ] {
                namespace.emit_args(event, args.clone()).await.unwrap();
                let answer = within("an answer", namespace.call_args(event, args.clone())).await.unwrap();
                assert_eq!(answer[0]["code"], 5422, "{path} {event:?} {args:?}: {answer:?}");
                assert!(answer[0]["message"].as_str().is_some_and(|sentence| !sentence.is_empty()));
            }
        }
        // The same as bytes.
        let mut raw = Raw::open(&server.url).await;
        assert!(raw.join(path, &admin.token).await);
        raw.send(format!("451-{path},1[\"data\",{{\"_placeholder\":true,\"num\":0}}]")).await;
        raw.send_binary(vec![0, 159, 255]).await;
        let answer = raw.until(&format!("43{path},1[")).await.expect("an answer");
        assert!(answer.contains("5422"), "{answer}");
    }
    assert_eq!(admin.state(&lab).await, Some(1), "none of these did anything");
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])));
    assert!(server.is_alive());
    admin.destroy(&lab).await.unwrap();
}

/// Line 3.
#[tokio::test(flavor = "multi_thread")]
async fn many_destroys_of_one_lab_at_once_from_several_clients_end_it_once() {
    if !User::Myself.can_run_labs("many destroys at once") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let others = [Client::connect(&server, &admin.token).await, Client::connect(&server, &admin.token).await];
    let lab = admin.create_lab("course", ONE_NODE).await;
    for round in 0..5 {
        admin.deploy(&lab).await.unwrap();
        let all: Vec<_> = [&admin, &others[0], &others[1]]
            .into_iter()
            .flat_map(|client| (0..3).map(|_| client.command_in_background(&lab, 1, json!({}))))
            .collect();
        let mut done = 0;
        for answer in all {
            match answer.await.unwrap() {
                Ok(Value::Null) => done += 1,
                Err(AckError::Refused { code: 5003, .. }) => {}
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert!(done >= 1);
        assert_eq!(admin.state(&lab).await, None);
    }
    // And the lab is as good as ever.
    admin.deploy(&lab).await.unwrap();
    admin.destroy(&lab).await.unwrap();
}

/// Line 4.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_time_that_makes_no_sense_is_refused_when_a_lab_is_created_and_when_it_is_edited() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let path = format!("/labs/{lab}");
    let before = admin.api.lab(&lab).await.unwrap();
    let topology = before["topologyId"].clone();
    let now = Timestamp::now();
    let at = |hours: i64| (now + hours.hours()).to_string();
    for (start, end) in [(2, 1), (2, 2), (-2, -1), (-1, -1)] {
        let times = json!({ "startTime": at(start), "endTime": at(end) });
        let mut new = json!({ "name": "new", "topologyId": topology });
        new.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        let error = admin.api.create("/labs", &new).await.expect_err("no such time");
        assert!(matches!(error.refusal(), Some((400 | 422, _))), "{start}..{end}: {error}");
        let error = admin.api.request(Method::PATCH, &path, Some(&times)).await.expect_err("no such time");
        assert!(matches!(error.refusal(), Some((400 | 422, _))), "{start}..{end}: {error}");
        assert!(error.to_string().contains("endTime"), "{error}");
    }
    // One alone, against the other that is there already.
    let start = at(3);
    admin.api.request(Method::PATCH, &path, Some(&json!({ "startTime": start }))).await.unwrap();
    let error = admin.api.request(Method::PATCH, &path, Some(&json!({ "endTime": at(2) }))).await.unwrap_err();
    assert!(matches!(error.refusal(), Some((400 | 422, _))), "{error}");
    admin.api.request(Method::PATCH, &path, Some(&json!({ "endTime": at(4) }))).await.unwrap();
    let error = admin.api.request(Method::PATCH, &path, Some(&json!({ "startTime": at(5) }))).await.unwrap_err();
    assert!(matches!(error.refusal(), Some((400 | 422, _))), "{error}");
    assert_eq!(admin.api.get("/labs").await.unwrap().as_array().unwrap().len(), 1, "nothing was created");
    let after = admin.api.lab(&lab).await.unwrap();
    assert_eq!(after["name"], before["name"]);
    let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap().as_second();
    assert_eq!((time(&after["startTime"]), time(&after["endTime"])), (time(&json!(at(3))), time(&json!(at(4)))));
}
