//! The result must be right: what becomes of labs and nodes. Lines 12, 14, 16 to 18 and 26.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::{
    Client, Lines, Place, Server, ServerBuilder, Shell, System, User, alone, code_of, eventually, expect_data,
    known_programs, next,
};
use crate::{ENDLESS_DEPLOY, ONE_NODE, TWO_ROUTERS};

/// Line 12, from outside: at several moments of a deploy.
#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_during_a_deploy_ends_it_with_an_error_announces_no_success_and_leaves_nothing() {
    if !User::Myself.can_run_labs("destroy during deploy") {
        return;
    }
    let turn = alone().await;
    let server = ServerBuilder::new(User::Myself).within(&turn).start().await;
    let programs = known_programs(server.place());
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ENDLESS_DEPLOY).await;
    let before = System::now(&programs);
    let mut statuses = admin.join("/status-messages").await;
    for (round, moment) in
        ["Deploying", "Created node n1", "Started node n1", "deploy has begun"].into_iter().enumerate()
    {
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
        assert_eq!(admin.destroy(&lab).await, Ok(Value::Null), "{moment}");
        let error = deploy.await.unwrap().expect_err("it was destroyed");
        assert!(error.to_string().contains("cancelled by a destroy"), "{error}");
        assert_eq!(admin.state(&lab).await, None);
        System::wait_until_as(&before, &programs).await;
        // A success has severity 0. That of the destroy is the only one; until then there was none.
        let destroyed =
            expect_data(&mut statuses, "that it was destroyed", |data| data["payload"]["severity"] == 0).await;
        let text = destroyed["payload"]["content"].as_str().unwrap();
        assert!(text.contains("destroyed") && !text.contains("deployed"), "{moment}: {text}");
    }
}

/// Line 14, without the node's log, which `node_logs` is about.
#[tokio::test(flavor = "multi_thread")]
async fn stop_start_and_restart_of_a_node_close_its_shells_with_an_announcement_and_its_links_work_again() {
    if !User::Myself.can_run_labs("stop, start and restart of a node") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let mut announced = admin.join("/shell-commands").await;
    let mut peer = Shell::open(&admin, &lab, "r2").await;
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
                assert_eq!(admin.api.lab(&lab).await.unwrap()["instance"]["nodes"][0]["state"], "exited");
                peer.fails("ping -c 1 -W 1 10.0.0.1").await;
            }
        }
        let shown = admin.api.lab(&lab).await.unwrap();
        assert_eq!(
            (&shown["instance"]["state"], &shown["instance"]["nodes"][0]["state"]),
            (&json!(1), &json!("running"))
        );
        peer.succeeds("ping -c 3 -i 0.2 -W 5 10.0.0.1").await;
        let mut again = Shell::open(&admin, &lab, "r1").await;
        again.succeeds("ping -c 3 -i 0.2 -W 5 10.0.0.2").await;
        admin.command(&lab, 7, json!({ "shellId": again.id })).await.unwrap();
        assert_eq!(next(&mut announced).await.data()["payload"]["shellId"], again.id);
    }
    admin.destroy(&lab).await.unwrap();
}

/// Line 16.
#[tokio::test(flavor = "multi_thread")]
async fn names_with_dashes_and_capitals_and_names_that_begin_alike_mean_the_right_node_everywhere() {
    if !User::Myself.can_run_labs("odd names of nodes") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let names = ["spine-1", "SPINE-1", "a-b-c", "a-b", "a", "Leaf_2", "r1.lab"];
    let mut topology = "name: odd-names\ntopology:\n  defaults: {kind: linux}\n  nodes:\n".to_owned();
    for (number, name) in names.iter().enumerate() {
        topology.push_str(&format!("    {name}: {{env: {{ME: \"node number {number}\"}}}}\n"));
    }
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
    for wrong in ["spine", "spine-", "Spine-1", "A-B-C", "c", "b-c", "1", "leaf_2", "r1", "clab-odd-names-a"] {
        for command in [2, 3, 4, 6] {
            assert_eq!(code_of(admin.command(&lab, command, json!({ "node": wrong })).await), 5006, "{wrong}");
        }
    }
    assert_eq!(states().await, all_but(None));
    admin.destroy(&lab).await.unwrap();
}

/// Line 17. That the image is taken from there too is shown where topologies are read.
#[tokio::test(flavor = "multi_thread")]
async fn what_defaults_kinds_and_groups_say_counts_for_their_nodes() {
    if !User::Myself.can_run_labs("defaults, kinds and groups") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let topology = "name: inherits
topology:
  defaults: {env: {FROM_DEFAULTS: yes, WHO: defaults}}
  kinds:
    linux: {env: {FROM_KIND: yes, WHO: kind}}
  groups:
    edge: {kind: linux, env: {FROM_GROUP: yes, WHO: group}, exec: [\"touch /root/from-group\"]}
  nodes:
    of-group: {group: edge}
    of-itself: {group: edge, env: {WHO: node}}
    plain: {kind: linux}
";
    let lab = admin.create_lab("course", topology).await;
    admin.deploy(&lab).await.unwrap();
    let shown = admin.api.lab(&lab).await.unwrap();
    assert!(shown["instance"]["nodes"].as_array().unwrap().iter().all(|node| node["kind"] == "linux"), "{shown}");
    for (node, expected) in
        [("of-group", "yes yes yes group"), ("of-itself", "yes yes yes node"), ("plain", "yes yes kind")]
    {
        let mut screen = Shell::open(&admin, &lab, node).await;
        assert_eq!(screen.succeeds("echo $FROM_DEFAULTS $FROM_KIND $FROM_GROUP $WHO").await, expected, "{node}");
        let touched = screen.run("test -e /root/from-group").await.0 == 0;
        assert_eq!(touched, node != "plain");
    }
    admin.destroy(&lab).await.unwrap();
    // A kind from a group counts also where it makes the lab impossible here.
    let other = topology
        .replace("name: inherits", "name: other")
        .replace("edge: {kind: linux", "edge: {kind: nokia_srlinux, image: srl");
    let lab = admin.create_lab("other", &other).await;
    let error = admin.deploy(&lab).await.unwrap_err();
    assert!(error.to_string().contains("of-group") && error.to_string().contains("nokia_srlinux"), "{error}");
}

/// Line 18.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_a_node_of_one_lab_leaves_the_shells_of_its_namesake_in_another_alone() {
    if !User::Myself.can_run_labs("namesakes in two labs") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let first = admin.create_lab("course", TWO_ROUTERS).await;
    // Of the same topology: not even the names of their instances differ in more than a timestamp.
    let topology = admin.api.lab(&first).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    let second = admin.api.create_lab(&topology, "lab").await.unwrap();
    let (one, two) = tokio::join!(admin.deploy(&first), admin.deploy(&second));
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

/// Line 26.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_missed_while_the_server_was_down_is_made_up_for_or_shown_as_missed() {
    if !User::Myself.can_run_labs("a missed start") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let idle = admin.create_lab("course", ONE_NODE).await;
    let topology = admin.api.lab(&idle).await.unwrap()["topologyId"].clone();
    // Far enough ahead that the server is down before it, however slow the machine.
    let start = Timestamp::now() + SignedDuration::from_secs(8);
    let end = start + SignedDuration::from_secs(1);
    let create = async |end: Option<Timestamp>| {
        let lab = json!({ "name": "scheduled", "topologyId": topology, "startTime": start, "endTime": end });
        admin.api.create("/labs", &lab).await.unwrap()
    };
    let (late, missed) = (create(None).await, create(Some(end)).await);
    assert!(server.terminate().await.success());
    assert!(Timestamp::now() < start, "this machine is too slow for this test");
    let place: Arc<Place> = Arc::clone(server.place());
    drop(server);
    while Timestamp::now() <= end {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    let server = ServerBuilder::at(&place).start().await;
    let admin: Client = server.admin().await;
    eventually(async || match admin.state(&late).await {
        Some(1) => Ok(()),
        other => Err(format!("the late lab's state is {other:?}")),
    })
    .await;
    // Whoever comes is told of the other once.
    let mut statuses = admin.join("/status-messages").await;
    let is_missed =
        |data: &Value| data["payload"]["content"].as_str().is_some_and(|text| text.contains("came and went"));
    expect_data(&mut statuses, "that a lab was missed", is_missed).await;
    assert_eq!(admin.state(&missed).await, None);
    assert_eq!(admin.state(&idle).await, None, "what was not scheduled doesn't start");
    admin.destroy(&late).await.unwrap();
}
