//! Labs on containerlab go on without the server; one that is started again has them back.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::bench::{Bench, Runtime};
use crate::harness::{Client, Lines, Place, Shell, User, eventually, expect_data};
use crate::logs::{assert_each_once, ticking, ticks, until_runs};
use crate::nodes::{node_state, until_node_is};
use crate::two_routers;

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_goes_on_over_a_restart_and_a_kill_of_the_server_with_nodes_links_and_shells() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a lab goes on over a restart of the server") else { return };
    let place = Place::new(User::Myself);
    let mut server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    admin.deploy(&lab).await.unwrap();
    Shell::open(&admin, &lab, "r1").await.succeeds("touch /root/mine").await;
    let before = admin.api.lab(&lab).await.unwrap();
    assert_eq!(before["instance"]["recovered"], false);
    for killed in [false, true] {
        if killed {
            server.kill();
        } else {
            assert!(server.terminate().await.success());
        }
        drop(server);
        assert_eq!(on.containers().len(), 2, "the nodes go on");
        server = on.builder_at(&place).start().await;
        let admin = server.admin().await;
        let shown = admin.api.lab(&lab).await.unwrap();
        assert_eq!(
            (&shown["instance"]["state"], &shown["instance"]["recovered"]),
            (&json!(1), &json!(true)),
            "{shown}"
        );
        assert_eq!(nodes_of(&shown), nodes_of(&before));
        let mut shell = Shell::open(&admin, &lab, "r1").await;
        assert_eq!(shell.succeeds("ls /root").await, "mine");
        shell.succeeds("ping -c 1 -W 5 10.0.0.2").await;
        assert_eq!(admin.command(&lab, 4, json!({ "node": "r2" })).await, Ok(Value::Null));
        shell.succeeds("ping -c 1 -W 5 10.0.0.2").await;
        until_node_is(&admin, &lab, "r2", "running").await;
    }
    let admin = server.admin().await;
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    assert_eq!(admin.state(&lab).await, None);
    on.leaves_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_node_has_each_line_once_over_restarts_and_kills_of_the_server() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "node logs over restarts of the server") else { return };
    let place = Place::new(User::Myself);
    let mut server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &ticking()).await;
    admin.deploy(&lab).await.unwrap();
    let path = format!("/logs/{lab}/n1");
    let mut log = Lines::of(admin.join(&path).await);
    until_runs(&mut log, 1).await;
    let mut deployed = admin.log(&lab).await;
    for round in 0..4 {
        let so_far = ticks(&log).len();
        if round % 2 == 0 {
            assert!(server.terminate().await.success());
        } else {
            server.kill();
        }
        drop(server);
        server = on.builder_at(&place).start().await;
        let admin = server.admin().await;
        log = Lines::of(admin.join(&path).await);
        // What the node has printed meanwhile is there as well.
        while ticks(&log).len() < so_far + 30 {
            assert!(crate::harness::within("a line", log.read()).await);
        }
        assert_each_once(&log, 1);
        let now = admin.log(&lab).await;
        assert_eq!(now[..deployed.len()], deployed, "that of the lab is as it was");
        deployed = now;
    }
    let admin = server.admin().await;
    admin.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_to_the_nodes_while_the_server_was_down_is_seen_when_it_is_back() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "nodes that end while the server is down") else { return };
    let place = Place::new(User::Myself);
    let mut server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    let hurt = admin.create_lab("course", &two_routers()).await;
    let topology = admin.api.lab(&hurt).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    let lost = admin.api.create_lab(&topology, "lost").await.unwrap();
    admin.deploy(&hurt).await.unwrap();
    let of_hurt = on.containers();
    admin.deploy(&lost).await.unwrap();
    assert!(server.terminate().await.success());
    drop(server);
    let docker = on.prepared();
    for (id, name) in on.containers() {
        if of_hurt.iter().all(|(other, _)| *other != id) {
            docker.docker_succeeds(&["rm", "--force", &id]);
        } else if name.ends_with("-r1") {
            docker.docker_succeeds(&["kill", &id]);
        }
    }
    let server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    assert_eq!(admin.state(&hurt).await, Some(1));
    assert_eq!(
        (node_state(&admin, &hurt, "r1").await, node_state(&admin, &hurt, "r2").await),
        ("exited".to_owned(), "running".to_owned())
    );
    assert_eq!(admin.state(&lost).await, Some(3), "nothing of it is left");
    let mut statuses = admin.join("/status-messages").await;
    expect_data(&mut statuses, "that it was lost", |data| data["payload"]["severity"] == 3).await;
    assert_eq!(admin.command(&hurt, 3, json!({ "node": "r1" })).await, Ok(Value::Null));
    Shell::open(&admin, &hurt, "r1").await.succeeds("ping -c 1 -W 5 10.0.0.2").await;
    for lab in [hurt, lost] {
        assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
        assert_eq!(admin.state(&lab).await, None);
    }
    on.leaves_nothing().await;
}

/// Line 26 of the catalogue, and the end of what runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_an_end_that_were_missed_while_the_server_was_down_are_made_up_for() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "missed times") else { return };
    let place: Arc<Place> = Place::new(User::Myself);
    let mut server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    let idle = admin.create_lab("course", &two_routers()).await;
    let topology = admin.api.lab(&idle).await.unwrap()["topologyId"].clone();
    // Far enough ahead that the server is down before it, however slow the machine.
    let moment = Timestamp::now() + SignedDuration::from_secs(15);
    let create = async |admin: &Client, start: Timestamp, end: Option<Timestamp>| {
        let lab = json!({ "name": "scheduled", "topologyId": topology, "startTime": start, "endTime": end });
        admin.api.create("/labs", &lab).await.unwrap()
    };
    let late = create(&admin, moment, None).await;
    let over = create(&admin, Timestamp::now() - SignedDuration::from_secs(1), Some(moment)).await;
    eventually(async || match admin.state(&over).await {
        Some(1) => Ok(()),
        Some(0) => Err("it is being deployed".to_owned()),
        _ => admin.deploy(&over).await.map(|_| ()).map_err(|error| error.to_string()),
    })
    .await;
    server.kill();
    assert!(Timestamp::now() < moment, "this machine is too slow for this test");
    drop(server);
    while Timestamp::now() <= moment {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(on.containers().len(), 2, "it goes on as long as there is no server");

    let server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    eventually(async || match (admin.state(&late).await, admin.state(&over).await) {
        (Some(1), None) => Ok(()),
        other => Err(format!("the late lab's state and the old one's are {other:?}")),
    })
    .await;
    assert_eq!(on.containers().len(), 2, "those of the late one");
    assert_eq!(admin.state(&idle).await, None);
    admin.destroy(&late).await.unwrap();
    on.leaves_nothing().await;
}

/// What a lab shows of its nodes, without the commands that name the address of the server.
fn nodes_of(lab: &Value) -> Value {
    let mut nodes = lab["instance"]["nodes"].clone();
    for node in nodes.as_array_mut().expect("nodes") {
        node.as_object_mut().expect("a node").remove("interfaceCaptures").expect("commands");
    }
    nodes
}
