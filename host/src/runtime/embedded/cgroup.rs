//! Limits on processes and memory of nodes, where this machine's cgroups allow them: version 1, version 2 or neither.
//!
//! The keeper of a lab makes one folder per lab and hierarchy with one folder per node in it, hands the open
//! `cgroup.procs` files on (what may be done with them depends on who opened them, so that processes that have long
//! given up their rights can still put themselves in), and removes the folders when everything in them has ended. If
//! the keeper itself was killed, [`sweep`] does, at the next start. Where nothing can be made, nodes run without. What the
//! folders tell of a node's use is handed on in the same way ([`Meters`]); for that alone there are, in version 1, folders of
//! `cpuacct`, but where it comes with `cpu`, whose folders change who gets how much.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::meters::{Meters, Version};
use super::protocol::LabPlan;

/// Every folder of ours starts like this; the process id and start time of the keeper follow.
const PREFIX: &str = "antimony-lab-";

/// The folders of one lab.
#[derive(Debug, Default)]
pub(super) struct LabCgroups {
    folders: Vec<PathBuf>,
    nodes: Vec<Vec<File>>,
    meters: Vec<Meters>,
    limit_memory: bool,
    note: Option<String>,
}

impl LabCgroups {
    /// Makes what can be made. Never fails: see [`Self::note`].
    pub(super) fn create(plan: &LabPlan) -> Self {
        let mut made = Self::default();
        made.nodes.resize_with(plan.nodes.len(), Vec::new);
        made.meters.resize_with(plan.nodes.len(), Meters::default);
        let name = format!("{PREFIX}{}-{}", std::process::id(), start_time(std::process::id()).unwrap_or(0));
        let mut limited = [false; 2];
        for hierarchy in hierarchies() {
            for parent in &hierarchy.parents {
                let lab = parent.join(&name);
                if fs::create_dir(&lab).is_err() {
                    continue;
                }
                made.folders.push(lab.clone());
                if made.fill(&hierarchy, &lab, plan).is_ok() {
                    limited[0] |= hierarchy.pids;
                    limited[1] |= hierarchy.memory;
                    break;
                }
            }
        }
        made.limit_memory = limited[1];
        made.note = match limited {
            [true, true] => None,
            [true, false] => Some("memory of nodes is not limited: no memory cgroup can be made here".to_owned()),
            [false, true] => {
                Some("processes of nodes are limited per user only: no pids cgroup can be made here".to_owned())
            }
            [false, false] => Some(
                "no cgroups can be made here: processes of nodes are limited per user, and memory per process"
                    .to_owned(),
            ),
        };
        made
    }

    fn fill(&mut self, hierarchy: &Hierarchy, lab: &Path, plan: &LabPlan) -> std::io::Result<()> {
        if hierarchy.unified {
            for (wanted, controller) in [(hierarchy.pids, "+pids"), (hierarchy.memory, "+memory")] {
                if wanted {
                    fs::write(lab.join("cgroup.subtree_control"), controller)?;
                }
            }
        }
        let mut opened = Vec::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            let folder = lab.join(format!("node-{index}"));
            fs::create_dir(&folder)?;
            self.folders.push(folder.clone());
            if hierarchy.pids {
                fs::write(folder.join("pids.max"), plan.processes.to_string())?;
            }
            if hierarchy.memory {
                let file = if hierarchy.unified { "memory.max" } else { "memory.limit_in_bytes" };
                fs::write(folder.join(file), node.memory.to_string())?;
                // Swap is no way around the limit; kernels without swap accounting have no such file.
                let (file, value) = if hierarchy.unified {
                    ("memory.swap.max", 0)
                } else {
                    ("memory.memsw.limit_in_bytes", node.memory)
                };
                let _ = fs::write(folder.join(file), value.to_string());
            }
            opened.push((OpenOptions::new().write(true).open(folder.join("cgroup.procs"))?, folder));
        }
        let version = if hierarchy.unified { Version::Two } else { Version::One };
        for (node, (file, folder)) in opened.into_iter().enumerate() {
            self.nodes[node].push(file);
            let meters = &mut self.meters[node];
            if hierarchy.pids {
                meters.add_processes(&folder);
            }
            if hierarchy.memory {
                meters.add_memory(&folder, version, plan.nodes[node].memory);
            }
            if hierarchy.cpu {
                meters.add_cpu(&folder, version);
            }
        }
        Ok(())
    }

    /// Takes everything away again because processes can't get in.
    pub(super) fn give_up(self) -> Self {
        self.remove();
        let note = "this user may make cgroups and put nothing into them: processes of nodes are limited per user, and \
                    memory per process";
        Self { note: Some(note.to_owned()), ..Self::default() }
    }

    /// Whether they limit the memory of nodes.
    pub(super) fn limit_memory(&self) -> bool {
        self.limit_memory
    }

    /// What tells how much a node uses.
    pub(super) fn meters(&self, node: usize) -> Option<&Meters> {
        self.meters.get(node)
    }

    /// What is missing, as a sentence for the log of the lab.
    pub(super) fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Puts the calling process into the folders of a node.
    ///
    /// # Errors
    /// When a folder takes no more processes, or not from here.
    pub(super) fn join(&self, node: usize) -> std::io::Result<()> {
        for mut procs in self.nodes.get(node).into_iter().flatten() {
            procs.write_all(b"0")?;
        }
        Ok(())
    }

    /// Removes everything. The processes have ended, but the kernel takes a moment to let go of them; under load that may
    /// be longer than this waits. Whether nothing is left.
    pub(super) fn remove(self) -> bool {
        drop(self.nodes);
        let until = Instant::now() + Duration::from_secs(3);
        for folder in self.folders.iter().rev() {
            while fs::remove_dir(folder).is_err() && folder.exists() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        !self.folders.iter().any(|folder| folder.exists())
    }
}

/// Removes folders whose keeper is gone. Folders with processes in them can't be removed, so this harms nobody. Whether
/// none is left.
pub(super) fn sweep() -> bool {
    let mut clean = true;
    for parent in hierarchies().into_iter().flat_map(|hierarchy| hierarchy.parents) {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some((pid, start)) =
                name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split_once('-'))
            else {
                continue;
            };
            let alive = pid.parse().ok().and_then(start_time).is_some_and(|time| time.to_string() == start);
            if !alive {
                for node in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                    if node.file_type().is_ok_and(|kind| kind.is_dir()) {
                        let _ = fs::remove_dir(node.path());
                    }
                }
                let _ = fs::remove_dir(entry.path());
                clean &= !entry.path().exists();
            }
        }
    }
    clean
}

/// When a process started, in clock ticks since boot: with its id, this names it for good.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A cgroup file system that has at least one of the controllers that we use.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    unified: bool,
    pids: bool,
    memory: bool,
    /// Its folders tell of processor time.
    cpu: bool,
    /// Where a folder might be made, best first.
    parents: Vec<PathBuf>,
}

fn hierarchies() -> Vec<Hierarchy> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    find_hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), |folder| {
        fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default()
    })
}

/// `enabled` answers the controllers that folders made in a version 2 folder have.
fn find_hierarchies(mountinfo: &str, own: &str, enabled: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        // … root mount-point options … - type source super-options
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let ([_, _, _, root, point, ..], [kind, _, options, ..]) = (&left[..], &right[..]) else { continue };
        let unified = match *kind {
            "cgroup" => false,
            "cgroup2" => true,
            _ => continue,
        };
        let controllers: Vec<&str> = options.split(',').collect();
        let here = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next()?, parts.next()?);
            let ours =
                if unified { names.is_empty() } else { names.split(',').any(|name| controllers.contains(&name)) };
            ours.then_some(path)
        });
        let point = Path::new(point);
        let below = here.and_then(|path| Path::new(path).strip_prefix(root).ok());
        let own_folder = below.map_or_else(|| point.to_owned(), |below| point.join(below));
        if unified {
            // A folder with processes in it can't hand controllers down, so look upwards for one that does.
            for folder in own_folder.ancestors().take_while(|folder| folder.starts_with(point)) {
                let enabled = enabled(folder);
                let has = |name| enabled.split_whitespace().any(|each| each == name);
                let (pids, memory) = (has("pids"), has("memory"));
                if pids || memory {
                    found.push(Hierarchy { unified, pids, memory, cpu: true, parents: vec![folder.to_owned()] });
                }
            }
        } else {
            let has = |name| controllers.contains(&name);
            let (pids, memory, cpu) = (has("pids"), has("memory"), has("cpuacct") && !has("cpu"));
            if pids || memory || cpu {
                found.push(Hierarchy { unified, pids, memory, cpu, parents: vec![own_folder] });
            }
        }
    }
    // One version 2 folder is enough: they are all of one tree.
    let mut seen_unified = false;
    let mut merged: Vec<Hierarchy> = Vec::new();
    for hierarchy in found {
        if hierarchy.unified && seen_unified {
            if let Some(first) = merged.iter_mut().find(|each| each.unified)
                && (first.pids, first.memory) == (hierarchy.pids, hierarchy.memory)
            {
                first.parents.extend(hierarchy.parents);
            }
            continue;
        }
        seen_unified |= hierarchy.unified;
        merged.push(hierarchy);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_controllers_are_found_at_the_own_folder_of_each() {
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "8:pids:/\n4:memory:/a/b\n1:cpu:/\n0::/\n";
        let found = find_hierarchies(mounts, own, |_| String::new());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].parents, [PathBuf::from("/sys/fs/cgroup/memory/a/b")]);
        assert!(found[0].memory && !found[0].pids && !found[0].unified);
        assert_eq!(found[1].parents, [PathBuf::from("/sys/fs/cgroup/pids")]);
    }

    #[test]
    fn version_1_counts_processor_time_where_that_changes_nothing_else() {
        let find = |options: &str| {
            let mounts = format!("33 31 0:30 / /sys/fs/cgroup/c rw - cgroup cgroup rw,{options}\n");
            find_hierarchies(&mounts, &format!("2:{options}:/\n"), |_| String::new())
        };
        assert!(find("cpuacct")[0].cpu);
        assert_eq!(find("cpu,cpuacct"), []);
        assert!(!find("memory")[0].cpu);
    }

    #[test]
    fn in_version_2_the_nearest_folder_that_hands_controllers_down_is_used() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let own = "0::/user.slice/app.slice/antimony.service\n";
        let found = find_hierarchies(mounts, own, |folder| {
            if folder.ends_with("antimony.service") { String::new() } else { "memory pids\n".to_owned() }
        });
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].parents[0], Path::new("/sys/fs/cgroup/user.slice/app.slice"));
        assert_eq!(found[0].parents.last().unwrap(), Path::new("/sys/fs/cgroup"));
    }
}
