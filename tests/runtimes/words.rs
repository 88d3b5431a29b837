//! What users are told when something doesn't work: one sentence that says what it was and what to do, the same in the answer,
//! in the log of the lab and in the status message.

use std::os::unix::fs::PermissionsExt;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use antimony_host::client::AckError;

use crate::bench::{Bench, Runtime, mark, processes_with};
use crate::harness::{Client, Place, ServerBuilder, User, eventually, expect_data};
use crate::nodes::until_node_is;
use crate::{lab, one_node, sh};

/// Deploys in vain. The sentence that is answered is in the log of the lab and in a status message as well.
async fn fails_to_deploy(admin: &Client, collection: &str, topology: &str) -> (String, Vec<String>) {
    let mut statuses = admin.join("/status-messages").await;
    let lab = admin.create_lab(collection, topology).await;
    let Err(AckError::Refused { code: 5001, message }) = admin.deploy(&lab).await else {
        panic!("it can't be deployed")
    };
    let told = expect_data(&mut statuses, "an error", |data| data["payload"]["severity"] == 3).await;
    assert!(told["payload"]["content"].as_str().unwrap().ends_with(&message), "{told}: {message}");
    let log = admin.log(&lab).await;
    assert!(log.iter().any(|line| line.ends_with(&message)), "{log:#?}");
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    (message, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_missing_is_named_with_what_to_do_about_it() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "an image that is missing") else { return };
    let server = on.server().await;
    let admin = server.admin().await;
    let never = lab("never", "n1: {image: \"lab/no-such-image:7\"}\nn2: {}");
    let (message, _) = fails_to_deploy(&admin, "one", &never).await;
    assert!(message.contains("the image lab/no-such-image:7 is not on the server's machine"), "{message}");
    assert!(message.contains("docker pull lab/no-such-image:7") && message.contains("docker load"), "{message}");
    // The registry of that name is nowhere, and nothing outside of this machine is asked.
    let absent = "127.0.0.1:1/lab/no-such-image:7";
    let pulled = lab("pulled", &format!("n1: {{image: \"{absent}\", image-pull-policy: ifnotpresent}}"));
    let (message, _) = fails_to_deploy(&admin, "two", &pulled).await;
    assert!(message.contains(&format!("the image {absent} is not on the server's machine")), "{message}");
    assert!(message.contains("could not be pulled") && message.contains("connection refused"), "{message}");
    on.leaves_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_at_once_is_named_with_its_status_and_what_it_printed_at_last() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a node that ends at once") else { return };
    let server = on.server().await;
    let admin = server.admin().await;
    let script = sh("for line in 1 2 3 4 5 6; do echo line $line; done; echo no such option >&2; exit 7");
    let ends = lab("ends", &format!("n1: {{cmd: {script}}}\nn2: {{}}"));
    let (message, log) = fails_to_deploy(&admin, "one", &ends).await;
    assert!(
        message.starts_with("node n1 exited with status 7 right after its start; it printed at last: "),
        "{message}"
    );
    assert!(message.contains("no such option") && !message.contains("line 1"), "{message}");
    assert!(message.contains("mend its `cmd` or its image"), "{message}");
    assert!(!log.iter().any(|line| line.contains("latest version information")), "{log:#?}");
    on.leaves_nothing().await;
}

/// containerlab as it crashes: what the Go runtime writes, with its status.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_containerlab_is_one_sentence_and_its_trace_is_in_the_log() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a containerlab that crashes") else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("containerlab");
    let real = on.prepared().containerlab.display().to_string();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = deploy ] || exec {real} \"$@\"\nprintf 'panic: runtime error: invalid memory address or nil pointer \
         dereference\\n\\ngoroutine 1 [running]:\\nmain.deploy(0x0)\\n\\t/src/deploy.go:7 +0x1d\\n' >&2\nexit 2\n"
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = on.builder_with(&format!("containerlab: {{ program: \"{}\" }}\n", program.display())).start().await;
    let admin = server.admin().await;
    let (message, log) = fails_to_deploy(&admin, "one", &one_node()).await;
    assert!(message.starts_with("containerlab crashed (runtime error: invalid memory address"), "{message}");
    assert!(!message.contains("goroutine"), "{message}");
    assert!(log.iter().any(|line| line.contains("/src/deploy.go:7")), "{log:#?}");
    on.leaves_nothing().await;
}

/// Docker's `rm`, by somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_of_a_node_that_somebody_has_removed_is_answered_with_how_to_have_it_back() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a node that is removed") else { return };
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &lab("removed", "n1: {}\nn2: {}")).await;
    admin.deploy(&lab).await.unwrap();
    on.prepared().docker_succeeds(&["rm", "--force", &on.container("n1")]);
    until_node_is(&admin, &lab, "n1", "exited").await;
    for (command, code) in [(2, 5004), (3, 5001), (4, 5001), (6, 5004)] {
        match admin.command(&lab, command, json!({ "node": "n1" })).await {
            Err(AckError::Refused { code: answered, message }) => {
                assert_eq!(answered, code, "command {command}: {message}");
                assert!(code == 5004 || message.contains("deploy the lab anew"), "command {command}: {message}");
            }
            other => panic!("{other:?}"),
        }
    }
    admin.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}

pub(crate) async fn a_node_that_has_stopped_is_not_stopped_again(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let mut statuses = admin.join("/status-messages").await;
    let lab = admin.create_lab("course", &one_node()).await;
    admin.deploy(&lab).await.unwrap();
    admin.command(&lab, 2, json!({ "node": "n1" })).await.unwrap();
    expect_data(&mut statuses, "that it has stopped", |data| {
        data["payload"]["content"].as_str().unwrap().contains("has been stopped")
    })
    .await;
    match admin.command(&lab, 2, json!({ "node": "n1" })).await {
        Err(AckError::Refused { code: 5004, message }) => {
            assert!(message.contains("node n1 is not running: it has stopped already"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    admin.command(&lab, 3, json!({ "node": "n1" })).await.unwrap();
    let next = expect_data(&mut statuses, "the next message", |_| true).await;
    assert!(next["payload"]["content"].as_str().unwrap().contains("has been started"), "{next}");
    admin.destroy(&lab).await.unwrap();
}

/// Docker's `pause`, by somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_somebody_has_paused_counts_as_stopped_and_goes_on_when_it_is_started() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a node that is paused") else { return };
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &one_node()).await;
    admin.deploy(&lab).await.unwrap();
    let container = on.container("n1");
    on.prepared().docker_succeeds(&["pause", &container]);
    until_node_is(&admin, &lab, "n1", "exited").await;
    match admin.command(&lab, 6, json!({ "node": "n1" })).await {
        Err(AckError::Refused { code: 5004, message }) => assert!(message.contains("start it first"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(admin.command(&lab, 3, json!({ "node": "n1" })).await, Ok(Value::Null));
    until_node_is(&admin, &lab, "n1", "running").await;
    assert_eq!(on.container("n1"), container);
    admin.open_shell(&lab, "n1").await;
    admin.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}

/// Whose instance is on the other runtime: it is neither lost nor forgotten, and users are told how to go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_the_wrong_runtime_says_which_one_a_lab_wants() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "the wrong runtime") else { return };
    let place = Place::new(User::Myself);
    let mut server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &one_node()).await;
    admin.deploy(&lab).await.unwrap();
    assert!(server.terminate().await.success());
    drop((admin, server));
    let mut server = ServerBuilder::at(&place).start().await;
    let admin = server.admin().await;
    let words = "the lab was deployed on the runtime containerlab, where it may run still";
    match admin.destroy(&lab).await {
        Err(AckError::Refused { code: 5001, message }) => {
            assert!(message.contains(words) && message.contains("`--runtime containerlab`"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let log = admin.log(&lab).await;
    let last = log.last().unwrap();
    assert!(last.starts_with("This server can't go on with the instance: ") && last.contains(words), "{log:#?}");
    assert!(server.terminate().await.success());
    drop((admin, server));
    let server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    assert_eq!(admin.state(&lab).await, Some(1));
    admin.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}

pub(crate) async fn whoever_waits_for_a_deploy_when_the_server_ends_is_told_so(on: &Bench) {
    let mut server = on.server().await;
    let admin = server.admin().await;
    let mark = mark();
    let endless = lab("endless", &format!("n1:\n  exec: [{}]", sh(&mark)));
    let lab = admin.create_lab("course", &endless).await;
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    eventually(async || match processes_with(&mark).len() {
        0 => Err("the deploy has not begun".to_owned()),
        _ => Ok(()),
    })
    .await;
    let (status, answer) = tokio::join!(server.terminate(), deploy);
    assert!(status.success());
    match answer.unwrap() {
        Err(AckError::Refused { code: 5000, message }) => {
            assert!(message.contains("the server is shutting down"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_lab_whose_end_time_passes_is_destroyed_with_that_as_the_reason(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let mut statuses = admin.join("/status-messages").await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let topology = admin.api.create_topology(&collection, &one_node()).await.unwrap();
    // What has begun already is nobody's to start but a user's.
    let start = Timestamp::now() + SignedDuration::from_secs(3);
    let end = start + SignedDuration::from_secs(8);
    let new = json!({ "name": "short", "topologyId": topology, "startTime": start, "endTime": end });
    admin.api.request(Method::POST, "/labs", Some(&new)).await.unwrap();
    for words in
        ["is being deployed, since its start time has come", "is being destroyed, since its end time has passed"]
    {
        let expected = format!("Lab short {words}");
        expect_data(&mut statuses, words, |data| data["payload"]["content"] == expected).await;
    }
    expect_data(&mut statuses, "that it is gone", |data| data["payload"]["content"] == "Lab short has been destroyed")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_publish_the_ports_that_the_operator_lists_and_no_others() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "published ports") else { return };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!("settings: {{ allow-ports: [{free}] }}");
    let config = format!("plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n      {settings}\n");
    let server = on.builder_with(&config).start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let member = server.member("student", &["course"]).await;
    let publishing = async |port: &str| {
        let name = format!("p{}", port.replace([':', '.'], "-"));
        let topology = lab(&name, &format!("n1: {{ports: [\"{port}\"]}}")).replacen("mgmt:", "# mgmt:", 1);
        let topology = member.api.create_topology(&collection, &topology).await.unwrap();
        member.api.create_lab(&topology, "lab").await
    };
    for refused in [format!("{}:80", free ^ 1), "80".to_owned(), format!("127.0.0.1:{}:80", free ^ 1)] {
        let error = publishing(&refused).await.expect_err("it isn't listed");
        let message = error.to_string();
        let words = format!("a port of the host (ports: {refused}) that is none of {free}");
        assert!(message.contains(&words), "{message}");
    }
    let lab = publishing(&format!("127.0.0.1:{free}:80")).await.unwrap();
    assert_eq!(member.deploy(&lab).await, Ok(Value::Null));
    let published = on.prepared().docker_succeeds(&["port", &on.container("n1")]);
    assert!(published.contains(&format!("127.0.0.1:{free}")), "{published}");
    member.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}
