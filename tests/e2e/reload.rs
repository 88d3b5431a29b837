//! Other plugins in a running server: by a changed file, SIGHUP, an administrator's request and back, with clients connected.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::ONE_NODE;
use crate::harness::{
    Client, Lines, Place, Server, ServerBuilder, Shell, User, code_of, eventually, expect_data, next, output_of,
    run_program, within,
};
use crate::plugins::build;

/// A server whose second policy does what its settings say, and the settings.
struct Operated {
    server: Server,
    place: Arc<Place>,
    policy: PathBuf,
}

impl Operated {
    async fn start(test: &str, settings: &str) -> Option<Self> {
        let built = build(test, "tests/guests/obedient").await?;
        let place = Place::new(User::Myself);
        let policy = place.data().parent().unwrap().join("policy.wasm");
        std::fs::copy(built, &policy).unwrap();
        let server = ServerBuilder::at(&place).config(&Self::config(settings)).start().await;
        Some(Self { server, place, policy })
    }

    fn config(settings: &str) -> String {
        // First, so that it can say of tokens what the bundled one would say otherwise.
        format!(
            "plugins:\n  auth-policy:\n    - path: policy.wasm\n      settings: {settings}\n    - path: \
             builtin:auth-policy\n"
        )
    }

    fn config_file(&self) -> PathBuf {
        self.place.data().parent().unwrap().join("config.yml")
    }

    /// Replaces the configuration as editors do it.
    fn write(&self, config: &str) {
        let new = self.config_file().with_extension("new");
        std::fs::write(&new, config).unwrap();
        std::fs::rename(new, self.config_file()).unwrap();
    }

    /// Replaces the settings of the policy.
    fn set(&self, settings: &str) {
        self.write(&Self::config(settings));
    }

    fn hang_up(&self) {
        kill(Pid::from_raw(self.server.id().try_into().unwrap()), Signal::SIGHUP).unwrap();
    }

    /// What the server tells administrators of its plugins, as soon as it is as `matches` wants it.
    async fn state(&self, admin: &Client, matches: impl Fn(&Value) -> bool) -> Value {
        let mut found = Value::Null;
        eventually(async || {
            found = admin.api.get("/plugins").await.map_err(|error| error.to_string())?;
            if matches(&found) { Ok(()) } else { Err(found.to_string()) }
        })
        .await;
        found
    }

    async fn generation(&self, admin: &Client, wanted: u64) -> Value {
        self.state(admin, |state| state["reload"]["generation"] == wanted).await
    }

    /// `antimony-host plugin rollback`, or `reload`, as an operator types it.
    async fn ask(&self, what: &str, token: &str) -> std::process::Output {
        let mut command = self.place.command();
        command.args(["plugin", what, "--url", &self.server.url]).env("ANTIMONY_TOKEN", token);
        output_of(command).await
    }
}

const DENY: &str = "{ deny: [list-shells], reason: exam week }";

#[tokio::test(flavor = "multi_thread")]
async fn policy_changes_by_file_signal_and_request_while_clients_stay_connected() {
    let Some(mut operated) = Operated::start("plugins that are reloaded", "{}").await else { return };
    let admin = operated.server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let member = operated.server.member("student", &["course"]).await;
    let mut updates = member.join("/lab-updates").await;
    let may = async || member.command(&lab, 5, json!({})).await;
    let refused = async |reason: &str| match may().await {
        Err(antimony_host::client::AckError::Refused { code: 5403, message }) => {
            assert!(message.contains(reason) && message.contains("obedient"), "{message}");
        }
        other => panic!("error 5403 was due: {other:?}"),
    };
    assert_eq!(may().await, Ok(json!([])));

    // By itself, when the file has changed.
    operated.set(DENY);
    operated.generation(&admin, 2).await;
    refused("exam week").await;
    expect_data(&mut updates, "the word that all labs may look otherwise", |data| data["payload"]["labId"].is_null())
        .await;

    // By a signal. What needs a restart is said in the log.
    operated.write(&format!("{}shell: {{ userLimit: 3 }}\n", Operated::config("{}")));
    operated.hang_up();
    operated.generation(&admin, 3).await;
    assert_eq!(may().await, Ok(json!([])));
    eventually(async || match operated.server.log() {
        log if log.contains("shell.userLimit") => Ok(()),
        log => Err(log.to_owned()),
    })
    .await;

    // By request, which is for administrators.
    operated.set("{ deny: [list-shells], reason: holidays }");
    let path = "/plugins/reload";
    let forbidden = member.api.request(reqwest::Method::POST, path, None).await.unwrap_err();
    assert_eq!(forbidden.refusal(), Some((403, 5403)));
    let forbidden = member.api.get("/plugins").await.unwrap_err();
    assert_eq!(forbidden.refusal(), Some((403, 5403)));
    let answer = admin.api.request(reqwest::Method::POST, &format!("/api{path}"), None).await.unwrap();
    assert_eq!((&answer["reload"]["generation"], &answer["reload"]["lastError"]), (&json!(4), &Value::Null));
    assert_eq!(answer["plugins"][1]["name"], "obedient", "{answer}");
    refused("holidays").await;

    // Back again, on the command line; once.
    let back = operated.ask("rollback", &admin.token).await;
    let said = String::from_utf8_lossy(&back.stdout).into_owned();
    assert!(back.status.success() && said.contains("generation 5") && said.contains("obedient"), "{back:?}");
    assert_eq!(may().await, Ok(json!([])));
    assert_eq!(admin.api.get("/plugins").await.unwrap()["reload"]["rolledBack"], true);
    let twice = operated.ask("rollback", &admin.token).await;
    assert!(!twice.status.success() && String::from_utf8_lossy(&twice.stderr).contains("nothing to go back to"));
    // And by its own wish to what the files say.
    assert!(operated.ask("reload", &admin.token).await.status.success());
    refused("holidays").await;
    assert!(!member.connection.is_closed(), "nobody was disconnected meanwhile");
    assert!(operated.server.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_candidate_keeps_the_old_policy_and_every_place_says_so() {
    let Some(mut operated) = Operated::start("plugins that can't be reloaded", DENY).await else { return };
    let admin = operated.server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let member = operated.server.member("student", &["course"]).await;
    let mut told = admin.join("/status-messages").await;
    let mut overheard = member.join("/status-messages").await;
    let golden = "- name: students list their shells\n  function: authorize\n  input: { action: { command: { kind: \
                  list-shells } } }\n  expect: allow\n";
    std::fs::write(operated.config_file().with_file_name("golden.yml"), golden).unwrap();
    let good = std::fs::read(&operated.policy).unwrap();
    let entry = |more: &str| Operated::config(&format!("{DENY}\n      {more}"));

    let broken: [(&str, Option<&[u8]>, String); 6] = [
        ("truncated", Some(&good[..good.len() / 2]), Operated::config(DENY)),
        ("refused its settings", Some(&good), Operated::config("{ dney: [] }")),
        ("sha256", None, entry(&format!("sha256: {}", "0".repeat(64)))),
        ("students list their shells", None, entry("golden: golden.yml")),
        ("plugins.auth-policy[0].on-error", None, entry("on-error: ignore")),
        (
            "is a plugin for status-formatter",
            None,
            Operated::config(DENY).replace("policy.wasm", "builtin:status-formatter"),
        ),
    ];
    for (why, component, config) in broken {
        if let Some(bytes) = component {
            std::fs::write(&operated.policy, bytes).unwrap();
        }
        operated.write(&config);
        let state = operated.state(&admin, |state| says(&state["reload"]["lastError"]["message"], why)).await;
        assert_eq!(state["reload"]["generation"], 1, "{state}");
        let message = expect_data(&mut told, why, |data| says(&data["payload"]["logContent"], why)).await;
        assert_eq!(message["payload"]["severity"], 3, "{message}");
        let ready = antimony_host::client::http().get(format!("{}/readyz", operated.server.url)).send().await.unwrap();
        assert_eq!(ready.status().as_u16(), 200, "the old policy is as good as it was");
        let ready = ready.text().await.unwrap();
        assert!(ready.contains("could not be reloaded") && !ready.contains("config.yml"), "{ready}");
        assert!(operated.server.log().contains(why), "the log says {why:?}");
        assert_eq!(code_of(member.command(&lab, 5, json!({})).await), 5403, "the old policy is in force");
    }
    // What an administrator asks for is answered with the reason.
    let refused = admin.api.request(reqwest::Method::POST, "/plugins/reload", None).await.unwrap_err();
    assert_eq!(refused.refusal(), Some((400, 5000)));
    assert!(refused.to_string().contains("auth-policy plugin 1"), "{refused}");

    operated.set("{}");
    let state = operated.generation(&admin, 2).await;
    assert_eq!(state["reload"]["lastError"], Value::Null);
    assert_eq!(member.command(&lab, 5, json!({})).await, Ok(json!([])));
    // Nobody else has heard of any of this.
    if User::Myself.can_run_labs("what members hear of reloads") {
        admin.deploy(&lab).await.unwrap();
        let first = next(&mut overheard).await;
        assert_ne!(first.data()["payload"]["source"], "Plugins", "{first:?}");
        admin.destroy(&lab).await.unwrap();
    }
}

fn says(text: &Value, part: &str) -> bool {
    text.as_str().is_some_and(|text| text.contains(part))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_connected_is_judged_by_the_new_policy() {
    let test = "connected clients under another policy";
    let Some(operated) = Operated::start(test, "{}").await else { return };
    let admin = operated.server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let [student, stranger, climber] = ["student", "stranger", "climber"].map(|id| (id, ["course"]));
    let student = operated.server.member(student.0, &student.1).await;
    let stranger = operated.server.member(stranger.0, &stranger.1).await;
    let climber = operated.server.member(climber.0, &climber.1).await;
    let mut statuses = student.join("/status-messages").await;
    let mut updates = student.join("/lab-updates").await;
    let mut log = None;
    if User::Myself.can_run_labs(test) {
        admin.deploy(&lab).await.unwrap();
        log = Some(student.join_once_there(&format!("/logs/{lab}")).await);
    }
    let mut admins_log = match &log {
        Some(_) => Some(admin.join(&format!("/logs/{lab}")).await),
        None => None,
    };

    operated.set("{ deny: [status-messages, lab-log], refuse: [stranger], promote: [climber], reason: exam }");
    operated.generation(&admin, 2).await;
    // Who may not be in a namespace any more has to leave it, and stays where they may be.
    ends(&mut statuses).await;
    if let Some(log) = &mut log {
        ends(log).await;
    }
    expect_data(&mut updates, "an update", |data| data["payload"]["labId"].is_null()).await;
    assert_eq!(student.command(&lab, 5, json!({})).await, Ok(json!([])));
    assert!(student.try_join("/status-messages").await.is_err());
    // Whose token means nobody, or somebody else, has to come again.
    for gone in [&stranger, &climber] {
        within("the end of a connection", async {
            while !gone.connection.is_closed() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }
    assert!(Client::try_connect(&operated.server.url, &stranger.token).await.is_err());
    let climber = Client::connect(&operated.server, &climber.token).await;
    climber.api.get("/plugins").await.unwrap();
    climber.join("/status-messages").await;
    // The administrator has noticed nothing.
    assert!(!admin.connection.is_closed());
    if let Some(log) = &mut admins_log {
        admin.destroy(&lab).await.unwrap();
        let mut lines = 0;
        while let Ok(Some(_)) = tokio::time::timeout(std::time::Duration::from_millis(500), log.next_event()).await {
            lines += 1;
        }
        assert!(lines > 1, "the log goes on");
    }
}

/// Waits until a namespace is over.
async fn ends(namespace: &mut antimony_host::client::Namespace) {
    let path = namespace.path().to_owned();
    within(&format!("the end of {path}"), async { while namespace.next_event().await.is_some() {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_that_the_new_policy_hides_is_not_told_of_any_more() {
    let Some(operated) = Operated::start("decisions that are kept", "{}").await else { return };
    let admin = operated.server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let student = operated.server.member("student", &["course"]).await;
    let mut updates = student.join("/lab-updates").await;
    let rename = async |name: &str| {
        let body = json!({ "name": name });
        admin.api.request(reqwest::Method::PATCH, &format!("/labs/{lab}"), Some(&body)).await.unwrap();
    };
    rename("one").await;
    expect_data(&mut updates, "an update", |data| data["payload"]["labId"] == *lab).await;
    operated.set("{ deny: [view-lab], reason: exam }");
    operated.generation(&admin, 2).await;
    expect_data(&mut updates, "an update of all", |data| data["payload"]["labId"].is_null()).await;
    rename("two").await;
    operated.set("{ deny: [list-shells], reason: exam }");
    operated.generation(&admin, 3).await;
    // Nothing came between, although the lab could be seen just before.
    let next = next(&mut updates).await;
    assert!(next.data()["payload"]["labId"].is_null(), "{next:?}");
}

#[tokio::test]
async fn the_schema_of_the_configuration_is_printed() {
    let printed = run_program(&["config", "schema"]).await;
    assert!(printed.status.success());
    let schema: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("antimony.json", schema).unwrap();
    let index = compiler.compile("antimony.json", &mut schemas).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/antimony.yml");
    let example: Value = serde_saphyr::from_str(&std::fs::read_to_string(example).unwrap()).unwrap();
    schemas.validate(&example, index).unwrap_or_else(|error| panic!("{error}"));
}

/// What an operator does in the course of a day, as README.md tells it, with people at work meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_adds_a_quota_to_a_running_server_errs_in_its_settings_and_goes_back_and_nobody_is_cut() {
    let test = "the operator's day";
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let Some(component) = build(test, "examples/plugins/quotas-and-hours").await else { return };
    let bundled = "plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n";
    let with_quota =
        |settings: &str| format!("{bundled}    - path: {}\n      settings: {settings}\n", component.display());
    let place = Place::new(User::Myself);
    let server = ServerBuilder::at(&place).config(bundled).start().await;
    let operated = Operated { server, place, policy: component.clone() };
    let admin = operated.server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let topology = admin.api.create_topology(&collection, ONE_NODE).await.unwrap();
    let ada = operated.server.member("ada", &["course"]).await;
    let mut labs = Vec::new();
    for name in ["one", "two", "three"] {
        labs.push(ada.api.create_lab(&topology, name).await.unwrap());
    }
    // All day long: a log, a shell, the updates.
    ada.deploy(&labs[0]).await.unwrap();
    ada.deploy(&labs[1]).await.unwrap();
    let mut shell = Shell::open(&ada, &labs[0], "n1").await;
    let mut log = Lines::of(ada.join(&format!("/logs/{}", labs[1])).await);
    assert!(within("the backlog", log.read()).await);
    let refused = async |rule: &str| match ada.deploy(&labs[2]).await {
        Err(antimony_host::client::AckError::Refused { code: 5403, message }) => {
            assert!(message.contains("quotas-and-hours") && message.contains(rule), "{message}");
        }
        other => panic!("error 5403 was due: {other:?}"),
    };

    operated.write(&with_quota("{ everywhere: { max-running: 2 } }"));
    operated.generation(&admin, 2).await;
    refused("max-running").await;

    // A slip in the settings: the old ones stay in force, and it is said.
    operated.write(&with_quota("{ everywhere: { max-runing: 3 } }"));
    let state = operated.state(&admin, |state| !state["reload"]["lastError"].is_null()).await;
    assert!(state["reload"]["lastError"].to_string().contains("max-runing"), "{state}");
    refused("max-running").await;

    // Mended: the third lab comes up.
    operated.write(&with_quota("{ everywhere: { max-running: 3 } }"));
    operated.generation(&admin, 3).await;
    ada.deploy(&labs[2]).await.unwrap();
    ada.destroy(&labs[2]).await.unwrap();

    // Not such a good idea after all.
    let answer = operated.ask("rollback", &admin.token).await;
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    refused("max-running").await;

    // Nobody was cut: the shell has its state, the log goes on where it was.
    assert_eq!(shell.succeeds("echo still here").await, "still here");
    ada.destroy(&labs[1]).await.unwrap();
    log.until("Nothing is left of").await;
    ada.destroy(&labs[0]).await.unwrap();
}
