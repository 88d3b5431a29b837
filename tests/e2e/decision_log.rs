//! The decision log of a real server: what is in it, what isn't, and what can be done with it afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Place, Server, ServerBuilder, User, code_of, run_program};

/// A topology that asks for something of the host, which only administrators get by default.
const DEMANDING: &str =
    "name: bound\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      binds: [/etc/hostname:/mnt/hostname]\n";

/// The bundled policy, and the same beside it with other settings, to be watched.
const WATCHED: &str = "plugins:
  auth-policy:
    - path: builtin:auth-policy
    - path: builtin:auth-policy
      name: candidate
      mode: monitor
      settings: { allow-host-access: true }
";

/// Logs in, connects, commands, writes: some of it is refused. Answers the tokens that were used.
async fn session(server: &Server) -> Vec<String> {
    let admin = server.admin().await;
    let lab = admin.create_lab("course", crate::ONE_NODE).await;
    let member = server.member("student", &["course"]).await;
    assert_eq!(code_of(member.deploy(&lab).await), 5403);
    assert_eq!(code_of(member.command(&lab, 6, json!({})).await), 5422);
    assert_eq!(member.command(&lab, 5, json!({})).await, Ok(json!([])));
    let collection = admin.api.create_collection("own", true, true).await.unwrap();
    let owner = server.member("owner", &["own"]).await;
    let topology = owner.api.create_topology(&collection, DEMANDING).await.unwrap();
    let refused = owner.api.create_lab(&topology, "mine").await.unwrap_err();
    assert_eq!(refused.refusal().map(|(status, _)| status), Some(403), "{refused}");
    vec![admin.token.clone(), member.token.clone(), owner.token.clone()]
}

fn lines(log: &Path) -> Vec<Value> {
    fs::read_to_string(log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A command of the program with this log behind it.
async fn with_log(command: &[&str], log: &Path) -> Output {
    run_program(&[command, &[log.to_str().unwrap()]].concat()).await
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// A server's session, from its start to its orderly end.
async fn recorded(config: &str) -> (std::sync::Arc<Place>, PathBuf, Vec<String>) {
    let place = Place::new(User::Myself);
    let mut server = ServerBuilder::at(&place).config(config).start().await;
    let tokens = session(&server).await;
    assert!(server.terminate().await.success());
    let log = place.data().join("decisions.log");
    (place, log, tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_decided_is_written_down_and_replayed_with_the_same_plugins() {
    let (_place, log, _) = recorded("{}").await;
    let lines = lines(&log);
    let denied = |line: &&Value| {
        line["outcome"]["deny"]["rule"] == "creator-only" && line["input"]["action"]["command"]["kind"] == "deploy"
    };
    let denial = lines.iter().find(denied).unwrap();
    assert_eq!(denial["input"]["user"]["id"], "student");
    assert_eq!(denial["plugin"]["name"], "auth-policy");
    assert_eq!(denial["plugin"]["sha256"].as_str().unwrap().len(), 64);
    assert!(lines.iter().any(|line| line["outcome"]["reject"]["code"] == "invalid-request"), "the validator's, too");
    assert!(lines.iter().any(|line| line["outcome"]["identity"]["id"] == "owner"), "and who it was");
    assert!(lines.iter().all(|line| line["input"]["action"].get("view-lab").is_none()), "views are many");

    let config = log.with_file_name("none.yml");
    fs::write(&config, "{}").unwrap();
    let report = log.with_file_name("report.xml");
    let options = ["plugin", "test", "--config", config.to_str().unwrap(), "--junit", report.to_str().unwrap()];
    let green = with_log(&options, &log).await;
    let shown = text(&green.stdout);
    assert!(green.status.success(), "{shown}{}", text(&green.stderr));
    let count = lines.len();
    assert!(shown.ends_with(&format!("{count} tested, {count} as expected, 0 otherwise\n")), "{shown}");
    let report = fs::read_to_string(report).unwrap();
    assert!(report.contains(&format!("tests=\"{count}\" failures=\"0\"")), "{report}");
    assert!(report.contains("authorize command deploy"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_is_shown_where_it_decides_otherwise() {
    let (_place, log, _) = recorded("{}").await;
    let changed = ["plugin", "test", "builtin:auth-policy", "--settings", "{\"allow-host-access\": true}"];
    let red = with_log(&changed, &log).await;
    let shown = text(&red.stdout);
    assert!(!red.status.success(), "{shown}");
    assert_eq!(shown.matches("DIFFERS").count(), 1, "{shown}");
    let (place, rest) = shown.split_once("DIFFERS").unwrap().1.split_once('\n').unwrap();
    assert!(place.contains("decisions.log:") && place.contains("authorize create-lab"), "{place}");
    assert!(rest.starts_with("  - outcome: deny\n  + outcome: allow\n  - rule: host-access\n"), "{rest}");
    assert!(text(&red.stderr).contains("1 of "), "{}", text(&red.stderr));

    let diff = ["plugin", "diff", "builtin:auth-policy", "--settings", "{\"allow-host-access\": true}", "--log"];
    let shown = text(&with_log(&diff, &log).await.stdout);
    for part in ["beside the decisions of auth-policy", " the same, 1 otherwise", "deny host-access -> allow: 1", "p99"]
    {
        assert!(shown.contains(part), "{part:?} is missing in {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_there_for_programs_too_and_fail_where_that_is_wanted() {
    let (_place, log, _) = recorded("{}").await;
    let diff = async |more: &[&str]| with_log(&[&["plugin", "diff"], more, &["--log"]].concat(), &log).await;
    let other = ["builtin:auth-policy", "--settings", "{\"allow-host-access\": true}", "--json"];
    let told = diff(&other).await;
    assert!(told.status.success(), "{}", text(&told.stderr));
    let json: Value = serde_json::from_slice(&told.stdout).unwrap();
    let one = &json[0];
    assert_eq!((&one["plugin"]["name"], &one["beside"]), (&json!("auth-policy"), &json!("auth-policy")));
    assert_eq!((&one["differing"], &one["differences"][0]["candidate"]), (&json!(1), &json!("allow")));
    assert!(one["candidate-us"]["p99"].as_u64().unwrap() > 0 && one["candidate-memory-bytes"]["max"].is_u64(), "{one}");

    let failed = diff(&[&other[..], &["--fail-on-difference"]].concat()).await;
    assert_eq!((failed.status.code(), failed.stdout.first()), (Some(1), Some(&b'[')));
    assert!(text(&failed.stderr).contains("1 of "), "{}", text(&failed.stderr));
    let same = diff(&["builtin:auth-policy", "--fail-on-difference"]).await;
    assert!(same.status.success(), "{}", text(&same.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_policy_is_compared_with_what_was_decided() {
    let (_place, log, _) = recorded(WATCHED).await;
    let lines = lines(&log);
    let watched: Vec<_> = lines.iter().filter(|line| line["mode"] == "monitor").collect();
    let differs = |line: &&&Value| line["in-force"]["outcome"]["deny"]["rule"] == "host-access";
    let one = watched.iter().find(differs).unwrap();
    assert_eq!((&one["outcome"], &one["in-force"]["plugin"]), (&json!("allow"), &json!("auth-policy")));
    assert!(one["memory-bytes"].as_u64().unwrap() > 0);
    let question = |line: &&Value| line["question"] == one["question"] && line["mode"] == "enforce";
    assert_eq!(lines.iter().filter(question).count(), 1, "the question has one number for all who were asked");

    let shown = text(&with_log(&["plugin", "diff", "--log"], &log).await.stdout);
    for part in ["candidate 0.1.0", "deny host-access -> allow: 1", "authorize create-lab", "by owner", "memory of"] {
        assert!(shown.contains(part), "{part:?} is missing in {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log() {
    let (place, log, tokens) =
        recorded("decision-log: { functions: [command, connect, write, identify, view, format] }").await;
    let all = fs::read_to_string(&log).unwrap();
    assert!(all.contains("view-collection") && all.contains("\"claims\""), "of each sort, there is something");
    assert_eq!(tokens.len(), 3);
    for part in tokens.iter().flat_map(|token| token.split('.')) {
        assert!(part.len() > 10 && !all.contains(part), "{part}");
    }
    let key = fs::read(place.data().join("signing.key")).unwrap();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!all.contains(&hex) && !all.contains(String::from_utf8_lossy(&key).trim()));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_rotated_by_size_and_can_be_switched_off() {
    let (place, log, _) = recorded("decision-log: { max-bytes: 4096, keep: 2 }").await;
    for name in ["decisions.log", "decisions.log.1", "decisions.log.2"] {
        let size = fs::metadata(log.with_file_name(name)).unwrap().len();
        assert!(size <= 4096, "{name}: {size}");
        assert!(!lines(&log.with_file_name(name)).is_empty(), "whole lines");
    }
    assert!(!place.data().join("decisions.log.3").exists());

    let (_place, log, _) = recorded("decision-log: { enabled: false }").await;
    assert!(!log.exists());
}
