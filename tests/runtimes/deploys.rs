//! What becomes of a whole lab: deployed, deployed anew, destroyed, refused.

use serde_json::{Value, json};

use crate::bench::{Bench, Runtime, mark, processes_with};
use crate::harness::{Client, Lines, Shell, System, alone, code_of, eventually, expect_data, known_programs, within};
use crate::{DEFAULTS, apart, lab, sh, two_routers};

/// The nodes of a lab's instance, as REST shows them.
async fn nodes(client: &Client, lab: &str) -> Vec<Value> {
    let lab = client.api.lab(lab).await.unwrap();
    lab["instance"]["nodes"].as_array().expect("it has an instance").clone()
}

pub(crate) async fn a_lab_lives_from_deploy_over_redeploy_to_destroy(on: &Bench) {
    let mut server = on.server().await;
    let admin = server.admin().await;
    let mut statuses = admin.join("/status-messages").await;
    let lab = admin.create_lab("course", &two_routers()).await;
    assert_eq!(admin.state(&lab).await, None);
    let mut before: Vec<Value> = Vec::new();
    for round in 0..2 {
        assert_eq!(admin.deploy(&lab).await, Ok(Value::Null));
        expect_data(&mut statuses, "a success", |data| data["payload"]["severity"] == 0).await;
        let shown = admin.api.lab(&lab).await.unwrap();
        assert_eq!(
            (&shown["instance"]["state"], &shown["instance"]["recovered"]),
            (&json!(1), &json!(false)),
            "{shown}"
        );
        let nodes = nodes(&admin, &lab).await;
        assert_eq!(nodes.iter().map(|node| &node["name"]).collect::<Vec<_>>(), ["r1", "r2"]);
        for node in &nodes {
            assert_eq!((&node["state"], &node["kind"]), (&json!("running"), &json!("linux")), "{node}");
            assert_eq!(node["containerName"], node["containnerName"], "{node}");
            assert_eq!(node["containerId"].as_str().map(str::len), Some(12), "{node}");
            assert!(before.iter().all(|old| old["containerId"] != node["containerId"]), "deployed anew: {node}");
        }
        if on.is_containerlab() {
            let containers = on.containers();
            assert_eq!(containers.len(), 2, "{containers:?}");
            for node in &nodes {
                let its = containers.iter().find(|(id, _)| node["containerId"] == *id).expect("a container of that id");
                assert_eq!(node["containerName"], its.1);
            }
        }
        before = nodes;
        let log = admin.log(&lab).await;
        for words in ["router 10.255.0.1 is up; its host name is r1", "router 10.255.0.2 is up; its host name is r2"] {
            let times = log.iter().filter(|line| line.contains(words)).count();
            assert_eq!(times, round + 1, "each line once for each deploy: {log:#?}");
        }
        let mut shell = Shell::open(&admin, &lab, "r1").await;
        assert_eq!(shell.succeeds("hostname").await, "r1");
        shell.succeeds("ping -c 2 -i 0.2 -W 5 10.0.0.2").await;
    }
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    assert_eq!(admin.state(&lab).await, None);
    assert_eq!(on.containers(), []);
    assert_eq!(code_of(admin.destroy(&lab).await), 5003);
    assert!(server.terminate().await.success());
}

pub(crate) async fn a_deploy_tells_each_line_as_it_is_written_however_long_one_is(on: &Bench) {
    const LONG: usize = 3 << 20;
    let server = on.server().await;
    let admin = server.admin().await;
    let long = sh(&format!("head -c {LONG} /dev/zero | tr '\\0' x; echo; echo behind the long line"));
    let lab = admin.create_lab("course", &lab("long", &format!("n1:\n  exec: [{long}]"))).await;
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    let mut log = Lines::of(admin.join_once_there(&format!("/logs/{lab}")).await);
    // The command itself may be in the log, too.
    while !log.pieces.iter().any(|line| line.contains("behind the long line") && !line.contains("head -c")) {
        assert!(within("a line", log.read()).await, "the log ended");
    }
    assert_eq!(deploy.await.unwrap(), Ok(Value::Null));
    let length: usize = log.pieces.iter().map(|line| line.matches('x').count()).sum();
    assert!((LONG..LONG + 100).contains(&length), "{length} of {LONG} characters have come");
    assert!(log.pieces.iter().all(|line| line.len() < 1 << 20), "what is too long for one message comes in pieces");
    admin.destroy(&lab).await.unwrap();
}

/// Line 12 of the catalogue: at several moments of a deploy.
pub(crate) async fn a_destroy_during_a_deploy_ends_it_with_an_error_announces_no_success_and_leaves_nothing(
    on: &Bench,
) {
    let turn = alone().await;
    let mark = mark();
    // It never ends by itself, so whatever is told of it is told while it goes on.
    let endless = sh(&format!("echo deploy has begun; {mark}"));
    let server = on.builder().within(&turn).start().await;
    let programs = known_programs(server.place());
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &lab("endless", &format!("n1:\n  exec: [{endless}]\nn2: {{}}"))).await;
    let before = System::now(&programs);
    let mut statuses = admin.join("/status-messages").await;
    let moments = match on.runtime {
        Runtime::Embedded => ["Deploying", "Created node n1", "deploy has begun", ""],
        Runtime::Containerlab => ["Containerlab started", "Parsing & checking topology", "Creating container", ""],
    };
    for (round, moment) in moments.into_iter().enumerate() {
        let mut log =
            if round == 0 { None } else { Some(Lines::of(admin.join_elsewhere(&format!("/logs/{lab}")).await)) };
        // What earlier rounds have written.
        if let Some(log) = &mut log {
            log.read().await;
            log.pieces.clear();
        }
        let deploy = admin.command_in_background(&lab, 0, json!({}));
        let mut log = match log {
            Some(log) => log,
            None => Lines::of(admin.join_once_there(&format!("/logs/{lab}")).await),
        };
        log.until(moment).await;
        if moment.is_empty() {
            eventually(async || match processes_with(&mark).len() {
                0 => Err("nothing runs in the node".to_owned()),
                _ => Ok(()),
            })
            .await;
        }
        assert_eq!(admin.destroy(&lab).await, Ok(Value::Null), "{moment}");
        let error = deploy.await.unwrap().expect_err("it was destroyed");
        assert!(error.to_string().contains("cancelled by a destroy"), "{error}");
        assert_eq!(admin.state(&lab).await, None);
        assert_eq!((on.containers(), on.programs()), (vec![], [].into()), "{moment}");
        System::wait_until_as_in_company(&before, &programs).await;
        // A success has severity 0. That of the destroy is the only one; until then there was none.
        let destroyed =
            expect_data(&mut statuses, "that it was destroyed", |data| data["payload"]["severity"] == 0).await;
        let text = destroyed["payload"]["content"].as_str().unwrap();
        assert!(text.contains("destroyed") && !text.contains("deployed"), "{moment}: {text}");
    }
}

pub(crate) async fn a_node_that_cannot_start_fails_the_deploy_with_the_reason_and_the_lab_can_be_mended(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let mut statuses = admin.join("/status-messages").await;
    let broken = lab("broken", "n1: {cmd: /no/such/program}\nn2: {}");
    let lab = admin.create_lab("course", &broken).await;
    for _ in 0..2 {
        match admin.deploy(&lab).await {
            Err(antimony_host::client::AckError::Refused { code: 5001, message }) => {
                assert!(message.contains("n1") && message.contains("/no/such/program"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(admin.state(&lab).await, Some(3), "failed");
        let told = expect_data(&mut statuses, "an error", |data| data["payload"]["severity"] == 3).await;
        assert!(told["payload"]["content"].as_str().unwrap().contains("could not be deployed"), "{told}");
        let log = admin.log(&lab).await;
        assert!(log.iter().any(|line| line.contains("/no/such/program")), "{log:#?}");
        on.leaves_nothing().await;
    }
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    assert_eq!(admin.state(&lab).await, None);
    // The topology is mended, and with it the lab.
    let topology = &admin.api.get("/topologies").await.unwrap()[0];
    let definition = broken.replace("{cmd: /no/such/program}", "{}");
    let change = json!({ "collectionId": topology["collectionId"], "definition": definition, "syncUrl": "" });
    let path = format!("/topologies/{}", topology["id"].as_str().unwrap());
    admin.api.request(reqwest::Method::PATCH, &path, Some(&change)).await.unwrap();
    // The lab may not have heard of it yet.
    eventually(async || admin.deploy(&lab).await.map(|_| ()).map_err(|error| error.to_string())).await;
    assert_eq!(admin.state(&lab).await, Some(1));
    admin.destroy(&lab).await.unwrap();
}

/// Line 17. That the image is taken from there too is shown on containerlab, and where topologies are read.
pub(crate) async fn what_defaults_kinds_and_groups_say_counts_for_their_nodes(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let topology = apart(
        "name: inherits
topology:
  defaults: {image-pull-policy: never, restart-policy: \"no\", image: no/such-image, env: {FROM_DEFAULTS: yes, WHO: defaults}}
  kinds:
    linux: {image: \"lab/busybox:1\", env: {FROM_KIND: yes, WHO: kind}}
  groups:
    edge: {kind: linux, env: {FROM_GROUP: yes, WHO: group}, exec: [\"touch /root/from-group\"]}
  nodes:
    of-group: {group: edge}
    of-itself: {group: edge, env: {WHO: node}}
    plain: {kind: linux}
",
    );
    let lab = admin.create_lab("course", &topology).await;
    admin.deploy(&lab).await.unwrap();
    for node in nodes(&admin, &lab).await {
        assert_eq!(node["kind"], "linux", "{node}");
    }
    for (id, name) in on.containers() {
        let image = on.prepared().docker_succeeds(&["inspect", "--format", "{{.Config.Image}}", &id]);
        assert_eq!(image, "lab/busybox:1", "{name}");
    }
    for (node, expected) in
        [("of-group", "yes yes yes group"), ("of-itself", "yes yes yes node"), ("plain", "yes yes kind")]
    {
        let mut screen = Shell::open(&admin, &lab, node).await;
        assert_eq!(screen.succeeds("echo $FROM_DEFAULTS $FROM_KIND $FROM_GROUP $WHO").await, expected, "{node}");
        let touched = screen.run("test -e /root/from-group").await.0 == 0;
        assert_eq!(touched, node != "plain");
    }
    admin.destroy(&lab).await.unwrap();
}

/// Line 34.
pub(crate) async fn what_reaches_for_the_host_is_refused_to_members_by_policy_and_nothing_is_begun(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let member = server.member("student", &["course"]).await;
    let mut updates = member.join("/lab-updates").await;
    let of_node = [
        "binds: [\"/etc:/mnt\"]",
        "network-mode: host",
        "pid-mode: host",
        "privileged: true",
        "cap-add: [SYS_ADMIN]",
        "devices: [/dev/mem]",
        "startup-config: /etc/shadow",
        "env-files: [/etc/shadow]",
        "kind: host",
        "stages: {create: {exec: [{command: touch /tmp/never, target: host}]}}",
    ];
    let of_links =
        ["[\"n1:eth1\", \"host:never0\"]", "[\"n1:eth1\", \"macvlan:lo\"]", "[\"n1:eth1\", \"mgmt-net:never0\"]"];
    let node = |wish: &str| format!("  nodes:\n    n1: {{{wish}}}\n");
    let link = |wish: &str| format!("{}  links:\n    - endpoints: {wish}\n", node(""));
    for (number, wish) in
        of_node.iter().map(|wish| node(wish)).chain(of_links.iter().map(|wish| link(wish))).enumerate()
    {
        let definition = format!("name: wish-{number}\ntopology:\n  {DEFAULTS}\n{wish}");
        // Wherever it is refused first: nothing of it ever runs.
        let lab = match member.api.create_topology(&collection, &definition).await {
            Err(error) => {
                assert!(matches!(error.refusal(), Some((400 | 403, _))), "{wish}: {error}");
                continue;
            }
            Ok(topology) => member.api.create_lab(&topology, "lab").await,
        };
        match lab {
            Err(error) => assert_eq!(error.refusal().map(|(status, _)| status), Some(403), "{wish}: {error}"),
            Ok(lab) => {
                let code = code_of(member.deploy(&lab).await);
                // What it can't do anyway needs no policy.
                assert!(code == 5403 || (code == 5000 && !on.is_containerlab()), "{wish}: {code}");
                assert_eq!(member.state(&lab).await, None, "{wish}");
            }
        }
    }
    // The end of what there could be to hear of a deploy.
    let nothing = format!("name: nothing\ntopology:\n  {DEFAULTS}\n{}", node(""));
    let topology = member.api.create_topology(&collection, &nothing).await.unwrap();
    let plain = member.api.create_lab(&topology, "lab").await.unwrap();
    expect_data(&mut updates, "an update of the last lab", |data| data["payload"]["labId"] == *plain).await;
    let labs = admin.api.get("/labs").await.unwrap();
    assert!(labs.as_array().unwrap().iter().all(|lab| lab["instance"].is_null()), "{labs}");
    assert_eq!(on.containers(), []);
    assert_eq!(member.deploy(&plain).await, Ok(Value::Null), "what reaches for nothing is allowed");
    member.destroy(&plain).await.unwrap();
}
