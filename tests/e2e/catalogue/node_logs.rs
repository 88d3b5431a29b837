//! Logs of nodes, `/logs/<labId>/<node>`: lines 6 and 14, and what of lines 24, 25 and 30 is about them.

use std::sync::Arc;

use antimony_host::client::ConnectError;
use serde_json::json;

use super::Bystander;
use super::floods::{FLOOD, Reader};
use crate::ONE_NODE;
use crate::harness::{Figures, Lines, Raw, Server, User, next, within};

/// A node that says at its start that it has begun, and then counts.
const COUNTS: &str = "name: counts\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      cmd: sh -c 'echo begun; i=0; while :; do i=$((i+1)); echo count $i.; sleep 0.01; done'\n    n2:\n      kind: linux\n";

fn counts(log: &Lines) -> Vec<u32> {
    log.pieces.iter().filter_map(|line| line.strip_prefix("count ")?.strip_suffix('.')?.parse().ok()).collect()
}

/// Line 25.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_join_while_a_node_writes_get_each_line_once_and_in_order() {
    const TRIES: usize = 1_000;
    if !User::Myself.can_run_labs("joining the log of a node") {
        return;
    }
    let server = Server::start().await;
    let admin = Arc::new(server.admin().await);
    let lab = admin.create_lab("course", COUNTS).await;
    admin.deploy(&lab).await.unwrap();
    let path = Arc::new(format!("/logs/{lab}/n1"));
    let joiners: Vec<_> = (0..16)
        .map(|which| {
            let (admin, path) = (Arc::clone(&admin), Arc::clone(&path));
            tokio::spawn(async move {
                for number in 0..TRIES.div_ceil(16) {
                    let mut log = Lines::of(admin.join_elsewhere(&path).await);
                    assert!(within("the backlog", log.read()).await);
                    let wanted = log.pieces.len() + 1 + (which + number) % 4;
                    while log.pieces.len() < wanted {
                        assert!(within("a line", log.read()).await);
                    }
                    let counts = counts(&log);
                    let all: Vec<u32> = (1..).take(counts.len()).collect();
                    assert_eq!(counts, all, "lost, doubled or swapped");
                }
            })
        })
        .collect();
    for joiner in joiners {
        joiner.await.unwrap();
    }
    admin.destroy(&lab).await.unwrap();
}

/// Line 24: whether the namespace survives is up to the server; what is told is told once, and the new run is told.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_the_log_of_a_node_gets_that_of_the_next_instance_from_its_beginning() {
    if !User::Myself.can_run_labs("the log of a node over destroy and deploy") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", COUNTS).await;
    for _ in 0..3 {
        admin.deploy(&lab).await.unwrap();
        let mut log = Lines::of(admin.join_elsewhere(&format!("/logs/{lab}/n1")).await);
        log.until("count 20.").await;
        assert_eq!(log.pieces.iter().filter(|line| *line == "begun").count(), 1, "of this instance only");
        assert_eq!(counts(&log)[..20], (1..=20).collect::<Vec<_>>());
        admin.destroy(&lab).await.unwrap();
        // It ends with its instance: told so, or cut; it is not left hanging there.
        while within("the end of the namespace", log.read()).await {}
    }
}

/// Line 30.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_node_is_for_those_who_may_see_its_lab() {
    if !User::Myself.can_run_labs("access to the log of a node") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", COUNTS).await;
    admin.deploy(&lab).await.unwrap();
    let shown = admin.api.lab(&lab).await.unwrap();
    let container = shown["instance"]["nodes"][0]["containerId"].as_str().unwrap();
    let (insider, outsider) =
        (server.member("insider", &["course"]).await, server.member("outsider", &["elsewhere"]).await);
    for node in ["n1", container] {
        let path = format!("/logs/{lab}/{node}");
        Lines::of(insider.join(&path).await).until("count").await;
        assert_eq!(outsider.try_join(&path).await.unwrap_err(), ConnectError::Refused("No Access".to_owned()));
    }
    // Output only, as line 1 has it.
    let mut log = insider.join_elsewhere(&format!("/logs/{lab}/n1")).await;
    assert_eq!(next(&mut log).await.name, "backlog");
    for args in [vec![], vec![json!("text")]] {
        log.emit_args("data", args.clone()).await.unwrap();
        assert_eq!(within("an answer", log.call_args("data", args)).await.unwrap()[0]["code"], 5422);
    }
    admin.destroy(&lab).await.unwrap();
}

/// Line 6.
#[tokio::test(flavor = "multi_thread")]
async fn long_lines_many_lines_and_no_text_at_all_in_the_log_of_a_node_cost_bounded_memory_and_the_log_goes_on() {
    if !User::Myself.can_run_labs("a flood in the log of a node") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let quiet = admin.create_lab("quiet", ONE_NODE).await;
    admin.deploy(&quiet).await.unwrap();
    let flood: String = FLOOD.lines().collect();
    // Waits until somebody is there to read it.
    let topology = format!(
        "name: flood\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      cmd: \"sh -c \\\"until test -e /root/go; do sleep 0.02; done; {}; sleep 100000\\\"\"\n",
        flood.replace('$', "\\\\$")
    );
    let lab = admin.create_lab("course", &topology).await;
    admin.deploy(&lab).await.unwrap();
    let path = format!("/logs/{lab}/n1");
    let mut reader = Reader::join(&admin, &path).await;
    let mut stuck = Raw::open(&server.url).await;
    assert!(stuck.join(&path, &admin.token).await);
    let before = Figures::of(server.id());
    let bystander = Bystander::start(&server, &admin.token, &quiet).await;
    let during = bystander.answers();
    crate::harness::Shell::open(&admin, &lab, "n1").await.succeeds("touch /root/go").await;
    reader.until("after the noise 2").await;
    assert!(bystander.answers() > during);
    bystander.finish().await;
    let after = Figures::of(server.id());
    assert!(after.peak < before.memory + (96 << 10), "before: {before:?}, after: {after:?}");
    admin.destroy(&lab).await.unwrap();
    admin.destroy(&quiet).await.unwrap();
    drop(stuck);
    assert!(server.is_alive());
}
