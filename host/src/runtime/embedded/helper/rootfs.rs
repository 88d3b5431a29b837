//! What a node sees as its file system: the host's programs, read-only, on a private writable tmpfs.
//!
//! [`build`] is called once per node, by a child that has just entered the node's new namespaces; [`refresh_proc`] at
//! every start, since the process file system belongs to one PID namespace. Nothing of the host is named here but
//! `/usr`, the folders that belong to it, some harmless device nodes, and a list of files of `/etc`.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{chdir, pivot_root};
use tar::Builder;

use crate::runtime::embedded::protocol::{FilePlan, LabPlan, NodePlan, TOOLS};
use crate::runtime::saved::{Baseline, SaveLimits, Wanted, collect, unpack};
use crate::runtime::sys;

/// Where the helper keeps what it needs itself: a tmpfs over a folder that every machine has, in its own view only.
pub(super) const STAGING: &str = "/tmp";
/// Folder in there with the files of the topology.
const FILES: &str = "files";
const PAGE: usize = 4096;
/// Bytes by which nodes may make all these files longer.
const ROOM_FOR_CHANGES: usize = 16 << 20;
/// Folders of programs and libraries, besides `/usr`: links into it or folders of their own.
const PROGRAMS: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec"];
/// What programs need of `/etc`; only what everybody may read is taken.
const ETC: [&str; 28] = [
    "alternatives",
    "bash.bashrc",
    "bindresvport.blacklist",
    "debian_version",
    "ethertypes",
    "gai.conf",
    "host.conf",
    "inputrc",
    "iproute2",
    "issue",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "magic",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "profile",
    "protocols",
    "rpc",
    "services",
    "shells",
    "terminfo",
];
/// Folders of the root whose content doesn't outlive a node.
const PASSING: [&str; 6] = ["dev", "proc", "run", "sys", "tmp", "usr"];
/// What files are hidden with, while the root still is the host's.
const NULL: &str = "/dev/null";
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Files and folders of `/proc` and `/sys` that tell about the host or steer it, hidden from nodes.
const MASKED: [&str; 16] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
];
const MASKED_SYS: [&str; 6] =
    ["sys/firmware", "sys/fs", "sys/kernel", "sys/module", "sys/power", "sys/devices/virtual/powercap"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
                      bin:x:2:2:bin:/bin:/usr/sbin/nologin\n\
                      nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nbin:x:2:\ntty:x:5:\nnogroup:x:65534:\n";

/// An error with the step that it happened in.
trait Step<T> {
    fn at(self, step: &str) -> io::Result<T>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn at(self, step: &str) -> io::Result<T> {
        self.map_err(|error| {
            let error = error.into();
            io::Error::new(error.kind(), format!("{step}: {error}"))
        })
    }
}

/// Prepares the helper's own view: makes mounts private and mounts our program, read-only, at a place that nodes' users
/// can reach, which it may not be where it lies. Answers that place.
///
/// Called by the keeper, which may still read that file: further in, nobody may read a program below /root any more.
pub(super) fn stage() -> io::Result<PathBuf> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .at("making mounts private")?;
    // Both opened before the tmpfs may cover them. What runs is to be mounted, and only a path of this mount namespace
    // can be; if another file has taken that path since, or none, what runs is copied.
    let mut running = fs::File::open("/proc/self/exe").at("the program")?;
    let meta = running.metadata()?;
    let same = |file: &fs::File| file.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino()));
    let installed = fs::read_link("/proc/self/exe").and_then(fs::File::open).ok().filter(same);
    let size = (1 << 20) + if installed.is_some() { 0 } else { meta.len() };
    let options = format!("size={size},nr_inodes=64,mode=0755");
    mount(Some("tmpfs"), STAGING, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))
        .at("mounting a tmpfs")?;
    let staging = Path::new(STAGING);
    fs::create_dir(staging.join("root"))?;
    fs::create_dir(staging.join(FILES))?;
    let program = staging.join("antimony");
    let mut target = fs::File::create(&program)?;
    let source = match &installed {
        Some(installed) => held(installed),
        None => {
            io::copy(&mut running, &mut target).at("copying the program")?;
            fs::set_permissions(&program, Permissions::from_mode(0o755))?;
            program.clone()
        }
    };
    // Nobody may run a file that is open for writing.
    drop(target);
    bind(&source, &program).at("mounting the program")?;
    let restrictions = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    sys::change_mount(&program, restrictions, 0).at("making the program read-only")?;
    Ok(program)
}

/// Lays the lab's files out where [`build`] takes them from: on a file system of their own, which ends with the lab. A node may
/// write to a file that it is given to write to, and others that are given the same one see that; nobody may put anything
/// else there. Called by the keeper, to whom they belong.
pub(super) fn stage_files(files: &[FilePlan]) -> io::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let folder = Path::new(STAGING).join(FILES);
    let pages: usize = files.iter().map(|file| file.content.len().div_ceil(PAGE) + 1).sum();
    let inodes: usize = files.iter().map(|file| file.path.split('/').count()).sum();
    let options = format!("size={},nr_inodes={},mode=0755", pages * PAGE + ROOM_FOR_CHANGES, inodes + 8);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &folder, Some("tmpfs"), flags, Some(options.as_str())).at("mounting a tmpfs")?;
    for file in files {
        let path = folder.join(&file.path);
        fs::create_dir_all(path.parent().unwrap_or(&folder)).at(&file.path)?;
        fs::write(&path, &file.content).at(&file.path)?;
        // Nodes' users are strangers here. What is a program is told by how it begins, as in the run folder.
        let mode = if file.content.starts_with(b"#!") { 0o777 } else { 0o666 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).at(&file.path)?;
    }
    Ok(())
}

/// What a node is to see of the lab's files, as mounts that aren't anywhere yet: where they come from is out of reach once the
/// root has changed, and where they go to is to be looked up by nobody before, since links of the node would be followed
/// into the host.
fn open_binds(node: &NodePlan) -> io::Result<Vec<OwnedFd>> {
    let folder = Path::new(STAGING).join(FILES);
    node.binds.iter().map(|bind| sys::copy_mount(&folder.join(&bind.source)).at(&bind.source)).collect()
}

/// Puts them where the node wants to see them. The root is the node's own by now.
fn attach_binds(node: &NodePlan, mounts: &[OwnedFd]) -> io::Result<()> {
    for (bind, mount) in node.binds.iter().zip(mounts) {
        let step = format!("binds: {} at {}", bind.source, bind.target);
        let target = Path::new(&bind.target);
        if !target.exists() {
            let is_folder = fs::metadata(held(mount)).at(&step)?.is_dir();
            fs::create_dir_all(target.parent().unwrap_or(target)).at(&step)?;
            if is_folder { fs::create_dir(target) } else { fs::write(target, "") }.at(&step)?;
        }
        sys::attach_mount(mount, target).at(&step)?;
        let read_only = if bind.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
        sys::change_mount(target, read_only | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, 0).at(&step)?;
    }
    Ok(())
}

/// A path to what a descriptor refers to, whatever else has become of its name.
fn held(descriptor: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}

/// Builds the root file system of a node and moves into it. The caller is root of the node's user namespace, PID 1 of
/// a PID namespace of it, and has every capability there.
pub(super) fn build(plan: &LabPlan, node: &NodePlan) -> io::Result<()> {
    let root = Path::new(STAGING).join("root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .at("making mounts private")?;
    let options = format!("size={},nr_inodes=65536,mode=0755", plan.disk);
    mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))
        .at("mounting the root file system")?;

    programs(&root, &plan.hidden).at("the host's programs")?;
    tools(&root).at("our own tools")?;
    folders(&root).at("folders")?;
    etc(&root, plan, node).at("/etc")?;
    devices(&root, plan).at("/dev")?;
    system(&root).at("/sys")?;
    fs::create_dir(root.join("proc"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &root.join("proc"), Some("proc"), flags, None::<&str>).at("mounting /proc")?;

    let mounts = open_binds(node).at("the files of the topology")?;
    // The old root ends up on top of the new one, where it is taken off: no folder has to hold it.
    chdir(&root)?;
    pivot_root(".", ".").at("changing the root")?;
    umount2(".", MntFlags::MNT_DETACH).at("leaving the host's root")?;
    chdir("/")?;
    attach_binds(node, &mounts)
}

/// What of a node's root file system is never saved: what is the host's or is made anew at every start. All that is mounted in
/// there is left out anyway.
fn is_passing(path: &Path) -> bool {
    let first = path.components().next().and_then(|first| first.as_os_str().to_str());
    first.is_some_and(|first| PASSING.contains(&first) || PROGRAMS.contains(&first))
}

/// What the caller's root, which is a node's that was just built, has in it: in a file in memory.
pub(super) fn baseline() -> io::Result<fs::File> {
    let baseline = Baseline::of(fs::File::open("/")?.into(), &is_passing).map_err(io::Error::other)?;
    let file = fs::File::from(memfd_create(c"baseline", MFdFlags::MFD_CLOEXEC)?);
    baseline.write(io::BufWriter::new(&file))?;
    Ok(file)
}

/// Writes what differs from that into a pipe. The root is that of the node.
pub(super) fn save(node: &str, baseline: &fs::File, limits: SaveLimits, pipe: fs::File) -> io::Result<()> {
    // From its beginning: others have read the same file before.
    let mut known = vec![0; usize::try_from(baseline.metadata()?.len()).map_err(io::Error::other)?];
    baseline.read_exact_at(&mut known, 0)?;
    let baseline = Baseline::read(&known[..])?;
    let root = fs::File::open("/")?;
    let mut archive = Builder::new(io::BufWriter::with_capacity(64 << 10, pipe));
    let wanted = Wanted { leave_out: &is_passing, links: true, baseline: &baseline, limits };
    collect(root.into(), node, &wanted, &mut archive).map_err(io::Error::other)?;
    archive.into_inner()?.flush()
}

/// Puts what is in an archive into the root, which is that of the node.
pub(super) fn restore(node: &str, pipe: fs::File) -> io::Result<()> {
    let mut pipe = io::BufReader::with_capacity(64 << 10, pipe);
    unpack(fs::File::open("/")?.into(), node, true, &mut pipe)?;
    // Whoever writes it is not to be left with a broken pipe.
    io::copy(&mut pipe, &mut io::sink()).map(drop)
}

/// Gives the node's `/proc` to the caller's PID namespace, and makes its dangerous parts unusable.
///
/// `null`: the node's `/dev/null` as it was built. Nothing here takes a path that the node can have changed: `/proc` is
/// a mount, which can't be renamed.
pub(super) fn refresh_proc(plan: &LabPlan, node: &NodePlan, null: &impl AsRawFd) -> io::Result<()> {
    // Made before the old one goes: a user namespace may mount one only while it can see one already.
    let fresh = sys::new_proc().at("making /proc")?;
    umount2("/proc", MntFlags::MNT_DETACH).at("unmounting the old /proc")?;
    sys::attach_mount(&fresh, Path::new("/proc")).at("mounting /proc")?;

    // Nobody in the node makes user namespaces. The number belongs to this one, not to the host.
    fs::write("/proc/sys/user/max_user_namespaces", "0").at("forbidding user namespaces")?;
    // Stocks of the whole host, or of all nodes with the same user outside. Older kernels lack some of these.
    for (key, most) in [
        ("user/max_inotify_instances", 128),
        ("user/max_inotify_watches", 8192),
        // Shared memory, in pages and in bytes, and message queues of the node's own IPC namespace.
        ("kernel/shmall", plan.disk / 4 / 4096),
        ("kernel/shmmax", plan.disk / 4),
        ("kernel/msgmni", 64),
        ("kernel/msgmnb", 16_384),
    ] {
        let _ = fs::write(Path::new("/proc/sys").join(key), most.to_string());
    }
    // Without this, IPv6 addresses would not come back with the links when a node is started again.
    for scope in ["all", "default"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/keep_addr_on_down"), "1");
    }
    for (key, value) in &node.sysctls {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        fs::write(&path, value).at(&format!("sysctl {key}"))?;
    }
    // A node may steer its own network, nothing else.
    for path in ["/proc/sys", "/proc/irq", "/proc/fs", "/proc/bus"].map(Path::new) {
        if path.exists() {
            bind(path, path).and_then(|()| read_only(path)).at("making parts of /proc read-only")?;
        }
    }
    let net = Path::new("/proc/sys/net");
    bind(net, net).and_then(|()| sys::change_mount(net, 0, libc::MOUNT_ATTR_RDONLY)).at("/proc/sys/net")?;
    for path in MASKED {
        hide(Path::new(path), &held(null)).at(path)?;
    }
    Ok(())
}

fn programs(root: &Path, hidden: &[PathBuf]) -> io::Result<()> {
    let mut bound = vec![PathBuf::from("usr")];
    for name in PROGRAMS {
        let host = Path::new("/").join(name);
        match fs::symlink_metadata(&host) {
            Ok(meta) if meta.is_symlink() => symlink(fs::read_link(&host)?, root.join(name))?,
            Ok(meta) if meta.is_dir() => bound.push(name.into()),
            _ => {}
        }
    }
    for name in bound {
        let target = root.join(&name);
        fs::create_dir(&target)?;
        let host = Path::new("/").join(&name);
        mount(Some(&host), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        let restrictions = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        sys::change_mount(&target, restrictions, 0)?;
        for path in hidden.iter().filter(|path| path.starts_with(&host)) {
            let relative = path.strip_prefix("/").expect("hidden paths are absolute");
            hide(&root.join(relative), Path::new(NULL))?;
        }
    }
    Ok(())
}

/// Puts our own program into the node, to stand in for tools that the host lacks.
fn tools(root: &Path) -> io::Result<()> {
    let folder = root.join(TOOLS.trim_start_matches('/'));
    fs::create_dir_all(&folder)?;
    let staged = Path::new(STAGING).join("antimony");
    let program = folder.join("antimony");
    fs::write(&program, "")?;
    if fs::metadata(&staged)?.size() > 0 && bind(&staged, &program).is_ok() {
        read_only(&program)?;
        for tool in super::applets::NAMES {
            symlink("antimony", folder.join(tool))?;
        }
    }
    Ok(())
}

fn folders(root: &Path) -> io::Result<()> {
    for (path, mode) in [
        ("root", 0o700),
        ("home", 0o755),
        ("run", 0o755),
        ("run/lock", 0o1777),
        ("tmp", 0o1777),
        ("var", 0o755),
        ("var/cache", 0o755),
        ("var/lib", 0o755),
        ("var/log", 0o755),
        ("var/spool", 0o755),
        ("var/tmp", 0o1777),
        ("srv", 0o755),
        ("mnt", 0o755),
        ("media", 0o755),
    ] {
        fs::create_dir(root.join(path))?;
        fs::set_permissions(root.join(path), Permissions::from_mode(mode))?;
    }
    symlink("/run", root.join("var/run"))?;
    symlink("/run/lock", root.join("var/lock"))
}

fn etc(root: &Path, plan: &LabPlan, node: &NodePlan) -> io::Result<()> {
    let etc = root.join("etc");
    fs::create_dir(&etc)?;
    for name in ETC {
        copy(&Path::new("/etc").join(name), &etc.join(name))?;
    }
    // An ordinary user's node has root only, and names for ids that don't exist there would only mislead.
    let known = |text: &'static str| -> String {
        let exists = |line: &&str| {
            line.split(':').nth(2).and_then(|id| id.parse().ok()).is_some_and(|id: u32| id < plan.ids.width())
        };
        text.lines().filter(exists).map(|line| format!("{line}\n")).collect()
    };
    fs::write(etc.join("passwd"), known(PASSWD))?;
    fs::write(etc.join("group"), known(GROUP))?;
    fs::write(etc.join("hostname"), format!("{}\n", node.name))?;
    fs::write(etc.join("hosts"), &node.hosts)?;
    fs::write(etc.join("resolv.conf"), "")?;
    symlink("/proc/self/mounts", etc.join("mtab"))
}

/// Copies what everybody may read: files, links as links, folders with what is in them.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(meta) = fs::symlink_metadata(from) else { return Ok(()) };
    if meta.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if meta.mode() & 0o004 == 0 {
        return Ok(());
    }
    if meta.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)?.flatten() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if meta.is_file() {
        fs::write(to, fs::read(from)?)?;
    }
    Ok(())
}

fn devices(root: &Path, plan: &LabPlan) -> io::Result<()> {
    let dev = root.join("dev");
    fs::create_dir(&dev)?;
    // Nobody in the node can make device nodes, so these are the host's own, which everybody may use anyway.
    for name in DEVICES {
        let target = dev.join(name);
        fs::write(&target, "")?;
        bind(&Path::new("/dev").join(name), &target)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    fs::create_dir(dev.join("pts"))?;
    // The host has one stock of terminals for all.
    let options = if plan.ids.width() > 5 {
        "newinstance,ptmxmode=0666,mode=0620,max=64,gid=5"
    } else {
        "newinstance,ptmxmode=0666,mode=0620,max=64"
    };
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), flags, Some(options))?;
    symlink("pts/ptmx", dev.join("ptmx"))?;
    fs::create_dir(dev.join("shm"))?;
    let options = format!("size={},mode=1777", plan.disk / 4);
    mount(Some("shm"), &dev.join("shm"), Some("tmpfs"), flags | MsFlags::MS_NODEV, Some(options.as_str()))?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}

/// A read-only view of `/sys` of the node's own network. Where the kernel refuses one, the folder stays empty.
fn system(root: &Path) -> io::Result<()> {
    let target = root.join("sys");
    fs::create_dir(&target)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if mount(Some("sysfs"), &target, Some("sysfs"), flags, None::<&str>).is_ok() {
        for path in MASKED_SYS {
            hide(&root.join(path), Path::new(NULL))?;
        }
    }
    Ok(())
}

fn bind(from: &Path, to: &Path) -> io::Result<()> {
    Ok(mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

fn read_only(path: &Path) -> io::Result<()> {
    sys::change_mount(path, libc::MOUNT_ATTR_RDONLY, 0)
}

/// Covers a file with `null`, or a folder with an empty one. What isn't there needs no cover.
fn hide(path: &Path, null: &Path) -> io::Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if meta.is_dir() {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        Ok(mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("size=4k,mode=0555"))?)
    } else {
        bind(null, path)
    }
}
