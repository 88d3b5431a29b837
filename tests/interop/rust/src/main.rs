//! The life of a lab, driven by `rust_socketio` and the REST API: log in, create, deploy, log, updates, status messages,
//! shell with traffic, errors, close, destroy.
//!
//! ```text
//! antimony-interop URL USER PASSWORD MEMBER_TOKEN TOPOLOGY MODE
//! ```
//!
//! `MEMBER_TOKEN` belongs to somebody of the collection `course` who is no administrator; `TOPOLOGY` is the file of the
//! two routers. `MODE` is what carries the packets: `websocket`, `polling`, or `upgrade` from the one to the other. Ends
//! with status 0 when everything was as documented; otherwise with a panic that says what was not.

mod client;
mod rest;

use serde_json::{Value, json};

use crate::client::{Namespace, Person};
use crate::rest::Rest;

const UNKNOWN: &str = "01890000-0000-7000-8000-000000000000";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, user, password, member, topology, mode] = &arguments[..] else {
        panic!("six arguments are due, and these came: {arguments:?}");
    };
    let rest = Rest::log_in(url, user, password).await;
    let admin = Person::new(url, rest.token(), mode);
    let member = Person::new(url, member, mode);
    let collection =
        rest.create("/collections", json!({ "name": "course", "publicWrite": true, "publicDeploy": true })).await;
    let definition = std::fs::read_to_string(topology).expect("the topology");
    let topology = json!({ "collectionId": collection, "definition": definition, "syncUrl": "" });
    let topology = rest.create("/topologies", topology).await;
    // Long past, so that it isn't started by itself.
    let lab = json!({ "name": "lab", "topologyId": topology, "startTime": "2026-01-01T00:00:00Z", "endTime": null });
    let lab = rest.create("/labs", lab).await;

    for (path, auth, words) in [
        ("/lab-updates".to_owned(), json!({}), "Unauthorized"),
        ("/status-messages".to_owned(), json!({ "token": "nonsense" }), "Invalid Token"),
        (format!("/logs/{lab}"), json!({ "token": rest.token() }), "Invalid namespace"),
    ] {
        assert_eq!(admin.try_join(&path, auth).await.err().as_deref(), Some(words), "{path}");
    }
    live(&rest, &admin, &member, &lab).await;
}

async fn live(rest: &Rest, admin: &Person, member: &Person, lab: &str) {
    let mut updates = admin.join("/lab-updates").await;
    let mut statuses = admin.join("/status-messages").await;
    let commands = admin.join("/lab-commands").await;
    let command = |number: u8| json!({ "labId": lab, "command": number });
    let with = |number: u8, name: &str, value: &str| json!({ "labId": lab, "command": number, name: value });

    assert_eq!(code(commands.call(with(6, "node", "r1")).await), 5003, "there is no instance yet");

    // As the deployed web client sends it: a string of JSON.
    let deploy = commands.call(Value::String(command(0).to_string()));
    // Joined while it is being deployed, at one of the updates at the latest.
    let path = format!("/logs/{lab}");
    let join = async {
        loop {
            assert_eq!(updates.next().await, ("data".to_owned(), json!({ "payload": { "labId": lab } })));
            match admin.try_join(&path, json!({ "token": admin.token() })).await {
                Ok(log) => break log,
                // It was an update about the lab's creation.
                Err(words) => assert_eq!(words, "Invalid namespace"),
            }
        }
    };
    let (deployed, mut log) = tokio::join!(deploy, join);
    assert_eq!(deployed, json!({ "payload": null }));
    log.until("its host name is r1").await;
    log.until("its host name is r2").await;
    let text = log.text();
    assert_eq!(text.matches("its host name is r1").count(), 1, "{text}");
    let mut late = admin.join(&path).await;
    late.until("its host name is r2").await;
    late.until("its host name is r1").await;
    assert_eq!(rest.get(&format!("/labs/{lab}")).await["instance"]["state"], 1);

    loop {
        let (name, message) = statuses.next().await;
        assert_eq!(name, "data");
        let status = &message["payload"];
        for key in ["id", "timestamp", "source", "content", "logContent"] {
            assert!(status[key].is_string(), "{key} of {message}");
        }
        match status["severity"].as_u64() {
            Some(0) => break,
            Some(1..=4) => {}
            _ => panic!("{message}"),
        }
    }

    use_a_shell(admin, &commands, lab).await;

    let theirs = member.join("/lab-commands").await;
    assert_eq!(code(theirs.call(command(1)).await), 5403);
    assert_eq!(code(commands.call(json!({ "labId": UNKNOWN, "command": 0 })).await), 5005);
    assert_eq!(code(commands.call(with(6, "node", "r3")).await), 5006);
    assert_eq!(code(commands.call(with(7, "shellId", UNKNOWN)).await), 5007);
    for malformed in [json!("not JSON"), json!({ "command": 0 }), command(99)] {
        commands.emit(malformed.clone()).await;
        assert_eq!(code(commands.call(malformed).await), 5422);
    }

    // And as the specification shows it: an object.
    assert_eq!(commands.call(command(1)).await, json!({ "payload": null }));
    assert_eq!(rest.get(&format!("/labs/{lab}")).await.get("instance"), None);
}

async fn use_a_shell(admin: &Person, commands: &Namespace, lab: &str) {
    let mut announcements = admin.join("/shell-commands").await;
    let opened = commands.call(json!({ "labId": lab, "command": 6, "node": "r1" })).await;
    let shell = opened["payload"].as_str().unwrap_or_else(|| panic!("no shell: {opened}"));
    let mut terminal = admin.join(&format!("/shells/{shell}")).await;
    // A terminal echoes what is typed, so each answer is framed by something that was not typed like this.
    terminal.emit(json!("echo \"name=$(hostname)\"; ping -c 2 -i 0.2 10.0.0.2; ")).await;
    // Bytes are taken too.
    terminal.emit_bytes(b"echo \"status=$?\"\r").await;
    terminal.until("status=0").await;
    let screen = terminal.text();
    assert!(screen.contains("name=r1\r\n") && screen.contains("2 received"), "{screen}");
    let open = commands.call(json!({ "labId": lab, "command": 5 })).await;
    assert_eq!(open, json!({ "payload": [{ "id": shell, "node": "r1" }] }));
    let closed = commands.call(json!({ "labId": lab, "command": 7, "shellId": shell })).await;
    assert_eq!(closed, json!({ "payload": null }));
    let (name, message) = announcements.next().await;
    let message = &message["payload"];
    assert_eq!(name, "data");
    assert_eq!(
        (&message["labId"], &message["node"], &message["shellId"], &message["command"]),
        (&json!(lab), &json!("r1"), &json!(shell), &json!(1)),
        "{message}"
    );
}

/// The code of an error, which is its code and a sentence and nothing else.
fn code(answer: Value) -> u64 {
    let error = answer.as_object().unwrap_or_else(|| panic!("no error: {answer}"));
    assert!(error.len() == 2 && error["message"].is_string(), "{answer}");
    error["code"].as_u64().unwrap_or_else(|| panic!("no code: {answer}"))
}
