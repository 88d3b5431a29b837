//! Commands that are malformed, about things that aren't there, or at the wrong time.

use antimony_host::client::AckError;
use serde_json::{Value, json};

use crate::harness::{Client, Lines, Server, User, code_of, eventually, next, within};
use crate::{ENDLESS_DEPLOY, ONE_NODE, TWO_ROUTERS};

/// Sends `data` with these arguments twice, with and without somebody who waits; answers the code.
async fn code_for(client: &Client, args: Vec<Value>) -> i64 {
    client.commands.emit_args("data", args.clone()).await.unwrap();
    let answer = within("an answer", client.commands.call_args("data", args)).await.unwrap();
    let [Value::Object(answer)] = answer.as_slice() else { panic!("an acknowledgement is one object: {answer:?}") };
    assert!(!answer.contains_key("payload"), "{answer:?}");
    assert!(answer["message"].as_str().is_some_and(|sentence| !sentence.is_empty()), "{answer:?}");
    answer["code"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_commands_is_answered_one_by_one_or_refused() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let flood: Vec<_> = (0..500).map(|_| admin.command_in_background(&lab, 5, json!({}))).collect();
    for answer in flood {
        match answer.await.unwrap() {
            Ok(shells) => assert_eq!(shells, json!([])),
            refused => assert_eq!(code_of(refused), 5000),
        }
    }
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])), "and then all is as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_commands_are_5422_and_the_server_lives() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    let deep = "[".repeat(10_000);
    let malformed = [
        vec![],
        vec![Value::Null],
        vec![json!("not JSON")],
        vec![json!("")],
        vec![json!(deep)],
        vec![json!("[]")],
        vec![json!(5)],
        vec![json!(true)],
        vec![json!([])],
        vec![json!({})],
        vec![json!({ "command": 0 })],
        vec![json!({ "labId": lab })],
        vec![json!({ "labId": null, "command": 0 })],
        vec![json!({ "labId": 7, "command": 0 })],
        vec![json!({ "labId": [lab], "command": 0 })],
        vec![json!({ "labId": lab, "command": null })],
        vec![json!({ "labId": lab, "command": "deploy" })],
        vec![json!({ "labId": lab, "command": 0.5 })],
        vec![json!({ "labId": lab, "command": -1 })],
        vec![json!({ "labId": lab, "command": 8 })],
        vec![json!({ "labId": lab, "command": 99 })],
        vec![json!({ "labId": lab, "command": 1e300 })],
        vec![json!({ "labId": lab, "command": 6, "node": 1 })],
        vec![json!({ "labId": lab, "command": 6, "node": {} })],
        vec![json!({ "labId": lab, "command": 7, "shellId": 1 })],
        vec![json!(json!({ "labId": lab, "command": 8 }).to_string())],
        // What a command needs besides the lab.
        vec![json!({ "labId": lab, "command": 2 })],
        vec![json!({ "labId": lab, "command": 3 })],
        vec![json!({ "labId": lab, "command": 4 })],
        vec![json!({ "labId": lab, "command": 6 })],
        vec![json!({ "labId": lab, "command": 7 })],
        vec![json!({ "labId": lab, "command": 6, "node": null })],
        vec![json!({ "labId": lab, "command": 7, "shellId": null })],
    ];
    for args in malformed {
        assert_eq!(code_for(&admin, args.clone()).await, 5422, "{args:?}");
    }
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])), "the connection goes on");
    assert_eq!(admin.state(&lab).await, None, "none of these did anything");
    assert!(server.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_on_output_only_namespaces_are_5422_or_ignored_and_the_server_lives() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    for path in ["/lab-updates", "/status-messages", "/shell-commands"] {
        let namespace = admin.join(path).await;
        for args in [vec![], vec![json!("text")], vec![json!({ "labId": lab, "command": 0 })]] {
            namespace.emit_args("data", args.clone()).await.unwrap();
            let answer = within("an answer", namespace.call_args("data", args.clone())).await.unwrap();
            assert_eq!(answer[0]["code"], 5422, "{path} {args:?}: {answer:?}");
        }
    }
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])));
    assert_eq!(admin.state(&lab).await, None);
    assert!(server.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_taken_as_an_object_and_as_a_string_of_json() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let command = json!({ "labId": lab, "command": 5 });
    assert_eq!(admin.commands.call("data", command.clone()).await, Ok(json!([])));
    assert_eq!(admin.commands.call("data", command.to_string()).await, Ok(json!([])));
    // Clients send more than they have to.
    let padded = json!({ "labId": lab, "command": 5, "node": null, "shellId": null, "more": [1] });
    assert_eq!(admin.commands.call("data", padded).await, Ok(json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_has_a_code_of_its_own() {
    if !User::Myself.can_run_labs("unknown ids") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    let unknown = "01890000-0000-7000-8000-000000000000";
    for command in 0..=7 {
        let more = json!({ "node": "r1", "shellId": unknown });
        assert_eq!(code_of(admin.command(unknown, command, more.clone()).await), 5005, "command {command}");
        assert_eq!(code_of(admin.command("", command, more).await), 5005, "command {command}, empty id");
    }
    // The lab isn't running.
    assert_eq!(code_of(admin.destroy(&lab).await), 5003);
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "r1" })).await), 5003);
    assert_eq!(code_of(admin.command(&lab, 7, json!({ "shellId": unknown })).await), 5007);

    admin.deploy(&lab).await.unwrap();
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "r3" })).await), 5006);
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "R1" })).await), 5006, "names are case-sensitive");
    assert_eq!(code_of(admin.command(&lab, 7, json!({ "shellId": unknown })).await), 5007);
    admin.destroy(&lab).await.unwrap();
    assert_eq!(code_of(admin.destroy(&lab).await), 5003);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_that_is_being_deployed_refuses_a_second_deploy_and_obeys_a_destroy() {
    if !User::Myself.can_run_labs("commands during a deploy") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ENDLESS_DEPLOY).await;
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    Lines::of(admin.join_once_there(&format!("/logs/{lab}")).await).until("deploy has begun").await;
    assert_eq!(admin.state(&lab).await, Some(0));
    assert_eq!(code_of(admin.deploy(&lab).await), 5002);
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    code_of(deploy.await.unwrap());
    assert_eq!(admin.state(&lab).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_anybody_who_waits_for_its_answer_is_carried_out() {
    if !User::Myself.can_run_labs("commands without acknowledgement") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.commands.emit("data", json!({ "labId": lab, "command": 0 })).await.unwrap();
    eventually(async || match admin.state(&lab).await {
        Some(1) => Ok(()),
        other => Err(format!("the lab's state is {other:?}")),
    })
    .await;
    admin.commands.emit("data", json!({ "labId": lab, "command": 1 }).to_string()).await.unwrap();
    eventually(async || match admin.state(&lab).await {
        None => Ok(()),
        other => Err(format!("the lab's state is {other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_destroys_at_once_end_the_lab_once() {
    if !User::Myself.can_run_labs("two destroys at once") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let both = [(); 2].map(|()| admin.command_in_background(&lab, 1, json!({})));
    let mut succeeded = 0;
    for answer in both {
        match answer.await.unwrap() {
            Ok(Value::Null) => succeeded += 1,
            Err(AckError::Refused { code: 5003, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(succeeded >= 1);
    assert_eq!(admin.state(&lab).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_into_a_shell_keeps_its_order_and_odd_input_does_no_harm() {
    if !User::Myself.can_run_labs("shell input") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let shell = admin.open_shell(&lab, "n1").await;
    let mut terminal = Lines::of(admin.join(&format!("/shells/{shell}")).await);
    for odd in [json!(null), json!(5), json!({}), json!([1])] {
        terminal.namespace().emit("data", odd).await.unwrap();
    }
    terminal.namespace().emit_args("data", vec![]).await.unwrap();
    // A terminal echoes what is typed, so only what the shell makes of it counts.
    let digits: String = (0..500).map(|number| format!("{number:03}")).collect();
    for piece in ["echo sum=$(printf %s "].into_iter().map(str::to_owned).chain(digits.chars().map(String::from)) {
        terminal.namespace().emit("data", piece).await.unwrap();
    }
    terminal.namespace().emit("data", " | cksum)\r").await.unwrap();
    let expected =
        std::process::Command::new("sh").args(["-c", &format!("printf %s {digits} | cksum")]).output().unwrap();
    let expected = String::from_utf8(expected.stdout).unwrap();
    terminal.until(&format!("sum={}", expected.trim())).await;

    // A shell that its user ends is announced like one that is closed for them.
    let mut shell_commands = admin.join("/shell-commands").await;
    terminal.namespace().emit("data", "exit\r").await.unwrap();
    let closed = next(&mut shell_commands).await;
    assert_eq!(closed.data()["payload"]["shellId"], shell);
    assert_eq!(closed.data()["payload"]["command"], 1);
    assert_eq!(code_of(admin.command(&lab, 7, json!({ "shellId": shell })).await), 5007);
    admin.destroy(&lab).await.unwrap();
    assert!(server.is_alive());
}
