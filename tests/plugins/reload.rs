//! Other plugins in place of those in force: under load, when they are not as they should be, and back again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use antimony_host::plugins::config::{Budget, Entry, Grant, Hook, OnError};
use antimony_host::plugins::decision::{Action, CommandKind, Refusal};
use antimony_host::plugins::reload::{self, Reloader, Sources, Trigger};
use antimony_host::plugins::{PluginHost, PluginsConfig};
use serde_json::json;
use tempfile::TempDir;

use crate::loading::prebuilt;
use crate::sample::{NOW, command, lab, node_command, user};
use crate::{guests, load, with_policy};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A plugin host whose configuration changes when a test says so, with a folder of its own for files.
struct Rig {
    host: PluginHost,
    reloader: Reloader,
    config: Arc<Mutex<Result<PluginsConfig, String>>>,
    dir: TempDir,
}

impl Rig {
    async fn start(config: PluginsConfig) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config).await
    }

    async fn start_in(dir: TempDir, config: PluginsConfig) -> Self {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
        let shared = Arc::new(Mutex::new(Ok(config.clone())));
        let said = Arc::clone(&shared);
        let sources = Sources {
            config_file: Some(dir.path().join("antimony.yml")),
            base_dir: dir.path().to_owned(),
            read: Box::new(move || said.lock().unwrap().clone()),
        };
        let prepared = reload::prepare(sources, &config).await;
        let host = PluginHost::load(&config, dir.path(), &cache).await.unwrap();
        let reloader = prepared.start(host.clone());
        Self { host, reloader, config: shared, dir }
    }

    fn say(&self, config: PluginsConfig) {
        *self.config.lock().unwrap() = Ok(config);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// May somebody list their shells?
    async fn may_list(&self) -> Result<(), Refusal> {
        let (lab, asked) = (lab(), command(CommandKind::ListShells));
        self.host.authorize(&user("ada"), Action::Command(&asked, &lab, None), NOW).await
    }

    /// Waits until the generation is this.
    async fn generation(&self, wanted: u64) {
        let mut generations = self.host.generations();
        let found = tokio::time::timeout(PATIENCE, generations.wait_for(|generation| *generation >= wanted)).await;
        found.unwrap_or_else(|_| panic!("no generation {wanted}: {:?}", self.host.reload_state())).unwrap();
        assert_eq!(self.host.generation(), wanted, "{:?}", self.host.reload_state());
    }
}

fn denying(reason: &str) -> Option<Entry> {
    guests::with_settings("obedient", json!({"deny": ["list-shells"], "reason": reason}))
}

fn reason_of(result: Result<(), Refusal>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_under_load_loses_no_call_and_mixes_none() {
    let marked = |mark: &str| {
        let entry = guests::with_settings("marks-commands", json!({ "mark": mark }))?;
        // Not enough for all callers at once, so that there are always some who wait.
        let entry = Entry { budget: Budget { concurrency: 4, ..Budget::default() }, ..entry };
        let named = |name: &str| Entry { name: Some(name.into()), ..entry.clone() };
        Some(PluginsConfig { command_validator: vec![named("first"), named("second")], ..PluginsConfig::default() })
    };
    let (Some(a), Some(b)) = (marked("A"), marked("B")) else { return };
    let rig = Rig::start(a.clone()).await;
    let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (host, over, calls) = (rig.host.clone(), Arc::clone(&over), Arc::clone(&calls));
            tokio::spawn(async move {
                let mut seen = std::collections::BTreeSet::new();
                while !over.load(Ordering::Relaxed) {
                    let asked = node_command(CommandKind::StopNode, "r");
                    let answer = host.validate(asked, &user("ada"), &lab(), None, NOW).await.expect("no call is lost");
                    seen.insert(answer.node.unwrap());
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                seen
            })
        })
        .collect();
    for round in 0..20 {
        let before = calls.load(Ordering::Relaxed);
        let (config, node) = if round % 2 == 0 { (&b, "rBB") } else { (&a, "rAA") };
        rig.say(config.clone());
        let state = rig.reloader.reload(Trigger::Request).await.unwrap();
        assert_eq!((state.generation, state.last_error), (round + 2, None));
        // Whoever asks after that asks the new ones.
        let asked = node_command(CommandKind::StopNode, "r");
        let answer = rig.host.validate(asked, &user("ada"), &lab(), None, NOW).await.unwrap();
        assert_eq!(answer.node.as_deref(), Some(node));
        while calls.load(Ordering::Relaxed) < before + 100 {
            tokio::task::yield_now().await;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut seen = std::collections::BTreeSet::new();
    for caller in callers {
        seen.append(&mut caller.await.unwrap());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["rAA", "rBB"]);
}

#[tokio::test]
async fn a_candidate_that_is_not_as_it_should_be_leaves_everything_as_it_was() {
    let Some(good) = denying("the old reason") else { return };
    let rig = Rig::start(with_policy(good.clone())).await;
    let whole = std::fs::read(&good.path).unwrap();
    std::fs::write(rig.file("truncated.wasm"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(
        rig.file("golden.yml"),
        "- name: ada lists her shells\n  function: authorize\n  input: { user: { id: ada }, action: { command: { kind: \
         list-shells } } }\n  expect: allow\n",
    )
    .unwrap();
    let digest = "00".repeat(32).try_into().unwrap();
    let candidates = [
        (Entry::new("nowhere.wasm"), "can't be read"),
        (Entry::new("truncated.wasm"), "truncated"),
        (Entry::new("builtin:status-formatter"), "plugin for status-formatter"),
        (Entry { sha256: Some(digest), ..good.clone() }, "sha256: the configuration expects 0000"),
        (Entry { settings: json!({"denyy": []}), ..good.clone() }, "refused its settings: unknown field `denyy`"),
        (
            Entry { grants: Some(vec![Grant::Wasi]), ..guests::entry("deploy-freeze").unwrap() },
            "grants: it imports logging",
        ),
        (Entry { on_error: Some(OnError::Skip), ..good.clone() }, "on-error: `skip` is for formatters"),
        (Entry { golden: vec!["golden.yml".into()], ..good.clone() }, "case \"ada lists her shells\""),
        (Entry { golden: vec!["nowhere.yml".into()], ..good.clone() }, "nowhere.yml"),
    ];
    for (candidate, expected) in candidates {
        let path = candidate.path.clone();
        rig.say(with_policy(Entry { name: Some("candidate".into()), ..candidate }));
        let failure = rig.reloader.reload(Trigger::Request).await.expect_err(expected);
        assert!(failure.message.contains(expected), "{expected}: {failure}");
        for part in ["antimony.yml", "auth-policy plugin 2", &path] {
            assert!(failure.message.contains(part), "{part}: {failure}");
        }
        assert_eq!(failure.plugin.as_deref(), Some("auth-policy plugin 2"));
        assert_eq!(failure.path.as_deref(), Some(Path::new(&path)));
        let state = rig.host.reload_state();
        assert_eq!((state.generation, state.last_error.as_ref()), (1, Some(&failure)));
        assert!(reason_of(rig.may_list().await).contains("the old reason"), "{expected}");
    }
    *rig.config.lock().unwrap() = Err("antimony.yml: plugins.auth-policy[0].pth: unknown field".into());
    let failure = rig.reloader.reload(Trigger::Request).await.unwrap_err();
    assert!(failure.message.contains("[0].pth"), "{failure}");
    assert_eq!(failure.path.as_deref(), Some(rig.file("antimony.yml").as_path()));

    let golden = Entry { golden: vec!["golden.yml".into()], settings: json!({}), ..good };
    rig.say(with_policy(golden));
    let state = rig.reloader.reload(Trigger::Request).await.unwrap();
    assert_eq!((state.generation, state.last_error), (2, None));
    rig.may_list().await.unwrap();
    let counts = rig.host.counts().into_iter().find(|(info, _)| info.name == "obedient").unwrap().1;
    assert_eq!(counts.calls, 1, "golden cases don't count");
}

#[tokio::test]
async fn what_has_not_changed_is_carried_over_and_nothing_changed_is_no_new_generation() {
    let Some(entry) = denying("one") else { return };
    let rig = Rig::start(with_policy(entry)).await;
    rig.may_list().await.unwrap_err();
    let calls = |name: &str| {
        let counts = rig.host.counts().into_iter().find(|(info, _)| info.name == name);
        counts.unwrap_or_else(|| panic!("{name} is not loaded")).1.calls
    };
    assert_eq!((calls("auth-policy"), calls("obedient")), (1, 1));
    assert_eq!(rig.reloader.reload(Trigger::Signal).await.unwrap().generation, 1);
    rig.say(with_policy(denying("two").unwrap()));
    assert_eq!(rig.reloader.reload(Trigger::Signal).await.unwrap().generation, 2);
    assert_eq!((calls("auth-policy"), calls("obedient")), (1, 0));
    assert!(reason_of(rig.may_list().await).contains("two"));
}

#[tokio::test]
async fn a_file_counts_when_it_changes_and_after_a_rollback_when_it_changes_again() {
    let (Some(obedient), Some(other)) = (denying("by file"), guests::entry("misbehaves")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.wasm");
    std::fs::copy(&obedient.path, &file).unwrap();
    let entry = |golden: bool| Entry {
        golden: if golden { vec!["golden.yml".into()] } else { vec![] },
        name: Some("second".into()),
        ..Entry::new("policy.wasm")
    };
    let rig = Rig::start_in(dir, with_policy(entry(false))).await;
    let loaded = || rig.host.loaded().into_iter().find(|info| info.name == "second").unwrap().digest;
    let first = loaded();

    // Replaced as editors and installers do it: by another file of the same name.
    let replace = |with: &str| {
        std::fs::copy(with, rig.file("new")).unwrap();
        std::fs::rename(rig.file("new"), &file).unwrap();
    };
    replace(&other.path);
    rig.generation(2).await;
    let second = loaded();
    assert_ne!(first, second);

    let state = rig.reloader.rollback().await.unwrap();
    assert_eq!((state.generation, state.rolled_back), (3, true));
    assert_eq!(loaded(), first);
    rig.reloader.rollback().await.unwrap_err();

    // The same content again is no change. That nothing comes of it shows when something does come of the next one.
    replace(&other.path);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!((rig.host.generation(), loaded()), (3, first.clone()));
    std::fs::write(&file, b"broken").unwrap();
    let mut states = rig.host.reload_states();
    let failed = tokio::time::timeout(PATIENCE, states.wait_for(|state| state.last_error.is_some())).await;
    let failed = failed.unwrap().unwrap().clone();
    assert!(failed.last_error.unwrap().message.contains("not a WebAssembly component"));
    assert_eq!((rig.host.generation(), loaded()), (3, first));
    replace(&other.path);
    rig.generation(4).await;
    assert_eq!(loaded(), second);
    assert_eq!(rig.host.reload_state().last_error, None);

    // Golden cases are looked at as well, from when they are named.
    rig.say(with_policy(entry(true)));
    rig.reloader.reload(Trigger::Signal).await.unwrap_err();
    let case = "- name: nobody is known\n  function: identify\n  input: { claims: { id: ada } }\n  expect: left\n";
    std::fs::write(rig.file("golden.yml"), case).unwrap();
    rig.generation(5).await;
}

#[tokio::test]
async fn whoever_makes_a_policy_fail_gets_past_it_only_where_the_operator_says_so() {
    let failing = |on_error| {
        guests::with_settings("misbehaves", json!({"authorize": "trap", "identify": "trap"}))
            .map(|entry| Entry { on_error, ..entry })
    };
    let ask = async |entry| {
        let host = load(&with_policy(entry)).await;
        let (lab, asked) = (lab(), command(CommandKind::ListShells));
        host.authorize(&user("ada"), Action::Command(&asked, &lab, None), NOW).await
    };
    let Some(refusing) = failing(None) else { return };
    assert!(matches!(ask(refusing).await, Err(Refusal::Failed { .. })));
    let letting_through = failing(Some(OnError::DangerouslyAllow)).unwrap();
    ask(letting_through.clone()).await.unwrap();
    // Never who somebody is: it stands before the one that would say so.
    let mut config = PluginsConfig::default();
    config.auth_policy.insert(0, letting_through);
    let claims = crate::sample::claims(json!({"id": "ada"}));
    assert!(matches!(load(&config).await.identify(&claims).await, Err(Refusal::Failed { .. })));
}

#[tokio::test]
async fn a_component_is_taken_by_its_digest() {
    let host = load(&PluginsConfig::default()).await;
    let info = host.loaded().into_iter().find(|info| info.hook == Hook::AuthPolicy).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(prebuilt("auth-policy"), dir.path().join("p.wasm")).unwrap();
    let digest = info.digest.to_uppercase().try_into().unwrap();
    let entry = Entry { sha256: Some(digest), ..Entry::new("p.wasm") };
    let config = PluginsConfig { auth_policy: vec![entry], ..PluginsConfig::default() };
    if std::env::var_os("ANTIMONY_BUNDLED_FROM").is_none() {
        PluginHost::load(&config, dir.path(), &dir.path().join("cache")).await.unwrap();
    }
}
