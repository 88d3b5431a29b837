//! Who may see what of which lab: one decision per identity and lab, shared by all sockets, updates and status messages.
//!
//! A decision counts for as long as the lab is what it was and the same plugins are in force, and for [`MAX_AGE`] at most, since a policy may look at the
//! time and at figures too. Whoever asks while one is being made waits for the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::Hub;
use crate::auth::Identity;
use crate::labs::model::{LabId, LabSnapshot, ShellId};
use crate::plugins::decision::{Action, Namespace, Refusal, ShellInfo};

/// How long a decision counts while nothing changes that it was made from.
const MAX_AGE: Duration = Duration::from_secs(10);
/// Decisions that are kept before old ones are looked for.
const SWEEP_AT: usize = 1024;

/// What of a lab somebody may see, or not.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sight<'a> {
    /// That it exists, and how it is.
    Lab,
    /// Its log.
    LabLog,
    /// The log of this node.
    NodeLog(&'a str),
    /// What happens in this shell.
    Shell(&'a ShellInfo),
}

/// Decisions that were made lately.
#[derive(Debug, Default)]
pub(super) struct Decisions(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    decisions: HashMap<Key, Arc<Decision>>,
    sweep_at: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    user: Arc<Identity>,
    lab: LabId,
    sight: OwnedSight,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum OwnedSight {
    Lab,
    LabLog,
    NodeLog(String),
    Shell(ShellId),
}

#[derive(Debug)]
struct Decision {
    /// What it was made from.
    lab: Arc<LabSnapshot>,
    /// By which plugins, or later ones.
    generation: u64,
    made: Instant,
    result: OnceCell<Result<(), Refusal>>,
}

impl Decision {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.made) < MAX_AGE
    }
}

impl Decisions {
    /// The decision that counts at `now`, made or not.
    fn of(&self, key: Key, lab: &Arc<LabSnapshot>, generation: u64, now: Instant) -> Arc<Decision> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts =
            |known: &Decision| Arc::ptr_eq(&known.lab, lab) && known.generation == generation && known.is_fresh(now);
        if let Some(known) = kept.decisions.get(&key).filter(|known| counts(known)) {
            return Arc::clone(known);
        }
        if kept.decisions.len() >= kept.sweep_at {
            kept.decisions.retain(|_, decision| decision.is_fresh(now));
            kept.sweep_at = SWEEP_AT.max(2 * kept.decisions.len());
        }
        let decision = Decision { lab: Arc::clone(lab), generation, made: now, result: OnceCell::new() };
        let decision = Arc::new(decision);
        kept.decisions.insert(key, Arc::clone(&decision));
        decision
    }

    /// Lets go of a decision, unless another has taken its place.
    fn forget(&self, key: &Key, decision: &Arc<Decision>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.decisions.get(key).is_some_and(|known| Arc::ptr_eq(known, decision)) {
            kept.decisions.remove(key);
        }
    }
}

/// Whether `user` may see this of a lab; the lab as it is now, or as it was where it has gone.
///
/// # Errors
/// The policy's refusal.
pub(super) async fn allowed(
    hub: &Hub,
    user: &Arc<Identity>,
    lab: &Arc<LabSnapshot>,
    sight: Sight<'_>,
) -> Result<(), Refusal> {
    let now = hub.labs.get(&lab.lab.id);
    let lab = now.as_ref().unwrap_or(lab);
    let owned = match sight {
        Sight::Lab => OwnedSight::Lab,
        Sight::LabLog => OwnedSight::LabLog,
        Sight::NodeLog(node) => OwnedSight::NodeLog(node.to_owned()),
        Sight::Shell(shell) => OwnedSight::Shell(shell.id.clone()),
    };
    let key = Key { user: Arc::clone(user), lab: lab.lab.id.clone(), sight: owned };
    // The generation before the question: where other plugins come between, the decision counts for nobody after them.
    let decision = hub.decisions.of(key.clone(), lab, hub.plugins.generation(), Instant::now());
    // Boxed: everybody who may have to wait for a decision would have room for one else, for as long as they are there.
    let decide = || {
        Box::pin(async {
            let action = match sight {
                Sight::Lab => Action::ViewLab(lab),
                Sight::LabLog => Action::Connect(Namespace::LabLog(lab)),
                Sight::NodeLog(node) => Action::Connect(Namespace::NodeLog(lab, node)),
                Sight::Shell(shell) => Action::Connect(Namespace::Shell(shell, lab)),
            };
            hub.plugins.authorize(user, action, hub.circumstances(user)).await
        })
    };
    let result = decision.result.get_or_init(decide).await.clone();
    if let Err(Refusal::Failed { .. }) = result {
        // All who waited have failed with it, rather than one after the other; whoever comes next asks anew.
        hub.decisions.forget(&key, &decision);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::lab_json::tests::snapshot;

    fn key(user: &str) -> Key {
        let user = Identity { id: user.into(), admin: false, collections: Vec::new() };
        Key { user: Arc::new(user), lab: "l".into(), sight: OwnedSight::Lab }
    }

    #[test]
    fn a_decision_is_shared_until_lab_or_plugins_change_or_time_has_passed() {
        let decisions = Decisions::default();
        let (lab, now) = (Arc::new(snapshot()), Instant::now());
        let first = decisions.of(key("u"), &lab, 1, now);
        assert!(Arc::ptr_eq(&first, &decisions.of(key("u"), &lab, 1, now)), "the same identity, though another token");
        assert!(!Arc::ptr_eq(&first, &decisions.of(key("v"), &lab, 1, now)), "somebody else");
        let changed = Arc::new(snapshot());
        let second = decisions.of(key("u"), &changed, 1, now);
        assert!(!Arc::ptr_eq(&first, &second), "the lab has changed");
        let third = decisions.of(key("u"), &changed, 2, now);
        assert!(!Arc::ptr_eq(&second, &third), "other plugins are in force");
        assert!(!Arc::ptr_eq(&third, &decisions.of(key("u"), &changed, 2, now + MAX_AGE)), "it is too old");
    }

    #[test]
    fn old_decisions_are_let_go() {
        let decisions = Decisions::default();
        let (lab, mut now) = (Arc::new(snapshot()), Instant::now());
        for number in 0..10 * SWEEP_AT {
            decisions.of(key(&number.to_string()), &lab, 1, now);
            if number % SWEEP_AT == 0 {
                now += MAX_AGE;
            }
        }
        assert!(decisions.0.lock().unwrap().decisions.len() <= 2 * SWEEP_AT);
    }
}
