//! `formatter`: events and status messages.

use super::types::{lab, node, shell, timestamp};
use super::{Arena, NAME, SENTENCE, line};
use crate::labs::model::NodeStatus;
use crate::plugins::bindings::exports::antimony::plugin::formatter as wit;
use crate::plugins::decision::{Event, Occurrence, Severity, ShellInfo, Status};

/// How much of a runtime's output goes along with a failure, and of a message in full is kept, in bytes.
const DETAIL: usize = 64 << 10;

pub(in crate::plugins) fn event<'a>(arena: &'a Arena, event: &'a Event) -> wit::Event<'a> {
    let by = event.by.as_ref().map(|user| user.as_str());
    let at = lab(arena, &event.lab);
    let on_lab = |at| wit::LabEvent { lab: at, by };
    let failed = |at, reason: &'a str, detail: &'a str| wit::LabFailure { lab: at, by, reason, detail: tail(detail) };
    let on_node = |at, of: &'a NodeStatus| wit::NodeEvent { lab: at, node: node(arena, &event.lab, of), by };
    let on_shell = |at, of: &'a ShellInfo| wit::ShellEvent { shell: shell(of), lab: at };
    let what = match &event.what {
        Occurrence::LabDeploying => wit::Occurrence::LabDeploying(on_lab(at)),
        Occurrence::LabDeployed => wit::Occurrence::LabDeployed(on_lab(at)),
        Occurrence::LabDeployFailed { reason, detail } => wit::Occurrence::LabDeployFailed(failed(at, reason, detail)),
        Occurrence::LabDeployCancelled => wit::Occurrence::LabDeployCancelled(on_lab(at)),
        Occurrence::LabDestroying => wit::Occurrence::LabDestroying(on_lab(at)),
        Occurrence::LabDestroyed => wit::Occurrence::LabDestroyed(on_lab(at)),
        Occurrence::LabDestroyFailed { reason, detail } => {
            wit::Occurrence::LabDestroyFailed(failed(at, reason, detail))
        }
        Occurrence::LabMissed => wit::Occurrence::LabMissed(on_lab(at)),
        Occurrence::LabRecovered => wit::Occurrence::LabRecovered(on_lab(at)),
        Occurrence::LabLost { reason, detail } => wit::Occurrence::LabLost(failed(at, reason, detail)),
        Occurrence::NodeStarted(of) => wit::Occurrence::NodeStarted(on_node(at, of)),
        Occurrence::NodeStopped(of) => wit::Occurrence::NodeStopped(on_node(at, of)),
        Occurrence::NodeRestarted(of) => wit::Occurrence::NodeRestarted(on_node(at, of)),
        Occurrence::NodeExited(of) => wit::Occurrence::NodeExited(on_node(at, of)),
        Occurrence::NodeFailed { node: of, reason } => {
            let node = node(arena, &event.lab, of);
            wit::Occurrence::NodeFailed(wit::NodeFailure { lab: at, node, by, reason })
        }
        Occurrence::ShellOpened(of) => wit::Occurrence::ShellOpened(on_shell(at, of)),
        Occurrence::ShellClosed(of) => wit::Occurrence::ShellClosed(on_shell(at, of)),
        Occurrence::ShellFailed { shell: of, reason } => {
            wit::Occurrence::ShellFailed(wit::ShellFailure { shell: shell(of), lab: at, reason })
        }
    };
    wit::Event { at: timestamp(event.at), what }
}

/// What of a message in full is kept: its beginning.
fn head(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(DETAIL));
    text
}

fn tail(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(DETAIL))..]
}

pub(in crate::plugins) fn status(status: wit::Status) -> Status {
    Status {
        source: line(status.source, NAME),
        content: line(status.content, SENTENCE),
        log_content: head(status.log_content),
        severity: match status.severity {
            wit::Severity::Success => Severity::Success,
            wit::Severity::Info => Severity::Info,
            wit::Severity::Warning => Severity::Warning,
            wit::Severity::Error => Severity::Error,
            wit::Severity::Fatal => Severity::Fatal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_output_the_end_is_kept() {
        let long = format!("{}é{}", "x".repeat(10), "y".repeat(DETAIL - 1));
        assert_eq!(tail(&long), "y".repeat(DETAIL - 1));
        assert_eq!(tail("short"), "short");
        assert_eq!(head(format!("{}éé", "x".repeat(DETAIL - 1))), "x".repeat(DETAIL - 1));
    }
}
