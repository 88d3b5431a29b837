//! However the server or a helper ends, nothing is left.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use antimony_host::runtime::RuntimeDriver;

use crate::harness::{
    Lines, Outsider, PATIENCE, SHOW_NAMESPACES, Shell, alive, cgroups_of, deploy, destroy, helpers_of, inhabitants_of,
    left_of, left_out, namespaces_in, runtime, two_routers, until,
};

/// Set in the process that a test kills: the name of the instance that it shall deploy.
const VICTIM: &str = "ANTIMONY_TEST_VICTIM";

/// Not a test by itself: the process that the next one kills.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Ok(name) = std::env::var(VICTIM) else { return };
    let runtime = runtime();
    let mut topology = two_routers();
    topology.nodes[0].cmd =
        Some("sh -c 'trap \"\" TERM HUP; setsid sleep 1000 & while :; do sleep 1000; done'".to_owned());
    topology.nodes[0].exec = vec![SHOW_NAMESPACES.to_owned()];
    topology.nodes[1].exec = vec![SHOW_NAMESPACES.to_owned()];
    let lines = deploy(&runtime, &name, topology).await.text();
    let mut shell = Shell::open(&runtime, &name, "r2").await;
    shell.run("nohup setsid sleep 1000 & sleep 1000 &").await;
    let _ = writeln!(std::io::stderr(), "{lines}\nVICTIM IS UP");
    std::future::pending::<()>().await;
}

/// Lines 21 and 41 to 44: however the server ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_leaves_no_process_namespace_mount_or_cgroup() {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "crash::victim", "--nocapture"]).env(VICTIM, format!("victim-{}", std::process::id()));
    let mut victim = Outsider(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let pid = victim.0.id();
    let mut text = String::new();
    let mut stderr = BufReader::new(victim.0.stderr.take().unwrap());
    while !text.contains("VICTIM IS UP") {
        assert_ne!(stderr.read_line(&mut text).unwrap(), 0, "{text}");
    }
    let namespaces = namespaces_in(&text);
    assert_eq!(namespaces.len(), 12, "{text}");
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let keepers: Vec<i32> = threads
        .flat_map(|thread| {
            let children = fs::read_to_string(thread.path().join("children")).unwrap();
            children.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()
        })
        .collect();
    assert_eq!(keepers.len(), 1);
    let inhabitants = inhabitants_of(&namespaces);
    assert!(inhabitants.len() >= 5, "{inhabitants:?}");
    if nix::unistd::geteuid().is_root() && cgroups_of(keepers[0]).is_empty() {
        left_out("that cgroups go away with a killed server: not even root can make any here");
    }

    drop(victim);
    until("the keeper ends", || !alive(keepers[0])).await;
    // It is the last one: when it has ended, everything else has.
    assert_eq!(left_of(&inhabitants), Vec::<i32>::new());
    assert_eq!(cgroups_of(keepers[0]), Vec::<PathBuf>::new());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("nr_inodes=65536"), "{mounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_helper_is_a_lost_instance_and_its_cgroups_are_swept() {
    let runtime = runtime();
    let mut events = runtime.watch();
    let mut topology = two_routers();
    topology.nodes[0].exec = vec![SHOW_NAMESPACES.to_owned()];
    let lines = deploy(&runtime, "lost", topology).await.text();
    let namespaces = namespaces_in(&lines);
    let inhabitants = inhabitants_of(&namespaces);
    // From a process of a node up to the child of this process: init of the node, the lab, the keeper.
    let parent = |pid: i32| -> i32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let me = i32::try_from(std::process::id()).unwrap();
    let Some(mut keeper) = inhabitants.first().map(|(pid, _)| *pid) else {
        // An idle node's only process may not be looked at by an ordinary user.
        return destroy(&runtime, "lost").await;
    };
    while parent(keeper) != me {
        keeper = parent(keeper);
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), nix::sys::signal::Signal::SIGKILL).unwrap();
    let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    assert!(matches!(event, antimony_host::runtime::RuntimeEvent::InstanceLost { instance, .. } if instance == "lost"));
    until("everything of the lab ends", || left_of(&inhabitants).is_empty()).await;
    until("its cgroups are swept", || cgroups_of(keeper).is_empty()).await;
    // Whoever watches may hear of it before the driver itself has forgotten it.
    let forgotten = async {
        while !runtime.list().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_does_not_react_is_killed_and_nothing_is_left() {
    let runtime = runtime();
    let name = format!("stuck-{}", std::process::id());
    deploy(&runtime, &name, two_routers()).await;
    let pids = helpers_of(&name);
    // The outermost one is the child of this process.
    let me = std::process::id().to_string();
    let child = |pid: &&i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1) == Some(me.as_str())
    };
    let keeper = *pids.iter().find(child).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), nix::sys::signal::Signal::SIGSTOP).unwrap();
    let destroyed =
        tokio::time::timeout(2 * PATIENCE, runtime.destroy(&name, std::path::Path::new(""), Lines::default().sink()))
            .await;
    destroyed.expect("an answer in time").unwrap();
    assert_eq!(helpers_of(&name), Vec::<i32>::new());
    assert_eq!(cgroups_of(keeper), Vec::<PathBuf>::new());
    assert!(runtime.list().await.unwrap().is_empty());
}
