//! Decisions as data: cases, records, and their replay.

use std::path::{Path, PathBuf};

use antimony_host::plugins::config::{Entry, Hook};
use antimony_host::plugins::record::{Case, Difference, Outcome, Trial, Trials, read_cases};

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
    assert_eq!(cases.len(), 11);
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
