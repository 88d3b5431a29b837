//! What the host offers to guests. One file per interface.

mod logging;

pub(super) use logging::{Forbidden, LogBudget};
