//! Small stand-ins for tools that a bare machine may lack, inside nodes only.
//!
//! A node finds this program under these names last on its PATH, so that the host's own tools win where there are any.

mod ping;

use std::process::ExitCode;

/// Names that this program answers to.
pub(in crate::runtime::embedded) const NAMES: [&str; 1] = ["ping"];

/// Runs the tool of that name.
pub(super) fn run(name: &str, arguments: Vec<String>) -> ExitCode {
    match name {
        "ping" => ping::main(&arguments),
        _ => ExitCode::from(127),
    }
}
