//! What is counted of plugins, what the breaker lets through, and that one plugin's trouble is not another's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use antimony_host::plugins::config::{BreakerConfig, Budget, Entry};
use antimony_host::plugins::decision::{Action, CallFailure, CommandKind, Namespace, Occurrence, Refusal};
use antimony_host::plugins::{Outcome, PluginHost, PluginReport};
use serde_json::json;

use crate::sample::{self, NOW, claims, command, lab, user};
use crate::{guests, load, with_policy};

/// A breaker that opens after so many faults, for as long as the test runs.
fn breaker(failures: u32) -> BreakerConfig {
    BreakerConfig { failures, cool_down_ms: 3_600_000 }
}

fn report(host: &PluginHost, name: &str) -> PluginReport {
    host.reports().into_iter().find(|report| report.info.name == name).unwrap()
}

fn count(report: &PluginReport, function: &str, outcome: Outcome) -> u64 {
    let function = report.functions.iter().find(|known| known.function == function).unwrap();
    function.outcomes[outcome as usize].1
}

/// Somebody of the name `who` deploys the lab `id` that they created.
async fn deploy(host: &PluginHost, who: &str, id: &str) -> Result<(), CallFailure> {
    let mut lab = lab();
    lab.lab.id = id.into();
    lab.lab.creator.id = who.into();
    let mut deploy = command(CommandKind::Deploy);
    deploy.lab_id = id.into();
    match host.authorize(&user(who), Action::Command(&deploy, &lab, None), NOW).await {
        Ok(()) => Ok(()),
        Err(Refusal::Failed { failure, .. }) => Err(failure),
        Err(other) => panic!("{other}"),
    }
}

fn timed_out(answer: Result<(), CallFailure>) -> bool {
    matches!(answer, Err(CallFailure::TimedOut(_)))
}

#[tokio::test]
async fn what_the_bundled_plugins_decide_is_counted_with_its_outcome() {
    let host = load(&antimony_host::plugins::PluginsConfig::default()).await;
    let lab = lab();
    let deploy = command(CommandKind::Deploy);
    host.validate(deploy.clone(), &user("ada"), &lab, None, NOW).await.unwrap();
    host.validate(sample::node_command(CommandKind::OpenShell, "r9"), &user("ada"), &lab, None, NOW).await.unwrap_err();
    host.identify(&claims(json!({"id": "ada"}))).await.unwrap();
    host.authorize(&user("ada"), Action::Command(&deploy, &lab, None), NOW).await.unwrap();
    host.authorize(&user("bob"), Action::Command(&deploy, &lab, None), NOW).await.unwrap_err();
    host.format(&sample::event(Occurrence::LabDeployed)).await;
    for (plugin, function, expected) in [
        ("command-validator", "validate", &[Outcome::Allow, Outcome::Reject][..]),
        ("auth-policy", "identify", &[Outcome::Answer]),
        ("auth-policy", "authorize", &[Outcome::Allow, Outcome::Deny]),
        ("status-formatter", "format", &[Outcome::Answer]),
    ] {
        let report = report(&host, plugin);
        for outcome in Outcome::ALL {
            let due = u64::from(expected.contains(&outcome));
            assert_eq!(count(&report, function, outcome), due, "{plugin} {function} {outcome:?}");
        }
        let counted = report.functions.iter().find(|known| known.function == function).unwrap();
        assert_eq!(counted.times.count(), expected.len() as u64, "{plugin} {function}");
        assert!(counted.times.sum > Duration::ZERO);
    }
}

#[tokio::test]
async fn one_users_input_on_which_a_plugin_fails_takes_it_from_nobody_else() {
    let Some(entry) = guests::with_settings("authorize-loops", json!({"on": "deploy"})) else { return };
    let host = load(&with_policy(Entry { breaker: breaker(3), ..entry })).await;
    for _ in 0..3 {
        assert!(timed_out(deploy(&host, "eve", "eves").await));
    }
    assert_eq!(deploy(&host, "eve", "eves").await, Err(CallFailure::BreakerOpen));
    // Bob, who met none of it, is put to the plugin, with the same and with anything else.
    assert!(timed_out(deploy(&host, "bob", "eves").await));
    assert!(timed_out(deploy(&host, "cleo", "cleos").await));
    assert!(report(&host, "authorize-loops").breaker.open);
    // Eve's other questions are asked as well, and the answer ends it.
    host.authorize(&user("eve"), Action::Connect(Namespace::LabCommands), NOW).await.unwrap();
    let report = report(&host, "authorize-loops");
    assert!(!report.breaker.open);
    assert_eq!((report.breaker.opened, count(&report, "authorize", Outcome::BreakerOpen)), (1, 1));
}

#[tokio::test]
async fn a_breaker_that_is_switched_off_never_opens() {
    let Some(entry) = guests::with_settings("misbehaves", json!({"authorize": "trap"})) else { return };
    let host = load(&with_policy(Entry { breaker: breaker(0), ..entry })).await;
    for _ in 0..30 {
        assert!(matches!(deploy(&host, "eve", "eves").await, Err(CallFailure::Trapped(_))));
    }
    assert_eq!(count(&report(&host, "misbehaves"), "authorize", Outcome::Trapped), 30);
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_a_fault_for_the_breaker() {
    let Some(entry) = guests::entry("bad-validator") else { return };
    let mut config = antimony_host::plugins::PluginsConfig::default();
    config.command_validator.push(Entry { breaker: breaker(2), ..entry });
    let host = load(&config).await;
    let (ada, lab) = (user("ada"), lab());
    for expected in [Outcome::InvalidAnswer, Outcome::InvalidAnswer, Outcome::BreakerOpen] {
        match host.validate(command(CommandKind::Deploy), &ada, &lab, None, NOW).await {
            Err(Refusal::Failed { failure, .. }) => assert_eq!(failure.name(), expected.name()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn after_the_cool_down_a_plugin_is_asked_again() {
    let Some(entry) = guests::with_settings("misbehaves", json!({"authorize": "trap"})) else { return };
    let breaker = BreakerConfig { failures: 2, cool_down_ms: 1 };
    let host = load(&with_policy(Entry { breaker, ..entry })).await;
    let mut trapped = 0;
    // However slow the machine is, sooner or later the cool-down is over.
    while trapped < 5 {
        match deploy(&host, "eve", "eves").await {
            Err(CallFailure::Trapped(_)) => trapped += 1,
            Err(CallFailure::BreakerOpen) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
    let report = report(&host, "misbehaves");
    assert_eq!((report.breaker.opened, report.breaker.open), (1, true), "a probe that fails opens nothing anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plugin_that_loops_in_all_its_calls_holds_up_no_other_hook_and_no_other_work() {
    let Some(entry) = guests::with_settings("authorize-loops", json!({"on": "deploy"})) else { return };
    let budget = Budget { time_ms: 1_000, ..Budget::default() };
    let host = load(&with_policy(Entry { budget, breaker: breaker(0), ..entry })).await;
    let (ended, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Semaphore::new(0)));
    let eves: Vec<_> = (0..64)
        .map(|n| {
            let (host, ended, begun) = (host.clone(), ended.clone(), begun.clone());
            tokio::spawn(async move {
                begun.add_permits(1);
                while !ended.load(Ordering::Relaxed) {
                    // As busy, or out of time.
                    deploy(&host, "eve", &format!("lab-{n}")).await.unwrap_err();
                }
            })
        })
        .collect();
    begun.acquire_many(64).await.unwrap().forget();
    // Some thousand calls that have nothing to do with it, and sleeps that a taken worker would be late for: none of
    // them fails, and all of them end while it goes on looping.
    let others = async {
        let lab = lab();
        for _ in 0..500 {
            host.validate(command(CommandKind::Deploy), &user("bob"), &lab, None, NOW).await.unwrap();
            host.identify(&claims(json!({"id": "bob"}))).await.unwrap();
            assert_ne!(host.format(&sample::event(Occurrence::LabDeployed)).await.content, "");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), others).await.unwrap();
    let failures = |name: &str| report(&host, name).counts.failures;
    assert_eq!((failures("command-validator"), failures("status-formatter"), failures("auth-policy")), (0, 0, 0));
    ended.store(true, Ordering::Relaxed);
    for eve in eves {
        eve.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_has_a_plugin_loop_all_the_time_keeps_nobody_from_being_answered_by_it() {
    let Some(entry) = guests::with_settings("authorize-loops", json!({"on": "deploy"})) else { return };
    let host = load(&with_policy(entry)).await;
    let ended = Arc::new(AtomicBool::new(false));
    let eves: Vec<_> = (0..64)
        .map(|_| {
            let (host, ended) = (host.clone(), ended.clone());
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    deploy(&host, "eve", "eves").await.unwrap_err();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    while report(&host, "authorize-loops").breaker.opened == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..20 {
        host.authorize(&user("bob"), Action::Connect(Namespace::LabCommands), NOW).await.unwrap();
    }
    ended.store(true, Ordering::Relaxed);
    for eve in eves {
        eve.await.unwrap();
    }
}
