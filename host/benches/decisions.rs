//! What a decision costs: `cargo bench --bench decisions`.
//!
//! Prints the median over batches of calls of each hook with the bundled plugins, conversions and a fresh instance
//! included, and the best batch, which is what a quiet machine would show. Under `strace -c -f` the calls themselves should show no system calls: only the clock's thread sleeps.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints what it finds")]

#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/plugins/sample.rs"]
mod sample;

use std::time::{Duration, Instant};

use antimony_host::plugins::decision::{Action, CommandKind, Occurrence};
use antimony_host::plugins::{DecisionLog, DecisionLogConfig, PluginHost, PluginsConfig};
use sample::{NOW, command, lab, node_command, user};
use serde_json::json;

const BATCHES: usize = 101;
const CALLS: u32 = 1_000;

/// Measures an expression that is awaited anew for each call.
macro_rules! measure {
    ($name:literal, $call:expr) => {{
        let mut batches = Vec::with_capacity(BATCHES);
        for _ in 0..BATCHES {
            let start = Instant::now();
            for _ in 0..CALLS {
                std::hint::black_box($call.await).ok();
            }
            batches.push(start.elapsed() / CALLS);
        }
        batches.sort();
        println!("{:<44} {:>8.2} µs (best {:.2})", $name, micros(batches[BATCHES / 2]), micros(batches[0]));
    }};
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn main() {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(run());
}

async fn run() {
    let cache = tempfile::tempdir().unwrap();
    let config = PluginsConfig::default();
    for name in ["load, nothing cached", "load, everything cached", "load, everything cached"] {
        let start = Instant::now();
        let host = PluginHost::load(&config, cache.path(), cache.path()).await.unwrap();
        println!("{name:<44} {:>8.2} ms", micros(start.elapsed()) / 1e3);
        // The code cache writes from a thread of its own.
        while host.cache_use().1 > 0 && std::fs::read_dir(cache.path().join("code")).unwrap().next().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    let host = PluginHost::load(&config, cache.path(), cache.path()).await.unwrap();
    let (ada, bob, lab) = (user("ada"), user("bob"), lab());
    let deploy = command(CommandKind::Deploy);
    let open = node_command(CommandKind::OpenShell, "r1");
    let token = sample::claims(json!({
        "id": "ada", "isAdmin": false, "collections": ["course"], "iat": 1, "nbf": 1, "exp": 2
    }));
    let event = sample::event(Occurrence::LabDeployed);
    for _ in 0..2 {
        measure!("validate open-shell, two nodes", host.validate(open.clone(), &ada, &lab, None, NOW));
        measure!("identify", host.identify(&token));
        measure!(
            "authorize deploy, two nodes, allowed",
            host.authorize(&ada, Action::Command(&deploy, &lab, None), NOW)
        );
        measure!(
            "authorize deploy, two nodes, denied",
            host.authorize(&bob, Action::Command(&deploy, &lab, None), NOW)
        );
        measure!("authorize view-lab, two nodes", host.authorize(&bob, Action::ViewLab(&lab), NOW));
        measure!("format", async { Ok::<_, ()>(host.format(&event).await) });
    }
    concurrent(&host).await;
    written_down(&config, cache.path()).await;
}

/// The same with a decision log, as far as whoever waits for the decision notices: with nothing else to do than to decide,
/// the writer falls behind, and what its queue has no room for costs less. So it is asked in turns that fit into the queue.
async fn written_down(config: &PluginsConfig, cache: &std::path::Path) {
    const TURN: u32 = 200;
    let (plain, logged) =
        (PluginHost::load(config, cache, cache).await.unwrap(), PluginHost::load(config, cache, cache).await.unwrap());
    let dir = tempfile::tempdir().unwrap();
    let log = DecisionLog::open(&DecisionLogConfig::default(), dir.path()).unwrap().unwrap();
    logged.log_decisions(log.clone());
    let (ada, lab, deploy) = (user("ada"), lab(), command(CommandKind::Deploy));
    let mut turns = [Vec::new(), Vec::new()];
    for _ in 0..BATCHES {
        for (host, turns) in [&plain, &logged].into_iter().zip(&mut turns) {
            let start = Instant::now();
            for _ in 0..TURN {
                host.authorize(&ada, Action::Command(&deploy, &lab, None), NOW).await.unwrap();
            }
            turns.push(start.elapsed() / TURN);
            // The writer catches up.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    for (name, mut turns) in
        ["authorize deploy, without a decision log", "authorize deploy, with one"].into_iter().zip(turns)
    {
        turns.sort();
        println!("{name:<44} {:>8.2} µs (best {:.2})", micros(turns[BATCHES / 2]), micros(turns[0]));
    }
    println!("{:<44} {:>8}", "decisions that were not written down", log.dropped());
    log.close().await;
}

/// Many at once, as in a busy server: the time per call over all workers.
async fn concurrent(host: &PluginHost) {
    let start = Instant::now();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let host = host.clone();
            tokio::spawn(async move {
                let (ada, lab, deploy) = (user("ada"), lab(), command(CommandKind::Deploy));
                for _ in 0..2_000 {
                    host.authorize(&ada, Action::Command(&deploy, &lab, None), NOW).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!("{:<44} {:>8.2} µs", "authorize, 16 tasks at once, wall per call", micros(start.elapsed() / 32_000));
}
