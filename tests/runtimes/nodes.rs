//! What becomes of single nodes: stopped, started, restarted, ended by themselves or from outside.

use serde_json::{Value, json};

use crate::bench::{Bench, mark, processes_with, sigkill};
use crate::harness::{Client, Lines, Shell, code_of, eventually, expect_data, next, within};
use crate::{lab, sh, two_routers};

/// State of a node as the REST API shows it.
pub(crate) async fn node_state(client: &Client, lab: &str, node: &str) -> String {
    let shown = client.api.lab(lab).await.unwrap();
    let nodes = shown["instance"]["nodes"].as_array().cloned().unwrap_or_default();
    let found = nodes.iter().find(|shown| shown["name"] == node);
    found.map_or("none", |node| node["state"].as_str().unwrap()).to_owned()
}

pub(crate) async fn until_node_is(client: &Client, lab: &str, node: &str, wanted: &str) {
    eventually(async || match node_state(client, lab, node).await {
        state if state == wanted => Ok(()),
        state => Err(format!("{node} is {state}, not {wanted}")),
    })
    .await;
}

/// Line 14 of the catalogue, without the node's log, which `logs` is about.
pub(crate) async fn stop_start_and_restart_of_a_node_close_its_shells_with_an_announcement_and_its_links_work_again(
    on: &Bench,
) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    admin.deploy(&lab).await.unwrap();
    let mut announced = admin.join("/shell-commands").await;
    let mut peer = Shell::open(&admin, &lab, "r2").await;
    let mut first = Shell::open(&admin, &lab, "r1").await;
    // Without a word of the node's own, an address is there only once its link is.
    let addresses = "ip -4 addr show dev eth1 | grep -o 'inet [^ ]*'";
    let address = first.succeeds(addresses).await;
    assert!(address.contains("10.0.0.1/30"), "{address}");
    admin.command(&lab, 7, json!({ "shellId": first.id })).await.unwrap();
    next(&mut announced).await;
    let node = |command| admin.command(&lab, command, json!({ "node": "r1" }));
    for commands in [&[2, 3][..], &[4], &[2, 4]] {
        let mut mine: Vec<Shell> = Vec::new();
        for _ in 0..2 {
            mine.push(Shell::open(&admin, &lab, "r1").await);
        }
        mine[0].succeeds("ping -c 1 -W 5 10.0.0.2").await;
        for (step, command) in commands.iter().enumerate() {
            assert_eq!(node(*command).await, Ok(Value::Null), "command {command}");
            if step == 0 {
                let mut closed: Vec<String> = Vec::new();
                for _ in &mine {
                    let event = next(&mut announced).await;
                    assert_eq!(
                        (&event.data()["payload"]["node"], &event.data()["payload"]["command"]),
                        (&json!("r1"), &json!(1))
                    );
                    closed.push(event.data()["payload"]["shellId"].as_str().unwrap().to_owned());
                }
                closed.sort();
                let mut expected: Vec<_> = mine.iter().map(|screen| screen.id.clone()).collect();
                expected.sort();
                assert_eq!(closed, expected);
                assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([{ "id": peer.id, "node": "r2" }])));
            }
            if *command == 2 {
                assert_eq!(node_state(&admin, &lab, "r1").await, "exited");
                assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "r1" })).await), 5004);
                peer.fails("ping -c 1 -W 1 10.0.0.1").await;
            }
        }
        assert_eq!((admin.state(&lab).await, node_state(&admin, &lab, "r1").await), (Some(1), "running".to_owned()));
        // The other end may take a moment to find its neighbour again.
        eventually(async || match peer.run("ping -c 1 -W 1 10.0.0.1").await {
            (0, _) => Ok(()),
            (_, printed) => Err(printed),
        })
        .await;
        let mut again = Shell::open(&admin, &lab, "r1").await;
        assert_eq!(again.succeeds(addresses).await, address);
        again.succeeds("ping -c 3 -i 0.2 -W 5 10.0.0.2").await;
        admin.command(&lab, 7, json!({ "shellId": again.id })).await.unwrap();
        assert_eq!(next(&mut announced).await.data()["payload"]["shellId"], again.id);
    }
    admin.destroy(&lab).await.unwrap();
}

/// Line 15.
pub(crate) async fn stopping_a_node_gives_its_process_the_time_to_end_by_itself(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let careful = sh(
        "trap 'echo asked to end; sleep 1; echo all is saved; exit 0' TERM; echo begun; while :; do sleep 0.1; done",
    );
    let lab = admin.create_lab("course", &lab("careful", &format!("n1:\n  cmd: {careful}"))).await;
    admin.deploy(&lab).await.unwrap();
    let mut log = Lines::of(admin.join(&format!("/logs/{lab}/n1")).await);
    for round in 1..=2 {
        while log.pieces.iter().filter(|line| *line == "begun").count() < round {
            assert!(within("a line", log.read()).await);
        }
        assert_eq!(admin.command(&lab, if round == 1 { 4 } else { 2 }, json!({ "node": "n1" })).await, Ok(Value::Null));
        while log.pieces.iter().filter(|line| *line == "all is saved").count() < round {
            assert!(within("a line", log.read()).await);
        }
        assert_eq!(log.pieces.iter().filter(|line| *line == "asked to end").count(), round);
    }
    assert_eq!(node_state(&admin, &lab, "n1").await, "exited");
    admin.destroy(&lab).await.unwrap();
}

/// Line 16.
pub(crate) async fn names_with_dashes_and_capitals_and_names_that_begin_alike_mean_the_right_node_everywhere(
    on: &Bench,
) {
    let server = on.server().await;
    let admin = server.admin().await;
    let names = ["spine-1", "SPINE-1", "a-b-c", "a-b", "aa", "Leaf_2", "r1.lab"];
    let mut nodes = String::new();
    for (number, name) in names.iter().enumerate() {
        nodes.push_str(&format!("{name}: {{env: {{ME: \"node number {number}\"}}}}\n"));
    }
    let mut topology = lab("odd-names", &nodes);
    topology.push_str("  links:\n    - endpoints: [\"spine-1:eth1\", \"SPINE-1:eth1\"]\n    - endpoints: [\"a-b-c:eth1\", \"a-b:eth1\"]\n");
    let lab = admin.create_lab("course", &topology).await;
    admin.deploy(&lab).await.unwrap();
    let states = async || -> Vec<(String, String)> {
        let shown = admin.api.lab(&lab).await.unwrap();
        let nodes = shown["instance"]["nodes"].as_array().unwrap();
        nodes
            .iter()
            .map(|node| (node["name"].as_str().unwrap().to_owned(), node["state"].as_str().unwrap().to_owned()))
            .collect()
    };
    let all_but = |stopped: Option<&str>| -> Vec<(String, String)> {
        let state = |name: &str| if Some(name) == stopped { "exited" } else { "running" };
        names.iter().map(|name| ((*name).to_owned(), state(name).to_owned())).collect()
    };
    assert_eq!(states().await, all_but(None));
    for (number, name) in names.iter().enumerate() {
        let mut screen = Shell::open(&admin, &lab, name).await;
        assert_eq!(screen.succeeds("echo $ME").await, format!("node number {number}"), "a shell in {name}");
        assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([{ "id": screen.id, "node": name }])));
        admin.command(&lab, 2, json!({ "node": name })).await.unwrap();
        assert_eq!(states().await, all_but(Some(name)), "{name} was stopped");
        assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": name })).await), 5004);
        admin.command(&lab, 3, json!({ "node": name })).await.unwrap();
        assert_eq!(states().await, all_but(None), "{name} was started");
    }
    for wrong in ["spine", "spine-", "Spine-1", "A-B-C", "c", "b-c", "1", "leaf_2", "r1", "clab-odd-names-aa"] {
        for command in [2, 3, 4, 6] {
            assert_eq!(code_of(admin.command(&lab, command, json!({ "node": wrong })).await), 5006, "{wrong}");
        }
    }
    assert_eq!(states().await, all_but(None));
    admin.destroy(&lab).await.unwrap();
}

/// Line 18.
pub(crate) async fn stopping_a_node_of_one_lab_leaves_the_shells_of_its_namesake_in_another_alone(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let first = admin.create_lab("course", &two_routers()).await;
    // Of the same topology: not even the names of their instances differ in more than a timestamp.
    let topology = admin.api.lab(&first).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    let second = admin.api.create_lab(&topology, "lab").await.unwrap();
    let other = server.admin().await;
    let (one, two) = tokio::join!(admin.deploy(&first), other.deploy(&second));
    assert_eq!((one, two), (Ok(Value::Null), Ok(Value::Null)));
    let mut announced = admin.join("/shell-commands").await;
    let doomed = Shell::open(&admin, &first, "r1").await;
    let mut kept = Shell::open(&admin, &second, "r1").await;
    kept.succeeds("touch /root/mine").await;
    for command in [2, 3, 4] {
        admin.command(&first, command, json!({ "node": "r1" })).await.unwrap();
        assert_eq!(kept.succeeds("ls /root").await, "mine", "after command {command} in the other lab");
    }
    admin.destroy(&first).await.unwrap();
    assert_eq!(kept.succeeds("ping -c 1 -W 5 10.0.0.2 >/dev/null; ls /root").await, "mine");
    assert_eq!(admin.command(&second, 5, json!({})).await, Ok(json!([{ "id": kept.id, "node": "r1" }])));
    assert_eq!(next(&mut announced).await.data()["payload"]["shellId"], doomed.id);
    admin.command(&second, 7, json!({ "shellId": kept.id })).await.unwrap();
    // The next that is told is this one: nothing was told of it before.
    assert_eq!(next(&mut announced).await.data()["payload"]["shellId"], kept.id);
    admin.destroy(&second).await.unwrap();
}

pub(crate) async fn a_node_that_ends_by_itself_has_exited_and_can_be_started_again(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let patient = sh("echo begun; while [ ! -e /tmp/end ]; do sleep 0.05; done; rm /tmp/end; echo over");
    let lab = admin.create_lab("course", &lab("mortal", &format!("n1:\n  cmd: {patient}\nn2: {{}}"))).await;
    admin.deploy(&lab).await.unwrap();
    let mut updates = admin.join("/lab-updates").await;
    for round in 1..=2 {
        let shell = Shell::open(&admin, &lab, "n1").await;
        shell.terminal.namespace().emit("data", "touch /tmp/end\r").await.unwrap();
        expect_data(&mut updates, "an update about the lab", |data| data["payload"]["labId"] == *lab).await;
        until_node_is(&admin, &lab, "n1", "exited").await;
        assert_eq!(node_state(&admin, &lab, "n2").await, "running");
        assert_eq!(admin.state(&lab).await, Some(1));
        assert_eq!(admin.command(&lab, 3, json!({ "node": "n1" })).await, Ok(Value::Null));
        assert_eq!(node_state(&admin, &lab, "n1").await, "running", "round {round}");
    }
    admin.destroy(&lab).await.unwrap();
}

pub(crate) async fn a_node_that_is_killed_behind_our_back_has_exited_and_its_shells_are_closed(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let mark = mark();
    let lab = admin.create_lab("course", &lab("victim", &format!("n1: {{cmd: {mark}}}\nn2: {{}}"))).await;
    admin.deploy(&lab).await.unwrap();
    let mut announced = admin.join("/shell-commands").await;
    let shell = Shell::open(&admin, &lab, "n1").await;
    let first = processes_with(&mark);
    assert_eq!(first.len(), 1, "the first process of the node: {first:?}");
    sigkill(first[0]);
    let closed = |data: &Value| data["payload"]["shellId"] == shell.id;
    expect_data(&mut announced, "that the shell has closed", closed).await;
    until_node_is(&admin, &lab, "n1", "exited").await;
    assert_eq!(node_state(&admin, &lab, "n2").await, "running");
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "n1" })).await), 5004);
    assert_eq!(admin.command(&lab, 3, json!({ "node": "n1" })).await, Ok(Value::Null));
    assert_eq!(processes_with(&mark).len(), 1);
    Shell::open(&admin, &lab, "n1").await.succeeds("true").await;
    admin.destroy(&lab).await.unwrap();
    assert!(processes_with(&mark).is_empty());
}
