//! Children that the lab's first process makes on behalf of a node: what they do until the user's program runs.
//!
//! Getting into a node takes two steps, because a process never changes its own PID namespace: a short-lived child joins
//! the node's cgroups and namespaces and makes the process that was asked for, as its sibling. Every function here runs
//! in such a child and answers its exit code; errors go to the channel.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::resource::Resource;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{
    AccessFlags, Gid, Uid, access, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, setgroups, sethostname,
    setresgid, setresuid, setsid,
};

use super::channel::{Channel, Note};
use super::confine::{Confinement, limit};
use super::{node_init, rootfs};
use crate::runtime::embedded::cgroup::LabCgroups;
use crate::runtime::embedded::protocol::{IdMap, LabPlan, NodePlan, PATH};
use crate::runtime::saved::SaveLimits;
use crate::runtime::sys::{self, SingleThreaded};

/// The namespaces of a node that outlive its processes.
#[derive(Debug)]
pub(super) struct Namespaces {
    pub(super) user: OwnedFd,
    /// The node's `/dev/null`, opened before anything of the node ran: by now another file may have that name.
    pub(super) null: OwnedFd,
    /// What the node's root file system had before anything of the node ran: a [`Baseline`] in a file in memory.
    pub(super) baseline: OwnedFd,
    pub(super) others: Vec<OwnedFd>,
}

/// Names below `/proc/self/ns`, in the order in which descriptors of them are handed over.
pub(super) const NAMESPACES: [&str; 6] = ["user", "net", "mnt", "uts", "ipc", "cgroup"];

/// Processes beyond its own that a node may need for a moment: those on their way into it.
const HELPERS: u64 = 16;

/// What a child of this module needs to know.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) single: SingleThreaded,
    pub(super) plan: &'a LabPlan,
    pub(super) cgroups: &'a LabCgroups,
    pub(super) confinement: &'a Confinement,
    /// Index of the node.
    pub(super) node: usize,
}

impl Context<'_> {
    fn node(&self) -> &NodePlan {
        &self.plan.nodes[self.node]
    }

    /// The limit of each process's memory, where no cgroup limits that of the whole node.
    fn memory(&self) -> Option<u64> {
        (!self.cgroups.limit_memory()).then_some(self.node().memory)
    }
}

/// Where a program's input and output go.
pub(super) enum Stdio<'a> {
    /// Nothing to read; both outputs go into this pipe.
    Pipe(&'a OwnedFd),
    /// A terminal, of which the program's session gets control.
    Terminal(&'a OwnedFd),
}

/// What is to be run in a node that is up.
pub(super) struct Program<'a> {
    /// The first that exists is run.
    pub(super) commands: &'a [Vec<String>],
    pub(super) stdio: Stdio<'a>,
    pub(super) env: Vec<(String, String)>,
    pub(super) user: (u32, u32),
    pub(super) folder: &'a str,
}

/// Makes a node's namespaces and its root file system, and hands descriptors of them over.
pub(super) fn create_node(context: Context<'_>, channel: &Channel) -> i32 {
    report(channel, || {
        let root = context.plan.ids.root_in_lab(context.node);
        if root != 0 {
            // The creator of a user namespace is who its processes are counted against further out. With one creator
            // per node, a node that swaps users to get around its limit uses up nobody else's.
            setresgid(Gid::from_raw(root), Gid::from_raw(root), Gid::from_raw(root))?;
            setresuid(Uid::from_raw(root), Uid::from_raw(root), Uid::from_raw(root))?;
            prctl::set_dumpable(true)?; // or nobody could write the maps
            // What the maker of a user namespace may have bounds everything in it, whichever users it swaps through.
            limit(Resource::RLIMIT_NPROC, context.plan.processes + HELPERS)?;
        }
        let flags = libc::CLONE_PARENT
            | libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS;
        let pid = context.single.fork(flags, || report(channel, || build_node(context, channel)))?;
        channel.send(&Note::Pid(pid.as_raw()), &[])
    })
}

fn build_node(context: Context<'_>, channel: &Channel) -> io::Result<()> {
    match channel.receive_within(Duration::from_secs(10))? {
        Some((Note::Go, _)) => {}
        _ => return Err(io::Error::other("the lab's first process didn't answer")),
    }
    let _ = context.cgroups.join(context.node);
    become_root(context.plan.ids)?;
    let _ = unshare(CloneFlags::CLONE_NEWCGROUP);
    sethostname(&context.node().name)?;
    rootfs::build(context.plan, context.node())?;
    let files = NAMESPACES.map(|name| File::open(format!("/proc/self/ns/{name}")));
    let files = files.into_iter().chain([rootfs::baseline(), File::open("/dev/null")]);
    let files: Vec<File> = files.collect::<io::Result<_>>()?;
    let descriptors: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    channel.send(&Note::Namespaces, &descriptors)
}

/// Starts a node: makes a new PID namespace for it, with its init in it.
pub(super) fn start_node(context: Context<'_>, namespaces: &Namespaces, log: &OwnedFd, channel: Channel) -> i32 {
    report(&channel, || {
        enter(context, namespaces, None)?;
        let flags = libc::CLONE_PARENT | libc::CLONE_NEWPID;
        let pid = context.single.fork(flags, || match init(context, &namespaces.null, log, &channel) {
            Ok(()) => node_init::run(context.single, context.node(), &channel),
            Err(error) => fail(&channel, &error),
        })?;
        channel.send(&Note::Pid(pid.as_raw()), &[])
    })
}

/// What a node's init does before it takes up its work.
fn init(context: Context<'_>, null: &OwnedFd, log: &OwnedFd, channel: &Channel) -> io::Result<()> {
    // What the node's file system leads to is the node's to say. So nothing else is open when a path of it is taken.
    connect(&Stdio::Pipe(log), null)?;
    sys::close_from(3, &[channel.as_raw_fd(), null.as_raw_fd()])?;
    rootfs::refresh_proc(context.plan, context.node(), null)?;
    let own = File::open("/proc/self/ns/pid")?;
    channel.send(&Note::PidNamespace, &[own.as_raw_fd()])?;
    drop(own);
    setsid()?;
    chdir("/")?;
    // The kernel shows this name to the node's users; the command line still is that of the helper.
    prctl::set_name(c"init")?;
    context.confinement.apply(context.memory())?;
    sys::close_from(3, &[channel.as_raw_fd()])
}

/// Runs a program in a node that is up.
pub(super) fn run_program(
    context: Context<'_>,
    namespaces: &Namespaces,
    pid_namespace: &OwnedFd,
    program: &Program<'_>,
    channel: &Channel,
) -> i32 {
    report(channel, || {
        enter(context, namespaces, Some(pid_namespace))?;
        let pid = context.single.fork(libc::CLONE_PARENT, || {
            report(channel, || {
                setsid()?;
                connect(&program.stdio, &namespaces.null)?;
                sys::close_from(3, &[channel.as_raw_fd()])?;
                if matches!(program.stdio, Stdio::Terminal(_)) {
                    sys::take_terminal()?;
                }
                context.confinement.apply(context.memory())?;
                execute(program.commands, &program.env, program.user, program.folder)
            })
        })?;
        channel.send(&Note::Pid(pid.as_raw()), &[])
    })
}

/// Writes what a node has changed or made into `pipe`. No process of the node can see this one, or hold it up.
pub(super) fn save_node(
    context: Context<'_>,
    namespaces: &Namespaces,
    limits: SaveLimits,
    pipe: &OwnedFd,
    channel: &Channel,
) -> i32 {
    report(channel, || {
        let (baseline, pipe) = (File::from(namespaces.baseline.try_clone()?), File::from(pipe.try_clone()?));
        enter_files(context, namespaces, &pipe, &baseline, channel)?;
        rootfs::save(&context.node().name, &baseline, limits, pipe)
    })
}

/// Puts what is in the archive in `pipe` into a node that has not been started.
pub(super) fn restore_node(context: Context<'_>, namespaces: &Namespaces, pipe: &OwnedFd, channel: &Channel) -> i32 {
    report(channel, || {
        let pipe = File::from(pipe.try_clone()?);
        enter_files(context, namespaces, &pipe, &pipe, channel)?;
        rootfs::restore(&context.node().name, pipe)
    })
}

/// Joins a node for the sake of its files, and closes everything else: those are whatever the node makes of them.
fn enter_files(
    context: Context<'_>,
    namespaces: &Namespaces,
    pipe: &File,
    other: &File,
    channel: &Channel,
) -> io::Result<()> {
    enter(context, namespaces, None)?;
    chdir("/")?;
    sys::close_from(3, &[channel.as_raw_fd(), pipe.as_raw_fd(), other.as_raw_fd()])
}

/// Joins a node as its root. From here on, children are in its PID namespace too, if there is one.
fn enter(context: Context<'_>, namespaces: &Namespaces, pid_namespace: Option<&OwnedFd>) -> io::Result<()> {
    // Whatever happens in the node, the kernel shall rather end a node's process than the server when memory is short.
    let _ = fs::write("/proc/self/oom_score_adj", "500");
    // Without its cgroups a node still has the limits of its user; the log of the lab has said so.
    if let Err(error) = context.cgroups.join(context.node)
        && error.raw_os_error() == Some(libc::EAGAIN)
    {
        return Err(error);
    }
    setns(&namespaces.user, CloneFlags::CLONE_NEWUSER)?;
    for namespace in namespaces.others.iter().chain(pid_namespace) {
        setns(namespace, CloneFlags::empty())?;
    }
    become_root(context.plan.ids)?;
    // From its birth in the node on, nobody there may look into a process that still has the helper's memory.
    prctl::set_dumpable(false)?;
    Ok(())
}

fn become_root(ids: IdMap) -> nix::Result<()> {
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    if ids != IdMap::Own {
        setgroups(&[])?;
    }
    setresgid(root.1, root.1, root.1)?;
    setresuid(root.0, root.0, root.0)
}

fn connect(stdio: &Stdio<'_>, null: &OwnedFd) -> io::Result<()> {
    match stdio {
        Stdio::Pipe(pipe) => {
            dup2_stdin(null)?;
            dup2_stdout(pipe)?;
            dup2_stderr(pipe)?;
        }
        Stdio::Terminal(terminal) => {
            dup2_stdin(terminal)?;
            dup2_stdout(terminal)?;
            dup2_stderr(terminal)?;
        }
    }
    Ok(())
}

/// Runs the first of `commands` that exists. Comes back only if none does, or if it can't be run.
pub(super) fn execute(
    commands: &[Vec<String>],
    env: &[(String, String)],
    user: (u32, u32),
    folder: &str,
) -> io::Result<()> {
    let path = env.iter().find(|(key, _)| key == "PATH").map_or(PATH, |(_, value)| value);
    if user != (0, 0) {
        setgroups(&[])?;
        setresgid(Gid::from_raw(user.1), Gid::from_raw(user.1), Gid::from_raw(user.1))?;
        setresuid(Uid::from_raw(user.0), Uid::from_raw(user.0), Uid::from_raw(user.0))?;
    }
    let names =
        || commands.iter().filter_map(|command| command.first()).map(String::as_str).collect::<Vec<_>>().join(", ");
    let found = commands.iter().find_map(|command| Some((find(command.first()?, path)?, command)));
    let (program, command) =
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {} in the node", names())))?;
    let _ = chdir(folder).or_else(|_| chdir("/"));
    sys::default_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    let arguments: Vec<CString> = command.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?;
    let env: Vec<CString> =
        env.iter().map(|(key, value)| CString::new(format!("{key}={value}"))).collect::<Result<_, _>>()?;
    let error = execve(&program, &arguments, &env).expect_err("comes back only with an error");
    Err(io::Error::other(format!("{}: {error}", command[0])))
}

fn find(name: &str, path: &str) -> Option<CString> {
    let usable = |candidate: &Path| {
        fs::metadata(candidate).is_ok_and(|meta| meta.is_file()) && access(candidate, AccessFlags::X_OK).is_ok()
    };
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.to_owned()]
    } else {
        path.split(':').map(|folder| format!("{folder}/{name}")).collect()
    };
    candidates.into_iter().find(|candidate| usable(Path::new(candidate))).and_then(|found| CString::new(found).ok())
}

fn report(channel: &Channel, work: impl FnOnce() -> io::Result<()>) -> i32 {
    work().map_or_else(|error| fail(channel, &error), |()| 0)
}

/// Says what went wrong; answers the exit code that shells use when a program can't be run.
pub(super) fn fail(channel: &Channel, error: &io::Error) -> i32 {
    // Joining a cgroup and making a process answer this.
    let full = error.raw_os_error() == Some(libc::EAGAIN);
    let text = if full { "the node has as many processes as it may".to_owned() } else { error.to_string() };
    // A message has room for so much.
    let text = text.chars().take(500).collect();
    let _ = channel.send(&Note::Failed(text), &[]);
    127
}
