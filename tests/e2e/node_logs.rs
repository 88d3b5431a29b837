//! What nodes print: who gets it, and what is kept. More of it is in `catalogue::node_logs`, and what is the same on every
//! runtime in `tests/runtimes`.

use reqwest::Method;
use serde_json::json;

use antimony_host::client::ConnectError;

use crate::TWO_ROUTERS;
use crate::harness::{Lines, Server, ServerBuilder, User, next, within};

/// A lab of one node that numbers its lines, slowly and without an end, and says when it begins.
const TICKING: &str = "name: ticking
topology:
  nodes:
    n1:
      kind: linux
      cmd: sh -c 'echo begun; i=0; while :; do echo \"tick $i.\"; i=$((i+1)); sleep 0.02; done'
";

/// The numbers in a log, in the order in which they came.
fn ticks(log: &Lines) -> Vec<usize> {
    log.pieces.iter().filter_map(|line| line.strip_prefix("tick ")?.strip_suffix('.')?.parse().ok()).collect()
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
