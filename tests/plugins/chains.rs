//! Several plugins of one hook: their order, what a fault of one means, and plugins that are only watched.

use std::time::Duration;

use antimony_host::plugins::config::{Budget, Entry, Mode};
use antimony_host::plugins::decision::{
    Action, CallFailure, CommandKind, Namespace, Occurrence, Refusal, RejectionCode, Severity,
};
use antimony_host::plugins::{PluginCounts, PluginHost, PluginsConfig};
use serde_json::json;

use crate::sample::{self, NOW, claims, command, lab, node_command, user};
use crate::{guests, load, with_policy};

fn watched(entry: Entry) -> Entry {
    Entry { mode: Mode::Monitor, ..entry }
}

/// Waits until a plugin has been asked as often as this, with these outcomes.
async fn counted(host: &PluginHost, name: &str, expected: PluginCounts) {
    let now = || host.counts().into_iter().find(|(info, _)| info.name == name).unwrap().1;
    let settled = async {
        while now() != expected {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), settled).await.is_err() {
        assert_eq!(now(), expected, "{name}");
    }
}

fn freeze() -> Option<Entry> {
    guests::with_settings("deploy-freeze", json!({"allowed": ["ada"], "reason": "exam week"}))
}

#[tokio::test]
async fn the_example_policy_keeps_all_but_some_from_deploying() {
    let Some(freeze) = freeze() else { return };
    let host = load(&with_policy(freeze)).await;
    let (lab, mut bobs_lab) = (lab(), lab());
    bobs_lab.lab.creator.id = "bob".into();
    let (deploy, destroy) = (command(CommandKind::Deploy), command(CommandKind::Destroy));
    host.authorize(&user("bob"), Action::Command(&destroy, &bobs_lab, None), NOW).await.unwrap();
    // Nor has anybody but ada the schedule deploy a lab.
    for (who, lab) in [("ada", &lab), ("bob", &bobs_lab)] {
        for action in [Action::Command(&deploy, lab, None), Action::CreateLab(lab), Action::UpdateLab(lab, lab)] {
            match (who, host.authorize(&user(who), action, NOW).await) {
                ("ada", Ok(())) => {}
                ("bob", Err(Refusal::Denied { plugin, rule, message })) => {
                    assert_eq!((plugin.as_str(), rule.as_str()), ("deploy-freeze", "deploy-freeze"));
                    assert!(message.contains("exam week"), "{message}");
                }
                other => panic!("{action:?}: {other:?}"),
            }
        }
    }
    host.authorize(&user("bob"), Action::DeleteLab(&bobs_lab), NOW).await.unwrap();
}

#[tokio::test]
async fn the_first_denial_in_the_operators_order_wins() {
    let Some(freeze) = freeze() else { return };
    let mut config = with_policy(freeze);
    let deploy = command(CommandKind::Deploy);
    for first in ["auth-policy", "deploy-freeze"] {
        let host = load(&config).await;
        // Both deny it: the lab is not bob's, and bob may not deploy.
        match host.authorize(&user("bob"), Action::Command(&deploy, &lab(), None), NOW).await {
            Err(Refusal::Denied { plugin, .. }) => assert_eq!(plugin, first),
            other => panic!("{other:?}"),
        }
        config.auth_policy.reverse();
    }
}

#[tokio::test]
async fn a_policy_that_knows_nobody_leaves_it_to_the_next() {
    let Some(freeze) = freeze() else { return };
    let mut config = with_policy(freeze);
    config.auth_policy.reverse();
    let ada = load(&config).await.identify(&claims(json!({"id": "ada"}))).await.unwrap();
    assert_eq!(ada.id.as_str(), "ada");
}

#[tokio::test]
async fn a_policy_that_is_only_watched_refuses_nobody_and_lets_nobody_in() {
    let (Some(freeze), Some(loops)) = (freeze(), guests::entry("authorize-loops")) else { return };
    let mut config = with_policy(watched(freeze));
    config.auth_policy.push(watched(loops));
    config.auth_policy.push(watched(Entry { name: Some("watched".into()), ..Entry::new("builtin:auth-policy") }));
    config.auth_policy.reverse();
    let host = load(&config).await;
    let mut lab = lab();
    lab.lab.creator.id = "bob".into();
    host.authorize(&user("bob"), Action::Command(&command(CommandKind::Deploy), &lab, None), NOW).await.unwrap();
    // But it is counted, once they have answered: nobody waited for them.
    for (name, expected) in [
        ("deploy-freeze", PluginCounts { calls: 1, refusals: 1, failures: 0 }),
        ("authorize-loops", PluginCounts { calls: 1, refusals: 0, failures: 1 }),
        ("watched", PluginCounts { calls: 1, refusals: 0, failures: 0 }),
        ("auth-policy", PluginCounts { calls: 1, refusals: 0, failures: 0 }),
    ] {
        counted(&host, name, expected).await;
    }

    // Watched alone, the bundled policy's answer doesn't count.
    config.auth_policy.retain(|entry| entry.mode == Mode::Monitor && entry.path.starts_with("builtin"));
    config.auth_policy.push(guests::entry("secret-keeper").unwrap());
    let refusal = load(&config).await.identify(&claims(json!({"id": "ada"}))).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unrecognised), "{refusal}");
}

#[tokio::test]
async fn nobody_waits_for_a_plugin_that_is_only_watched() {
    let Some(loops) = guests::entry("authorize-loops") else { return };
    // It would go on for an hour.
    let budget = Budget { time_ms: 3_600_000, ..Budget::default() };
    let mut config = with_policy(watched(Entry { budget, ..loops }));
    config.auth_policy.reverse();
    let host = load(&config).await;
    let lab = lab();
    for action in [
        Action::Command(&command(CommandKind::Deploy), &lab, None),
        Action::ViewLab(&lab),
        Action::UpdateLab(&lab, &lab),
        Action::Connect(Namespace::NodeLog(&lab, "r1")),
    ] {
        let answer = tokio::time::timeout(Duration::from_secs(60), host.authorize(&user("ada"), action, NOW)).await;
        answer.unwrap().unwrap();
    }
}

#[tokio::test]
async fn validators_are_a_pipeline() {
    let Some(rewrites) = guests::with_settings("bad-validator", json!({"deploy-instead": true})) else { return };
    let mut config = PluginsConfig::default();
    config.command_validator.insert(0, rewrites);
    // The bundled one would reject what came, but sees what the first one made of it.
    let asked = node_command(CommandKind::OpenShell, "r9");
    let answer = load(&config).await.validate(asked.clone(), &user("ada"), &lab(), None, NOW).await.unwrap();
    assert_eq!(answer, command(CommandKind::Deploy));

    config.command_validator.reverse();
    match load(&config).await.validate(asked.clone(), &user("ada"), &lab(), None, NOW).await {
        Err(Refusal::Rejected { code, .. }) => assert_eq!(code, RejectionCode::NodeNotFound),
        other => panic!("{other:?}"),
    }

    // Watched, it changes nothing.
    config.command_validator[1].mode = Mode::Monitor;
    let asked = node_command(CommandKind::OpenShell, "r1");
    let answer = load(&config).await.validate(asked.clone(), &user("ada"), &lab(), None, NOW).await.unwrap();
    assert_eq!(answer, asked);
}

#[tokio::test]
async fn a_validator_may_not_move_a_command_to_another_lab() {
    let Some(moves) = guests::entry("bad-validator") else { return };
    let mut config = PluginsConfig::default();
    config.command_validator.push(moves);
    let refusal =
        load(&config).await.validate(command(CommandKind::Deploy), &user("ada"), &lab(), None, NOW).await.unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Failed { plugin, failure: CallFailure::InvalidAnswer(_) }
            if plugin == "bad-validator"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_formatter_that_fails_is_passed_over() {
    let Some(traps) = guests::entry("bad-formatter") else { return };
    let mut config = PluginsConfig::default();
    config.status_formatter.insert(0, traps.clone());
    let event = sample::event(Occurrence::LabDeployed);
    let status = load(&config).await.format(&event).await;
    assert_eq!((status.source.as_str(), status.severity), ("Lab Manager", Severity::Success));

    config.status_formatter = vec![traps];
    let status = load(&config).await.format(&event).await;
    assert_eq!((status.content.as_str(), status.severity), ("Lab ospf: deployed", Severity::Success));
}

#[tokio::test]
async fn another_file_under_the_same_name_decides_otherwise() {
    let Some(freeze) = freeze() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("second.wasm");
    let entry = Entry { path: path.to_str().unwrap().into(), ..freeze.clone() };
    let deploy = command(CommandKind::Deploy);
    let mut lab = lab();
    lab.lab.creator.id = "bob".into();
    let bob = user("bob");

    std::fs::copy(&freeze.path, &path).unwrap();
    let frozen = load(&with_policy(entry.clone())).await;
    frozen.authorize(&bob, Action::Command(&deploy, &lab, None), NOW).await.unwrap_err();

    std::fs::copy(guests::entry("secret-keeper").unwrap().path, &path).unwrap();
    let open = load(&with_policy(entry)).await;
    open.authorize(&bob, Action::Command(&deploy, &lab, None), NOW).await.unwrap();
}
