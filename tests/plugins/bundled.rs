//! The bundled plugins through the facade: that arguments and answers cross over as they are meant.

use antimony_host::labs::model::InstanceState;
use antimony_host::labs::model::LabState;
use antimony_host::plugins::PluginsConfig;
use antimony_host::plugins::decision::{
    Action, CommandKind, Namespace, Occurrence, Refusal, RejectionCode, Severity, TopologyView,
};
use serde_json::json;

use crate::load;
use crate::sample::{self, NOW, claims, command, lab, node_command, user};

#[tokio::test]
async fn the_bundled_plugins_load_by_default_and_say_who_they_are() {
    let host = load(&PluginsConfig::default()).await;
    let loaded = host.loaded();
    let names: Vec<_> = loaded.iter().map(|plugin| plugin.name.as_str()).collect();
    assert_eq!(names, ["command-validator", "auth-policy", "status-formatter"]);
    assert!(loaded.iter().all(|plugin| plugin.version == "0.1.0" && !plugin.summary.is_empty()));
    assert!(loaded.iter().all(|plugin| plugin.digest.len() == 64));
}

#[tokio::test]
async fn a_valid_command_comes_back_as_it_was() {
    let host = load(&PluginsConfig::default()).await;
    for asked in [
        command(CommandKind::Deploy),
        node_command(CommandKind::StopNode, "r1"),
        node_command(CommandKind::StartNode, "r2"),
        node_command(CommandKind::OpenShell, "r1"),
    ] {
        let answer = host.validate(asked.clone(), &user("ada"), &lab(), None, NOW).await.unwrap();
        assert_eq!(answer, asked);
    }
}

#[tokio::test]
async fn invalid_commands_are_rejected_with_the_documented_code() {
    let host = load(&PluginsConfig::default()).await;
    let mut inactive = lab();
    inactive.state = LabState::Inactive;
    inactive.instance = None;
    let mut deploying = lab();
    deploying.state = LabState::Instance(InstanceState::Deploying);
    let mut close = command(CommandKind::CloseShell);
    close.shell_id = Some("s-9".into());
    for (asked, lab, expected) in [
        (command(CommandKind::StopNode), lab(), RejectionCode::InvalidRequest),
        (command(CommandKind::CloseShell), lab(), RejectionCode::InvalidRequest),
        (node_command(CommandKind::RestartNode, "R1"), lab(), RejectionCode::NodeNotFound),
        (node_command(CommandKind::OpenShell, "r2"), lab(), RejectionCode::NodeNotRunning),
        (node_command(CommandKind::OpenShell, "r1"), inactive, RejectionCode::LabNotRunning),
        (node_command(CommandKind::StopNode, "r1"), deploying, RejectionCode::LabDeploying),
        (close, lab(), RejectionCode::ShellNotFound),
    ] {
        match host.validate(asked.clone(), &user("ada"), &lab, None, NOW).await {
            Err(Refusal::Rejected { plugin, code, .. }) => {
                assert_eq!((plugin.as_str(), code), ("command-validator", expected), "{asked:?}");
            }
            other => panic!("{asked:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_dialect_of_the_web_client_is_a_setting() {
    let mut config = PluginsConfig::default();
    config.command_validator[0].settings = json!({"dialect": "antimony-ui"});
    let host = load(&config).await;
    let asked = node_command(CommandKind::StopNode, "r1");
    let answer = host.validate(asked, &user("ada"), &lab(), None, NOW).await.unwrap();
    assert_eq!(answer, node_command(CommandKind::StartNode, "r1"));
}

#[tokio::test]
async fn claims_become_a_user() {
    let host = load(&PluginsConfig::default()).await;
    let token = claims(json!({"id": "ada", "isAdmin": false, "collections": ["course", "lab"], "exp": 9}));
    let ada = host.identify(&token).await.unwrap();
    assert_eq!((ada.id.as_str(), ada.admin), ("ada", false));
    assert_eq!(ada.collections, ["course", "lab"]);

    let unknown = host.identify(&claims(json!({"sub": "x"}))).await.unwrap_err();
    assert!(matches!(unknown, Refusal::Unrecognised));
    let malformed = host.identify(&claims(json!({"id": 7}))).await.unwrap_err();
    assert!(matches!(malformed, Refusal::Denied { .. }), "{malformed}");
}

#[tokio::test]
async fn another_persons_lab_may_be_seen_and_not_destroyed() {
    let host = load(&PluginsConfig::default()).await;
    let (ada, bob, lab) = (user("ada"), user("bob"), lab());
    let destroy = command(CommandKind::Destroy);
    host.authorize(&ada, Action::Command(&destroy, &lab, None), NOW).await.unwrap();
    host.authorize(&bob, Action::ViewLab(&lab), NOW).await.unwrap();
    match host.authorize(&bob, Action::Command(&destroy, &lab, None), NOW).await {
        Err(Refusal::Denied { plugin, rule, message }) => {
            assert_eq!((plugin.as_str(), rule.as_str()), ("auth-policy", "creator-only"));
            assert!(message.contains("ospf"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_kind_of_action_crosses_over() {
    let host = load(&PluginsConfig::default()).await;
    let (ada, lab, shell) = (user("ada"), lab(), sample::shell("ada"));
    let stored = antimony_host::labs::model::StoredTopology {
        id: "t-1".into(),
        name: "ospf".into(),
        collection_id: "c-1".into(),
        definition: String::new(),
        sync_url: None,
        last_deploy_failed: false,
        creator: lab.lab.creator.clone(),
        file_paths: Vec::new(),
    };
    let topology = TopologyView { stored: &stored, collection: &lab.collection, definition: &lab.topology };
    let close = command(CommandKind::CloseShell);
    let allowed = [
        Action::Connect(Namespace::LabCommands),
        Action::Connect(Namespace::LabUpdates),
        Action::Connect(Namespace::StatusMessages),
        Action::Connect(Namespace::ShellCommands),
        Action::Connect(Namespace::LabLog(&lab)),
        Action::Connect(Namespace::NodeLog(&lab, "r1")),
        Action::Connect(Namespace::Shell(&shell, &lab)),
        Action::Command(&close, &lab, Some(&shell)),
        Action::ViewLab(&lab),
        Action::CreateLab(&lab),
        Action::UpdateLab(&lab, &lab),
        Action::DeleteLab(&lab),
        Action::ViewTopology(topology),
        Action::CreateTopology(topology),
        Action::UpdateTopology(topology, topology),
        Action::DeleteTopology(topology),
        Action::ViewCollection(&lab.collection),
    ];
    for action in allowed {
        let answer = host.authorize(&ada, action, NOW).await;
        assert!(answer.is_ok(), "{action:?}: {answer:?}");
    }
    let refused = [
        Action::CreateCollection(&lab.collection),
        Action::UpdateCollection(&lab.collection, &lab.collection),
        Action::DeleteCollection(&lab.collection),
    ];
    for action in refused {
        let answer = host.authorize(&ada, action, NOW).await;
        assert!(matches!(answer, Err(Refusal::Denied { .. })), "{action:?}: {answer:?}");
    }
}

#[tokio::test]
async fn host_access_is_refused_unless_it_is_allowed_in_the_settings() {
    let lab = sample::demanding_lab();
    let deploy = command(CommandKind::Deploy);
    let action = Action::Command(&deploy, &lab, None);
    let host = load(&PluginsConfig::default()).await;
    match host.authorize(&user("ada"), action, NOW).await {
        Err(Refusal::Denied { rule, message, .. }) => {
            assert_eq!(rule, "host-access");
            assert!(message.contains("r2") && message.contains("/etc:/mnt"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let mut config = PluginsConfig::default();
    config.auth_policy[0].settings = json!({"allow-host-access": true});
    load(&config).await.authorize(&user("ada"), action, NOW).await.unwrap();
}

#[tokio::test]
async fn events_are_worded() {
    let host = load(&PluginsConfig::default()).await;
    let nodes = lab().instance.unwrap().nodes;
    let failed = || ("no space left".to_owned(), "much output".to_owned());
    let (reason, detail) = failed();
    for (what, source, severity) in [
        (Occurrence::LabDeployed, "Lab Manager", Severity::Success),
        (Occurrence::LabDeployFailed { reason, detail }, "Lab Manager", Severity::Error),
        (Occurrence::NodeExited(nodes[0].clone()), "Node Manager", Severity::Warning),
        (Occurrence::NodeFailed { node: nodes[1].clone(), reason: "stuck".into() }, "Node Manager", Severity::Error),
        (Occurrence::ShellOpened(sample::shell("ada")), "Shell Manager", Severity::Info),
    ] {
        let status = host.format(&sample::event(what)).await;
        assert_eq!((status.source.as_str(), status.severity), (source, severity), "{status:?}");
        assert!(status.content.contains("ospf") && status.log_content.contains("lab-1"), "{status:?}");
    }
}

#[tokio::test]
async fn decisions_can_be_asked_for_from_any_task() {
    let host = load(&PluginsConfig::default()).await;
    let task = tokio::spawn(async move {
        let (lab, deploy) = (lab(), command(CommandKind::Deploy));
        host.validate(deploy.clone(), &user("ada"), &lab, None, NOW).await.unwrap();
        host.authorize(&user("ada"), Action::Command(&deploy, &lab, None), NOW).await.unwrap();
        host.format(&sample::event(Occurrence::LabDeployed)).await
    });
    assert_eq!(task.await.unwrap().severity, Severity::Success);
}

#[tokio::test]
async fn an_event_that_no_formatter_words_gets_plain_wording() {
    let mut config = PluginsConfig::default();
    config.status_formatter.clear();
    let status = load(&config).await.format(&sample::event(Occurrence::LabDeployed)).await;
    assert_eq!(status.content, "Lab ospf: deployed");
}
