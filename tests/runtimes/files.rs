//! Bind files: what lies beside a topology is where its nodes want to see it.

use reqwest::Method;
use serde_json::json;

use crate::DEFAULTS;
use crate::bench::Bench;
use crate::harness::{Client, Shell, code_of};

/// Adds a file; answers its path in the API.
async fn add(client: &Client, topology: &str, path: &str, content: &str) -> String {
    let files = format!("/topologies/{topology}/files");
    let id = client.api.create(&files, &json!({ "filePath": path, "content": content })).await.unwrap();
    format!("{files}/{id}")
}

fn names(folder: std::path::PathBuf) -> Vec<std::ffi::OsString> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

pub(crate) async fn files_of_a_topology_are_seen_by_its_nodes_as_they_were_when_it_was_deployed(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    // What is not the host's is for everybody.
    let member = server.member("student", &["course"]).await;
    let more = if on.is_containerlab() { ", env-files: [vars.env]" } else { "" };
    let definition = format!(
        "name: files\ntopology:\n  {DEFAULTS}\n  nodes:\n    \
         n1: {{binds: ['conf/a.txt:/etc/a.txt:ro', './conf/:/conf:ro', 'up.sh:/opt/up.sh', 'notes:/notes'], exec: [/opt/up.sh]{more}}}\n    \
         n2: {{binds: ['notes:/notes:rw']}}\n"
    );
    let topology = member.api.create_topology(&collection, &definition).await.unwrap();
    let lab = member.api.create_lab(&topology, "lab").await.unwrap();

    // Nothing is begun as long as one is missing, and it is said which.
    let refused = member.deploy(&lab).await.unwrap_err().to_string();
    assert!(refused.contains("n1") && refused.contains("binds") && refused.contains("add it"), "{refused}");
    assert_eq!(code_of(member.deploy(&lab).await), 5000);
    assert_eq!(member.state(&lab).await, None);

    let first = add(&member, &topology, "conf/a.txt", "first\n").await;
    add(&member, &topology, "conf/sub/b.txt", "below\n").await;
    add(&member, &topology, "up.sh", "#!/bin/sh\necho the script of the topology runs: $(cat /etc/a.txt)\n").await;
    add(&member, &topology, "notes", "").await;
    add(&member, &topology, "vars.env", "GREETING=hello there\n").await;
    member.deploy(&lab).await.unwrap();
    let log = member.log(&lab).await;
    assert!(log.iter().any(|line| line.contains("the script of the topology runs: first")), "{log:#?}");

    let mut one = Shell::open(&member, &lab, "n1").await;
    assert_eq!(one.succeeds("cat /etc/a.txt").await, "first");
    assert_eq!(one.succeeds("cat /conf/a.txt /conf/sub/b.txt | tr '\\n' ' '").await.trim(), "first below");
    one.fails("echo changed > /etc/a.txt").await;
    one.fails("touch /conf/new").await;
    if on.is_containerlab() {
        assert_eq!(one.succeeds("echo $GREETING").await, "hello there");
    }
    one.succeeds("echo from n1 > /notes").await;
    let mut two = Shell::open(&member, &lab, "n2").await;
    assert_eq!(two.succeeds("cat /notes").await, "from n1");

    // What is changed now is for the next deploy.
    member.api.request(Method::PATCH, &first, Some(&json!({ "content": "second\n" }))).await.unwrap();
    assert_eq!(one.succeeds("cat /etc/a.txt").await, "first");
    member.command(&lab, 4, json!({ "node": "n1" })).await.unwrap();
    let mut one = Shell::open(&member, &lab, "n1").await;
    assert_eq!(one.succeeds("cat /etc/a.txt /notes | tr '\\n' ' '").await.trim(), "first from n1");
    member.deploy(&lab).await.unwrap();
    let mut one = Shell::open(&member, &lab, "n1").await;
    assert_eq!(one.succeeds("cat /etc/a.txt").await, "second");
    assert_eq!(one.succeeds("wc -c < /notes").await.trim(), "0");

    let run = server.place().data().join("run");
    assert_eq!(names(run.clone()).len(), 1);
    member.destroy(&lab).await.unwrap();
    assert!(names(run).is_empty());
}
