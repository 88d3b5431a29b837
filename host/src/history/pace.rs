//! Makes a writer wait for its readers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Entry, History};

/// Whether a writer may go on: not while every reader is far behind. Readers that don't get on at all are waited for once,
/// and then no more until one does; without readers there is nothing to wait for.
#[derive(Debug)]
pub struct Pace<T> {
    history: Arc<History<T>>,
    progress: watch::Receiver<()>,
    /// Bytes that the reader who is least behind may be behind.
    max_lag: u64,
    /// How long readers are waited for of whom none gets on.
    patience: Duration,
    /// Until when the writer waits, unless somebody gets on before.
    deadline: Option<Instant>,
}

impl<T: Entry> Pace<T> {
    /// For the writer of `history`. Readers may be `max_lag` bytes behind before they are waited for, and are waited for
    /// as long as `patience` while none of them gets on.
    pub fn new(history: Arc<History<T>>, max_lag: u64, patience: Duration) -> Self {
        Self { progress: history.progress(), history, max_lag, patience, deadline: None }
    }

    /// Until when the writer has to wait for readers to get on; `None`: it may go on.
    pub fn wait_until(&mut self) -> Option<Instant> {
        // Looked at before the lag: what changes in between is seen the next time.
        let progress = self.progress.has_changed().unwrap_or(false);
        self.progress.mark_unchanged();
        if self.history.lag().is_none_or(|lag| lag <= self.max_lag) {
            self.deadline = None;
            return None;
        }
        if progress || self.deadline.is_none() {
            self.deadline = Some(Instant::now() + self.patience);
        }
        self.deadline.filter(|deadline| *deadline > Instant::now())
    }

    /// Ready when a reader has got on, or when `deadline` has come.
    pub async fn progress(&self, deadline: Option<Instant>) {
        let mut progress = self.progress.clone();
        let deadline = deadline.unwrap_or_else(Instant::now);
        // The history, and with it the sender, is held by this.
        let _ = tokio::time::timeout_at(deadline, progress.changed()).await;
    }

    /// Ready when the writer may go on.
    pub async fn room(&mut self) {
        while let Some(deadline) = self.wait_until() {
            self.progress(Some(deadline)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Retention;

    const LAG: u64 = 256 * 1024;
    const LONG: Duration = Duration::from_secs(3600);

    fn history() -> Arc<History<Arc<str>>> {
        Arc::new(History::new(Retention::latest(1024 * 1024)))
    }

    #[test]
    fn readers_are_waited_for_as_long_as_one_gets_on() {
        let output = history();
        let print = || output.append("x".repeat(300 * 1024).into());
        let mut pace = Pace::new(Arc::clone(&output), LAG, LONG);
        print();
        assert_eq!(pace.wait_until(), None, "nobody is there");
        let (mut near, far) = (output.follow_new(), output.follow_new());
        assert_eq!(pace.wait_until(), None, "nobody is behind");
        print();
        print();
        assert!(pace.wait_until().is_some(), "both are behind");
        near.advance(2);
        assert_eq!(pace.wait_until(), None, "one is not");
        print();
        assert!(pace.wait_until().is_some());
        drop((near, far));
        assert_eq!(pace.wait_until(), None, "nobody is there any more");
    }

    #[test]
    fn readers_of_whom_none_gets_on_are_waited_for_once() {
        let output = history();
        let mut pace = Pace::new(Arc::clone(&output), LAG, LONG);
        let mut reader = output.follow_new();
        for _ in 0..3 {
            output.append("x".repeat(300 * 1024).into());
        }
        let first = pace.wait_until();
        assert!(first.is_some());
        assert_eq!(pace.wait_until(), first, "waiting doesn't begin anew by itself");
        pace.deadline = Some(Instant::now());
        assert_eq!(pace.wait_until(), None, "it has been long enough");
        assert_eq!(pace.wait_until(), None);
        reader.advance(1);
        assert!(pace.wait_until() > first, "it looks again");
    }

    #[test]
    fn whoever_nobody_waits_for_is_no_reason_to_wait_longer() {
        let output = history();
        let mut pace = Pace::new(Arc::clone(&output), LAG, LONG);
        let (_stuck, mut aside) = (output.follow_new(), output.follow_aside());
        for _ in 0..3 {
            output.append("x".repeat(300 * 1024).into());
        }
        let first = pace.wait_until();
        aside.advance(1);
        assert_eq!(pace.wait_until(), first, "waited for is somebody else");
        pace.deadline = Some(Instant::now());
        aside.advance(1);
        assert_eq!(pace.wait_until(), None, "it has been long enough");
    }
}
