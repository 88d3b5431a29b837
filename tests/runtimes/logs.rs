//! What nodes print: by which names it is had, over what it goes on, that each line comes once.

use antimony_host::client::ConnectError;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::harness::{Client, Lines, Shell, within};
use crate::{lab, sh};

/// A lab of one node that numbers its lines, slowly and without an end, and says when it begins.
pub(crate) fn ticking() -> String {
    lab(
        "ticking",
        &format!("n1:\n  cmd: {}", sh("echo begun; i=0; while :; do echo \"tick $i.\"; i=$((i+1)); sleep 0.02; done")),
    )
}

/// The numbers in a log, in the order in which they came.
pub(crate) fn ticks(log: &Lines) -> Vec<usize> {
    log.pieces.iter().filter_map(|line| line.strip_prefix("tick ")?.strip_suffix('.')?.parse().ok()).collect()
}

/// Fails unless each run of the node counts from zero, and loses, doubles and swaps nothing.
pub(crate) fn assert_each_once(log: &Lines, runs: usize) {
    let begun = log.pieces.iter().filter(|line| *line == "begun").count();
    assert_eq!(begun, runs, "runs of the node: {:#?}", log.pieces);
    let mut expected = 0;
    for tick in ticks(log) {
        expected = if tick == 0 { 0 } else { expected + 1 };
        assert_eq!(tick, expected, "lost, doubled or swapped");
    }
    let other: Vec<_> = log
        .pieces
        .iter()
        .filter(|line| *line != "begun" && !(line.starts_with("tick ") && line.ends_with('.')))
        .collect();
    assert!(other.len() < runs, "only what is cut when a node ends may be anything else: {other:?}");
}

/// Reads until the node has begun so often, and ticked since.
pub(crate) async fn until_runs(log: &mut Lines, runs: usize) {
    while log.pieces.iter().filter(|line| *line == "begun").count() < runs
        || !log.pieces.last().is_some_and(|line| line.starts_with("tick"))
    {
        assert!(within("a line", log.read()).await, "the namespace has ended");
    }
}

/// The container id of the only node.
async fn container(client: &Client, lab: &str) -> String {
    let shown = client.api.lab(lab).await.unwrap();
    shown["instance"]["nodes"][0]["containerId"].as_str().unwrap().to_owned()
}

pub(crate) async fn a_node_log_is_had_by_the_name_and_by_the_container_id_of_its_node(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &ticking()).await;
    let path = format!("/logs/{lab}/n1");
    let gone = ConnectError::Refused("Invalid namespace".to_owned());
    assert_eq!(admin.try_join(&path).await.err(), Some(gone.clone()), "the lab is not deployed");
    admin.deploy(&lab).await.unwrap();
    let container = container(&admin, &lab).await;
    assert_eq!(container.len(), 12, "{container}");

    let mut by_name = Lines::of(admin.join(&path).await);
    let mut by_id = Lines::of(admin.join_elsewhere(&format!("/logs/{lab}/{container}")).await);
    for log in [&mut by_name, &mut by_id] {
        log.until("tick 20.").await;
        assert_eq!(log.pieces[0], "begun");
        assert_each_once(log, 1);
    }
    assert_eq!(admin.try_join(&format!("/logs/{lab}/n2")).await.err(), Some(gone.clone()), "there is no such node");
    assert_eq!(admin.try_join(&format!("/logs/n1/{lab}")).await.err(), Some(gone.clone()));

    admin.destroy(&lab).await.unwrap();
    while within("the end of the log", by_name.read()).await {}
    assert_eq!(admin.try_join(&path).await.err(), Some(gone), "the lab is not deployed any more");
    // The next instance begins another log.
    admin.deploy(&lab).await.unwrap();
    let mut again = Lines::of(admin.join_elsewhere(&path).await);
    again.until("tick 1.").await;
    assert_each_once(&again, 1);
    admin.destroy(&lab).await.unwrap();
}

pub(crate) async fn a_node_log_goes_on_in_the_same_namespace_when_its_lab_is_deployed_anew(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &ticking()).await;
    admin.deploy(&lab).await.unwrap();
    let mut log = Lines::of(admin.join(&format!("/logs/{lab}/n1")).await);
    until_runs(&mut log, 1).await;
    admin.deploy(&lab).await.unwrap();
    until_runs(&mut log, 2).await;
    let mut newcomer = Lines::of(admin.join_elsewhere(&format!("/logs/{lab}/n1")).await);
    assert!(within("the backlog", newcomer.read()).await);
    until_runs(&mut newcomer, 2).await;
    assert_each_once(&log, 2);
    assert_each_once(&newcomer, 2);
    admin.destroy(&lab).await.unwrap();
}

/// Line 14 of the catalogue.
pub(crate) async fn the_log_of_a_node_goes_on_in_the_same_namespace_over_stop_start_and_restart(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &ticking().replace("sleep 0.02", "sleep 0.02 || exit")).await;
    admin.deploy(&lab).await.unwrap();
    let container = container(&admin, &lab).await;
    // By both of its names.
    let mut logs = vec![
        Lines::of(admin.join(&format!("/logs/{lab}/n1")).await),
        Lines::of(admin.join(&format!("/logs/{lab}/{container}")).await),
    ];
    for log in &mut logs {
        until_runs(log, 1).await;
    }
    for (round, commands) in [&[2, 3][..], &[4]].into_iter().enumerate() {
        for command in commands {
            assert_eq!(admin.command(&lab, *command, json!({ "node": "n1" })).await, Ok(Value::Null));
        }
        for log in &mut logs {
            until_runs(log, round + 2).await;
            assert_each_once(log, round + 2);
        }
    }
    let mut newcomer = Lines::of(admin.join_elsewhere(&format!("/logs/{lab}/n1")).await);
    until_runs(&mut newcomer, 3).await;
    assert_each_once(&newcomer, 3);
    admin.destroy(&lab).await.unwrap();
}

/// A lab of one node that waits for a file, so that the reader is there, and then runs `script`, and stays.
fn on_request(script: &str) -> String {
    let script = format!("while [ ! -e /tmp/go ]; do sleep 0.05; done; {script}; echo that was all; exec sleep 600");
    lab("printing", &format!("n1:\n  cmd: {}", sh(&script)))
}

pub(crate) async fn a_node_that_prints_faster_than_anybody_reads_loses_no_line(on: &Bench) {
    const LINES: usize = 300_000;
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &on_request(&format!("seq 0 {} | sed 's/.*/tick &./'", LINES - 1))).await;
    admin.deploy(&lab).await.unwrap();
    let mut log = Lines::of(admin.join(&format!("/logs/{lab}/n1")).await);
    assert!(within("the backlog", log.read()).await);
    Shell::open(&admin, &lab, "n1").await.succeeds("touch /tmp/go").await;
    while log.pieces.last().is_none_or(|line| line != "that was all") {
        assert!(within("a line", log.read()).await, "the log ended after {} lines", log.pieces.len());
    }
    assert_eq!(ticks(&log), (0..LINES).collect::<Vec<_>>());
    // Whoever comes now gets what is kept: the beginning, the end, and how much is missing in between.
    let mut late = Lines::of(admin.join_elsewhere(&format!("/logs/{lab}/n1")).await);
    assert!(within("the backlog", late.read()).await);
    let mark = late.pieces.iter().position(|line| line.starts_with('[')).expect("a mark");
    assert_eq!(late.pieces[0], "tick 0.");
    let left_out = LINES + 1 - (late.pieces.len() - 1);
    assert!(late.pieces[mark].starts_with(&format!("[{left_out} lines are left out here")), "{}", late.pieces[mark]);
    assert_eq!(late.pieces.last().unwrap(), "that was all");
    admin.destroy(&lab).await.unwrap();
}

pub(crate) async fn a_long_line_and_what_is_no_text_do_not_stop_the_log_of_a_node(on: &Bench) {
    const LONG: usize = 3 << 20;
    let server = on.server().await;
    let admin = server.admin().await;
    let script = format!(
        "head -c {LONG} /dev/zero | tr '\\0' x; echo; echo behind the long line; printf '\\377\\303 and on\\n'; printf 'h\\303\\244tte €\\n'"
    );
    let lab = admin.create_lab("course", &on_request(&script)).await;
    admin.deploy(&lab).await.unwrap();
    let mut log = Lines::of(admin.join(&format!("/logs/{lab}/n1")).await);
    assert!(within("the backlog", log.read()).await);
    Shell::open(&admin, &lab, "n1").await.succeeds("touch /tmp/go").await;
    while log.pieces.last().is_none_or(|line| line != "that was all") {
        assert!(within("a line", log.read()).await, "the log ended after {} lines", log.pieces.len());
    }
    let position = |wanted: &str| {
        let found = log.pieces.iter().position(|line| line == wanted);
        found.unwrap_or_else(|| panic!("{wanted:?} is not in {:?}", &log.pieces[log.pieces.len().saturating_sub(6)..]))
    };
    let behind = position("behind the long line");
    let length: usize = log.pieces[..behind].iter().map(|line| line.matches('x').count()).sum();
    assert_eq!(length, LONG);
    position("\u{fffd}\u{fffd} and on");
    position("hätte €");
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
}
