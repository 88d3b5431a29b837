//! Whoever joins while lines are being written gets every line once, in order.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Client, Lines, Server, User};

const PARTS: usize = 40;
const LINES_PER_PART: usize = 100;
const LINES: usize = PARTS * LINES_PER_PART;
/// One more client joins each time that this many lines have been seen.
const JOIN_EVERY: usize = 25;

/// A lab whose deploy writes numbered lines, with pauses too short for anybody to arrange themselves with.
fn talkative() -> String {
    let mut definition = "name: talkative\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      exec:\n".to_owned();
    for part in 0..PARTS {
        let (first, end) = (part * LINES_PER_PART, (part + 1) * LINES_PER_PART);
        let script = format!("i={first}; while [ $i -lt {end} ]; do echo \"number $i.\"; i=$((i+1)); done");
        definition.push_str(&format!("        - sh -c '{script}'\n"));
    }
    definition.push_str("        - echo that was all\n");
    definition
}

/// The numbers of a log, in the order in which they came.
fn numbers(log: &Lines) -> Vec<usize> {
    log.pieces.iter().filter_map(|line| line.rsplit_once("number ")?.1.split_once('.')?.0.parse().ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_join_while_lines_are_written_get_each_line_once_and_in_order() {
    if !User::Myself.can_run_labs("joining while lines are written") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &talkative()).await;
    let path: Arc<str> = format!("/logs/{lab}").into();
    let deploy = admin.command_in_background(&lab, 0, json!({}));

    let mut joiners = Vec::new();
    let mut observer = Lines::of(admin.join_once_there(&path).await);
    let mut joined_at = 0;
    while !observer.pieces.last().is_some_and(|line| line.contains("that was all")) {
        assert!(observer.read().await);
        while observer.pieces.len() >= joined_at + JOIN_EVERY {
            joined_at += JOIN_EVERY;
            let client = Client::connect(&server, &admin.token).await;
            let path = Arc::clone(&path);
            joiners.push(tokio::spawn(async move {
                let mut log = Lines::of(client.join(&path).await);
                log.read().await;
                let in_backlog = log.pieces.len();
                log.until("that was all").await;
                (in_backlog, numbers(&log))
            }));
        }
    }
    let expected: Vec<usize> = (0..LINES).collect();
    assert_eq!(numbers(&observer), expected);
    let mut backlogs = HashSet::new();
    for joiner in joiners {
        let (in_backlog, numbers) = joiner.await.unwrap();
        assert!(numbers == expected, "lost, doubled or swapped around {:?}", first_difference(&numbers, &expected));
        backlogs.insert(in_backlog);
    }
    // If all had joined before or after the writing, this test would have shown nothing.
    assert!(backlogs.len() > 5, "the joins fell into few moments: {backlogs:?}");
    assert_eq!(deploy.await.unwrap(), Ok(Value::Null));
    admin.destroy(&lab).await.unwrap();
}

fn first_difference<'a>(left: &'a [usize], right: &'a [usize]) -> Option<(usize, &'a usize, &'a usize)> {
    left.iter().zip(right).enumerate().find(|(_, (l, r))| l != r).map(|(at, (l, r))| (at, l, r))
}
