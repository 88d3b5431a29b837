//! The plugin host: loads components, binds them through WIT, and asks them for decisions.

pub mod decision;
