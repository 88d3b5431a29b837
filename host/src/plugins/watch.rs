//! Plugins in monitor mode: asked beside the chains, with nobody waiting for them and nothing coming of their answers.
//!
//! A chain hands over what its own plugins were asked, once it has its answer, whatever that is: each watched plugin is
//! asked the same, as if it were alone, and its answer is compared with that of the whole chain. So it can be seen of a
//! plugin where it would decide otherwise before it takes the place of those in force (an answer that is stricter would
//! also be new if it were put at the end of the chain; one that is laxer would not).
//!
//! Since the call outlives the question, it takes a copy along, which is made only where a plugin is watched. When more such
//! calls run than there is room for, further ones are left out and counted as failures: a plugin that is tried out must
//! not cost the server its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::breaker::Asked;
use super::decision::CallFailure;
use super::decision_log::Question;
use super::metrics::Outcome;
use super::plugin::{Plugin, PluginInfo};
use super::record::{self, InForce, Input};

/// Calls of the watched plugins of a hook that may run or wait at once. Each has an equal part of it.
const CALLS: usize = 64;

/// The plugins of one hook that are watched.
pub(super) struct Watched {
    plugins: Vec<One>,
}

/// One of them.
#[derive(Clone)]
struct One {
    plugin: Arc<Plugin>,
    /// A room of its own: one that doesn't come to an end keeps no other from being asked.
    room: Arc<Semaphore>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    same: AtomicU64,
    stricter: AtomicU64,
    laxer: AtomicU64,
    otherwise: AtomicU64,
    failed: AtomicU64,
    left_out: AtomicU64,
}

/// How the answers of a watched plugin compare with what was decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// The same, no matter in which words.
    pub same: u64,
    /// It would have refused what was let through.
    pub stricter: u64,
    /// It would have let through what was refused.
    pub laxer: u64,
    /// Another rule, another code, another command, another identity, other words of a message.
    pub otherwise: u64,
    /// It failed.
    pub failed: u64,
    /// It wasn't asked, since too many of its calls were under way.
    pub left_out: u64,
}

impl Watched {
    pub(super) fn new(plugins: Vec<Arc<Plugin>>) -> Self {
        let calls = (CALLS / plugins.len().max(1)).max(1);
        let one = |plugin| One { plugin, room: Arc::new(Semaphore::new(calls)), counts: Arc::default() };
        Self { plugins: plugins.into_iter().map(one).collect() }
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.plugins.is_empty()
    }

    /// How they compare.
    pub(super) fn compared(&self) -> impl Iterator<Item = (PluginInfo, Compared)> {
        self.plugins.iter().map(|one| (one.plugin.info.clone(), one.counts.now()))
    }

    /// Has all of them asked what the plugins in force have decided.
    pub(super) fn ask(&self, input: Input, in_force: InForce, question: &Question<'_>) {
        let (number, wanted) = (question.number, question.wanted);
        let question = Arc::new((input, in_force));
        for one in &self.plugins {
            match one.room.clone().try_acquire_owned() {
                Ok(room) => {
                    let (one, question) = (one.clone(), question.clone());
                    tokio::spawn(async move { one.ask(room, &question.0, &question.1, number, wanted).await });
                }
                Err(_) => {
                    let failure = one.plugin.failed(CallFailure::Busy);
                    one.plugin.ask(Asked::Recorded(&question.0)).end(Outcome::from(&failure));
                    one.counts.left_out.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

impl One {
    async fn ask(&self, _room: OwnedSemaphorePermit, input: &Input, in_force: &InForce, number: u64, wanted: bool) {
        let answer = record::ask(&self.plugin, input).await;
        let same = answer.outcome.same_but_for_words(&in_force.outcome);
        let (ours, theirs) = (&answer.outcome, &in_force.outcome);
        let count = match (same, ours.is_failure(), ours.is_refusal(), theirs.is_refusal() || theirs.is_failure()) {
            (true, ..) => &self.counts.same,
            (_, true, ..) => &self.counts.failed,
            (_, _, true, false) => &self.counts.stricter,
            (_, _, false, true) => &self.counts.laxer,
            _ => &self.counts.otherwise,
        };
        count.fetch_add(1, Ordering::Relaxed);
        if !same {
            let (hook, function) = (self.plugin.info.hook, input.function());
            tracing::info!(
                plugin = self.plugin.name(), %hook, %function, question = number, in_force = theirs.name(),
                rule = ours.rule(), "would decide otherwise: {}", ours.name()
            );
        }
        // What differs is what a watched plugin is there for, whatever else is written down.
        if (wanted || !same)
            && let Some(log) = self.plugin.decision_log()
        {
            log.watched(&self.plugin, number, input.clone(), answer, in_force.clone());
        }
    }
}

impl Counts {
    fn now(&self) -> Compared {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Compared {
            same: now(&self.same),
            stricter: now(&self.stricter),
            laxer: now(&self.laxer),
            otherwise: now(&self.otherwise),
            failed: now(&self.failed),
            left_out: now(&self.left_out),
        }
    }
}
