//! What a process of a node may not do, on top of its namespaces: capabilities, no-new-privileges, resource limits and
//! system calls. Applied by the child itself as its last step before it runs the user's program.

use std::collections::BTreeMap;
use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

/// What networking in a node needs, and no more. They count in the node's own user namespace only.
const CAPABILITIES: [Capability; 12] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_CHROOT,
];

/// System calls that answer EPERM. Most need capabilities that a node lacks anyway; refusing them here keeps mistakes
/// in their rarely used code out of reach, and those that a nested user namespace would allow stay refused.
const REFUSED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_fanotify_init,
    // Other namespaces, and files by handle rather than by path.
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Keyrings are not per namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Clocks.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Other processes' insides.
    libc::SYS_kcmp,
    // Memory that no limit of ours counts, and names of files beyond the node's root.
    libc::SYS_memfd_secret,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lookup_dcookie,
    libc::SYS_process_vm_writev,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// One number on all processors; the C library's list does not have it yet.
const OPEN_TREE_ATTR: libc::c_long = 467;

/// Flags of clone and unshare that make namespaces.
const NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWCGROUP,
    0x80, // CLONE_NEWTIME, which shares its bit with the exit signal of clone(2), where no signal reaches it
];

/// Filters and limits, made once per lab.
#[derive(Debug, Clone)]
pub(super) struct Confinement {
    filters: Vec<BpfProgram>,
    processes: u64,
}

impl Confinement {
    /// Compiles the filters for nodes with at most `processes` processes per user.
    ///
    /// # Errors
    /// On processors that the filters don't know.
    pub(super) fn new(processes: u64) -> Result<Self, String> {
        let arch: TargetArch =
            std::env::consts::ARCH.try_into().map_err(|error| format!("no system call filter: {error}"))?;
        let equals = |index, value: i64| {
            let value = u64::try_from(value).expect("constants of the kernel are not negative");
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
        };
        let has_bit = |index, bit: libc::c_int| {
            let bit = u64::from(bit.unsigned_abs());
            SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bit), bit)
        };
        let compile = || -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
            let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
            for call in [libc::SYS_clone, libc::SYS_unshare] {
                let each = NAMESPACES.iter().map(|flag| SeccompRule::new(vec![has_bit(0, *flag)?]));
                rules.insert(call, each.collect::<Result<_, _>>()?);
            }
            // Everything else is no part of a network namespace, or code that hardly anybody looks at.
            let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];
            let differs = |family: &libc::c_int| {
                SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::from(family.unsigned_abs()))
            };
            let others = SeccompRule::new(families.iter().map(differs).collect::<Result<_, _>>()?)?;
            rules.insert(libc::SYS_socket, vec![others]);
            // Typing into a terminal on behalf of whoever sits there.
            let typing = SeccompRule::new(vec![equals(1, 0x5412)?])?; // TIOCSTI
            // Loading line disciplines.
            let disciplines = SeccompRule::new(vec![equals(1, 0x5423)?])?; // TIOCSETD
            rules.insert(libc::SYS_ioctl, vec![typing, disciplines]);
            let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
            let refuse = SeccompFilter::new(rules, SeccompAction::Allow, eperm, arch)?;
            // The flags of clone3 lie in memory, where no filter sees them. C libraries fall back to clone.
            let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
            let enosys = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
            let hide = SeccompFilter::new(clone3, SeccompAction::Allow, enosys, arch)?;
            Ok(vec![refuse.try_into()?, hide.try_into()?])
        };
        let mut filters = compile().map_err(|error| format!("no system call filter: {error}"))?;
        if cfg!(target_arch = "x86_64") {
            filters.push(refuse_x32());
        }
        Ok(Self { filters, processes })
    }

    /// Confines the calling process for good. What it may still do is set its user and run a program. `memory`: bytes
    /// that each process may have.
    ///
    /// # Errors
    /// When the kernel refuses a step, in which case nothing of the user's may run.
    pub(super) fn apply(&self, memory: Option<u64>) -> io::Result<()> {
        limit(Resource::RLIMIT_CORE, 0)?;
        limit(Resource::RLIMIT_NPROC, self.processes)?;
        // The helper has raised its own limit of files as far as it goes.
        limit(Resource::RLIMIT_NOFILE, 4096)?;
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, soft.min(1024), hard)?;
        limit(Resource::RLIMIT_MSGQUEUE, 819_200)?;
        limit(Resource::RLIMIT_SIGPENDING, 4096)?;
        limit(Resource::RLIMIT_MEMLOCK, 8 << 20)?;
        if let Some(memory) = memory {
            // Counts private writable memory.
            limit(Resource::RLIMIT_DATA, memory)?;
        }
        let keep: CapsHashSet = CAPABILITIES.into_iter().collect();
        for capability in caps::all() {
            if !keep.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
                caps::drop(None, CapSet::Bounding, capability).map_err(io::Error::other)?;
            }
        }
        caps::clear(None, CapSet::Ambient).map_err(io::Error::other)?;
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::set(None, set, &keep).map_err(io::Error::other)?;
        }
        caps::clear(None, CapSet::Inheritable).map_err(io::Error::other)?;
        prctl::set_no_new_privs()?;
        for filter in &self.filters {
            seccompiler::apply_filter(filter).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// Lowers a limit, soft and hard; one that is lower already stays.
pub(super) fn limit(resource: Resource, to: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let to = to.min(hard);
    Ok(setrlimit(resource, to, to)?)
}

/// On x86-64 every system call has a second number under which the lists above would not find it.
fn refuse_x32() -> BpfProgram {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const X32: u32 = 0x4000_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 1, X32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile_for_this_processor() {
        let confinement = Confinement::new(64).unwrap();
        assert!(confinement.filters.len() >= 2);
        assert!(confinement.filters.iter().all(|filter| !filter.is_empty()));
    }

    #[test]
    fn nothing_that_reaches_beyond_a_network_namespace_is_kept() {
        for dangerous in [Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_MODULE, Capability::CAP_MKNOD] {
            assert!(!CAPABILITIES.contains(&dangerous));
        }
    }
}
