//! Checkpoints: of what each runtime can save, and what `containerlab save` makes of a node whose kind has a configuration.

use reqwest::Method;
use serde_json::{Value, json};

use crate::bench::{Bench, Runtime};
use crate::harness::{Client, Shell};
use crate::{DEFAULTS, apart};

async fn post(client: &Client, path: &str, body: Option<Value>) -> Result<Value, String> {
    client.api.request(Method::POST, path, body.as_ref()).await.map_err(|error| error.to_string())
}

pub(crate) async fn a_checkpoint_brings_back_definition_and_files_on_every_runtime(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let text = |node: &str| {
        apart(&format!("name: kept\ntopology:\n  {DEFAULTS}\n  nodes:\n    {node}: {{binds: ['conf:/etc/conf:ro']}}\n"))
    };
    let topology = admin.api.create_topology(&collection, &text("n1")).await.unwrap();
    let file = json!({ "filePath": "conf", "content": "first\n" });
    let files = format!("/topologies/{topology}/files");
    let file = admin.api.create(&files, &file).await.unwrap();
    let lab = admin.api.create_lab(&topology, "lab").await.unwrap();
    admin.deploy(&lab).await.unwrap();
    Shell::open(&admin, &lab, "n1").await.succeeds("echo mine > /root/mine").await;
    let saved = post(&admin, &format!("/labs/{lab}/save"), None).await.unwrap();
    let node = &saved["nodes"][0];
    assert_eq!((&node["node"], &node["saved"]), (&json!("n1"), &json!(!on.is_containerlab())), "{saved}");
    if on.is_containerlab() {
        assert!(node["detail"].as_str().unwrap().contains("kind linux"), "{saved}");
    }
    let checkpoints = format!("/labs/{lab}/checkpoints");
    let made = post(&admin, &checkpoints, Some(json!({ "name": "first" }))).await.unwrap();
    admin.destroy(&lab).await.unwrap();
    let second = json!({ "content": "second\n" });
    admin.api.request(Method::PATCH, &format!("{files}/{file}"), Some(&second)).await.unwrap();
    let other = json!({ "definition": text("n2") });
    admin.api.request(Method::PATCH, &format!("/topologies/{topology}"), Some(&other)).await.unwrap();
    let restore = format!("{checkpoints}/{}/restore", made["id"].as_str().unwrap());
    post(&admin, &restore, None).await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "n1").await;
    assert_eq!(shell.succeeds("cat /etc/conf").await, "first");
    let mine = if on.is_containerlab() { "" } else { "mine" };
    assert_eq!(shell.succeeds("cat /root/mine 2> /dev/null || true").await, mine);
    admin.deploy(&lab).await.unwrap();
    assert_eq!(Shell::open(&admin, &lab, "n2").await.succeeds("cat /etc/conf").await, "second");
    admin.destroy(&lab).await.unwrap();
}

/// A kind whose nodes are asked for their configuration by a command in them, of which a script of the topology has the name.
#[tokio::test(flavor = "multi_thread")]
async fn what_containerlab_saves_of_a_node_is_what_the_restored_node_starts_from() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "containerlab save") else { return };
    let server = on.builder_with("shell: {commands: {juniper_crpd: [sh]}}\n").start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let definition = apart(&format!(
        "name: saved\ntopology:\n  {DEFAULTS}\n  nodes:\n    \
         r1: {{kind: juniper_crpd, binds: ['cli:/bin/cli:ro', 'service:/bin/service:ro']}}\n    h1: {{}}\n"
    ));
    let topology = admin.api.create_topology(&collection, &definition).await.unwrap();
    let cli = "#!/bin/sh\nif test -e /root/broken; then echo no answer >&2; else cat /root/running; fi\n";
    for (path, content) in [("cli", cli), ("service", "#!/bin/sh\n")] {
        let file = json!({ "filePath": path, "content": content });
        admin.api.create(&format!("/topologies/{topology}/files"), &file).await.unwrap();
    }
    let lab = admin.api.create_lab(&topology, "lab").await.unwrap();
    admin.deploy(&lab).await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    shell.succeeds("grep -q clab123 /config/juniper.conf || cat /config/juniper.conf | head -1").await;
    shell.succeeds("mkdir -p /root; echo 'host-name kept;' > /root/running").await;
    // Nothing of this is for the next server to look at: links lead where the node says, on the host.
    shell
        .succeeds(
            "ln -s /etc/shadow /config/link; ln -s /etc /config/folder; echo x > /config/host.key; mkfifo /config/pipe",
        )
        .await;
    let saved = post(&admin, &format!("/labs/{lab}/save"), None).await.unwrap();
    let of = |saved: &Value, node: &str| {
        saved["nodes"].as_array().unwrap().iter().find(|one| one["node"] == node).unwrap().clone()
    };
    assert_eq!(of(&saved, "r1")["saved"], true, "{saved}");
    assert_eq!(of(&saved, "h1")["saved"], false, "{saved}");
    let log = admin.log(&lab).await.join("\n");
    assert!(log.contains("saved cRPD configuration") && log.contains("Saved node r1"), "{log}");

    shell.succeeds("touch /root/broken").await;
    let checkpoints = format!("/labs/{lab}/checkpoints");
    let refused = post(&admin, &checkpoints, Some(json!({ "name": "first" }))).await.unwrap_err();
    assert!(refused.contains("node r1") && refused.contains("no answer"), "{refused}");
    // What was saved before is there still.
    shell.succeeds("rm /root/broken").await;
    let made = post(&admin, &checkpoints, Some(json!({ "name": "first" }))).await.unwrap();
    let path = format!("{checkpoints}/{}", made["id"].as_str().unwrap());
    let contents = admin.api.get(&path).await.unwrap();
    let files: Vec<&str> =
        contents["nodes"][0]["files"].as_array().unwrap().iter().filter_map(|file| file["path"].as_str()).collect();
    assert_eq!((contents["nodes"].as_array().unwrap().len(), &contents["nodes"][0]["node"]), (1, &json!("r1")));
    assert!(files.contains(&"/config/juniper.conf"), "{files:?}");
    assert!(
        !files.iter().any(|path| ["link", "folder", "key", "pipe"].iter().any(|end| path.ends_with(end))),
        "{files:?}"
    );

    admin.destroy(&lab).await.unwrap();
    post(&admin, &format!("{path}/restore"), None).await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    assert_eq!(shell.succeeds("cat /config/juniper.conf").await, "host-name kept;");
    admin.deploy(&lab).await.unwrap();
    Shell::open(&admin, &lab, "r1").await.fails("grep -q host-name.kept /config/juniper.conf").await;
    admin.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}
