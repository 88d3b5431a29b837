//! Guests that misbehave, and what others notice of it: nothing. What comes of each kind of overrun is in `overruns`.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use antimony_host::plugins::PluginHost;
use antimony_host::plugins::config::{BreakerConfig, Budget, Entry};
use antimony_host::plugins::decision::{Action, CallFailure, CommandKind, Namespace, Refusal};
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
async fn a_guest_that_copes_without_memory_is_not_punished_for_having_asked() {
    let Some(host) = misbehaving("take-memory-and-cope").await else { return };
    authorize(&host, CommandKind::Deploy).await.unwrap();
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
