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
    /// What readers have to get on by at least, if they are not waited for as long as they get on at all.
    rate: Option<Rate>,
}

/// The pace that readers have to keep up in the long run for a writer to wait for them.
#[derive(Debug)]
struct Rate {
    bytes_per_second: u64,
    /// Bytes that had been written when the account was opened.
    from: u64,
    /// How long the writer has waited since.
    waited: Duration,
}

impl Rate {
    /// How long the writer may still wait, with so many bytes written: as long as that many bytes take, and `patience`.
    fn left(&mut self, written: u64, patience: Duration) -> Duration {
        let bytes = written.saturating_sub(self.from);
        let earned = patience + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        // Nothing is saved up from times when nobody had to be waited for.
        self.waited = self.waited.max(earned.saturating_sub(patience));
        earned.saturating_sub(self.waited)
    }
}

impl<T: Entry> Pace<T> {
    /// For the writer of `history`. Readers may be `max_lag` bytes behind before they are waited for, and are waited for
    /// as long as `patience` while none of them gets on.
    pub fn new(history: Arc<History<T>>, max_lag: u64, patience: Duration) -> Self {
        Self { progress: history.progress(), history, max_lag, patience, deadline: None, rate: None }
    }

    /// The same, but readers who in the long run get on more slowly than this are waited for no more.
    pub fn at_least(self, bytes_per_second: u64) -> Self {
        let from = self.history.written();
        Self { rate: Some(Rate { bytes_per_second, from, waited: Duration::ZERO }), ..self }
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
            let patience = match &mut self.rate {
                None => self.patience,
                Some(rate) => rate.left(self.history.written(), self.patience).min(self.patience),
            };
            self.deadline = Some(Instant::now() + patience);
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
            let since = Instant::now();
            self.progress(Some(deadline)).await;
            if let Some(rate) = &mut self.rate {
                rate.waited += since.elapsed();
            }
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

    #[tokio::test]
    async fn readers_that_get_on_too_slowly_are_not_waited_for_for_ever() {
        let output = history();
        let patience = Duration::from_millis(50);
        let mut pace = Pace::new(Arc::clone(&output), LAG, patience).at_least(1 << 40);
        let mut reader = output.follow_new();
        for _ in 0..100 {
            output.append("x".repeat(10 * 1024).into());
        }
        // It gets on all the time, by a little.
        let slow = tokio::spawn(async move {
            loop {
                reader.advance(1);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        tokio::time::timeout(LONG / 60, pace.room()).await.expect("the writer goes on");
        assert!(output.lag() > Some(LAG), "though the reader is still behind");
        slow.abort();
    }

    #[test]
    fn what_readers_may_take_grows_with_what_is_written_and_is_not_saved_up() {
        let second = Duration::from_secs(1);
        let mut rate = Rate { bytes_per_second: 1000, from: 0, waited: Duration::ZERO };
        assert_eq!(rate.left(0, second), second);
        rate.waited += second;
        assert_eq!(rate.left(0, second), Duration::ZERO);
        assert_eq!(rate.left(500, second), second / 2);
        assert_eq!(rate.left(1_000_000, second), second);
    }
}
