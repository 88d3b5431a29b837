//! What nodes print: who gets it, by which names, for how long. More of it is in `catalogue::node_logs`.

use reqwest::Method;
use serde_json::{Value, json};

use antimony_host::client::ConnectError;

use crate::TWO_ROUTERS;
use crate::harness::{Client, Lines, Server, ServerBuilder, User, next, within};

/// A lab of one node that numbers its lines, slowly and without an end, and says when it begins.
const TICKING: &str = "name: ticking
topology:
  nodes:
    n1:
      kind: linux
      cmd: sh -c 'echo begun; i=0; while :; do echo \"tick $i.\"; i=$((i+1)); sleep 0.02; done'
";

/// A lab of one node that runs `command` when it starts, and then stays.
fn printing(command: &str) -> String {
    format!(
        "name: printing
topology:
  nodes:
    n1:
      kind: linux
      cmd: sh -c '{command}; echo that was all; sleep 600'
"
    )
}

/// The numbers in a log, in the order in which they came.
fn ticks(log: &Lines) -> Vec<usize> {
    log.pieces.iter().filter_map(|line| line.strip_prefix("tick ")?.strip_suffix('.')?.parse().ok()).collect()
}

/// The nodes of a lab's instance, as REST shows them.
async fn nodes(client: &Client, lab: &str) -> Vec<Value> {
    let lab = client.api.lab(lab).await.unwrap();
    lab["instance"]["nodes"].as_array().expect("it has an instance").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_log_is_had_by_the_name_and_by_the_container_id_of_its_node() {
    if !User::Myself.can_run_labs("node logs by both names") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TICKING).await;
    let path = format!("/logs/{lab}/n1");
    let gone = ConnectError::Refused("Invalid namespace".to_owned());
    assert_eq!(admin.try_join(&path).await.err(), Some(gone.clone()), "the lab is not deployed");
    admin.deploy(&lab).await.unwrap();
    let container = nodes(&admin, &lab).await[0]["containerId"].as_str().unwrap().to_owned();
    assert_eq!(container.len(), 12, "{container}");

    let mut by_name = Lines::of(admin.join(&path).await);
    let mut by_id = Lines::of(admin.join_elsewhere(&format!("/logs/{lab}/{container}")).await);
    for log in [&mut by_name, &mut by_id] {
        log.until("tick 20.").await;
        assert_eq!(log.pieces[0], "begun");
        let ticks = ticks(log);
        assert_eq!(ticks, (0..ticks.len()).collect::<Vec<_>>());
    }
    assert_eq!(admin.try_join(&format!("/logs/{lab}/n2")).await.err(), Some(gone.clone()), "there is no such node");
    assert_eq!(admin.try_join(&format!("/logs/n1/{lab}")).await.err(), Some(gone.clone()));

    admin.destroy(&lab).await.unwrap();
    while within("the end of the log", by_name.read()).await {}
    assert_eq!(admin.try_join(&path).await.err(), Some(gone), "the lab is not deployed any more");
    // The next instance begins another log.
    admin.deploy(&lab).await.unwrap();
    let mut again = Lines::of(admin.join_elsewhere(&path).await);
    again.until("tick 1.").await;
    assert_eq!(again.pieces.iter().filter(|line| *line == "begun").count(), 1);
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_log_goes_on_in_the_same_namespace_when_its_lab_is_deployed_anew() {
    if !User::Myself.can_run_labs("node logs over a redeploy") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TICKING).await;
    admin.deploy(&lab).await.unwrap();
    let mut log = Lines::of(admin.join(&format!("/logs/{lab}/n1")).await);
    let begun = async |log: &mut Lines, times: usize| {
        while log.pieces.iter().filter(|line| *line == "begun").count() < times {
            assert!(within("a line", log.read()).await, "the log ended");
        }
    };
    begun(&mut log, 1).await;
    admin.deploy(&lab).await.unwrap();
    begun(&mut log, 2).await;
    let mut newcomer = Lines::of(admin.join_elsewhere(&format!("/logs/{lab}/n1")).await);
    assert!(within("the backlog", newcomer.read()).await);
    begun(&mut newcomer, 2).await;
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_prints_faster_than_anybody_reads_waits_and_loses_no_line() {
    if !User::Myself.can_run_labs("a node that floods its log") {
        return;
    }
    const LINES: usize = 300_000;
    let server = Server::start().await;
    let admin = server.admin().await;
    // It waits for a file, so that the reader is there when it begins.
    let flood = format!("while [ ! -e /tmp/go ]; do sleep 0.05; done; seq -f \"tick %.0f.\" 0 {}", LINES - 1);
    let lab = admin.create_lab("course", &printing(&flood)).await;
    admin.deploy(&lab).await.unwrap();
    let mut log = Lines::of(admin.join(&format!("/logs/{lab}/n1")).await);
    assert!(within("the backlog", log.read()).await);
    let shell = admin.open_shell(&lab, "n1").await;
    let terminal = admin.join(&format!("/shells/{shell}")).await;
    terminal.call("data", "touch /tmp/go\n").await.unwrap();
    while log.pieces.last().is_none_or(|line| line != "that was all") {
        assert!(within("a line", log.read()).await, "the log ended after {} lines", log.pieces.len());
    }
    assert_eq!(ticks(&log), (0..LINES).collect::<Vec<_>>());
    // Whoever comes now gets what is kept: the beginning, the end, and how much is missing in between.
    let mut late = Lines::of(admin.join_elsewhere(&format!("/logs/{lab}/n1")).await);
    assert!(within("the backlog", late.read()).await);
    let mark = late.pieces.iter().position(|line| line.starts_with('[')).expect("a mark");
    assert_eq!(late.pieces[0], "tick 0.");
    assert_eq!(late.pieces[mark - 1], format!("tick {}.", mark - 1));
    let left_out = LINES + 1 - (late.pieces.len() - 1);
    assert!(late.pieces[mark].starts_with(&format!("[{left_out} lines are left out here")), "{}", late.pieces[mark]);
    assert_eq!(late.pieces.last().unwrap(), "that was all");
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_labs_and_nodes_are_there_again_after_a_restart_and_after_a_kill() {
    if !User::Myself.can_run_labs("logs over a restart") {
        return;
    }
    let mut server = Server::start().await;
    for killed in [false, true] {
        let admin = server.admin().await;
        let lab = admin.create_lab(if killed { "course" } else { "another" }, TICKING).await;
        admin.deploy(&lab).await.unwrap();
        let mut log = Lines::of(admin.join(&format!("/logs/{lab}/n1")).await);
        log.until("tick 30.").await;
        let deployed = admin.log(&lab).await;
        assert!(deployed.iter().any(|line| line.contains("is up after")), "{deployed:?}");
        if killed {
            // What is told here was written to disk before, save for the last tenth of a second.
            log.until("tick 60.").await;
            server.kill();
        } else {
            assert!(server.terminate().await.success());
        }
        let place = std::sync::Arc::clone(server.place());
        drop(server);
        server = ServerBuilder::at(&place).start().await;
        let admin = server.admin().await;
        let again = admin.log(&lab).await;
        assert_eq!(again[..deployed.len()], deployed);
        assert!(again.last().unwrap().contains("The instance is lost"), "{again:?}");
        let mut log = Lines::of(admin.join(&format!("/logs/{lab}/n1")).await);
        assert!(within("the backlog", log.read()).await);
        let ticks = ticks(&log);
        assert!(ticks.len() > 30, "{ticks:?}");
        assert_eq!(ticks, (0..ticks.len()).collect::<Vec<_>>());
        // Gone with the instance; that of the lab stays.
        admin.destroy(&lab).await.unwrap();
        assert!(admin.try_join(&format!("/logs/{lab}/n1")).await.is_err());
        assert_eq!(admin.log(&lab).await[..deployed.len()], deployed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_see_a_lab_any_more_loses_its_logs_and_hears_of_it_no_more() {
    if !User::Myself.can_run_labs("losing sight of a lab") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let stranger = server.member("stranger", &["other"]).await;
    let member = server.member("student", &["course"]).await;
    let paths = [format!("/logs/{lab}"), format!("/logs/{lab}/r1")];
    for path in &paths {
        assert_eq!(stranger.try_join(path).await.err(), Some(ConnectError::Refused("No Access".to_owned())));
    }
    let mut logs = Vec::new();
    for path in &paths {
        let mut log = member.join(path).await;
        assert_eq!(next(&mut log).await.name, "backlog");
        logs.push(log);
    }
    let mut updates = member.join("/lab-updates").await;
    // Under another name, the collection is not one of theirs.
    let collections = admin.api.get("/collections").await.unwrap();
    let id = collections.as_array().unwrap().iter().find(|each| each["name"] == "course").unwrap()["id"].clone();
    let path = format!("/collections/{}", id.as_str().unwrap());
    admin.api.request(Method::PATCH, &path, Some(&json!({"name": "secret"}))).await.unwrap();
    for log in &mut logs {
        assert!(within("the end of the log", log.next_event()).await.is_none());
    }
    for path in &paths {
        assert_eq!(member.try_join(path).await.err(), Some(ConnectError::Refused("No Access".to_owned())));
    }
    // Of what happens there now they hear nothing: the first update that comes is about a lab of theirs.
    admin.destroy(&lab).await.unwrap();
    let theirs = admin.create_lab("course", TWO_ROUTERS).await;
    assert_eq!(next(&mut updates).await.data()["payload"]["labId"], theirs);
}
