//! What holds for both databases.

use super::*;

pub(super) async fn everything_survives_a_reopen(bench: &Bench) {
    let collection = collection("course");
    let topology = topology("ring", &collection);
    let mut lab = lab("monday", &topology);
    {
        let store = bench.open().await;
        store.insert_collection(&collection).await.expect("inserts");
        store.insert_topology(&topology).await.expect("inserts");
        store.insert_lab(&lab).await.expect("inserts");
        store.set_lab_instance(&lab.id, Some(&instance("ring-1"))).await.expect("sets");
        store.close().await;
    }
    lab.instance = Some(instance("ring-1"));
    let store = bench.open().await;
    assert_eq!(store.collections().await.expect("reads"), [collection]);
    assert_eq!(store.topologies().await.expect("reads"), [topology]);
    assert_eq!(store.labs().await.expect("reads"), std::slice::from_ref(&lab));
    assert_eq!(store.lab(&lab.id).await.expect("reads"), Some(lab));
    assert_eq!(store.user(&"id-bob".into()).await.expect("reads"), Some(user("bob")));
}

pub(super) async fn names_are_unique_where_they_have_to_be(bench: &Bench) {
    let (store, first, ring, lab) = bench.filled().await;
    let taken = store.insert_collection(&collection("course")).await.expect_err("taken");
    assert_eq!(taken.to_string(), "there is a collection named `course` already");
    let second = collection("other");
    store.insert_collection(&second).await.expect("inserts");
    let renamed = Collection { name: "course".to_owned(), ..second.clone() };
    let taken = store.update_collection(&second, &renamed).await.expect_err("taken");
    assert!(matches!(taken, StoreError::NameTaken { what: "collection", .. }));

    let taken = store.insert_topology(&topology("ring", &first)).await.expect_err("taken");
    assert!(matches!(taken, StoreError::NameTaken { what: "topology", .. }));
    store.insert_topology(&topology("ring", &second)).await.expect("another collection may have one of that name");
    store.delete_lab(&lab.id).await.expect("deletes");
    let moved = StoredTopology { collection_id: second.id.clone(), ..ring.clone() };
    let taken = store.update_topology(&ring, &moved).await.expect_err("taken");
    assert!(matches!(taken, StoreError::NameTaken { what: "topology", .. }));
}

pub(super) async fn what_is_in_use_is_not_deleted(bench: &Bench) {
    let (store, collection, topology, lab) = bench.filled().await;
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

pub(super) async fn references_into_nothing_are_refused_and_leave_nothing_behind(bench: &Bench) {
    let store = bench.open().await;
    let topology = topology("ring", &collection("never inserted"));
    let refused = store.insert_topology(&topology).await.expect_err("no collection");
    assert!(matches!(refused, StoreError::NotFound { what: "collection", .. }));
    let refused = store.insert_lab(&lab("x", &topology)).await.expect_err("no topology");
    assert!(matches!(refused, StoreError::NotFound { what: "topology", .. }));
    assert_eq!(store.user(&"id-ada".into()).await.expect("reads"), None);
}

pub(super) async fn updates_change_what_they_say_and_no_more(bench: &Bench) {
    let (store, collection, topology, lab) = bench.filled().await;
    store.set_lab_instance(&lab.id, Some(&instance("ring-1"))).await.expect("sets");
    let edited =
        Lab { name: "tuesday".into(), end_time: None, start_pending: false, creator: user("eve"), ..lab.clone() };
    store.update_lab(&edited).await.expect("updates");
    let expected = Lab { creator: lab.creator.clone(), instance: Some(instance("ring-1")), ..edited };
    assert_eq!(store.lab(&lab.id).await.expect("reads"), Some(expected));

    store.set_topology_deploy_failed(&topology.id, true).await.expect("sets");
    let edited =
        StoredTopology { definition: "name: ring2".into(), name: "ring2".into(), sync_url: None, ..topology.clone() };
    store.update_topology(&topology, &edited).await.expect("updates");
    let expected = StoredTopology { last_deploy_failed: true, ..edited };
    assert_eq!(store.topology(&topology.id).await.expect("reads"), Some(expected));

    let edited = Collection { name: "renamed".into(), public_write: false, public_deploy: true, ..collection.clone() };
    store.update_collection(&collection, &edited).await.expect("updates");
    assert_eq!(store.collection(&collection.id).await.expect("reads"), Some(edited));

    store.set_lab_instance(&lab.id, None).await.expect("sets");
    store.set_lab_start_pending(&lab.id, true).await.expect("sets");
    let read = store.lab(&lab.id).await.expect("reads").expect("is there");
    assert_eq!((read.instance, read.start_pending), (None, true));
}

pub(super) async fn what_others_changed_meanwhile_is_not_undone(bench: &Bench) {
    let (store, course, ring, _) = bench.filled().await;
    let ours = Collection { public_deploy: true, ..course.clone() };
    let theirs = Collection { name: "theirs".into(), ..course.clone() };
    store.update_collection(&course, &theirs).await.expect("updates");
    let refused = store.update_collection(&course, &ours).await;
    assert!(matches!(refused, Err(StoreError::Overtaken("collection"))), "{refused:?}");
    assert_eq!(store.collection(&course.id).await.expect("reads"), Some(theirs));

    let ours = StoredTopology { definition: "name: ours".into(), ..ring.clone() };
    let theirs = StoredTopology { sync_url: None, ..ring.clone() };
    store.update_topology(&ring, &theirs).await.expect("updates");
    let refused = store.update_topology(&ring, &ours).await;
    assert!(matches!(refused, Err(StoreError::Overtaken("topology"))), "{refused:?}");
    assert_eq!(store.topology(&ring.id).await.expect("reads"), Some(theirs));
}

pub(super) async fn a_topology_changes_its_collection_only_while_no_lab_is_made_from_it(bench: &Bench) {
    let (store, _, topology, lab) = bench.filled().await;
    let other = collection("elsewhere");
    store.insert_collection(&other).await.expect("inserts");
    let moved = StoredTopology { collection_id: other.id.clone(), ..topology.clone() };
    let error = store.update_topology(&topology, &moved).await.expect_err("the lab would go along");
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    let renamed = StoredTopology { name: "other".to_owned(), ..topology.clone() };
    store.update_topology(&topology, &renamed).await.expect("stays where it is");
    store.delete_lab(&lab.id).await.expect("deletes");
    store.update_topology(&renamed, &moved).await.expect("nobody goes along");
}

fn file(topology: &StoredTopology, path: &str, content: &str) -> BindFile {
    let id = BindFileId::generate();
    BindFile { id, topology_id: topology.id.clone(), path: path.to_owned(), content: content.to_owned() }
}

pub(super) async fn files_belong_to_their_topology_and_go_with_it(bench: &Bench) {
    let (store, collection, ring, lab) = bench.filled().await;
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
    store.update_bind_file(&b, &renamed).await.expect("updates");
    store.update_bind_file(&renamed, &renamed).await.expect("its own path is not taken");
    let overtaken = store.update_bind_file(&b, &BindFile { path: "d".to_owned(), ..b.clone() }).await;
    assert!(matches!(overtaken, Err(StoreError::Overtaken("file"))), "it is another one meanwhile: {overtaken:?}");
    let moved = BindFile { topology_id: other.id.clone(), path: "d".to_owned(), ..b };
    let missing = store.update_bind_file(&renamed, &moved).await.expect_err("not of that topology");
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

pub(super) async fn no_two_files_of_a_topology_are_in_each_others_way_and_their_size_is_bounded(bench: &Bench) {
    let (store, _, ring, _) = bench.filled().await;
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

pub(super) async fn two_labs_never_have_instances_of_one_name(bench: &Bench) {
    let (store, _, topology, first) = bench.filled().await;
    let second = lab("second", &topology);
    store.insert_lab(&second).await.expect("inserts");
    store.set_lab_instance(&first.id, Some(&instance("same"))).await.expect("sets");
    let taken = store.set_lab_instance(&second.id, Some(&instance("same"))).await.expect_err("taken");
    assert!(matches!(taken, StoreError::NameTaken { what: "instance", .. }));
}

pub(super) async fn a_user_who_returns_under_another_name_is_shown_under_that(bench: &Bench) {
    let (store, collection, ..) = bench.filled().await;
    store.upsert_user(&User { name: "Ada L.".to_owned(), ..user("ada") }).await.expect("updates");
    let read = store.collection(&collection.id).await.expect("reads").expect("is there");
    assert_eq!(read.creator.name, "Ada L.");
}

pub(super) async fn many_writers_at_once_all_succeed(bench: &Bench) {
    let store = bench.open().await;
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

pub(super) async fn a_database_of_a_newer_version_is_refused(bench: &Bench) {
    let store = bench.open().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', $1, $2, 0)",
    )
    .bind(true)
    .bind(vec![0_u8])
    .execute(&store.writes)
    .await
    .expect("inserts");
    store.close().await;
    assert!(open_fails(&bench.location).await.contains("newer version of this program (schema 9999)"));
}

pub(super) async fn lists_are_in_one_order_whatever_the_language_of_the_database(bench: &Bench) {
    let store = bench.open().await;
    for name in ["b", "a", "Z", "ä", "-a", "a b", "ab", "A"] {
        store.insert_collection(&collection(name)).await.expect("inserts");
    }
    let names: Vec<String> = store.collections().await.expect("reads").into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["-a", "A", "Z", "a", "a b", "ab", "b", "ä"]);
}

pub(super) async fn texts_come_back_as_they_were_and_those_that_one_database_cannot_keep_are_refused_by_both(
    bench: &Bench,
) {
    let (store, first, mut ring, monday) = bench.filled().await;
    for text in
        ["", " ", "\u{1}\u{7f}", "'; DROP TABLE labs; --", "\\x00 $1 %s ?", "𝄞 é é \u{feff}", &"x".repeat(3_000_000)]
    {
        let edited = StoredTopology { definition: text.to_owned(), ..ring.clone() };
        store.update_topology(&ring, &edited).await.expect("updates");
        let read = store.topology(&ring.id).await.expect("reads").expect("is there");
        assert!(read.definition == text, "{:?}", text.chars().take(20).collect::<String>());
        ring = read;
    }
    let nothing = "a\0b".to_owned();
    let refused = [
        store.insert_collection(&Collection { name: nothing.clone(), ..collection("x") }).await,
        store.update_collection(&first, &Collection { name: nothing.clone(), ..first.clone() }).await,
        store.update_topology(&ring, &StoredTopology { sync_url: Some(nothing.clone()), ..ring.clone() }).await,
        store.update_lab(&Lab { name: nothing.clone(), ..monday }).await,
        store.upsert_user(&User { name: nothing, ..user("x") }).await,
    ];
    for refused in refused {
        assert!(matches!(refused, Err(StoreError::Null(_))), "{refused:?}");
    }
}

pub(super) async fn times_are_kept_to_the_millisecond_however_far_away(bench: &Bench) {
    let (store, _, ring, _) = bench.filled().await;
    for milliseconds in [0, -1, 1, 1_799_999_999_999, -62_135_596_800_000, 253_402_207_200_000] {
        let kept = Lab { start_time: at(milliseconds), end_time: Some(at(milliseconds)), ..lab("l", &ring) };
        store.insert_lab(&kept).await.expect("inserts");
        assert_eq!(store.lab(&kept.id).await.expect("reads"), Some(kept));
    }
}

pub(super) async fn all_of_many_things_is_added_or_nothing(bench: &Bench) {
    let (store, first, ring, monday) = bench.filled().await;
    let more = collection("more");
    let made = topology("made", &more);
    let labs = vec![lab("one", &made), lab("two", &ring), lab("three", &made)];
    let everything = Everything {
        users: vec![user("zoe")],
        collections: vec![more],
        topologies: vec![made.clone()],
        files: vec![],
        labs,
    };
    let mut broken = everything.labs.clone();
    broken.push(lab("four", &topology("nowhere", &first)));
    let refused = store.insert_all(&Everything { labs: broken, ..Everything::clone(&everything) }).await;
    assert!(matches!(refused, Err(StoreError::NotFound { what: "topology", .. })), "{refused:?}");
    assert_eq!(store.labs().await.expect("reads"), [monday]);
    assert_eq!(
        (store.collections().await.expect("reads").len(), store.user(&"id-zoe".into()).await.unwrap()),
        (1, None)
    );

    store.insert_all(&everything).await.expect("inserts");
    assert_eq!(store.labs().await.expect("reads").len(), 4);
    assert_eq!(store.user(&"id-zoe".into()).await.expect("reads"), Some(user("zoe")));
    let again = store.insert_all(&everything).await;
    assert!(matches!(again, Err(StoreError::NameTaken { what: "collection", .. })), "{again:?}");
}

pub(super) async fn a_change_that_nobody_waits_for_any_more_is_made_or_not_and_blocks_nobody(bench: &Bench) {
    let (store, _, ring, _) = bench.filled().await;
    let before = store.labs().await.expect("reads").len();
    for patience in 0..40_u64 {
        let abandoned = lab("abandoned", &ring);
        let change = store.insert_lab(&abandoned);
        // Dropped at another place each time.
        let _ = timeout(Duration::from_micros(patience * 100), change).await;
    }
    store.insert_lab(&lab("after", &ring)).await.expect("inserts");
    let labs = store.labs().await.expect("reads");
    assert!(labs.len() > before && labs.iter().all(|lab| lab.topology_id == ring.id));
}

pub(super) async fn a_store_that_was_closed_answers_with_errors(bench: &Bench) {
    let (store, collection, ..) = bench.filled().await;
    let other = store.clone();
    store.close().await;
    assert!(other.ping().await.is_err());
    assert!(other.update_collection(&collection, &collection).await.is_err());
    bench.open().await.ping().await.expect("another one is there");
}

pub(super) async fn a_thousand_labs_are_added_and_listed_in_the_time_that_a_page_may_take(bench: &Bench) {
    let (store, _, ring, _) = bench.filled().await;
    let labs: Vec<Lab> = (0..1000).map(|number| lab(&format!("lab {number}"), &ring)).collect();
    let began = Instant::now();
    store.insert_all(&Everything { labs, ..Everything::default() }).await.expect("inserts");
    let together = began.elapsed();
    let began = Instant::now();
    for number in 0..20 {
        store.insert_lab(&lab(&format!("more {number}"), &ring)).await.expect("inserts");
    }
    let one = began.elapsed() / 20;
    let began = Instant::now();
    let listed = store.labs().await.expect("reads").len();
    let list = began.elapsed();
    assert_eq!(listed, 1021);
    // To be read with --nocapture. The limit is far off: it is about queries per lab, not about the machine.
    eprintln!("1000 labs at once {together:?}, one lab {one:?}, a list of {listed} {list:?}");
    assert!(list < Duration::from_secs(10), "{list:?}");
}

pub(super) async fn a_session_is_kept_until_it_expires_or_is_deleted(bench: &Bench) {
    let store = bench.open().await;
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

pub(super) async fn a_session_by_password_goes_on_until_it_expires_or_is_ended(bench: &Bench) {
    let store = bench.open().await;
    let (ada, later) = (user("ada"), Timestamp::now() + Duration::from_secs(600));
    store.begin_session(&ada, "gone", Timestamp::now()).await.expect("begun");
    for id in ["a", "b"] {
        store.begin_session(&ada, id, later).await.expect("begun");
    }
    assert_eq!(store.user(&ada.id).await.expect("reads"), Some(ada.clone()));
    store.end_session("a").await.expect("ended");
    store.end_session("a").await.expect("twice is fine");
    store.close().await;
    // It is as it was for the next server.
    let store = bench.open().await;
    for (id, goes_on) in [("a", false), ("b", true), ("gone", false), ("never", false)] {
        assert_eq!(store.session_goes_on(id).await.expect("asked"), goes_on, "{id}");
    }
}

pub(super) async fn sessions_of_one_user_are_bounded_and_nobody_else_pays_for_them(bench: &Bench) {
    let store = bench.open().await;
    let (ada, bob, later) = (user("ada"), user("bob"), Timestamp::now() + Duration::from_secs(600));
    store.begin_session(&bob, "bob's", Timestamp::now() + Duration::from_secs(60)).await.expect("begun");
    for index in 0..MAX_SESSIONS + 2 {
        let ends = later + Duration::from_millis(index.unsigned_abs());
        store.begin_session(&ada, &index.to_string(), ends).await.expect("begun");
    }
    let last = (MAX_SESSIONS + 1).to_string();
    for (id, goes_on) in [("0", false), ("1", false), ("2", true), (last.as_str(), true), ("bob's", true)] {
        assert_eq!(store.session_goes_on(id).await.expect("asked"), goes_on, "{id}");
    }
}

pub(super) async fn checkpoints_belong_to_their_lab_are_bounded_and_go_with_it(bench: &Bench) {
    let (store, _, topology, lab) = bench.filled().await;
    let limits = CheckpointLimits { count: 3, bytes: 1000 };
    let checkpoint = |name: &str, created: i64, bytes: u64| Checkpoint {
        id: CheckpointId::generate(),
        lab_id: lab.id.clone(),
        name: name.to_owned(),
        created: at(created),
        creator: user("carol"),
        definition: "name: ring\n".to_owned(),
        runtime: (bytes > 100).then(|| "embedded".to_owned()),
        files: 3,
        bytes,
    };
    let (late, early) = (checkpoint("é late", 2000, 100), checkpoint("early", 1000, 200));
    for one in [&late, &early] {
        store.insert_checkpoint(one, limits).await.expect("inserts");
    }
    assert_eq!(store.checkpoints(&lab.id).await.expect("reads"), [early.clone(), late.clone()]);
    let taken = store.insert_checkpoint(&checkpoint("early", 3000, 1), limits).await.expect_err("taken");
    assert_eq!(taken.to_string(), "there is a checkpoint named `early` already");
    let large = store.insert_checkpoint(&checkpoint("large", 3000, 701), limits).await.expect_err("too large");
    assert!(
        matches!(&large, StoreError::TooMuch(why) if why.contains("1000 bytes") && why.contains("1001")),
        "{large}"
    );
    store.insert_checkpoint(&checkpoint("fits", 3000, 700), limits).await.expect("inserts");
    let many = store.insert_checkpoint(&checkpoint("fourth", 4000, 0), limits).await.expect_err("too many");
    assert!(matches!(&many, StoreError::TooMuch(why) if why.contains("3 checkpoints")), "{many}");
    let null = store.insert_checkpoint(&checkpoint("a\0b", 4000, 0), limits).await.expect_err("no text");
    assert!(matches!(null, StoreError::Null("checkpoint")));

    // Two that are made at once don't fit both.
    store.delete_checkpoint(&lab.id, &late.id).await.expect("deletes");
    let (one, other) = (checkpoint("one", 5000, 90), checkpoint("other", 5000, 90));
    let both = tokio::join!(store.insert_checkpoint(&one, limits), store.insert_checkpoint(&other, limits));
    assert!(both.0.is_ok() != both.1.is_ok(), "{both:?}");

    let elsewhere = self::lab("tuesday", &topology);
    let missing = store.delete_checkpoint(&elsewhere.id, &early.id).await.expect_err("of another lab");
    assert!(matches!(missing, StoreError::NotFound { what: "checkpoint", .. }));
    let nowhere = Checkpoint { lab_id: elsewhere.id.clone(), ..checkpoint("nowhere", 1, 1) };
    let missing = store.insert_checkpoint(&nowhere, limits).await.expect_err("no lab");
    assert!(matches!(missing, StoreError::NotFound { what: "lab", .. }));
    assert_eq!(store.checkpoint_ids().await.expect("reads").len(), 3);
    store.delete_lab(&lab.id).await.expect("deletes");
    assert!(store.checkpoint_ids().await.expect("reads").is_empty());
}
