//! Leaks: line 29. Labs, shells and log namespaces are opened and closed over and over; memory and descriptors return to
//! where they were.
//!
//! The catalogue says 10,000 of each. `cargo test` opens as many log namespaces (by 10,000 connects to them), and fewer
//! labs and shells, since each of those is a dozen of processes; `ANTIMONY_LEAK_ROUNDS=10000` makes it that many of each.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::ONE_NODE;
use crate::harness::{Figures, Lines, Server, System, User, alone, descriptors, eventually, known_programs, within};
use crate::harness::{Place, ServerBuilder};

/// How many: what the environment says, or `default`.
fn rounds(default: usize) -> usize {
    std::env::var("ANTIMONY_LEAK_ROUNDS").map_or(default, |rounds| rounds.parse().expect("a number"))
}

/// What the server uses now, and that it is no more than before: descriptors and processes to the last one, memory up to
/// `bound` KiB.
async fn back_where_it_was(server: &Server, before: Figures, bound: u64) {
    eventually(async || {
        let now = Figures::of(server.id());
        let back = now.descriptors <= before.descriptors
            && now.processes <= before.processes
            && now.memory <= before.memory + bound;
        if back {
            return Ok(());
        }
        Err(format!("before: {before:?}, now: {now:?}, open: {:#?}", descriptors(server.id())))
    })
    .await;
}

/// Does `work` `times` times, from several clients at once.
async fn many_times<F: Future<Output = ()> + Send>(times: usize, work: impl Fn(usize) -> F + Send + Sync + 'static) {
    const AT_ONCE: usize = 8;
    let work = Arc::new(work);
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|first| {
            let work = Arc::clone(&work);
            tokio::spawn(async move {
                for number in (first..times).step_by(AT_ONCE) {
                    work(number).await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_log_namespaces_joined_and_left_leave_nothing() {
    if !User::Myself.can_run_labs("log namespaces, many times") {
        return;
    }
    let server = Server::start().await;
    let admin = Arc::new(server.admin().await);
    let mut labs = Vec::new();
    for number in 0..4 {
        let lab = admin.create_lab(&format!("course {number}"), ONE_NODE).await;
        admin.deploy(&lab).await.unwrap();
        labs.push(lab);
    }
    let labs = Arc::new(labs);
    let join = {
        let (admin, labs) = (Arc::clone(&admin), Arc::clone(&labs));
        move |number: usize| {
            let (admin, labs) = (Arc::clone(&admin), Arc::clone(&labs));
            async move {
                let path = format!("/logs/{}", labs[number % labs.len()]);
                let mut log = Lines::of(admin.join_elsewhere(&path).await);
                assert!(log.read().await && !log.pieces.is_empty());
            }
        }
    };
    let all = rounds(10_000);
    many_times(all / 5, join.clone()).await;
    // The connections of the last ones may be on their way out.
    eventually(async || match descriptors(server.id()).iter().filter(|target| target.starts_with("socket:")).count() {
        0..=12 => Ok(()),
        many => Err(format!("{many} sockets")),
    })
    .await;
    let before = Figures::of(server.id());
    many_times(all, join).await;
    back_where_it_was(&server, before, 16 << 10).await;
    for lab in labs.iter() {
        admin.destroy(lab).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_labs_made_deployed_destroyed_and_deleted_leave_nothing() {
    if !User::Myself.can_run_labs("labs, many times") {
        return;
    }
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let programs = known_programs(&place);
    let server = ServerBuilder::at(&place).env("ANTIMONY_LOG", "warn").within(&turn).start().await;
    let admin = Arc::new(server.admin().await);
    let first = admin.create_lab("course", ONE_NODE).await;
    let topology = admin.api.lab(&first).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    let system = System::now(&programs);
    let live = {
        let admin = Arc::clone(&admin);
        move |number: usize| {
            let (admin, topology) = (Arc::clone(&admin), topology.clone());
            async move {
                let lab = admin.api.create_lab(&topology, "lab").await.unwrap();
                let mut updates = admin.join_elsewhere("/lab-updates").await;
                assert_eq!(admin.deploy(&lab).await, Ok(Value::Null));
                assert!(updates.next_event().await.is_some());
                if number.is_multiple_of(4) {
                    assert!(!admin.log(&lab).await.is_empty());
                    admin.open_shell(&lab, "n1").await;
                }
                assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
                admin.api.request(reqwest::Method::DELETE, &format!("/labs/{lab}"), None).await.unwrap();
                // Its log has gone with it.
                admin.try_join(&format!("/logs/{lab}")).await.unwrap_err();
            }
        }
    };
    let all = rounds(240);
    many_times(all, live.clone()).await;
    System::wait_until_as_in_company(&system, &programs).await;
    let before = Figures::of(server.id());
    many_times(all, live).await;
    back_where_it_was(&server, before, 24 << 10).await;
    System::wait_until_as_in_company(&system, &programs).await;
    let labs = admin.api.get("/labs").await.unwrap();
    assert_eq!(labs.as_array().unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(place.data().join("run")).unwrap().count(), 0, "and no folder of any");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_shells_opened_typed_into_and_closed_leave_nothing() {
    if !User::Myself.can_run_labs("shells, many times") {
        return;
    }
    let server = Server::start().await;
    let admin = Arc::new(server.admin().await);
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let open = {
        let (admin, lab) = (Arc::clone(&admin), lab.clone());
        move |number: usize| {
            let (admin, lab) = (Arc::clone(&admin), lab.clone());
            async move {
                let shell = admin.open_shell(&lab, "n1").await;
                let mut terminal = Lines::of(admin.join_elsewhere(&format!("/shells/{shell}")).await);
                terminal.namespace().emit("data", "echo $((40 + 2))=\n").await.unwrap();
                terminal.until("42=").await;
                // Closed by command, or by itself.
                if number.is_multiple_of(2) {
                    assert_eq!(admin.command(&lab, 7, json!({ "shellId": shell })).await, Ok(Value::Null));
                } else {
                    terminal.namespace().emit("data", "exit\n").await.unwrap();
                    // The namespace stays for a while; the shell is gone from the list.
                    let listed = async || admin.command(&lab, 5, json!({})).await.unwrap().to_string().contains(&shell);
                    within("the end of a shell", async { while listed().await {} }).await;
                }
            }
        }
    };
    let all = rounds(600);
    many_times(all, open.clone()).await;
    let gone = async || match admin.command(&lab, 5, json!({})).await {
        Ok(open) if open == json!([]) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually(gone).await;
    let before = Figures::of(server.id());
    many_times(all, open).await;
    eventually(gone).await;
    back_where_it_was(&server, before, 16 << 10).await;
    admin.destroy(&lab).await.unwrap();
}
