//! Overruns.
