//! The rules: what each command needs, in the order in which a user would want to hear of it.
//!
//! First what the command lacks, then what it names but doesn't exist, then what exists but doesn't run. Names are
//! compared letter for letter.

use crate::bindings::antimony::plugin::types::{CommandKind, Lab, LabState, Node, NodeState, Shell};
use crate::bindings::exports::antimony::plugin::validator::{Command, Context, Rejection, RejectionCode};

/// Says what is wrong with a command, if anything is.
pub(crate) fn check(command: &Command, context: &Context) -> Result<(), Rejection> {
    match command.kind {
        CommandKind::Deploy | CommandKind::Destroy | CommandKind::ListShells => Ok(()),
        CommandKind::StopNode => {
            let node = node(command, &context.lab)?;
            running(&context.lab)?;
            not_stopped(node)
        }
        CommandKind::StartNode | CommandKind::RestartNode => {
            node(command, &context.lab)?;
            running(&context.lab)
        }
        CommandKind::OpenShell => {
            let node = node(command, &context.lab)?;
            running(&context.lab)?;
            node_running(node)
        }
        CommandKind::CloseShell => shell(command, context).map(|_| ()),
    }
}

/// The node that a command names and that has to exist.
fn node<'a>(command: &Command, lab: &'a Lab) -> Result<&'a Node, Rejection> {
    let Some(name) = command.node.as_deref().filter(|name| !name.is_empty()) else {
        let message = format!("`node` is missing: {} needs the name of a node", phrase(command.kind));
        return Err(reject(RejectionCode::InvalidRequest, "node-required", message));
    };
    lab.nodes.iter().find(|node| node.name == name).ok_or_else(|| {
        let message = format!("lab {} has no node named {name}", lab.name);
        reject(RejectionCode::NodeNotFound, "node-exists", message)
    })
}

/// The shell that a command names and that has to exist in this lab.
fn shell<'a>(command: &Command, context: &'a Context) -> Result<&'a Shell, Rejection> {
    let Some(id) = command.shell_id.as_deref().filter(|id| !id.is_empty()) else {
        let message = format!("`shellId` is missing: {} needs the id of a shell", phrase(command.kind));
        return Err(reject(RejectionCode::InvalidRequest, "shell-required", message));
    };
    context.shell.as_ref().filter(|shell| shell.id == id && shell.lab_id == context.lab.id).ok_or_else(|| {
        let message = format!("lab {} has no open shell {id}", context.lab.name);
        reject(RejectionCode::ShellNotFound, "shell-exists", message)
    })
}

/// The lab has to be up.
fn running(lab: &Lab) -> Result<(), Rejection> {
    let state = match lab.state {
        LabState::Deploying => {
            let message = format!("lab {} is still being deployed", lab.name);
            return Err(reject(RejectionCode::LabDeploying, "lab-running", message));
        }
        LabState::Scheduled => "it is scheduled for later",
        LabState::Inactive => "it is not deployed",
        LabState::Stopping => "it is being destroyed",
        LabState::Failed => "its last deployment or destruction failed",
        LabState::Running => return Ok(()),
    };
    let message = format!("lab {} is not running: {state}", lab.name);
    Err(reject(RejectionCode::LabNotRunning, "lab-running", message))
}

/// A node has to be up for a terminal in it.
fn node_running(node: &Node) -> Result<(), Rejection> {
    let state = match node.state {
        NodeState::Running => return Ok(()),
        NodeState::Starting => "is still starting",
        NodeState::Exited => "has stopped; start it first",
        NodeState::Absent => "is gone; deploy the lab anew to have it back",
    };
    let message = format!("node {} {state}", node.name);
    Err(reject(RejectionCode::NodeNotRunning, "node-running", message))
}

/// What has stopped can't be stopped. One that is gone is for the host to tell, which knows more.
fn not_stopped(node: &Node) -> Result<(), Rejection> {
    if node.state != NodeState::Exited {
        return Ok(());
    }
    let message = format!("node {} is not running: it has stopped already", node.name);
    Err(reject(RejectionCode::NodeNotRunning, "node-running", message))
}

/// A command in words.
fn phrase(kind: CommandKind) -> &'static str {
    match kind {
        CommandKind::Deploy => "deploying a lab",
        CommandKind::Destroy => "destroying a lab",
        CommandKind::StopNode => "stopping a node",
        CommandKind::StartNode => "starting a node",
        CommandKind::RestartNode => "restarting a node",
        CommandKind::ListShells => "listing shells",
        CommandKind::OpenShell => "opening a shell",
        CommandKind::CloseShell => "closing a shell",
    }
}

fn reject(code: RejectionCode, rule: &str, message: String) -> Rejection {
    Rejection { code, rule: rule.into(), message }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::bindings::antimony::plugin::types::{Circumstances, Collection, Identity};

    fn lab(state: LabState, nodes: &[(&str, NodeState)]) -> Lab {
        Lab {
            id: "lab-1".into(),
            name: "ospf".into(),
            topology_id: "t".into(),
            collection: Collection {
                id: "c".into(),
                name: "course".into(),
                public_write: false,
                public_deploy: false,
                creator: "admin".into(),
            },
            creator: "ada".into(),
            start_time: 0,
            end_time: None,
            state,
            nodes: nodes
                .iter()
                .map(|(name, state)| Node {
                    name: (*name).into(),
                    kind: "linux".into(),
                    image: None,
                    state: *state,
                    demands: vec![],
                })
                .collect(),
        }
    }

    fn context(lab: Lab, shell: Option<Shell>) -> Context {
        Context {
            user: Identity { id: "ada".into(), admin: false, collections: vec![] },
            lab,
            shell,
            circumstances: Circumstances { now: 1, open_shells: 0, running_labs: 0 },
        }
    }

    fn command(kind: CommandKind, node: Option<&str>, shell: Option<&str>) -> Command {
        Command { kind, lab_id: "lab-1".into(), node: node.map(Into::into), shell_id: shell.map(Into::into) }
    }

    fn rejected(kind: CommandKind, node: Option<&str>, shell: Option<&str>, context: &Context) -> RejectionCode {
        check(&command(kind, node, shell), context).unwrap_err().code
    }

    const NODE_COMMANDS: [CommandKind; 4] =
        [CommandKind::StopNode, CommandKind::StartNode, CommandKind::RestartNode, CommandKind::OpenShell];

    #[test]
    fn node_commands_need_a_node() {
        let context = context(lab(LabState::Running, &[("r1", NodeState::Running)]), None);
        for kind in NODE_COMMANDS {
            assert_eq!(rejected(kind, None, None, &context), RejectionCode::InvalidRequest);
            assert_eq!(rejected(kind, Some(""), None, &context), RejectionCode::InvalidRequest);
        }
    }

    #[test]
    fn node_names_are_compared_letter_for_letter() {
        let nodes = [("spine-1", NodeState::Running), ("a-b-c", NodeState::Running), ("R1", NodeState::Running)];
        let context = context(lab(LabState::Running, &nodes), None);
        for kind in NODE_COMMANDS {
            for (name, _) in nodes {
                assert_eq!(check(&command(kind, Some(name), None), &context), Ok(()));
            }
            for name in ["spine", "1", "r1", "a-b", " R1", "clab-ospf-R1"] {
                assert_eq!(rejected(kind, Some(name), None, &context), RejectionCode::NodeNotFound, "{name}");
            }
        }
    }

    #[test]
    fn node_commands_need_a_running_lab() {
        for (state, code) in [
            (LabState::Scheduled, RejectionCode::LabNotRunning),
            (LabState::Inactive, RejectionCode::LabNotRunning),
            (LabState::Deploying, RejectionCode::LabDeploying),
            (LabState::Stopping, RejectionCode::LabNotRunning),
            (LabState::Failed, RejectionCode::LabNotRunning),
        ] {
            let context = context(lab(state, &[("r1", NodeState::Absent)]), None);
            for kind in NODE_COMMANDS {
                assert_eq!(rejected(kind, Some("r1"), None, &context), code, "{state:?}");
            }
        }
    }

    #[test]
    fn a_shell_opens_only_in_a_running_node() {
        for state in [NodeState::Absent, NodeState::Starting, NodeState::Exited] {
            let context = context(lab(LabState::Running, &[("r1", state)]), None);
            assert_eq!(rejected(CommandKind::OpenShell, Some("r1"), None, &context), RejectionCode::NodeNotRunning);
        }
    }

    #[test]
    fn a_node_that_has_stopped_is_not_stopped_again() {
        let context = |state| context(lab(LabState::Running, &[("r1", state)]), None);
        let code = rejected(CommandKind::StopNode, Some("r1"), None, &context(NodeState::Exited));
        assert_eq!(code, RejectionCode::NodeNotRunning);
        for state in [NodeState::Starting, NodeState::Running, NodeState::Absent] {
            assert_eq!(check(&command(CommandKind::StopNode, Some("r1"), None), &context(state)), Ok(()));
        }
        let restart = command(CommandKind::RestartNode, Some("r1"), None);
        assert_eq!(check(&restart, &context(NodeState::Exited)), Ok(()));
    }

    #[test]
    fn a_stopped_node_may_be_started() {
        let context = context(lab(LabState::Running, &[("r1", NodeState::Exited)]), None);
        assert_eq!(check(&command(CommandKind::StartNode, Some("r1"), None), &context), Ok(()));
    }

    #[test]
    fn closing_needs_a_shell_of_this_lab() {
        let shell = |id: &str, lab: &str| {
            Some(Shell { id: id.into(), lab_id: lab.into(), node: "r1".into(), owner: "ada".into() })
        };
        let up = || lab(LabState::Running, &[("r1", NodeState::Running)]);
        let close = CommandKind::CloseShell;
        assert_eq!(rejected(close, None, None, &context(up(), None)), RejectionCode::InvalidRequest);
        assert_eq!(rejected(close, None, Some("s"), &context(up(), None)), RejectionCode::ShellNotFound);
        assert_eq!(rejected(close, None, Some("s"), &context(up(), shell("s", "other"))), RejectionCode::ShellNotFound);
        assert_eq!(check(&command(close, None, Some("s")), &context(up(), shell("s", "lab-1"))), Ok(()));
    }

    #[test]
    fn deploy_and_destroy_are_left_to_the_lifecycle() {
        for state in [LabState::Scheduled, LabState::Deploying, LabState::Running, LabState::Failed] {
            let context = context(lab(state, &[]), None);
            assert_eq!(check(&command(CommandKind::Deploy, None, None), &context), Ok(()));
            assert_eq!(check(&command(CommandKind::Destroy, None, None), &context), Ok(()));
            assert_eq!(check(&command(CommandKind::ListShells, None, None), &context), Ok(()));
        }
    }
}
