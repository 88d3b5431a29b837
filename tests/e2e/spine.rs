//! The life of a lab from the first login to the last process, as root and as an ordinary user.

use antimony_host::client::{ConnectError, Namespace};
use serde_json::{Value, json};

use crate::TWO_ROUTERS;
use crate::harness::{
    Client, Lines, Server, ServerBuilder, System, User, alone, eventually, expect_data, known_programs, next,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_lives_from_deploy_to_destroy_on_a_server_run_by_root() {
    if User::Myself.can_run_labs("spine as whoever runs the tests") {
        lab_lives(User::Myself).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_lives_from_deploy_to_destroy_on_a_server_run_by_an_ordinary_user() {
    if User::Ordinary.can_run_labs("spine as an ordinary user") {
        lab_lives(User::Ordinary).await;
    }
}

async fn lab_lives(user: User) {
    let turn = alone().await;
    let mut server = ServerBuilder::new(user).within(&turn).start().await;
    let programs = known_programs(server.place());
    let before = System::now(&programs);
    let admin = server.admin().await;
    let mut updates = admin.join("/lab-updates").await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    let mut statuses = admin.join("/status-messages").await;
    let mut shell_commands = admin.join("/shell-commands").await;
    assert_eq!(admin.state(&lab).await, None);

    let deployed = admin.command_in_background(&lab, 0, json!({}));
    // Whoever hears of the instance can join its log: at one of the updates at the latest, without trying in between.
    let log = loop {
        expect_data(&mut updates, "an update about the lab", |data| data["payload"]["labId"] == *lab).await;
        match admin.try_join(&format!("/logs/{lab}")).await {
            Ok(log) => break log,
            // It was an update about the lab's creation.
            Err(error) => assert_eq!(error, ConnectError::Refused("Invalid namespace".to_owned())),
        }
    };
    let mut log = Lines::of(log);
    assert_eq!(deployed.await.unwrap(), Ok(Value::Null));
    log.until("router 10.255.0.1 is up; its host name is r1").await;
    log.until("router 10.255.0.2 is up; its host name is r2").await;
    let status = expect_data(&mut statuses, "a success", |data| data["payload"]["severity"] == 0).await;
    assert_status(&status["payload"]);

    let shown = admin.api.lab(&lab).await.unwrap();
    let instance = &shown["instance"];
    assert_eq!((&instance["state"], &instance["recovered"]), (&json!(1), &json!(false)), "{shown}");
    let nodes = instance["nodes"].as_array().unwrap();
    assert_eq!(nodes.iter().map(|node| &node["name"]).collect::<Vec<_>>(), ["r1", "r2"]);
    for node in nodes {
        assert_eq!((&node["state"], &node["kind"]), (&json!("running"), &json!("linux")), "{node}");
        assert_eq!(node["containerName"], node["containnerName"], "{node}");
        assert_eq!(node["containerId"].as_str().map(str::len), Some(12), "{node}");
    }
    // Both nodes are containers: each has namespaces of every one of these kinds.
    let during = System::now(&programs);
    for kind in ["ipc", "mnt", "net", "pid", "user", "uts"] {
        let count = during.count_since(&before, &format!("namespace {kind}"));
        assert!(count >= 2, "{count} new {kind} namespaces: {:#?}", during.since(&before));
    }

    use_a_shell(&admin, &lab, &mut shell_commands).await;

    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    assert_eq!(admin.state(&lab).await, None);
    System::wait_until_as(&before, &programs).await;
    assert!(server.is_alive());
    assert!(server.terminate().await.success(), "SIGTERM is the ordinary way to end it");
}

async fn use_a_shell(admin: &Client, lab: &str, shell_commands: &mut Namespace) {
    assert_eq!(admin.command(lab, 5, json!({})).await, Ok(json!([])));
    let shell = admin.open_shell(lab, "r1").await;
    let mut terminal = Lines::of(admin.join(&format!("/shells/{shell}")).await);
    // A terminal echoes what is typed, so each answer is framed by something that was not typed like this.
    let typed = "echo \"name=$(hostname)\"; ping -c 2 -i 0.2 10.0.0.2; echo \"status=$?\"\r";
    terminal.namespace().emit("data", typed).await.unwrap();
    let screen = terminal.until("status=0").await;
    assert!(screen.contains("name=r1\r\n"), "{screen}");
    assert!(screen.contains("2 received"), "{screen}");
    assert_eq!(admin.command(lab, 5, json!({})).await, Ok(json!([{ "id": shell, "node": "r1" }])));

    // Another tab of the same person has the whole history.
    let mut second = Lines::of(admin.join_elsewhere(&format!("/shells/{shell}")).await);
    second.until("status=0").await;

    assert_eq!(admin.command(lab, 7, json!({ "shellId": shell })).await, Ok(Value::Null));
    let closed = next(shell_commands).await;
    let announced = &closed.data()["payload"];
    assert_eq!(
        (&announced["labId"], &announced["node"], &announced["shellId"], &announced["command"]),
        (&json!(lab), &json!("r1"), &json!(shell), &json!(1)),
        "{closed:?}"
    );
    assert!(announced["message"].is_string(), "{closed:?}");
    assert_eq!(admin.command(lab, 5, json!({})).await, Ok(json!([])));
    // What has closed stays readable for a while.
    let mut expired = Lines::of(admin.join_elsewhere(&format!("/shells/{shell}")).await);
    expired.until("status=0").await;
}

fn assert_status(status: &Value) {
    for key in ["id", "timestamp", "source", "content", "logContent"] {
        assert!(status[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {status}");
    }
    let timestamp = status["timestamp"].as_str().unwrap();
    assert!(timestamp.parse::<jiff::Timestamp>().is_ok(), "{timestamp}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_that_runs_is_deployed_anew_by_another_deploy() {
    if !User::Myself.can_run_labs("redeploy") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let first = admin.api.lab(&lab).await.unwrap();
    admin.deploy(&lab).await.unwrap();
    let second = admin.api.lab(&lab).await.unwrap();
    assert_eq!(second["instance"]["state"], 1);
    assert_ne!(first["instance"]["nodes"][0]["containerId"], second["instance"]["nodes"][0]["containerId"]);
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_lab_is_neither_edited_nor_deleted_and_an_idle_one_is() {
    if !User::Myself.can_run_labs("editing a running lab") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", crate::ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let path = format!("/labs/{lab}");
    let rename = json!({ "name": "other" });
    let edit = || admin.api.request(reqwest::Method::PATCH, &path, Some(&rename));
    let delete = || admin.api.request(reqwest::Method::DELETE, &path, None);
    assert!(edit().await.is_err());
    assert!(delete().await.is_err());
    assert_eq!(admin.api.lab(&lab).await.unwrap()["name"], "lab");
    admin.destroy(&lab).await.unwrap();
    edit().await.unwrap();
    assert_eq!(admin.api.lab(&lab).await.unwrap()["name"], "other");
    delete().await.unwrap();
    eventually(async || match admin.api.lab(&lab).await {
        Err(error) if error.refusal().is_some_and(|(status, _)| status == 404) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
