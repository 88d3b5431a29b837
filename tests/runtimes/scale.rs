//! A lab of many nodes, and many labs at once, on containerlab: what they cost the server, and how often it asks.
//!
//! A small one is part of the suite. The large one, whose figures are in `tests/load/RESULTS.md`:
//! `cargo test --test runtimes scale:: -- --ignored --nocapture`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::bench::{Bench, Runtime};
use crate::harness::{Client, Figures, Place, Server, User, alone};
use crate::{DEFAULTS, apart};

/// How much of it.
struct Scale {
    /// Nodes of the large lab.
    nodes: usize,
    /// Labs at once, and nodes of each.
    labs: (usize, usize),
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dozen_nodes_and_a_few_labs_at_once_cost_the_server_little_and_are_not_asked_for_one_by_one() {
    if let Some(on) = Bench::ready(Runtime::Containerlab, "many nodes and many labs, small") {
        measure(&on, &Scale { nodes: 12, labs: (4, 2) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and a machine of its own"]
async fn a_hundred_nodes_and_ten_labs_at_once_cost_the_server_little_and_are_not_asked_for_one_by_one() {
    if let Some(on) = Bench::ready(Runtime::Containerlab, "many nodes and many labs, large") {
        measure(&on, &Scale { nodes: 100, labs: (10, 10) }).await;
    }
}

/// containerlab with a clerk in front who notes how often it is called for, and for what.
struct Counted {
    folder: TempDir,
}

impl Counted {
    fn new(on: &Bench) -> Self {
        let folder = tempfile::Builder::new().prefix("antimony-counted-").tempdir().unwrap();
        let program = folder.path().join("containerlab");
        let real = on.prepared().containerlab.display();
        let log = folder.path().join("log");
        fs::write(&program, format!("#!/bin/sh\necho \"$*\" >>'{}'\nexec '{real}' \"$@\"\n", log.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("containerlab")
    }

    /// The calls since the last time.
    fn take(&self) -> Vec<String> {
        let log = self.folder.path().join("log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::write(log, "");
        text.lines().map(str::to_owned).collect()
    }
}

/// Processor time that a process has used so far, in seconds, without that of what it has started.
fn processor_seconds(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    // The kernel counts in hundredths, whatever its own clock.
    ticks / 100.0
}

/// A chain of nodes, each with a link to the next.
fn chain(name: &str, count: usize) -> String {
    let mut topology = format!("name: {name}\ntopology:\n  {DEFAULTS}\n  nodes:\n");
    for number in 1..=count {
        topology.push_str(&format!("    n{number}: {{}}\n"));
    }
    topology.push_str("  links:\n");
    for number in 1..count {
        topology.push_str(&format!("    - endpoints: [\"n{number}:eth2\", \"n{}:eth1\"]\n", number + 1));
    }
    apart(&topology)
}

/// Says on standard error, which the test runner doesn't swallow, what a step cost.
struct Step<'a> {
    what: String,
    server: &'a Server,
    counted: &'a Counted,
    began: Instant,
    processor: f64,
}

impl<'a> Step<'a> {
    fn begin(what: String, server: &'a Server, counted: &'a Counted) -> Self {
        counted.take();
        Self { what, server, counted, began: Instant::now(), processor: processor_seconds(server.id()) }
    }

    /// Answers the calls of containerlab.
    fn end(self) -> Vec<String> {
        let seconds = self.began.elapsed().as_secs_f64();
        let processor = processor_seconds(self.server.id()) - self.processor;
        let figures = Figures::of(self.server.id());
        let calls = self.counted.take();
        let line = format!(
            "scale: {:<44} {seconds:>6.1} s; server: {processor:>5.2} s of processor time, {:>4} MiB now, {:>4} MiB at most, \
             {} threads, {} descriptors; {} calls of containerlab\n",
            self.what,
            figures.memory >> 10,
            figures.peak >> 10,
            figures.threads,
            figures.descriptors,
            calls.len()
        );
        use std::io::Write as _;
        let _ = std::io::stderr().write_all(line.as_bytes());
        calls
    }
}

async fn measure(on: &Bench, scale: &Scale) {
    let turn = alone().await;
    let counted = Counted::new(on);
    let place = Place::new(User::Myself);
    let path = format!(
        "{}:{}",
        counted.program().parent().unwrap().display(),
        std::env::var("PATH").expect("a path that is text")
    );
    let server = on.builder_at(&place).env("PATH", &path).within(&turn).start().await;
    let admin = server.admin().await;

    let nodes = scale.nodes;
    let large = admin.create_lab("large", &chain("large", nodes)).await;
    let step = Step::begin(format!("one lab of {nodes} nodes is deployed"), &server, &counted);
    assert_eq!(command(&admin, &large, 0).await, Value::Null);
    few(&step.end(), 1);
    let shown = admin.api.lab(&large).await.unwrap();
    let there = shown["instance"]["nodes"].as_array().unwrap();
    assert_eq!(there.iter().filter(|node| node["state"] == "running").count(), nodes);
    let step = Step::begin(format!("the lab of {nodes} nodes is destroyed"), &server, &counted);
    assert_eq!(command(&admin, &large, 1).await, Value::Null);
    few(&step.end(), 1);
    on.leaves_nothing().await;

    let (count, each) = scale.labs;
    let first = admin.create_lab("many", &chain("many", each)).await;
    let topology = admin.api.lab(&first).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    let mut labs = vec![first];
    while labs.len() < count {
        labs.push(admin.api.create_lab(&topology, &format!("lab {}", labs.len())).await.unwrap());
    }
    for (number, verb) in ["deployed", "destroyed"].into_iter().enumerate() {
        let step = Step::begin(format!("{count} labs of {each} nodes are {verb} at once"), &server, &counted);
        let all = labs.iter().map(|lab| command(&admin, lab, u8::try_from(number).unwrap()));
        for answer in futures::future::join_all(all).await {
            assert_eq!(answer, Value::Null);
        }
        few(&step.end(), count);
        for lab in &labs {
            assert_eq!(admin.state(lab).await, (number == 0).then_some(1));
        }
    }
    on.leaves_nothing().await;
    let figures = Figures::of(server.id());
    assert!(figures.peak < 512 << 10, "{figures:?}");
}

/// Patient enough for the large ones.
async fn command(client: &Client, lab: &str, command: u8) -> Value {
    let message = serde_json::json!({ "labId": lab, "command": command });
    let answer = tokio::time::timeout(std::time::Duration::from_secs(600), client.commands.call("data", message));
    answer.await.expect("an answer").expect("it works")
}

/// containerlab is called a few times for each lab, however many nodes that has.
fn few(calls: &[String], labs: usize) {
    assert!(calls.len() <= 4 * labs, "{} calls for {labs} labs: {calls:#?}", calls.len());
}
