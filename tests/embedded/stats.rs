//! What nodes use, by cgroups where this user may have them, and by their processes where not.

use std::time::Duration;

use antimony_host::runtime::embedded::EmbeddedRuntime;
use antimony_host::runtime::stats::{Counters, Interface, Usage};
use antimony_host::runtime::{NodeAction, RuntimeDriver, RuntimeError};
use antimony_host::topology::Topology;

use crate::harness::{PATIENCE, Shell, deploy, destroy, link, node, run_in, runtime, two_routers};

const MIB: u64 = 1 << 20;

/// What each node uses.
async fn usages(runtime: &EmbeddedRuntime, instance: &str) -> Vec<Option<Usage>> {
    let stats = tokio::time::timeout(PATIENCE, runtime.stats(instance)).await.unwrap().unwrap();
    stats.into_iter().map(|node| node.usage).collect()
}

async fn usage(runtime: &EmbeddedRuntime, instance: &str, index: usize) -> Usage {
    usages(runtime, instance).await.swap_remove(index).expect("it runs")
}

fn memory(usage: &Usage) -> u64 {
    usage.memory.expect("is known").bytes
}

async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let happens = async {
        while !happened().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, happens).await.unwrap_or_else(|_| panic!("still waiting: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_computes_and_allocates_is_told_from_one_that_idles() {
    let runtime = runtime();
    deploy(&runtime, "stats-busy", two_routers()).await;
    let mut shell = Shell::open(&runtime, "stats-busy", "r1").await;
    shell.run("true").await;
    let (before, idle) = (usage(&runtime, "stats-busy", 0).await, usage(&runtime, "stats-busy", 1).await);
    let limits = [&before, &idle].map(|usage| usage.memory.unwrap().limit);
    assert!(limits == [Some(1 << 30); 2] || limits == [None; 2], "{limits:?}");
    // Whoever runs this as root has what counts memory for a node.
    assert!(!nix::unistd::geteuid().is_root() || limits[0].is_some(), "{before:?}");
    shell.run("dd if=/dev/zero of=/dev/null bs=64M 2>/dev/null & echo $! > /tmp/pid").await;
    until("it is busy", async || {
        let now = usage(&runtime, "stats-busy", 0).await;
        let used = now.cpu.unwrap().saturating_sub(before.cpu.unwrap()) >= Duration::from_millis(500);
        used && memory(&now) >= memory(&before) + 60 * MIB && now.processes == before.processes.map(|count| count + 1)
    })
    .await;
    let busy = usage(&runtime, "stats-busy", 0).await;
    let still_idle = usage(&runtime, "stats-busy", 1).await;
    assert!(still_idle.cpu.unwrap() < idle.cpu.unwrap() + Duration::from_millis(400), "{still_idle:?} after {idle:?}");
    assert!(memory(&still_idle) < memory(&idle) + 30 * MIB, "{still_idle:?} after {idle:?}");
    shell.run("kill $(cat /tmp/pid); wait").await;
    until("it is idle", async || {
        let now = usage(&runtime, "stats-busy", 0).await;
        memory(&now) < memory(&before) + 30 * MIB && now.processes == before.processes
    })
    .await;
    // Time that was used stays used.
    assert!(usage(&runtime, "stats-busy", 0).await.cpu >= busy.cpu, "after {busy:?}");
    drop(shell);
    destroy(&runtime, "stats-busy").await;
    assert!(matches!(runtime.stats("stats-busy").await, Err(RuntimeError::NoInstance(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn interfaces_have_what_the_topology_says_and_count_what_goes_over_them() {
    let runtime = runtime();
    let quiet = |name| {
        let mut node = node(name);
        node.sysctls.insert("net.ipv6.conf.all.disable_ipv6".to_owned(), "1".to_owned());
        node
    };
    let mut topology = Topology {
        nodes: vec![quiet("r1"), quiet("r2")],
        links: vec![
            link(("r1", "eth1", "10.0.0.1/30"), ("r2", "eth1", "10.0.0.2/30")),
            link(("r1", "to-r2", ""), ("r2", "e1-1", "")),
        ],
        ..two_routers()
    };
    topology.links[0].mtu = Some(1400);
    topology.links[0].ends[0].mac = Some("02:00:00:00:ab:01".to_owned());
    deploy(&runtime, "stats-links", topology).await;
    assert_eq!(run_in(&runtime, "stats-links", "r1", "ping -c 1 -W 5 r2").await.0, 0);
    let interfaces = async |index| usage(&runtime, "stats-links", index).await.interfaces;
    let before = [interfaces(0).await, interfaces(1).await];
    let names = before.each_ref().map(|all| all.iter().map(|each| each.name.as_str()).collect::<Vec<_>>());
    assert_eq!(names, [["eth1", "to-r2"], ["eth1", "e1-1"]]);
    let Interface { up, mtu, mac, .. } = &before[0][0];
    assert_eq!((*up, *mtu, mac.as_deref()), (Some(true), Some(1400), Some("02:00:00:00:ab:01")));
    assert_eq!(run_in(&runtime, "stats-links", "r1", "ping -c 3 -i 0.1 -W 5 r2").await.0, 0);
    let after = [interfaces(0).await, interfaces(1).await];
    for (near, far) in [(0, 1), (1, 0)] {
        let moved = |of: fn(&Interface) -> Counters, end: usize| {
            let (now, then) = (of(&after[end][0]), of(&before[end][0]));
            assert_eq!((now.errors, now.dropped), (then.errors, then.dropped));
            (now.packets - then.packets, now.bytes - then.bytes)
        };
        let sent = moved(|interface| interface.sent, near);
        assert!((3..=7).contains(&sent.0), "{sent:?}");
        assert_eq!(sent, moved(|interface| interface.received, far));
        assert_eq!(after[near][1], before[near][1], "nothing went over the other link");
    }
    // What a node's user makes is there as well; loopback, under whatever name, isn't.
    let line = "ip link set eth1 down; ip link set lo name loop; ip link add more type bridge";
    assert_eq!(run_in(&runtime, "stats-links", "r1", line).await.0, 0);
    let now = interfaces(0).await;
    let up: Vec<_> = now.iter().map(|each| (each.name.as_str(), each.up)).collect();
    assert_eq!(up, [("eth1", Some(false)), ("to-r2", Some(true)), ("more", Some(false))]);
    destroy(&runtime, "stats-links").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_node_uses_nothing_and_the_others_go_on() {
    let runtime = runtime();
    deploy(&runtime, "stats-stop", two_routers()).await;
    runtime.node("stats-stop", "r1", NodeAction::Stop).await.unwrap();
    let stopped = usages(&runtime, "stats-stop").await;
    assert!(stopped[0].is_none() && stopped[1].is_some(), "{stopped:?}");
    runtime.node("stats-stop", "r1", NodeAction::Start).await.unwrap();
    let started = usage(&runtime, "stats-stop", 0).await;
    assert!(started.cpu.is_some() && started.interfaces.len() == 1, "{started:?}");
    // Whatever a node makes of its interfaces, what is told of them stays short, and the lab goes on.
    let line = "for i in $(seq 200); do ip link add many$i type bridge || break; done";
    run_in(&runtime, "stats-stop", "r1", line).await;
    let many = usages(&runtime, "stats-stop").await;
    assert_eq!(many[0].as_ref().unwrap().interfaces.len(), 128);
    assert_eq!(many[1].as_ref().unwrap().interfaces.len(), 1);
    destroy(&runtime, "stats-stop").await;
}
