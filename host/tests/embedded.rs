//! The embedded runtime on this machine, as root and as an ordinary user: real namespaces, real links, real shells.
//!
//! Every case is run as whoever runs the tests. If that is root, this binary also runs itself once more as an ordinary
//! user (see `everything_works_for_an_ordinary_user_too`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use antimony_host::labs::model::{LabId, NodeState};
use antimony_host::runtime::embedded::{EmbeddedOptions, EmbeddedRuntime};
use antimony_host::runtime::{InstanceSpec, LogSink, NodeAction, Pty, PtyRequest, RuntimeDriver, RuntimeError};
use antimony_host::topology::{Endpoint, Link, Node, Topology};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// Far longer than anything here takes; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn runtime() -> EmbeddedRuntime {
    let options = EmbeddedOptions { helper: PathBuf::from(env!("CARGO_BIN_EXE_antimony-host")), ..Default::default() };
    EmbeddedRuntime::new(options).unwrap()
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
        Arc::new(move |line| lines.lock().unwrap().push(line.to_owned()))
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

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_reach_each_other_over_their_link_from_a_shell() {
    let runtime = runtime();
    let lines = deploy(&runtime, "pair-ping", two_routers()).await;
    let text = lines.text();
    assert!(text.contains("r1:eth1 – r2:eth1"), "{text}");
    let mut shell = Shell::open(&runtime, "pair-ping", "r1").await;
    let (code, text) = shell.run("ping -c 2 -W 5 r2").await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("2 received"), "{text}");
    drop(shell);
    destroy(&runtime, "pair-ping").await;
    assert!(runtime.list().await.unwrap().is_empty());
}
