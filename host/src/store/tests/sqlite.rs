//! What only a database in a file can be: readable, damaged, somebody else's.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::migrations::MIGRATIONS;
use super::*;

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("antimony.db");
    std::fs::write(&path, "").expect("writes");
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("sets");
    let store = Store::open_file(&path).await.expect("opens");
    store.insert_collection(&collection("c")).await.expect("inserts");
    let mut seen = 0;
    for file in std::fs::read_dir(folder.path()).expect("lists") {
        let file = file.expect("an entry");
        let mode = file.metadata().expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.file_name());
        seen += 1;
    }
    assert!(seen >= 2, "the database and its log are there");
}

#[tokio::test]
async fn an_unusable_database_is_reported_in_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("antimony.db");

    std::fs::write(&path, "this is not a database, it is a letter to a friend".repeat(100)).expect("writes");
    assert!(open_fails(&Location::Sqlite(path.clone())).await.contains("damaged, or no database"));

    let inside_a_file = path.join("antimony.db");
    assert!(open_fails(&Location::Sqlite(inside_a_file)).await.contains("File exists"));
    assert!(open_fails(&Location::Sqlite(folder.path().to_owned())).await.contains("Is a directory"));
}

#[tokio::test]
async fn a_damaged_database_is_refused_rather_than_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("antimony.db");
    let store = Store::open_file(&path).await.expect("opens");
    for index in 0..200 {
        store.insert_collection(&collection(&format!("collection {index}"))).await.expect("inserts");
    }
    store.close().await;
    let mut bytes = std::fs::read(&path).expect("reads");
    let half = bytes.len() / 2;
    bytes[half..].fill(0xAA);
    std::fs::write(&path, bytes).expect("writes");
    assert!(open_fails(&Location::Sqlite(path.clone())).await.contains("damaged"));
}

/// The schema that existing servers make in their file, as far as it is in our way.
async fn make_foreign(path: &Path) {
    use sqlx::ConnectOptions as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.expect("opens");
    sqlx::raw_sql("CREATE TABLE users (id integer PRIMARY KEY); CREATE TABLE labs (id integer PRIMARY KEY);")
        .execute(&mut connection)
        .await
        .expect("makes tables");
    connection.close().await.expect("closes");
}

#[tokio::test]
async fn the_file_of_another_server_is_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("theirs.db");
    make_foreign(&path).await;
    let before = std::fs::read(&path).expect("reads");
    let location = Location::Sqlite(path.clone());
    assert!(open_fails(&location).await.contains("belongs to another program"));
    assert!(Store::probe(&location).await.expect_err("theirs").to_string().contains("another program"));

    let config = config::DatabaseConfig { local_file: Some("theirs.db".into()), ..Default::default() };
    let data = folder.path().join("data");
    let choice = config.choose(&data, folder.path(), |_| None).await.expect("chosen");
    assert!(matches!(&choice.location, Location::Sqlite(path) if *path == data.join("antimony.db")));
    assert!(choice.notices[0].contains("antimony-host import"), "{:?}", choice.notices);
    Store::open(&choice.location).await.expect("opens");
    assert!(std::fs::read(&path).expect("reads") == before, "it was changed");
    // A second start finds its own.
    let config = config::DatabaseConfig { local_file: Some("data/antimony.db".into()), ..config };
    let choice = config.choose(&data, folder.path(), |_| None).await.expect("chosen");
    assert!(
        choice.notices.is_empty()
            && matches!(choice.location, Location::Sqlite(path) if path == data.join("antimony.db"))
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_looked_at_is_left_as_it_is() {
    use sqlx::ConnectOptions as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("theirs.db");
    make_foreign(&path).await;
    let before = std::fs::read(&path).expect("reads");
    // Its owner is about to write, and keeps everybody else out.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut owner = options.connect().await.expect("opens");
    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut owner).await.expect("locks");
    let error = open_fails(&Location::Sqlite(path.clone())).await;
    assert!(error.contains("another process is using it") && error.contains("name another file"), "{error}");
    let config = config::DatabaseConfig { local_file: Some("theirs.db".into()), ..Default::default() };
    let error = config.choose(&folder.path().join("data"), folder.path(), |_| None).await.expect_err("who knows");
    assert!(error.to_string().contains("theirs.db") && error.to_string().contains("using it"), "{error}");
    sqlx::raw_sql("ROLLBACK").execute(&mut owner).await.expect("unlocks");
    owner.close().await.expect("closes");
    assert!(std::fs::read(&path).expect("reads") == before, "it was changed");
    assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 1);
}

#[tokio::test]
async fn a_file_serves_one_server_by_whatever_name_and_is_free_once_that_has_closed_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("antimony.db");
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("links");
    let first = Store::open_file(&path).await.expect("opens");
    first.insert_collection(&collection("c")).await.expect("inserts");
    for name in [&path, &link, &folder.path().join("./antimony.db")] {
        let location = Location::Sqlite(name.clone());
        assert!(open_fails(&location).await.contains("another server uses it: end that one"));
        assert!(Store::probe(&location).await.expect_err("in use").to_string().contains("another server uses it"));
    }
    first.insert_collection(&collection("d")).await.expect("it is as good as before");
    first.close().await;
    Store::probe(&Location::Sqlite(link.clone())).await.expect("free");
    let second = Store::open_file(&link).await.expect("opens, although there is a handle of the first yet");
    assert_eq!(second.collections().await.expect("reads").len(), 2);
    assert!(first.collections().await.is_err());
    drop(first);
    assert!(open_fails(&Location::Sqlite(path.clone())).await.contains("another server"), "the second has it still");
    // One that isn't closed lets it go with its last handle.
    drop(second);
    Store::open_file(&path).await.expect("opens");
}

#[tokio::test]
async fn a_path_may_have_any_characters_and_be_relative() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("50% of? #all &é").join("a b+c.db");
    let store = Store::open_file(&path).await.expect("opens");
    store.insert_collection(&collection("c")).await.expect("inserts");
    store.close().await;
    assert!(path.is_file());
    assert_eq!(Store::open_file(&path).await.expect("opens").collections().await.expect("reads").len(), 1);
}

#[tokio::test]
async fn a_database_of_an_earlier_version_goes_on() {
    // What the migrations were when files with them were first kept. A file remembers these sums.
    let known = [(1, "first"), (2, "runtime of instance")];
    for ((version, description), step) in known.into_iter().zip(MIGRATIONS.iter()) {
        assert_eq!((step.version, &*step.description), (version, description));
    }
    let sums: Vec<String> = MIGRATIONS
        .iter()
        .take(known.len())
        .map(|step| step.checksum.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..16].to_owned())
        .collect();
    assert_eq!(sums, SUMS);
}

const SUMS: [&str; 2] = ["b06c166457d039e1", "2843a8eb8abe991d"];

#[tokio::test]
async fn looking_at_a_file_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::Sqlite(folder.path().join("antimony.db"));
    assert!(Store::probe(&location).await.expect("fine").contains("isn't there yet"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);
    Store::open(&location).await.expect("opens").close().await;
    Store::probe(&location).await.expect("fine");
}
