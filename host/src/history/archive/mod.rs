//! Keeps histories of lines on disk, so that a restart of the server loses none.
//!
//! Each history has a folder of segments: text files whose name says which line they begin with and how many bytes came
//! before it. The first segment is kept for good; of those that follow, the latest few. A task per history writes what is
//! appended, in batches and after the fact: whoever appends never waits for the disk, and what a killed server loses is
//! what came in the last tenth of a second, unless it can be had again where it came from: for that, [`Archived::resume`]
//! says where to go on. A disk that can't be written costs what isn't written, and nothing else.
//!
//! | module | role |
//! |---|---|
//! | [`segments`] | writes what is appended into files, and takes away the oldest |
//! | [`kept`] | reads what an earlier server has written |
//! | [`place`] | which folder a history has, and where what can't be read is put |

mod kept;
mod place;
mod segments;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::kept::Kept;
use self::place::{decode, encode, put_aside};
use super::lines::Line;
use super::marks::{Marks, Resume};
use super::{History, Retention};
use crate::runtime::LogPosition;

/// A folder of histories. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive {
    root: PathBuf,
    retention: Retention,
    writers: TaskTracker,
    closing: CancellationToken,
}

impl Archive {
    /// The histories below `root`, of which each keeps `retention`.
    pub fn new(root: PathBuf, retention: Retention) -> Self {
        Self { root, retention, writers: TaskTracker::new(), closing: CancellationToken::new() }
    }

    /// Brings a history back, as far as it was kept; and keeps what is appended from now on.
    pub async fn open(&self, place: &[&str]) -> Archived {
        let dir = self.dir(place);
        let (read, retention) = (dir.clone(), self.retention);
        let (history, segments) = tokio::task::spawn_blocking(move || {
            let kept = Kept::read(&read).unwrap_or_else(|error| {
                tracing::error!(dir = %read.display(), %error, "a log can't be read; it is put aside and begins anew");
                // That it can't be is said there, and writing says what comes of it.
                let _ = put_aside(&read);
                Kept::default()
            });
            kept.restore(&read, retention)
        })
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let (history, marks) = (Arc::new(history), Arc::clone(&segments.marks));
        let ended = CancellationToken::new();
        let follower = history.follow_aside();
        let (closing, guard) = (self.closing.clone(), ended.clone().drop_guard());
        self.writers.spawn(async move {
            let _guard = guard;
            segments::write(follower, segments, closing).await;
        });
        Archived { history, marks, dir, ended }
    }

    /// Whether anything is kept of this history.
    pub fn has(&self, place: &[&str]) -> bool {
        fs::read_dir(self.dir(place)).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Names of the histories, or of the folders of such, at `place`.
    pub fn names(&self, place: &[&str]) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir(place)) else { return Vec::new() };
        let mut names: Vec<String> = entries.filter_map(|entry| decode(entry.ok()?.file_name().to_str()?)).collect();
        names.sort();
        names
    }

    /// Removes all that is kept at `place`. To be called when no history there is open.
    pub async fn remove(&self, place: &[&str]) {
        remove(&self.dir(place)).await;
    }

    /// Writes what is still to be written. Nothing is kept of what is appended later.
    pub async fn close(&self) {
        self.closing.cancel();
        self.writers.close();
        self.writers.wait().await;
    }

    fn dir(&self, place: &[&str]) -> PathBuf {
        place.iter().fold(self.root.clone(), |dir, name| dir.join(encode(name)))
    }
}

/// An open history of an archive.
#[derive(Debug)]
pub struct Archived {
    history: Arc<History<Line>>,
    marks: Arc<Marks>,
    dir: PathBuf,
    /// Cancelled when its writer has ended.
    ended: CancellationToken,
}

impl Archived {
    /// The history itself.
    pub fn history(&self) -> &Arc<History<Line>> {
        &self.history
    }

    /// Where to go on reading `source`, of which the lines of this history come, so that none is missing and none comes
    /// twice; also after a restart of the server, however it ended. Each of what this history is made of in turn has a
    /// name of its own. To be called by the only one who appends.
    pub fn resume(&self, source: &str) -> Resume {
        self.marks.resume(source, self.history.count())
    }

    /// Appends a line that isn't of the source.
    pub fn insert(&self, line: Line) {
        // First: what isn't marked as a stranger would be taken for one of the source's.
        self.marks.insert(self.history.count());
        self.history.append(line);
    }

    /// Says that the source has been replaced: what comes next is the beginning of what is read of it from now on.
    pub fn begin_again(&self) {
        self.marks.begin_again(self.history.count());
    }

    /// Says that with the lines so far, the source was read up to this position, and no piece of a line is kept elsewhere.
    pub fn reached(&self, position: LogPosition) {
        self.marks.reached(self.history.count(), position);
    }

    /// Closes the history, and waits until all of it is written.
    pub async fn close(&self) {
        self.history.close();
        self.ended.cancelled().await;
    }

    /// Closes the history and removes what is kept of it.
    pub async fn remove(&self) {
        self.close().await;
        remove(&self.dir).await;
    }
}

async fn remove(dir: &Path) {
    match tokio::fs::remove_dir_all(dir).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(dir = %dir.display(), %error, "a log could not be removed"),
    }
}
