//! This project's server: built by cargo, used by REST and commands as anybody would use it.
//!
//! Its log lines are what a node prints: the topology's `exec` is changed to print the lines that are wanted, and the lab
//! is deployed anew. Its clients stay connected meanwhile.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use antimony_host::client::Api;
use anyhow::{Context as _, bail, ensure};
use http::Method;
use serde_json::json;

use crate::connection::Connection;

/// How often a deploy is tried when the server says to try again.
const ATTEMPTS: usize = 100;

/// A lab of the server, and its topology.
#[derive(Debug, Clone)]
pub(super) struct Lab {
    topology: String,
    id: String,
}

/// Builds the program beside this one, with the profile that this one was built with. Answers where it is.
pub(crate) fn build_server() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    let folder = this.parent().context("this program is in a folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--locked", "--quiet", "--package", "antimony-host", "--bin", "antimony-host"]);
    build.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"));
    let release = !cfg!(debug_assertions);
    build.args(release.then_some("--release"));
    let target = folder.parent().context("a folder of cargo's")?;
    build.arg("--target-dir").arg(target);
    ensure!(build.status().context("run cargo")?.success(), "the server can't be built");
    Ok(folder.join("antimony-host"))
}

fn api(address: SocketAddr) -> Api {
    Api::anonymous(&format!("http://{address}"))
}

/// Logs in as the administrator that a server on loopback has.
pub(super) async fn log_in(address: SocketAddr) -> anyhow::Result<String> {
    Ok(api(address).log_in("admin", "admin").await?.access_token)
}

/// Makes a lab unless there is one, and deploys it, so that its log is there. Answers its id.
pub(super) async fn quiet_lab(lab: &mut Option<Lab>, address: SocketAddr, token: &str) -> anyhow::Result<String> {
    let lab = match lab {
        Some(lab) => {
            change(lab, address, token, "true").await?;
            &*lab
        }
        None => {
            let api = api(address).with_token(token);
            let collection = api.create_collection("load", false, false).await?;
            let topology = api.create_topology(&collection, &definition("true")).await?;
            let id = api.create_lab(&topology, "load").await?;
            &*lab.insert(Lab { topology, id })
        }
    };
    deploy(lab, address, token).await?;
    Ok(lab.id.clone())
}

/// Has the lab's node print lines; returns when it has.
pub(super) async fn emit(
    lab: Lab,
    address: SocketAddr,
    token: String,
    first: u64,
    count: u64,
    rate: u64,
) -> anyhow::Result<()> {
    let last = first + count - 1;
    let print = match 1_000_000_u64.checked_div(rate) {
        None => format!("seq -f %0124.0f {first} {last}"),
        Some(gap) => paced(first, last, gap),
    };
    change(&lab, address, &token, &print).await?;
    deploy(&lab, address, &token).await
}

/// A script that prints a line every `gap` microseconds, and starts no process to wait: reading from a pipe that nobody
/// writes to does.
fn paced(first: u64, last: u64, gap: u64) -> String {
    format!(
        "bash -c 'mkfifo /tmp/pace$$; exec 3<>/tmp/pace$$; start=${{EPOCHREALTIME/[.,]/}}; next={first}; \
         while ((next <= {last})); do now=${{EPOCHREALTIME/[.,]/}}; due=$(({first} + (now - start) / {gap})); \
         while ((next <= due && next <= {last})); do printf \"%0124d\\n\" $next; next=$((next + 1)); done; \
         read -t 0.001 -u 3; done; rm /tmp/pace$$'"
    )
}

fn definition(exec: &str) -> String {
    let exec = serde_json::Value::from(exec);
    // JSON is YAML.
    format!("name: load\ntopology:\n  nodes:\n    n:\n      kind: linux\n      exec: [{exec}]\n")
}

async fn change(lab: &Lab, address: SocketAddr, token: &str, exec: &str) -> anyhow::Result<()> {
    let api = api(address).with_token(token);
    let path = format!("/topologies/{}", lab.topology);
    let body = json!({ "definition": definition(exec) });
    api.request(Method::PATCH, &path, Some(&body)).await?;
    Ok(())
}

async fn deploy(lab: &Lab, address: SocketAddr, token: &str) -> anyhow::Result<()> {
    let mut client = Connection::open(address).await?;
    client.join("/lab-commands", token).await?;
    for attempt in 0..ATTEMPTS {
        let ack = format!("3/lab-commands,{attempt}[");
        client.send(&format!(r#"42/lab-commands,{attempt}["data",{{"labId":"{}","command":0}}]"#, lab.id)).await?;
        let answer = loop {
            let message = client.next().await?;
            if message.strip_prefix(b"4").is_some_and(|packet| packet.starts_with(ack.as_bytes())) {
                break String::from_utf8_lossy(message).into_owned();
            }
        };
        // The lab may not have heard yet of its changed topology; it says so then.
        if answer.contains("try again") {
            continue;
        }
        ensure!(answer.contains("payload"), "the lab can't be deployed: {answer}");
        return Ok(());
    }
    bail!("the lab can't be deployed: {ATTEMPTS} times it said to try again")
}
