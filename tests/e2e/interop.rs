//! The official JavaScript client drives the same flow.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::harness::{Server, User, leave_out, within};
use crate::{ONE_NODE, TWO_ROUTERS};

const JS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/interop/js");

/// Node with the client's modules; `None`: `test` was left out, and why has been said.
fn node(test: &str) -> Option<Command> {
    let version = std::process::Command::new("node").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        leave_out(test, "there is no node on this machine");
        return None;
    }
    if !Path::new(JS).join("node_modules/socket.io-client/package.json").exists() {
        leave_out(test, "its modules are not installed: npm ci --prefix tests/interop/js");
        return None;
    }
    let mut node = Command::new("node");
    node.current_dir(JS).stdin(Stdio::null()).kill_on_drop(true);
    Some(node)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_javascript_client_drives_a_lab_from_deploy_to_destroy() {
    let test = "the official JavaScript client";
    let Some(mut node) = node(test) else { return };
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    let member = server.token("student", &["course"]);
    let output = within("the script", node.args(["spine.mjs", &server.url, &admin.token, &lab, &member]).output());
    let output = output.await.unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(admin.state(&lab).await, None);
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
    let output = within("the example", node.output()).await.unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
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
    let heard = async {
        loop {
            tokio::select! {
                line = lines.next_line() => {
                    let line = line.unwrap().expect("the script ended");
                    if line.contains("content:") {
                        return;
                    }
                }
                () = async {
                    admin.deploy(&lab).await.unwrap();
                    admin.destroy(&lab).await.unwrap();
                } => {}
            }
        }
    };
    within("a status message in the script", heard).await;
}
