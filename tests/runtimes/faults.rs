//! All that goes wrong between containerlab, Docker and the server, and what is left of it: nothing. Each test compares what
//! the machine has before and after, and so is alone meanwhile.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use antimony_host::client::AckError;

use crate::bench::{Bench, Runtime, mark, processes_with, sigkill};
use crate::engine::Engine;
use crate::harness::{
    Client, Lines, Place, Shell, User, alone, code_of, eventually, expect_data, known_programs, within,
};
use crate::logs::{assert_each_once, ticking, until_runs};
use crate::machine::Machine;
use crate::nodes::{node_state, until_node_is};
use crate::shells::until_running;
use crate::{lab, one_node, sh, two_routers};

/// A lab whose deploy never ends by itself, for it runs `mark` in one of its nodes.
fn endless(mark: &str) -> String {
    lab("endless", &format!("n1:\n  exec: [{}]\nn2: {{}}", sh(mark)))
}

/// Waits until something runs with `mark`.
async fn until_begun(mark: &str) {
    eventually(async || match processes_with(mark).len() {
        0 => Err(format!("{mark} has not begun")),
        _ => Ok(()),
    })
    .await;
}

/// The sentence of an error with this code.
pub(crate) fn message_of(answer: Result<Value, AckError>, wanted: i64) -> String {
    match answer {
        Err(AckError::Refused { code, message }) if code == wanted => message,
        other => panic!("error {wanted} was due, and this came: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerlab_that_is_killed_in_mid_deploy_fails_the_lab_and_leaves_nothing() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "containerlab is killed in mid-deploy") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let before = Machine::now(&on, &known_programs(&place));
    let mut server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let mark = mark();
    let lab = admin.create_lab("course", &endless(&mark)).await;
    for _ in 0..2 {
        let deploy = admin.command_in_background(&lab, 0, json!({}));
        until_begun(&mark).await;
        for program in on.programs() {
            sigkill(program);
        }
        let message = message_of(deploy.await.unwrap(), 5001);
        assert!(message.contains("containerlab") && message.contains("signal"), "{message}");
        assert_eq!(admin.state(&lab).await, Some(3), "failed, not running half built");
        on.leaves_nothing().await;
    }
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    assert!(server.terminate().await.success());
    before.is_back(&on).await;
}

/// Line 11.
#[tokio::test(flavor = "multi_thread")]
async fn a_containerlab_that_hangs_is_gone_with_all_its_processes_once_the_lab_is_destroyed() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "containerlab hangs") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let before = Machine::now(&on, &known_programs(&place));
    let mut server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let mark = mark();
    let lab = admin.create_lab("course", &endless(&mark)).await;
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    until_begun(&mark).await;
    let programs = on.programs();
    assert!(!programs.is_empty());
    for program in &programs {
        kill(Pid::from_raw(i32::try_from(*program).unwrap()), Signal::SIGSTOP).unwrap();
    }
    // Others don't wait for it.
    let other = admin.create_lab("other", &one_node()).await;
    assert_eq!(admin.deploy(&other).await, Ok(Value::Null));
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    let message = message_of(deploy.await.unwrap(), 5000);
    assert!(message.contains("cancelled by a destroy"), "{message}");
    for program in programs {
        assert!(!fs::exists(format!("/proc/{program}")).unwrap(), "process {program} is still there");
    }
    assert_eq!(admin.state(&lab).await, None);
    assert_eq!(on.containers().len(), 1, "that of the other lab");
    admin.destroy(&other).await.unwrap();
    assert!(server.terminate().await.success());
    before.is_back(&on).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_fails_the_deploy_with_its_name_and_leaves_nothing() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "an image is missing") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let before = Machine::now(&on, &known_programs(&place));
    let server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &lab("imageless", "n1: {}\nn2: {image: \"no/such-image:7\"}")).await;
    let message = message_of(admin.deploy(&lab).await, 5001);
    assert!(message.contains("no/such-image:7"), "{message}");
    assert_eq!(admin.state(&lab).await, Some(3));
    let log = admin.log(&lab).await;
    assert!(log.iter().any(|line| line.contains("no/such-image:7")), "{log:#?}");
    on.leaves_nothing().await;
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    drop(server);
    before.is_back(&on).await;
}

/// Line 27.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_mid_deploy_has_a_failed_lab_afterwards_whose_remains_can_be_destroyed() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "the server is killed in mid-deploy") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let before = Machine::now(&on, &known_programs(&place));
    let mut server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let mark = mark();
    let lab = admin.create_lab("course", &endless(&mark)).await;
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    until_begun(&mark).await;
    server.kill();
    assert_eq!(deploy.await.unwrap(), Err(AckError::Closed));
    drop(server);
    assert!(!on.programs().is_empty(), "containerlab goes on for nobody");

    let server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    assert_eq!(on.programs().len(), 0, "containerlab has ended");
    assert_eq!(admin.state(&lab).await, Some(3), "never running half built");
    let (left, networks) = (on.containers(), on.networks());
    assert!(!left.is_empty(), "it was killed where it has nobody to log to");
    let log = admin.log(&lab).await;
    let told = log.iter().find(|line| line.contains("only half deployed: deploy or destroy it")).expect("it is told");
    for name in left.iter().map(|(_, name)| name).chain(&networks) {
        assert!(told.contains(name.as_str()), "{name} is left, and nobody says so: {told}");
    }
    assert!(!log.iter().any(|line| line.contains("nothing is left of it")), "{log:#?}");
    assert_eq!(admin.api.lab(&lab).await.unwrap()["instance"]["nodes"].as_array().map(Vec::len), Some(left.len()));
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    assert_eq!(admin.state(&lab).await, None);
    on.leaves_nothing().await;
    drop(server);
    before.is_back(&on).await;
}

/// Line 21.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_had_open_in_a_shell_is_ended_by_the_next_one() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "the server is killed in mid-shell") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let before = Machine::now(&on, &known_programs(&place));
    let mut server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &one_node()).await;
    admin.deploy(&lab).await.unwrap();
    let mark = mark();
    let container = on.container("n1");
    let processes = || on.prepared().docker_succeeds(&["top", &container]).lines().count();
    let alone_in_it = processes();
    let shell = Shell::open(&admin, &lab, "n1").await;
    // In the background, with signals ignored, and in the foreground.
    let typed = format!("trap '' HUP TERM; {mark} & (trap '' HUP; exec {mark}) >/dev/null 2>&1 & {mark}\n");
    shell.terminal.namespace().emit("data", typed).await.unwrap();
    until_running(&mark, 3).await;
    server.kill();
    drop(server);
    let server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    // Docker can't be told to end them with whoever wanted them; the next server does it.
    until_running(&mark, 0).await;
    eventually(async || match processes() {
        now if now == alone_in_it => Ok(()),
        _ => Err(on.prepared().docker_succeeds(&["top", &container])),
    })
    .await;
    assert_eq!(admin.state(&lab).await, Some(1), "the lab goes on");
    assert_eq!(admin.command(&lab, 5, json!({})).await, Ok(json!([])));
    Shell::open(&admin, &lab, "n1").await.succeeds("true").await;
    admin.destroy(&lab).await.unwrap();
    drop(server);
    before.is_back(&on).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_removed_behind_our_back_has_exited_and_the_lab_can_be_destroyed_or_deployed_anew() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a container is removed behind our back") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let before = Machine::now(&on, &known_programs(&place));
    let server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    admin.deploy(&lab).await.unwrap();
    let mut announced = admin.join("/shell-commands").await;
    let shell = Shell::open(&admin, &lab, "r1").await;
    let mut kept = Shell::open(&admin, &lab, "r2").await;
    on.prepared().docker_succeeds(&["rm", "--force", &on.container("r1")]);
    let closed = |data: &Value| data["payload"]["shellId"] == shell.id;
    expect_data(&mut announced, "that the shell has closed", closed).await;
    until_node_is(&admin, &lab, "r1", "exited").await;
    assert_eq!(node_state(&admin, &lab, "r2").await, "running");
    kept.succeeds("true").await;
    assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "r1" })).await), 5004);
    let message = message_of(admin.command(&lab, 3, json!({ "node": "r1" })).await, 5001);
    assert!(message.contains("r1"), "{message}");
    // Deployed anew, it is whole.
    assert_eq!(admin.deploy(&lab).await, Ok(Value::Null));
    Shell::open(&admin, &lab, "r1").await.succeeds("ping -c 1 -W 5 10.0.0.2").await;

    // All of them: the lab is lost, and somebody is told.
    let mut statuses = admin.join("/status-messages").await;
    for node in ["r1", "r2"] {
        on.prepared().docker_succeeds(&["rm", "--force", &on.container(node)]);
    }
    expect_data(&mut statuses, "that it is lost", |data| data["payload"]["severity"] == 3).await;
    eventually(async || match admin.state(&lab).await {
        Some(3) => Ok(()),
        other => Err(format!("its state is {other:?}")),
    })
    .await;
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    assert_eq!(admin.state(&lab).await, None);
    drop(server);
    before.is_back(&on).await;
}

/// Line 28, where the containers go down with the engine.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_restarted_takes_the_nodes_along_which_is_seen_and_they_can_be_started_again() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "the engine is restarted") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let shared = Machine::now(&on, &known_programs(&place));
    let mut engine = Engine::start(on.prepared(), &[]).await;
    let on = on.with_engine(engine.docker_host());
    let server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let topology = two_routers().replace("    r1:\n", &format!("    r1:\n      cmd: {}\n", counting()));
    let lab = admin.create_lab("course", &topology).await;
    admin.deploy(&lab).await.unwrap();
    let mut announced = admin.join("/shell-commands").await;
    let shell = Shell::open(&admin, &lab, "r1").await;
    let mut log = Lines::of(admin.join_elsewhere(&format!("/logs/{lab}/r1")).await);
    until_runs(&mut log, 1).await;

    engine.stop().await;
    let closed = |data: &Value| data["payload"]["shellId"] == shell.id;
    expect_data(&mut announced, "that the shell has closed", closed).await;
    // Commands are answered meanwhile, if only with an error.
    let answer = admin.command(&lab, 3, json!({ "node": "r1" })).await;
    assert!(matches!(answer, Err(AckError::Refused { .. })), "{answer:?}");
    engine.start_again().await;

    for node in ["r1", "r2"] {
        until_node_is(&admin, &lab, node, "exited").await;
    }
    for node in ["r1", "r2"] {
        assert_eq!(admin.command(&lab, 3, json!({ "node": node })).await, Ok(Value::Null));
        assert_eq!(node_state(&admin, &lab, node).await, "running");
    }
    until_runs(&mut log, 2).await;
    assert_each_once(&log, 2);
    Shell::open(&admin, &lab, "r1").await.succeeds("ping -c 2 -i 0.2 -W 5 10.0.0.2").await;
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    on.leaves_nothing().await;
    drop((server, engine));
    let on = Bench::ready(Runtime::Containerlab, "the shared engine").expect("it was ready");
    shared.is_back(&on).await;
}

/// What a node runs that counts, as in [`ticking`].
fn counting() -> String {
    ticking().rsplit_once("cmd: ").expect("it has a command").1.trim().to_owned()
}

/// Line 28, where the containers go on without the engine: nobody may take that for their end, and nothing is told twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_restarted_under_nodes_that_go_on_changes_nothing_and_no_log_line_comes_twice() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "the engine is restarted, the nodes go on") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let shared = Machine::now(&on, &known_programs(&place));
    let mut engine = Engine::start(on.prepared(), &["--live-restore"]).await;
    let on = on.with_engine(engine.docker_host());
    let server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &ticking()).await;
    admin.deploy(&lab).await.unwrap();
    let mut log = Lines::of(admin.join_elsewhere(&format!("/logs/{lab}/n1")).await);
    until_runs(&mut log, 1).await;
    let mut updates = admin.join("/lab-updates").await;
    for round in 0..2 {
        engine.stop().await;
        engine.start_again().await;
        let so_far = log.pieces.len();
        while log.pieces.len() < so_far + 50 {
            assert!(within("a line", log.read()).await, "the log ended in round {round}");
        }
        assert_each_once(&log, 1);
        assert_eq!((admin.state(&lab).await, node_state(&admin, &lab, "n1").await), (Some(1), "running".to_owned()));
        Shell::open(&admin, &lab, "n1").await.succeeds("true").await;
    }
    // What happens from now on is seen again.
    on.prepared().docker_succeeds(&["kill", &on.container("n1")]);
    expect_data(&mut updates, "an update about the lab", |data| data["payload"]["labId"] == *lab).await;
    until_node_is(&admin, &lab, "n1", "exited").await;
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    on.leaves_nothing().await;
    drop((server, engine));
    let on = Bench::ready(Runtime::Containerlab, "the shared engine").expect("it was ready");
    shared.is_back(&on).await;
}

/// Line 5 of the catalogue, for containerlab: it can't write where the server could.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_under_containerlab_fails_the_deploy_with_the_reason_and_leaves_nothing() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a full disk in the run folder") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let before = Machine::now(&on, &known_programs(&place));
    let run = place.data().join("run");
    fs::create_dir(&run).unwrap();
    let mount = format!("mount -t tmpfs -o nr_inodes=64,size=64k none {} && exec \"$0\" \"$@\"", run.display());
    let starter = ["unshare", "--mount", "sh", "-c", &mount];
    let mut server = on.builder_at(&place).within(&turn).through(&starter).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    // As the server sees it. What is free is enough for less and less of a deploy.
    let folder = format!("/proc/{}/root{}", server.id(), run.display());
    let fill = |free: usize| {
        let mut made = Vec::new();
        while let Some(path) = Some(format!("{folder}/full-{}", made.len())).filter(|path| fs::write(path, "").is_ok())
        {
            made.push(path);
        }
        for path in made.iter().rev().take(free) {
            fs::remove_file(path).unwrap();
        }
        made
    };
    let mut failed = 0;
    for free in (0..8).rev() {
        let made = fill(free);
        let answer = admin.deploy(&lab).await;
        let log = admin.log(&lab).await;
        match &answer {
            Ok(_) => {
                admin.destroy(&lab).await.unwrap();
            }
            Err(AckError::Refused { code: 5000 | 5001, message }) => {
                failed += 1;
                let told = message.contains("o space left") || log.iter().any(|line| line.contains("o space left"));
                assert!(told, "with {free} free: {message}; {log:#?}");
                assert_eq!(admin.state(&lab).await, Some(3));
            }
            other => panic!("with {free} free: {other:?}"),
        }
        on.leaves_nothing().await;
        for path in made {
            let _ = fs::remove_file(path);
        }
        assert!(server.is_alive());
    }
    assert!(failed >= 2, "{failed} deploys failed");
    assert_eq!(admin.deploy(&lab).await, Ok(Value::Null), "with room again, it works");
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    assert!(!server.log().contains("panicked"), "{}", server.log());
    drop(server);
    before.is_back(&on).await;
}

/// Line 13.
#[tokio::test(flavor = "multi_thread")]
async fn a_destroy_that_fails_while_the_engine_is_away_leaves_a_failed_lab_that_can_be_destroyed_again() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a destroy without an engine") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let mut engine = Engine::start(on.prepared(), &["--live-restore"]).await;
    let on = on.with_engine(engine.docker_host());
    let server = on.builder_at(&place).within(&turn).start().await;
    let admin: Client = server.admin().await;
    let mark = mark();
    let lab = admin.create_lab("course", &lab("lasting", &format!("n1: {{cmd: {mark}}}"))).await;
    admin.deploy(&lab).await.unwrap();
    engine.stop().await;
    let message = message_of(admin.destroy(&lab).await, 5001);
    assert!(!message.is_empty());
    assert_eq!(admin.state(&lab).await, Some(3), "failed, and not stuck");
    assert_eq!(processes_with(&mark).len(), 1, "the node runs all the while");
    engine.start_again().await;
    assert_eq!(admin.destroy(&lab).await, Ok(Value::Null));
    assert_eq!(admin.state(&lab).await, None);
    assert!(processes_with(&mark).is_empty());
    on.leaves_nothing().await;
    drop((server, engine));
}

/// Labs that name the same management network share it, as all do that name none, and whichever goes last takes it along.
#[tokio::test(flavor = "multi_thread")]
async fn labs_that_come_and_go_at_once_do_not_take_the_management_network_from_each_other_and_leave_none() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "labs that share a network") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let before = Machine::now(&on, &known_programs(&place));
    let server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    // One that no other server of this machine uses.
    let shared = lab("sharing", "n1: {}");
    let mut labs = vec![admin.create_lab("course", &shared).await];
    let topology = admin.api.lab(&labs[0]).await.unwrap()["topologyId"].as_str().unwrap().to_owned();
    for number in 0..3 {
        labs.push(admin.api.create_lab(&topology, &format!("lab {number}")).await.unwrap());
    }
    let mut lives = Vec::new();
    for lab in labs {
        let client = server.admin().await;
        lives.push(tokio::spawn(async move {
            for _ in 0..4 {
                assert_eq!(client.deploy(&lab).await, Ok(Value::Null));
                assert_eq!(client.destroy(&lab).await, Ok(Value::Null));
            }
        }));
    }
    for life in lives {
        life.await.unwrap();
    }
    drop(server);
    before.is_back(&on).await;
}

/// A deploy of one lab doesn't keep the networks of others, and neither do others that are destroyed in the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn labs_with_networks_of_their_own_leave_none_when_they_are_destroyed_at_once_beside_one_that_is_being_deployed()
{
    let Some(on) = Bench::ready(Runtime::Containerlab, "labs with networks of their own") else { return };
    let turn = alone().await;
    let place = Place::new(User::Myself);
    let before = Machine::now(&on, &known_programs(&place));
    let server = on.builder_at(&place).within(&turn).start().await;
    let admin = server.admin().await;
    let mut labs = Vec::new();
    for number in 0..4 {
        let lab = admin.create_lab(&format!("course-{number}"), &one_node()).await;
        assert_eq!(admin.deploy(&lab).await, Ok(Value::Null));
        labs.push(lab);
    }
    let mark = mark();
    let busy = admin.create_lab("busy", &endless(&mark)).await;
    let deploy = admin.command_in_background(&busy, 0, json!({}));
    until_begun(&mark).await;
    let mut destroys = Vec::new();
    for lab in labs {
        let client = server.admin().await;
        destroys.push(tokio::spawn(async move { client.destroy(&lab).await }));
    }
    for destroy in destroys {
        assert_eq!(destroy.await.unwrap(), Ok(Value::Null));
    }
    eventually(async || match on.networks() {
        networks if networks.len() == 1 => Ok(()),
        networks => Err(format!("only the one of the lab that is being deployed is to be there: {networks:?}")),
    })
    .await;
    assert_eq!(admin.destroy(&busy).await, Ok(Value::Null));
    message_of(deploy.await.unwrap(), 5000);
    drop(server);
    before.is_back(&on).await;
}

/// Of the runtimes that containerlab may be built with, this one knows Docker alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_containerlab_was_built_without_is_refused_at_the_start_in_a_sentence() {
    let Some(on) = Bench::ready(Runtime::Containerlab, "a runtime that containerlab doesn't know") else { return };
    let builder = on.builder_with("containerlab: {runtime: podman}");
    let said = builder.try_start().await.err().expect("it can't run labs").output;
    assert!(said.contains("containerlab.runtime is podman") && said.contains("built without"), "{said}");
}
