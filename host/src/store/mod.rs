//! What survives a restart.

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {}
