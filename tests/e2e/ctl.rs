//! `antimony-host ctl`: the real program, as a person at a terminal and as a script uses it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use portable_pty::{CommandBuilder, MasterPty, PtySize, native_pty_system};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::harness::{FlakyNetwork, Server, ServerBuilder, User, eventually, within};

const PROGRAM: &str = env!("CARGO_BIN_EXE_antimony-host");
const TOPOLOGY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/labs/two-routers.clab.yml");

/// Somebody who uses the program: with a place for their login, and nothing else of this machine's.
struct Person {
    home: TempDir,
    url: String,
}

impl Person {
    fn new(url: &str) -> Self {
        Self { home: tempfile::tempdir().unwrap(), url: url.to_owned() }
    }

    async fn logged_in(url: &str) -> Self {
        let person = Self::new(url);
        let said = person.succeeds(&["login", "--password-stdin"], "admin\n").await;
        assert_eq!(said, format!("admin is logged in at {url}\n"));
        person
    }

    fn session(&self) -> PathBuf {
        self.home.path().join("state/antimony-host/session.json")
    }

    fn environment(&self) -> [(&'static str, String); 3] {
        let state = self.home.path().join("state").display().to_string();
        [("ANTIMONY_SERVER", self.url.clone()), ("XDG_STATE_HOME", state), ("PATH", std::env::var("PATH").unwrap())]
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_clear().envs(self.environment()).arg("ctl").args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    async fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let run = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
        within(&format!("ctl {arguments:?}"), run).await.unwrap()
    }

    /// The same, which has to end well; answers what it printed.
    async fn succeeds(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "ctl {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(&[arguments, &["--json"]].concat(), "").await).unwrap()
    }

    /// The same, which has to fail; answers why.
    async fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, "").await;
        assert!(!output.status.success(), "ctl {arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        assert!(output.stdout.is_empty(), "an error goes to standard error alone");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_takes_a_lab_from_nothing_to_a_ping_and_back_to_nothing() {
    if !User::Myself.can_run_labs("ctl takes a lab through its life") {
        return;
    }
    let server = Server::start().await;
    let person = Person::new(&server.url);
    let said = person.fails(&["labs"]).await;
    assert!(said.contains("nobody is logged in") && said.contains(&server.url) && said.contains("ctl login"), "{said}");
    let wrong = person.run(&["login", "--password-stdin"], "not admin\n").await;
    assert!(!wrong.status.success() && !person.session().exists());

    let person = Person::logged_in(&server.url).await;
    assert_eq!(fs::metadata(person.session()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(person.json(&["labs"]).await, serde_json::json!([]));
    let id = person.succeeds(&["create", TOPOLOGY, "--collection", "course"], "").await;
    let listed = person.json(&["labs"]).await;
    assert_eq!((listed[0]["id"].as_str().unwrap(), &listed[0]["name"]), (id.trim(), &"two-routers".into()));
    assert!(person.succeeds(&["labs"], "").await.contains("inactive"));

    let log = person.succeeds(&["deploy", "two-routers"], "").await;
    assert!(log.contains("its host name is r1") && log.ends_with("two-routers is up\n"), "{log}");
    let shown = person.succeeds(&["lab", id.trim()], "").await;
    assert!(shown.contains("two-routers is running") && shown.contains("r2"), "{shown}");
    // What is piped in is typed, and its end is the end of the shell.
    let typed = "ping -c 1 -W 5 10.0.0.2; echo \"status=$?\"\n";
    let screen = person.succeeds(&["shell", "two-routers", "r1"], typed).await;
    assert!(screen.contains("status=0"), "{screen}");
    assert_eq!(person.json(&["shells", "two-routers"]).await, serde_json::json!([]));

    assert_eq!(person.succeeds(&["stop", "two-routers", "r2"], "").await, "r2 of two-routers has been stopped\n");
    let stats = person.json(&["stats", "two-routers"]).await;
    assert!(stats["nodes"][0]["cpu"]["percent"].is_number() && stats["nodes"][1]["cpu"].is_null(), "{stats}");
    let table = person.succeeds(&["stats", "two-routers"], "").await;
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(lines[0][0] == "NODE" && lines[1][0] == "r1" && lines[1].contains(&"eth1"), "{table}");
    assert_eq!(lines[2][..2], ["r2", "stopped"], "{table}");
    let node = person.json(&["lab", "two-routers"]).await["instance"]["nodes"][1].clone();
    assert_eq!((&node["name"], &node["state"]), (&"r2".into(), &"exited".into()));
    person.succeeds(&["start", "two-routers", "r2"], "").await;
    let lines = person.succeeds(&["logs", "two-routers", "--json"], "").await;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["log"].as_str().unwrap().contains("its host name is r2")), "{lines:?}");

    // Checkpoints.
    person.succeeds(&["shell", "two-routers", "r1"], "echo kept > /root/file\n").await;
    let saved = person.json(&["save", "two-routers"]).await;
    assert_eq!(saved["nodes"].as_array().unwrap().iter().filter(|node| node["saved"] == true).count(), 2, "{saved}");
    let table = person.succeeds(&["save", "two-routers"], "").await;
    assert!(table.starts_with("NODE") && table.contains("r1    yes"), "{table}");
    let made = person.succeeds(&["checkpoint", "create", "two-routers", "first"], "").await;
    assert!(made.starts_with("made first with "), "{made}");
    assert!(person.fails(&["checkpoint", "create", "two-routers", "first"]).await.contains("already"));
    let listed = person.succeeds(&["checkpoint", "list", "two-routers"], "").await;
    assert!(listed.starts_with("CHECKPOINT") && listed.contains("first"), "{listed}");
    let log = person.succeeds(&["restore", "two-routers", "first"], "").await;
    assert!(log.contains("Restoring the checkpoint first") && log.ends_with("two-routers is up\n"), "{log}");
    assert!(person.succeeds(&["shell", "two-routers", "r1"], "cat /root/file\n").await.contains("kept"));
    assert!(person.fails(&["restore", "two-routers", "second"]).await.contains("ctl checkpoint list"));
    person.succeeds(&["checkpoint", "remove", "two-routers", "first"], "").await;
    assert_eq!(person.json(&["checkpoint", "list", "two-routers"]).await, serde_json::json!([]));

    // A token that has expired is nothing that a person has to know of.
    let mut kept: Value = serde_json::from_str(&fs::read_to_string(person.session()).unwrap()).unwrap();
    kept["access_token"] = "a.b.c".into();
    fs::write(person.session(), kept.to_string()).unwrap();
    person.succeeds(&["restart", "two-routers", "r2"], "").await;
    kept["access_token"] = "a.b.c".into();
    fs::write(person.session(), kept.to_string()).unwrap();
    // Here a namespace is what refuses it first.
    assert!(person.succeeds(&["logs", id.trim()], "").await.contains("r2"));

    let said = person.fails(&["shell", "two-routers", "r9"]).await;
    assert!(said.contains("5006") && said.contains("r9"), "{said}");
    person.succeeds(&["create", TOPOLOGY, "--collection", "course"], "").await;
    let said = person.fails(&["destroy", "two-routers"]).await;
    assert!(said.contains("several labs") && said.contains(id.trim()), "{said}");
    let mut following = tokio::process::Command::from(person.command(&["stats", id.trim(), "-f", "--json"]));
    let mut following = following.kill_on_drop(true).spawn().unwrap();
    let mut readings = BufReader::new(following.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = within("a reading", readings.next_line()).await.unwrap().unwrap();
        let reading: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(reading["nodes"][0]["node"], "r1");
    }
    person.succeeds(&["destroy", id.trim()], "").await;
    // It ends with what it follows.
    assert!(within("the end of ctl stats", following.wait()).await.unwrap().success());
    let said = person.fails(&["stats", id.trim()]).await;
    assert!(said.contains("no instance"), "{said}");
    let said = person.fails(&["destroy", id.trim()]).await;
    assert!(said.contains("5003"), "{said}");
    person.succeeds(&["delete", id.trim()], "").await;
    person.succeeds(&["delete", "two-routers"], "").await;
    assert_eq!(person.json(&["labs"]).await, serde_json::json!([]));
    assert!(person.succeeds(&["status"], "").await.starts_with("the server is ready\n"));
    person.succeeds(&["logout"], "").await;
    assert!(!person.session().exists());
    assert!(person.fails(&["labs"]).await.contains("nobody is logged in"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_moved_and_what_is_reserved_is_shown() {
    let config = "capacity: { nodes: 2, collections: { course: { labs: 1, memory: 1GiB } } }\n";
    let server = ServerBuilder::new(User::Myself).config(config).start().await;
    let person = Person::logged_in(&server.url).await;
    let times = ["--start", "2099-01-01T08:00:00Z", "--end", "2099-01-01T10:00:00Z"];
    let create = [&["create", TOPOLOGY, "--collection", "course"], times.as_slice()].concat();
    person.succeeds(&create, "").await;
    let said = person.fails(&create).await;
    assert!(
        said.contains("'course' has 1 of 1 labs") && said.contains("two-routers (until 2099-01-01T10:00:00Z)"),
        "{said}"
    );

    let said = person.succeeds(&["extend", "two-routers", "+30m"], "").await;
    assert_eq!(said, "two-routers ends at 2099-01-01T10:30:00Z\n");
    let moved = person.json(&["extend", "two-routers", "2099-01-01T12:00:00+01:00"]).await;
    assert_eq!(moved["endTime"], "2099-01-01T11:00:00Z");
    let said = person.fails(&["extend", "two-routers", "1h"]).await;
    assert!(said.contains("endTime"), "before its start: {said}");
    person.fails(&["extend", "two-routers", "soon"]).await;
    person.fails(&["extend", "two-routers"]).await;
    let said = person.succeeds(&["extend", "two-routers", "--indefinite"], "").await;
    assert_eq!(said, "two-routers does not end by itself\n");
    assert!(person.fails(&["extend", "two-routers", "+1h"]).await.contains("doesn't end by itself"));

    let table = person.succeeds(&["capacity"], "").await;
    assert!(table.contains("(all)") && table.contains("0 of 2") && table.contains("0 MiB of 1024 MiB"), "{table}");
    assert_eq!(person.json(&["capacity"]).await["collections"][0]["limits"]["labs"], 1);
}

/// A program at a terminal.
struct AtTerminal {
    child: Box<dyn portable_pty::Child + Send + Sync>,
    terminal: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    screen: Arc<Mutex<String>>,
}

impl AtTerminal {
    fn run(person: &Person, arguments: &[&str], (columns, rows): (u16, u16)) -> Self {
        let size = PtySize { cols: columns, rows, ..PtySize::default() };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(PROGRAM);
        command.env_clear();
        for (name, value) in person.environment() {
            command.env(name, value);
        }
        command.arg("ctl");
        command.args(arguments);
        let child = pair.slave.spawn_command(command).unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut reader, written) = (pair.master.try_clone_reader().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                written.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        let keyboard = pair.master.take_writer().unwrap();
        Self { child, terminal: pair.master, keyboard, screen }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    async fn shows(&self, words: &str) {
        eventually(async || {
            let screen = self.screen.lock().unwrap().clone();
            if screen.contains(words) { Ok(()) } else { Err(format!("{words:?} isn't there: {screen}")) }
        })
        .await;
    }

    async fn ends_well(&mut self) {
        eventually(async || match self.child.try_wait().unwrap() {
            Some(status) if status.success() => Ok(()),
            other => Err(format!("{other:?}: {}", self.screen.lock().unwrap())),
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_size_of_the_window_gives_each_key_to_the_node_and_can_be_left_and_come_back_to() {
    if !User::Myself.can_run_labs("a terminal of ctl") {
        return;
    }
    let server = Server::start().await;
    let person = Person::logged_in(&server.url).await;
    person.succeeds(&["create", TOPOLOGY, "--collection", "course"], "").await;
    person.succeeds(&["deploy", "two-routers"], "").await;
    let mut terminal = AtTerminal::run(&person, &["shell", "two-routers", "r1"], (101, 31));
    terminal.shows("Ctrl-]").await;
    terminal.types("echo size is $(stty size)\r");
    terminal.shows("size is 31 101").await;
    terminal.terminal.resize(PtySize { cols: 77, rows: 22, ..PtySize::default() }).unwrap();
    // The window has changed at once, and the node's terminal once the server was told.
    eventually(async || {
        terminal.types("echo size is $(stty size)\r");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        if terminal.screen.lock().unwrap().contains("size is 22 77") { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    // Ctrl-C ends what runs in the node, and not the program here.
    terminal.types("echo go $((1 + 1)); sleep 1000\r");
    terminal.shows("go 2").await;
    terminal.types("\x03");
    terminal.types("echo still $((40 + 2))\r");
    terminal.shows("still 42").await;
    terminal.types("\x1d");
    terminal.ends_well().await;
    terminal.shows("--attach").await;

    let shells = person.json(&["shells", "two-routers"]).await;
    let shell = shells[0]["id"].as_str().unwrap();
    let mut again = AtTerminal::run(&person, &["shell", "two-routers", "r1", "--attach", shell], (80, 24));
    again.shows("still 42").await;
    again.types("exit\r");
    again.ends_well().await;
    assert_eq!(person.json(&["shells", "two-routers"]).await, serde_json::json!([]));
    person.succeeds(&["destroy", "two-routers"], "").await;
}

/// Ends with the test.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_and_status_messages_are_followed_over_a_loss_of_the_connection() {
    if !User::Myself.can_run_labs("ctl logs --follow") {
        return;
    }
    let server = Server::start().await;
    let network = FlakyNetwork::before(&server.url).await;
    let person = Person::logged_in(network.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let topology = folder.path().join("ticking.clab.yml");
    let ticking = "sh -c 'i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.05; done'";
    fs::write(&topology, format!("name: ticking\ntopology:\n  nodes:\n    n1: {{kind: linux, cmd: \"{ticking}\"}}\n"))
        .unwrap();
    person.succeeds(&["create", topology.to_str().unwrap(), "--collection", "course"], "").await;
    person.succeeds(&["deploy", "ticking"], "").await;

    let mut status = Following(person.command(&["status", "--follow", "--json"]).spawn().unwrap());
    let mut logs = Following(person.command(&["logs", "ticking", "n1", "-f", "--json"]).spawn().unwrap());
    let lines = |child: &mut Following| {
        let stdout = tokio::process::ChildStdout::from_std(child.0.stdout.take().unwrap()).unwrap();
        BufReader::new(stdout).lines()
    };
    let (mut messages, mut log) = (lines(&mut status), lines(&mut logs));
    let mut next = 0;
    for round in 0..3 {
        for _ in 0..20 {
            let line = within("a line", log.next_line()).await.unwrap().expect("it goes on");
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line["log"], format!("tick {next}"), "each line once, in order");
            next += 1;
        }
        if round < 2 {
            network.cut();
        }
    }
    // Nobody hears what was said while they were away; so something is said until it is heard.
    let heard = async {
        loop {
            let line = messages.next_line().await.unwrap().expect("it goes on");
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["update"].is_string() {
                break;
            }
        }
    };
    let something = async {
        loop {
            person.succeeds(&["restart", "ticking", "n1"], "").await;
        }
    };
    tokio::select! {
        () = within("an update", heard) => {}
        () = something => {}
    }
    drop((status, logs));
    person.succeeds(&["destroy", "ticking"], "").await;
}

/// Programs that go on until they are ended.
fn begin(person: &Person, arguments: &[&str]) -> Child {
    person.command(arguments).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_are_captured_into_a_file_or_a_pipe_and_ctrl_c_leaves_a_whole_file() {
    if !User::Myself.can_run_labs("ctl captures packets") {
        return;
    }
    let server = Server::start().await;
    let person = Person::logged_in(&server.url).await;
    person.succeeds(&["create", TOPOLOGY, "--collection", "course"], "").await;
    person.succeeds(&["deploy", "two-routers"], "").await;
    let said = person.fails(&["capture", "two-routers", "r1", "eth9", "-w", "/nowhere/x.pcap"]).await;
    assert!(said.contains("there is no interface eth9 in the node; there are lo, eth1"), "{said}");
    // A terminal is no place for packets.
    let pair = native_pty_system().openpty(PtySize::default()).unwrap();
    let mut command = CommandBuilder::new(PROGRAM);
    command.args(["ctl", "capture", "two-routers", "r1", "eth1"]);
    for (name, value) in person.environment() {
        command.env(name, value);
    }
    let mut child = pair.slave.spawn_command(command).unwrap();
    drop(pair.slave);
    let mut screen = String::new();
    // The end of a terminal is an error.
    let _ = pair.master.try_clone_reader().unwrap().read_to_string(&mut screen);
    assert!(!child.wait().unwrap().success() && screen.contains("wireshark"), "{screen}");

    let file = person.home.path().join("r1.pcap");
    let file_name = file.to_str().unwrap();
    let mut endless = begin(&person, &["capture", "two-routers", "r1", "eth1", "-w", file_name]);
    let counted = begin(&person, &["capture", "two-routers", "r1", "lo", "--packets", "2"]);
    let goes_on = |log: &mut Server| log.log().matches("a capture has begun").count() == 2;
    let mut server = server;
    eventually(async || if goes_on(&mut server) { Ok(()) } else { Err(server.log().to_owned()) }).await;
    let pings = "ping -c 2 -i 0.2 10.0.0.2; ping -c 1 127.0.0.1; exit\n";
    person.succeeds(&["shell", "two-routers", "r1"], pings).await;
    let output = tokio::task::spawn_blocking(move || counted.wait_with_output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("2 packets, and 0 dropped"), "{said}");
    // The header of the file, and two packets with theirs.
    assert_eq!(output.stdout.len(), 24 + 2 * (16 + 98));

    let has_all = || fs::metadata(&file).is_ok_and(|file| file.len() >= 24 + 4 * (16 + 98));
    eventually(async || if has_all() { Ok(()) } else { Err("packets are missing".to_owned()) }).await;
    kill(Pid::from_raw(endless.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let status = tokio::task::spawn_blocking(move || endless.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
    let bytes = fs::read(&file).unwrap();
    let mut at = 24;
    let mut packets = 0;
    while at < bytes.len() {
        let kept = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        (at, packets) = (at + 16 + kept, packets + 1);
    }
    assert_eq!(at, bytes.len(), "it ends with a packet");
    assert!(packets >= 4, "{packets}");
    person.succeeds(&["destroy", "two-routers"], "").await;
}
