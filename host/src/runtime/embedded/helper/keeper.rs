//! The outermost process of a lab. It has the server's rights and sees the host, so it does what needs either: cgroups,
//! id maps, and cleaning up after everything else has ended. It never touches what nodes may have made.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Gid, Pid, Uid, dup2_stdin, execve, getegid, geteuid, pipe2, setsid};

use super::{lab, rootfs};
use crate::runtime::embedded::cgroup::LabCgroups;
use crate::runtime::embedded::protocol::{Frame, IdMap, LabPlan, MAX_FRAME, Message};
use crate::runtime::sys::{self, SingleThreaded};

/// Starts this program again from a mount that is read-only and the keeper's own.
pub(super) fn step_apart(name: impl Iterator<Item = OsString>) -> ExitCode {
    serve(|control| {
        // Whatever the server was doing while it started us, its other descriptors are none of our business.
        sys::close_from(3, &[control.as_raw_fd()]).map_err(|error| format!("closing descriptors: {error}"))?;
        own_mounts()?;
        let program = rootfs::stage().map_err(|error| format!("preparing mounts: {error}"))?;
        let words = [OsString::from("antimony-host"), OsString::from(super::KEEPER_APART)].into_iter().chain(name);
        let arguments: Vec<CString> =
            words.map(|word| CString::new(word.into_vec())).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        let program = CString::new(program.into_os_string().into_vec()).map_err(|error| error.to_string())?;
        let error = execve::<_, CString>(&program, &arguments, &[]).expect_err("comes back only with an error");
        Err(format!("starting the helper from its own mount: {error}"))
    })
}

/// Gives this process mounts of its own. An ordinary user may have some only in a user namespace, as root of it.
fn own_mounts() -> Result<(), String> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("making a mount namespace: {error}"));
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|error| format!("making a user namespace: {error}"))?;
    map_one_user("/proc/self", user, group)
}

/// Runs a lab until it or the server ends.
pub(super) fn run() -> ExitCode {
    serve(keep)
}

/// Does something with the lab's socket, and says there why it failed.
fn serve(work: impl FnOnce(&mut File) -> Result<(), String>) -> ExitCode {
    let Ok(control) = sys::duplicate(0) else { return ExitCode::FAILURE };
    let mut control = File::from(control);
    match work(&mut control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut bytes = Vec::new();
            Frame::json(&Message::Fatal(error)).encode(&mut bytes);
            let _ = control.write_all(&bytes);
            ExitCode::FAILURE
        }
    }
}

fn keep(control: &mut File) -> Result<(), String> {
    let failed = |what: &'static str| move |error: nix::Error| format!("{what}: {error}");
    let writable = |flags: FsFlags| !flags.contains(FsFlags::ST_RDONLY);
    if statvfs("/proc/self/exe").map_or(true, |found| writable(found.flags())) {
        return Err("the helper does not run from a read-only mount".to_owned());
    }
    sys::close_from(3, &[control.as_raw_fd()]).map_err(|error| format!("closing descriptors: {error}"))?;
    let null = File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    dup2_stdin(&null).map_err(failed("standard input"))?;
    drop(null);
    // Keys pressed in the server's terminal and signals to its process group are meant for the server.
    setsid().map_err(failed("starting a session"))?;
    umask(Mode::from_bits_truncate(0o022));
    // Every node takes a handful of descriptors.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let single = SingleThreaded::check().map_err(|error| error.to_string())?;
    let Some(plan) = read_plan(control)? else { return Ok(()) };
    rootfs::stage_files(&plan.files).map_err(|error| format!("the files of the topology: {error}"))?;

    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().map_err(failed("blocking signals"))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).map_err(failed("signals"))?;

    let mut cgroups = LabCgroups::create(&plan);
    let tried = single.fork(0, || i32::from(cgroups.join(0).is_err())).map_err(|error| format!("forking: {error}"))?;
    if !matches!(waitpid(tried, None), Ok(WaitStatus::Exited(_, 0))) {
        cgroups = cgroups.give_up();
    }
    let result = watch(single, control, &plan, &cgroups, &signals);
    // Whoever started this sweeps up what the kernel doesn't let go of yet.
    let removed = cgroups.remove();
    result.and(if removed { Ok(()) } else { Err("some cgroups can't be removed yet".to_owned()) })
}

/// Starts the lab's first process and waits until it has ended, with everything below it.
fn watch(
    single: SingleThreaded,
    control: &File,
    plan: &LabPlan,
    cgroups: &LabCgroups,
    signals: &SignalFd,
) -> Result<(), String> {
    let (go, mut say_go) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map(|(read, write)| (read, File::from(write)))
        .map_err(|error| format!("making a pipe: {error}"))?;
    let flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let writing_end = say_go.as_raw_fd();
    let lab = single
        .fork(flags, || {
            drop(sys::adopt(writing_end));
            lab::run(single, plan, control, &go, cgroups)
        })
        .map_err(|error| format!("making a user namespace: {error}"))?;
    drop(go);
    let ready = write_maps(lab, plan.ids, plan.nodes.len() as u64)
        .and_then(|()| say_go.write_all(b"g").map_err(|error| error.to_string()));
    if ready.is_ok() {
        wait_for_either(control, signals, lab);
    }
    let _ = kill(lab, Signal::SIGKILL);
    // Comes back when every process of the lab's PID namespace has ended.
    let _ = waitpid(lab, None);
    drop(say_go);
    ready
}

/// Returns when the server has closed its end, when somebody asks us to end, or when the lab has ended.
fn wait_for_either(control: &File, signals: &SignalFd, lab: Pid) {
    loop {
        let mut fds =
            [PollFd::new(control.as_fd(), PollFlags::POLLHUP), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::NONE).is_err_and(|error| error != nix::errno::Errno::EINTR) {
            return;
        }
        let server_gone = fds[0].revents().is_some_and(|events| !events.is_empty());
        let signalled = fds[1].any().unwrap_or(false);
        if server_gone {
            return;
        }
        if signalled {
            let Ok(Some(info)) = signals.read_signal() else { return };
            let child = info.ssi_signo == Signal::SIGCHLD as u32;
            let hangup = [Signal::SIGHUP as u32, Signal::SIGINT as u32].contains(&info.ssi_signo);
            if (child && has_ended(lab)) || (!child && !hangup) {
                return;
            }
        }
    }
}

/// Whether a child has ended, rather than been stopped or continued, which is told in the same way. It is left to be
/// waited for.
fn has_ended(child: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(child), flags), Ok(WaitStatus::StillAlive))
}

fn write_maps(lab: Pid, ids: IdMap, nodes: u64) -> Result<(), String> {
    let folder = format!("/proc/{lab}");
    match ids {
        IdMap::Own => map_one_user(&folder, geteuid(), getegid()),
        IdMap::Range { base, width } => {
            let count = (nodes + 1) * u64::from(width);
            let map = format!("0 {base} {count}\n");
            write_map(&folder, "uid_map", &map)?;
            write_map(&folder, "gid_map", &map)
        }
    }
}

/// Makes root of a process's user namespace stand for one user outside of it.
fn map_one_user(folder: &str, user: Uid, group: Gid) -> Result<(), String> {
    write_map(folder, "setgroups", "deny")?;
    write_map(folder, "uid_map", &format!("0 {user} 1\n"))?;
    write_map(folder, "gid_map", &format!("0 {group} 1\n"))
}

fn write_map(folder: &str, file: &str, text: &str) -> Result<(), String> {
    fs::write(format!("{folder}/{file}"), text).map_err(|error| format!("writing {file} of a user namespace: {error}"))
}

fn read_plan(control: &mut File) -> Result<Option<LabPlan>, String> {
    let mut length = [0; 4];
    if control.read_exact(&mut length).is_err() {
        return Ok(None);
    }
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err("the plan of the lab has no possible length".to_owned());
    }
    let mut body = vec![0; length];
    if control.read_exact(&mut body).is_err() {
        return Ok(None);
    }
    // The first byte says that this is a document.
    Frame::parse(&body[1..]).map(Some)
}
