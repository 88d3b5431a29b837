//! The result must be right: what readers of a lab's log get. Line 24; line 25 is `backlog`.

use serde_json::{Value, json};

use crate::harness::{Lines, Server, User};

/// A lab whose deploys can be told apart by their logs, since each has a name of its own.
const COUNTED: &str = "name: counted\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      exec:\n        - sh -c 'i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo number $i.; done'\n";

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_a_log_go_on_receiving_over_destroy_and_deploy_and_new_ones_get_one_backlog() {
    if !User::Myself.can_run_labs("logs over destroy and deploy") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", COUNTED).await;
    let path = format!("/logs/{lab}");
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    // Stays all the while, in one namespace that it joins once.
    let mut reader = Lines::of(admin.join_once_there(&path).await);
    assert_eq!(deploy.await.unwrap(), Ok(Value::Null));
    for round in 1..=4 {
        let shown = admin.api.lab(&lab).await.unwrap();
        let instance = shown["instance"]["name"].as_str().unwrap();
        if round % 2 == 0 {
            // Deployed anew, which destroys it on the way.
            admin.deploy(&lab).await.unwrap();
        } else {
            admin.destroy(&lab).await.unwrap();
            reader.until(&format!("Nothing is left of {instance}")).await;
            admin.deploy(&lab).await.unwrap();
        }
        let shown = admin.api.lab(&lab).await.unwrap();
        let anew = shown["instance"]["name"].as_str().unwrap();
        assert_ne!(instance, anew);
        reader.until(anew).await;
        // The last line of a deploy's own, which comes once per deploy.
        while numbers(&reader).len() < 50 * (round + 1) {
            assert!(reader.read().await);
        }
        let once: Vec<usize> = (1..=50).collect();
        assert_eq!(numbers(&reader), once.repeat(round + 1), "each line of each deploy once, in order");
        // Somebody new has all of it, from the backlog alone (`Lines` fails at a second one).
        let mut new = Lines::of(admin.join_elsewhere(&path).await);
        assert!(new.read().await);
        assert_eq!(numbers(&new), once.repeat(round + 1));
    }
    admin.destroy(&lab).await.unwrap();
}

fn numbers(log: &Lines) -> Vec<usize> {
    log.pieces.iter().filter_map(|line| line.rsplit_once("number ")?.1.split_once('.')?.0.parse().ok()).collect()
}
