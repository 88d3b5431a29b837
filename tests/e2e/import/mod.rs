//! `antimony-host import`: what another Antimony server has in its database and its folder, taken over by the real program,
//! and then a real server with it.

mod other;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::postgres::{MISSING, Postgres};
use crate::harness::{Client, Place, ServerBuilder, User, leave_out, output_of};

/// Imports, and answers what the program says about it as data, and its exit status.
async fn import(place: &Place, from: &str, storage: &Path, more: &[&str]) -> (Value, i32) {
    let mut command = place.command();
    command.args(["import", "--json", "--from", from, "--storage"]).arg(storage);
    command.arg("--data").arg(place.data()).args(more);
    let config = place.data().with_file_name("config.yml");
    if config.exists() {
        command.arg("--config").arg(config);
    }
    let output = output_of(command).await;
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.code().unwrap())
}

/// What the program says when nothing could be imported.
async fn failure(place: &Place, from: &str, storage: &Path) -> String {
    let mut command = place.command();
    command.args(["import", "--from", from, "--storage"]).arg(storage).arg("--data").arg(place.data());
    let output = output_of(command).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn counts(users: u32, collections: u32, topologies: u32, files: u32, labs: u32) -> Value {
    json!({"users": users, "collections": collections, "topologies": topologies, "files": files, "labs": labs})
}

/// Imports twice into a server with this configuration, and uses it with what there is then.
async fn is_taken_over(place: Arc<Place>, from: &str, config: &str) {
    fs::write(place.data().with_file_name("config.yml"), config).unwrap();
    let storage = other::storage(place.data().parent().unwrap());
    let everything = counts(2, 1, 2, 1, 2);
    let (would, status) = import(&place, from, &storage, &["--dry-run"]).await;
    assert_eq!((&would["dry_run"], &would["added"], status), (&json!(true), &everything, 1), "{would:#}");
    let (report, status) = import(&place, from, &storage, &[]).await;
    assert_eq!((&report["added"], &report["already"]), (&everything, &counts(0, 0, 0, 0, 0)), "{report:#}");
    assert_eq!(status, 1, "some rows can't be taken");
    let refused: Vec<_> =
        report["refused"].as_array().unwrap().iter().map(|note| note["id"].as_str().unwrap()).collect();
    assert_eq!(refused, ["t-old", "t-nowhere", "f-out", "l-lost"], "{report:#}");
    let warned: Vec<_> =
        report["warnings"].as_array().unwrap().iter().map(|note| note["id"].as_str().unwrap()).collect();
    assert_eq!(warned, ["t-broken", "l-ada"], "{report:#}");
    let (again, _) = import(&place, from, &storage, &[]).await;
    assert_eq!((&again["added"], &again["already"]), (&counts(0, 0, 0, 0, 0), &everything), "{again:#}");

    let server = ServerBuilder::at(&place).config(config).start().await;
    let admin = server.admin().await;
    let collections = admin.api.get("/collections").await.unwrap();
    let administrator = json!({"id": "native:admin", "name": "admin"});
    let course = json!({"id": "c-course", "name": "course", "publicWrite": true, "publicDeploy": true, "creator": administrator});
    assert_eq!(collections, json!([course]));
    let topologies = admin.api.get("/topologies").await.unwrap();
    let one = topologies.as_array().unwrap().iter().find(|one| one["id"] == "t-one").unwrap();
    assert_eq!((&one["definition"], &one["lastDeployFailed"]), (&json!(other::DEFINITION), &json!(true)));
    assert_eq!((&one["syncUrl"], &one["collectionId"]), (&json!("https://git.example/one"), &json!("c-course")));
    assert_eq!(one["bindFiles"][0]["content"], "welcome back\n", "{one}");
    let lab = admin.api.lab("l-ada").await.unwrap();
    assert_eq!((&lab["startTime"], &lab["endTime"]), (&json!("2026-01-02T14:04:05.25Z"), &Value::Null), "{lab}");
    let ada = json!({"id": "openid:f3a-subject", "name": "ada@example.org"});
    assert_eq!((&lab["creator"], &one["creator"]), (&ada, &ada));
    let ahead = admin.api.lab("l-ahead").await.unwrap();
    assert_eq!((&ahead["creator"], &ahead["endTime"]), (&administrator, &json!("2999-01-01T10:00:00Z")), "{ahead}");

    // Whoever logs in as that subject has what was theirs: only who created a topology may change it.
    let stranger = server.member("openid:somebody", &["course"]).await;
    let patch = json!({"syncUrl": ""});
    let refused = stranger.api.request(reqwest::Method::PATCH, "/topologies/t-one", Some(&patch)).await.unwrap_err();
    assert_eq!(refused.refusal().map(|(status, _)| status), Some(403));
    let ada = server.member("openid:f3a-subject", &["course"]).await;
    ada.api.request(reqwest::Method::PATCH, "/topologies/t-one", Some(&patch)).await.expect("it is hers");
    if User::Myself.can_run_labs("a lab that was imported") {
        deploys(&ada).await;
    }
}

async fn deploys(ada: &Client) {
    assert_eq!(ada.deploy("l-ada").await, Ok(Value::Null));
    let lab = ada.api.lab("l-ada").await.unwrap();
    assert_eq!(lab["instance"]["nodes"][0]["state"], "running", "{lab}");
    assert_eq!(ada.destroy("l-ada").await, Ok(Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_sqlite_is_taken_over() {
    let place = Place::new(User::Myself);
    let file = place.data().with_file_name("an old 100%? one.db");
    other::sqlite(&file).await;
    let before = fs::read(&file).unwrap();
    is_taken_over(Arc::clone(&place), file.to_str().unwrap(), "database: {}\n").await;
    assert_eq!(fs::read(&file).unwrap(), before, "it was only read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_ended_in_mid_write_is_taken_over_as_it_was_before_and_left_as_it_is() {
    let place = Place::new(User::Myself);
    let (file, left) = (place.data().with_file_name("other.db"), place.data().with_file_name("left behind.db"));
    other::sqlite(&file).await;
    other::ended_in_mid_write(&file, &left).await;
    let files = [left.clone(), left.with_file_name("left behind.db-journal")];
    let before = files.clone().map(|file| fs::read(file).unwrap());
    is_taken_over(Arc::clone(&place), left.to_str().unwrap(), "database: {}\n").await;
    assert!(files.map(|file| fs::read(file).unwrap()) == before, "it was only read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_postgresql_is_taken_over() {
    let Some(postgres) = Postgres::shared() else {
        return leave_out("a_server_with_postgresql_is_taken_over", MISSING);
    };
    let database = postgres.database();
    postgres.sql(&database.name, &other::postgres());
    let host = database.host.replace('/', "%2F");
    let from = format!("postgres://antimony@{host}/{}", database.name);
    is_taken_over(Place::new(User::Myself), &from, "database: {}\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_taken_over_into_the_same_postgresql_beside_what_it_has_there() {
    let Some(postgres) = Postgres::shared() else {
        return leave_out("a_server_is_taken_over_into_the_same_postgresql", MISSING);
    };
    let database = postgres.database();
    postgres.sql(&database.name, &other::postgres());
    let from = format!("postgres://antimony@{}/{}", database.host.replace('/', "%2F"), database.name);
    let config = format!("database: {}\n", database.flow());
    is_taken_over(Place::new(User::Myself), &from, &config).await;
    assert_eq!(postgres.sql(&database.name, "SELECT count(*) FROM public.labs"), "3", "theirs are as they were");
    assert_eq!(postgres.sql(&database.name, "SELECT count(*) FROM antimony_host.labs"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_named_and_nothing_has_changed() {
    let place = Place::new(User::Myself);
    let root = place.data().parent().unwrap().to_owned();
    let storage = other::storage(&root);
    let file = root.join("other.db");
    other::sqlite(&file).await;
    let from = file.to_str().unwrap();

    let said = failure(&place, root.join("nowhere.db").to_str().unwrap(), &storage).await;
    assert!(said.contains("nowhere.db") && said.contains("No such file"), "{said}");
    let said = failure(&place, from, &root.join("nowhere")).await;
    assert!(said.contains("nowhere") && said.contains("--storage"), "{said}");
    fs::write(root.join("text.db"), "no database at all, however long it may be").unwrap();
    let said = failure(&place, root.join("text.db").to_str().unwrap(), &storage).await;
    assert!(said.contains("text.db") && said.contains("can't be read"), "{said}");
    // This server's own database isn't one of the other kind.
    let server = ServerBuilder::at(&place).config("database: {}\n").start().await;
    let said = failure(&place, from, &storage).await;
    assert!(said.contains("in use by another server"), "{said}");
    drop(server);
    let own = place.data().join("antimony.db");
    let said = failure(&place, own.to_str().unwrap(), &storage).await;
    assert!(said.contains("column uuid in its table users"), "{said}");
    let said = failure(&place, "postgres://u:hunter2@127.0.0.1:1/antimony", &storage).await;
    assert!(said.contains("127.0.0.1:1") && !said.contains("hunter2"), "{said}");

    let (_, status) = import(&place, from, &storage, &["--dry-run"]).await;
    assert_eq!(status, 1);
    let server = ServerBuilder::at(&place).config("database: {}\n").start().await;
    assert_eq!(server.admin().await.api.get("/collections").await.unwrap(), json!([]));
}
