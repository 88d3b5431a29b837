//! `instance: warm`: that instances are used again, for how long, and what that costs. What holds of instances per call is
//! checked beside it.

use antimony_host::plugins::PluginHost;
use antimony_host::plugins::config::{Budget, Entry, InstanceMode};
use antimony_host::plugins::decision::{Action, CallFailure, Namespace, Refusal};

use crate::sample::{NOW, user};
use crate::{guests, load, with_policy};

async fn host(guest: &str, instance: InstanceMode) -> Option<PluginHost> {
    let entry = guests::entry(guest)?;
    Some(load(&with_policy(Entry { instance, ..entry })).await)
}

async fn ask(host: &PluginHost, name: &str) -> Result<(), Refusal> {
    host.authorize(&user(name), Action::Connect(Namespace::LabUpdates), NOW).await
}

/// How many calls the instance has had that answered.
pub(crate) async fn count(host: &PluginHost, name: &str) -> u32 {
    match ask(host, name).await {
        Err(Refusal::Denied { rule, message, .. }) if rule == "count" => message.parse().unwrap(),
        other => panic!("no count: {other:?}"),
    }
}

async fn failure(host: &PluginHost, name: &str) -> CallFailure {
    match ask(host, name).await {
        Err(Refusal::Failed { failure, .. }) => failure,
        other => panic!("no failure: {other:?}"),
    }
}

#[tokio::test]
async fn calls_have_instances_of_their_own_unless_the_operator_wants_warm_ones() {
    let Some(per_call) = host("counter", InstanceMode::PerCall).await else { return };
    for _ in 0..5 {
        assert_eq!(count(&per_call, "ada").await, 1);
    }
    let warm = host("counter", InstanceMode::Warm).await.unwrap();
    for expected in 1..=5 {
        assert_eq!(count(&warm, "ada").await, expected);
    }
    assert_eq!(warm.loaded()[2].instance, InstanceMode::Warm);
}

#[tokio::test]
async fn an_instance_whose_call_failed_is_not_used_again() {
    let Some(host) = host("counter", InstanceMode::Warm).await else { return };
    for way in ["trap", "loop", "answer-a-lot"] {
        assert_eq!(count(&host, "ada").await, 1, "before {way}");
        assert_eq!(count(&host, "ada").await, 2, "before {way}");
        let failure = failure(&host, way).await;
        let expected = match way {
            "trap" => matches!(failure, CallFailure::Trapped(_)),
            "loop" => matches!(failure, CallFailure::TimedOut(_)),
            _ => matches!(failure, CallFailure::Oversize(_)),
        };
        assert!(expected, "{way}: {failure}");
    }
    assert_eq!(count(&host, "ada").await, 1);
}

#[tokio::test]
async fn an_instance_whose_call_was_cancelled_is_not_used_again() {
    let Some(host) = host("counter", InstanceMode::Warm).await else { return };
    assert_eq!(count(&host, "ada").await, 1);
    // The first tick interrupts it, and it is given up there.
    {
        let mut looping = std::pin::pin!(ask(&host, "loop"));
        let polled = futures::poll!(&mut looping);
        assert!(polled.is_pending());
    }
    assert_eq!(count(&host, "ada").await, 1);
}

#[tokio::test]
async fn an_instance_that_has_grown_is_let_go_before_a_call_is_the_worse_for_it() {
    let Some(entry) = guests::entry("counter") else { return };
    let budget = Budget { memory_bytes: Some(8 << 20), ..Budget::default() };
    let host = load(&with_policy(Entry { budget, instance: InstanceMode::Warm, ..entry })).await;
    let mut counts = Vec::new();
    for _ in 0..40 {
        counts.push(count(&host, "grow").await);
    }
    // It has some 8 MiB to grow by, a mebibyte per call, and is let go at half of that: none ever fails.
    assert!(counts.contains(&3) && !counts.iter().any(|count| *count > 5), "{counts:?}");
    assert_eq!(host.counts()[2].1.failures, 0);

    let first = count(&host, "ada").await;
    assert_eq!(count(&host, "ask-for-too-much").await, first + 1);
    assert_eq!(count(&host, "ada").await, 1, "one that was refused memory may hold what it half did");
}

#[tokio::test]
async fn an_instance_is_let_go_after_a_thousand_calls() {
    let Some(host) = host("counter", InstanceMode::Warm).await else { return };
    let mut most = 0;
    for _ in 0..1_500 {
        most = count(&host, "ada").await.max(most);
    }
    assert_eq!(most, 1_000);
    assert_eq!(count(&host, "ada").await, 501);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_never_more_instances_than_calls_that_may_run_at_once() {
    let Some(entry) = guests::entry("counter") else { return };
    let budget = Budget { concurrency: 3, ..Budget::default() };
    let host = load(&with_policy(Entry { budget, instance: InstanceMode::Warm, ..entry })).await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let host = host.clone();
            tokio::spawn(async move {
                let mut fresh = 0;
                for _ in 0..50 {
                    fresh += u32::from(count(&host, "ada").await == 1);
                }
                fresh
            })
        })
        .collect();
    let mut fresh = 0;
    for call in calls {
        fresh += call.await.unwrap();
    }
    assert!((1..=3).contains(&fresh), "{fresh} instances were made for 400 calls");
}

#[tokio::test]
async fn each_call_has_its_budgets_anew() {
    let Some(host) = host("counter", InstanceMode::Warm).await else { return };
    let (captured, _guard) = crate::hostile::Captured::start();
    for expected in 1..=5 {
        // Half of what a call may log.
        assert_eq!(count(&host, "log").await, expected);
    }
    let lines = captured.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("xxxx")).count(), 5);
    assert!(!lines.iter().any(|line| line.contains("more than its budget")), "{lines:?}");
}

/// The trade-off, as it is documented: what one user's call leaves behind is there in another's.
#[tokio::test]
async fn a_secret_of_one_call_is_seen_by_the_next_in_a_warm_instance_and_in_none_of_its_own() {
    let Some(per_call) = host("secret-keeper", InstanceMode::PerCall).await else { return };
    ask(&per_call, "zqx-a").await.unwrap();
    ask(&per_call, "zqx-b").await.unwrap();

    let warm = host("secret-keeper", InstanceMode::Warm).await.unwrap();
    ask(&warm, "zqx-a").await.unwrap();
    match ask(&warm, "zqx-b").await {
        Err(Refusal::Denied { message, .. }) => assert_eq!(message, "zqx-a"),
        other => panic!("it is visible there: {other:?}"),
    }
}
