//! Instances from deploy to destroy: what containerlab documents works as documented, and nothing is left.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use antimony_host::labs::model::NodeState;
use antimony_host::runtime::embedded::{EmbeddedOptions, EmbeddedRuntime};
use antimony_host::runtime::{LogSink, NodeAction, RuntimeDriver, RuntimeError};
use antimony_host::topology::{Node, Topology};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    Lines, PATIENCE, SHOW_NAMESPACES, Shell, deploy, destroy, helper, helpers_of, inhabitants_of, left_of, left_out,
    link, namespaces_in, node, number, one, read_log, run_in, runtime, spec, two_routers, usual_shells,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_reach_each_other_over_their_link_from_a_shell() {
    let runtime = runtime();
    let lines = deploy(&runtime, "pair-ping", two_routers()).await.text();
    assert!(lines.contains("r1:eth1 – r2:eth1") && lines.contains("clab-pair-r1"), "{lines}");
    let mut shell = Shell::open(&runtime, "pair-ping", "r1").await;
    let (code, text) = shell.run("ping -c 2 -i 0.1 -W 5 r2").await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("2 received"), "{text}");
    let (_, text) = shell.run("cat /sys/class/net/eth1/mtu; hostname; stty size; echo $TERM; id -u").await;
    let words: Vec<&str> = text.lines().filter(|line| !line.contains("stty")).map(str::trim).collect();
    assert!(words.join(" ").contains("9500 r1 24 80 xterm-256color 0"), "{text}");
    shell.pty.control.resize(132, 50);
    let (_, text) = shell.run("stty size").await;
    assert!(text.contains("50 132"), "{text}");
    drop(shell);
    let nodes = runtime.inspect("pair-ping").await.unwrap();
    assert_eq!(nodes[0].container_name, "clab-pair-r1");
    assert!(nodes.iter().all(|node| node.state == NodeState::Running && node.container_id.len() == 12));
    assert_eq!(runtime.list().await.unwrap(), ["pair-ping"]);
    destroy(&runtime, "pair-ping").await;
    assert!(runtime.list().await.unwrap().is_empty());
    assert!(matches!(runtime.inspect("pair-ping").await, Err(RuntimeError::NoInstance(_))));
    destroy(&runtime, "pair-ping").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cmd_env_exec_sysctls_and_user_work_as_containerlab_documents_them() {
    let runtime = runtime();
    let first = Node {
        image: Some("alpine:3".to_owned()),
        cmd: Some("sh -c 'echo main sees \"$GREETING\" > /dev/stdout; exec sleep 1000'".to_owned()),
        env: [("GREETING".to_owned(), "hello  world".to_owned())].into(),
        exec: vec![
            "sh -c 'echo \"first $GREETING\" > /tmp/order'".to_owned(),
            "no-such-program at all".to_owned(),
            "sh -c 'echo second >> /tmp/order; cat /tmp/order; cat /proc/sys/net/ipv4/ip_forward; exit 3'".to_owned(),
            "ping -c 1 -W 5 10.0.0.2".to_owned(),
        ],
        sysctls: [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into(),
        ..node("spine-1")
    };
    let topology = Topology {
        nodes: vec![first, node("A.b_c")],
        links: vec![link(("spine-1", "e1-1", "10.0.0.1/30"), ("A.b_c", "e1-1", "10.0.0.2/30"))],
        ..two_routers()
    };
    let lines = deploy(&runtime, "documented", topology).await.text();
    assert!(lines.contains("spine-1 | first hello  world\nspine-1 | second\nspine-1 | 1\n"), "{lines}");
    assert!(lines.contains("no-such-program") && lines.contains("exit status 3"), "{lines}");
    assert!(lines.contains("1 received") && lines.contains("alpine:3 is not used"), "{lines}");
    let mut log = runtime.follow_log("documented", "spine-1", None).await.unwrap();
    read_log(&mut log, "main sees hello  world\n").await;
    let (_, text) = run_in(&runtime, "documented", "spine-1", "echo \"<$GREETING>\"").await;
    assert!(text.contains("<hello  world>"), "{text}");
    destroy(&runtime, "documented").await;
    while tokio::time::timeout(PATIENCE, log.recv()).await.expect("the log ends with the instance").is_some() {}

    let other = Node { cmd: Some("sh -c 'id -u; id -g'".to_owned()), user: Some("nobody".to_owned()), ..node("r1") };
    let spec = spec("user", one(other));
    let result = runtime.deploy(&spec, Lines::default().sink(), CancellationToken::new()).await;
    if nix::unistd::geteuid().is_root() {
        result.unwrap();
        read_log(&mut runtime.follow_log("user", "r1", None).await.unwrap(), "65534\n65534\n").await;
        destroy(&runtime, "user").await;
    } else {
        assert!(matches!(result, Err(RuntimeError::Unsupported(text)) if text.contains("user")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_of_twenty_nodes_comes_up_and_goes_away() {
    let runtime = runtime();
    let names: Vec<String> = (0..20).map(|index| format!("n{index}")).collect();
    let links = (0..20).map(|index| {
        let (here, there) = (&names[index], &names[(index + 1) % 20]);
        link((here, "right", &format!("10.0.{index}.1/30")), (there, "left", &format!("10.0.{index}.2/30")))
    });
    let links = links.collect();
    let topology = Topology { nodes: names.iter().map(|name| node(name)).collect(), links, ..two_routers() };
    let lines = deploy(&runtime, "ring", topology).await.text();
    assert_eq!(lines.matches("Created link").count(), 20, "{lines}");
    let (code, text) = run_in(&runtime, "ring", "n19", "ping -c 1 -W 5 10.0.19.2 && ping -c 1 -W 5 10.0.18.1").await;
    assert_eq!(code, 0, "{text}");
    let begun = Instant::now();
    destroy(&runtime, "ring").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "destroy took {:?}", begun.elapsed());
    assert!(lines.contains("is up after"), "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_here_is_refused_and_leaves_nothing() {
    let runtime = runtime();
    let silent = || Lines::default().sink();
    let other = Node { kind: "nokia_srlinux".to_owned(), ..node("leaf") };
    let refused = runtime.deploy(&spec("kinds", one(other)), silent(), CancellationToken::new()).await;
    assert!(matches!(refused, Err(RuntimeError::Unsupported(text)) if text.contains("containerlab runtime")));
    let missing = Node { cmd: Some("/no/such/program".to_owned()), ..node("r1") };
    let failed = runtime.deploy(&spec("missing", one(missing)), silent(), CancellationToken::new()).await;
    assert!(
        matches!(failed, Err(RuntimeError::Failed(text)) if text.contains("r1") && text.contains("/no/such/program"))
    );
    assert!(runtime.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_gives_the_grace_period_and_start_brings_links_addresses_and_routes_back() {
    let runtime = runtime();
    let trap = "sh -c 'echo begun; trap \"echo asked to end; exit 0\" TERM; while :; do sleep 0.05; done'";
    let first = Node {
        cmd: Some(trap.to_owned()),
        exec: vec!["ip route add 192.0.2.0/24 via 10.0.0.2".to_owned(), "touch /root/kept".to_owned()],
        ..node("r1")
    };
    let mut topology = Topology { nodes: vec![first, node("r2")], ..two_routers() };
    topology.links[0].ends[0].ipv6 = Some("2001:db8::1/64".to_owned());
    topology.links[0].ends[1].ipv6 = Some("2001:db8::2/64".to_owned());
    deploy(&runtime, "stops", topology).await;
    let mut events = runtime.watch();
    let mut log = runtime.follow_log("stops", "r1", None).await.unwrap();
    let mut shell = Shell::open(&runtime, "stops", "r1").await;
    assert_eq!(shell.run("ping -c 1 -W 5 2001:db8::2").await.0, 0);

    let stopped = runtime.node("stops", "r1", NodeAction::Stop).await.unwrap();
    assert_eq!(stopped.state, NodeState::Exited);
    read_log(&mut log, "asked to end").await;
    while shell.read().await {}
    assert!(tokio::time::timeout(PATIENCE, shell.pty.exit).await.unwrap().is_ok());
    assert!(matches!(runtime.open_pty("stops", "r1", usual_shells()).await, Err(RuntimeError::NodeNotRunning(_))));
    assert!(matches!(runtime.open_pty("stops", "r9", usual_shells()).await, Err(RuntimeError::NoNode(_))));
    let mut peer = Shell::open(&runtime, "stops", "r2").await;
    assert_ne!(peer.run("ping -c 1 -W 1 10.0.0.1").await.0, 0, "a node that is stopped answers");

    for action in [NodeAction::Start, NodeAction::Restart] {
        let started = runtime.node("stops", "r1", action).await.unwrap();
        assert_eq!((started.state, started.container_id.clone()), (NodeState::Running, stopped.container_id.clone()));
        read_log(&mut log, "begun").await;
        for address in ["10.0.0.1", "2001:db8::1"] {
            let (code, text) = peer.run(&format!("ping -c 3 -i 0.2 -W 5 {address}")).await;
            assert_eq!(code, 0, "{text}");
        }
        let (_, text) = run_in(&runtime, "stops", "r1", "ip route; ls /root").await;
        assert!(text.contains("192.0.2.0/24 via 10.0.0.2") && text.contains("kept"), "{text}");
    }
    assert!(events.try_recv().is_err(), "what was asked for is announced");
    destroy(&runtime, "stops").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_nodes_command_is_announced() {
    let runtime = runtime();
    let mut events = runtime.watch();
    let short = Node { cmd: Some("sh -c 'read line < /tmp/go; exit 7'".to_owned()), ..node("r1") };
    let short = Node {
        exec: vec!["mkfifo /tmp/go".to_owned()],
        cmd: Some("sh -c 'until read line < /tmp/go; do sleep 0.02; done'".to_owned()),
        ..short
    };
    deploy(&runtime, "ends", one(short)).await;
    let shell = Shell::open(&runtime, "ends", "r1").await;
    shell.send("echo now > /tmp/go\n").await;
    let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    let antimony_host::runtime::RuntimeEvent::Node { instance, node, state } = event else { panic!("{event:?}") };
    assert_eq!((instance.as_str(), node.as_str(), state), ("ends", "r1", NodeState::Exited));
    destroy(&runtime, "ends").await;
}

/// Line 12, as far as the runtime goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_deploy_leaves_nothing() {
    let runtime = runtime();
    for moment in ["Deploying", "Created node r1", "Created link", "Started node r1", "ns/", "r1 | user"] {
        let mut topology = two_routers();
        topology.nodes[0].exec = vec![SHOW_NAMESPACES.to_owned(), "sleep 1000".to_owned()];
        let cancel = CancellationToken::new();
        let (lines, inhabitants) = (Lines::default(), Arc::new(Mutex::new(Vec::new())));
        let sink: LogSink = {
            let (text, lines, cancel) = (lines.clone(), lines.sink(), cancel.clone());
            let inhabitants = Arc::clone(&inhabitants);
            Arc::new(move |line: &str| {
                lines.line(line);
                if line.contains(moment) {
                    *inhabitants.lock().unwrap() = inhabitants_of(&namespaces_in(&text.text()));
                    cancel.cancel();
                }
            })
        };
        let name = format!("cancelled-{}", std::process::id());
        let spec = spec(&name, topology);
        let result = tokio::time::timeout(PATIENCE, runtime.deploy(&spec, sink, cancel)).await.unwrap();
        assert!(matches!(result, Err(RuntimeError::Cancelled)), "{moment}: {result:?}");
        assert!(runtime.list().await.unwrap().is_empty());
        let namespaces = namespaces_in(&lines.text());
        assert_eq!(moment == "r1 | user", namespaces.len() >= 4, "{}", lines.text());
        let inhabitants = inhabitants.lock().unwrap();
        let may_look = nix::unistd::geteuid().is_root();
        assert!(moment != "r1 | user" || !may_look || !inhabitants.is_empty(), "nothing to look for");
        assert_eq!(left_of(&inhabitants), Vec::<i32>::new());
        assert_eq!(helpers_of(&name), Vec::<i32>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_shutdown_ends_labs_and_deploys_that_are_under_way() {
    let runtime = Arc::new(runtime());
    let (up, coming) = (format!("up-{}", std::process::id()), format!("coming-{}", std::process::id()));
    deploy(&runtime, &up, two_routers()).await;
    let mut topology = two_routers();
    topology.nodes[0].exec = vec!["sleep 1000".to_owned()];
    let (running, is_running) = tokio::sync::oneshot::channel();
    let running = Mutex::new(Some(running));
    let sink: LogSink = Arc::new(move |line: &str| {
        if line.contains("exec sleep") {
            running.lock().unwrap().take().unwrap().send(()).unwrap();
        }
    });
    let deploying = {
        let (runtime, spec) = (runtime.clone(), spec(&coming, topology));
        tokio::spawn(async move { runtime.deploy(&spec, sink, CancellationToken::new()).await })
    };
    is_running.await.unwrap();
    assert!(!helpers_of(&up).is_empty() && !helpers_of(&coming).is_empty());
    tokio::time::timeout(PATIENCE, runtime.shut_down()).await.unwrap();
    assert!(matches!(deploying.await.unwrap(), Err(RuntimeError::Cancelled)));
    assert_eq!((helpers_of(&up), helpers_of(&coming)), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_destroys_at_once_both_end_when_everything_is_gone() {
    let runtime = runtime();
    let name = format!("twice-{}", std::process::id());
    let slow = Node {
        cmd: Some("sh -c 'trap \"sleep 0.5; exit\" TERM; while :; do sleep 0.05; done'".to_owned()),
        ..node("r1")
    };
    deploy(&runtime, &name, one(slow)).await;
    let once = async || {
        destroy(&runtime, &name).await;
        assert_eq!(helpers_of(&name), Vec::<i32>::new());
    };
    tokio::join!(once(), once());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_user_namespaces_are_off_one_sentence_says_what_to_switch_on() {
    if std::env::var_os("ANTIMONY_TEST_FORBIDDEN").is_some() {
        let error = EmbeddedRuntime::new(EmbeddedOptions { helper: helper(), ..Default::default() }).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("sysctl -w user.max_user_namespaces") && !text.contains('\n'), "{text}");
        return;
    }
    let line = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" --exact \
                where_user_namespaces_are_off_one_sentence_says_what_to_switch_on";
    let exe = std::env::current_exe().unwrap();
    let child =
        Command::new("unshare").args(["-Ur", "sh", "-c", line]).arg(exe).env("ANTIMONY_TEST_FORBIDDEN", "1").output();
    match child {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(_) => left_out("a machine without user namespaces: there is no `unshare` to make one"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topology_that_asks_for_more_than_the_operator_allows_is_refused_by_its_key() {
    let runtime = runtime();
    let many = (0..201).map(|index| node(&format!("n{index}"))).collect();
    let refused = runtime.check(&Topology { nodes: many, links: vec![], ..two_routers() });
    assert!(matches!(&refused, Err(RuntimeError::Unsupported(text)) if text.contains("nodes")), "{refused:?}");
    let large = Node { memory: Some(1 << 50), ..node("r1") };
    let refused = runtime.check(&one(large));
    assert!(matches!(&refused, Err(RuntimeError::Unsupported(text)) if text.contains("r1: memory")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_very_many_routes_gets_a_bounded_number_back() {
    let runtime = runtime();
    deploy(&runtime, "routes", two_routers()).await;
    let add = "for i in $(seq 0 19); do for j in $(seq 0 249); do echo route add 100.64.$i.$j/32 via 10.0.0.2; done; done \
               | ip -batch -";
    let count = async || {
        let (_, text) = run_in(&runtime, "routes", "r1", "echo \"<$(ip route | grep -c ^100.64)>\"").await;
        number(&text)
    };
    let (code, text) = run_in(&runtime, "routes", "r1", add).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(count().await, 5000);
    runtime.node("routes", "r1", NodeAction::Restart).await.unwrap();
    let kept = count().await;
    assert!((1000..=4096).contains(&kept), "{kept} routes");
    destroy(&runtime, "routes").await;
}
