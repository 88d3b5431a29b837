//! What a decision costs: `cargo bench --bench decisions`.
//!
//! Every figure is of whole calls through the plugin host, each in a fresh, configured instance, with the conversion of
//! its arguments and answer; the labs have two nodes. `wall` is the median over batches of calls, `best` the quickest
//! batch, and `CPU` what the kernel charged for all of them, which is the figure to compare where other programs take part
//! of the machine. Under `strace -c -f` the calls themselves show no system calls: only the clock's thread sleeps.
//!
//! What has to be built first is measured if it is there: `antimony-host plugin build examples/plugins/groups-js`, and the
//! same for `german-py` and `quotas-and-hours`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints what it finds")]

#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/plugins/sample.rs"]
mod sample;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use antimony_host::plugins::config::{Entry, InstanceMode};
use antimony_host::plugins::decision::{Action, CommandKind, Occurrence};
use antimony_host::plugins::{DecisionLog, DecisionLogConfig, PluginHost, PluginsConfig};
use nix::sys::resource::{UsageWho, getrusage};
use sample::{NOW, command, lab, node_command, user};
use serde_json::json;

/// Batches that a figure is of.
const BATCHES: u32 = 200;
/// The same for a figure that was asked for by a part of its name: long enough for a profile.
const BATCHES_OF_ONE: u32 = 5_000;
/// Callers at once, where there are several.
const CALLERS: u32 = 8;

/// Measures an expression that is awaited anew for each call.
macro_rules! measure {
    ($name:expr, $calls:expr, $call:expr) => {{
        let (name, calls): (&str, u32) = ($name, $calls);
        let count = batches(name);
        let mut batches = Vec::with_capacity(count as usize);
        let mut before = Duration::ZERO;
        // The first one isn't counted: it brings code and memory in.
        for batch in 0..=count {
            let start = Instant::now();
            for _ in 0..calls {
                std::hint::black_box($call.await).ok();
            }
            match batch {
                0 => before = cpu(UsageWho::RUSAGE_THREAD),
                _ => batches.push(start.elapsed() / calls),
            }
        }
        if !batches.is_empty() {
            let used = (cpu(UsageWho::RUSAGE_THREAD) - before) / (count * calls);
            batches.sort();
            row(name, batches[batches.len() / 2], batches[0], used);
        }
    }};
}

/// How many batches of the figure `name` are wanted: `cargo bench --bench decisions -- authorize` is for those of that name.
fn batches(name: &str) -> u32 {
    match std::env::args().skip(1).find(|argument| !argument.starts_with("--")) {
        Some(part) if name.contains(&part) => BATCHES_OF_ONE,
        Some(_) => 0,
        None => BATCHES,
    }
}

fn main() {
    let cache = tempfile::tempdir().unwrap();
    println!("{:<52} {:>9} {:>9} {:>9}", "µs per call", "wall", "best", "CPU");
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    one.block_on(bundled(cache.path()));
    several_at_once(cache.path());
    one.block_on(large_settings(cache.path()));
    one.block_on(interpreters(cache.path()));
    one.block_on(written_down(cache.path()));
    one.block_on(loading());
}

async fn bundled(cache: &Path) {
    let host = PluginHost::load(&PluginsConfig::default(), cache, cache).await.unwrap();
    let (ada, bob, lab) = (user("ada"), user("bob"), lab());
    let (deploy, open) = (command(CommandKind::Deploy), node_command(CommandKind::OpenShell, "r1"));
    let token = sample::claims(json!({
        "id": "ada", "isAdmin": false, "collections": ["course"], "iat": 1, "nbf": 1, "exp": 2
    }));
    let event = sample::event(Occurrence::LabDeployed);
    measure!("identify", 100, host.identify(&token));
    measure!("validate open-shell", 100, host.validate(open.clone(), &ada, &lab, None, NOW));
    measure!("authorize deploy, allowed", 100, host.authorize(&ada, Action::Command(&deploy, &lab, None), NOW));
    measure!("authorize deploy, denied", 100, host.authorize(&bob, Action::Command(&deploy, &lab, None), NOW));
    measure!("authorize view-lab", 100, host.authorize(&bob, Action::ViewLab(&lab), NOW));
    measure!("format", 100, async { Ok::<_, ()>(host.format(&event).await) });
    measure!("a command: identify, validate and authorize", 100, async {
        let user = host.identify(&token).await?;
        let command = host.validate(open.clone(), &user, &lab, None, NOW).await?;
        host.authorize(&user, Action::Command(&command, &lab, None), NOW).await
    });
}

/// Several callers, each on a thread of its own: where there are fewer processors, they share them.
fn several_at_once(cache: &Path) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(CALLERS as usize).enable_all().build().unwrap();
    let (mut batches, mut used) = (Vec::new(), Duration::ZERO);
    let calls = 1_000;
    runtime.block_on(async {
        let host = PluginHost::load(&PluginsConfig::default(), cache, cache).await.unwrap();
        for batch in 0..21 {
            let (start, before) = (Instant::now(), cpu(UsageWho::RUSAGE_SELF));
            let callers: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(call_often(host.clone(), calls))).collect();
            for caller in callers {
                caller.await.unwrap();
            }
            // The first one brings the memory of as many instances in.
            if batch > 0 {
                batches.push(start.elapsed() / (calls * CALLERS));
                used += (cpu(UsageWho::RUSAGE_SELF) - before) / (calls * CALLERS);
            }
        }
    });
    batches.sort();
    row(&format!("{CALLERS} callers at once, authorize deploy"), batches[10], batches[0], used / 20);
}

async fn call_often(host: PluginHost, calls: u32) {
    let (ada, lab, deploy) = (user("ada"), lab(), command(CommandKind::Deploy));
    for _ in 0..calls {
        host.authorize(&ada, Action::Command(&deploy, &lab, None), NOW).await.unwrap();
    }
}

/// A plugin in Rust that has 100 KB of JSON for its settings: what it makes of them is in each instance's memory.
async fn large_settings(cache: &Path) {
    let Some(path) = example("quotas-and-hours") else { return };
    let collections: serde_json::Map<_, _> = (0..1_900)
        .map(|number| (format!("collection of the course {number:05}"), json!({ "max-running": number % 7 })))
        .collect();
    let small = json!({ "everywhere": { "max-running": 5 } });
    let large = json!({ "everywhere": { "max-running": 5 }, "collections": collections });
    for settings in [small, large] {
        let size = settings.to_string().len();
        let entry = Entry { settings, ..Entry::new(path.to_string_lossy()) };
        let config = PluginsConfig { auth_policy: vec![entry], ..PluginsConfig::default() };
        let host = PluginHost::load(&config, cache, cache).await.unwrap();
        let (ada, lab, deploy) = (user("ada"), lab(), command(CommandKind::Deploy));
        let name = format!("quotas-and-hours, {size} bytes of settings");
        measure!(&name, 100, host.authorize(&ada, Action::Command(&deploy, &lab, None), NOW));
    }
}

/// Plugins that bring an interpreter along, in fresh instances and in warm ones.
async fn interpreters(cache: &Path) {
    for instance in [InstanceMode::PerCall, InstanceMode::Warm] {
        if let Some(path) = example("groups-js") {
            let settings = json!({ "collections": { "students": "course" } });
            let entry = Entry { settings, instance, ..Entry::new(path.to_string_lossy()) };
            let config = PluginsConfig { auth_policy: vec![entry], ..PluginsConfig::default() };
            let host = PluginHost::load(&config, cache, cache).await.unwrap();
            let token = sample::claims(json!({ "sub": "ada", "groups": ["students"], "exp": 2 }));
            measure!(&format!("identify in JavaScript, {instance:?}"), 5, host.identify(&token));
        }
        if let Some(path) = example("german-py") {
            let entry = Entry { instance, ..Entry::new(path.to_string_lossy()) };
            let config = PluginsConfig { status_formatter: vec![entry], ..PluginsConfig::default() };
            let host = PluginHost::load(&config, cache, cache).await.unwrap();
            let event = sample::event(Occurrence::LabDeployed);
            let call = async || Ok::<_, ()>(host.format(&event).await);
            measure!(&format!("format in Python, {instance:?}"), 5, call());
        }
    }
}

async fn loading() {
    let cache = tempfile::tempdir().unwrap();
    for name in ["load the bundled plugins, nothing cached", "load the bundled plugins, everything cached"] {
        let start = Instant::now();
        let host = PluginHost::load(&PluginsConfig::default(), cache.path(), cache.path()).await.unwrap();
        println!("{name:<52} {:>9.2} ms", micros(start.elapsed()) / 1e3);
        // The code cache writes from a thread of its own.
        while host.cache_use().1 > 0 && std::fs::read_dir(cache.path().join("code")).unwrap().next().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The component of an example, where it was built.
fn example(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = root.join("examples/plugins").join(name).join(format!("{name}.wasm"));
    if !path.is_file() {
        println!("{name}: left out, since it wasn't built (`antimony-host plugin build examples/plugins/{name}`)");
        return None;
    }
    Some(path)
}

fn row(name: &str, median: Duration, best: Duration, cpu: Duration) {
    println!("{name:<52} {:>9.2} {:>9.2} {:>9.2}", micros(median), micros(best), micros(cpu));
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// What a decision log adds, as far as whoever waits for the decision notices. With nothing else to do than to decide, the
/// log's writer falls behind, and what its queue has no room for costs less: so it is asked in turns that fit into the queue.
async fn written_down(cache: &Path) {
    const TURN: u32 = 200;
    let config = PluginsConfig::default();
    let (plain, logged) = (
        PluginHost::load(&config, cache, cache).await.unwrap(),
        PluginHost::load(&config, cache, cache).await.unwrap(),
    );
    let dir = tempfile::tempdir().unwrap();
    let log = DecisionLog::open(&DecisionLogConfig::default(), dir.path()).unwrap().unwrap();
    logged.log_decisions(log.clone());
    let names = ["authorize deploy, without a decision log", "authorize deploy, with one"];
    let (ada, lab, deploy) = (user("ada"), lab(), command(CommandKind::Deploy));
    let (mut turns, mut used) = ([Vec::new(), Vec::new()], [Duration::ZERO; 2]);
    let count = batches(names[1]).min(BATCHES);
    for _ in 0..count {
        for (which, host) in [&plain, &logged].into_iter().enumerate() {
            let (start, before) = (Instant::now(), cpu(UsageWho::RUSAGE_THREAD));
            for _ in 0..TURN {
                host.authorize(&ada, Action::Command(&deploy, &lab, None), NOW).await.unwrap();
            }
            turns[which].push(start.elapsed() / TURN);
            used[which] += (cpu(UsageWho::RUSAGE_THREAD) - before) / TURN;
            // The writer catches up.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    if count > 0 {
        for ((name, mut turns), used) in names.into_iter().zip(turns).zip(used) {
            turns.sort();
            row(name, turns[turns.len() / 2], turns[0], used / count);
        }
        println!("{:<52} {:>9}", "decisions that were not written down", log.dropped());
    }
    log.close().await;
}

/// Processor time that was used so far, by the program and by the kernel for it.
fn cpu(of: UsageWho) -> Duration {
    let usage = getrusage(of).unwrap();
    [usage.user_time(), usage.system_time()]
        .map(|time| Duration::new(time.tv_sec().unsigned_abs(), u32::try_from(time.tv_usec()).unwrap() * 1_000))
        .into_iter()
        .sum()
}
