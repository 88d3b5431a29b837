//! An engine that is away, that doesn't answer some questions, or that is another one than before: what runs is not lost over
//! that.

use serde_json::{Value, json};

use antimony_host::client::AckError;

use crate::bench::{Bench, Runtime, mark, processes_with};
use crate::engine::Engine;
use crate::faults::message_of;
use crate::harness::{Client, Place, Shell, User, alone, eventually, expect_data};
use crate::nodes::node_state;
use crate::proxy::Proxy;
use crate::{lab, one_node, two_routers};

async fn until_state_is(client: &Client, lab: &str, wanted: Option<i64>) {
    eventually(async || match client.state(lab).await {
        state if state == wanted => Ok(()),
        other => Err(format!("its state is {other:?}, not {wanted:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_that_is_deployed_anew_while_the_engine_is_away_goes_on_as_it_was() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a redeploy without an engine") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let mut engine = Engine::start(on.prepared(), &["--live-restore"]).await;
    let on = on.with_engine(engine.docker_host());
    let server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let mark = mark();
    let lab = admin.create_lab("course", &lab("lasting", &format!("n1: {{cmd: {mark}}}"))).await;
    admin.deploy(&lab).await.unwrap();
    let before = admin.api.lab(&lab).await.unwrap()["instance"].clone();
    engine.stop().await;
    let mut statuses = admin.join("/status-messages").await;
    let message = message_of(admin.deploy(&lab).await, 5001);
    assert!(message.contains("nothing was done"), "{message}");
    expect_data(&mut statuses, "that it was not deployed", |data| data["payload"]["severity"] == 3).await;
    assert_eq!(admin.state(&lab).await, Some(1), "it runs, as before");
    let after = admin.api.lab(&lab).await.unwrap()["instance"].clone();
    assert_eq!((&after["name"], &after["nodes"]), (&before["name"], &before["nodes"]));
    assert_eq!(processes_with(&mark).len(), 1);
    engine.start_again().await;
    let mut shell = eventually_a_shell(&admin, &lab, "n1").await;
    shell.succeeds("true").await;
    // And now it can be.
    eventually(async || admin.deploy(&lab).await.map(|_| ()).map_err(|error| format!("{error:?}"))).await;
    assert_eq!((admin.state(&lab).await, processes_with(&mark).len()), (Some(1), 1));
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    on.leaves_nothing().await;
    drop((server, engine));
}

/// As soon as the engine is there again.
async fn eventually_a_shell(client: &Client, lab: &str, node: &str) -> Shell {
    eventually(async || match client.command(lab, 6, json!({ "node": node })).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error:?}")),
    })
    .await;
    Shell::open(client, lab, node).await
}

#[tokio::test(flavor = "multi_thread")]
async fn labs_that_nobody_could_ask_about_when_the_server_began_are_back_as_soon_as_somebody_can() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "an engine that doesn't list its containers") else { return };
    let proxy = Proxy::to(&on.prepared().docker_host);
    let on = on.with_engine(proxy.docker_host());
    let place = Place::new(User::Myself);
    let mut server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    let running = admin.create_lab("course", &two_routers()).await;
    let doomed = admin.create_lab("other", &one_node()).await;
    for lab in [&running, &doomed] {
        admin.deploy(lab).await.unwrap();
    }
    let container_of =
        async |lab: &str| admin.api.lab(lab).await.unwrap()["instance"]["nodes"][0]["containerId"].clone();
    let (of_running, of_doomed) = (container_of(&running).await, container_of(&doomed).await);
    // Other tests have theirs meanwhile.
    let names = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    let containers = [&of_running, &of_doomed].map(|id| id.as_str().unwrap());
    let inspect = [["inspect", "--format", names].as_slice(), &containers].concat();
    let networks: Vec<String> = on.prepared().docker_succeeds(&inspect).split_whitespace().map(str::to_owned).collect();
    assert_eq!(networks.len(), 2, "{networks:?}");
    assert!(server.terminate().await.success());
    drop(server);

    proxy.let_lists_fail(true);
    let server = on.builder_at(&place).start().await;
    let admin = server.admin().await;
    assert!(proxy.failed() > 1);
    for lab in [&running, &doomed] {
        assert_eq!(admin.state(lab).await, Some(3), "nobody can say");
        let log = admin.log(lab).await;
        let said = log
            .iter()
            .any(|line| line.contains("This server can't go on with the instance: the runtime can't say at present"));
        assert!(said, "{log:#?}");
        let refused = admin.api.get(&format!("/labs/{lab}/stats")).await.unwrap_err();
        assert_eq!(refused.refusal(), Some((503, 5001)), "{refused}");
    }
    assert!(
        matches!(admin.deploy(&running).await, Err(AckError::Refused { code: 5001, .. })),
        "and nothing is changed"
    );
    // One of them has gone by the time when there is an answer.
    proxy.let_lists_fail(false);
    on.prepared().docker_succeeds(&["rm", "--force", of_doomed.as_str().unwrap()]);
    until_state_is(&admin, &running, Some(1)).await;
    let shown = admin.api.lab(&running).await.unwrap();
    assert_eq!(shown["instance"]["recovered"], true, "{shown}");
    assert_eq!(node_state(&admin, &running, "r2").await, "running");
    Shell::open(&admin, &running, "r1").await.succeeds("ping -c 1 -W 5 10.0.0.2").await;
    until_state_is(&admin, &doomed, Some(3)).await;
    for lab in [&running, &doomed] {
        assert_eq!(admin.destroy(lab).await, Ok(Value::Null));
        assert_eq!(admin.state(lab).await, None);
    }
    on.leaves_nothing().await;
    let left = on.networks();
    assert!(networks.iter().all(|name| !left.contains(name)), "{networks:?} of {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_on_another_engine_than_the_servers_is_neither_lost_nor_forgotten() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "another engine") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let engine = Engine::start(on.prepared(), &[]).await;
    let shared = on.prepared().docker_host.clone();
    let on = on.with_engine(engine.docker_host());
    let mut server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &one_node()).await;
    admin.deploy(&lab).await.unwrap();
    assert!(server.terminate().await.success());
    drop(server);
    // Somebody has changed the configuration.
    let mut server = on.builder_at(&place).within(&turn).env("DOCKER_HOST", &shared).start().await;
    let admin = server.admin().await;
    assert_eq!(admin.state(&lab).await, Some(3));
    for answer in [admin.destroy(&lab).await, admin.deploy(&lab).await] {
        let message = message_of(answer, 5001);
        assert!(message.contains("containerlab.dockerHost") && message.contains(&engine.docker_host()), "{message}");
    }
    assert_eq!(admin.state(&lab).await, Some(3), "it is not forgotten");
    assert!(server.terminate().await.success());
    drop(server);
    assert_eq!(on.containers().len(), 1);
    let server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    assert_eq!(admin.state(&lab).await, Some(1));
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    on.leaves_nothing().await;
    drop((server, engine));
}
