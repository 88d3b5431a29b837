//! The other side of the embedded runtime: everything that runs outside the server process, in the same program.
//!
//! One lab is one tree of processes:
//!
//! ```text
//! server ──socket── keeper            sees the host; makes cgroups, waits, cleans up; outlives the server by a moment
//!                     └─ lab          PID 1 of the lab's namespaces; speaks the protocol, makes nodes and links
//!                          ├─ init    PID 1 of node r1: reaps, passes SIGTERM on
//!                          │    └─ …  what the topology's `cmd` says
//!                          ├─ shell   in r1's namespaces
//!                          └─ init    PID 1 of node r2
//! ```
//!
//! The keeper ends the lab when its socket to the server is closed, and the kernel ends everything below when the lab's
//! first process is gone: a namespace without its PID 1 has no processes. So nothing here depends on an orderly end.
//! Every process in this tree has one thread.
//!
//! What runs in a node was this program a moment ago, so its users get hold of `/proc/PID/exe`. Therefore all of these
//! processes run from a mount of the program through which nobody can change it, not even who owns the file: the keeper
//! makes that mount and starts itself again from it, before it hears anything about a lab.

pub(super) mod applets;
pub(super) mod channel;
mod confine;
mod keeper;
mod lab;
mod network;
mod node_init;
mod rootfs;
mod spawn;
mod usage;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// First argument that makes this program the keeper of a lab, whose socket is its standard input.
pub(super) const KEEPER: &str = "__embedded-lab";
/// The same for the keeper once it runs from its own, read-only view of this program.
const KEEPER_APART: &str = "__embedded-lab-apart";

/// Runs what this process was started for, if it is one of the embedded runtime's own; `None`: it is not.
///
/// `main` calls this before anything else, with its arguments as they are: before threads exist and before options are
/// parsed, since nodes call this same program by other names.
pub fn helper_main(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter();
    let name = arguments.next()?;
    let name = Path::new(&name).file_name()?.to_str()?;
    if applets::NAMES.contains(&name) {
        return Some(applets::run(name, arguments.map(|argument| argument.to_string_lossy().into_owned()).collect()));
    }
    match arguments.next()?.to_str()? {
        KEEPER => Some(keeper::step_apart(arguments)),
        KEEPER_APART => Some(keeper::run()),
        _ => None,
    }
}
