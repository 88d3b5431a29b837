//! The store against real databases, on disk and in memory.

use super::*;
use crate::labs::model::{
    BindFile, BindFileId, Collection, CollectionId, InstanceState, Lab, LabId, StoredInstance, StoredTopology,
    TopologyId, User,
};

fn user(name: &str) -> User {
    User { id: format!("id-{name}").as_str().into(), name: name.to_owned() }
}

fn collection(name: &str) -> Collection {
    Collection {
        id: CollectionId::generate(),
        name: name.to_owned(),
        public_write: true,
        public_deploy: false,
        creator: user("ada"),
    }
}

fn topology(name: &str, collection: &Collection) -> StoredTopology {
    StoredTopology {
        id: TopologyId::generate(),
        name: name.to_owned(),
        collection_id: collection.id.clone(),
        definition: format!("name: {name}\n# ünïcode, 'quotes' and \"more\"; DROP TABLE labs\n"),
        sync_url: Some("https://example.org/x".to_owned()),
        last_deploy_failed: false,
        creator: user("ada"),
        file_paths: Vec::new(),
    }
}

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).expect("in range")
}

fn lab(name: &str, topology: &StoredTopology) -> Lab {
    Lab {
        id: LabId::generate(),
        name: name.to_owned(),
        start_time: at(1_800_000_000_123),
        end_time: Some(at(1_800_000_600_000)),
        topology_id: topology.id.clone(),
        collection_id: topology.collection_id.clone(),
        creator: user("bob"),
        start_pending: true,
        instance: None,
    }
}

fn instance(name: &str) -> StoredInstance {
    StoredInstance {
        runtime: "containerlab".into(),
        name: name.to_owned(),
        definition: "name: x".to_owned(),
        deployed: at(1_799_999_999_000),
        state: InstanceState::Deploying,
        since: at(1_799_999_999_999),
    }
}

/// A store with a collection, a topology in it and a lab made from that.
async fn filled() -> (Store, Collection, StoredTopology, Lab) {
    let store = Store::in_memory().await.expect("opens");
    let collection = collection("course");
    let topology = topology("ring", &collection);
    let lab = lab("monday", &topology);
    store.insert_collection(&collection).await.expect("inserts");
    store.insert_topology(&topology).await.expect("inserts");
    store.insert_lab(&lab).await.expect("inserts");
    (store, collection, topology, lab)
}

#[tokio::test]
async fn everything_survives_a_reopen() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data").join("antimony.db");
    let collection = collection("course");
    let topology = topology("ring", &collection);
    let mut lab = lab("monday", &topology);
    {
        let store = Store::open(&path).await.expect("opens");
        store.insert_collection(&collection).await.expect("inserts");
        store.insert_topology(&topology).await.expect("inserts");
        store.insert_lab(&lab).await.expect("inserts");
        store.set_lab_instance(&lab.id, Some(&instance("ring-1"))).await.expect("sets");
        store.close().await;
    }
    lab.instance = Some(instance("ring-1"));
    let store = Store::open(&path).await.expect("opens again");
    assert_eq!(store.collections().await.expect("reads"), [collection]);
    assert_eq!(store.topologies().await.expect("reads"), [topology]);
    assert_eq!(store.labs().await.expect("reads"), std::slice::from_ref(&lab));
    assert_eq!(store.lab(&lab.id).await.expect("reads"), Some(lab));
    assert_eq!(store.user(&"id-bob".into()).await.expect("reads"), Some(user("bob")));
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("antimony.db");
    std::fs::write(&path, "").expect("writes");
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("sets");
    let store = Store::open(&path).await.expect("opens");
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
async fn names_are_unique_where_they_have_to_be() {
    let (store, first, ring, lab) = filled().await;
    let taken = store.insert_collection(&collection("course")).await.expect_err("taken");
    assert_eq!(taken.to_string(), "there is a collection named `course` already");
    let second = collection("other");
    store.insert_collection(&second).await.expect("inserts");
    let renamed = Collection { name: "course".to_owned(), ..second.clone() };
    let taken = store.update_collection(&renamed).await.expect_err("taken");
    assert!(matches!(taken, StoreError::NameTaken { what: "collection", .. }));

    let taken = store.insert_topology(&topology("ring", &first)).await.expect_err("taken");
    assert!(matches!(taken, StoreError::NameTaken { what: "topology", .. }));
    store.insert_topology(&topology("ring", &second)).await.expect("another collection may have one of that name");
    store.delete_lab(&lab.id).await.expect("deletes");
    let moved = StoredTopology { collection_id: second.id.clone(), ..ring };
    let taken = store.update_topology(&moved).await.expect_err("taken");
    assert!(matches!(taken, StoreError::NameTaken { what: "topology", .. }));
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted() {
    let (store, collection, topology, lab) = filled().await;
    let refused = store.delete_collection(&collection.id).await.expect_err("in use");
    assert_eq!(refused.to_string(), "the collection can't be deleted: it still has topologies");
    let refused = store.delete_topology(&topology.id).await.expect_err("in use");
    assert_eq!(refused.to_string(), "the topology can't be deleted: it still has labs");
    store.delete_lab(&lab.id).await.expect("deletes");
    store.delete_topology(&topology.id).await.expect("deletes");
    store.delete_collection(&collection.id).await.expect("deletes");
    let missing = store.delete_lab(&lab.id).await.expect_err("gone");
    assert!(matches!(missing, StoreError::NotFound { what: "lab", .. }));
}

#[tokio::test]
async fn references_into_nothing_are_refused_and_leave_nothing_behind() {
    let store = Store::in_memory().await.expect("opens");
    let topology = topology("ring", &collection("never inserted"));
    let refused = store.insert_topology(&topology).await.expect_err("no collection");
    assert!(matches!(refused, StoreError::NotFound { what: "collection", .. }));
    let refused = store.insert_lab(&lab("x", &topology)).await.expect_err("no topology");
    assert!(matches!(refused, StoreError::NotFound { what: "topology", .. }));
    assert_eq!(store.user(&"id-ada".into()).await.expect("reads"), None);
}

#[tokio::test]
async fn updates_change_what_they_say_and_no_more() {
    let (store, collection, topology, lab) = filled().await;
    store.set_lab_instance(&lab.id, Some(&instance("ring-1"))).await.expect("sets");
    let edited =
        Lab { name: "tuesday".into(), end_time: None, start_pending: false, creator: user("eve"), ..lab.clone() };
    store.update_lab(&edited).await.expect("updates");
    let expected = Lab { creator: lab.creator.clone(), instance: Some(instance("ring-1")), ..edited };
    assert_eq!(store.lab(&lab.id).await.expect("reads"), Some(expected));

    store.set_topology_deploy_failed(&topology.id, true).await.expect("sets");
    let edited =
        StoredTopology { definition: "name: ring2".into(), name: "ring2".into(), sync_url: None, ..topology.clone() };
    store.update_topology(&edited).await.expect("updates");
    let expected = StoredTopology { last_deploy_failed: true, ..edited };
    assert_eq!(store.topology(&topology.id).await.expect("reads"), Some(expected));

    let edited = Collection { name: "renamed".into(), public_write: false, public_deploy: true, ..collection.clone() };
    store.update_collection(&edited).await.expect("updates");
    assert_eq!(store.collection(&collection.id).await.expect("reads"), Some(edited));

    store.set_lab_instance(&lab.id, None).await.expect("sets");
    store.set_lab_start_pending(&lab.id, true).await.expect("sets");
    let read = store.lab(&lab.id).await.expect("reads").expect("is there");
    assert_eq!((read.instance, read.start_pending), (None, true));
}

#[tokio::test]
async fn a_topology_changes_its_collection_only_while_no_lab_is_made_from_it() {
    let (store, _, topology, lab) = filled().await;
    let other = collection("elsewhere");
    store.insert_collection(&other).await.expect("inserts");
    let moved = StoredTopology { collection_id: other.id.clone(), ..topology.clone() };
    let error = store.update_topology(&moved).await.expect_err("the lab would go along");
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    store.update_topology(&StoredTopology { name: "other".to_owned(), ..topology }).await.expect("stays where it is");
    store.delete_lab(&lab.id).await.expect("deletes");
    store.update_topology(&moved).await.expect("nobody goes along");
}

fn file(topology: &StoredTopology, path: &str, content: &str) -> BindFile {
    let id = BindFileId::generate();
    BindFile { id, topology_id: topology.id.clone(), path: path.to_owned(), content: content.to_owned() }
}

#[tokio::test]
async fn files_belong_to_their_topology_and_go_with_it() {
    let (store, collection, ring, lab) = filled().await;
    let other = topology("other", &collection);
    store.insert_topology(&other).await.expect("inserts");
    let (b, a) = (file(&ring, "b/ü", "text\n"), file(&ring, "a", ""));
    for file in [&b, &a, &file(&other, "a", "of another")] {
        store.insert_bind_file(file).await.expect("inserts");
    }
    assert_eq!(store.bind_files(&ring.id).await.expect("reads"), [a.clone(), b.clone()]);
    let shown = store.topology(&ring.id).await.expect("reads").expect("is there");
    assert_eq!(shown.file_paths, ["a", "b/ü"]);
    let all = store.topologies().await.expect("reads");
    assert_eq!(all.iter().map(|topology| topology.file_paths.len()).collect::<Vec<_>>(), [1, 2]);

    let renamed = BindFile { path: "c".to_owned(), content: "new".to_owned(), ..b.clone() };
    store.update_bind_file(&renamed).await.expect("updates");
    store.update_bind_file(&renamed).await.expect("its own path is not taken");
    let moved = BindFile { topology_id: other.id.clone(), path: "d".to_owned(), ..b };
    let missing = store.update_bind_file(&moved).await.expect_err("not of that topology");
    assert!(matches!(missing, StoreError::NotFound { what: "file", .. }), "{missing}");
    store.delete_bind_file(&ring.id, &a.id).await.expect("deletes");
    assert_eq!(store.all_bind_files().await.expect("reads")[&ring.id], [renamed]);

    store.delete_lab(&lab.id).await.expect("deletes");
    store.delete_topology(&ring.id).await.expect("deletes, files and all");
    assert_eq!(store.bind_files(&ring.id).await.expect("reads"), []);
    assert_eq!(store.bind_files(&other.id).await.expect("reads").len(), 1);
    let missing = store.insert_bind_file(&file(&ring, "x", "")).await.expect_err("no topology");
    assert!(matches!(missing, StoreError::NotFound { what: "topology", .. }), "{missing}");
}

#[tokio::test]
async fn no_two_files_of_a_topology_are_in_each_others_way_and_their_size_is_bounded() {
    let (store, _, ring, _) = filled().await;
    store.insert_bind_file(&file(&ring, "a/b", "")).await.expect("inserts");
    let taken = store.insert_bind_file(&file(&ring, "a/b", "")).await.expect_err("taken");
    assert!(matches!(taken, StoreError::PathTaken(_)), "{taken}");
    for path in ["a", "a/b/c"] {
        let taken = store.insert_bind_file(&file(&ring, path, "")).await.expect_err(path);
        assert!(matches!(taken, StoreError::PathInUse { .. }), "{taken}");
    }
    store.insert_bind_file(&file(&ring, "a/bc", "")).await.expect("another file");
    let too_long = "x".repeat(MAX_FILE + 1);
    let refused = store.insert_bind_file(&file(&ring, "long", &too_long)).await.expect_err("too long");
    assert!(matches!(refused, StoreError::TooMuch(_)), "{refused}");
    // Bytes count, not characters.
    let piece = "é".repeat(MAX_FILE / 2);
    for number in 0..MAX_FILES / MAX_FILE {
        store.insert_bind_file(&file(&ring, &format!("p{number}"), &piece)).await.expect("inserts");
    }
    let refused = store.insert_bind_file(&file(&ring, "more", "x")).await.expect_err("too much");
    assert!(refused.to_string().contains(&MAX_FILES.to_string()), "{refused}");
    for number in store.bind_files(&ring.id).await.expect("reads").len()..MAX_COUNT {
        store.insert_bind_file(&file(&ring, &format!("n{number}"), "")).await.expect("inserts");
    }
    let refused = store.insert_bind_file(&file(&ring, "last", "")).await.expect_err("too many");
    assert!(refused.to_string().contains(&MAX_COUNT.to_string()), "{refused}");
}

#[tokio::test]
async fn two_labs_never_have_instances_of_one_name() {
    let (store, _, topology, first) = filled().await;
    let second = lab("second", &topology);
    store.insert_lab(&second).await.expect("inserts");
    store.set_lab_instance(&first.id, Some(&instance("same"))).await.expect("sets");
    let taken = store.set_lab_instance(&second.id, Some(&instance("same"))).await.expect_err("taken");
    assert!(matches!(taken, StoreError::NameTaken { what: "instance", .. }));
}

#[tokio::test]
async fn a_user_who_returns_under_another_name_is_shown_under_that() {
    let (store, collection, ..) = filled().await;
    store.upsert_user(&User { name: "Ada L.".to_owned(), ..user("ada") }).await.expect("updates");
    let read = store.collection(&collection.id).await.expect("reads").expect("is there");
    assert_eq!(read.creator.name, "Ada L.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_at_once_all_succeed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("antimony.db")).await.expect("opens");
    let writers: Vec<_> = (0..50)
        .map(|index| {
            let store = store.clone();
            tokio::spawn(async move { store.insert_collection(&collection(&format!("c{index}"))).await })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic").expect("inserts");
    }
    assert_eq!(store.collections().await.expect("reads").len(), 50);
}

async fn open_fails(path: &Path) -> String {
    let error = Store::open(path).await.expect_err("can't be opened").to_string();
    assert!(error.starts_with(&format!("the database {} can't be used: ", path.display())), "{error}");
    assert!(!error.contains('\n'), "{error}");
    error
}

#[tokio::test]
async fn an_unusable_database_is_reported_in_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("antimony.db");

    std::fs::write(&path, "this is not a database, it is a letter to a friend".repeat(100)).expect("writes");
    assert!(open_fails(&path).await.contains("damaged, or no database"));

    let inside_a_file = path.join("antimony.db");
    assert!(open_fails(&inside_a_file).await.contains("File exists"));
    assert!(open_fails(folder.path()).await.contains("Is a directory"));
}

#[tokio::test]
async fn a_damaged_database_is_refused_rather_than_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("antimony.db");
    let store = Store::open(&path).await.expect("opens");
    for index in 0..200 {
        store.insert_collection(&collection(&format!("collection {index}"))).await.expect("inserts");
    }
    store.close().await;
    let mut bytes = std::fs::read(&path).expect("reads");
    let half = bytes.len() / 2;
    bytes[half..].fill(0xAA);
    std::fs::write(&path, bytes).expect("writes");
    assert!(open_fails(&path).await.contains("damaged"));
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("antimony.db");
    let store = Store::open(&path).await.expect("opens");
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .execute(&store.writes)
    .await
    .expect("inserts");
    store.close().await;
    assert!(open_fails(&path).await.contains("newer version of this program (schema 9999)"));
}

#[tokio::test]
async fn a_session_is_kept_until_it_expires_or_is_deleted() {
    let store = Store::in_memory().await.expect("opens");
    let later = Timestamp::now() + Duration::from_secs(600);
    store.insert_session("a", "sealed", later).await.expect("kept");
    store.insert_session("b", "sealed", Timestamp::now()).await.expect("kept");
    assert_eq!(store.session("a").await.expect("asked").as_deref(), Some("sealed"));
    for id in ["b", "c"] {
        assert_eq!(store.session(id).await.expect("asked"), None, "{id}");
    }
    store.update_session("a", "anew").await.expect("updated");
    assert_eq!(store.session("a").await.expect("asked").as_deref(), Some("anew"));
    store.delete_session("a").await.expect("deleted");
    store.update_session("a", "again").await.expect("nothing happens");
    assert_eq!(store.session("a").await.expect("asked"), None);
}
