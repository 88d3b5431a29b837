//! Servers on PostgreSQL: the life of a lab over restarts, a database that goes away and comes back, and those that can't be
//! used. That the data are the same on both databases is tested beside the store.

use std::sync::Arc;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::ONE_NODE;
use crate::harness::postgres::{Database, MISSING, Postgres};
use crate::harness::{
    Client, Lines, NotStarted, Place, Server, ServerBuilder, User, code_of, eventually, leave_out, output_of, within,
};

/// A configuration with this under `database:`.
fn config(database: &str) -> String {
    format!("database: {database}\n")
}

fn on(place: &Arc<Place>, database: &Database) -> ServerBuilder {
    ServerBuilder::at(place).config(&config(&database.flow()))
}

/// With one more key.
fn with(database: &Database, more: &str) -> String {
    config(&database.flow().replace(" }", &format!(", {more} }}")))
}

async fn ready(server: &Server) -> (StatusCode, Value) {
    let response = antimony_host::client::http().get(format!("{}/readyz", server.url)).send().await.unwrap();
    let status = response.status();
    let json: Value = response.json().await.unwrap();
    let store = json["checks"].as_array().unwrap().iter().find(|check| check["name"] == "store").unwrap().clone();
    (status, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_is_made_deployed_and_known_again_after_a_restart() {
    let Some(postgres) = Postgres::shared() else { return leave_out("a restart on PostgreSQL", MISSING) };
    if !User::Ordinary.can_run_labs("a restart on PostgreSQL") {
        return;
    }
    let (place, database) = (Place::new(User::Ordinary), postgres.database());
    let mut server = on(&place, &database).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    assert_eq!(admin.state(&lab).await, Some(1));
    let (status, store) = ready(&server).await;
    assert_eq!((status, &store["detail"]), (StatusCode::OK, &json!("postgres answers")));
    assert!(!place.data().join("antimony.db").exists(), "nothing is kept anywhere else");
    let shown = admin.api.get("/collections").await.unwrap();
    assert_eq!(shown[0]["creator"]["name"], "admin");
    // Killed: the lock on the database goes with it.
    server.kill();
    drop(server);

    let mut server = on(&place, &database).start().await;
    let admin = server.admin().await;
    assert_eq!(admin.api.get("/collections").await.unwrap(), shown);
    assert_eq!(admin.state(&lab).await, Some(3), "its nodes are gone, which is known of it");
    admin.deploy(&lab).await.unwrap();
    admin.destroy(&lab).await.unwrap();
    assert!(server.terminate().await.success());
    drop(server);

    let server = on(&place, &database).start().await;
    assert_eq!(server.admin().await.state(&lab).await, None);
    // A member is known, too.
    let member = server.member("student", &["course"]).await;
    assert_eq!(member.api.lab(&lab).await.unwrap()["name"], "lab");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_its_database_is_away_a_server_says_so_does_nothing_by_halves_and_goes_on_when_it_is_back() {
    let test = "a database that goes away";
    let Some(postgres) = Postgres::start() else { return leave_out(test, MISSING) };
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let (place, database) = (Place::new(User::Myself), postgres.database());
    let mut server = on(&place, &database).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let running = admin.create_lab("other", ONE_NODE).await;
    admin.deploy(&running).await.unwrap();
    let shell = admin.open_shell(&running, "n1").await;

    postgres.crash();
    eventually(async || match ready(&server).await {
        (StatusCode::SERVICE_UNAVAILABLE, store) if store["ok"] == false => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let error = admin.api.create_collection("third", true, true).await.unwrap_err();
    assert_eq!(error.refusal(), Some((503, 5000)), "{error}");
    assert!(error.to_string().contains("nothing was done"), "{error}");
    for refused in [admin.deploy(&lab).await, admin.destroy(&running).await] {
        assert!(format!("{refused:?}").contains("nothing was done"), "{refused:?}");
        assert_eq!(code_of(refused), 5000);
    }
    // What needs no database goes on.
    assert_eq!(
        antimony_host::client::http().get(format!("{}/healthz", server.url)).send().await.unwrap().status(),
        StatusCode::OK
    );
    assert_eq!((admin.state(&lab).await, admin.state(&running).await), (None, Some(1)));
    let shells = admin.command(&running, 5, json!({})).await.unwrap();
    assert_eq!(shells[0]["id"], shell);
    admin.command(&running, 4, json!({ "node": "n1" })).await.expect("restart a node");

    tokio::task::block_in_place(|| postgres.run());
    eventually(async || match ready(&server).await {
        (StatusCode::OK, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let collections = admin.api.get("/collections").await.unwrap();
    assert_eq!(collections.as_array().unwrap().len(), 2, "the third was refused: {collections}");
    admin.deploy(&lab).await.unwrap();
    admin.destroy(&running).await.unwrap();
    admin.destroy(&lab).await.unwrap();
    assert!(server.is_alive());
    let log = server.log();
    assert!(log.contains("the database is away") && log.contains("the database is back"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_that_came_up_while_the_database_was_away_is_known_to_it_afterwards() {
    let test = "a deploy that ends without a database";
    let Some(postgres) = Postgres::start() else { return leave_out(test, MISSING) };
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let (place, database) = (Place::new(User::Myself), postgres.database());
    let server = on(&place, &database).start().await;
    let admin = server.admin().await;
    let slow = "name: slow\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      exec:\n        - sh -c 'echo begun; sleep 5'\n";
    let lab = admin.create_lab("course", slow).await;
    let deploy = admin.command_in_background(&lab, 0, json!({}));
    let mut log = Lines::of(admin.join_once_there(&format!("/logs/{lab}")).await);
    log.until("n1").await;
    let stored = || postgres.sql(&database.name, "SELECT instance_state FROM antimony_host.labs");
    assert_eq!(stored(), "0", "it is being deployed");
    tokio::task::block_in_place(|| postgres.crash());
    assert_eq!(deploy.await.unwrap(), Ok(Value::Null), "what is under way needs no database");
    assert_eq!(admin.state(&lab).await, Some(1));
    tokio::task::block_in_place(|| postgres.run());
    eventually(async || match stored() {
        state if state == "1" => Ok(()),
        state => Err(format!("state {state} is stored")),
    })
    .await;
    admin.destroy(&lab).await.unwrap();
}

async fn refused(builder: ServerBuilder) -> String {
    match builder.try_start().await {
        Ok(server) => panic!("the server started at {}", server.url),
        Err(NotStarted { status, output }) => {
            assert_eq!(status.code(), Some(1), "{output}");
            assert!(!output.contains("panicked"), "{output}");
            output
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_used_is_named_with_the_remedy_by_the_server_and_by_the_doctor() {
    let Some(postgres) = Postgres::start() else { return leave_out("unusable databases", MISSING) };
    postgres.sql("postgres", "CREATE USER guarded PASSWORD 'the-right-one'");
    postgres.write("pg_hba.conf", "local all guarded scram-sha-256\nlocal all all trust\n");
    postgres.sql("postgres", "SELECT pg_reload_conf()");
    let database = postgres.database();
    let newer = postgres.database();
    {
        let place = Place::new(User::Myself);
        on(&place, &newer).start().await.terminate().await;
    }
    let future = "INSERT INTO antimony_host._sqlx_migrations (version, description, success, checksum, execution_time) \
                  VALUES (9999, 'from the future', true, '', 0)";
    postgres.sql(&newer.name, future);
    let missing = Database { name: "nowhere".to_owned(), ..database.clone() };
    let away = Database { host: "/nowhere".to_owned(), ..database.clone() };
    let guarded = config(&database.flow().replace("user: antimony", "user: guarded"));
    for (config, words) in [
        (guarded.clone(), &["SB_DATABASE_PASSWORD", "guarded"][..]),
        (config(&missing.flow()), &["nowhere", "createdb"]),
        (config(&newer.flow()), &["newer version", "9999"]),
        (with(&away, "startTimeout: 0"), &["/nowhere", "can't be reached"]),
        (with(&database, "sslMode: sometimes"), &["sslMode", "sometimes"]),
        ("database: { kind: postgres }\n".to_owned(), &["database.host"]),
    ] {
        let place = Place::new(User::Myself);
        let started = ServerBuilder::at(&place).config(&config).env("SB_DATABASE_PASSWORD", "the-wrong-one");
        let said = refused(started).await;
        let path = place.data().with_file_name("config.yml");
        let mut command = place.command();
        command.args(["doctor", "--runtime", "embedded", "--listen", "127.0.0.1:0", "--data"]).arg(place.data());
        command.arg("--config").arg(path).env("SB_DATABASE_PASSWORD", "the-wrong-one");
        let doctor = output_of(command).await;
        assert!(!doctor.status.success());
        for said in [said, String::from_utf8(doctor.stdout).unwrap()] {
            for word in words {
                assert!(said.contains(word), "{word:?} is missing in: {said}");
            }
            assert!(!said.contains("the-wrong-one"), "{said}");
        }
    }
    let place = Place::new(User::Myself);
    let right = ServerBuilder::at(&place).config(&guarded).env("SB_DATABASE_PASSWORD", "the-right-one");
    postgres.sql("postgres", &format!("GRANT CREATE ON DATABASE {} TO guarded", database.name));
    let mut server = right.env("ANTIMONY_LOG", "info,sqlx=trace,antimony_host=trace").start().await;
    server.admin().await.create_lab("course", ONE_NODE).await;
    server.terminate().await;
    assert!(!server.log().contains("the-right-one"), "a password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_another_server_has_is_refused_by_name() {
    let Some(postgres) = Postgres::shared() else { return leave_out("two servers", MISSING) };
    let database = postgres.database();
    let (here, there) = (Place::new(User::Myself), Place::new(User::Myself));
    let first = on(&here, &database).start().await;
    let said = refused(on(&there, &database)).await;
    let who = format!("process {}", first.id());
    assert!(said.contains("another server uses it") && said.contains(&who), "{said}");
    assert_eq!(ready(&first).await.0, StatusCode::OK);
    drop(first);
    within("the second server", on(&there, &database).start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_waits_for_its_database_can_be_told_to_end() {
    let Some(postgres) = Postgres::start() else { return leave_out("a server that waits", MISSING) };
    let database = postgres.database();
    postgres.crash();
    let place = Place::new(User::Myself);
    let starting = tokio::spawn(ServerBuilder::at(&place).config(&with(&database, "startTimeout: 600")).try_start());
    let pid = within("the server's process", async {
        loop {
            let lock = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
                let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
                let line = std::fs::read(entry.path().join("cmdline")).ok()?;
                let data = place.data().display().to_string();
                String::from_utf8_lossy(&line).contains(&data).then_some(pid)
            });
            // Its lock is taken before it looks for the database.
            match lock {
                Some(pid) if place.data().join("run").exists() => return pid,
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = within("its end", starting).await.unwrap().err().expect("it never listened");
    assert!(ended.output.contains("can't be reached yet"), "{}", ended.output);
    assert!(ended.output.contains("asked to stop before it was up"), "{}", ended.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_clients_write_at_once_is_all_there_on_the_other_database_too() {
    let Some(postgres) = Postgres::shared() else { return leave_out("two clients on PostgreSQL", MISSING) };
    let (place, database) = (Place::new(User::Myself), postgres.database());
    let server = on(&place, &database).start().await;
    let admin = server.admin().await;
    let other = Client::connect(&server, &admin.token).await;
    let make = async |client: &Client, prefix: &str| {
        for number in 0..25 {
            client.api.create_collection(&format!("{prefix}{number}"), true, true).await.unwrap();
        }
    };
    tokio::join!(make(&admin, "a"), make(&other, "b"));
    let taken = admin.api.create_collection("a7", true, true).await.unwrap_err();
    assert_eq!(taken.refusal(), Some((400, 2001)), "{taken}");
    assert_eq!(admin.api.get("/collections").await.unwrap().as_array().unwrap().len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_and_again_while_the_database_is_away_does_not_fill_the_log() {
    let Some(postgres) = Postgres::start() else { return leave_out("a log without a database", MISSING) };
    let (place, database) = (Place::new(User::Myself), postgres.database());
    let mut server = on(&place, &database).start().await;
    let admin = server.admin().await;
    postgres.crash();
    for _ in 0..500 {
        admin.api.get("/collections").await.unwrap_err();
    }
    assert!(server.terminate().await.success());
    eventually(async || match server.log().contains("shutting down") {
        true => Ok(()),
        false => Err("the log hasn't ended".to_owned()),
    })
    .await;
    let lines = server.log().lines().filter(|line| line.contains("ERROR")).count();
    // Twenty at once, one more each ten seconds, and that it is away.
    assert!((5..60).contains(&lines), "{lines}: {}", server.log());
}
