//! The embedded runtime on this machine, as root and as an ordinary user: real namespaces, real links, real shells.
//!
//! Every case is run as whoever runs the tests. If that is root, this binary also runs itself once more as an ordinary
//! user (see `everything_works_for_an_ordinary_user_too`).

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is for")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use antimony_host::labs::model::{LabId, NodeState};
use antimony_host::runtime::embedded::{EmbeddedOptions, EmbeddedRuntime};
use antimony_host::runtime::{
    InstanceSpec, LogChunk, LogSink, NodeAction, Pty, PtyRequest, RuntimeDriver, RuntimeError,
};
use antimony_host::topology::{Endpoint, Link, Node, Topology};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// Far longer than anything here takes; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Set in the run of these tests that is somebody else's: the helper that it is to use.
const HELPER: &str = "ANTIMONY_TEST_HELPER";
/// Set in the process that a test kills: the name of the instance that it shall deploy.
const VICTIM: &str = "ANTIMONY_TEST_VICTIM";
const NOBODY: u32 = 65_534;

fn helper() -> PathBuf {
    std::env::var_os(HELPER).map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_antimony-host")), PathBuf::from)
}

fn runtime() -> EmbeddedRuntime {
    EmbeddedRuntime::new(EmbeddedOptions { helper: helper(), ..Default::default() }).unwrap()
}

fn node(name: &str) -> Node {
    Node { name: name.to_owned(), kind: "linux".to_owned(), ..Node::default() }
}

fn link(near: (&str, &str, &str), far: (&str, &str, &str)) -> Link {
    let end = |(node, interface, ipv4): (&str, &str, &str)| Endpoint {
        node: node.to_owned(),
        interface: interface.to_owned(),
        mac: None,
        ipv4: (!ipv4.is_empty()).then(|| ipv4.to_owned()),
        ipv6: None,
    };
    Link { ends: [end(near), end(far)], mtu: None }
}

fn two_routers() -> Topology {
    Topology {
        name: "pair".to_owned(),
        prefix: None,
        nodes: vec![node("r1"), node("r2")],
        links: vec![link(("r1", "eth1", "10.0.0.1/30"), ("r2", "eth1", "10.0.0.2/30"))],
    }
}

fn one(node: Node) -> Topology {
    Topology { name: "one".to_owned(), prefix: None, nodes: vec![node], links: vec![] }
}

fn spec(name: &str, topology: Topology) -> InstanceSpec {
    InstanceSpec {
        lab_id: LabId::generate(),
        name: name.to_owned(),
        topology: Arc::new(topology),
        definition: String::new(),
        dir: std::env::temp_dir(),
    }
}

/// Lines of a deploy, kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn sink(&self) -> LogSink {
        let lines = self.0.clone();
        Arc::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()))
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

async fn deploy(runtime: &EmbeddedRuntime, name: &str, topology: Topology) -> Lines {
    let lines = Lines::default();
    let spec = spec(name, topology);
    let deploying = runtime.deploy(&spec, lines.sink(), CancellationToken::new());
    let nodes = tokio::time::timeout(PATIENCE, deploying).await.unwrap();
    nodes.unwrap_or_else(|error| panic!("{error}\n{}", lines.text()));
    lines
}

async fn destroy(runtime: &EmbeddedRuntime, name: &str) {
    tokio::time::timeout(PATIENCE, runtime.destroy(name, Lines::default().sink())).await.unwrap().unwrap();
}

fn request(commands: &[&[&str]]) -> PtyRequest {
    PtyRequest {
        size: (80, 24),
        commands: commands.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect(),
        timeout: Duration::from_secs(10),
    }
}

fn usual_shells() -> PtyRequest {
    request(&[&["bash"], &["sh"]])
}

/// A shell that is typed into and read like a person would.
struct Shell {
    pty: Pty,
    seen: String,
    count: u32,
}

impl Shell {
    async fn open(runtime: &EmbeddedRuntime, instance: &str, node: &str) -> Self {
        let pty = runtime.open_pty(instance, node, usual_shells()).await.unwrap();
        Self { pty, seen: String::new(), count: 0 }
    }

    /// Runs a command line; answers its exit code and what was printed.
    async fn run(&mut self, line: &str) -> (i32, String) {
        self.count += 1;
        let mark = format!("mark-{}-", self.count);
        // The quotes keep the echo of the line itself from looking like its result.
        self.send(&format!("{line}\necho \"mark\"-{}-$?-\n", self.count)).await;
        let from = self.seen.len();
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some((before, after)) = self.seen[from..].split_once(&mark)
                && let Some((code, _)) = after.split_once('-')
            {
                let answer = (code.parse().unwrap(), before.to_owned());
                return answer;
            }
            assert!(Instant::now() < until, "no end of `{line}` in:\n{}", self.seen);
            self.read().await;
        }
    }

    async fn send(&self, text: &str) {
        self.pty.input.send(Bytes::from(text.to_owned())).await.unwrap();
    }

    async fn read(&mut self) -> bool {
        match tokio::time::timeout(PATIENCE, self.pty.output.recv()).await.expect("output in time") {
            Some(bytes) => {
                self.seen.push_str(&String::from_utf8_lossy(&bytes));
                true
            }
            None => false,
        }
    }
}

/// The number that a command line printed between angle brackets.
fn number(text: &str) -> u32 {
    let mut numbers = text.rsplit('<').filter_map(|rest| rest.split_once('>')?.0.parse().ok());
    numbers.next().unwrap_or_else(|| panic!("no number in {text}"))
}

/// Runs a command line in a new shell of a node.
async fn run_in(runtime: &EmbeddedRuntime, instance: &str, node: &str, line: &str) -> (i32, String) {
    Shell::open(runtime, instance, node).await.run(line).await
}

/// Waits for something that is bound to happen.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads a node's log until it contains `text`.
async fn read_log(log: &mut tokio::sync::mpsc::Receiver<LogChunk>, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let chunk = tokio::time::timeout(PATIENCE, log.recv()).await.unwrap_or_else(|_| panic!("no {text} in {seen}"));
        seen.push_str(&String::from_utf8_lossy(
            &chunk.unwrap_or_else(|| panic!("the log ended without {text}: {seen}")).data,
        ));
    }
    seen
}

/// Processes of this machine, as far as they may be looked at, that are in one of these namespaces.
fn processes_in(namespaces: &BTreeSet<String>) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        fs::read_dir(format!("/proc/{pid}/ns"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| fs::read_link(entry.path()).is_ok_and(|link| namespaces.contains(&*link.to_string_lossy())))
    })
    .collect()
}

/// What `readlink /proc/self/ns/…` printed in a node.
fn namespaces_in(text: &str) -> BTreeSet<String> {
    let found = text.split_whitespace().filter(|word| word.ends_with(']') && word.contains(":["));
    found.map(str::to_owned).collect()
}

const SHOW_NAMESPACES: &str = "readlink /proc/self/ns/pid /proc/self/ns/net /proc/self/ns/mnt /proc/self/ns/user /proc/self/ns/uts /proc/self/ns/ipc";

/// Folders of cgroups that belong to one keeper.
fn cgroups_of(keeper: i32) -> Vec<PathBuf> {
    fn walk(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(name) {
                    found.push(entry.path());
                }
                walk(&entry.path(), name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &format!("antimony-lab-{keeper}-"), &mut found);
    found
}

fn alive(pid: i32) -> bool {
    // A zombie that its parent has not collected yet has ended.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
}

fn left_out(what: &str) {
    // Past the capture of the test harness, which knows of its macros only, so that nobody takes it for done.
    let _ = writeln!(std::io::stderr(), "left out: {what}");
    let required = std::env::var_os("ANTIMONY_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "left out ({what}), and ANTIMONY_REQUIRE_ALL=1 forbids that");
}

/// Processes of the helper of an instance.
fn helpers_of(instance: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let marks = ["", "-apart"].map(|step| format!("__embedded-lab{step}\0{instance}\0"));
    let ours = |text: String| marks.iter().any(|mark| text.ends_with(mark));
    pids.filter(|pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(ours)).collect()
}

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

/// Line 41 of the failure catalogue.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_host_can_be_read_from_a_node() {
    let data = tempfile::tempdir().unwrap();
    fs::write(data.path().join("signing.key"), "secret").unwrap();
    let below_usr = nix::unistd::geteuid().is_root().then(|| tempfile::tempdir_in("/usr/local").unwrap());
    let mut options = EmbeddedOptions { helper: helper(), ..Default::default() };
    options.hidden.push(data.path().to_owned());
    if let Some(folder) = &below_usr {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("signing.key"), "secret").unwrap();
        options.hidden.push(folder.path().to_owned());
    }
    let runtime = EmbeddedRuntime::new(options).unwrap();
    deploy(&runtime, "hidden", one(node("r1"))).await;
    let mut shell = Shell::open(&runtime, "hidden", "r1").await;
    let data = data.path().join("signing.key");
    for path in ["/etc/shadow", "/etc/gshadow", "/etc/ssl/private", "/var/run/docker.sock", "/run/docker.sock"]
        .into_iter()
        .map(PathBuf::from)
        .chain([data, PathBuf::from(env!("CARGO_MANIFEST_DIR"))])
        .chain(below_usr.iter().map(|folder| folder.path().join("signing.key")))
    {
        let (code, text) = shell.run(&format!("test -e {}", path.display())).await;
        assert_eq!(code, 1, "{} is there: {text}", path.display());
    }
    for folder in ["/home", "/root", "/srv", "/mnt", "/media", "/tmp", "/var/lib", "/var/log"] {
        let (_, text) = shell.run(&format!("echo \"<$(ls -A {folder} | wc -l)>\"")).await;
        assert!(text.contains("<0>"), "{folder} is not empty: {text}");
    }
    // Memory of the kernel and of the process that runs the node are not readable either.
    for path in
        ["/proc/kcore", "/proc/1/mem", "/proc/1/environ", "/proc/1/root/etc/passwd", "/dev/mem", "/dev/sda", "/dev/vda"]
    {
        let (_, text) = shell.run(&format!("echo \"<$(head -c 1 {path} 2>/dev/null | wc -c)>\"")).await;
        assert!(text.contains("<0>"), "{path} can be read: {text}");
    }
    destroy(&runtime, "hidden").await;
}

/// Line 42.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_the_host_sees_can_be_changed_from_a_node() {
    let runtime = runtime();
    deploy(&runtime, "confined", one(node("r1"))).await;
    let mut shell = Shell::open(&runtime, "confined", "r1").await;
    let refused = [
        "touch /usr/bin/x",
        "touch /bin/x",
        "touch /lib/x",
        "chmod 777 /usr",
        "mount -t tmpfs none /mnt",
        "mount -t proc none /mnt",
        "mount --bind /tmp /mnt",
        "mount -o remount,rw /usr",
        "umount /proc",
        "umount /usr",
        "mknod /tmp/disk b 254 0",
        "mknod /tmp/null c 1 3",
        "unshare -r true",
        "unshare -m true",
        "unshare -n true",
        "nsenter -t 1 -m true",
        "echo 1 > /proc/sys/kernel/panic",
        "echo 1 > /proc/sys/vm/swappiness",
        "echo x > /proc/sys/kernel/hostname",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /sys/kernel/profiling",
        "echo 15000 > /proc/sys/user/max_user_namespaces",
        "hostname other",
        "date -s 2001-01-01",
        "ls /sys/fs/cgroup/*",
        "dmesg",
    ];
    for line in refused {
        let (code, text) = shell.run(&format!("({line}) >/dev/null 2>&1")).await;
        assert_ne!(code, 0, "`{line}` worked: {text}");
    }
    // Mounting, tracing the kernel, loading modules, making devices, rebooting, raw I/O.
    let (_, text) = shell.run("grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status").await;
    let field = |name: &str| {
        let rest = text.rsplit_once(name).unwrap_or_else(|| panic!("{text}")).1;
        u64::from_str_radix(rest.split_whitespace().next().unwrap(), 16).unwrap()
    };
    for capability in [16, 17, 19, 21, 22, 23, 24, 25, 27, 31, 34, 38, 39, 40] {
        assert_eq!(field("CapEff:") >> capability & 1, 0, "capability {capability}: {text}");
        assert_eq!(field("CapBnd:") >> capability & 1, 0, "capability {capability}: {text}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), (1, 2));
    // Nothing that failed above did so because nothing works: the node's own things can be changed.
    for line in
        ["touch /etc/x /tmp/x /root/x /var/x /run/x", "echo 1 > /proc/sys/net/ipv4/ip_forward", "echo x > /dev/stderr"]
    {
        let (code, text) = shell.run(line).await;
        assert_eq!(code, 0, "`{line}`: {text}");
    }
    // Its root is nobody in particular outside.
    let (_, text) = shell.run(SHOW_NAMESPACES).await;
    let inside = processes_in(&namespaces_in(&text));
    assert!(!inside.is_empty(), "{text}");
    for pid in inside {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let ids = status.split_once("Uid:").unwrap().1.lines().next().unwrap().split_whitespace();
        assert!(ids.clone().all(|id| id != "0") && ids.count() == 4, "{status}");
    }
    destroy(&runtime, "confined").await;
}

/// A process outside of all nodes.
struct Outsider(std::process::Child);

impl Outsider {
    fn start() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Line 43.
#[tokio::test(flavor = "multi_thread")]
async fn no_process_and_no_network_outside_can_be_reached_from_a_node() {
    let runtime = runtime();
    let topology = |address: &str, peer: &str| Topology {
        links: vec![link(("r1", "eth1", address), ("r2", "eth1", peer))],
        ..two_routers()
    };
    deploy(&runtime, "here", topology("10.0.0.1/24", "10.0.0.2/24")).await;
    deploy(&runtime, "there", topology("10.0.0.3/24", "10.0.0.4/24")).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut sleeper = Outsider::start();
    let mut shell = Shell::open(&runtime, "here", "r1").await;

    let (code, text) = shell.run(&format!("kill -0 {}", sleeper.0.id())).await;
    assert_ne!(code, 0, "{text}");
    // Init, the shell, and what the shell runs to look.
    let (_, text) = shell.run("echo \"<$(ls -d /proc/[0-9]* | wc -l)>\"").await;
    assert!(number(&text) <= 5, "{text}");
    let (code, _) = shell.run("kill -9 -1; kill -9 1").await;
    assert_eq!(code, 0);
    assert!(sleeper.0.try_wait().unwrap().is_none());

    // That the shell survived its kill of everybody is because it leaves itself out; its node did because it is PID 1.
    let (code, text) = shell.run(&format!("bash -c '</dev/tcp/127.0.0.1/{port}'")).await;
    assert_ne!(code, 0, "{text}");
    let (code, text) = shell.run("ping -c 1 -W 5 10.0.0.2").await;
    assert_eq!(code, 0, "{text}");
    for elsewhere in ["10.0.0.3", "10.0.0.4"] {
        let (code, text) = shell.run(&format!("ping -c 1 -W 1 {elsewhere}")).await;
        assert_ne!(code, 0, "{text}");
    }
    let (_, text) = shell.run("echo \"<$(ls /sys/class/net | tr '\\n' ' ')>\"").await;
    assert!(text.contains("<eth1 lo >"), "{text}");
    let (_, text) = shell.run("echo \"<$(wc -l < /proc/net/route)>\"").await;
    assert!(text.contains("<2>"), "a route leads out: {text}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    tokio::join!(destroy(&runtime, "here"), destroy(&runtime, "there"));
}

/// Line 44.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_node_hurts_itself_only_and_destroy_takes_seconds() {
    let runtime = runtime();
    let stubborn = Node {
        cmd: Some("sh -c 'trap \"\" TERM INT HUP; while :; do sleep 1000; done'".to_owned()),
        ..node("stubborn")
    };
    let nodes = ["bomb", "full", "hog"].map(node).into_iter().chain([stubborn, node("quiet")]).collect();
    let topology = Topology { nodes, links: vec![], ..two_routers() };
    deploy(&runtime, "hostile", topology).await;

    let full = run_in(&runtime, "hostile", "full", "cat /dev/zero > /tmp/all; cat /dev/zero > /dev/shm/all").await;
    assert_ne!(full.0, 0, "{}", full.1);
    let hog = Shell::open(&runtime, "hostile", "hog").await;
    hog.send("tail /dev/zero\n").await;
    let bomb = Shell::open(&runtime, "hostile", "bomb").await;
    bomb.send("b() { b | b & }; b\n").await;

    // Once the bomb can't grow any more, others still can do everything.
    let mut bomb = bomb;
    while !bomb.seen.contains("fork") {
        assert!(bomb.read().await, "{}", bomb.seen);
    }
    let (code, text) = run_in(&runtime, "hostile", "quiet", "true | true && echo alive").await;
    assert_eq!(code, 0, "{text}");
    assert!(Command::new("true").status().unwrap().success());
    // A full node still opens a shell.
    assert_eq!(run_in(&runtime, "hostile", "full", "true").await.0, 0);

    let begun = Instant::now();
    destroy(&runtime, "hostile").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "destroy took {:?}", begun.elapsed());
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

/// Line 19.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_shell_that_exists_opens_and_without_any_nothing_is_left_half_open() {
    let runtime = runtime();
    deploy(&runtime, "shells", one(node("r1"))).await;
    let mut pty = runtime
        .open_pty("shells", "r1", request(&[&["no-such-shell", "-l"], &["sh", "-c", "echo it is sh"]]))
        .await
        .unwrap();
    let mut seen = Vec::new();
    while let Some(chunk) = tokio::time::timeout(PATIENCE, pty.output.recv()).await.unwrap() {
        seen.extend(chunk);
    }
    assert_eq!(String::from_utf8_lossy(&seen), "it is sh\r\n");
    assert_eq!(pty.exit.await.unwrap(), "exit status 0");

    let refused = runtime.open_pty("shells", "r1", request(&[&["no-such-shell"], &["nor-this"]])).await;
    let Err(RuntimeError::Failed(text)) = refused else { panic!("a shell opened") };
    assert!(text.contains("no-such-shell") && text.contains("nor-this") && text.contains("r1"), "{text}");
    let (_, text) = run_in(&runtime, "shells", "r1", "ls -d /proc/[0-9]* | wc -l; echo; ls -l /proc/*/exe").await;
    assert!(!text.contains("antimony-host"), "{text}");
    destroy(&runtime, "shells").await;
}

/// Line 21.
#[tokio::test(flavor = "multi_thread")]
async fn ending_a_shell_ends_everything_on_its_terminal() {
    let runtime = runtime();
    deploy(&runtime, "hangup", one(node("r1"))).await;
    let count = async |what: &str| {
        let (_, text) = run_in(
            &runtime,
            "hangup",
            "r1",
            &format!("echo \"<$(cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep {what}' | wc -l)>\""),
        )
        .await;
        number(&text)
    };
    for (mark, by_dropping) in [("77001", false), ("77002", true)] {
        let mut shell = Shell::open(&runtime, "hangup", "r1").await;
        // One that ignores being hung up, one in the background, one in the foreground that ignores SIGTERM too.
        shell.run(&format!("nohup sleep {mark} >/dev/null 2>&1 & sleep {mark} &")).await;
        shell.send(&format!("trap '' HUP TERM; sleep {mark}; sleep {mark}\n")).await;
        let deadline = Instant::now() + PATIENCE;
        while count(mark).await < 3 {
            assert!(Instant::now() < deadline);
        }
        if by_dropping {
            drop(shell);
        } else {
            shell.pty.control.terminate();
            while shell.read().await {}
            assert!(shell.pty.exit.await.unwrap().starts_with("signal"));
        }
        while count(mark).await > 0 {
            assert!(Instant::now() < deadline);
        }
    }
    destroy(&runtime, "hangup").await;
}

/// Line 20: a paste arrives whole and in order, and so do the last bytes of something that ends right away.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_paste_and_the_last_output_arrive_whole() {
    let runtime = runtime();
    deploy(&runtime, "paste", one(node("r1"))).await;
    let mut pty = runtime
        .open_pty("paste", "r1", request(&[&["sh", "-c", "stty raw -echo; echo ready; head -c 1048576 | cksum"]]))
        .await
        .unwrap();
    let mut seen = String::new();
    while !seen.contains("ready") {
        seen.push_str(&String::from_utf8_lossy(
            &tokio::time::timeout(PATIENCE, pty.output.recv()).await.unwrap().unwrap(),
        ));
    }
    let paste: Vec<u8> =
        (0..1_048_576_u32).map(|index| b' ' + u8::try_from(index.wrapping_mul(2_654_435_761) >> 26).unwrap()).collect();
    let mut sum = Command::new("cksum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    sum.stdin.take().unwrap().write_all(&paste).unwrap();
    let sum = String::from_utf8(sum.wait_with_output().unwrap().stdout).unwrap();
    for part in paste.chunks(10_000) {
        pty.input.send(Bytes::copy_from_slice(part)).await.unwrap();
    }
    while let Some(chunk) = tokio::time::timeout(PATIENCE, pty.output.recv()).await.unwrap() {
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(seen.contains(sum.trim()), "{seen} is not {sum}");

    for _ in 0..20 {
        let mut pty = runtime.open_pty("paste", "r1", request(&[&["sh", "-c", "printf %5000d 7"]])).await.unwrap();
        let mut length = 0;
        while let Some(chunk) = tokio::time::timeout(PATIENCE, pty.output.recv()).await.unwrap() {
            length += chunk.len();
        }
        assert_eq!(length, 5000);
    }
    destroy(&runtime, "paste").await;
}

/// Line 6, as far as the runtime goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_slows_nobody_else_down() {
    let runtime = runtime();
    let flood = Node { cmd: Some("yes this is a line of some length, over and over".to_owned()), ..node("flood") };
    let topology = Topology { nodes: vec![flood, node("quiet")], links: vec![], ..two_routers() };
    deploy(&runtime, "flood", topology).await;
    let mut log = runtime.follow_log("flood", "flood", None).await.unwrap();
    let mut bytes = 0;
    while bytes < 20_000_000 {
        bytes += tokio::time::timeout(PATIENCE, log.recv()).await.unwrap().unwrap().data.len();
    }
    assert_eq!(run_in(&runtime, "flood", "quiet", "true").await.0, 0);
    let begun = Instant::now();
    destroy(&runtime, "flood").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "destroy took {:?}", begun.elapsed());
}

/// Line 12, as far as the runtime goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_deploy_leaves_nothing() {
    let runtime = runtime();
    for moment in ["Deploying", "Created node r1", "Created link", "Started node r1", "ns/", "r1 | user"] {
        let mut topology = two_routers();
        topology.nodes[0].exec = vec![SHOW_NAMESPACES.to_owned(), "sleep 1000".to_owned()];
        let cancel = CancellationToken::new();
        let lines = Lines::default();
        let sink: LogSink = {
            let (lines, cancel) = (lines.sink(), cancel.clone());
            Arc::new(move |line: &str| {
                lines.line(line);
                if line.contains(moment) {
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
        assert_eq!(processes_in(&namespaces), Vec::<i32>::new());
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

/// An opening that nobody waits for any more must not leave a shell behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_nobody_waits_for_is_closed_again() {
    let runtime = runtime();
    deploy(&runtime, "hasty", one(node("r1"))).await;
    for micros in [0, 200, 1000, 5000] {
        let opening = runtime.open_pty("hasty", "r1", request(&[&["sh", "-c", "trap '' HUP; exec sleep 88001"]]));
        let _ = tokio::time::timeout(Duration::from_micros(micros), opening).await;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, text) = run_in(
            &runtime,
            "hasty",
            "r1",
            "echo \"<$(cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 8[8]001' | wc -l)>\"",
        )
        .await;
        if number(&text) == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
    let mut quick = request(&[&["sh"]]);
    quick.timeout = Duration::ZERO;
    // On a busy machine the shell may be there before anybody looks at the clock.
    loop {
        match runtime.open_pty("hasty", "r1", quick.clone()).await {
            Err(RuntimeError::TimedOut(..)) => break,
            opened => drop(opened.unwrap()),
        }
        assert!(Instant::now() < deadline);
    }
    destroy(&runtime, "hasty").await;
}

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
    command.args(["--exact", "victim", "--nocapture"]).env(VICTIM, format!("victim-{}", std::process::id()));
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
    assert!(processes_in(&namespaces).len() >= 5, "{:?}", processes_in(&namespaces));
    if nix::unistd::geteuid().is_root() && cgroups_of(keepers[0]).is_empty() {
        left_out("that cgroups go away with a killed server: not even root can make any here");
    }

    drop(victim);
    until("the keeper ends", || !alive(keepers[0])).await;
    // It is the last one: when it has ended, everything else has.
    assert_eq!(processes_in(&namespaces), Vec::<i32>::new());
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
    let inside = processes_in(&namespaces);
    // From a process of a node up to the child of this process: init of the node, the lab, the keeper.
    let parent = |pid: i32| -> i32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let me = i32::try_from(std::process::id()).unwrap();
    let Some(mut keeper) = inside.first().copied() else {
        // An idle node's only process may not be looked at by an ordinary user.
        return destroy(&runtime, "lost").await;
    };
    while parent(keeper) != me {
        keeper = parent(keeper);
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper), nix::sys::signal::Signal::SIGKILL).unwrap();
    let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    assert!(matches!(event, antimony_host::runtime::RuntimeEvent::InstanceLost { instance, .. } if instance == "lost"));
    until("everything of the lab ends", || processes_in(&namespaces).is_empty()).await;
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

/// CVE-2019-5736 and its relatives: what runs in a node is started by our own program, which lies on the host.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_program_cannot_be_changed_through_the_processes_of_a_node() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("antimony-host");
    fs::copy(helper(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let state = || {
        let meta = fs::metadata(&program).unwrap();
        (meta.permissions().mode(), meta.modified().unwrap(), meta.len())
    };
    let (before, content) = (state(), fs::read(&program).unwrap());
    let runtime = EmbeddedRuntime::new(EmbeddedOptions { helper: program.clone(), ..Default::default() }).unwrap();
    let attack = "while :; do for p in /proc/[0-9]*; do case $(readlink $p/exe) in *antimony*) { \
                  chmod 6777 /proc/self/fd/9; touch -d @0 /proc/self/fd/9; kill -9 ${p#/proc/}; sleep 0.2; \
                  echo x >> /proc/self/fd/9; echo attacked; } 9<$p/exe;; esac; done; done 2>&1";
    let exec = vec!["ln -s /proc/self/exe /tmp/ping".to_owned()];
    let attacker = Node { cmd: Some(format!("sh -c '{attack}'")), exec, ..node("r1") };
    deploy(&runtime, "overwrite", one(attacker)).await;
    let mut log = runtime.follow_log("overwrite", "r1", None).await.unwrap();
    // Under this name the program stays for a while.
    let again = ["/tmp/ping", "-c", "1000", "127.0.0.1"];
    let pty = runtime.open_pty("overwrite", "r1", request(&[&again])).await.unwrap();
    let text = read_log(&mut log, "attacked").await;
    assert_eq!(state(), before, "{text}");
    drop(pty);
    destroy(&runtime, "overwrite").await;
    assert_eq!(state(), before, "{text}");
    assert!(fs::read(&program).unwrap() == content, "the program has other bytes now: {text}");
}

/// What the helper needs of a node's devices it holds since before the node ran anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_swaps_its_devices_gets_nothing_of_the_helper_and_starts_again() {
    let runtime = runtime();
    let swap = "rm -rf /dev.old; mv /dev /dev.old; mkdir /dev; ln -s /proc/self/exe /dev/null";
    let look = "stat -L -c %F-%t:%T /proc/self/fd/0";
    let swapper = Node { exec: vec![format!("sh -c '{swap}'"), look.to_owned()], ..node("r1") };
    let text = deploy(&runtime, "swapped", one(swapper)).await.text();
    assert!(text.contains("r1 | character special file-1:3"), "the input of a command is something else: {text}");
    runtime.node("swapped", "r1", NodeAction::Restart).await.unwrap();
    for masked in ["/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger", "/proc/kcore"] {
        if Path::new(masked).exists() {
            let (_, text) = run_in(&runtime, "swapped", "r1", &format!("stat -c %F-%t:%T {masked}")).await;
            assert!(text.contains("character special file-1:3"), "{masked}: {text}");
        }
    }
    destroy(&runtime, "swapped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_folder_is_hidden_by_whatever_path_it_is_named() {
    let relative = EmbeddedOptions { helper: helper(), hidden: vec!["antimony-data".into()], ..Default::default() };
    let error = EmbeddedRuntime::new(relative).err().expect("a relative path could be anywhere").to_string();
    assert!(error.contains("antimony-data"), "{error}");
    if !nix::unistd::geteuid().is_root() {
        // Only root can make a folder there; where root started this, it has done so.
        if std::env::var_os(HELPER).is_none() {
            left_out("a hidden folder below /usr: only root can make one");
        }
        return;
    }
    let folder = tempfile::tempdir_in("/usr/local").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("signing.key"), "secret").unwrap();
    let alias = elsewhere.path().join("alias");
    std::os::unix::fs::symlink(folder.path(), &alias).unwrap();
    let roundabout = folder.path().join("../../local").join(folder.path().file_name().unwrap());
    for (name, path) in [("alias", alias), ("roundabout", roundabout)] {
        let options = EmbeddedOptions { helper: helper(), hidden: vec![path], ..Default::default() };
        let runtime = EmbeddedRuntime::new(options).unwrap();
        deploy(&runtime, name, one(node("r1"))).await;
        let key = folder.path().join("signing.key");
        let (code, text) = run_in(&runtime, name, "r1", &format!("test -e {}", key.display())).await;
        assert_eq!(code, 1, "{name}: {text}");
        destroy(&runtime, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_can_use_up_of_the_kernel_is_bounded() {
    let runtime = runtime();
    deploy(&runtime, "bounded", one(node("r1"))).await;
    let (_, text) = run_in(
        &runtime,
        "bounded",
        "r1",
        "n=0; while [ $n -lt 90 ] && exec {fd}<>/dev/ptmx; do n=$((n+1)); done 2>/dev/null; echo \"<$n>\"",
    )
    .await;
    assert!((16..=64).contains(&number(&text)), "terminals: {text}");
    let at_most = async |line: &str, most: u32| {
        let (_, text) = run_in(&runtime, "bounded", "r1", &format!("echo \"<$({line})>\"")).await;
        assert!(number(&text) <= most, "{line}: {text}");
    };
    at_most("ulimit -Sn", 1024).await;
    at_most("ulimit -Hn", 4096).await;
    at_most("ulimit -Hi", 4096).await;
    at_most("ulimit -Hq", 819_200).await;
    at_most("ulimit -Hl", 8192).await;
    for key in ["max_inotify_instances", "max_inotify_watches"] {
        at_most(&format!("cat /proc/sys/user/{key}"), 65_536).await;
    }
    at_most("cat /proc/sys/kernel/shmall", (256 << 20) / 4096).await;
    destroy(&runtime, "bounded").await;
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
    let destroyed = tokio::time::timeout(2 * PATIENCE, runtime.destroy(&name, Lines::default().sink())).await;
    destroyed.expect("an answer in time").unwrap();
    assert_eq!(helpers_of(&name), Vec::<i32>::new());
    assert_eq!(cgroups_of(keeper), Vec::<PathBuf>::new());
    assert!(runtime.list().await.unwrap().is_empty());
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

/// Everything above once more, by a process that has no rights at all.
#[test]
fn everything_works_for_an_ordinary_user_too() {
    if std::env::var_os(HELPER).is_some() {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return left_out("the embedded runtime as root: these tests are run by an ordinary user");
    }
    // Somebody else may not be able to reach the build folder.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let reachable = |path: &Path| {
        path.ancestors()
            .skip(1)
            .all(|folder| folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0))
    };
    let bring = |path: PathBuf| {
        if reachable(&path) {
            return path;
        }
        let copy = folder.path().join(path.file_name().unwrap());
        fs::copy(path, &copy).unwrap();
        copy
    };
    let tests = bring(std::env::current_exe().unwrap());
    let output = Command::new(tests)
        .env(HELPER, bring(helper()))
        .env_remove("TMPDIR")
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "as user {NOBODY}:\n{text}");
    assert!(!text.contains("running 0 tests"), "{text}");
}
