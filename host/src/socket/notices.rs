//! Turns what labs and shells publish into what clients hear. One task, so that order is kept: a namespace exists before
//! the update that announces it. It never waits for a client or a plugin, since every lab would wait with it.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::lab_updates::LabUpdate;
use super::shell_commands::{ShellCommand, ShellNotice};
use super::status_messages::StatusMessage;
use super::{Hub, logs, shells, stats};
use crate::labs::publisher::Notice;
use crate::plugins::PluginHost;
use crate::plugins::decision::{Event, Status};

/// Events that may wait to be worded by plugins.
const WORDING_QUEUE: usize = 256;

/// Runs until nothing publishes any more.
pub(super) async fn run(hub: Hub, mut notices: mpsc::Receiver<Notice>) {
    let (plugins, statuses) = (hub.plugins.clone(), Arc::clone(&hub.statuses));
    let wording = Wording::start(
        move |event| {
            let plugins = plugins.clone();
            async move { plugins.format(&event).await }
        },
        move |event, status| statuses.append(Arc::new(StatusMessage::about_lab(event, status))),
    );
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Lab(lab) => {
                logs::update(&hub, &lab);
                stats::update(&hub, &lab);
                hub.updates.append(Arc::new(LabUpdate::Lab(lab)));
            }
            Notice::LabRemoved(lab) => {
                logs::remove(&hub, &lab.lab.id);
                stats::remove(&hub, &lab.lab.id);
                hub.updates.append(Arc::new(LabUpdate::Lab(lab)));
            }
            Notice::Event(event) => wording.word(event).await,
            Notice::Ending { at, lab, end } => hub.statuses.append(Arc::new(StatusMessage::about_end(at, lab, end))),
            Notice::ShellEnded { shell, message, failed } => {
                let command = if failed { ShellCommand::Error } else { ShellCommand::Close };
                hub.shell_notices.append(Arc::new(ShellNotice { shell, command, message }));
            }
            Notice::Heard(heard) => heard.cancel(),
            Notice::ShellForgotten(shell) => hub.namespaces.remove(&hub.io, &shells::path(&shell.id)),
        }
    }
}

/// Tells clients of other plugins: that all labs may look otherwise to them, and administrators when a reload failed.
/// Runs until the server ends.
pub(super) async fn of_plugins(hub: Hub) {
    let (mut generations, mut states) = (hub.plugins.generations(), hub.plugins.reload_states());
    let mut told = None;
    loop {
        // Neither ends before the hub does.
        tokio::select! {
            () = hub.stop.cancelled() => return,
            Ok(()) = generations.changed() => {
                generations.mark_unchanged();
                hub.updates.append(Arc::new(LabUpdate::All));
            }
            Ok(()) = states.changed() => {
                let error = states.borrow_and_update().last_error.clone();
                if let Some(failure) = error.as_ref().filter(|_| error != told) {
                    hub.statuses.append(Arc::new(StatusMessage::about_reload(failure)));
                }
                told = error;
            }
        }
    }
}

/// Words events in a task of its own, in their order. When plugins are so slow that the queue is full, everything in it
/// is worded plainly, which takes no time.
struct Wording {
    queue: mpsc::Sender<Arc<Event>>,
    behind: Arc<watch::Sender<bool>>,
}

impl Wording {
    fn start<F>(
        format: impl Fn(Arc<Event>) -> F + Send + 'static,
        publish: impl Fn(Arc<Event>, Status) + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Status> + Send,
    {
        let (queue, mut events) = mpsc::channel::<Arc<Event>>(WORDING_QUEUE);
        let behind = Arc::new(watch::Sender::new(false));
        let caught_up = Arc::clone(&behind);
        tokio::spawn(async move {
            let mut behind = caught_up.subscribe();
            while let Some(event) = events.recv().await {
                let status = tokio::select! {
                    biased;
                    _ = behind.wait_for(|behind| *behind) => PluginHost::plain_wording(&event),
                    status = format(Arc::clone(&event)) => status,
                };
                publish(event, status);
                if events.is_empty() {
                    caught_up.send_replace(false);
                }
            }
        });
        Self { queue, behind }
    }

    /// Has `event` worded and published. Waits for no plugin.
    async fn word(&self, event: Arc<Event>) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.queue.try_send(event) {
            tracing::warn!("the status formatters are too slow: events are worded plainly until they are done");
            self.behind.send_replace(true);
            // An error means that the task is gone, and it ends only with this.
            let _ = self.queue.send(event).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::http::lab_json::tests::snapshot;
    use crate::plugins::decision::{Occurrence, Severity};

    #[tokio::test]
    async fn formatters_that_are_too_slow_hold_nothing_up_and_mix_nothing_up() {
        let slow = Arc::new(Semaphore::new(0));
        let (published, mut messages) = mpsc::unbounded_channel();
        let format = {
            let slow = Arc::clone(&slow);
            move |_| {
                let slow = Arc::clone(&slow);
                async move {
                    slow.acquire().await.expect("never closed").forget();
                    let (source, content, log_content) = (String::new(), String::from("by a plugin"), String::new());
                    Status { source, content, log_content, severity: Severity::Info }
                }
            }
        };
        let wording = Wording::start(format, move |event, status| {
            published.send((event.at, status.content)).expect("the test listens");
        });
        let lab = Arc::new(snapshot());
        let event = |second: usize| {
            let at = jiff::Timestamp::from_second(second.try_into().expect("small")).expect("a time");
            Arc::new(Event { at, lab: Arc::clone(&lab), by: None, what: Occurrence::LabDeployed })
        };
        let count = 3 * WORDING_QUEUE;
        for number in 0..count {
            // Returns although no plugin does.
            wording.word(event(number)).await;
        }
        // One may be with a plugin still, and a queue full behind it.
        let plain = count - WORDING_QUEUE - 1;
        for number in 0..count {
            if number == plain {
                slow.add_permits(10 * count);
            }
            let (at, content) = messages.recv().await.expect("worded");
            assert_eq!(at.as_second(), i64::try_from(number).expect("small"), "in order");
            assert!(number >= plain || content != "by a plugin");
        }
        // Once they keep up again, they are asked again.
        wording.word(event(count)).await;
        assert_eq!(messages.recv().await.expect("worded").1, "by a plugin");
    }
}
