//! One sentence per occurrence, for people; and the same with ids and reasons, for logs.

use crate::bindings::antimony::plugin::types::{Lab, Node, Shell};
use crate::bindings::exports::antimony::plugin::formatter::{
    Event, LabEvent, LabFailure, NodeEvent, NodeFailure, Occurrence, Severity, ShellEvent, ShellFailure, Status,
};

const LABS: &str = "Lab Manager";
const NODES: &str = "Node Manager";
const SHELLS: &str = "Shell Manager";

/// Words an event.
pub(crate) fn word(event: &Event) -> Status {
    use Severity::{Error, Info, Success, Warning};
    match &event.what {
        // Nobody asked for it, so its schedule did.
        Occurrence::LabDeploying(e) if e.by.is_none() && e.lab.start_time <= event.at => {
            lab(e, "is being deployed, since its start time has come", Info)
        }
        Occurrence::LabDeploying(e) => lab(e, "is being deployed", Info),
        Occurrence::LabDeployed(e) => lab(e, "has been deployed", Success),
        Occurrence::LabDeployFailed(e) => lab_failure(e, "could not be deployed", Error),
        Occurrence::LabDeployCancelled(e) => lab(e, "is not deployed after all: that was cancelled", Warning),
        Occurrence::LabDestroying(e) if e.by.is_none() && e.lab.end_time.is_some_and(|end| end <= event.at) => {
            lab(e, "is being destroyed, since its end time has passed", Info)
        }
        Occurrence::LabDestroying(e) => lab(e, "is being destroyed", Info),
        Occurrence::LabDestroyed(e) => lab(e, "has been destroyed", Success),
        Occurrence::LabDestroyFailed(e) => lab_failure(e, "could not be destroyed entirely", Error),
        Occurrence::LabMissed(e) => {
            lab(e, "was not deployed: its time came and went while the server was down", Warning)
        }
        Occurrence::LabRecovered(e) => lab(e, "went on running while the server was restarted", Info),
        Occurrence::LabLost(e) => lab_failure(e, "is lost", Error),
        Occurrence::NodeStarted(e) => node(e, "has been started", Success),
        Occurrence::NodeStopped(e) => node(e, "has been stopped", Success),
        Occurrence::NodeRestarted(e) => node(e, "has been restarted", Success),
        Occurrence::NodeExited(e) => node(e, "stopped by itself", Warning),
        Occurrence::NodeFailed(e) => node_failure(e),
        Occurrence::ShellOpened(e) => shell(e, "has been opened", Info),
        Occurrence::ShellClosed(e) => shell(e, "has been closed", Info),
        Occurrence::ShellFailed(e) => shell_failure(e),
    }
}

fn lab(event: &LabEvent, does: &str, severity: Severity) -> Status {
    let content = format!("Lab {} {does}", event.lab.name);
    let log_content = format!("{content}{} ({})", by(&event.by), lab_ids(&event.lab));
    Status { source: LABS.into(), content, log_content, severity }
}

fn lab_failure(event: &LabFailure, does: &str, severity: Severity) -> Status {
    let content = format!("Lab {} {does}: {}", event.lab.name, event.reason);
    let mut log_content = format!("{content}{} ({})", by(&event.by), lab_ids(&event.lab));
    if !event.detail.is_empty() {
        log_content.push('\n');
        log_content.push_str(&event.detail);
    }
    Status { source: LABS.into(), content, log_content, severity }
}

fn node(event: &NodeEvent, does: &str, severity: Severity) -> Status {
    let content = format!("Node {} of lab {} {does}", event.node.name, event.lab.name);
    let log_content = format!("{content}{} ({})", by(&event.by), node_ids(&event.lab, &event.node));
    Status { source: NODES.into(), content, log_content, severity }
}

fn node_failure(event: &NodeFailure) -> Status {
    let content = format!(
        "Node {} of lab {} could not be started, stopped or restarted: {}",
        event.node.name, event.lab.name, event.reason
    );
    let log_content = format!("{content}{} ({})", by(&event.by), node_ids(&event.lab, &event.node));
    Status { source: NODES.into(), content, log_content, severity: Severity::Error }
}

fn shell(event: &ShellEvent, does: &str, severity: Severity) -> Status {
    let content = format!("A shell in node {} of lab {} {does}", event.shell.node, event.lab.name);
    let log_content = format!("{content} ({})", shell_ids(&event.lab, &event.shell));
    Status { source: SHELLS.into(), content, log_content, severity }
}

fn shell_failure(event: &ShellFailure) -> Status {
    let content = format!("A shell in node {} of lab {} broke: {}", event.shell.node, event.lab.name, event.reason);
    let log_content = format!("{content} ({})", shell_ids(&event.lab, &event.shell));
    Status { source: SHELLS.into(), content, log_content, severity: Severity::Error }
}

fn by(user: &Option<String>) -> String {
    user.as_ref().map(|user| format!(", by {user}")).unwrap_or_default()
}

fn lab_ids(lab: &Lab) -> String {
    format!("lab {}, collection {}, creator {}", lab.id, lab.collection.name, lab.creator)
}

fn node_ids(lab: &Lab, node: &Node) -> String {
    format!("node {} of kind {}, {}", node.name, node.kind, lab_ids(lab))
}

fn shell_ids(lab: &Lab, shell: &Shell) -> String {
    format!("shell {} of {}, {}", shell.id, shell.owner, lab_ids(lab))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::antimony::plugin::types::{Collection, LabState, NodeState};

    fn a_lab() -> Lab {
        Lab {
            id: "lab-1".into(),
            name: "ospf".into(),
            topology_id: "t".into(),
            collection: Collection {
                id: "c".into(),
                name: "course".into(),
                public_write: false,
                public_deploy: false,
                creator: "root".into(),
            },
            creator: "ada".into(),
            start_time: 0,
            end_time: None,
            state: LabState::Running,
            nodes: vec![],
        }
    }

    fn all() -> Vec<(Occurrence, Severity)> {
        let lab = || LabEvent { lab: a_lab(), by: Some("bob".into()) };
        let failure =
            || LabFailure { lab: a_lab(), by: None, reason: "no space left".into(), detail: "line 1\nline 2".into() };
        let a_node = || Node {
            name: "r1".into(),
            kind: "linux".into(),
            image: None,
            state: NodeState::Running,
            demands: vec![],
        };
        let node = || NodeEvent { lab: a_lab(), node: a_node(), by: None };
        let a_shell = || Shell { id: "s-1".into(), lab_id: "lab-1".into(), node: "r1".into(), owner: "bob".into() };
        let shell = || ShellEvent { shell: a_shell(), lab: a_lab() };
        let node_failure = NodeFailure { lab: a_lab(), node: a_node(), by: None, reason: "stuck".into() };
        let shell_failure = ShellFailure { shell: a_shell(), lab: a_lab(), reason: "broken pipe".into() };
        vec![
            (Occurrence::LabDeploying(lab()), Severity::Info),
            (Occurrence::LabDeployed(lab()), Severity::Success),
            (Occurrence::LabDeployFailed(failure()), Severity::Error),
            (Occurrence::LabDeployCancelled(lab()), Severity::Warning),
            (Occurrence::LabDestroying(lab()), Severity::Info),
            (Occurrence::LabDestroyed(lab()), Severity::Success),
            (Occurrence::LabDestroyFailed(failure()), Severity::Error),
            (Occurrence::LabMissed(lab()), Severity::Warning),
            (Occurrence::LabRecovered(lab()), Severity::Info),
            (Occurrence::LabLost(failure()), Severity::Error),
            (Occurrence::NodeStarted(node()), Severity::Success),
            (Occurrence::NodeStopped(node()), Severity::Success),
            (Occurrence::NodeRestarted(node()), Severity::Success),
            (Occurrence::NodeExited(node()), Severity::Warning),
            (Occurrence::NodeFailed(node_failure), Severity::Error),
            (Occurrence::ShellOpened(shell()), Severity::Info),
            (Occurrence::ShellClosed(shell()), Severity::Info),
            (Occurrence::ShellFailed(shell_failure), Severity::Error),
        ]
    }

    #[test]
    fn every_occurrence_has_its_severity_names_the_lab_and_logs_its_id() {
        for (what, severity) in all() {
            let status = word(&Event { at: 0, what });
            assert_eq!(status.severity, severity, "{}", status.content);
            assert!(status.content.contains("ospf") && !status.content.contains('\n'), "{}", status.content);
            assert!(status.log_content.starts_with(&status.content), "{}", status.log_content);
            assert!(status.log_content.contains("lab-1"), "{}", status.log_content);
            assert!(status.source.ends_with(" Manager"));
        }
    }

    #[test]
    fn failures_carry_the_reason_and_keep_the_detail_for_the_log() {
        let what = all().remove(2).0;
        let status = word(&Event { at: 0, what });
        assert_eq!(status.content, "Lab ospf could not be deployed: no space left");
        assert!(status.log_content.ends_with("line 1\nline 2"));
    }

    #[test]
    fn what_the_schedule_does_is_told_with_its_reason() {
        let said = |what: Occurrence, at| word(&Event { at, what }).content;
        let event =
            |by: Option<&str>| LabEvent { lab: Lab { end_time: Some(5), ..a_lab() }, by: by.map(str::to_owned) };
        let over = "Lab ospf is being destroyed, since its end time has passed";
        assert_eq!(said(Occurrence::LabDestroying(event(None)), 5), over);
        assert_eq!(said(Occurrence::LabDestroying(event(None)), 4), "Lab ospf is being destroyed");
        assert_eq!(said(Occurrence::LabDestroying(event(Some("bob"))), 9), "Lab ospf is being destroyed");
        let begun = "Lab ospf is being deployed, since its start time has come";
        assert_eq!(said(Occurrence::LabDeploying(event(None)), 5), begun);
        assert_eq!(said(Occurrence::LabDeploying(event(Some("bob"))), 5), "Lab ospf is being deployed");
    }

    #[test]
    fn the_log_says_who_asked() {
        let what = all().remove(0).0;
        let status = word(&Event { at: 0, what });
        assert!(status.log_content.contains("by bob"), "{}", status.log_content);
        assert!(!status.content.contains("bob"));
    }
}
