//! Turns what labs and shells publish into what clients hear. One task, so that order is kept: a namespace exists before
//! the update that announces it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::lab_updates::LabUpdate;
use super::shell_commands::{ShellCommand, ShellNotice};
use super::status_messages::StatusMessage;
use super::{Hub, logs, shells};
use crate::labs::publisher::Notice;

/// Runs until nothing publishes any more.
pub(super) async fn run(hub: Hub, mut notices: mpsc::Receiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Lab(lab) => {
                if lab.instance.is_some() {
                    logs::ensure(&hub, &lab.lab.id);
                }
                hub.updates.append(Arc::new(LabUpdate { lab }));
            }
            Notice::LabRemoved(lab) => {
                hub.namespaces.remove(&hub.io, &logs::path(&lab.lab.id));
                hub.updates.append(Arc::new(LabUpdate { lab }));
            }
            Notice::Event(event) => {
                let status = hub.plugins.format(&event).await;
                hub.statuses.append(Arc::new(StatusMessage::new(event, status)));
            }
            Notice::ShellEnded { shell, message, failed } => {
                let command = if failed { ShellCommand::Error } else { ShellCommand::Close };
                hub.shell_notices.append(Arc::new(ShellNotice { shell, command, message }));
            }
            Notice::ShellForgotten(shell) => hub.namespaces.remove(&hub.io, &shells::path(&shell.id)),
        }
    }
}
