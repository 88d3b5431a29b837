//! What all suites use: a real server, clients of it, the machine's own lists, and the rule about tests that can't run.

mod capture;
mod client;
pub(crate) mod contract;
mod figures;
mod flaky;
mod left_out;
#[allow(dead_code, reason = "it serves the tests of the store, too, and nobody uses all of it")]
pub(crate) mod postgres;
mod raw;
pub(crate) mod rest;
mod server;
mod shell;
mod system;
mod turn;

use std::time::Duration;

pub(crate) use self::capture::{Capture, Packet, path as capture_path};
pub(crate) use self::client::{Client, Lines, code_of, expect_data, next};
pub(crate) use self::figures::{Figures, descendants, descriptors};
pub(crate) use self::flaky::FlakyNetwork;
pub(crate) use self::left_out::leave_out;
pub(crate) use self::raw::Raw;
pub(crate) use self::server::{NotStarted, Place, Server, ServerBuilder, User, known_programs, output_of, run_program};
pub(crate) use self::shell::Shell;
pub(crate) use self::system::System;
pub(crate) use self::turn::alone;

/// How long a test waits for something that has to come. Generous, since it is spent only on failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `work`, but not for ever.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for {what}"))
}

/// Asks again and again until `check` has nothing to complain about any more; fails with its last complaint.
pub(crate) async fn eventually(mut check: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(complaint) = check().await {
        assert!(tokio::time::Instant::now() < deadline, "still not so after {PATIENCE:?}: {complaint}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
