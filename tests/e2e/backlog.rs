//! Whoever joins while lines are being written gets every line once, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::{Client, Lines, Server, User, within};

const LINES: usize = 2_000;
/// How many clients join and leave again, over and over, while a lab writes.
const CLIENTS: usize = 16;
/// How many joins have to have fallen between the first line and the last.
const TRIES: usize = 1_000;

/// A lab whose deploy writes numbered lines, in bursts with short pauses between them.
fn talkative() -> String {
    format!(
        "name: talkative
topology:
  nodes:
    n1:
      kind: linux
      exec:
        - sh -c 'i=0; while [ $i -lt {LINES} ]; do echo \"number $i.\"; i=$((i+1)); [ $((i % 20)) != 0 ] || sleep 0.02; done'
        - echo that was all
"
    )
}

const END: &str = "that was all";

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
    let first = admin.create_lab("course", &talkative()).await;
    let topology = admin.api.lab(&first).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    let admin = Arc::new(admin);
    let tries = Arc::new(AtomicUsize::new(0));
    // How often somebody gets round to joining while one lab writes is up to the machine, so there is one after another.
    while tries.load(Ordering::Relaxed) < TRIES {
        let lab = admin.api.create_lab(&topology, "lab").await.unwrap();
        let path: Arc<str> = format!("/logs/{lab}").into();
        let deploy = admin.command_in_background(&lab, 0, json!({}));
        // Stays from the beginning to the end.
        let mut observer = Lines::of(admin.join_once_there(&path).await);
        let joiners: Vec<_> = (0..CLIENTS)
            .map(|which| {
                let (admin, path, tries) = (Arc::clone(&admin), Arc::clone(&path), Arc::clone(&tries));
                tokio::spawn(async move {
                    // The longer somebody stays, the later they join again: they are to spread.
                    while join_and_leave(&admin, &path, 1 + which % 4).await {
                        tries.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        observer.until(END).await;
        assert_eq!(numbers(&observer), (0..LINES).collect::<Vec<_>>());
        for joiner in joiners {
            joiner.await.unwrap();
        }
        assert_eq!(deploy.await.unwrap(), Ok(Value::Null));
        admin.destroy(&lab).await.unwrap();
    }
}

/// Joins, checks the backlog and some of what follows, and leaves. True when the lab was writing
/// all the while.
async fn join_and_leave(client: &Client, path: &str, stay: usize) -> bool {
    let mut log = Lines::of(client.join_elsewhere(path).await);
    assert!(within("the backlog", log.read()).await);
    let in_backlog = log.pieces.len();
    let over = |log: &Lines| log.pieces.iter().any(|line| line.contains(END));
    while log.pieces.len() < in_backlog + stay && !over(&log) {
        assert!(within("a line", log.read()).await);
    }
    let numbers = numbers(&log);
    let wrong = numbers.iter().enumerate().find(|(place, number)| place != *number);
    assert!(wrong.is_none(), "lost, doubled or swapped: {wrong:?}, with {in_backlog} lines in the backlog");
    !over(&log) && !numbers.is_empty()
}
