//! Decisions as data: cases, records, and their replay.

use std::path::{Path, PathBuf};

use std::time::Duration;

use antimony_host::plugins::config::{Entry, Hook, Mode};
use antimony_host::plugins::decision::{Action, CommandKind};
use antimony_host::plugins::record::{Case, Difference, Outcome, Trial, Trials, read_cases, read_records};
use antimony_host::plugins::{Compared, DecisionLog, DecisionLogConfig, PluginHost};
use serde_json::json;

use crate::sample::{NOW, command, demanding_lab, lab, user};
use crate::{load, with_policy};

/// Loads a plugin on its own, as the command line does.
pub(crate) async fn trial(hook: Hook, entry: Entry) -> Trial {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
    Trials::start(&cache).unwrap().load(&cache, hook, 1, &entry).await.unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The cases that a trial answers otherwise than expected.
async fn failures(trial: &Trial, cases: &[Case]) -> Vec<(String, Difference)> {
    let mut failures = Vec::new();
    for case in cases {
        let answer = trial.ask(&case.input).await;
        failures.extend(case.expect.differs_from(&answer.outcome).map(|difference| (case.name.clone(), difference)));
    }
    failures
}

#[tokio::test]
async fn the_bundled_policy_decides_its_cases_as_they_say() {
    let cases = read_cases(&root().join("plugins/auth-policy/cases.yml")).unwrap();
    assert_eq!(cases.len(), 13);
    let policy = trial(Hook::AuthPolicy, Entry::new("builtin:auth-policy")).await;
    assert_eq!(failures(&policy, &cases).await, []);
    assert!(cases[0].place.line > 10, "{}", cases[0].place);
}

#[tokio::test]
async fn a_case_that_is_decided_otherwise_is_shown_with_what_came() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cases.yml");
    let text = "- name: bob deploys\n  function: authorize\n  \
                input: { user: { id: bob }, action: { command: { kind: deploy } } }\n  expect: allow\n";
    std::fs::write(&file, text).unwrap();
    let policy = trial(Hook::AuthPolicy, Entry::new("builtin:auth-policy")).await;
    let cases = read_cases(&file).unwrap();
    let [(name, difference)] = &failures(&policy, &cases).await[..] else { panic!("it is refused") };
    assert_eq!((name.as_str(), cases[0].place.line), ("bob deploys", 1));
    let shown = difference.to_string();
    assert!(shown.contains("  - outcome: allow\n  + outcome: deny\n  + rule: creator-only\n"), "{shown}");
}

#[tokio::test]
async fn an_answer_comes_with_its_time_and_memory() {
    let cases = read_cases(&root().join("plugins/auth-policy/cases.yml")).unwrap();
    let policy = trial(Hook::AuthPolicy, Entry::new("builtin:auth-policy")).await;
    let answer = policy.ask(&cases[3].input).await;
    assert_eq!(answer.outcome, Outcome::Allow);
    assert!(answer.memory >= 64 << 10, "{}", answer.memory);
    assert!(answer.duration.as_nanos() > 0);
}

/// Waits until what a watched plugin answered has been compared so often.
async fn compared(host: &PluginHost, count: u64) -> Compared {
    let settled = async {
        loop {
            let (_, now) = host.compared()[0];
            if now.named().iter().map(|(_, count)| count).sum::<u64>() >= count {
                break now;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap()
}

#[tokio::test]
async fn a_watched_policy_is_asked_what_was_refused_too_and_every_difference_is_written_down() {
    let candidate = Entry {
        name: Some("candidate".into()),
        mode: Mode::Monitor,
        settings: json!({"allow-host-access": true}),
        ..Entry::new("builtin:auth-policy")
    };
    let host = load(&with_policy(candidate)).await;
    let dir = tempfile::tempdir().unwrap();
    // Nothing is asked for but what differs.
    let config = DecisionLogConfig { functions: vec![], ..DecisionLogConfig::default() };
    let log = DecisionLog::open(&config, dir.path()).unwrap().unwrap();
    host.log_decisions(log.clone());

    let (lab, demanding) = (lab(), demanding_lab());
    let deploy = command(CommandKind::Deploy);
    host.authorize(&user("ada"), Action::Command(&deploy, &lab, None), NOW).await.unwrap();
    host.authorize(&user("bob"), Action::Command(&deploy, &lab, None), NOW).await.unwrap_err();
    host.authorize(&user("ada"), Action::Command(&deploy, &demanding, None), NOW).await.unwrap_err();
    assert_eq!(compared(&host, 3).await, Compared { same: 2, laxer: 1, ..Compared::default() });

    log.close().await;
    let records: Vec<_> =
        read_records(&dir.path().join("decisions.log")).unwrap().map(|line| line.unwrap().record).collect();
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(
        (record.mode, record.plugin.name.as_str(), &record.outcome),
        (Mode::Monitor, "candidate", &Outcome::Allow)
    );
    let in_force = record.in_force.as_ref().unwrap();
    assert_eq!((in_force.plugin.as_deref(), in_force.outcome.rule()), (Some("auth-policy"), Some("host-access")));
    assert_eq!(record.question, 3);
}
