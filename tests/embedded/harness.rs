//! What the tests share: topologies, instances, shells, and looks at the whole machine.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use antimony_host::labs::model::LabId;
use antimony_host::runtime::embedded::{EmbeddedOptions, EmbeddedRuntime};
use antimony_host::runtime::{InstanceSpec, LogChunk, LogSink, Pty, PtyRequest, RuntimeDriver};
use antimony_host::topology::{Endpoint, Link, Node, Topology};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// Far longer than anything here takes; reached only when something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Set in the run of these tests that is somebody else's: the helper that it is to use.
pub(crate) const HELPER: &str = "ANTIMONY_TEST_HELPER";

pub(crate) fn helper() -> PathBuf {
    std::env::var_os(HELPER).map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_antimony-host")), PathBuf::from)
}

pub(crate) fn runtime() -> EmbeddedRuntime {
    EmbeddedRuntime::new(EmbeddedOptions { helper: helper(), ..Default::default() }).unwrap()
}

pub(crate) fn node(name: &str) -> Node {
    Node { name: name.to_owned(), kind: "linux".to_owned(), ..Node::default() }
}

pub(crate) fn link(near: (&str, &str, &str), far: (&str, &str, &str)) -> Link {
    let end = |(node, interface, ipv4): (&str, &str, &str)| Endpoint {
        node: node.to_owned(),
        interface: interface.to_owned(),
        mac: None,
        ipv4: (!ipv4.is_empty()).then(|| ipv4.to_owned()),
        ipv6: None,
    };
    Link { ends: [end(near), end(far)], mtu: None }
}

pub(crate) fn two_routers() -> Topology {
    Topology {
        name: "pair".to_owned(),
        prefix: None,
        nodes: vec![node("r1"), node("r2")],
        links: vec![link(("r1", "eth1", "10.0.0.1/30"), ("r2", "eth1", "10.0.0.2/30"))],
    }
}

pub(crate) fn one(node: Node) -> Topology {
    Topology { name: "one".to_owned(), prefix: None, nodes: vec![node], links: vec![] }
}

pub(crate) fn spec(name: &str, topology: Topology) -> InstanceSpec {
    InstanceSpec {
        lab_id: LabId::generate(),
        name: name.to_owned(),
        topology: Arc::new(topology),
        definition: String::new(),
        dir: std::env::temp_dir(),
        saved: None,
    }
}

/// Lines of a deploy, kept.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(crate) fn sink(&self) -> LogSink {
        let lines = self.0.clone();
        Arc::new(move |line: &str| lines.lock().unwrap().push(line.to_owned()))
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

pub(crate) async fn deploy(runtime: &EmbeddedRuntime, name: &str, topology: Topology) -> Lines {
    let lines = Lines::default();
    let spec = spec(name, topology);
    let deploying = runtime.deploy(&spec, lines.sink(), CancellationToken::new());
    let nodes = tokio::time::timeout(PATIENCE, deploying).await.unwrap();
    nodes.unwrap_or_else(|error| panic!("{error}\n{}", lines.text()));
    lines
}

pub(crate) async fn destroy(runtime: &EmbeddedRuntime, name: &str) {
    tokio::time::timeout(PATIENCE, runtime.destroy(name, std::path::Path::new(""), Lines::default().sink()))
        .await
        .unwrap()
        .unwrap();
}

pub(crate) fn request(commands: &[&[&str]]) -> PtyRequest {
    PtyRequest {
        size: (80, 24),
        commands: commands.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect(),
        timeout: Duration::from_secs(10),
    }
}

pub(crate) fn usual_shells() -> PtyRequest {
    request(&[&["bash"], &["sh"]])
}

/// A shell that is typed into and read like a person would.
pub(crate) struct Shell {
    pub(crate) pty: Pty,
    pub(crate) seen: String,
    count: u32,
}

impl Shell {
    pub(crate) async fn open(runtime: &EmbeddedRuntime, instance: &str, node: &str) -> Self {
        let pty = runtime.open_pty(instance, node, usual_shells()).await.unwrap();
        Self { pty, seen: String::new(), count: 0 }
    }

    /// Runs a command line; answers its exit code and what was printed.
    pub(crate) async fn run(&mut self, line: &str) -> (i32, String) {
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

    pub(crate) async fn send(&self, text: &str) {
        self.pty.input.send(Bytes::from(text.to_owned())).await.unwrap();
    }

    pub(crate) async fn read(&mut self) -> bool {
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
pub(crate) fn number(text: &str) -> u32 {
    let mut numbers = text.rsplit('<').filter_map(|rest| rest.split_once('>')?.0.parse().ok());
    numbers.next().unwrap_or_else(|| panic!("no number in {text}"))
}

/// Runs a command line in a new shell of a node.
pub(crate) async fn run_in(runtime: &EmbeddedRuntime, instance: &str, node: &str, line: &str) -> (i32, String) {
    Shell::open(runtime, instance, node).await.run(line).await
}

/// Waits for something that is bound to happen.
pub(crate) async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads a node's log until it contains `text`.
pub(crate) async fn read_log(log: &mut tokio::sync::mpsc::Receiver<LogChunk>, text: &str) -> String {
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
pub(crate) fn processes_in(namespaces: &BTreeSet<String>) -> Vec<i32> {
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

/// The same, each with the time at which it was started: the numbers of processes and of namespaces are given out again, also
/// to the labs of other tests.
pub(crate) fn inhabitants_of(namespaces: &BTreeSet<String>) -> Vec<(i32, u64)> {
    processes_in(namespaces).into_iter().filter_map(|pid| Some((pid, started(pid)?))).collect()
}

/// Those of `inhabitants` that are still there.
pub(crate) fn left_of(inhabitants: &[(i32, u64)]) -> Vec<i32> {
    let left = inhabitants.iter().filter(|(pid, start)| started(*pid) == Some(*start) && alive(*pid));
    left.map(|(pid, _)| *pid).collect()
}

fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// What `readlink /proc/self/ns/…` printed in a node.
pub(crate) fn namespaces_in(text: &str) -> BTreeSet<String> {
    let found = text.split_whitespace().filter(|word| word.ends_with(']') && word.contains(":["));
    found.map(str::to_owned).collect()
}

pub(crate) const SHOW_NAMESPACES: &str = "readlink /proc/self/ns/pid /proc/self/ns/net /proc/self/ns/mnt /proc/self/ns/user /proc/self/ns/uts /proc/self/ns/ipc";

/// Folders of cgroups that belong to one keeper.
pub(crate) fn cgroups_of(keeper: i32) -> Vec<PathBuf> {
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

pub(crate) fn alive(pid: i32) -> bool {
    // A zombie that its parent has not collected yet has ended.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z')))
}

pub(crate) fn left_out(what: &str) {
    // Past the capture of the test harness, which knows of its macros only, so that nobody takes it for done.
    let _ = writeln!(std::io::stderr(), "left out: {what}");
    let required = std::env::var_os("ANTIMONY_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "left out ({what}), and ANTIMONY_REQUIRE_ALL=1 forbids that");
}

/// Processes of the helper of an instance.
pub(crate) fn helpers_of(instance: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let marks = ["", "-apart"].map(|step| format!("__embedded-lab{step}\0{instance}\0"));
    let ours = |text: String| marks.iter().any(|mark| text.ends_with(mark));
    pids.filter(|pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(ours)).collect()
}

/// A process outside of all nodes.
pub(crate) struct Outsider(pub(crate) std::process::Child);

impl Outsider {
    pub(crate) fn start() -> Self {
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
