//! Each way to go beyond what a call may cost or answer: its outcome, the name of that in metrics and in the decision log,
//! and what the host has in memory afterwards. Whatever is asked next, is answered.

use antimony_host::plugins::config::{BreakerConfig, Budget, Entry};
use antimony_host::plugins::decision::{Action, CallFailure, CommandKind, Refusal};
use antimony_host::plugins::record::{Outcome as Recorded, read_records};
use antimony_host::plugins::{
    DecisionLog, DecisionLogConfig, LoadError, LoadProblem, Outcome, PluginHost, PluginsConfig,
};
use serde_json::{Value, json};

use crate::alone::{elsewhere, grown, resident};
use crate::sample::{NOW, claims, command, lab, user};
use crate::{guests, load, try_load, with_policy};

/// So often each goes wrong before memory is looked at: what stays mapped of instances that have ended is then there.
const WARM_UP: usize = 40;
/// And so often afterwards.
const ROUNDS: usize = 200;
const OFTEN: (usize, usize) = (WARM_UP, ROUNDS);
/// How much more may be resident by then. A single instance of those that take all that they can get has 16 MiB and more.
const GROWTH: usize = 6 << 20;

/// Which test here shows it; `None`: it is no overrun.
fn shown_by(outcome: Outcome) -> Option<&'static str> {
    Some(match outcome {
        Outcome::Allow
        | Outcome::Deny
        | Outcome::Reject
        | Outcome::Rewrite
        | Outcome::Answer
        | Outcome::Leave
        | Outcome::Cancelled => return None,
        Outcome::TimedOut => "time",
        Outcome::OutOfMemory => "memory",
        Outcome::TableOverflow => "tables",
        Outcome::Oversize => "an_answer_that_is_too_large",
        Outcome::StackOverflow => "the_stack",
        Outcome::Trapped => "a_trap",
        Outcome::InvalidAnswer => "an_answer_that_is_no_text",
        Outcome::Busy => "more_calls_than_there_are_places",
        Outcome::BreakerOpen => "an_open_breaker",
    })
}

#[test]
fn every_kind_of_failure_has_its_test_here() {
    let here = include_str!("overruns.rs");
    for test in Outcome::ALL.into_iter().filter_map(shown_by) {
        assert!(here.contains(&format!("\nasync fn {test}() {{")), "{test}");
    }
}

/// No breaker: it is all the same how often it has failed.
const ALWAYS_ASKED: BreakerConfig = BreakerConfig { failures: 0, cool_down_ms: 5_000 };

/// The plugin before the bundled policy, so that it is asked first whatever comes.
fn before_the_bundled_one(entry: Entry) -> PluginsConfig {
    let mut config = with_policy(Entry { breaker: ALWAYS_ASKED, ..entry });
    config.auth_policy.rotate_left(1);
    config
}

async fn authorize(host: &PluginHost, kind: CommandKind) -> Result<(), Refusal> {
    host.authorize(&user("ada"), Action::Command(&command(kind), &lab(), None), NOW).await
}

async fn identify(host: &PluginHost) -> Result<(), Refusal> {
    let ada = json!({"id": "ada", "isAdmin": false, "collections": []});
    host.identify(&claims(ada)).await.map(|_| ())
}

async fn deploy(host: &PluginHost) -> Result<(), Refusal> {
    authorize(host, CommandKind::Deploy).await
}

fn failure(plugin: &str, answer: Result<(), Refusal>) -> CallFailure {
    match answer {
        Err(Refusal::Failed { plugin: name, failure }) if name == plugin => failure,
        other => panic!("no failure of {plugin}: {other:?}"),
    }
}

/// A server's plugins that write down what they decide.
struct Observed {
    host: PluginHost,
    log: DecisionLog,
    dir: tempfile::TempDir,
}

impl Observed {
    async fn load(config: &PluginsConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = DecisionLog::open(&DecisionLogConfig::default(), dir.path()).unwrap().unwrap();
        let host = load(config).await;
        host.log_decisions(log.clone());
        Self { host, log, dir }
    }

    /// So many calls of the plugin ended in this way, and in no other that is a failure, as metrics have it; and the
    /// decision log calls each of them by the same name.
    async fn counted(&self, plugin: &str, outcome: Outcome, times: usize) {
        let report = self.host.reports().into_iter().find(|report| report.info.name == plugin).unwrap();
        let outcomes = report.functions.iter().flat_map(|function| &function.outcomes);
        let failures = outcomes.filter(|(outcome, count)| *count > 0 && shown_by(*outcome).is_some());
        assert_eq!(failures.collect::<Vec<_>>(), [&(outcome, times as u64)]);

        self.log.close().await;
        let mut records = read_records(&self.dir.path().join("decisions.log")).unwrap();
        let mut recorded = 0;
        for record in records.by_ref().map(|record| record.unwrap().record) {
            if let (Recorded::Failed { kind, .. }, true) = (&record.outcome, record.plugin.name == plugin) {
                assert_eq!(kind, outcome.name());
                recorded += 1;
            }
        }
        assert!(recorded <= times && recorded + records.dropped() as usize >= times, "{recorded} are in the log");
    }
}

/// Has a plugin go beyond its bounds again and again: `ask` does, and `next` is what it answers.
async fn goes_beyond(
    config: PluginsConfig,
    plugin: &str,
    outcome: Outcome,
    (warm_up, rounds): (usize, usize),
    ask: impl AsyncFn(&PluginHost) -> Result<(), Refusal>,
    next: impl AsyncFn(&PluginHost) -> Result<(), Refusal>,
) -> CallFailure {
    let observed = Observed::load(&config).await;
    let mut before = 0;
    let mut last = None;
    for round in 0..warm_up + rounds {
        if round == warm_up {
            before = resident();
        }
        let failure = failure(plugin, ask(&observed.host).await);
        assert_eq!((Outcome::from(&failure), failure.name()), (outcome, outcome.name()), "{failure}");
        next(&observed.host).await.unwrap();
        last = Some(failure);
    }
    grown(before, GROWTH);
    observed.counted(plugin, outcome, warm_up + rounds).await;
    last.unwrap()
}

/// The guest that misbehaves in `authorize` as it is told, and identifies nobody, which is left to the bundled policy.
async fn misbehaves(way: &str, budget: Budget, outcome: Outcome) -> Option<CallFailure> {
    let entry = guests::with_settings("misbehaves", json!({"authorize": way}))?;
    let config = before_the_bundled_one(Entry { budget, ..entry });
    // Each time takes some thousand pages of memory and more.
    let often = if budget.memory() > 16 << 20 { (5, 20) } else { OFTEN };
    Some(goes_beyond(config, "misbehaves", outcome, often, deploy, identify).await)
}

/// Time enough for what takes the guest long, on a machine that is busy with other tests.
const PATIENT: Budget = Budget {
    time_ms: 5_000,
    wall_clock_ms: None,
    memory_bytes: Some(16 << 20),
    answer_bytes: 1 << 20,
    log_bytes: 8 << 10,
    table_elements: 10_000,
    concurrency: 32,
};

#[tokio::test]
async fn time() {
    if elsewhere("overruns::time") {
        return;
    }
    let Some(entry) = guests::with_settings("authorize-loops", json!({"on": "destroy"})) else { return };
    let budget = Budget { time_ms: 5, ..Budget::default() };
    let config = before_the_bundled_one(Entry { budget, ..entry });
    let destroy = async |host: &PluginHost| authorize(host, CommandKind::Destroy).await;
    let last = goes_beyond(config, "authorize-loops", Outcome::TimedOut, OFTEN, destroy, deploy).await;
    // Either the time that it computes, or the time that it takes on a machine that is hopelessly busy.
    assert!([budget.time(), budget.wall_clock()].map(CallFailure::TimedOut).contains(&last), "{last}");
}

#[tokio::test]
async fn memory() {
    if elsewhere("overruns::memory") {
        return;
    }
    let Some(last) = misbehaves("take-memory", PATIENT, Outcome::OutOfMemory).await else { return };
    assert_eq!(last, CallFailure::OutOfMemory(16 << 20));
}

/// None can grow while a call runs, since no snapshot could hold it: a plugin has them from its start or not at all.
#[tokio::test]
async fn tables() {
    if elsewhere("overruns::tables") {
        return;
    }
    let mut before = 0;
    for round in 0..30 {
        if round == 10 {
            before = resident();
        }
        let (_dir, entry) = crate::crafted::policy_with(&[crate::crafted::tables(1, 20_000)], 1);
        let Err(LoadError::Plugin { problem, .. }) = try_load(&with_policy(entry)).await else {
            panic!("it is loaded")
        };
        match *problem {
            LoadProblem::Configure(failure) => {
                assert_eq!(failure, CallFailure::TableOverflow(10_000));
                assert_eq!(failure.name(), Outcome::TableOverflow.name());
            }
            other => panic!("{other}"),
        }
    }
    grown(before, 4 * GROWTH);
}

#[tokio::test]
async fn an_answer_that_is_too_large() {
    if elsewhere("overruns::an_answer_that_is_too_large") {
        return;
    }
    let Some(last) = misbehaves("answer-a-lot", PATIENT, Outcome::Oversize).await else { return };
    assert_eq!(last, CallFailure::Oversize(1 << 20));
}

#[tokio::test]
async fn an_answer_of_a_hundred_mebibytes_where_the_guest_has_the_memory_for_it() {
    if elsewhere("overruns::an_answer_of_a_hundred_mebibytes_where_the_guest_has_the_memory_for_it") {
        return;
    }
    let budget = Budget { memory_bytes: Some(128 << 20), concurrency: 1, ..PATIENT };
    let Some(last) = misbehaves("answer-enormously", budget, Outcome::Oversize).await else { return };
    assert_eq!(last, CallFailure::Oversize(1 << 20));
}

#[tokio::test]
async fn a_list_of_a_million() {
    if elsewhere("overruns::a_list_of_a_million") {
        return;
    }
    let Some(entry) = guests::with_settings("misbehaves", json!({"identify": "everywhere-a-member"})) else { return };
    let budget = Budget { memory_bytes: Some(64 << 20), ..PATIENT };
    let config = before_the_bundled_one(Entry { budget, ..entry });
    goes_beyond(config, "misbehaves", Outcome::Oversize, OFTEN, identify, deploy).await;
}

#[tokio::test]
async fn the_stack() {
    if elsewhere("overruns::the_stack") {
        return;
    }
    let Some(last) = misbehaves("overflow-stack", PATIENT, Outcome::StackOverflow).await else { return };
    assert_eq!(last, CallFailure::StackOverflow);
}

/// What a guest keeps of its stack in its own memory is not the host's to watch, but ends there as well.
#[tokio::test]
async fn the_stack_that_a_guest_keeps_in_its_memory() {
    if elsewhere("overruns::the_stack_that_a_guest_keeps_in_its_memory") {
        return;
    }
    let Some(last) = misbehaves("overflow-stack-in-memory", PATIENT, Outcome::Trapped).await else { return };
    assert!(last.to_string().contains("stack"), "{last}");
}

#[tokio::test]
async fn a_trap() {
    if elsewhere("overruns::a_trap") {
        return;
    }
    let Some(last) = misbehaves("trap", PATIENT, Outcome::Trapped).await else { return };
    assert!(last.to_string().contains("unreachable"), "{last}");
}

/// What WASI hands out has to be given back, or there is an end to it.
#[tokio::test]
async fn handles() {
    if elsewhere("overruns::handles") {
        return;
    }
    let Some(entry) = guests::with_settings("uses-wasi", json!({"authorize": "hoard"})) else { return };
    let config = before_the_bundled_one(Entry { budget: PATIENT, ..entry });
    let last = goes_beyond(config, "uses-wasi", Outcome::Trapped, OFTEN, deploy, identify).await;
    assert!(last.to_string().contains("more handles than it may have"), "{last}");
}

#[tokio::test]
async fn an_answer_that_is_no_text() {
    if elsewhere("overruns::an_answer_that_is_no_text") {
        return;
    }
    let Some(last) = misbehaves("answer-no-text", PATIENT, Outcome::InvalidAnswer).await else { return };
    assert!(last.to_string().contains("utf-8"), "{last}");
}

#[tokio::test]
async fn a_user_without_an_id() {
    if elsewhere("overruns::a_user_without_an_id") {
        return;
    }
    let Some(entry) = guests::with_settings("misbehaves", json!({"identify": "nobody"})) else { return };
    let config = before_the_bundled_one(Entry { budget: PATIENT, ..entry });
    goes_beyond(config, "misbehaves", Outcome::InvalidAnswer, OFTEN, identify, deploy).await;
}

#[tokio::test]
async fn a_value_that_its_type_does_not_have() {
    if elsewhere("overruns::a_value_that_its_type_does_not_have") {
        return;
    }
    let Some(entry) = guests::with_settings("bad-validator", json!({"invalid-kind": true})) else { return };
    let mut config = PluginsConfig::default();
    config.command_validator.push(Entry { budget: PATIENT, breaker: ALWAYS_ASKED, ..entry });
    let validate = async |host: &PluginHost| {
        let deploy = command(CommandKind::Deploy);
        host.validate(deploy, &user("ada"), &lab(), None, NOW).await.map(|_| ())
    };
    goes_beyond(config, "bad-validator", Outcome::InvalidAnswer, OFTEN, validate, identify).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_there_are_places() {
    if elsewhere("overruns::more_calls_than_there_are_places") {
        return;
    }
    let Some(entry) = guests::with_settings("authorize-loops", json!({"on": "destroy"})) else { return };
    let budget = Budget { time_ms: 100, concurrency: 1, ..Budget::default() };
    let observed = Observed::load(&before_the_bundled_one(Entry { budget, ..entry })).await;
    let mut before = 0;
    let mut seen = [0_u64; 2];
    for round in 0..4 {
        if round == 1 {
            before = resident();
        }
        let calls: Vec<_> = (0..60)
            .map(|_| {
                let host = observed.host.clone();
                tokio::spawn(async move { failure("authorize-loops", authorize(&host, CommandKind::Destroy).await) })
            })
            .collect();
        for call in calls {
            match call.await.unwrap() {
                CallFailure::Busy => seen[0] += 1,
                CallFailure::TimedOut(_) => seen[1] += 1,
                other => panic!("{other}"),
            }
        }
        deploy(&observed.host).await.unwrap();
    }
    // Each takes a tenth of a second at least, and they wait for a second.
    assert!(seen[0] >= 160 && seen[1] >= 4, "{seen:?}");
    grown(before, GROWTH);
    let report = observed.host.reports().into_iter().find(|report| report.info.name == "authorize-loops").unwrap();
    for (outcome, times) in [(Outcome::Busy, seen[0]), (Outcome::TimedOut, seen[1])] {
        assert!(report.functions[0].outcomes.contains(&(outcome, times)), "{:?}", report.functions[0].outcomes);
    }
    observed.log.close().await;
    let records = read_records(&observed.dir.path().join("decisions.log")).unwrap();
    let outcomes = records.map(|record| record.unwrap().record.outcome);
    let busy = outcomes.filter(|outcome| matches!(outcome, Recorded::Failed { kind, .. } if kind == "busy")).count();
    assert_eq!(busy as u64, seen[0]);
}

#[tokio::test]
async fn an_open_breaker() {
    if elsewhere("overruns::an_open_breaker") {
        return;
    }
    let Some(entry) = guests::with_settings("misbehaves", json!({"authorize": "trap"})) else { return };
    let mut config = before_the_bundled_one(entry);
    config.auth_policy[0].breaker = BreakerConfig { failures: 3, cool_down_ms: 3_600_000 };
    let observed = Observed::load(&config).await;
    for _ in 0..3 {
        let failure = failure("misbehaves", deploy(&observed.host).await);
        assert_eq!(Outcome::from(&failure), Outcome::Trapped);
    }
    let mut before = 0;
    for round in 0..WARM_UP + ROUNDS {
        if round == WARM_UP {
            before = resident();
        }
        assert_eq!(failure("misbehaves", deploy(&observed.host).await), CallFailure::BreakerOpen);
    }
    grown(before, GROWTH);
    let report = observed.host.reports().into_iter().find(|report| report.info.name == "misbehaves").unwrap();
    let refused = (Outcome::BreakerOpen, (WARM_UP + ROUNDS) as u64);
    assert!(report.functions[0].outcomes.contains(&refused), "{:?}", report.functions[0].outcomes);
    assert_eq!((report.breaker.open, report.breaker.opened), (true, 1));
    // Somebody else's question is put to it, and so is another one.
    identify(&observed.host).await.unwrap();
    observed.log.close().await;
    let records = read_records(&observed.dir.path().join("decisions.log")).unwrap();
    let outcomes = records.map(|record| record.unwrap().record.outcome);
    let kinds = outcomes.filter_map(|outcome| outcome.flat().get("kind").and_then(Value::as_str).map(str::to_owned));
    let refused = kinds.filter(|kind| *kind == Outcome::BreakerOpen.name()).count();
    assert_eq!(refused, WARM_UP + ROUNDS);
}

/// It is no failure: what is too much is cut, and counted.
#[tokio::test]
async fn a_log_that_is_flooded() {
    if elsewhere("overruns::a_log_that_is_flooded") {
        return;
    }
    let Some(entry) = guests::with_settings("misbehaves", json!({"authorize": "log-a-lot"})) else { return };
    let host = load(&before_the_bundled_one(Entry { budget: PATIENT, ..entry })).await;
    let mut before = 0;
    for round in 0..WARM_UP + ROUNDS {
        if round == WARM_UP {
            before = resident();
        }
        deploy(&host).await.unwrap();
    }
    grown(before, GROWTH);
    let report = host.reports().into_iter().find(|report| report.info.name == "misbehaves").unwrap();
    assert_eq!((report.log_cut, report.counts.failures), ((WARM_UP + ROUNDS) as u64, 0));
}
