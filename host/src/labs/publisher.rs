//! Tells the edges what changes. Labs and shells publish; whoever subscribes gets every notice, in order.
//!
//! Each subscriber has a bounded queue, and publishing waits while one is full: a notice is never lost. A subscriber
//! must therefore never wait for a lab or a shell while it handles a notice.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::model::LabSnapshot;
use crate::plugins::decision::{Event, ShellInfo};

/// Notices that may wait for one subscriber.
const QUEUE: usize = 1024;

/// Something changed.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A lab was created, or is not what it was.
    Lab(Arc<LabSnapshot>),
    /// A lab was deleted; this is how it was.
    LabRemoved(Arc<LabSnapshot>),
    /// Something happened that users are told of in words.
    Event(Arc<Event>),
    /// A lab that runs will be destroyed at its end time, and that is near.
    Ending {
        /// When this was found.
        at: Timestamp,
        /// The lab.
        lab: Arc<LabSnapshot>,
        /// When it ends.
        end: Timestamp,
    },
    /// A shell has ended.
    ShellEnded {
        /// The shell.
        shell: ShellInfo,
        /// How it ended, in a sentence.
        message: String,
        /// Whether it broke, rather than was closed.
        failed: bool,
    },
    /// What was kept of an ended shell is no longer kept.
    ShellForgotten(ShellInfo),
    /// Nothing changed; whoever handles this has handled all that came before, and cancels the token.
    Heard(CancellationToken),
}

/// Hands notices to all subscribers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Publisher {
    subscribers: Arc<Mutex<Vec<mpsc::Sender<Notice>>>>,
}

impl Publisher {
    /// All notices from now on.
    pub fn subscribe(&self) -> mpsc::Receiver<Notice> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Ready when the one subscriber has handled every notice that was published before.
    pub async fn heard(&self) {
        let heard = CancellationToken::new();
        self.publish(Notice::Heard(heard.clone())).await;
        heard.cancelled().await;
    }

    /// Hands `notice` to every subscriber, waiting for those whose queue is full.
    pub async fn publish(&self, notice: Notice) {
        let subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for subscriber in &subscribers {
            // A subscriber that has gone is none: the edges end only with the server.
            let _ = subscriber.send(notice.clone()).await;
        }
    }
}
