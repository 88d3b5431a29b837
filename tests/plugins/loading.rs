//! What can be wrong with a plugin, and the sentence that an operator gets; and what is kept between two starts.

use std::path::{Path, PathBuf};

use antimony_host::plugins::config::{Budget, Entry, Mode};
use antimony_host::plugins::decision::CallFailure;
use antimony_host::plugins::{LoadError, LoadProblem, PluginHost, PluginsConfig};
use serde_json::json;

use crate::{guests, try_load, with_policy};

/// What loading this entry as a second policy fails with: the problem, and the whole sentence.
async fn problem(entry: Entry) -> (LoadProblem, String) {
    let path = entry.path.clone();
    let error = try_load(&with_policy(entry)).await.err().expect("it can't be loaded");
    let sentence = error.to_string();
    assert!(sentence.starts_with("auth-policy plugin 2") && sentence.contains(&path), "{sentence}");
    match error {
        LoadError::Plugin { problem, .. } => (*problem, sentence),
        other => panic!("{other}"),
    }
}

pub(crate) fn prebuilt(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../plugins/prebuilt/{name}.wasm"))
}

fn file(dir: &tempfile::TempDir, content: &[u8]) -> Entry {
    let path = dir.path().join("plugin.wasm");
    std::fs::write(&path, content).unwrap();
    Entry::new(path.to_str().unwrap())
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let (problem, _) = problem(Entry::new("/nowhere/policy.wasm")).await;
    assert!(matches!(problem, LoadProblem::Unreadable(_)), "{problem}");
}

#[tokio::test]
async fn a_bundled_plugin_that_does_not_exist_is_answered_with_those_that_do() {
    let (_, sentence) = problem(Entry::new("builtin:auth-polcy")).await;
    assert!(sentence.contains("auth-policy, command-validator, status-formatter"), "{sentence}");
}

#[tokio::test]
async fn a_plugin_for_another_hook_is_recognised() {
    let (problem, sentence) = problem(Entry::new("builtin:status-formatter")).await;
    assert!(matches!(problem, LoadProblem::OtherHook { .. }), "{problem}");
    assert!(sentence.contains("is a plugin for status-formatter"), "{sentence}");
}

#[tokio::test]
async fn bytes_that_are_no_component_are_refused_for_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(prebuilt("auth-policy")).unwrap();
    // Anything, but the same anything at each run.
    let random: Vec<u8> = (0..4096_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    let (random, _) = problem(file(&dir, &random)).await;
    assert!(matches!(random, LoadProblem::NotWasm), "{random}");
    let (empty, _) = problem(file(&dir, b"")).await;
    assert!(matches!(empty, LoadProblem::NotWasm), "{empty}");
    let (module, _) = problem(file(&dir, &wasm_encoder::Module::new().finish())).await;
    assert!(matches!(module, LoadProblem::CoreModule), "{module}");
    for end in [12, 1_000, whole.len() / 2, whole.len() - 1] {
        let (truncated, _) = problem(file(&dir, &whole[..end])).await;
        assert!(matches!(truncated, LoadProblem::Damaged(_)), "cut at {end}: {truncated}");
    }
}

#[tokio::test]
async fn a_damaged_component_is_refused_wherever_the_damage_is() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(prebuilt("auth-policy")).unwrap();
    // In the middle of its code: what looks whole from outside is found out by validation.
    let mut damaged = whole.clone();
    let middle = whole.len() / 3;
    damaged[middle..middle + 512].fill(0xff);
    let (problem, _) = problem(file(&dir, &damaged)).await;
    assert!(
        matches!(problem, LoadProblem::Damaged(_) | LoadProblem::Contract(_) | LoadProblem::Snapshot(_)),
        "{problem}"
    );
}

#[tokio::test]
async fn settings_that_a_plugin_refuses_are_shown_as_it_says_it() {
    let mut config = PluginsConfig::default();
    config.command_validator[0].settings = json!({"dialekt": "antimony-ui"});
    let error = try_load(&config).await.err().unwrap().to_string();
    assert!(error.starts_with("command-validator plugin 1"), "{error}");
    assert!(error.contains("dialekt") && error.contains("expected `dialect`"), "{error}");
}

#[tokio::test]
async fn settings_cross_over_whatever_they_contain() {
    let Some(entry) = guests::with_settings(
        "deploy-freeze",
        json!({"allowed": ["\"; ) ü\u{1F600}\u{0}\\"], "reason": "line\nline \"quoted\" \\ {} ${x}"}),
    ) else {
        return;
    };
    try_load(&with_policy(entry)).await.unwrap();
}

#[tokio::test]
async fn configure_is_bounded_like_any_call() {
    let told = |way: &str| guests::with_settings("misbehaves", json!({"configure": way}));
    for (way, expected) in [
        ("take-memory", CallFailure::OutOfMemory(16 << 20)),
        ("overflow-stack", CallFailure::StackOverflow),
        ("answer-a-lot", CallFailure::Oversize(1 << 20)),
    ] {
        let Some(entry) = told(way) else { return };
        match problem(entry).await {
            (LoadProblem::Configure(failure), _) => assert_eq!(failure, expected, "{way}"),
            (other, _) => panic!("{way}: {other}"),
        }
    }
    let (looping, _) = problem(told("loop-forever").unwrap()).await;
    assert!(matches!(looping, LoadProblem::Configure(CallFailure::TimedOut(_))), "{looping}");
    let (trap, _) = problem(told("trap").unwrap()).await;
    assert!(matches!(trap, LoadProblem::Configure(CallFailure::Trapped(_))), "{trap}");
    let (log, sentence) = problem(told("log-a-lot").unwrap()).await;
    assert!(matches!(log, LoadProblem::Configure(CallFailure::Trapped(_))), "{log}");
    assert!(sentence.contains("may not log"), "{sentence}");
    let (refused, _) = problem(told("refuse").unwrap()).await;
    assert!(matches!(&refused, LoadProblem::Settings(why) if why == "it was told to refuse"), "{refused}");
}

#[tokio::test]
async fn describe_is_bounded_and_checked() {
    let told = |way: &str| guests::with_settings("misbehaves", json!({"describe": way}));
    let Some(entry) = told("loop-forever") else { return };
    let (looping, _) = problem(entry).await;
    assert!(matches!(looping, LoadProblem::Describe(CallFailure::TimedOut(_))), "{looping}");
    let (unnamed, _) = problem(told("refuse").unwrap()).await;
    assert!(matches!(unnamed, LoadProblem::Description(_)), "{unnamed}");
    let named = Entry { name: Some("mine".into()), ..told("refuse").unwrap() };
    let host = try_load(&with_policy(named)).await.unwrap();
    assert_eq!(host.loaded()[2].name, "mine");
}

#[tokio::test]
async fn a_plugin_that_does_not_fit_its_memory_budget_is_refused_at_once() {
    let budget = Budget { memory_bytes: Some(32 << 10), ..Budget::default() };
    let (problem, _) = problem(Entry { budget, ..Entry::new("builtin:auth-policy") }).await;
    // In `configure`, or in `describe` where a snapshot from a start with more memory is kept.
    let (LoadProblem::Configure(failure) | LoadProblem::Describe(failure)) = problem else { panic!("{problem}") };
    assert_eq!(failure, CallFailure::OutOfMemory(32_768));
}

#[tokio::test]
async fn budgets_that_cannot_be_granted_are_refused() {
    for budget in [
        Budget { time_ms: 0, ..Budget::default() },
        Budget { concurrency: 0, ..Budget::default() },
        Budget { concurrency: 513, ..Budget::default() },
        Budget { wall_clock_ms: Some(0), ..Budget::default() },
        Budget { memory_bytes: Some(usize::MAX), ..Budget::default() },
        Budget { table_elements: usize::MAX, ..Budget::default() },
    ] {
        let (problem, _) = problem(Entry { budget, ..Entry::new("builtin:auth-policy") }).await;
        assert!(matches!(problem, LoadProblem::Budget(_)), "{problem}");
    }
}

#[tokio::test]
async fn entries_that_together_want_more_than_there_is_are_refused_by_the_last_ones_name() {
    let mut config = PluginsConfig::default();
    // Enough for each, and not for all of them.
    let budget = Budget { concurrency: 300, ..Budget::default() };
    config.auth_policy[0].budget = budget;
    config.status_formatter[0].budget = budget;
    let error = try_load(&config).await.err().unwrap().to_string();
    assert!(error.starts_with("status-formatter plugin 1 (builtin:status-formatter)"), "{error}");
    assert!(error.contains("`concurrency`") && error.contains("180 are left"), "{error}");
    config.status_formatter[0].budget.concurrency = 100;
    try_load(&config).await.unwrap();
}

#[tokio::test]
async fn two_plugins_of_one_name_are_refused_until_one_is_renamed() {
    let error = try_load(&with_policy(Entry::new("builtin:auth-policy"))).await.err().unwrap();
    assert!(matches!(error, LoadError::SameName { .. }), "{error}");
    let renamed = Entry { name: Some("second".into()), ..Entry::new("builtin:auth-policy") };
    try_load(&with_policy(renamed)).await.unwrap();
}

#[tokio::test]
async fn without_a_policy_in_force_nothing_starts() {
    let none = PluginsConfig { auth_policy: vec![], ..PluginsConfig::default() };
    assert!(matches!(try_load(&none).await.err(), Some(LoadError::NoPolicy)));
    let mut watched = PluginsConfig::default();
    watched.auth_policy[0].mode = Mode::Monitor;
    assert!(matches!(try_load(&watched).await.err(), Some(LoadError::NoPolicy)));
}

#[tokio::test]
async fn paths_are_relative_to_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(prebuilt("auth-policy"), dir.path().join("policy.wasm")).unwrap();
    let config = PluginsConfig { auth_policy: vec![Entry::new("policy.wasm")], ..PluginsConfig::default() };
    PluginHost::load(&config, dir.path(), &dir.path().join("cache")).await.unwrap();
}

#[tokio::test]
async fn a_second_start_compiles_nothing_and_a_damaged_cache_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("not/there/yet");
    let config = PluginsConfig::default();
    let start = async || PluginHost::load(&config, dir.path(), &cache).await.unwrap().cache_use();

    let (hits, misses) = start().await;
    assert!(hits == 0 && misses >= 3, "{hits} hits, {misses} misses");
    let (hits, misses) = start().await;
    assert_eq!((hits, misses), (3, 0));

    let damaged = damage(&cache);
    assert!(damaged >= 6, "{damaged} files");
    start().await;
    let (hits, misses) = start().await;
    assert_eq!((hits, misses), (3, 0));
}

#[tokio::test]
async fn a_cache_that_cannot_be_used_costs_time_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("a-file");
    std::fs::write(&cache, "not a folder").unwrap();
    PluginHost::load(&PluginsConfig::default(), dir.path(), &cache).await.unwrap();
}

/// Overwrites every file below `dir` with nonsense; how many there were.
fn damage(dir: &Path) -> usize {
    let mut damaged = 0;
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damaged += damage(&path);
        } else {
            std::fs::write(&path, b"nonsense, and longer than a digest is long").unwrap();
            damaged += 1;
        }
    }
    damaged
}
