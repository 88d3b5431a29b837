//! Runs of containerlab that nobody waits for any more, since the server that had started them was killed: how they are found,
//! and how they are ended.
//!
//! A run is known by its arguments: the topology file of an instance, or the name of the instance, neither of which any other
//! has. So there is nothing to write down before a run begins, and nothing to get wrong about process ids that were given out
//! anew. Called by the driver, which knows its own runs itself.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

/// How long a run may take to end once it was told to.
const FAREWELL: Duration = Duration::from_secs(30);
/// How long one may take that was killed.
const DEATH: Duration = Duration::from_secs(5);
/// How often it is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// The name of the topology file of an instance.
pub(super) fn topology_file(instance: &str) -> PathBuf {
    PathBuf::from(format!("{instance}.clab.yml"))
}

/// Ends every run of `program` that deals with `instance`, with all processes that it has started. Answers whether there was
/// one.
pub(super) async fn end(program: PathBuf, instance: String) -> bool {
    // Looking through all processes takes a while, which a thread of its own has.
    let ended = tokio::task::spawn_blocking(move || end_blocking(&program, &instance)).await;
    ended.unwrap_or_else(|error| {
        tracing::warn!(%error, "ending runs of containerlab failed");
        false
    })
}

fn end_blocking(program: &Path, instance: &str) -> bool {
    let runs = runs(program, instance);
    let still = || runs.iter().filter(|run| is_run(**run, program, instance)).collect::<Vec<_>>();
    for run in &runs {
        tracing::info!(instance, process = run.as_raw(), "containerlab works on it still, for nobody: it is ended");
    }
    // Each is the first process of a group of its own, unless somebody else has started it.
    let leads = |run: &Pid| getpgid(Some(*run)).is_ok_and(|group| group == *run);
    let groups: Vec<Pid> = runs.iter().copied().filter(leads).collect();
    for (signal, patience) in [(Signal::SIGTERM, FAREWELL), (Signal::SIGKILL, DEATH)] {
        // One that has ended meanwhile may have left its number to a process which is none of ours.
        for run in still() {
            // It may just have ended.
            let _ = if groups.contains(run) { killpg(*run, signal) } else { kill(*run, signal) };
        }
        let end = Instant::now() + patience;
        // Somebody else's children: there is nothing to wait on.
        while !still().is_empty() && Instant::now() < end {
            std::thread::sleep(LOOK);
        }
        if still().is_empty() {
            break;
        }
    }
    // Whatever of a group has outlived its first process. The number of a group is not given out anew while there are any.
    for group in &groups {
        let _ = killpg(*group, Signal::SIGKILL);
    }
    if !still().is_empty() {
        tracing::warn!(instance, ?runs, "containerlab still works on it");
    }
    !runs.is_empty()
}

fn runs(program: &Path, instance: &str) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    pids.filter(|pid| is_run(*pid, program, instance)).collect()
}

fn is_run(pid: Pid, program: &Path, instance: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_about(&line, program, instance))
}

/// Whether this is the command line of a run that deals with `instance`.
fn is_about(command_line: &[u8], program: &Path, instance: &str) -> bool {
    let words: Vec<&str> =
        command_line.split(|byte| *byte == 0).map(|word| std::str::from_utf8(word).unwrap_or("")).collect();
    let Some((first, rest)) = words.split_first() else { return false };
    let (first, file) = (Path::new(first), topology_file(instance));
    if !(first == program || first.file_name() == program.file_name()) {
        return false;
    }
    let its_file = |word: &&str| Path::new(word).is_absolute() && Path::new(word).file_name() == Some(file.as_os_str());
    rest.iter().any(its_file) || rest.windows(2).any(|pair| pair == ["--name", instance])
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    #[test]
    fn a_run_is_known_by_its_file_or_by_its_name_and_by_nothing_that_only_looks_like_it() {
        let about = |line: &str| {
            let line = line.replace(' ', "\0");
            is_about(line.as_bytes(), Path::new("/opt/containerlab"), "lab-1")
        };
        assert!(about("/opt/containerlab deploy --topo /x/lab-1/lab-1.clab.yml"));
        assert!(about("containerlab destroy --keep-mgmt-net --name lab-1"));
        assert!(!about("/opt/containerlab deploy --topo /x/lab-1/lab-11.clab.yml"));
        assert!(!about("/opt/containerlab destroy --name lab-11"));
        assert!(!about("/opt/containerlab deploy --topo lab-1.clab.yml"), "in a folder that nobody knows");
        assert!(!about("vi /x/lab-1/lab-1.clab.yml"));
    }

    #[tokio::test]
    async fn runs_on_a_topology_file_are_ended_with_what_they_have_started_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("clab-of-the-test");
        let (script, noted) = (dir.path().join("run"), dir.path().join("child"));
        // A child that doesn't end with its parent when that is told to.
        std::fs::write(&script, "(trap '' TERM; echo $BASHPID > \"$2\"; exec sleep 300) & wait\n").unwrap();
        std::os::unix::fs::symlink("/bin/bash", &program).unwrap();
        let start = |file: &str, noted: &Path| {
            let mut command = std::process::Command::new(&program);
            command.arg(&script).arg(file).arg(noted).process_group(0).spawn().unwrap()
        };
        let (mut one, mut other) =
            (start("/x/lab-1.clab.yml", &noted), start("/x/lab-11.clab.yml", &dir.path().join("x")));
        let child = loop {
            match std::fs::read_to_string(&noted).unwrap_or_default().trim().parse() {
                Ok(child) => break Pid::from_raw(child),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        };
        assert!(end(program.clone(), "lab-1".to_owned()).await);
        // It was this process's child, which is a zombie until somebody asks.
        assert!(!one.wait().unwrap().success());
        let gone = || {
            let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        while !gone() {
            tokio::time::sleep(LOOK).await;
        }
        assert!(other.try_wait().unwrap().is_none(), "the other one goes on");
        assert!(!end(program, "lab-2".to_owned()).await);
        killpg(Pid::from_raw(i32::try_from(other.id()).unwrap()), Signal::SIGKILL).unwrap();
        other.wait().unwrap();
    }
}
