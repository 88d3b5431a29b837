//! `antimony-host doctor` on a machine with nothing, with Docker only, and with both: the real program, which sees of the
//! machine what `PATH` and `DOCKER_HOST` say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use crate::harness::{Place, Server, ServerBuilder, User, eventually, leave_out, output_of};

/// What a machine has of containerlab.
struct Machine {
    place: Arc<Place>,
    path: PathBuf,
    engine: String,
}

impl Machine {
    /// One with neither the program nor an engine.
    fn bare() -> Self {
        let place = Place::new(User::Myself);
        let path = place.data().with_file_name("bin");
        fs::create_dir(&path).unwrap();
        let engine = format!("unix://{}", place.data().with_file_name("nowhere.sock").display());
        Self { place, path, engine }
    }

    /// With a program named containerlab that is this script.
    fn with_program(self, script: &str) -> Self {
        let program = self.path.join("containerlab");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn with_engine(self, engine: &str) -> Self {
        Self { engine: engine.to_owned(), ..self }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command();
        command.env("PATH", &self.path).env("DOCKER_HOST", &self.engine);
        command.args(["doctor", "--listen", "127.0.0.1:0", "--data"]).arg(self.place.data()).args(arguments);
        command
    }

    /// What the doctor says, as data and as it is read by people, with the exit status.
    async fn examine(&self, arguments: &[&str]) -> (Value, String, i32) {
        let text = output_of(self.command(arguments)).await;
        let json = output_of(self.command(&[arguments, &["--json"]].concat())).await;
        assert_eq!(json.status, text.status);
        let report = serde_json::from_slice(&json.stdout).unwrap_or_else(|error| panic!("{error}: {json:?}"));
        (report, String::from_utf8(text.stdout).unwrap(), text.status.code().unwrap())
    }
}

/// How one thing was found, and what was said about it.
fn finding<'a>(report: &'a Value, check: &str) -> (&'a str, String) {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|found| found["check"] == check).unwrap_or_else(|| panic!("no {check}: {report}"));
    let words = ["found", "means"].map(|key| found[key].as_str().unwrap_or_default());
    (found["verdict"].as_str().unwrap(), words.join(" "))
}

/// What `tests/containerlab/prepare` has made ready: the program and where the engine answers.
fn prepared(test: &str) -> Option<(PathBuf, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/containerlab/environment");
    let Ok(text) = fs::read_to_string(file) else {
        leave_out(test, "tests/containerlab/prepare has not been run, or could not make containerlab ready");
        return None;
    };
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Some((value("CONTAINERLAB")?.into(), value("DOCKER_HOST")?.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_installed_labs_run_on_the_embedded_runtime() {
    if !User::Myself.can_run_labs("doctor on a machine with nothing") {
        return;
    }
    let (report, text, status) = Machine::bare().examine(&[]).await;
    assert_eq!((status, &report["ok"], &report["runtime"]), (0, &Value::Bool(true), &"embedded".into()), "{report}");
    for check in ["configuration", "data", "address", "login", "plugins", "embedded"] {
        assert_eq!(finding(&report, check).0, "ok", "{report}");
    }
    let (verdict, said) = finding(&report, "containerlab");
    assert!(verdict == "missing" && said.contains("install it") && said.contains("kind linux only"), "{said}");
    let (verdict, said) = finding(&report, "engine");
    assert!(verdict == "missing" && said.contains("nowhere.sock") && said.contains("dockerHost"), "{said}");
    let (verdict, said) = finding(&report, "runtime");
    assert!(verdict == "ok" && said.contains("auto takes embedded: there is no containerlab"), "{said}");
    assert!(text.contains("run labs on the embedded runtime") && text.contains("\nmissing  containerlab"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_and_is_not_there_is_a_problem() {
    let (report, text, status) = Machine::bare().examine(&["--runtime", "containerlab"]).await;
    assert_eq!((status, &report["ok"], &report["runtime"]), (1, &Value::Bool(false), &Value::Null), "{report}");
    assert_eq!(finding(&report, "containerlab").0, "problem");
    assert_eq!(finding(&report, "engine").0, "problem");
    assert!(text.contains("PROBLEM  containerlab") && text.contains("containerlab, engine."), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerlab_that_is_too_old_is_named_with_its_version_and_path() {
    let old = Machine::bare().with_program("#!/bin/sh\necho '{\"version\":\"0.41.2\"}'\n");
    let (report, _, _) = old.examine(&["--runtime", "containerlab"]).await;
    let (verdict, said) = finding(&report, "containerlab");
    assert!(verdict == "problem" && said.contains("0.41.2") && said.contains("upgrade"), "{said}");
    assert!(said.contains(&old.path.join("containerlab").display().to_string()), "{said}");
}

/// A program in containerlab's place that is asked and never answers, as one that waits for a network does.
#[tokio::test(flavor = "multi_thread")]
async fn a_containerlab_that_hangs_is_asked_once_and_nothing_of_it_is_left() {
    let machine = Machine::bare();
    let (asked, mark) = (machine.path.join("asked"), format!("29{}", std::process::id()));
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\n/bin/sleep {mark} & wait\n", asked.display());
    let machine = machine.with_program(&script);
    let output = output_of(machine.command(&["--json", "--runtime", "containerlab"])).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (verdict, said) = finding(&report, "containerlab");
    assert!(verdict == "problem" && said.contains("didn't answer within 10 s"), "{said}");
    let mut questions: Vec<String> = fs::read_to_string(asked).unwrap().lines().map(str::to_owned).collect();
    questions.sort();
    assert_eq!(questions, ["--help", "version --json"]);
    eventually(async || {
        let commands = fs::read_dir("/proc").unwrap().flatten().map(|process| fs::read(process.path().join("cmdline")));
        match commands.flatten().filter(|command| String::from_utf8_lossy(command).contains(&mark)).count() {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerlab_that_cannot_be_used_is_told_when_the_embedded_runtime_is_taken_in_its_place() {
    let test = "a containerlab that can't be used";
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let old = Machine::bare().with_program("#!/bin/sh\necho '{\"version\":\"0.41.2\"}'\n");
    let (report, _, status) = old.examine(&[]).await;
    assert_eq!((status, &report["runtime"]), (0, &"embedded".into()), "{report}");
    let (verdict, said) = finding(&report, "runtime");
    assert!(verdict == "warning" && said.contains("auto takes embedded") && said.contains("0.41.2"), "{said}");
    for (machine, level) in [(old, "WARN"), (Machine::bare(), "INFO")] {
        let builder = ServerBuilder::at(&machine.place).runtime(None).env("PATH", machine.path.to_str().unwrap());
        let mut server = builder.env("DOCKER_HOST", &machine.engine).start().await;
        let log = server.log();
        let line = log.lines().find(|line| line.contains("labs run on the embedded runtime")).unwrap_or_default();
        assert!(line.contains(level), "{log}");
        assert_eq!(line.contains("although containerlab is installed here"), level == "WARN", "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_a_folder_a_plugin_and_a_configuration_that_cannot_be_used_are_problems() {
    let machine = Machine::bare();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = machine.place.data().with_file_name("antimony.yml");
    let address = taken.local_addr().unwrap();
    fs::write(
        &config,
        format!("server: {{ port: {} }}\nplugins:\n  auth-policy: [{{ path: nowhere.wasm }}]\n", address.port()),
    )
    .unwrap();
    let mut command = machine.place.command();
    command.env("PATH", &machine.path).env("DOCKER_HOST", &machine.engine);
    command.args(["doctor", "--json", "--runtime", "embedded", "--data", "/proc/here", "--config"]).arg(&config);
    let output = output_of(command).await;
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (check, word) in [("data", "/proc"), ("address", "another program listens"), ("plugins", "nowhere.wasm")] {
        let (verdict, said) = finding(&report, check);
        assert!(verdict == "problem" && said.contains(word), "{check}: {said}");
    }
    fs::write(&config, "logs: {size: 1}\n").unwrap();
    let (report, _, status) = machine.examine(&["--config", config.to_str().unwrap()]).await;
    let (verdict, said) = finding(&report, "configuration");
    assert!(status == 1 && verdict == "problem" && said.contains("logs.size"), "{said}");
    fs::write(&config, "serverr: {}\n").unwrap();
    let (_, said, _) = machine.examine(&["--config", config.to_str().unwrap()]).await;
    assert!(said.lines().any(|line| line.starts_with("warning ") && line.contains("serverr")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_runs_with_the_data_folder_is_told_and_not_disturbed() {
    let server = Server::start().await;
    let mut command = server.place().command();
    command.args(["doctor", "--listen", "127.0.0.1:0", "--json", "--data"]).arg(server.place().data());
    let output = output_of(command).await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (verdict, said) = finding(&report, "data");
    assert!(verdict == "problem" && said.contains("a server runs"), "{said}");
    server.admin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_docker_only_labs_run_on_the_embedded_runtime() {
    let test = "doctor with Docker only";
    let Some((_, engine)) = prepared(test).filter(|_| User::Myself.can_run_labs(test)) else { return };
    let (report, _, status) = Machine::bare().with_engine(&engine).examine(&[]).await;
    assert_eq!((status, &report["runtime"]), (0, &"embedded".into()), "{report}");
    let (verdict, said) = finding(&report, "engine");
    assert!(verdict == "ok" && said.contains(&engine) && said.contains("without containerlab"), "{said}");
    assert_eq!(finding(&report, "containerlab").0, "missing");
    assert_eq!(finding(&report, "runtime").0, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_labs_run_on_containerlab_and_the_server_says_why() {
    let Some((program, engine)) = prepared("doctor with containerlab and Docker") else { return };
    let machine = Machine::bare().with_engine(&engine);
    std::os::unix::fs::symlink(&program, machine.path.join("containerlab")).unwrap();
    let (report, text, status) = machine.examine(&[]).await;
    assert_eq!((status, &report["runtime"]), (0, &"containerlab".into()), "{report}");
    let (verdict, said) = finding(&report, "containerlab");
    assert!(verdict == "ok" && said.contains("0.79.0") && said.contains("rights"), "{said}");
    assert_eq!(finding(&report, "engine").0, "ok");
    let (verdict, said) = finding(&report, "runtime");
    assert!(
        verdict == "ok" && said.contains("auto takes containerlab: the program and its engine are there"),
        "{said}"
    );
    let (report, _, _) = machine.examine(&["--runtime", "containerlab"]).await;
    assert!(finding(&report, "runtime").1.contains("containerlab is taken, as it is asked for"), "{report}");
    assert!(text.contains("run labs on the containerlab runtime"), "{text}");
    let modules = Path::new("/proc/modules").exists();
    assert_eq!(text.contains("warning  kernel"), !modules, "{text}");

    let builder = ServerBuilder::at(&machine.place).runtime(None);
    let path = machine.path.to_str().unwrap();
    let mut server = builder.env("PATH", path).env("DOCKER_HOST", &engine).start().await;
    let log = server.log();
    assert!(log.contains("labs run on containerlab 0.79.0") && log.contains(&engine), "{log}");
}
