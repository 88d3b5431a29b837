//! Captures of packets: who may have how many, until when each goes on, and how it is written down.
//!
//! `http` opens a [`Session`] here and sends on what it gives. Nothing runs in the background: a session is read, or it
//! stands still while the kernel's ring fills and then drops packets, which are counted; dropping it ends everything.
//! Whether somebody may capture is not decided here.

mod command;
mod config;
mod pcap;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use self::command::{CommandLine, Place, Template};
pub use self::config::CaptureConfig;
pub use self::session::{End, Session};
use crate::labs::model::{LabSnapshot, UserId};
use crate::runtime::capture::{CaptureOptions, MAX_SNAPLEN};
use crate::runtime::{RuntimeDriver, RuntimeError};

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The operator wants none.
    #[error("this server captures no packets: its operator has set capture.enabled to false")]
    Off,
    /// The operator wants none at this interface.
    #[error("nothing is captured at interface {0}: the operator has named it in capture.excludedInterfaces")]
    Excluded(String),
    /// The user has as many as they may have.
    #[error("{0} captures of yours go on, which is as many as one user may have: end one first")]
    UserLimit(u32),
    /// There are as many as there may be.
    #[error("{0} captures go on, which is as many as this server may have at once: try again later")]
    Limit(u32),
    /// The lab has no instance.
    #[error("the lab is not running")]
    LabNotRunning,
    /// The lab has no such node.
    #[error("there is no node {node} in the lab; there are {}", .nodes.join(", "))]
    NoNode {
        /// The one that was asked for.
        node: String,
        /// Those that there are.
        nodes: Vec<String>,
    },
    /// The server ends.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The runtime couldn't do it.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// What somebody wants to capture.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Name of the node.
    pub node: &'a str,
    /// Name of the interface in it.
    pub interface: &'a str,
    /// Most bytes that are kept of a packet.
    pub snaplen: u32,
    /// Whether packets are wanted that are not for the interface, too.
    pub promiscuous: bool,
    /// After how many packets it shall end.
    pub packets: Option<u64>,
    /// After how long it shall end.
    pub time: Option<Duration>,
}

impl<'a> Wish<'a> {
    /// Everything that passes an interface, until further notice.
    pub fn all(node: &'a str, interface: &'a str) -> Self {
        Self { node, interface, snaplen: MAX_SNAPLEN, promiscuous: false, packets: None, time: None }
    }
}

/// Handle to all captures. Cheap to clone.
#[derive(Clone)]
pub struct Captures {
    inner: Arc<Inner>,
}

struct Inner {
    driver: Arc<dyn RuntimeDriver>,
    config: CaptureConfig,
    /// Cancelled when the server ends, and all captures with it.
    stop: CancellationToken,
    taken: Mutex<Taken>,
}

/// How many captures go on, or are about to.
#[derive(Debug, Default)]
struct Taken {
    all: u32,
    by_user: HashMap<UserId, u32>,
}

impl Captures {
    /// No captures yet. They end when `stop` is cancelled.
    pub fn new(driver: Arc<dyn RuntimeDriver>, config: CaptureConfig, stop: CancellationToken) -> Self {
        Self { inner: Arc::new(Inner { driver, config, stop, taken: Mutex::default() }) }
    }

    /// How many go on.
    pub fn count(&self) -> u32 {
        self.inner.taken.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// Whether `wish` could be fulfilled, as far as that can be known without beginning.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn check(&self, lab: &LabSnapshot, wish: Wish<'_>) -> Result<(), CaptureError> {
        let config = &self.inner.config;
        if !config.enabled {
            return Err(CaptureError::Off);
        }
        let instance = lab.instance.as_ref().ok_or(CaptureError::LabNotRunning)?;
        if !instance.nodes.iter().any(|node| node.name == wish.node) {
            let nodes = instance.nodes.iter().map(|node| node.name.clone()).collect();
            return Err(CaptureError::NoNode { node: wish.node.to_owned(), nodes });
        }
        if config.excludes(wish.interface) {
            return Err(CaptureError::Excluded(wish.interface.to_owned()));
        }
        Ok(())
    }

    /// Begins to capture in a running lab. It goes on until it is dropped, what `wish` says is reached, the node or the
    /// server ends, or `revoked` is ready, which says why.
    ///
    /// # Errors
    /// [`CaptureError`]; nothing is left then.
    pub async fn open(
        &self,
        lab: &LabSnapshot,
        wish: Wish<'_>,
        by: &UserId,
        revoked: BoxFuture<'static, &'static str>,
    ) -> Result<Session, CaptureError> {
        self.check(lab, wish)?;
        if self.inner.stop.is_cancelled() {
            return Err(CaptureError::ShuttingDown);
        }
        let instance = lab.instance.as_ref().ok_or(CaptureError::LabNotRunning)?;
        // Before anything is opened, so that many requests at once can't all find the last free place.
        let place = self.take_place(by)?;
        let options = CaptureOptions {
            snaplen: wish.snaplen,
            promiscuous: wish.promiscuous,
            buffer: self.inner.config.buffer_bytes,
        };
        let capture = self.inner.driver.capture(&instance.name, wish.node, wish.interface, &options).await?;
        let stop = self.inner.stop.clone();
        Ok(Session::new(capture, lab, wish, place, async move {
            tokio::select! {
                () = stop.cancelled() => End::ShuttingDown,
                why = revoked => End::Revoked(why),
            }
        }))
    }

    fn take_place(&self, user: &UserId) -> Result<Taking, CaptureError> {
        let config = &self.inner.config;
        let mut taken = self.inner.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.by_user.get(user).copied().unwrap_or(0) >= config.limit_per_user {
            return Err(CaptureError::UserLimit(config.limit_per_user));
        }
        if taken.all >= config.limit {
            return Err(CaptureError::Limit(config.limit));
        }
        taken.all += 1;
        *taken.by_user.entry(user.clone()).or_insert(0) += 1;
        Ok(Taking { inner: Arc::clone(&self.inner), user: user.clone() })
    }
}

/// A place among the captures, until it is dropped.
struct Taking {
    inner: Arc<Inner>,
    user: UserId,
}

impl Drop for Taking {
    fn drop(&mut self) {
        let mut taken = self.inner.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(count) = taken.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}
