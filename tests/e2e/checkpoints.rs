//! Saving what nodes have made, checkpoints of labs, and bringing them back.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Lines, Place, Server, ServerBuilder, Shell, User, eventually};
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

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_a_running_lab_has_the_files_that_it_was_deployed_with() {
    if !User::Myself.can_run_labs("checkpoints with bind files") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let definition = ONE_NODE.replace("kind: linux", "kind: linux\n      binds: [conf/a.txt:/root/a.txt:ro]");
    let lab = admin.create_lab("course", ONE_NODE).await;
    let topology = admin.api.lab(&lab).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    let path = format!("/topologies/{topology}");
    let file = json!({ "filePath": "conf/a.txt", "content": "one" });
    let file = admin.api.request(Method::POST, &format!("{path}/files"), Some(&file)).await.unwrap();
    let file = format!("{path}/files/{}", file["id"].as_str().or(file.as_str()).unwrap());
    admin.api.request(Method::PATCH, &path, Some(&json!({ "definition": definition }))).await.unwrap();
    admin.deploy(&lab).await.unwrap();

    let checkpoints = Checkpoints::of(&admin, &lab);
    admin.api.request(Method::PATCH, &file, Some(&json!({ "content": "two" }))).await.unwrap();
    checkpoints.make("changed since").await.unwrap();
    // Neither the topology nor the file are there any more as they were.
    admin.api.request(Method::PATCH, &path, Some(&json!({ "definition": ONE_NODE }))).await.unwrap();
    admin.api.request(Method::DELETE, &file, None).await.unwrap();
    checkpoints.make("gone since").await.unwrap();
    for name in ["changed since", "gone since"] {
        checkpoints.restore(name).await.unwrap();
        let mut shell = Shell::open(&admin, &lab, "n1").await;
        assert_eq!(shell.succeeds("cat /root/a.txt").await, "one", "{name}");
        // Of an instance that was restored, too.
        checkpoints.make(&format!("{name} and restored")).await.unwrap();
    }
    checkpoints.restore("gone since and restored").await.unwrap();
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_makes_nobody_read_or_write_anything_but_its_own_files_whatever_it_puts_in_the_way() {
    if !User::Myself.can_run_labs("checkpoints of a hostile node") {
        return;
    }
    let place = Place::new(User::Myself);
    // What a node would like to have: it may be read by everybody, and lies where nodes don't look.
    let secret = place.data().parent().unwrap().join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    let server = ServerBuilder::at(&place).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let checkpoints = Checkpoints::of(&admin, &lab);
    admin.deploy(&lab).await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "n1").await;
    shell
        .succeeds(&format!("ln -s {} /root/file; ln -s / /root/all; ln -s /proc/1/root /root/proc; ln -s ../$(printf 'x%.0s' $(seq 200))/ /root/long", secret.display()))
        .await;
    shell
        .succeeds(
            "mkdir /tmp/in; echo x > /tmp/in/passing; mkfifo /root/pipe; mkdir -p /root/swap; echo x > /root/swap/x",
        )
        .await;
    shell
        .succeeds("echo '#!/bin/sh' > /root/root; chmod 6755 /root/root; ln /root/root /root/twice; chmod 2777 /srv")
        .await;
    // One folder is another at any moment, and a link at some.
    shell.succeeds("{ (while :; do mv /root/swap /root/.s; ln -s /tmp/in /root/swap; rm /root/swap; mv /root/.s /root/swap; done) > /dev/null 2>&1 & }").await;
    for _ in 0..20 {
        checkpoints.make("race").await.unwrap();
        let contents = checkpoints.show("race").await;
        let files = paths(&contents, "n1");
        let inside =
            |path: &String| path.contains("passing") || path.starts_with("/root/all/") || path.contains("pipe");
        assert!(!files.iter().any(inside), "{files:?}");
        checkpoints.remove("race").await;
    }
    shell.succeeds("kill %1; sleep 0.1; rm -rf /root/swap /root/.s; mv /etc /etc.real; ln -s /usr /etc; ls /etc/bin > /dev/null").await;
    checkpoints.make("hostile").await.unwrap();
    let contents = checkpoints.show("hostile").await;
    let files = paths(&contents, "n1");
    for link in ["/etc", "/root/all", "/root/file", "/root/proc"] {
        assert!(files.iter().any(|path| path == link), "{files:?}");
    }
    assert!(files.iter().any(|path| path == "/etc.real/hostname"), "{files:?}");
    assert!(!files.iter().any(|path| path.starts_with("/etc/") || path.starts_with("/root/all/")), "{files:?}");
    let sizes = contents["nodes"][0]["files"].as_array().unwrap();
    let size = |path: &str| sizes.iter().find(|file| file["path"] == path).unwrap()["size"].as_u64();
    assert_eq!((size("/root/file"), size("/root/all")), (Some(0), Some(0)), "links are kept, not what they lead to");

    checkpoints.restore("hostile").await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "n1").await;
    shell.fails("cat /root/file").await;
    assert_eq!(shell.succeeds("readlink /root/long").await, format!("../{}/", "x".repeat(200)));
    assert_eq!(shell.succeeds("readlink /etc /root/all /root/proc | tr '\\n' ' '").await.trim(), "/usr / /proc/1/root");
    assert_eq!(shell.succeeds("stat -c %a /root/root /root/twice /srv | tr '\\n' ' '").await.trim(), "755 755 777");
    shell.succeeds("test -f /etc.real/hostname -a ! -e /root/pipe").await;
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the host");

    // Who holds a file back holds nobody up.
    let lease = "$SIG{IO} = 'IGNORE'; open(F, '+<', '/root/leased') or die; fcntl(F, 1024, 1) or die; print \"held\\n\"; sleep 600";
    shell
        .succeeds(&format!(
            "echo x > /root/leased; $(command -v perl) -e '$|=1; {}' > /tmp/said & sleep 0.1",
            lease.replace('\'', "'\\''")
        ))
        .await;
    shell.succeeds("until grep -q held /tmp/said; do sleep 0.05; done").await;
    let refused = checkpoints.make("leased").await.unwrap_err();
    assert!(refused.contains("/root/leased") && refused.contains("lease"), "{refused}");
    assert_eq!(checkpoints.names().await, ["hostile"]);
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_be_kept_is_refused_with_the_node_the_largest_file_and_the_key_and_leaves_nothing() {
    if !User::Myself.can_run_labs("limits of checkpoints") {
        return;
    }
    let place = Place::new(User::Myself);
    let limits = "checkpoints: {perLab: 2, labBytes: 150000, nodeBytes: 60000, nodeFiles: 50}\n";
    let server = ServerBuilder::at(&place).config(limits).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    let checkpoints = Checkpoints::of(&admin, &lab);
    let archives = || std::fs::read_dir(place.data().join("checkpoints").join(&lab)).map_or(0, Iterator::count);
    admin.deploy(&lab).await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "r2").await;
    let mut refused = async |command: &str, words: &[&str]| {
        shell.succeeds(command).await;
        let refused = checkpoints.make("x").await.unwrap_err();
        assert!(words.iter().all(|word| refused.contains(word)), "{command}: {refused}");
        let saved = save(&admin, &lab).await.unwrap();
        assert_eq!(
            (&saved["nodes"][0]["saved"], &saved["nodes"][1]["saved"]),
            (&json!(true), &json!(false)),
            "{saved}"
        );
        assert!(words[2..].iter().all(|word| saved["nodes"][1]["detail"].as_str().unwrap().contains(word)), "{saved}");
        // What was saved of the other one, and nothing else.
        assert_eq!(archives(), 1);
        shell.succeeds("rm -rf /root/*").await;
    };
    refused(
        "head -c 61000 /dev/zero > /root/large; echo x > /root/small",
        &["r2", "400", "/root/large", "checkpoints.nodeBytes"],
    )
    .await;
    // A file can be said to be of any size.
    refused(
        "truncate -s 5T /root/hole; truncate -s 7T /etc/hostname",
        &["r2", "400", "/etc/hostname", "checkpoints.nodeBytes"],
    )
    .await;
    refused("echo r2 > /etc/hostname; touch /root/$(seq -s ' /root/' 1 60)", &["r2", "400", "checkpoints.nodeFiles"])
        .await;
    refused("d=/root; for i in $(seq 80); do mkdir $d/d; d=$d/d; done", &["r2", "400", "too deep"]).await;

    // Of a lab as a whole.
    shell.succeeds("head -c 50000 /dev/zero > /root/file").await;
    checkpoints.make("one").await.unwrap();
    checkpoints.make("two").await.unwrap();
    let refused = checkpoints.make("three").await.unwrap_err();
    assert!(refused.contains("may have 2 checkpoints") && refused.contains("checkpoints.perLab"), "{refused}");
    checkpoints.remove("one").await;
    shell.succeeds("rm /root/file").await;
    let mut other = Shell::open(&admin, &lab, "r1").await;
    for shell in [&mut shell, &mut other] {
        shell.succeeds("head -c 55000 /dev/zero > /root/file").await;
    }
    let refused = checkpoints.make("three").await.unwrap_err();
    assert!(refused.contains("150000 bytes") && refused.contains("checkpoints.labBytes"), "{refused}");
    assert_eq!((checkpoints.names().await, archives()), (vec!["two".to_owned()], 2));
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_change_or_deploy_a_lab_may_not_save_or_restore_it_and_who_does_not_see_it_sees_no_checkpoint() {
    if !User::Myself.can_run_labs("checkpoints and policy") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    Checkpoints::of(&admin, &lab).make("first").await.unwrap();
    let member = server.member("student", &["course"]).await;
    let theirs = Checkpoints::of(&member, &lab);
    assert_eq!(theirs.names().await, ["first"], "a member of the collection sees it");
    for refused in [theirs.make("second").await, save(&member, &lab).await, theirs.restore("first").await] {
        let refused = refused.unwrap_err();
        assert!(refused.starts_with("403, code 5403") && refused.contains("auth-policy"), "{refused}");
    }
    let first = format!("{}/{}", theirs.path, theirs.id("first").await);
    // What is in the files of nodes is not for everybody who may see the lab.
    for path in [first.clone(), format!("{first}/archive")] {
        assert_eq!(member.api.get(&path).await.unwrap_err().refusal(), Some((403, 5403)));
    }
    let refused = member.api.request(Method::DELETE, &first, None).await.unwrap_err();
    assert_eq!(refused.refusal(), Some((403, 5403)));
    assert_eq!((admin.state(&lab).await, theirs.names().await), (None, vec!["first".to_owned()]));
    let stranger = server.member("stranger", &["other"]).await;
    for path in [&theirs.path, &first] {
        assert_eq!(stranger.api.get(path).await.unwrap_err().refusal(), Some((404, 5005)));
    }

    // What a checkpoint would build is judged, not what there is by now.
    let collection = admin.api.create_collection("mine", true, true).await.unwrap();
    let reaching = ONE_NODE.replace("kind: linux", "kind: linux\n      binds: ['/etc:/mnt']");
    let topology = admin.api.create_topology(&collection, &reaching).await.unwrap();
    let lab = admin.api.create_lab(&topology, "reaching").await.unwrap();
    Checkpoints::of(&admin, &lab).make("reaching").await.unwrap();
    let harmless = json!({ "definition": ONE_NODE });
    admin.api.request(Method::PATCH, &format!("/topologies/{topology}"), Some(&harmless)).await.unwrap();
    let refused = Checkpoints::of(&admin, &lab).restore("reaching").await.unwrap_err();
    assert!(refused.contains("binds (/etc:/mnt) reaches out to the host"), "the runtime is asked too: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_an_archive_that_anybody_can_read() {
    if !User::Myself.can_run_labs("the archive of a checkpoint") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let topology = admin.api.lab(&lab).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    let file = json!({ "filePath": "conf/a.txt", "content": "of the topology\n" });
    admin.api.create(&format!("/topologies/{topology}/files"), &file).await.unwrap();
    admin.deploy(&lab).await.unwrap();
    Shell::open(&admin, &lab, "n1").await.succeeds("seq 100000 > /root/numbers; rm /etc/services").await;
    let checkpoints = Checkpoints::of(&admin, &lab);
    let made = checkpoints.make("a \"name\"/of it").await.unwrap();
    let url = format!("{}{}/{}/archive", server.url, checkpoints.path, made["id"].as_str().unwrap());
    let answer = antimony_host::client::http().get(url).bearer_auth(&admin.token).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/gzip");
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"a__name__of_it.tar.gz\"");
    let bytes = answer.bytes().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive.tar.gz");
    std::fs::write(&archive, &bytes).unwrap();
    let mut tar = std::process::Command::new("tar");
    let unpacked = tar.arg("-xzf").arg(&archive).arg("-C").arg(folder.path()).output().unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    let read = |path: &str| std::fs::read_to_string(folder.path().join(path)).unwrap();
    assert_eq!(
        (read("topology.clab.yml").as_str(), read("files/conf/a.txt").as_str()),
        (ONE_NODE, "of the topology\n")
    );
    assert_eq!(read("nodes/n1/root/numbers").lines().count(), 100_000);
    assert_eq!(read("deleted/n1/etc/services"), "");
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_saves_or_restores_leaves_whole_checkpoints_and_nothing_else() {
    if !User::Myself.can_run_labs("SIGKILL during a save") {
        return;
    }
    let place = Place::new(User::Myself);
    let limits = "checkpoints: {labBytes: 1000000000, nodeBytes: 500000000, nodeFiles: 5000}\n";
    let mut server = ServerBuilder::at(&place).config(limits).start().await;
    let admin = server.admin().await;
    let endless = admin.create_lab("endless", crate::ENDLESS_DEPLOY).await;
    Checkpoints::of(&admin, &endless).make("first").await.unwrap();
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let fill = "for i in $(seq 100); do head -c 2000000 /dev/zero > /root/$i; done";
    Shell::open(&admin, &lab, "n1").await.succeeds(fill).await;
    let (api, path) = (admin.api.clone(), format!("/labs/{lab}/checkpoints"));
    let making = tokio::spawn(async move { api.request(Method::POST, &path, Some(&json!({ "name": "x" }))).await });
    let id = Checkpoints::of(&admin, &endless).id("first").await;
    let (api, path) = (admin.api.clone(), format!("/labs/{endless}/checkpoints/{id}/restore"));
    let restoring = tokio::spawn(async move { api.request(Method::POST, &path, None).await });
    Lines::of(admin.join_once_there(&format!("/logs/{endless}")).await).until("deploy has begun").await;
    let folder = place.data().join("checkpoints").join(&lab);
    // In the middle of it, as far as can be told from outside; what is so afterwards has to be so at any moment.
    eventually(async || match std::fs::read_dir(&folder).map_or(0, Iterator::count) {
        0 => Err("it has not begun".to_owned()),
        _ => Ok(()),
    })
    .await;
    server.kill();
    let _ = (making.await, restoring.await);
    drop(server);

    let server = ServerBuilder::at(&place).config(limits).start().await;
    let admin = server.admin().await;
    let checkpoints = Checkpoints::of(&admin, &lab);
    let names = checkpoints.names().await;
    let left: Vec<String> = std::fs::read_dir(&folder)
        .map(|files| files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    let known = |file: &&String| **file == "saved-embedded.tar" || names.iter().any(|_| file.ends_with(".tar"));
    assert_eq!(left.iter().filter(known).count(), left.len(), "{left:?} for {names:?}");
    assert!(left.iter().filter(|file| !file.starts_with("saved-")).count() == names.len(), "{left:?} for {names:?}");
    for name in &names {
        assert_eq!(paths(&checkpoints.show(name).await, "n1").len(), 100);
    }
    assert_eq!(admin.state(&endless).await, Some(3), "never running half built");
    assert_eq!(Checkpoints::of(&admin, &endless).names().await, ["first"]);
    admin.destroy(&endless).await.unwrap();
}
