//! The containerlab driver by itself, with the real program and a real engine: deploy, states, nodes, failures, cancellation, and
//! that nothing is left. Left out with a word on standard error where either is missing.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use antimony_host::labs::model::{LabId, NodeState, NodeStatus};
use antimony_host::runtime::containerlab::{ContainerlabConfig, ContainerlabRuntime, probe};
use antimony_host::runtime::{InstanceSpec, LogSink, NodeAction, RuntimeDriver, RuntimeError, RuntimeEvent};
use antimony_host::topology::Topology;
use tokio_util::sync::CancellationToken;

#[path = "../docker/harness.rs"]
#[expect(dead_code, reason = "the tests of the engine use the rest")]
mod harness;

/// The image that the test script makes.
const IMAGE: &str = "lab/busybox:1";
/// A first process that ends when it is told to.
const IDLE: &str = "sh -c 'trap exit TERM; while true; do sleep 1 & wait; done'";

struct Bench {
    runtime: Arc<ContainerlabRuntime>,
    run_dir: tempfile::TempDir,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    async fn new() -> Option<Self> {
        Self::with(ContainerlabConfig { stop_timeout: 2, ..ContainerlabConfig::default() }).await
    }

    async fn with(config: ContainerlabConfig) -> Option<Self> {
        let found = match probe(&config).await {
            Ok(found) => found,
            Err(missing) => {
                assert!(std::env::var_os("ANTIMONY_REQUIRE_ALL").is_none(), "nothing may be left out, but {missing}");
                eprintln!("left out: {missing}");
                return None;
            }
        };
        let runtime = ContainerlabRuntime::start(&config, found, std::path::Path::new("/driver-test")).await.unwrap();
        Some(Self { runtime: Arc::new(runtime), run_dir: tempfile::tempdir().unwrap(), lines: Arc::default() })
    }

    fn log(&self) -> LogSink {
        let lines = Arc::clone(&self.lines);
        Arc::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()))
    }

    fn logged(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// A lab whose name begins like this and is this run's own.
    fn spec(&self, prefix: &str, body: &str) -> InstanceSpec {
        let name = &format!("{prefix}{}", std::process::id());
        // A management network of its own: whatever else uses this engine, or is left on it, is none of this test's business.
        let net = prefix.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        let mgmt =
            format!("mgmt: {{network: {name}, ipv4-subnet: 10.213.{net}.0/24, ipv6-subnet: 'fd00:213:{net:x}::/64'}}");
        let definition = format!("name: whatever\n{mgmt}\ntopology:\n{body}");
        let topology = Arc::new(Topology::parse(&definition).unwrap());
        let dir = self.run_dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        InstanceSpec { lab_id: LabId::from("lab"), name: name.to_owned(), topology, definition, dir, saved: None }
    }

    async fn deploy(&self, spec: &InstanceSpec) -> Result<Vec<NodeStatus>, RuntimeError> {
        self.runtime.deploy(spec, self.log(), CancellationToken::new()).await
    }

    /// Nothing of these labs is left on this machine.
    fn assert_gone(&self, name: &str) {
        for (program, arguments) in [
            ("docker", &["ps", "-a", "--format", "{{.Names}}"][..]),
            ("ip", &["netns"]),
            ("docker", &["network", "ls"]),
        ] {
            let output = Command::new(program).args(arguments).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(!text.contains(name), "{program}: {text}\n{}", self.logged());
        }
        assert!(!std::fs::read_to_string("/etc/hosts").unwrap().contains(name), "the hosts file");
        assert!(!PathBuf::from(format!("/etc/ssh/ssh_config.d/clab-{name}.conf")).exists(), "the ssh settings");
        let left: Vec<_> =
            std::fs::read_dir(self.run_dir.path().join(name)).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|file| file == format!("{name}.clab.yml").as_str()), "{left:?}");
    }
}

/// The process of the deploy of this lab.
fn run_of(name: &str) -> u32 {
    run(name, "deploy").unwrap()
}

/// The process of containerlab that does this to this lab.
fn run(name: &str, verb: &str) -> Option<u32> {
    let works_on_it = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        command.contains(verb) && command.contains(&format!("/{name}.clab.yml"))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(works_on_it)
}

fn in_node(container: &str, command: &[&str]) -> (bool, String) {
    let output = Command::new("docker").arg("exec").arg(container).args(command).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn body(nodes: &str, links: &str) -> String {
    format!(
        "  kinds: {{linux: {{image: '{IMAGE}', image-pull-policy: never, cmd: \"{IDLE}\"}}}}\n  nodes:\n{nodes}  links: [{links}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_of_three_nodes_lives_its_whole_life() {
    let Some(bench) = Bench::new().await else { return };
    let nodes = "    spine-1: {kind: linux, exec: ['ip addr add 10.0.0.1/24 dev eth1', 'ls /nowhere']}\n    \
         a-b-c: {kind: linux, exec: ['ip addr add 10.0.0.2/24 dev eth1']}\n    R3: {kind: linux}\n";
    let links = "{endpoints: ['spine-1:eth1', 'a-b-c:eth1']}, {endpoints: ['a-b-c:eth2', 'R3:eth1']}";
    let spec = bench.spec("cdrv-life-", &body(nodes, links));
    let nodes = bench.deploy(&spec).await.unwrap();
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["spine-1", "a-b-c", "R3"]);
    assert!(nodes.iter().all(|node| node.state == NodeState::Running && node.kind == "linux" && !node.ipv4.is_empty()));
    assert_eq!(nodes[1].container_name, format!("clab-{}-a-b-c", spec.name));
    assert!(bench.logged().contains("ls /nowhere"), "the failed exec is in the log: {}", bench.logged());
    assert!(bench.runtime.list().await.unwrap().contains(&spec.name));
    assert!(in_node(&nodes[0].container_name, &["ping", "-c", "1", "-W", "5", "10.0.0.2"]).0);

    let node = bench.runtime.node(&spec.name, "a-b-c", NodeAction::Stop).await.unwrap();
    assert_eq!(node.state, NodeState::Exited);
    let others = bench.runtime.inspect(&spec.name).await.unwrap();
    assert_eq!(others.iter().filter(|node| node.state == NodeState::Running).count(), 2);
    let node = bench.runtime.node(&spec.name, "a-b-c", NodeAction::Start).await.unwrap();
    assert_eq!(node.state, NodeState::Running);
    assert!(in_node(&nodes[0].container_name, &["ping", "-c", "1", "-W", "5", "10.0.0.2"]).0, "the link is back");
    assert!(in_node(&node.container_name, &["ip", "link", "show", "eth2"]).0, "so is the other");

    // Its process dies, and the links with it.
    assert!(Command::new("docker").args(["kill", &node.container_name]).output().unwrap().status.success());
    while bench.runtime.inspect(&spec.name).await.unwrap().iter().all(|node| node.state == NodeState::Running) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.runtime.node(&spec.name, "a-b-c", NodeAction::Start).await.unwrap();
    assert!(in_node(&nodes[0].container_name, &["ping", "-c", "1", "-W", "5", "10.0.0.2"]).0, "the link is made again");
    assert!(in_node(&node.container_name, &["ip", "link", "show", "eth2"]).0, "so is the other");

    // A node that is stopped has its links parked elsewhere.
    bench.runtime.node(&spec.name, "R3", NodeAction::Stop).await.unwrap();
    assert!(matches!(bench.runtime.node(&spec.name, "r3", NodeAction::Stop).await, Err(RuntimeError::NoNode(_))));
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    bench.assert_gone(&spec.name);
    assert!(matches!(bench.runtime.inspect(&spec.name).await, Err(RuntimeError::NoInstance(_))));
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    bench.runtime.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_gets_the_grace_period_and_no_more() {
    let Some(bench) = Bench::new().await else { return };
    let spec = bench.spec("cdrv-grace-", &body("    r1: {kind: linux, cmd: sleep 600}\n", ""));
    bench.deploy(&spec).await.unwrap();
    let begun = Instant::now();
    let node = bench.runtime.node(&spec.name, "r1", NodeAction::Restart).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(node.state, NodeState::Running);
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    bench.assert_gone(&spec.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_missing_fails_the_deploy_with_its_name() {
    let Some(bench) = Bench::new().await else { return };
    let nodes = "    r1: {kind: linux}\n    r2: {kind: linux, image: 'lab/missing:9'}\n";
    let spec = bench.spec("cdrv-image-", &body(nodes, ""));
    let said = bench.deploy(&spec).await.unwrap_err().to_string();
    assert!(said.starts_with("the image lab/missing:9 is not on the server's machine"), "{said}");
    bench.assert_gone(&spec.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_deploy_leaves_nothing() {
    let Some(bench) = Bench::new().await else { return };
    let nodes = "    r1: {kind: linux}\n    r2: {kind: linux, startup-delay: 600}\n";
    let spec = bench.spec("cdrv-cancel-", &body(nodes, "{endpoints: ['r1:eth1', 'r2:eth1']}"));
    let cancel = CancellationToken::new();
    let canceller = {
        let (cancel, lines) = (cancel.clone(), Arc::clone(&bench.lines));
        tokio::spawn(async move {
            while !lines.lock().unwrap().iter().any(|line| line.contains("Creating container")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cancel.cancel();
        })
    };
    let begun = Instant::now();
    let result = bench.runtime.deploy(&spec, bench.log(), cancel).await;
    assert!(matches!(result, Err(RuntimeError::Cancelled)), "{result:?}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    canceller.await.unwrap();
    bench.assert_gone(&spec.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_cancels_deploys_and_leaves_labs_running() {
    let Some(bench) = Bench::new().await else { return };
    let stays = bench.spec("cdrv-stays-", &body("    r1: {kind: linux}\n", ""));
    bench.deploy(&stays).await.unwrap();
    let begun = bench.spec("cdrv-begun-", &body("    r1: {kind: linux, startup-delay: 600}\n", ""));
    let (result, ()) = tokio::join!(bench.deploy(&begun), async {
        while !bench.logged().contains(&format!("clab-{}", begun.name)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bench.runtime.shut_down().await;
    });
    assert!(matches!(result, Err(RuntimeError::Cancelled)), "{result:?}");
    bench.assert_gone(&begun.name);
    let next = Bench::new().await.unwrap();
    assert_eq!(next.runtime.inspect(&stays.name).await.unwrap()[0].state, NodeState::Running);
    // With the folder of the lab gone as well.
    std::fs::remove_dir_all(&stays.dir).unwrap();
    next.runtime.destroy(&stays.name, &stays.dir, next.log()).await.unwrap();
    std::fs::create_dir_all(next.run_dir.path().join(&stays.name)).unwrap();
    next.assert_gone(&stays.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_come_from_groups_and_defaults_and_nothing_is_expanded() {
    let Some(bench) = Bench::new().await else { return };
    let body = format!(
        "  # {{{{ \"\\n  nodes: {{evil: {{kind: linux}}}}\" }}}}\n  defaults: &d {{kind: linux, env: {{HOME_OF: '${{HOME}} {{{{ .X }}}}', __IMPORT_ENVS: true}}}}\n  \
         kinds: {{linux: {{cmd: \"{IDLE}\", image-pull-policy: never}}}}\n  groups: {{g: {{image: '{IMAGE}', env: {{V: 1.10}}}}}}\n  nodes: {{r1: {{group: g}}}}\n"
    );
    let spec = bench.spec("cdrv-inherit-", &body);
    let nodes = bench.deploy(&spec).await.unwrap_or_else(|error| panic!("{error}\n{}", bench.logged()));
    assert_eq!(nodes.len(), 1);
    let (_, env) = in_node(&nodes[0].container_name, &["env"]);
    assert!(env.contains("HOME_OF=${HOME} {{ .X }}\n") && env.contains("V=1.10\n"), "{env}");
    assert!(!env.contains("CARGO"), "of the server's environment nothing gets in: {env}");
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    bench.assert_gone(&spec.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_megabyte_is_no_obstacle() {
    let Some(bench) = Bench::new().await else { return };
    let nodes = "    r1: {kind: linux, exec: [\"sh -c 'head -c 1000000 /dev/zero | tr \\\\\\\\0 x'\"]}\n";
    let spec = bench.spec("cdrv-long-", &body(nodes, ""));
    bench.deploy(&spec).await.unwrap_or_else(|error| panic!("{error}\n{}", bench.logged()));
    let count = bench.logged().matches('x').count();
    assert!(count >= 1_000_000, "{count}");
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    bench.assert_gone(&spec.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerlab_that_is_killed_leaves_nothing() {
    let Some(bench) = Bench::new().await else { return };
    let nodes = "    r1: {kind: linux}\n    r2: {kind: linux, startup-delay: 600}\n";
    let spec = bench.spec("cdrv-killed-", &body(nodes, "{endpoints: ['r1:eth1', 'r2:eth1']}"));
    let (result, ()) = tokio::join!(bench.deploy(&spec), async {
        while !bench.logged().contains("Creating container") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Command::new("kill").arg("-KILL").arg(run_of(&spec.name).to_string()).status().unwrap();
    });
    assert!(result.unwrap_err().to_string().contains("signal 9"));
    bench.assert_gone(&spec.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_the_host_is_made_and_taken_away() {
    let Some(bench) = Bench::new().await else { return };
    let interface = format!("cdrv{}", std::process::id());
    let link = format!("{{endpoints: ['r1:eth1', 'host:{interface}']}}");
    let spec = bench.spec("cdrv-host-", &body("    r1: {kind: linux}\n", &link));
    bench.deploy(&spec).await.unwrap_or_else(|error| panic!("{error}\n{}", bench.logged()));
    let there = || PathBuf::from(format!("/sys/class/net/{interface}")).exists();
    assert!(there());
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    assert!(!there());
    bench.assert_gone(&spec.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_while_another_is_stopped_is_told() {
    let Some(bench) = Bench::new().await else { return };
    let nodes = "    r1: {kind: linux, cmd: sleep 600}\n    r2: {kind: linux}\n";
    let spec = bench.spec("cdrv-beside-", &body(nodes, ""));
    let deployed = bench.deploy(&spec).await.unwrap();
    let r2 = deployed[1].container_name.clone();
    let mut events = bench.runtime.watch();
    let removed = async {
        assert!(Command::new("docker").args(["rm", "-f", &r2]).output().unwrap().status.success());
        loop {
            match events.recv().await.unwrap() {
                RuntimeEvent::Node { instance, node, state: NodeState::Exited }
                    if instance == spec.name && node == "r2" =>
                {
                    break;
                }
                _ => {}
            }
        }
    };
    let (stopped, removed) = tokio::join!(
        bench.runtime.node(&spec.name, "r1", NodeAction::Stop),
        tokio::time::timeout(Duration::from_secs(60), removed)
    );
    assert_eq!(stopped.unwrap().state, NodeState::Exited);
    removed.unwrap();
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    bench.assert_gone(&spec.name);
}

/// A lab whose node takes its time to stop, and the answer to having it stopped, which is under way.
async fn stopping(bench: &Bench, spec: &InstanceSpec) -> tokio::task::JoinHandle<Result<NodeStatus, RuntimeError>> {
    bench.deploy(spec).await.unwrap_or_else(|error| panic!("{error}\n{}", bench.logged()));
    let (runtime, name) = (Arc::clone(&bench.runtime), spec.name.clone());
    let stop = tokio::spawn(async move { runtime.node(&name, "r1", NodeAction::Stop).await });
    while run(&spec.name, "stop").is_none() {
        assert!(!stop.is_finished(), "it should take long");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop
}

/// Far more than a test has patience for.
fn patient() -> ContainerlabConfig {
    ContainerlabConfig { stop_timeout: 600, ..ContainerlabConfig::default() }
}

const STUBBORN: &str = "    r1: {kind: linux, cmd: sleep 600}\n    r2: {kind: linux}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_ends_what_is_being_done_to_a_node_which_then_is_of_no_instance() {
    let Some(bench) = Bench::with(patient()).await else { return };
    let spec = bench.spec("cdrv-both-", &body(STUBBORN, "{endpoints: ['r1:eth1', 'r2:eth1']}"));
    let stop = stopping(&bench, &spec).await;
    let begun = Instant::now();
    let (runtime, name) = (Arc::clone(&bench.runtime), spec.name.clone());
    // It waits for its turn with the same node, which never comes.
    let second = tokio::spawn(async move { runtime.node(&name, "r1", NodeAction::Restart).await });
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    for answer in [stop, second] {
        let answer = answer.await.unwrap();
        assert!(matches!(&answer, Err(RuntimeError::NoInstance(name)) if *name == spec.name), "{answer:?}");
    }
    bench.assert_gone(&spec.name);
    // Nothing of that sticks to the name.
    bench.deploy(&spec).await.unwrap();
    bench.runtime.node(&spec.name, "r2", NodeAction::Stop).await.unwrap();
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    bench.assert_gone(&spec.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_on_another_engine_fails_and_is_taken_away_there() {
    let Some(own) = harness::OwnEngine::start("containerlab and the server with different engines").await else {
        return;
    };
    let shared = ContainerlabConfig::default().engine_address();
    let config = ContainerlabConfig {
        docker_host: Some(own.host()),
        environment: [("DOCKER_HOST".to_owned(), shared)].into(),
        ..ContainerlabConfig::default()
    };
    let Some(bench) = Bench::with(config).await else { return };
    let spec = bench.spec("cdrv-other-", &body("    r1: {kind: linux}\n", ""));
    let said = bench.deploy(&spec).await.unwrap_err().to_string();
    assert!(said.contains("another engine than unix://") && said.contains("dockerHost"), "{said}\n{}", bench.logged());
    assert!(bench.logged().contains(&format!("clab-{}-r1", spec.name)), "it was deployed: {}", bench.logged());
    bench.assert_gone(&spec.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_does_not_wait_for_a_node_that_takes_its_time_to_stop() {
    let Some(bench) = Bench::with(patient()).await else { return };
    let spec = bench.spec("cdrv-close-", &body(STUBBORN, ""));
    let stop = stopping(&bench, &spec).await;
    let begun = Instant::now();
    bench.runtime.shut_down().await;
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(matches!(stop.await.unwrap(), Err(RuntimeError::Cancelled)));
    assert_eq!(run(&spec.name, "stop"), None, "no run is left to itself");
    let next = Bench::new().await.unwrap();
    next.runtime.destroy(&spec.name, &spec.dir, next.log()).await.unwrap();
    bench.assert_gone(&spec.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_may_be_named_by_the_path_of_its_socket_alone() {
    let known = ContainerlabConfig::default().engine_address();
    let Some(path) = known.strip_prefix("unix://") else { return };
    let config = ContainerlabConfig { docker_host: Some(path.to_owned()), ..ContainerlabConfig::default() };
    let Some(bench) = Bench::with(config).await else { return };
    assert_eq!(bench.runtime.found().engine.address, known);
    let spec = bench.spec("cdrv-path-", &body("    r1: {kind: linux}\n", ""));
    bench.deploy(&spec).await.unwrap_or_else(|error| panic!("{error}\n{}", bench.logged()));
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    bench.assert_gone(&spec.name);
}

/// Where the prefix is empty, nothing but the topology says what the namespaces of its nodes are called.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_lab_whose_containers_somebody_has_removed_goes_with_its_destroy() {
    let Some(bench) = Bench::new().await else { return };
    let nodes = format!("    gone-a-{0}: {{kind: linux}}\n    gone-b-{0}: {{kind: linux}}\n", std::process::id());
    let links = format!("{{endpoints: ['gone-a-{0}:eth1', 'gone-b-{0}:eth1']}}", std::process::id());
    let mut spec = bench.spec("cdrv-gone-", &body(&nodes, &links));
    spec.definition.insert_str(0, "prefix: \"\"\n");
    spec.topology = Arc::new(Topology::parse(&spec.definition).unwrap());
    let nodes = bench.deploy(&spec).await.unwrap();
    for node in &nodes {
        assert_eq!(node.container_name, node.name, "the prefix is empty");
        assert!(
            Command::new("docker").args(["rm", "--force", &node.container_name]).output().unwrap().status.success()
        );
    }
    bench.runtime.destroy(&spec.name, &spec.dir, bench.log()).await.unwrap();
    bench.assert_gone(&spec.name);
    for node in &nodes {
        assert!(std::fs::symlink_metadata(format!("/run/netns/{}", node.name)).is_err(), "{}", node.name);
    }
}

/// In a network of its own, where something else has the addresses that containerlab gives to nodes.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_warns_where_the_addresses_of_labs_lead_elsewhere() {
    let Some(own) = harness::OwnEngine::start("addresses that lead elsewhere").await else { return };
    let config = ContainerlabConfig { docker_host: Some(own.host()), ..ContainerlabConfig::default() };
    if Bench::with(config).await.is_none() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    for (address, overlaps) in [("172.20.5.1/16", true), ("172.21.5.1/16", false)] {
        let script = format!(
            "ip link set lo up && ip link add d0 type veth peer name d1 && ip address add {address} dev d0 && \
             ip link set d0 up && ip link set d1 up && exec \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_antimony-host"), "doctor", "--json"]);
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data.path()).env("DOCKER_HOST", own.host());
        let output = command.output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(report["runtime"], "containerlab", "{report}");
        let checks = report["checks"].as_array().unwrap();
        let network = checks.iter().find(|check| check["check"] == "network");
        assert_eq!(network.is_some(), overlaps, "{address}: {report}");
        if let Some(network) = network {
            let found = network["found"].as_str().unwrap();
            assert_eq!(network["verdict"], "warning");
            assert!(found.contains("172.20.20.0/24") && found.contains("(172.20.0.0/16 by d0)"), "{found}");
        }
    }
}
