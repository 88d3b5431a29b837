//! The server is killed with no chance to clean up. The machine's own lists say what is left: nothing.

use serde_json::json;

use crate::harness::{Lines, Place, ServerBuilder, System, User, alone, code_of, expect_data, known_programs, within};
use crate::{ENDLESS_DEPLOY, TWO_ROUTERS};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_of_root_leaves_nothing_of_a_running_lab() {
    if User::Myself.can_run_labs("SIGKILL of a server run by whoever runs the tests") {
        killed_in_mid_lab(User::Myself).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_of_an_ordinary_user_leaves_nothing_of_a_running_lab() {
    if User::Ordinary.can_run_labs("SIGKILL of a server run by an ordinary user") {
        killed_in_mid_lab(User::Ordinary).await;
    }
}

async fn killed_in_mid_lab(user: User) {
    let turn = alone().await;
    let place = Place::new(user);
    let programs = known_programs(&place);
    let before = System::now(&programs);
    let mut server = ServerBuilder::at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let shell = admin.open_shell(&lab, "r1").await;
    let mut terminal = Lines::of(admin.join(&format!("/shells/{shell}")).await);
    // Something that has left its terminal and its session, and listens to no signal that can be ignored.
    let stubborn =
        "trap '' TERM HUP INT; setsid sh -c \"trap '' TERM HUP INT; while :; do sleep 1; done\" & echo left=$?\r";
    terminal.namespace().emit("data", stubborn).await.unwrap();
    terminal.until("left=0").await;
    let during = System::now(&programs);
    for kind in ["ipc", "mnt", "net", "pid", "user", "uts"] {
        let count = during.count_since(&before, &format!("namespace {kind}"));
        assert!(count >= 2, "{count} new {kind} namespaces: {:#?}", during.since(&before));
    }

    server.kill();
    System::wait_until_as(&before, &programs).await;

    // Another server on the same data: it remembers everything, and claims nothing that isn't so.
    drop(server);
    let server = ServerBuilder::at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let shown = admin.api.lab(&lab).await.unwrap();
    assert_eq!(shown["instance"]["state"], 3, "{shown}");
    assert_eq!(admin.api.get("/collections").await.unwrap()[0]["name"], "course");
    assert_eq!(admin.api.get("/topologies").await.unwrap()[0]["definition"], TWO_ROUTERS);
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "r1" })).await), 5003);
    admin.deploy(&lab).await.unwrap();
    assert_eq!(admin.state(&lab).await, Some(1));
    admin.destroy(&lab).await.unwrap();
    drop(server);
    System::wait_until_as(&before, &programs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_mid_deploy_leaves_nothing_and_the_lab_is_failed_afterwards() {
    if !User::Myself.can_run_labs("SIGKILL during a deploy") {
        return;
    }
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let programs = known_programs(&place);
    let before = System::now(&programs);
    let mut server = ServerBuilder::at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ENDLESS_DEPLOY).await;
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    Lines::of(admin.join_once_there(&format!("/logs/{lab}")).await).until("deploy has begun").await;
    assert!(System::now(&programs).count_since(&before, "namespace net") >= 1);

    server.kill();
    // Whoever waits for an answer hears that there will be none.
    assert_eq!(deploy.await.unwrap(), Err(antimony_host::client::AckError::Closed));
    System::wait_until_as(&before, &programs).await;

    drop(server);
    let server = ServerBuilder::at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    assert_eq!(admin.state(&lab).await, Some(3), "never running half built");
    let mut updates = admin.join("/lab-updates").await;
    admin.destroy(&lab).await.unwrap();
    expect_data(&mut updates, "an update about the lab", |data| data["payload"]["labId"] == *lab).await;
    assert_eq!(admin.state(&lab).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_asked_to_end_ends_its_labs_first() {
    if !User::Myself.can_run_labs("SIGTERM with a running lab") {
        return;
    }
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let programs = known_programs(&place);
    let before = System::now(&programs);
    let mut server = ServerBuilder::at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    admin.open_shell(&lab, "r2").await;
    assert!(within("the end of the server", server.terminate()).await.success(), "{}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    System::wait_until_as(&before, &programs).await;
}
