//! The program's own page in a real browser, which scripts in `tests/browser/` drive as a person would.
//!
//! Each script is started with where the server is, and fails by what it throws: also by whatever the browser complains of
//! meanwhile, which `tests/browser/lib.mjs` collects. What only the test can do it is asked for, a line for each on the
//! script's output, and says `done` when it has done it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{Place, Server, ServerBuilder, User, leave_out};

/// What reads captures.
const TSHARK: &str = "tshark";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/browser");
/// Where scripts leave what they saw.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/browser");
/// A script's own waits end long before: this is for one that hangs.
const LIMIT: Duration = Duration::from_secs(900);

/// An administrator, and somebody who may deploy in the collection `course`.
const ADMIN: (&str, &str) = ("ada", "correct horse");
const MEMBER: (&str, &str) = ("student", "battery staple");

/// The browser of this machine.
fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file())
}

/// What a script has: a server, and a browser.
struct Stage {
    place: std::sync::Arc<Place>,
    config: String,
    server: Server,
    chromium: PathBuf,
}

impl Stage {
    /// `None`: `test` was left out, and why has been said.
    async fn set(test: &str, config: &str) -> Option<Self> {
        let Some(chromium) = chromium() else {
            leave_out(test, "there is no Chromium on this machine (Debian: chromium)");
            return None;
        };
        let node = std::process::Command::new("node").arg("--version").output();
        if !node.is_ok_and(|output| output.status.success()) {
            leave_out(test, "there is no node on this machine");
            return None;
        }
        if !Path::new(FOLDER).join("node_modules/playwright-core/package.json").exists() {
            leave_out(test, "nothing here drives a browser: run tests/browser/prepare");
            return None;
        }
        let tshark = std::process::Command::new(TSHARK).arg("--version").output();
        if !tshark.is_ok_and(|output| output.status.success()) {
            leave_out(test, "there is no tshark on this machine, which reads captures (Debian: tshark)");
            return None;
        }
        if !User::Myself.can_run_labs(test) {
            return None;
        }
        let place = Place::new(User::Myself);
        place.add_user(ADMIN.0, ADMIN.1, &["--admin"]);
        place.add_user(MEMBER.0, MEMBER.1, &["--collection", "course"]);
        let server = ServerBuilder::at(&place).config(config).start().await;
        Some(Self { place, config: config.to_owned(), server, chromium })
    }

    /// Ends the server in order.
    async fn stop(&mut self) {
        assert!(self.server.terminate().await.success(), "{}", self.server.log());
    }

    /// Has another one listen where the last one did.
    async fn start_again(&mut self) {
        let address = self.server.url.rsplit('/').next().unwrap().to_owned();
        self.server = ServerBuilder::at(&self.place).listen(&address).config(&self.config).start().await;
    }

    fn run(&self, script: &str) -> Child {
        let given = json!({
            "url": self.server.url,
            "config": self.place.data().parent().unwrap().join("config.yml"),
            "signingKey": self.place.data().join("signing.key"),
            "admin": { "name": ADMIN.0, "password": ADMIN.1 },
            "member": { "name": MEMBER.0, "password": MEMBER.1 },
            "chromium": self.chromium,
            "kept": KEPT,
        });
        let mut node = Command::new("node");
        node.current_dir(FOLDER).arg(format!("{script}.mjs")).arg(given.to_string()).kill_on_drop(true);
        node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a script to its end, which has to be a good one.
    async fn play(mut self, script: &str) {
        let mut child = self.run(script);
        let mut answers = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut errors = child.stderr.take().unwrap();
        let complaints = tokio::spawn(async move {
            let mut all = String::new();
            errors.read_to_string(&mut all).await.map(|_| all)
        });
        let played = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                match serde_json::from_str::<Value>(&line).ok().as_ref().and_then(|ask| ask["ask"].as_str()) {
                    Some("stop") => self.stop().await,
                    Some("start") => self.start_again().await,
                    _ => {
                        eprintln!("{script}: {line}");
                        continue;
                    }
                }
                answers.write_all(b"done\n").await.unwrap();
            }
            child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(LIMIT, played).await.expect("the script ends by itself");
        let complaints = complaints.await.unwrap().unwrap();
        assert!(status.success(), "{script}: {complaints}");
    }
}

/// Runs a script with a server that has this configuration.
async fn play(script: &str, config: &str) {
    if let Some(stage) = Stage::set(&format!("the page in a browser: {script}"), config).await {
        stage.play(script).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_goes_from_nothing_to_a_ping_and_back_to_nothing() {
    play("life", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_takes_a_lab_from_nothing_to_a_ping_and_back() {
    play("keyboard", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_do_something_is_told_so_in_the_words_of_the_policy() {
    play("others", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_outlives_its_tokens_and_ends_when_somebody_logs_out() {
    play("sessions", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_can_be_cancelled_and_the_server_started_anew_under_an_open_page() {
    play("restart", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_see_the_plugins_and_can_go_back_from_others() {
    play("plugins", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_use_is_shown_as_it_changes() {
    play("usage", "stats: { interval: 500ms }\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_in_a_node_is_restored_from_a_checkpoint() {
    play("checkpoints", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_that_does_not_fit_is_refused_in_words_and_one_that_runs_gets_more_time() {
    play("capacity", "capacity: { labs: 5, nodes: 3, collections: { course: { labs: 1 } } }\n").await;
}
