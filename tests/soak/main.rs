//! Everything at once for a while: what a server uses stays flat meanwhile, and is back where it was afterwards.
//!
//! A real server; several users, each with several clients that deploy and destroy, act on nodes, type into shells, read
//! logs (fast, slowly, and not at all), come and go, let their tokens expire, and send nonsense, all the time. Every few
//! seconds what the server uses is written down. The first fifth of the samples is warm-up. After it, the median of the
//! resident memory in the last fifth may exceed that in the second fifth by [`Soak::bound`] and no more. In the end
//! everything is closed: descriptors, processes, namespaces, links, mounts and control groups are as before.
//!
//! A short soak is part of `cargo test`. The long one:
//! `ANTIMONY_SOAK_MINUTES=30 cargo test --release --test soak -- --ignored --nocapture`. The samples are written to the
//! file that is named first, or to that in `ANTIMONY_SOAK_CSV`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should say where")]
#![allow(clippy::print_stdout, reason = "the table is for whoever runs it")]

mod actors;
#[path = "../e2e/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "it is made for other suites, and this one doesn't use all of it")]
mod harness;
mod samples;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::actors::{Person, Tally};
use self::harness::{
    Client, Figures, Server, ServerBuilder, System, User, alone, descriptors, eventually, known_programs,
};
use self::samples::{Sample, Samples};

/// How many people use the server at once. Each has nine clients.
const USERS: usize = 4;
/// The collection that they share.
const COLLECTION: &str = "soak";

/// How long it goes on, and how it is judged.
struct Soak {
    duration: Duration,
    interval: Duration,
    /// KiB by which memory may have grown from the second fifth to the last.
    bound: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_soak_leaves_nothing_behind() {
    // Too short for allocator and caches to settle: a leak has to be a fast one to be seen here.
    let soak = Soak { duration: Duration::from_secs(25), interval: Duration::from_millis(500), bound: 96 << 10 };
    run("a_short_soak", soak).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half an hour, or as many minutes as ANTIMONY_SOAK_MINUTES says"]
async fn a_long_soak_shows_flat_memory_and_leaves_nothing_behind() {
    let minutes = std::env::var("ANTIMONY_SOAK_MINUTES").map_or(30.0, |minutes| minutes.parse().unwrap());
    let soak =
        Soak { duration: Duration::from_secs_f64(minutes * 60.0), interval: Duration::from_secs(3), bound: 12 << 10 };
    run("a_long_soak", soak).await;
}

async fn run(name: &str, soak: Soak) {
    if !User::Myself.can_run_labs(name) {
        return;
    }
    let turn = alone().await;
    let mut server = ServerBuilder::new(User::Myself).env("ANTIMONY_LOG", "warn").within(&turn).start().await;
    let programs = known_programs(server.place());
    let admin = server.admin().await;
    admin.api.create_collection(COLLECTION, true, true).await.unwrap();
    let people: Vec<_> = (0..USERS).map(|number| Arc::new(Person::new(&server, number, COLLECTION))).collect();
    // Once through everything, so that what is made once and kept is there.
    people[0].try_everything_once().await;
    let before_system = System::now(&programs);
    let before = settled(&server).await;
    println!("before: {before:?}");

    let stop = CancellationToken::new();
    let tally = Arc::new(Tally::default());
    let mut actors = JoinSet::new();
    for person in &people {
        person.act(&mut actors, &tally, &stop);
    }
    let mut samples = Samples::default();
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < soak.duration {
        tokio::select! {
            () = tokio::time::sleep(soak.interval) => {}
            // They go on until they are stopped; whoever ends before has found something wrong.
            Some(ended) = actors.join_next() => {
                ended.unwrap();
                panic!("an actor has left the stage");
            }
        }
        assert!(server.is_alive(), "the server has ended");
        samples.push(Sample { at: begun.elapsed(), figures: Figures::of(server.id()), done: tally.total() });
    }
    stop.cancel();
    while let Some(ended) = actors.join_next().await {
        ended.unwrap();
    }
    let csv = std::env::var_os("ANTIMONY_SOAK_CSV")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.csv")), PathBuf::from);
    samples.write(&csv);
    println!("{samples}\n{tally}\nsamples: {}", csv.display());

    close_everything(&server.url, &admin).await;
    drop((admin, people));
    let opened = descriptors(server.id());
    eventually(async || {
        let now = Figures::of(server.id());
        if now.descriptors <= before.descriptors && now.processes == before.processes {
            return Ok(());
        }
        Err(format!(
            "before: {before:?}, now: {now:?}; descriptors at first: {opened:#?}; now: {:#?}",
            descriptors(server.id())
        ))
    })
    .await;
    System::wait_until_as_in_company(&before_system, &programs).await;
    println!("after:  {:?}", Figures::of(server.id()));
    let log = server.log().to_owned();
    assert!(!log.contains("panicked"), "{log}");
    for line in log.lines().filter(|line| line.contains("ERROR")).take(20) {
        println!("{line}");
    }
    match samples.judge(soak.bound) {
        Ok(verdict) => println!("{verdict}"),
        Err(verdict) => panic!("{verdict}"),
    }
    assert!(server.terminate().await.success());
}

/// What the server uses once those who were connected have gone.
async fn settled(server: &Server) -> Figures {
    let mut last = Figures::of(server.id());
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = Figures::of(server.id());
        if now.descriptors == last.descriptors && now.processes == last.processes && now.processes == 0 {
            return now;
        }
        last = now;
    }
    panic!("it doesn't settle: {last:?}, {:#?}", descriptors(server.id()));
}

/// Destroys and deletes all labs.
async fn close_everything(url: &str, admin: &Client) {
    // Half an hour has passed, and with it the first token.
    let login = admin.api.log_in("admin", "admin").await.unwrap();
    let admin = Client::try_connect(url, &login.access_token).await.unwrap();
    for lab in admin.api.get("/labs").await.unwrap().as_array().unwrap() {
        let id = lab["id"].as_str().unwrap();
        if lab["instance"].is_object() {
            // Whoever began it may have ended it by now.
            let _ = admin.destroy(id).await;
        }
        admin.api.request(reqwest::Method::DELETE, &format!("/labs/{id}"), None).await.unwrap();
    }
}
