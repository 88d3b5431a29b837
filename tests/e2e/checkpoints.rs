//! Saving what nodes have made, checkpoints of labs, and bringing them back.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Place, Server, ServerBuilder, Shell, User, eventually};
use crate::{ONE_NODE, TWO_ROUTERS};

/// The checkpoints of a lab, or one of them.
struct Checkpoints<'a> {
    client: &'a Client,
    path: String,
}

impl<'a> Checkpoints<'a> {
    fn of(client: &'a Client, lab: &str) -> Self {
        Self { client, path: format!("/labs/{lab}/checkpoints") }
    }

    async fn make(&self, name: &str) -> Result<Value, String> {
        let made = self.client.api.request(Method::POST, &self.path, Some(&json!({ "name": name }))).await;
        made.map_err(|error| error.to_string())
    }

    async fn names(&self) -> Vec<String> {
        let all = self.client.api.get(&self.path).await.unwrap();
        all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    }

    async fn id(&self, name: &str) -> String {
        let all = self.client.api.get(&self.path).await.unwrap();
        let found = all.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
        found["id"].as_str().unwrap().to_owned()
    }

    async fn show(&self, name: &str) -> Value {
        self.client.api.get(&format!("{}/{}", self.path, self.id(name).await)).await.unwrap()
    }

    async fn restore(&self, name: &str) -> Result<Value, String> {
        let path = format!("{}/{}/restore", self.path, self.id(name).await);
        self.client.api.request(Method::POST, &path, None).await.map_err(|error| error.to_string())
    }

    async fn remove(&self, name: &str) {
        let path = format!("{}/{}", self.path, self.id(name).await);
        self.client.api.request(Method::DELETE, &path, None).await.unwrap();
    }
}

async fn save(client: &Client, lab: &str) -> Result<Value, String> {
    let saved = client.api.request(Method::POST, &format!("/labs/{lab}/save"), None).await;
    saved.map_err(|error| error.to_string())
}

fn paths(contents: &Value, node: &str) -> Vec<String> {
    let nodes = contents["nodes"].as_array().unwrap();
    let files = nodes.iter().filter(|one| one["node"] == node).flat_map(|one| one["files"].as_array().unwrap());
    files.map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_have_changed_is_there_again_after_a_destroy_and_after_a_restart_of_the_server() {
    if !User::Myself.can_run_labs("a checkpoint that is restored") {
        return;
    }
    let place = Place::new(User::Myself);
    let mut server = ServerBuilder::at(&place).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let mut one = Shell::open(&admin, &lab, "r1").await;
    one.succeeds("echo changed > /etc/hostname; echo 'mine' > /root/.notes; chmod 600 /root/.notes").await;
    one.succeeds("mkdir -p /opt/app/empty /var/lib/x; chmod 750 /opt/app; ln -s ../../root/.notes /opt/app/link").await;
    one.succeeds("rm /etc/protocols; rm -r /etc/iproute2; echo x > '/root/a b\\c'; echo gone > /tmp/gone").await;
    let mut two = Shell::open(&admin, &lab, "r2").await;
    two.succeeds("echo two > /root/two").await;

    let checkpoints = Checkpoints::of(&admin, &lab);
    let made = checkpoints.make("before").await.unwrap();
    assert_eq!((&made["name"], &made["labId"]), (&json!("before"), &json!(lab)), "{made}");
    assert_eq!(made["creator"]["name"], "admin", "{made}");
    assert!(made["files"].as_u64().unwrap() >= 7 && made["bytes"].as_u64().unwrap() > 0, "{made}");
    let contents = checkpoints.show("before").await;
    assert_eq!(
        paths(&contents, "r1"),
        ["/etc/hostname", "/opt/app/link", "/root/.notes", "/root/a b\\c"],
        "{contents}"
    );
    assert_eq!(paths(&contents, "r2"), ["/root/two"], "{contents}");
    let log = admin.log(&lab).await.join("\n");
    assert!(log.contains("Saved node r1:") && log.contains("Made the checkpoint before"), "{log}");

    // What has changed since goes.
    one.succeeds("echo later > /etc/hostname; echo more > /root/later").await;
    admin.destroy(&lab).await.unwrap();
    assert!(server.terminate().await.success());
    drop(server);
    let server = ServerBuilder::at(&place).start().await;
    let admin = server.admin().await;
    let checkpoints = Checkpoints::of(&admin, &lab);
    assert_eq!(checkpoints.names().await, ["before"]);
    for round in ["after a restart", "in place of what runs"] {
        checkpoints.restore("before").await.unwrap();
        assert_eq!(admin.state(&lab).await, Some(1), "{round}");
        let mut one = Shell::open(&admin, &lab, "r1").await;
        assert_eq!(
            one.succeeds("cat /etc/hostname /opt/app/link | tr '\\n' ' '").await.trim(),
            "changed mine",
            "{round}"
        );
        assert_eq!(one.succeeds("stat -c %a /root/.notes /opt/app | tr '\\n' ' '").await.trim(), "600 750");
        one.succeeds("test -L /opt/app/link -a -d /opt/app/empty -a -d /var/lib/x -a -f '/root/a b\\c'").await;
        one.succeeds("! test -e /etc/protocols -o -e /etc/iproute2 -o -e /tmp/gone -o -e /root/later").await;
        one.succeeds("test -e /etc/services -a -e /usr/bin/env; echo later > /etc/hostname; touch /root/later").await;
        let mut two = Shell::open(&admin, &lab, "r2").await;
        assert_eq!(two.succeeds("cat /root/two; cat /etc/hostname | tr '\\n' ' '").await.trim(), "two\nr2");
        // Links are of the definition, and there as ever.
        one.succeeds("ip link show eth1").await;
    }
    let log = admin.log(&lab).await.join("\n");
    assert!(log.contains("Restoring the checkpoint before"), "{log}");
    // A deploy without a checkpoint begins anew.
    admin.deploy(&lab).await.unwrap();
    let mut one = Shell::open(&admin, &lab, "r1").await;
    assert_eq!(one.succeeds("cat /etc/hostname; ls -A /root; ls /etc/protocols").await, "r1\n/etc/protocols");
    admin.destroy(&lab).await.unwrap();
    checkpoints.remove("before").await;
    assert!(checkpoints.names().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_lab_that_rests_has_what_was_last_saved_and_the_definition_of_that_moment() {
    if !User::Myself.can_run_labs("checkpoints of a lab that rests") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let checkpoints = Checkpoints::of(&admin, &lab);
    let refused = save(&admin, &lab).await.unwrap_err();
    assert!(refused.contains("not running"), "{refused}");
    checkpoints.make("fresh").await.unwrap();

    admin.deploy(&lab).await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "n1").await;
    shell.succeeds("echo one > /root/file").await;
    let saved = save(&admin, &lab).await.unwrap();
    assert_eq!(saved["nodes"][0]["node"], "n1");
    assert_eq!(saved["nodes"][0]["saved"], true, "{saved}");
    shell.succeeds("echo two > /root/file").await;
    // Also of a node that was stopped.
    admin.command(&lab, 2, json!({ "node": "n1" })).await.unwrap();
    checkpoints.make("running").await.unwrap();
    admin.destroy(&lab).await.unwrap();
    checkpoints.make("rests").await.unwrap();
    let refused = checkpoints.make("rests").await.unwrap_err();
    assert!(refused.contains("there is a checkpoint named `rests` already"), "{refused}");
    assert_eq!(checkpoints.names().await, ["fresh", "running", "rests"]);

    // The topology becomes another one; what is restored is what there was, and the next deploy is of what there is.
    let topology = admin.api.lab(&lab).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    let other = json!({ "definition": ONE_NODE.replace("n1", "n2") });
    admin.api.request(Method::PATCH, &format!("/topologies/{topology}"), Some(&other)).await.unwrap();
    for (name, expected) in [("fresh", ""), ("running", "two"), ("rests", "two")] {
        checkpoints.restore(name).await.unwrap();
        let mut shell = Shell::open(&admin, &lab, "n1").await;
        assert_eq!(shell.succeeds("cat /root/file 2> /dev/null || true").await, expected, "{name}");
    }
    admin.deploy(&lab).await.unwrap();
    let nodes = admin.api.lab(&lab).await.unwrap()["instance"]["nodes"].clone();
    assert_eq!((nodes.as_array().unwrap().len(), &nodes[0]["name"]), (1, &json!("n2")));
    admin.destroy(&lab).await.unwrap();

    // They go with the lab.
    let folder = server.place().data().join("checkpoints").join(&lab);
    assert!(folder.is_dir());
    admin.api.request(Method::DELETE, &format!("/labs/{lab}"), None).await.unwrap();
    eventually(async || if folder.exists() { Err("its archives are there still".to_owned()) } else { Ok(()) }).await;
}
