//! What the server asks of a Docker engine, asked of a real one: containers labelled as containerlab labels them, their
//! states, logs and shells, with everything that can happen to them meanwhile.
//!
//! Needs an engine that answers, `docker`, and root on the engine's host for some. The image is made here where it is
//! missing, of busybox.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

mod containers;
mod harness;
mod labs;
mod logs;
mod restarts;
mod shells;
mod watching;
