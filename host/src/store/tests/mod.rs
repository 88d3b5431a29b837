//! The store against real databases. What holds for both is in [`both`], and run on either; what only one can do, or
//! suffer, is in [`sqlite`] and [`postgres`].
//!
//! `cargo test -p antimony-host --lib store::tests::on_postgres` runs those of one database.

mod both;
#[path = "../../../../tests/e2e/harness/left_out.rs"]
mod left_out;
mod postgres;
#[path = "../../../../tests/e2e/harness/postgres.rs"]
#[allow(dead_code, reason = "it is made for suites, too, and nobody uses all of it")]
mod server;
mod sqlite;

use std::path::PathBuf;

use tempfile::TempDir;

use super::config::{Postgres, SslMode};
use super::*;
use crate::labs::model::{
    BindFile, BindFileId, Checkpoint, CheckpointId, Collection, CollectionId, InstanceState, Lab, LabId,
    StoredInstance, StoredTopology, TopologyId, User,
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
        warned_before: None,
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

/// An empty database, which may be opened again and again.
struct Bench {
    location: Location,
    _folder: TempDir,
}

impl Bench {
    fn sqlite(_: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self { location: Location::Sqlite(folder.path().join("data").join("antimony.db")), _folder: folder })
    }

    fn postgres(test: &str) -> Option<Self> {
        let Some(server) = server::Postgres::shared() else {
            left_out::leave_out(test, server::MISSING);
            return None;
        };
        let location = Location::Postgres(Box::new(reached(&server.database())));
        Some(Self { location, _folder: tempfile::tempdir().expect("a folder") })
    }

    async fn open(&self) -> Store {
        Store::open(&self.location).await.expect("opens")
    }

    /// A store with a collection, a topology in it and a lab made from that.
    async fn filled(&self) -> (Store, Collection, StoredTopology, Lab) {
        let store = self.open().await;
        let collection = collection("course");
        let topology = topology("ring", &collection);
        let lab = lab("monday", &topology);
        store.insert_collection(&collection).await.expect("inserts");
        store.insert_topology(&topology).await.expect("inserts");
        store.insert_lab(&lab).await.expect("inserts");
        (store, collection, topology, lab)
    }
}

/// How a database of a test's PostgreSQL is reached.
fn reached(database: &server::Database) -> Postgres {
    Postgres {
        host: database.host.clone(),
        port: database.port,
        database: database.name.clone(),
        user: "antimony".to_owned(),
        password: None,
        ssl_mode: SslMode::Prefer,
        ssl_root_cert: None,
        start_timeout: Duration::from_secs(60),
    }
}

/// Why a database can't be opened: in one sentence, which names it.
async fn open_fails(location: &Location) -> String {
    let error = Store::open(location).await.expect_err("can't be opened").to_string();
    assert!(error.starts_with(&format!("the database {location} can't be used: ")), "{error}");
    assert!(!error.contains('\n'), "{error}");
    error
}

/// Runs each of the behaviours on each of the databases. A behaviour is a function of a [`Bench`]; one that isn't listed is
/// never used, which the compiler says.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let bench = super::Bench::sqlite(stringify!($name)).expect("it needs nothing");
                super::both::$name(&bench).await;
            })+
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(bench) = super::Bench::postgres(stringify!($name)) {
                    super::both::$name(&bench).await;
                }
            })+
        }
    };
}

on_both_databases!(
    a_session_is_kept_until_it_expires_or_is_deleted,
    a_session_by_password_goes_on_until_it_expires_or_is_ended,
    sessions_of_one_user_are_bounded_and_nobody_else_pays_for_them,
    everything_survives_a_reopen,
    names_are_unique_where_they_have_to_be,
    what_is_in_use_is_not_deleted,
    references_into_nothing_are_refused_and_leave_nothing_behind,
    updates_change_what_they_say_and_no_more,
    what_others_changed_meanwhile_is_not_undone,
    a_topology_changes_its_collection_only_while_no_lab_is_made_from_it,
    files_belong_to_their_topology_and_go_with_it,
    no_two_files_of_a_topology_are_in_each_others_way_and_their_size_is_bounded,
    checkpoints_belong_to_their_lab_are_bounded_and_go_with_it,
    two_labs_never_have_instances_of_one_name,
    a_user_who_returns_under_another_name_is_shown_under_that,
    many_writers_at_once_all_succeed,
    a_database_of_a_newer_version_is_refused,
    lists_are_in_one_order_whatever_the_language_of_the_database,
    texts_come_back_as_they_were_and_those_that_one_database_cannot_keep_are_refused_by_both,
    times_are_kept_to_the_millisecond_however_far_away,
    all_of_many_things_is_added_or_nothing,
    a_change_that_nobody_waits_for_any_more_is_made_or_not_and_blocks_nobody,
    a_store_that_was_closed_answers_with_errors,
    a_thousand_labs_are_added_and_listed_in_the_time_that_a_page_may_take,
);
