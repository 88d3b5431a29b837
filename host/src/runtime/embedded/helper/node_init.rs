//! PID 1 of a node: runs its command, reaps what is left behind by others, passes SIGTERM on, and ends with the command.
//! When it ends the kernel ends everything in the node. A node without a command just is there until it is told to stop.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

use super::channel::Channel;
use super::spawn;
use crate::runtime::embedded::protocol::NodePlan;
use crate::runtime::sys::{self, SingleThreaded};

/// Runs until the node's command has ended; answers the exit code that stands for how it did.
pub(super) fn run(single: SingleThreaded, node: &NodePlan, channel: &Channel) -> i32 {
    // A namespace's PID 1 gets only signals that it blocks or handles; all are taken one by one below.
    let signals = SigSet::all();
    if let Err(error) = signals.thread_block() {
        return spawn::fail(channel, &error.into());
    }
    let main = if node.command.is_empty() {
        None
    } else {
        let started = single.fork(0, || {
            let _ = setsid();
            let command = std::slice::from_ref(&node.command);
            match spawn::execute(command, &node.env, node.user, "/") {
                Ok(()) => 0,
                Err(error) => spawn::fail(channel, &error),
            }
        });
        match started {
            Ok(pid) => Some(pid),
            Err(error) => return spawn::fail(channel, &error),
        }
    };
    // From now on the channel is open in the command alone, until it runs.
    if sys::close_from(3, &[]).is_err() {
        return 1;
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(main) {
                    return code;
                }
            }
            Ok(Signal::SIGTERM | Signal::SIGINT) if main.is_none() => return 0,
            Ok(signal @ (Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGUSR1 | Signal::SIGUSR2)) => {
                if let Some(main) = main {
                    let _ = kill(main, signal);
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Collects every process that has ended. Signals of one kind merge, so there may be several.
fn reap(main: Option<Pid>) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if Some(pid) == main => return Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if Some(pid) == main => return Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(_) | Err(_) => {}
        }
    }
}
