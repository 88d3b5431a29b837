//! Rows of the specification that no other suite shows, and the table that names the tests of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use antimony_host::client::{AckError, Namespace};
use serde_json::{Value, json};

use crate::catalogue::on_every_runtime;
use crate::harness::{
    Client, Lines, Place, Server, ServerBuilder, Shell, User, code_of, contract, eventually, expect_data, next,
};
use crate::{ENDLESS_DEPLOY, ONE_NODE, TWO_ROUTERS};

/// A lab that only its runtime finds wrong, when it tries to start the node.
pub(crate) const NO_SUCH_PROGRAM: &str = "name: broken
topology:
  nodes:
    n1:
      kind: linux
      cmd: /no/such/program
";

/// The sentence of an error.
fn message_of(answer: Result<Value, AckError>) -> String {
    match answer {
        Err(AckError::Refused { message, .. }) => message,
        other => panic!("an error was due, and this came: {other:?}"),
    }
}

/// State of a node as the REST API shows it.
async fn node_state(client: &Client, lab: &str, node: &str) -> String {
    let shown = client.api.lab(lab).await.unwrap();
    let nodes = shown["instance"]["nodes"].as_array().cloned().unwrap_or_default();
    let found = nodes.iter().find(|shown| shown["name"] == node);
    found.map_or("none", |node| node["state"].as_str().unwrap()).to_owned()
}

async fn until_node_is(client: &Client, lab: &str, node: &str, wanted: &str) {
    eventually(async || match node_state(client, lab, node).await {
        state if state == wanted => Ok(()),
        state => Err(format!("{node} is {state}, not {wanted}")),
    })
    .await;
}

/// Waits for the announcement that a shell has closed.
async fn until_closed(shell_commands: &mut Namespace, shell: &str) {
    let closed = expect_data(shell_commands, "the end of a shell", |data| data["payload"]["shellId"] == *shell).await;
    assert_eq!(closed["payload"]["command"], 1, "{closed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_code_of_its_own_is_5000_and_a_sentence() {
    if !User::Myself.can_run_labs("error 5000") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ENDLESS_DEPLOY).await;
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    Lines::of(admin.join_once_there(&format!("/logs/{lab}")).await).until("deploy has begun").await;
    admin.destroy(&lab).await.unwrap();
    let cancelled = deploy.await.unwrap();
    assert_eq!(code_of(cancelled.clone()), 5000);
    assert!(message_of(cancelled).contains("cancelled by a destroy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_runtime_cannot_do_is_5001_and_the_lab_is_failed() {
    if !User::Myself.can_run_labs("error 5001") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut statuses = admin.join("/status-messages").await;
    let lab = admin.create_lab("course", NO_SUCH_PROGRAM).await;
    let refused = admin.deploy(&lab).await;
    assert_eq!(code_of(refused.clone()), 5001);
    let message = message_of(refused);
    assert!(message.contains("n1") && message.contains("/no/such/program"), "{message}");
    assert_eq!(admin.state(&lab).await, Some(3));
    let status = expect_data(&mut statuses, "an error", |data| data["payload"]["severity"] == 3).await;
    assert!(status["payload"]["content"].as_str().unwrap().contains("could not be deployed"), "{status}");
    assert!(admin.log(&lab).await.iter().any(|line| line.contains("/no/such/program")));
    admin.destroy(&lab).await.unwrap();
    assert_eq!(admin.state(&lab).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_in_a_node_that_has_stopped_is_5004() {
    if !User::Myself.can_run_labs("error 5004") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    admin.command(&lab, 2, json!({ "node": "n1" })).await.unwrap();
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "n1" })).await), 5004);
    admin.command(&lab, 3, json!({ "node": "n1" })).await.unwrap();
    admin.open_shell(&lab, "n1").await;
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_beyond_the_limit_is_5008_until_another_has_closed() {
    if !User::Myself.can_run_labs("error 5008") {
        return;
    }
    let server = ServerBuilder::new(User::Myself).config("shell:\n  userLimit: 2\n").start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let first = admin.open_shell(&lab, "n1").await;
    admin.open_shell(&lab, "n1").await;
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "n1" })).await), 5008);
    // The limit is one for each user.
    server.member("student", &["course"]).await.open_shell(&lab, "n1").await;
    admin.command(&lab, 7, json!({ "shellId": first })).await.unwrap();
    admin.open_shell(&lab, "n1").await;
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn node_commands_on_a_lab_or_node_that_cannot_take_them_have_the_code_for_it() {
    if !User::Myself.can_run_labs("node commands at the wrong time") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ENDLESS_DEPLOY).await;
    let node = json!({ "node": "n1" });
    for command in [2, 3, 4, 6] {
        assert_eq!(code_of(admin.command(&lab, command, node.clone()).await), 5003, "command {command}, no instance");
    }
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    Lines::of(admin.join_once_there(&format!("/logs/{lab}")).await).until("deploy has begun").await;
    for command in [2, 3, 4, 6] {
        assert_eq!(code_of(admin.command(&lab, command, node.clone()).await), 5002, "command {command}, deploying");
        let unknown = admin.command(&lab, command, json!({ "node": "n9" })).await;
        assert_eq!(code_of(unknown), 5006, "command {command}");
    }
    admin.destroy(&lab).await.unwrap();
    code_of(deploy.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_answers_what_the_specification_says() {
    if !User::Myself.can_run_labs("the answers to all commands") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let node = json!({ "node": "n1" });
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])), "also where there is no instance");
    assert_eq!(admin.command(&lab, 0, json!({})).await, Ok(Value::Null));
    assert_eq!(admin.command(&lab, 2, node.clone()).await, Ok(Value::Null));
    assert_eq!(node_state(&admin, &lab, "n1").await, "exited");
    assert_eq!(admin.command(&lab, 3, node.clone()).await, Ok(Value::Null));
    assert_eq!(node_state(&admin, &lab, "n1").await, "running");
    assert_eq!(admin.command(&lab, 4, node.clone()).await, Ok(Value::Null));
    assert_eq!(node_state(&admin, &lab, "n1").await, "running");
    let (first, second) = (admin.open_shell(&lab, "n1").await, admin.open_shell(&lab, "n1").await);
    let listed = json!([{ "id": first, "node": "n1" }, { "id": second, "node": "n1" }]);
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(listed), "oldest first");
    assert_eq!(admin.command(&lab, 7, json!({ "shellId": first })).await, Ok(Value::Null));
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([{ "id": second, "node": "n1" }])));
    assert_eq!(admin.command(&lab, 1, json!({})).await, Ok(Value::Null));
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_carried_out_without_anybody_who_waits_for_its_answer() {
    if !User::Myself.can_run_labs("all commands without acknowledgement") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let send = async |command: u8, more: Value| {
        let mut message = json!({ "labId": lab, "command": command, "node": "n1" });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        admin.commands.emit("data", message).await.unwrap();
    };
    let shells = async || admin.command(&lab, 5, json!({})).await.unwrap().as_array().unwrap().clone();
    let until_shells = async |count: usize| {
        eventually(async || match shells().await.len() {
            there if there == count => Ok(()),
            there => Err(format!("there are {there} shells, not {count}")),
        })
        .await;
    };
    let mut shell_commands = admin.join("/shell-commands").await;
    send(0, json!({})).await;
    until_node_is(&admin, &lab, "n1", "running").await;
    eventually(async || match admin.state(&lab).await {
        Some(1) => Ok(()),
        other => Err(format!("the lab's state is {other:?}")),
    })
    .await;
    send(2, json!({})).await;
    until_node_is(&admin, &lab, "n1", "exited").await;
    send(3, json!({})).await;
    until_node_is(&admin, &lab, "n1", "running").await;
    send(5, json!({})).await;
    send(6, json!({})).await;
    until_shells(1).await;
    let shell = shells().await[0]["id"].as_str().unwrap().to_owned();
    send(7, json!({ "shellId": shell })).await;
    until_closed(&mut shell_commands, &shell).await;
    until_shells(0).await;
    // A restart closes the node's shells, which is how one sees it from here.
    let shell = admin.open_shell(&lab, "n1").await;
    send(4, json!({})).await;
    until_closed(&mut shell_commands, &shell).await;
    until_node_is(&admin, &lab, "n1", "running").await;
    send(1, json!({})).await;
    eventually(async || match admin.state(&lab).await {
        None => Ok(()),
        other => Err(format!("the lab's state is {other:?}")),
    })
    .await;
    // And each that fails, of whom nobody is told.
    for command in 0..=8 {
        let unknown = json!({ "labId": "nothing", "command": command });
        admin.commands.emit("data", unknown).await.unwrap();
        if command != 0 {
            send(command, json!({ "node": "n9", "shellId": "nothing" })).await;
        }
    }
    assert_eq!(shells().await.len(), 0, "and the server lives");
    assert!(server.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_start_and_restart_of_a_node_keep_its_links_and_addresses_and_close_its_shells() {
    if !User::Myself.can_run_labs("links of a node over a restart") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let mut shell_commands = admin.join("/shell-commands").await;
    let mut peer = Shell::open(&admin, &lab, "r2").await;
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    // Without the address that the kernel itself gives an interface a while after it is up.
    let list = "ip -o -4 address show dev eth1";
    let addresses = shell.succeeds(list).await;
    peer.succeeds("ping -c 1 -W 10 10.0.0.1").await;
    let node = json!({ "node": "r1" });

    admin.command(&lab, 2, node.clone()).await.unwrap();
    until_closed(&mut shell_commands, &shell.id).await;
    assert_eq!(node_state(&admin, &lab, "r1").await, "exited");
    assert_eq!(node_state(&admin, &lab, "r2").await, "running");
    assert_eq!(admin.state(&lab).await, Some(1), "the lab runs on");
    peer.fails("ping -c 1 -W 1 10.0.0.1").await;
    for command in [3, 4] {
        let before = match node_state(&admin, &lab, "r1").await.as_str() {
            "running" => Some(Shell::open(&admin, &lab, "r1").await),
            _ => None,
        };
        admin.command(&lab, command, node.clone()).await.unwrap();
        if let Some(before) = before {
            until_closed(&mut shell_commands, &before.id).await;
        }
        peer.succeeds("ping -c 3 -i 0.2 -W 10 10.0.0.1").await;
        let mut shell = Shell::open(&admin, &lab, "r1").await;
        assert_eq!(shell.succeeds(list).await, addresses, "after command {command}");
        admin.command(&lab, 7, json!({ "shellId": shell.id })).await.unwrap();
        until_closed(&mut shell_commands, &shell.id).await;
    }
    admin.destroy(&lab).await.unwrap();
    let closed = next(&mut shell_commands).await;
    assert_eq!(closed.data()["payload"]["shellId"], peer.id, "no shell but this was left to close");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_takes_binary_frames_as_bytes() {
    if !User::Myself.can_run_labs("binary input") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "n1").await;
    shell.succeeds("stty -echo").await;
    // A character cut in two, which text couldn't be.
    for piece in [&b"echo \xe2\x82"[..], b"\xac | od -An -tx1\r"] {
        assert_eq!(shell.terminal.namespace().call_binary("data", piece).await, Ok(Value::Null));
    }
    shell.terminal.until("e2 82 ac 0a").await;
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_update_that_nobody_can_judge_says_that_everything_may_have_changed() {
    let test = "updates that can't be judged";
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let Some(looping) = crate::plugins::build(test, "tests/guests/authorize-loops").await else { return };
    let place = Place::new(User::Myself);
    let lab = ServerBuilder::at(&place).start().await.admin().await.create_lab("course", ONE_NODE).await;
    let config = format!(
        "plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n    - path: {}\n      settings: {{ on: view-lab }}\n",
        looping.display()
    );
    let server = ServerBuilder::at(&place).config(&config).start().await;
    let admin = server.admin().await;
    let mut updates = admin.join("/lab-updates").await;
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    assert_eq!(next(&mut updates).await.data(), &json!({ "payload": { "labId": null } }));
    assert_eq!(deploy.await.unwrap(), Ok(Value::Null));
    admin.destroy(&lab).await.unwrap();
}

/// The table that says which test shows which row of the specification.
const TABLE: &str = include_str!("../specification.md");

#[test]
fn every_test_that_the_table_names_is_there() {
    let named: BTreeSet<&str> = TABLE
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect();
    let suites = ["e2e ", "embedded ", "plugins ", "runtimes ", "lib "];
    let named: BTreeSet<&str> =
        named.into_iter().filter(|word| suites.iter().any(|suite| word.starts_with(suite))).collect();
    assert!(named.len() > 30, "{named:?}");
    let there = tests();
    let missing: Vec<_> = named.iter().filter(|test| !there.contains(**test)).collect();
    assert!(missing.is_empty(), "named in tests/specification.md, and not there: {missing:#?}");
}

#[test]
fn every_row_of_the_table_names_a_test_and_everything_in_the_contract_has_a_row() {
    let mut rows = BTreeMap::new();
    for line in TABLE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Row ")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [row, tests] = cells.as_slice() else { panic!("two cells: {line}") };
        assert!(tests.contains("::"), "no test shows this row: {line}");
        rows.insert((*row).to_owned(), (*tests).to_owned());
    }
    let all = rows.keys().map(String::as_str).collect::<Vec<_>>().join("\n");
    let document = contract::document();
    let mut wanted: Vec<String> = Vec::new();
    for (id, channel) in document["channels"].as_object().unwrap() {
        if id != "namespace" {
            wanted.push(format!("`{}`", channel["address"].as_str().unwrap()));
        }
    }
    for (id, operation) in document["operations"].as_object().unwrap() {
        wanted.push(format!("({id}"));
        assert!(operation["title"].is_string(), "{id}");
    }
    let listed = |list: &str, prefix: &str| -> Vec<String> {
        let values = document["components"]["schemas"][list]["oneOf"].as_array().unwrap();
        values.iter().map(|value| format!("{prefix}`{}`", value["const"].to_string().trim_matches('"'))).collect()
    };
    wanted.extend(listed("ErrorCode", "Error "));
    wanted.extend(listed("Severity", "Severity "));
    wanted.extend(listed("ShellCommandId", "Shell command "));
    wanted.extend(listed("RefusalText", "Refusal "));
    wanted.extend((0..=7).map(|command| format!("Command `{command}`")));
    let missing: Vec<_> = wanted.iter().filter(|wanted| !all.contains(*wanted)).collect();
    assert!(missing.is_empty(), "in the contract, and without a row in tests/specification.md: {missing:#?}");
}

/// All tests of the suites under `tests/` and of the program itself, as `suite module::name`, with `lib` for the latter.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all: BTreeSet<String> =
        on_every_runtime().into_iter().map(|name| format!("runtimes containerlab::{name}")).collect();
    for (suite, folder) in
        [("e2e", "tests/e2e"), ("embedded", "tests/embedded"), ("plugins", "tests/plugins"), ("lib", "host/src")]
    {
        let folder = root.join(folder);
        for file in sources(&folder) {
            let relative = file.strip_prefix(&folder).unwrap().with_extension("");
            let mut modules: Vec<_> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if matches!(modules.last().map(String::as_str), Some("mod" | "main" | "lib")) {
                modules.pop();
            }
            let text = fs::read_to_string(&file).unwrap();
            let mut is_test = false;
            let mut within_tests = false;
            for line in text.lines() {
                within_tests |= line.starts_with("mod tests {");
                let line = line.trim();
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                if let Some(name) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")
                    && std::mem::take(&mut is_test)
                {
                    let name = name.split_once('(').unwrap().0;
                    let mut path = modules.clone();
                    path.extend(within_tests.then(|| "tests".to_owned()));
                    path.push(name.to_owned());
                    all.insert(format!("{suite} {}", path.join("::")));
                }
            }
        }
    }
    all
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
