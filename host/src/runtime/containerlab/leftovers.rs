//! What containerlab can leave behind, and how it is taken away: entries in the hosts file, ssh settings, named network
//! namespaces, firewall rules.
//!
//! Its own `destroy` removes what it finds containers for. That isn't everything when it was killed half-way, when somebody has
//! removed containers meanwhile, or when a node was stopped: its links are then parked in a namespace of their own. Everything
//! here is found by the name of the instance or of its containers, and what is not there is no error.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};

/// Where containerlab writes addresses of nodes, and the file that it locks meanwhile.
const HOSTS: &str = "/etc/hosts";
const HOSTS_LOCK: &str = "/run/lock/clab-hosts.lock";
/// How long somebody else may hold that lock before the entries stay.
const HOSTS_PATIENCE: Duration = Duration::from_secs(5);
/// Where named network namespaces are.
const NAMESPACES: &str = "/run/netns";

/// Takes away what belongs to no container any more. Blocks for some milliseconds. Answers what it could not, in sentences.
pub(super) fn sweep(instance: &str, containers: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut note = |what: &str, done: io::Result<()>| match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => problems.push(format!("{what}: {error}")),
        _ => {}
    };
    note("entries in /etc/hosts", clear_hosts(Path::new(HOSTS), Path::new(HOSTS_LOCK), instance, HOSTS_PATIENCE));
    let ssh = format!("/etc/ssh/ssh_config.d/clab-{instance}.conf");
    note(&ssh, std::fs::remove_file(&ssh));
    let mut names = namespaces_of(instance);
    // Where `prefix` is empty, a container has the name of its node, and a namespace by that name may be anybody's.
    names.extend(containers.iter().filter(|container| leads_nowhere(&Path::new(NAMESPACES).join(container))).cloned());
    for name in names {
        let path = Path::new(NAMESPACES).join(name);
        note(&path.display().to_string(), remove_namespace(&path));
    }
    problems
}

/// Whether it is a link to the namespace of a process that has ended.
fn leads_nowhere(path: &Path) -> bool {
    let to_process = std::fs::read_link(path).is_ok_and(|target| target.starts_with("/proc"));
    to_process && !path.exists()
}

/// The named network namespaces of an instance, also of containers that somebody else has removed. No other's name has the
/// instance's in it, which has its time and a random part.
fn namespaces_of(instance: &str) -> BTreeSet<String> {
    let named = format!("{instance}-");
    let there = std::fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    there.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.contains(&named)).collect()
}

/// Removes a named network namespace: a link to that of a process, or one that is mounted there.
fn remove_namespace(path: &Path) -> io::Result<()> {
    if !path.symlink_metadata()?.is_symlink() {
        // It isn't mounted when whoever wanted to do so was killed just before.
        let _ = umount2(path, MntFlags::MNT_DETACH);
    }
    std::fs::remove_file(path)
}

/// Removes the lines of an instance from a hosts file, under the lock that containerlab takes too.
fn clear_hosts(hosts: &Path, lock: &Path, instance: &str, patience: Duration) -> io::Result<()> {
    // Most of the time there is nothing to do, for which nobody has to wait.
    if without_block(&std::fs::read_to_string(hosts)?, instance).is_none() {
        return Ok(());
    }
    let lock = File::options().create(true).truncate(false).write(true).mode(0o644).open(lock)?;
    let _lock = lock_within(lock, patience)?;
    // In place, as containerlab does it: in containers this file is a mount that can't be replaced.
    let mut file = File::options().read(true).write(true).open(hosts)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    if let Some(rest) = without_block(&text, instance) {
        file.rewind()?;
        file.write_all(rest.as_bytes())?;
        file.set_len(rest.len() as u64)?;
    }
    Ok(())
}

/// Locks a file for this process alone, unless somebody else has it for that long.
fn lock_within(mut file: File, patience: Duration) -> io::Result<Flock<File>> {
    let end = Instant::now() + patience;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < end => file = back,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another program has them locked"));
            }
            Err((_, error)) => return Err(error.into()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The text without the block of the instance; `None` when it has none, or one without an end, which is left alone.
fn without_block(text: &str, instance: &str) -> Option<String> {
    let (first, last) = (format!("###### CLAB-{instance}-START ######"), format!("###### CLAB-{instance}-END ######"));
    let (mut rest, mut within, mut found) = (String::with_capacity(text.len()), false, false);
    for line in text.split_inclusive('\n') {
        match line.trim() {
            content if content == first => (within, found) = (true, true),
            content if content == last => within = false,
            _ if within => {}
            _ => rest.push_str(line),
        }
    }
    (found && !within).then_some(rest)
}

/// Removes the rules that containerlab has made for the bridge of a management network which is gone. Where there is no such
/// rule, or no firewall, nothing happens.
pub(super) async fn clear_firewall(bridge: &str) {
    for program in ["iptables", "ip6tables"] {
        for direction in ["-i", "-o"] {
            let rule = [direction, bridge, "-m", "comment", "--comment", "set by containerlab", "-j", "ACCEPT"];
            let mut command = tokio::process::Command::new(program);
            command.args(["-w", "5", "-D", "DOCKER-USER"]).args(rule).kill_on_drop(true);
            // It says so on its standard error when there is none.
            let output = tokio::time::timeout(Duration::from_secs(10), command.output()).await;
            tracing::debug!(program, direction, bridge, ?output, "removed rules of a management network");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS_FILE: &str = "127.0.0.1\tlocalhost\n###### CLAB-a-START ######\n172.20.20.2\tclab-a-r1\t# x\n###### CLAB-a-END ######\n\
        ###### CLAB-ab-START ######\n172.20.20.3\tclab-ab-r1\n###### CLAB-ab-END ######\n::1 ip6-localhost\n";

    #[test]
    fn only_the_lines_of_the_instance_are_taken_out_of_the_hosts_file() {
        let dir = tempfile::tempdir().unwrap();
        let (hosts, lock) = (dir.path().join("hosts"), dir.path().join("lock"));
        std::fs::write(&hosts, HOSTS_FILE).unwrap();
        clear_hosts(&hosts, &lock, "a", HOSTS_PATIENCE).unwrap();
        let rest = std::fs::read_to_string(&hosts).unwrap();
        assert!(!rest.contains("clab-a-r1") && rest.contains("clab-ab-r1") && rest.contains("::1"), "{rest}");
        assert_eq!(rest.lines().count(), 5);
        clear_hosts(&hosts, &lock, "a", HOSTS_PATIENCE).unwrap();
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), rest);
    }

    #[test]
    fn a_hosts_file_that_somebody_else_has_locked_is_a_problem_that_is_told_and_nothing_waits_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let (hosts, lock) = (dir.path().join("hosts"), dir.path().join("lock"));
        std::fs::write(&hosts, HOSTS_FILE).unwrap();
        let held = Flock::lock(File::create(&lock).unwrap(), FlockArg::LockExclusive).unwrap();
        let said = clear_hosts(&hosts, &lock, "a", Duration::from_millis(100)).unwrap_err();
        assert!(said.to_string().contains("locked"), "{said}");
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), HOSTS_FILE);
        drop(held);
        clear_hosts(&hosts, &lock, "a", HOSTS_PATIENCE).unwrap();
        assert_ne!(std::fs::read_to_string(&hosts).unwrap(), HOSTS_FILE);
    }

    #[test]
    fn a_block_without_an_end_is_left_alone() {
        assert_eq!(without_block("x\n###### CLAB-a-START ######\ny\n", "a"), None);
    }

    #[test]
    fn a_namespace_that_only_has_the_name_of_a_node_counts_as_left_when_it_leads_to_no_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("mounted"), "").unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", path("alive")).unwrap();
        std::os::unix::fs::symlink("/proc/4194305/ns/net", path("ended")).unwrap();
        std::os::unix::fs::symlink("/run/netns/other", path("elsewhere")).unwrap();
        let found = ["mounted", "alive", "ended", "elsewhere", "none"].map(|name| leads_nowhere(&path(name)));
        assert_eq!(found, [false, false, true, false, false]);
    }
}
