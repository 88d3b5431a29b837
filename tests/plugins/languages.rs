//! Plugins in JavaScript and Python: the examples, and guests that misbehave. Built by their own tools where those are
//! installed (`antimony-host plugin build --install`), otherwise left out.
//!
//! With `--nocapture` they print what calls and loading cost.

#![allow(clippy::print_stdout, reason = "figures, for those who ask for them")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use antimony_host::plugins::config::{Entry, InstanceMode};
use antimony_host::plugins::decision::{Action, CallFailure, CommandKind, Namespace, Occurrence, Refusal};
use antimony_host::plugins::{BuildError, PluginHost, PluginsConfig, build, source};
use serde_json::json;

use crate::alone::{elsewhere, grown, resident};
use crate::sample::{NOW, claims, command, demanding_lab, event, lab, user};
use crate::warm::count;
use crate::{try_load, with_policy};

/// What a language's guests in `tests/guests` borrow their tools from, and where those are.
const TOOLS: [(&str, &str); 2] = [("groups-js", "node_modules"), ("german-py", "target/venv")];

/// The component of an example, or of a guest in `tests/guests/interpreted`. It is built once for as long as its source
/// stays the same. `None`: it can't be built here, which has been said on the terminal.
fn component(name: &str) -> Option<PathBuf> {
    static BUILT: Mutex<BTreeMap<String, Option<PathBuf>>> = Mutex::new(BTreeMap::new());
    // Held for as long as one is built: the others would only be slower beside it.
    let mut built = BUILT.lock().unwrap();
    built.entry(name.into()).or_insert_with(|| make(name)).clone()
}

fn make(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let examples = root.join("examples/plugins");
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages");
    let mut project = examples.join(name);
    if !project.is_dir() {
        project = work.join(name);
        // With links in it that lead to the tools: it must not be followed there.
        for (example, tools) in TOOLS {
            let link = project.join(tools);
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(examples.join(example).join(tools), &link).unwrap();
        }
        for entry in root.join("tests/guests/interpreted").join(name).read_dir().unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), project.join(entry.file_name())).unwrap();
            }
        }
    }
    let out = work.join(format!("{name}.wasm"));
    std::fs::create_dir_all(&work).unwrap();
    let recorded = std::fs::read(&out).ok().and_then(|component| source::recorded(&component));
    if recorded.is_some_and(|digest| digest == source::digest(&project, Some(&root.join("wit"))).unwrap()) {
        return Some(out);
    }
    let mut lines = String::new();
    match build(&project, Some(&out), &mut |line| lines = format!("{lines}{line}\n")) {
        Ok(_) => Some(out),
        Err(why @ (BuildError::NotInstalled { .. } | BuildError::NoProgram { .. })) => {
            assert!(std::env::var_os("ANTIMONY_REQUIRE_ALL").is_none(), "nothing may be left out, but {why}");
            let line = format!("left out: tests with {name}, since {why}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
        Err(error) => panic!("{error}\n{lines}"),
    }
}

fn entry(name: &str) -> Option<Entry> {
    component(name).map(|path| Entry::new(path.to_str().unwrap()))
}

async fn ask(host: &PluginHost, name: &str) -> Result<(), Refusal> {
    host.authorize(&user(name), Action::Connect(Namespace::LabUpdates), NOW).await
}

/// Loads one after the other: compiling takes all of the machine as it is.
async fn load(config: &PluginsConfig) -> PluginHost {
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = ONE.lock().await;
    let start = Instant::now();
    let host = try_load(config).await.unwrap();
    println!("loaded in {:?}, from the cache and compiled: {:?}", start.elapsed(), host.cache_use());
    host
}

/// Prints what a call costs.
async fn measure(what: &str, mut call: impl AsyncFnMut()) {
    let mut times = Vec::new();
    for _ in 0..300 {
        let start = Instant::now();
        call().await;
        times.push(start.elapsed());
    }
    times.sort();
    println!("{what:<40} median {:>8.1} µs, best {:.1}", micros(times[150]), micros(times[0]));
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A way to misbehave, and whether it ended as it should.
type Way = (&'static str, fn(&CallFailure) -> bool);

/// Each way to misbehave, three times, and whatever else is asked in between is answered.
async fn misbehaves(name: &str, ways: &[Way]) {
    let Some(entry) = entry(name) else { return };
    let per_call = load(&with_policy(entry.clone())).await;
    let warm = load(&with_policy(Entry { instance: InstanceMode::Warm, ..entry })).await;
    for host in [&per_call, &warm] {
        // What stays mapped of instances that have ended is there from the beginning.
        ask(host, "ada").await.unwrap();
        let before = resident();
        for (way, expected) in ways {
            for _ in 0..3 {
                let start = Instant::now();
                match ask(host, way).await {
                    Err(Refusal::Failed { plugin, failure }) => {
                        assert_eq!(plugin, name);
                        assert!(expected(&failure), "{way}: {failure:?}");
                        println!("{name} {way}: {} after {:?}", failure.name(), start.elapsed());
                    }
                    other => panic!("{way}: no failure: {other:?}"),
                }
                ask(host, "ada").await.unwrap();
            }
        }
        ask(host, "log").await.unwrap();
        println!("{name}: {} KiB more resident afterwards", grown(before, 16 << 20) >> 10);
    }
    assert_eq!((count(&per_call, "count").await, count(&per_call, "count").await), (1, 1));
    assert_eq!((count(&warm, "count").await, count(&warm, "count").await), (1, 2));
    measure(&format!("{name}, authorize, fresh"), async || ask(&per_call, "ada").await.unwrap()).await;
    measure(&format!("{name}, authorize, warm"), async || ask(&warm, "ada").await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_that_misbehaves_has_its_outcome_and_costs_only_its_call() {
    if elsewhere("languages::javascript_that_misbehaves_has_its_outcome_and_costs_only_its_call") {
        return;
    }
    misbehaves(
        "hostile-js",
        &[
            ("loop", |failure| matches!(failure, CallFailure::TimedOut(_))),
            ("pattern", |failure| matches!(failure, CallFailure::TimedOut(_))),
            ("bomb", |failure| matches!(failure, CallFailure::OutOfMemory(_) | CallFailure::TimedOut(_))),
            ("fail", |failure| matches!(failure, CallFailure::Trapped(_))),
            // To write so long a text takes an engine without a compiler longer than it has.
            ("answer", |failure| matches!(failure, CallFailure::Oversize(_) | CallFailure::TimedOut(_))),
            ("nonsense", |failure| matches!(failure, CallFailure::Trapped(_))),
            ("recurse", |_| true),
            ("text", |_| true),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_that_misbehaves_has_its_outcome_and_costs_only_its_call() {
    if elsewhere("languages::python_that_misbehaves_has_its_outcome_and_costs_only_its_call") {
        return;
    }
    misbehaves(
        "hostile-py",
        &[
            ("loop", |failure| matches!(failure, CallFailure::TimedOut(_))),
            ("number", |failure| matches!(failure, CallFailure::TimedOut(_) | CallFailure::OutOfMemory(_))),
            ("bomb", |failure| matches!(failure, CallFailure::OutOfMemory(_) | CallFailure::TimedOut(_))),
            ("fail", |failure| matches!(failure, CallFailure::Trapped(_))),
            ("answer", |failure| matches!(failure, CallFailure::Oversize(_))),
            ("nonsense", |failure| matches!(failure, CallFailure::Trapped(_))),
            ("recurse", |_| true),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_a_token_become_collections_and_rights() {
    let Some(entry) = entry("groups-js") else { return };
    let settings = json!({"admins": ["netlab-admins"], "collections": {"cn1-students": "course"}});
    let mut config = with_policy(Entry { settings, ..entry.clone() });
    config.auth_policy.rotate_left(1);
    let host = load(&config).await;

    let student = host.identify(&claims(json!({"id": "ada", "groups": ["cn1-students", "choir"]}))).await.unwrap();
    assert_eq!((student.admin, student.collections.as_slice()), (false, &["course".to_owned()][..]));
    let admin = host.identify(&claims(json!({"id": "eve", "groups": "netlab-admins"}))).await.unwrap();
    assert!(admin.admin);
    // Without groups it is left to the bundled policy, and with nonsense to nobody.
    let native = host.identify(&claims(json!({"id": "root", "isAdmin": true, "collections": []}))).await.unwrap();
    assert!(native.admin);
    let refused = host.identify(&claims(json!({"id": "ada", "isAdmin": true, "groups": [7]}))).await.unwrap_err();
    assert!(matches!(&refused, Refusal::Denied { plugin, .. } if plugin == "groups-js"), "{refused}");

    // Alone, it is safe as well.
    config.auth_policy.truncate(1);
    let alone = load(&config).await;
    let deploy = command(CommandKind::Deploy);
    alone.authorize(&student, Action::Command(&deploy, &lab(), None), NOW).await.unwrap();
    let denied = |answer: Result<(), Refusal>| match answer {
        Err(Refusal::Denied { rule, .. }) => rule,
        other => panic!("{other:?}"),
    };
    let bob = alone.authorize(&user("bob"), Action::Command(&deploy, &lab(), None), NOW).await;
    assert_eq!(denied(bob), "creator-only");
    let binds = alone.authorize(&student, Action::Command(&deploy, &demanding_lab(), None), NOW).await;
    assert_eq!(denied(binds), "host-access");
    alone.authorize(&admin, Action::Command(&deploy, &demanding_lab(), None), NOW).await.unwrap();

    config.auth_policy[0].settings = json!({"admin": []});
    let error = try_load(&config).await.err().unwrap().to_string();
    assert!(error.contains("unknown key `admin`; there are `groups-claim`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_german_and_their_log_is_short() {
    let Some(entry) = entry("german-py") else { return };
    let mut config = PluginsConfig::default();
    config.status_formatter[0] = Entry { settings: json!({"log-lines": 2}), ..entry };
    let host = load(&config).await;
    let status = host.format(&event(Occurrence::LabDeployed)).await;
    assert_eq!((status.source.as_str(), status.content.as_str()), ("Laborverwaltung", "Labor ospf läuft"));
    let detail = (0..1_000).map(|n| format!("line {n}\n")).collect::<String>();
    let failed = event(Occurrence::LabDeployFailed { reason: "no space left".into(), detail });
    let status = host.format(&failed).await;
    assert_eq!(status.content, "Labor ospf konnte nicht gestartet werden: no space left");
    assert!(status.log_content.ends_with("… (998 Zeilen ausgelassen)\nline 998\nline 999"), "{}", status.log_content);

    config.status_formatter[0].settings = json!({"log-lines": "two"});
    let error = try_load(&config).await.err().unwrap().to_string();
    assert!(error.contains("`log-lines` has to be a whole number"), "{error}");
}
