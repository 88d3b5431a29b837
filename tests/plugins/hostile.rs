//! Guests that misbehave: each way has its own outcome, and the next call is none the worse for it.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use antimony_host::plugins::config::{BreakerConfig, Budget, Entry};
use antimony_host::plugins::decision::{Action, CallFailure, CommandKind, Namespace, Refusal};
use antimony_host::plugins::{PluginHost, PluginsConfig};
use serde_json::json;

use crate::sample::{NOW, claims, command, lab, user};
use crate::{guests, load, with_policy};

/// No breaker: it is all the same how often it has failed.
const ALWAYS_ASKED: BreakerConfig = BreakerConfig { failures: 0, cool_down_ms: 5_000 };

/// Loads `misbehaves`, told to misbehave in `authorize`, behind the bundled policy.
async fn misbehaving(way: &str) -> Option<PluginHost> {
    let entry = guests::with_settings("misbehaves", json!({"authorize": way}))?;
    Some(load(&with_policy(entry)).await)
}

async fn authorize(host: &PluginHost, kind: CommandKind) -> Result<(), Refusal> {
    host.authorize(&user("ada"), Action::Command(&command(kind), &lab(), None), NOW).await
}

/// The plugin and its failure.
fn failure(answer: Result<(), Refusal>) -> (String, CallFailure) {
    match answer {
        Err(Refusal::Failed { plugin, failure }) => (plugin, failure),
        other => panic!("no failure: {other:?}"),
    }
}

async fn failure_of(way: &str) -> Option<CallFailure> {
    let host = misbehaving(way).await?;
    let (plugin, first) = failure(authorize(&host, CommandKind::Deploy).await);
    assert_eq!(plugin, "misbehaves");
    // Nothing is used up by a failure: it is the same once more.
    assert_eq!(failure(authorize(&host, CommandKind::Deploy).await).1, first);
    Some(first)
}

#[tokio::test]
async fn a_loop_costs_the_one_call_and_names_the_plugin() {
    let Some(entry) = guests::with_settings("authorize-loops", json!({"on": "destroy"})) else { return };
    let host = load(&with_policy(entry)).await;
    for _ in 0..3 {
        let (plugin, failure) = failure(authorize(&host, CommandKind::Destroy).await);
        assert_eq!(plugin, "authorize-loops");
        assert!(matches!(failure, CallFailure::TimedOut(_)), "{failure}");
        authorize(&host, CommandKind::Deploy).await.unwrap();
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_loop_leaves_the_thread_to_others_every_tick() {
    let Some(entry) = guests::entry("authorize-loops") else { return };
    let budget = Budget { time_ms: 10, ..Budget::default() };
    let host = load(&with_policy(Entry { budget, ..entry })).await;
    let turns = Arc::new(AtomicU64::new(0));
    let counter = turns.clone();
    let other = tokio::spawn(async move {
        loop {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    tokio::task::yield_now().await;
    let before = turns.load(Ordering::Relaxed);
    failure(authorize(&host, CommandKind::Deploy).await);
    // It has ten ticks, and gives way at each of them.
    let after = turns.load(Ordering::Relaxed);
    assert!(after - before >= 10, "the other task had {} turns", after - before);
    other.abort();
}

#[tokio::test]
async fn loops_of_many_users_at_once_all_end() {
    let Some(entry) = guests::entry("authorize-loops") else { return };
    let host = load(&with_policy(Entry { breaker: ALWAYS_ASKED, ..entry })).await;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let host = host.clone();
            tokio::spawn(async move { failure(authorize(&host, CommandKind::Deploy).await).1 })
        })
        .collect();
    for call in calls {
        let failure = call.await.unwrap();
        assert!(matches!(failure, CallFailure::TimedOut(_) | CallFailure::Busy), "{failure}");
    }
}

#[tokio::test]
async fn more_calls_than_are_allowed_at_once_wait_and_at_last_are_refused_as_busy() {
    let Some(entry) = guests::entry("authorize-loops") else { return };
    let budget = Budget { concurrency: 1, time_ms: 100, ..Budget::default() };
    let host = load(&with_policy(Entry { budget, breaker: ALWAYS_ASKED, ..entry })).await;
    let calls: Vec<_> = (0..60)
        .map(|_| {
            let host = host.clone();
            tokio::spawn(async move { failure(authorize(&host, CommandKind::Deploy).await).1 })
        })
        .collect();
    let mut busy = 0;
    let mut timed_out = 0;
    for call in calls {
        match call.await.unwrap() {
            CallFailure::Busy => busy += 1,
            CallFailure::TimedOut(_) => timed_out += 1,
            other => panic!("{other}"),
        }
    }
    // Each takes a tenth of a second at least, and they wait for a second.
    assert!(timed_out >= 1 && busy >= 40, "{timed_out} ran, {busy} were refused");
}

#[tokio::test]
async fn a_memory_bomb_meets_its_budget() {
    let Some(failure) = failure_of("take-memory").await else { return };
    assert_eq!(failure, CallFailure::OutOfMemory(16 << 20));
}

#[tokio::test]
async fn a_guest_that_copes_without_memory_is_not_punished_for_having_asked() {
    let Some(host) = misbehaving("take-memory-and-cope").await else { return };
    authorize(&host, CommandKind::Deploy).await.unwrap();
}

#[tokio::test]
async fn a_trap_is_a_failure_with_its_kind() {
    let Some(failure) = failure_of("trap").await else { return };
    assert!(matches!(&failure, CallFailure::Trapped(kind) if kind.contains("unreachable")), "{failure}");
}

#[tokio::test]
async fn a_stack_overflow_is_told_apart() {
    let Some(failure) = failure_of("overflow-stack").await else { return };
    assert_eq!(failure, CallFailure::StackOverflow);
    // What a guest keeps of its stack in its own memory is not the host's to watch, but ends there as well.
    let failure = failure_of("overflow-stack-in-memory").await.unwrap();
    assert!(matches!(&failure, CallFailure::Trapped(kind) if kind.contains("stack")), "{failure}");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_refused() {
    let Some(failure) = failure_of("answer-a-lot").await else { return };
    assert_eq!(failure, CallFailure::Oversize(1 << 20));
}

#[tokio::test]
async fn an_answer_of_a_hundred_mebibytes_is_refused_also_where_the_guest_has_the_memory_for_it() {
    let Some(entry) = guests::with_settings("misbehaves", json!({"authorize": "answer-enormously"})) else { return };
    let budget = Budget { memory_bytes: 128 << 20, time_ms: 5_000, concurrency: 1, ..Budget::default() };
    let host = load(&with_policy(Entry { budget, ..entry })).await;
    for _ in 0..3 {
        let (plugin, failure) = failure(authorize(&host, CommandKind::Deploy).await);
        assert_eq!((plugin.as_str(), failure), ("misbehaves", CallFailure::Oversize(1 << 20)));
    }
}

#[tokio::test]
async fn a_list_of_a_million_is_refused_before_it_is_made() {
    let Some(entry) = guests::with_settings("misbehaves", json!({"identify": "everywhere-a-member"})) else { return };
    let budget = Budget { memory_bytes: 64 << 20, time_ms: 5_000, ..Budget::default() };
    let mut config = with_policy(Entry { budget, ..entry });
    config.auth_policy.rotate_left(1);
    let host = load(&config).await;
    for _ in 0..3 {
        let refusal = host.identify(&claims(json!({"id": "ada"}))).await.unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Failed { plugin, failure: CallFailure::Oversize(_) } if plugin == "misbehaves"),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn a_value_that_its_type_does_not_have_is_no_answer() {
    let Some(entry) = guests::with_settings("bad-validator", json!({"invalid-kind": true})) else { return };
    let mut config = PluginsConfig::default();
    config.command_validator.push(entry);
    let host = load(&config).await;
    for _ in 0..3 {
        let refusal = host.validate(command(CommandKind::Deploy), &user("ada"), &lab(), None, NOW).await.unwrap_err();
        assert!(
            matches!(&refusal, Refusal::Failed { plugin, failure: CallFailure::InvalidAnswer(_) } if plugin == "bad-validator"),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_no_text_is_no_answer() {
    let Some(failure) = failure_of("answer-no-text").await else { return };
    assert!(matches!(&failure, CallFailure::InvalidAnswer(why) if why.contains("utf-8")), "{failure}");
}

#[tokio::test]
async fn a_user_without_an_id_is_no_answer() {
    let Some(entry) = guests::with_settings("misbehaves", json!({"identify": "nobody"})) else { return };
    let mut config = with_policy(entry);
    config.auth_policy.rotate_left(1);
    let refusal = load(&config).await.identify(&claims(json!({"id": "ada"}))).await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Failed { plugin, failure: CallFailure::InvalidAnswer(_) } if plugin == "misbehaves"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_failing_policy_refuses_tokens_too() {
    let Some(entry) = guests::with_settings("misbehaves", json!({"identify": "trap"})) else { return };
    let mut config = with_policy(entry);
    config.auth_policy.rotate_left(1);
    let refusal = load(&config).await.identify(&claims(json!({"id": "ada"}))).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Failed { .. }), "{refusal}");
}

#[tokio::test]
async fn what_one_call_leaves_in_memory_is_not_there_in_the_next() {
    let Some(entry) = guests::entry("secret-keeper") else { return };
    let host = load(&with_policy(entry)).await;
    for round in 0..50 {
        for name in ["zqx-a", "zqx-b", "zqx-c"] {
            let answer = host.authorize(&user(name), Action::Connect(Namespace::LabUpdates), NOW).await;
            assert!(answer.is_ok(), "round {round}, {name}: {answer:?}");
        }
    }
}

/// Takes what is logged on this thread.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    pub(crate) fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let captured = Self::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (captured, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_flood_of_log_lines_is_cut_at_its_budget_and_noted_once() {
    let Some(entry) = guests::with_settings("misbehaves", json!({"authorize": "log-a-lot"})) else { return };
    // Time enough for ten thousand lines on a machine that is busy with other tests.
    let budget = Budget { time_ms: 5_000, ..Budget::default() };
    let host = load(&with_policy(Entry { budget, ..entry })).await;
    let (captured, _guard) = Captured::start();
    authorize(&host, CommandKind::Deploy).await.unwrap();
    let lines = captured.lines();
    let flood: Vec<_> = lines.iter().filter(|line| line.contains("of far too many")).collect();
    assert!(flood.iter().all(|line| line.contains("plugin=misbehaves")), "{}", flood[0]);
    assert!((100..300).contains(&flood.len()), "{} lines came through", flood.len());
    assert_eq!(lines.iter().filter(|line| line.contains("logs more than its budget")).count(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_logged_line_stays_one_line() {
    let Some(host) = misbehaving("log-control-characters").await else { return };
    let (captured, _guard) = Captured::start();
    authorize(&host, CommandKind::Deploy).await.unwrap();
    let lines = captured.lines();
    assert!(lines.iter().any(|line| line.contains(r"first\nsecond \u{1b}[2J") && line.contains("WARN")), "{lines:?}");
}
