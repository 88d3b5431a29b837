//! Plain wording for events that no formatter words: a message is never lost, whatever happens to the plugins.

use super::decision::{Event, Occurrence, Severity, Status};

/// Words an event without any plugin.
pub(super) fn plain(event: &Event) -> Status {
    use Severity::{Error, Info, Success, Warning};
    let lab = &event.lab.lab;
    let (what, reason, severity) = match &event.what {
        Occurrence::LabDeploying => ("deploying", "", Info),
        Occurrence::LabDeployed => ("deployed", "", Success),
        Occurrence::LabDeployFailed { reason, .. } => ("deploy failed", reason.as_str(), Error),
        Occurrence::LabDeployCancelled => ("deploy cancelled", "", Warning),
        Occurrence::LabDestroying => ("destroying", "", Info),
        Occurrence::LabDestroyed => ("destroyed", "", Success),
        Occurrence::LabDestroyFailed { reason, .. } => ("destroy failed", reason.as_str(), Error),
        Occurrence::LabMissed => ("start missed", "", Warning),
        Occurrence::LabRecovered => ("recovered", "", Info),
        Occurrence::LabLost { reason, .. } => ("lost", reason.as_str(), Error),
        Occurrence::NodeStarted(node) => ("node started", node.name.as_str(), Success),
        Occurrence::NodeStopped(node) => ("node stopped", node.name.as_str(), Success),
        Occurrence::NodeRestarted(node) => ("node restarted", node.name.as_str(), Success),
        Occurrence::NodeExited(node) => ("node exited", node.name.as_str(), Warning),
        Occurrence::NodeFailed { reason, .. } => ("node failed", reason.as_str(), Error),
        Occurrence::ShellOpened(shell) => ("shell opened", shell.node.as_str(), Info),
        Occurrence::ShellClosed(shell) => ("shell closed", shell.node.as_str(), Info),
        Occurrence::ShellFailed { reason, .. } => ("shell failed", reason.as_str(), Error),
    };
    let mut content = format!("Lab {}: {what}", lab.name);
    if !reason.is_empty() {
        content.push_str(": ");
        content.push_str(reason);
    }
    let log_content = format!("{content} (lab {})", lab.id);
    Status { source: "Antimony".into(), content, log_content, severity }
}
