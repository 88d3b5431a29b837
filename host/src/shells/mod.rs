//! Terminal sessions: who has which open, how many they may have, and what is kept of those that have ended.
//!
//! `socket` opens, closes and lists them here and reads and writes their [`Session`]s. Each session has a task of its own
//! ([`session`]) that owns the terminal. Whether somebody may open or close one is not decided here.

mod login;
mod session;
mod utf8;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::labs::Labs;
use crate::labs::model::{LabId, LabSnapshot, ShellId, UserId};
use crate::labs::publisher::Notice;
use crate::plugins::decision::{Event, Occurrence, ShellInfo};
use crate::runtime::{PtyRequest, RuntimeDriver, RuntimeError};

pub use self::login::{Commands, LoginCommands};
pub use self::session::{InputError, Session};

/// Columns and rows of a terminal before anybody has said how large it is.
const INITIAL_SIZE: (u16, u16) = (80, 24);

/// Limits and habits of shells.
#[derive(Debug, Clone)]
pub struct ShellOptions {
    /// How many a user may have open at once.
    pub user_limit: u32,
    /// After how long without input or output one is closed.
    pub idle_timeout: Duration,
    /// How long opening one may take.
    pub open_timeout: Duration,
    /// How long one that has ended can still be read.
    pub retention: Duration,
    /// What is run in a node.
    pub commands: LoginCommands,
}

impl Default for ShellOptions {
    fn default() -> Self {
        Self {
            user_limit: 20,
            idle_timeout: Duration::from_secs(1800),
            open_timeout: Duration::from_secs(15),
            retention: Duration::from_secs(300),
            commands: LoginCommands::default(),
        }
    }
}

/// Why a shell wasn't opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The user has as many as they may have.
    #[error("you have {0} shells open, which is as many as one user may have: close one first")]
    Limit(u32),
    /// The server ends.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The lab has no instance.
    #[error("the lab is not running")]
    LabNotRunning,
    /// The runtime couldn't open one.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Handle to all shells. Cheap to clone.
#[derive(Clone)]
pub struct Shells {
    inner: Arc<Inner>,
}

struct Inner {
    driver: Arc<dyn RuntimeDriver>,
    labs: Labs,
    options: ShellOptions,
    /// Open sessions, and ended ones for as long as they are kept.
    sessions: RwLock<HashMap<ShellId, Arc<Session>>>,
    /// Ended sessions that are kept.
    ended: Mutex<Ended>,
    /// Cancelled when no more may be opened. Under the lock of `sessions`, so that none is opened behind the back of
    /// whoever closes all.
    closing: CancellationToken,
    /// How many each user has open or is opening. Counted before a terminal is opened, so that twenty requests at once
    /// can't all find the last free place.
    places: Mutex<HashMap<UserId, u32>>,
}

impl Shells {
    /// No shells yet.
    pub fn new(driver: Arc<dyn RuntimeDriver>, labs: Labs, options: ShellOptions) -> Self {
        let inner = Inner {
            driver,
            labs,
            options,
            sessions: RwLock::default(),
            ended: Mutex::default(),
            closing: CancellationToken::new(),
            places: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Opens a shell in a node of a running lab.
    ///
    /// # Errors
    /// [`OpenError`]; nothing half open is left.
    pub async fn open(&self, lab: &Arc<LabSnapshot>, node: &str, owner: &UserId) -> Result<Arc<Session>, OpenError> {
        let place = self.take_place(owner)?;
        let instance = lab.instance.as_ref().ok_or(OpenError::LabNotRunning)?;
        let kind = instance.nodes.iter().find(|each| each.name == node).map_or("", |node| &node.kind);
        let request = PtyRequest {
            size: INITIAL_SIZE,
            commands: self.inner.options.commands.of(kind).clone(),
            timeout: self.inner.options.open_timeout,
        };
        let pty = self.inner.driver.open_pty(&instance.name, node, request).await?;
        let info = ShellInfo {
            id: ShellId::generate(),
            lab_id: lab.lab.id.clone(),
            node: node.to_owned(),
            owner: owner.clone(),
        };
        let (session, ended) = self.sessions_mut(|sessions| {
            if self.inner.closing.is_cancelled() {
                return Err(OpenError::ShuttingDown);
            }
            let (session, ended) = session::start(info, pty, self.inner.options.idle_timeout, place);
            sessions.insert(session.info().id.clone(), Arc::clone(&session));
            Ok((session, ended))
        })?;
        tokio::spawn(self.clone().see_through(Arc::clone(&session), Arc::clone(lab), ended));
        Ok(session)
    }

    /// Follows a session to its end, and keeps what it printed for a while after.
    async fn see_through(
        self,
        session: Arc<Session>,
        opened_in: Arc<LabSnapshot>,
        ended: impl Future<Output = session::Ending>,
    ) {
        let shell = session.info().clone();
        self.announce(&opened_in, Some(&shell.owner), Occurrence::ShellOpened(shell.clone())).await;
        let ending = ended.await;
        let message = ending.to_string();
        let failed = ending.is_failure();
        let notice = Notice::ShellEnded { shell: shell.clone(), message: message.clone(), failed };
        self.inner.labs.publisher().publish(notice).await;
        let what = if failed {
            Occurrence::ShellFailed { shell: shell.clone(), reason: message }
        } else {
            Occurrence::ShellClosed(shell.clone())
        };
        self.announce(&opened_in, None, what).await;
        let crowded_out = self.ended(|ended| ended.keep(&shell, self.inner.options.user_limit));
        tokio::select! {
            () = tokio::time::sleep(self.inner.options.retention) => {}
            () = crowded_out.cancelled() => {}
        }
        self.sessions_mut(|sessions| sessions.remove(&shell.id));
        self.ended(|ended| ended.forget(&shell));
        self.inner.labs.publisher().publish(Notice::ShellForgotten(shell)).await;
    }

    async fn announce(&self, opened_in: &Arc<LabSnapshot>, by: Option<&UserId>, what: Occurrence) {
        // The lab as it is now; where it has been deleted meanwhile, as it was.
        let lab = self.inner.labs.get(&opened_in.lab.id).unwrap_or_else(|| Arc::clone(opened_in));
        let event = Event { at: jiff::Timestamp::now(), lab, by: by.cloned(), what };
        self.inner.labs.publisher().publish(Notice::Event(Arc::new(event))).await;
    }

    /// The session with this id, open or ended.
    pub fn get(&self, id: &ShellId) -> Option<Arc<Session>> {
        self.inner.sessions.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The open shells of a user in a lab, oldest first.
    pub fn list(&self, lab: &LabId, owner: &UserId) -> Vec<ShellInfo> {
        let sessions = self.inner.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let mut open: Vec<ShellInfo> = sessions
            .values()
            .filter(|session| session.is_open())
            .map(|session| session.info().clone())
            .filter(|info| info.lab_id == *lab && info.owner == *owner)
            .collect();
        // Ids are ordered by time.
        open.sort_by(|a, b| a.id.cmp(&b.id));
        open
    }

    /// How many shells a user has open or is opening.
    pub fn count(&self, owner: &UserId) -> u32 {
        self.inner.places.lock().unwrap_or_else(PoisonError::into_inner).get(owner).copied().unwrap_or(0)
    }

    /// How many shells all users have open or are opening.
    pub fn total(&self) -> u32 {
        self.inner.places.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Closes every open shell, lets no more be opened, and waits until their processes have ended.
    pub async fn close_all(&self) {
        let sessions: Vec<_> = self.sessions_mut(|sessions| {
            self.inner.closing.cancel();
            sessions.values().cloned().collect()
        });
        for session in &sessions {
            session.request_close("the server is shutting down");
        }
        for session in sessions {
            session.ended().await;
        }
    }

    fn sessions_mut<R>(&self, change: impl FnOnce(&mut HashMap<ShellId, Arc<Session>>) -> R) -> R {
        change(&mut self.inner.sessions.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn ended<R>(&self, change: impl FnOnce(&mut Ended) -> R) -> R {
        change(&mut self.inner.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_place(&self, owner: &UserId) -> Result<Place, OpenError> {
        let limit = self.inner.options.user_limit;
        let mut places = self.inner.places.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = places.entry(owner.clone()).or_insert(0);
        if *taken >= limit {
            return Err(OpenError::Limit(limit));
        }
        *taken += 1;
        Ok(Place { inner: Arc::clone(&self.inner), owner: owner.clone() })
    }
}

/// One of the shells that a user may have; given back when dropped.
struct Place {
    inner: Arc<Inner>,
    owner: UserId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.inner.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = places.get_mut(&self.owner) {
            *taken -= 1;
            if *taken == 0 {
                places.remove(&self.owner);
            }
        }
    }
}

/// Which ended sessions are kept, of each user, oldest first, and what ends the keeping.
#[derive(Default)]
struct Ended(HashMap<UserId, VecDeque<(ShellId, CancellationToken)>>);

impl Ended {
    /// Adds one. The oldest of the same user beyond `limit` are to be forgotten early: what was returned for them is
    /// cancelled.
    fn keep(&mut self, shell: &ShellInfo, limit: u32) -> CancellationToken {
        let crowded_out = CancellationToken::new();
        let kept = self.0.entry(shell.owner.clone()).or_default();
        kept.push_back((shell.id.clone(), crowded_out.clone()));
        while kept.len() > limit as usize {
            let (_, oldest) = kept.pop_front().expect("it isn't empty");
            oldest.cancel();
        }
        crowded_out
    }

    fn forget(&mut self, shell: &ShellInfo) {
        if let Some(kept) = self.0.get_mut(&shell.owner) {
            kept.retain(|(id, _)| *id != shell.id);
            if kept.is_empty() {
                self.0.remove(&shell.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_user_as_many_ended_shells_are_kept_as_may_be_open() {
        let shell = |id: &str, owner: &str| ShellInfo {
            id: id.into(),
            lab_id: "l".into(),
            node: "r1".into(),
            owner: owner.into(),
        };
        let mut ended = Ended::default();
        let others = ended.keep(&shell("0", "v"), 2);
        let kept: Vec<_> = ["1", "2", "3"].map(|id| ended.keep(&shell(id, "u"), 2)).into();
        assert_eq!(kept.iter().map(CancellationToken::is_cancelled).collect::<Vec<_>>(), [true, false, false]);
        assert!(!others.is_cancelled());
        ended.forget(&shell("1", "u"));
        ended.forget(&shell("2", "u"));
        ended.keep(&shell("4", "u"), 2);
        assert!(!kept[2].is_cancelled(), "there was room again");
        for (id, owner) in [("0", "v"), ("3", "u"), ("4", "u")] {
            ended.forget(&shell(id, owner));
        }
        assert!(ended.0.is_empty());
    }
}
