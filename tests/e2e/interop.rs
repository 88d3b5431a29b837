//! Other people's clients drive the same flow, over each transport that they know. What they need is not installed by
//! the tests: `tests/interop/prepare` does that, and what is missing is left out.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::harness::{FlakyNetwork, Server, User, leave_out, within};
use crate::{ONE_NODE, TWO_ROUTERS};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const JS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/interop/js");
const PREPARE: &str = "it is not prepared: run tests/interop/prepare";

/// What is in the repository, by its path there.
fn in_repository(path: &str) -> std::path::PathBuf {
    Path::new(REPOSITORY).join(path)
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Node with the client's modules; `None`: `test` was left out, and why has been said.
fn node(test: &str) -> Option<Command> {
    let version = std::process::Command::new("node").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        leave_out(test, "there is no node on this machine");
        return None;
    }
    if !Path::new(JS).join("node_modules/socket.io-client/package.json").exists() {
        leave_out(test, PREPARE);
        return None;
    }
    let mut node = quiet(Command::new("node"));
    node.current_dir(JS);
    Some(node)
}

/// The Python that has the client.
fn python(test: &str) -> Option<Command> {
    let program = in_repository("target/interop/python/bin/python");
    if !program.exists() {
        leave_out(test, PREPARE);
        return None;
    }
    let mut python = quiet(Command::new(program));
    // Nothing is left beside the scripts, and nothing of the person who runs the tests is taken up.
    python.args(["-B", "-I"]).arg(in_repository("tests/interop/python/spine.py"));
    Some(python)
}

/// The program made of the Rust client, as its source is now.
async fn rust(test: &str) -> Option<Command> {
    let target = in_repository("target/interop/rust");
    let program = target.join("debug/antimony-interop");
    if !program.exists() {
        leave_out(test, PREPARE);
        return None;
    }
    // What it needs has been downloaded by then, so that this takes a moment, and a few seconds after a change.
    let mut cargo = quiet(Command::new(env!("CARGO")));
    cargo.args(["build", "--quiet", "--locked", "--offline", "--manifest-path"]);
    cargo.arg(in_repository("tests/interop/rust/Cargo.toml")).arg("--target-dir").arg(target);
    succeeds("the build of the Rust client", cargo).await;
    Some(quiet(Command::new(program)))
}

/// Runs a command to its end, which has to be a good one; answers what it printed.
async fn succeeds(what: &str, mut command: Command) -> String {
    let output = within(what, command.output()).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{what}: {printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

async fn javascript_drives_a_lab(mode: &str) {
    let test = format!("the official JavaScript client over {mode}");
    let Some(mut node) = node(&test) else { return };
    if !User::Myself.can_run_labs(&test) {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    let member = server.token("student", &["course"]);
    node.args(["spine.mjs", &server.url, &admin.token, &lab, &member, mode]);
    succeeds("the script", node).await;
    assert_eq!(admin.state(&lab).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_javascript_client_drives_a_lab_over_web_sockets() {
    javascript_drives_a_lab("websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_javascript_client_drives_a_lab_by_polling() {
    javascript_drives_a_lab("polling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_javascript_client_drives_a_lab_while_it_changes_from_polling_to_a_web_socket() {
    javascript_drives_a_lab("upgrade").await;
}

/// A deploy that prints `line 1` to `line 400` over some two seconds.
const CHATTY: &str = "name: chatty
topology:
  nodes:
    n1:
      kind: linux
      exec:
        - sh -c 'i=1; while [ $i -le 400 ]; do echo line $i; sleep 0.005; i=$((i+1)); done'
";

async fn javascript_comes_back(mode: &str) {
    let test = format!("the official JavaScript client comes back over {mode}");
    let Some(mut node) = node(&test) else { return };
    if !User::Myself.can_run_labs(&test) {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let network = FlakyNetwork::before(&server.url).await;
    let lab = admin.create_lab("course", CHATTY).await;
    let deployed = admin.command_in_background(&lab, 0, serde_json::json!({}));
    drop(admin.join_once_there(&format!("/logs/{lab}")).await);
    node.args(["reconnect.mjs", network.url(), &admin.token, &lab, "400", mode]);
    node.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut script = node.spawn().unwrap();
    let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
    let mut cuts = 0;
    while let Some(line) = within("what the script says", lines.next_line()).await.unwrap() {
        assert_eq!(line, "cut me");
        network.cut();
        cuts += 1;
    }
    let output = within("the script", script.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(cuts, 2);
    assert_eq!(deployed.await.unwrap(), Ok(serde_json::Value::Null));
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_there_exactly_once_again_when_the_official_client_has_lost_its_web_socket() {
    javascript_comes_back("websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_there_exactly_once_again_when_the_official_client_has_lost_its_polling() {
    javascript_comes_back("polling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_there_exactly_once_again_when_the_official_client_changes_its_transport_and_loses_it() {
    javascript_comes_back("upgrade").await;
}

/// Runs a client that logs in and creates everything by itself.
async fn drives_a_lab(test: &str, client: Option<Command>, mode: &str) {
    let Some(mut client) = client else { return };
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let server = Server::start().await;
    let member = server.token("student", &["course"]);
    client.args([&server.url, "admin", "admin", &member]);
    client.arg(in_repository("examples/labs/two-routers.clab.yml")).arg(mode);
    succeeds(test, client).await;
}

async fn python_drives_a_lab(mode: &str) {
    let test = format!("python-socketio over {mode}");
    drives_a_lab(&test, python(&test), mode).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_socketio_drives_a_lab_over_web_sockets() {
    python_drives_a_lab("websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_socketio_drives_a_lab_by_polling() {
    python_drives_a_lab("polling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_socketio_drives_a_lab_after_changing_from_polling_to_a_web_socket() {
    python_drives_a_lab("upgrade").await;
}

async fn rust_drives_a_lab(mode: &str) {
    let test = format!("rust_socketio over {mode}");
    drives_a_lab(&test, rust(&test).await, mode).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_socketio_drives_a_lab_over_web_sockets() {
    rust_drives_a_lab("websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_socketio_drives_a_lab_by_polling() {
    rust_drives_a_lab("polling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_socketio_drives_a_lab_after_changing_from_polling_to_a_web_socket() {
    rust_drives_a_lab("upgrade").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_client_deploys_a_lab_and_shows_its_log() {
    let test = "the example of a client in JavaScript";
    let Some(mut node) = node(test) else { return };
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    let script = beside_the_modules(include_str!("../../examples/clients/deploy.mjs"));
    node.arg(script.path()).args([&server.url, "admin", "admin", "lab"]);
    let shown = succeeds("the example", node).await;
    for part in ["its host name is r1", "its host name is r2", "lab is up"] {
        assert!(shown.contains(part), "{part:?} is missing in {shown}");
    }
    admin.destroy(&lab).await.unwrap();
}

/// A script where Node finds the modules that it imports.
fn beside_the_modules(script: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().prefix("script-").suffix(".mjs").tempfile_in(JS).unwrap();
    fs::write(file.path(), script).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn the_five_lines_that_the_demo_prints_follow_what_the_server_does() {
    let test = "the demo's five lines of JavaScript";
    let Some(mut node) = node(test) else { return };
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let script = beside_the_modules(&antimony_host::demo::snippet(&server.url, "admin", Some("admin")));
    let mut child = node.arg(script.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    if !User::Myself.can_run_labs(test) {
        return;
    }
    // Nobody tells when the script has joined, so there is something to hear again and again.
    let something_to_hear = async {
        loop {
            admin.deploy(&lab).await.unwrap();
            admin.destroy(&lab).await.unwrap();
        }
    };
    let heard = async { while !lines.next_line().await.unwrap().expect("the script ended").contains("content:") {} };
    // Side by side: a deploy that was left halfway for each line that came would be in the way of the next.
    let heard = async {
        tokio::select! {
            () = something_to_hear => {}
            () = heard => {}
        }
    };
    within("a status message in the script", heard).await;
}
