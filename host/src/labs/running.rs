//! How many labs of each user have an instance: kept up to date by the labs' tasks, since decisions ask for it all the
//! time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::model::UserId;

/// Counts of labs that have an instance, by creator.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<HashMap<UserId, u32>>);

impl Running {
    /// A lab of `creator` had an instance or not, and now has one or not.
    pub(super) fn update(&self, creator: &UserId, had: bool, has: bool) {
        if had == has {
            return;
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(creator.clone()).or_insert(0);
        if has {
            *count += 1;
        } else {
            *count -= 1;
            if *count == 0 {
                counts.remove(creator);
            }
        }
    }

    /// How many labs of `creator` have an instance.
    pub(super) fn of(&self, creator: &UserId) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(creator).copied().unwrap_or(0)
    }
}
