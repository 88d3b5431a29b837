//! Nothing may hang: lines 8 to 10.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Server, ServerBuilder, Shell, User, code_of, descendants, expect_data, next, within};
use crate::{ONE_NODE, TWO_ROUTERS};

/// Line 8.
#[tokio::test(flavor = "multi_thread")]
async fn many_edits_and_deletes_of_a_running_lab_are_refused_and_every_later_call_answers() {
    if !User::Myself.can_run_labs("editing a running lab, many times") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let path = format!("/labs/{lab}");
    let calls: Vec<_> = (0..60)
        .map(|number| {
            let (api, path) = (admin.api.clone(), path.clone());
            tokio::spawn(async move {
                match number % 2 {
                    0 => api.request(Method::PATCH, &path, Some(&json!({ "name": "other" }))).await,
                    _ => api.request(Method::DELETE, &path, None).await,
                }
            })
        })
        .collect();
    for call in calls {
        let error = within("an answer", call).await.unwrap().expect_err("it runs");
        assert!(error.to_string().contains("destroy it first"), "{error}");
    }
    // The topology that it was made from may not go either.
    let topology = admin.api.lab(&lab).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    admin.api.request(Method::DELETE, &format!("/topologies/{topology}"), None).await.unwrap_err();
    // Every kind of call still answers.
    for command in [2, 3, 4] {
        assert_eq!(admin.command(&lab, command, json!({ "node": "n1" })).await, Ok(Value::Null), "command {command}");
    }
    let shell = admin.open_shell(&lab, "n1").await;
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([{ "id": shell, "node": "n1" }])));
    assert_eq!(admin.command(&lab, 7, json!({ "shellId": shell })).await, Ok(Value::Null));
    assert_eq!(admin.deploy(&lab).await, Ok(Value::Null));
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    admin.api.request(Method::PATCH, &path, Some(&json!({ "name": "other" }))).await.unwrap();
    admin.api.request(Method::DELETE, &path, None).await.unwrap();
}

/// Line 9.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_idles_out_is_closed_and_announced_and_other_shells_still_work() {
    if !User::Myself.can_run_labs("a shell that idles out") {
        return;
    }
    let server = ServerBuilder::new(User::Myself).config("shell:\n  timeout: 3\n").start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let mut announced = admin.join("/shell-commands").await;
    let mut busy = Shell::open(&admin, &lab, "r1").await;
    // Something happens in it all the time: far more often than the limit, so that a busy machine changes nothing.
    busy.terminal
        .namespace()
        .emit("data", "touch /tmp/busy; while [ -e /tmp/busy ]; do echo tick; sleep 0.02; done\n")
        .await
        .unwrap();
    busy.terminal.until("tick\r\n").await;
    let mut idle = Shell::open(&admin, &lab, "r1").await;
    assert_eq!(idle.succeeds("echo $((40 + 2))").await, "42");

    let closed = next(&mut announced).await;
    let closed = &closed.data()["payload"];
    assert_eq!((&closed["shellId"], &closed["command"]), (&json!(idle.id), &json!(1)), "{closed}");
    assert!(closed["message"].as_str().unwrap().contains("idle"), "{closed}");
    assert_eq!(code_of(admin.command(&lab, 7, json!({ "shellId": idle.id })).await), 5007);
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([{ "id": busy.id, "node": "r1" }])));
    let mut another = Shell::open(&admin, &lab, "r1").await;
    assert_eq!(another.succeeds("rm /tmp/busy; echo $((2000 + 1))").await, "2001");
    assert_eq!(busy.succeeds("echo $((1000 + 1))").await, "1001");
    admin.destroy(&lab).await.unwrap();
}

/// The process of the lab's own that starts programs in its nodes, on the host: the one below its keeper, which is the one
/// below the server.
fn keeper_and_starter_of(server: &Server, instance: &str) -> [Pid; 2] {
    let names_it = |id: &u32| {
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).split('\0').any(|word| word == instance)
    };
    let parent = |id: u32| -> u32 {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    let all: Vec<u32> = descendants(server.id()).into_iter().filter(names_it).collect();
    let keeper = all.iter().copied().find(|id| parent(*id) == server.id()).expect("a keeper");
    let starter = all.iter().copied().find(|id| parent(*id) == keeper).expect("the lab's first process");
    [keeper, starter].map(|id| Pid::from_raw(i32::try_from(id).unwrap()))
}

/// Line 10. What can keep a login from answering in this runtime is the lab's own process that starts it; it is stopped
/// here as with a debugger.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_never_answers_fails_within_its_time_and_other_commands_of_the_lab_are_served_meanwhile() {
    if !User::Myself.can_run_labs("a login that never answers") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    let other = admin.create_lab("other", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    admin.deploy(&other).await.unwrap();
    let mut open_before = Shell::open(&admin, &lab, "r1").await;
    let instance = admin.api.lab(&lab).await.unwrap()["instance"]["name"].as_str().unwrap().to_owned();
    // The keeper first: it takes a child that was stopped for one that has ended, and would end the lab.
    for process in keeper_and_starter_of(&server, &instance) {
        kill(process, Signal::SIGSTOP).unwrap();
    }

    let opening = admin.command_in_background(&lab, 6, json!({ "node": "r2" }));
    for _ in 0..5 {
        assert!(admin.command(&lab, 5, json!({})).await.is_ok());
        assert_eq!(admin.state(&lab).await, Some(1));
    }
    // Seconds before its time is over, on the slowest machine.
    assert!(!opening.is_finished(), "all of that was while it was being opened");
    assert_eq!(open_before.succeeds("echo $((40 + 2))").await, "42", "a shell that is open stays so");
    let mut elsewhere = Shell::open(&admin, &other, "n1").await;
    assert_eq!(elsewhere.succeeds("echo $((40 + 3))").await, "43", "other labs don't notice");
    // `within` is more patient than the limit.
    match opening.await.unwrap() {
        Err(antimony_host::client::AckError::Refused { code: 5000, message }) => {
            assert!(message.contains("r2") && message.contains("did not finish within"), "{message}");
        }
        answer => panic!("{answer:?}"),
    }
    assert_eq!(admin.command(&lab, 5, json!({})).await.unwrap().as_array().unwrap().len(), 1, "none is half open");

    admin.destroy(&lab).await.unwrap();
    admin.destroy(&other).await.unwrap();
}

/// Line 10, where the login is slow rather than dead: a shell whose start-up file never ends is open, silent, and can be
/// closed, and nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_says_nothing_holds_nobody_up_and_can_be_closed() {
    if !User::Myself.can_run_labs("a shell that says nothing") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let silent = "name: silent\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      exec:\n        - sh -c 'echo \"trap \\\"\\\" INT TERM HUP; sleep 10000\" > /root/.bashrc'\n";
    let lab = admin.create_lab("course", silent).await;
    admin.deploy(&lab).await.unwrap();
    let mut announced = admin.join("/shell-commands").await;
    let shell = admin.open_shell(&lab, "n1").await;
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([{ "id": shell, "node": "n1" }])));
    assert_eq!(admin.command(&lab, 4, json!({ "node": "n1" })).await, Ok(Value::Null));
    let closed = |data: &Value| data["payload"]["shellId"] == shell;
    expect_data(&mut announced, "that the shell ended with its node", closed).await;
    let again = admin.open_shell(&lab, "n1").await;
    assert_eq!(admin.command(&lab, 7, json!({ "shellId": again })).await, Ok(Value::Null));
    let client = Client::connect(&server, &admin.token).await;
    assert_eq!(client.destroy(&lab).await, Ok(Value::Null));
}
