//! The few system calls that no safe wrapper offers, each behind a safe function of ours.
//!
//! This is the one module of the crate with `unsafe` in it. Everything here is called by the helper processes of the
//! embedded runtime, which run one thread only, and by those of both runtimes who hold terminals, where a file descriptor
//! has to be duplicated. [`packet_ring`] is what captures of packets need.

#![expect(unsafe_code, reason = "clone, mount_setattr, fsopen, packet rings and terminal ioctls have no safe wrapper")]

pub(super) mod packet_ring;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use nix::unistd::Pid;

/// Proof that this process has one thread, which is what makes going on after a fork sound: nobody else can hold the
/// allocator's lock, or any other, at that moment. Children made with [`SingleThreaded::fork`] have one thread too.
#[derive(Debug, Clone, Copy)]
pub(super) struct SingleThreaded(());

impl SingleThreaded {
    /// Looks at the threads of this process.
    pub(super) fn check() -> io::Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads == 1 {
            Ok(Self(()))
        } else {
            Err(io::Error::other(format!("the helper has {threads} threads, and may have one only")))
        }
    }

    /// Makes a child process in the new namespaces that `flags` ask for, runs `child` in it and ends it with the code
    /// that `child` answers. With `CLONE_PARENT` the child's parent is that of the caller.
    ///
    /// A panic in `child` ends the child alone: it must not unwind into a copy of the caller's stack.
    pub(super) fn fork(self, flags: libc::c_int, child: impl FnOnce() -> i32) -> io::Result<Pid> {
        let none: libc::c_long = 0;
        // SAFETY: without CLONE_VM and with no stack of its own this is fork(2) with namespaces: the child has a copy
        // of everything. There is one thread, so no lock is held by a thread that the child lacks.
        let pid = unsafe {
            libc::syscall(libc::SYS_clone, libc::c_long::from(flags | libc::SIGCHLD), none, none, none, none)
        };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(101);
                exit_now(code)
            }
            pid => Ok(Pid::from_raw(i32::try_from(pid).expect("process ids fit into 32 bits"))),
        }
    }
}

/// Ends the process without running anything that was registered for its end, which a forked copy must not do twice.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: takes no pointers and doesn't return.
    unsafe { libc::_exit(code) }
}

/// Takes over a descriptor that the kernel has just handed to us, for instance out of a control message.
pub(super) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass descriptors that the kernel made for this call and that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Duplicates a descriptor known by its number only; the copy is closed on exec.
pub(super) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the borrow ends with this call, and an invalid number is an error of the call, not undefined behaviour.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned()
}

/// Closes every descriptor from `first` on but those in `keep`.
pub(super) fn close_from(first: RawFd, keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd >= first).collect();
    keep.sort_unstable();
    let mut from = first;
    for fd in keep {
        close_range(from, fd - 1)?;
        from = fd + 1;
    }
    close_range(from, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: closes descriptors. The callers are processes that will only use the ones that they keep.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
}

/// Puts all signals back to their defaults: Rust ignores SIGPIPE, and what is ignored stays so over an exec.
pub(super) fn default_signals() {
    for signal in 1..32 {
        // SAFETY: SIG_DFL is no handler of ours; errors for SIGKILL and SIGSTOP are of no interest.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Makes the terminal on standard input the controlling terminal of this session.
pub(super) fn take_terminal() -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    check(i64::from(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }))
}

/// The other end of a pseudo-terminal, given its master. It goes by no path, so nothing can stand in the way.
pub(super) fn terminal_peer(master: RawFd) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags and answers a new descriptor or an error.
    descriptor(i64::from(unsafe { libc::ioctl(master, libc::TIOCGPTPEER, flags) }))
}

/// Sets and clears attributes such as `MOUNT_ATTR_RDONLY` on a mount and everything mounted below it.
pub(super) fn change_mount(path: &Path, set: u64, clear: u64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: both pointers are valid for the call, and the size is that of the structure.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// A new proc file system of the caller's PID namespace that is not mounted anywhere yet.
pub(super) fn new_proc() -> io::Result<OwnedFd> {
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    // SAFETY: the name is a C string; the kernel answers a new descriptor or an error.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC) })?;
    let none: *const libc::c_void = std::ptr::null();
    // SAFETY: this command takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) })?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    // SAFETY: takes integers only.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
}

/// A mount of a file or folder that is mounted already, once more and nowhere yet.
pub(super) fn copy_mount(path: &Path) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC.unsigned_abs();
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a C string that lives over the call; the kernel answers a new descriptor or an error.
    descriptor(unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
    })
}

/// Mounts what [`new_proc`] or [`copy_mount`] made at `target`.
pub(super) fn attach_mount(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: both paths are C strings that live over the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
}

fn check(answer: libc::c_long) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn descriptor(answer: libc::c_long) -> io::Result<OwnedFd> {
    check(answer)?;
    Ok(adopt(RawFd::try_from(answer).expect("descriptors fit into 32 bits")))
}

/// Lets tokio tell when a non-blocking descriptor can be read or written.
pub(super) fn watch(descriptor: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` answers the same number all its life, and it stays open as long as it lives.
    let watched = unsafe { tokio::io::unix::AsyncFd::register(descriptor) };
    Ok(watched?)
}

/// A descriptor that can be read once this process has ended.
pub(super) fn process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only; the kernel answers a new descriptor or an error.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}
