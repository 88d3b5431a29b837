//! What only a database can suffer that is elsewhere: it is away, it goes, it is slow, somebody else has it.

use super::*;

/// A PostgreSQL of this test's own, and a database in it.
fn own(test: &str) -> Option<(server::Postgres, server::Database, Location)> {
    let Some(server) = server::Postgres::start() else {
        left_out::leave_out(test, server::MISSING);
        return None;
    };
    let database = server.database();
    let location = Location::Postgres(Box::new(reached(&database)));
    Some((server, database, location))
}

fn with(location: &Location, change: impl FnOnce(&mut Postgres)) -> Location {
    let Location::Postgres(postgres) = location else { panic!("{location} is no PostgreSQL") };
    let mut changed = postgres.clone();
    change(&mut changed);
    Location::Postgres(changed)
}

async fn eventually(store: &Store, wanted: impl Fn(&Result<(), StoreError>) -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let found = store.ping().await;
        if wanted(&found) {
            return;
        }
        assert!(Instant::now() < give_up, "still {found:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_it_is_said_with_the_remedy() {
    let test = "what_is_wrong_with_it_is_said_with_the_remedy";
    let Some((server, database, location)) = own(test) else { return };
    server.sql("postgres", "CREATE USER guarded PASSWORD 'right'; CREATE USER guest");
    server.sql("postgres", "CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0");
    let rules = "local all guarded scram-sha-256\nlocal all antimony trust\nlocal all guest trust\n";
    server.write("pg_hba.conf", rules);
    server.sql("postgres", "SELECT pg_reload_conf()");

    let guarded = |password: &str| {
        with(&location, |postgres| {
            postgres.user = "guarded".to_owned();
            postgres.password = Some(password.to_owned());
        })
    };
    let wrong = guarded("the-wrong-one");
    for said in [open_fails(&wrong).await, Store::probe(&wrong).await.expect_err("wrong").to_string()] {
        assert!(said.contains("SB_DATABASE_PASSWORD") && !said.contains("the-wrong-one"), "{said}");
    }
    let nobody = open_fails(&with(&location, |postgres| postgres.user = "nobody".to_owned())).await;
    assert!(nobody.contains("pg_hba.conf"), "{nobody}");
    let missing = open_fails(&with(&location, |postgres| postgres.database = "nowhere".to_owned())).await;
    assert!(missing.contains("nowhere") && missing.contains("createdb"), "{missing}");
    let latin = open_fails(&with(&location, |postgres| postgres.database = "latin".to_owned())).await;
    assert!(latin.contains("LATIN1") && latin.contains("UTF8"), "{latin}");
    let guest = with(&location, |postgres| postgres.user = "guest".to_owned());
    for said in [open_fails(&guest).await, Store::probe(&guest).await.expect_err("no right").to_string()] {
        assert!(said.contains("CREATE SCHEMA antimony_host AUTHORIZATION \"guest\""), "{said}");
    }
    // What is said helps.
    server.sql(&database.name, "CREATE SCHEMA antimony_host AUTHORIZATION \"guest\"");
    Store::open(&guest).await.expect("opens").close().await;
    server.sql(&database.name, "DROP SCHEMA antimony_host CASCADE; GRANT CREATE ON DATABASE test0 TO guarded");
    let found = Store::probe(&guarded("right")).await.expect("fine");
    assert!(found.contains("PostgreSQL 1"), "{found}");
    Store::open(&guarded("right")).await.expect("opens").close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_of_another_server_in_the_same_database_are_left_as_they_are() {
    let Some(bench) = Bench::postgres("the_tables_of_another_server") else { return };
    let Location::Postgres(place) = &bench.location else { panic!("it is PostgreSQL") };
    let server = server::Postgres::shared().expect("it is there");
    server.sql(
        &place.database,
        "CREATE TABLE users (id text); INSERT INTO users VALUES ('theirs'); CREATE TABLE labs (id int)",
    );
    let (store, ..) = bench.filled().await;
    assert_eq!(store.labs().await.expect("reads").len(), 1);
    assert_eq!(
        server.sql(&place.database, "SELECT id FROM public.users; SELECT count(*) FROM public.labs"),
        "theirs\n0"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_away_at_the_start_is_waited_for_and_not_for_ever() {
    let Some((server, _, location)) = own("one_that_is_away_at_the_start") else { return };
    server.crash();
    let impatient = with(&location, |postgres| postgres.start_timeout = Duration::from_secs(1));
    let error = open_fails(&impatient).await;
    assert!(error.contains("can't be reached") && error.contains("database.startTimeout"), "{error}");
    let opening = tokio::spawn(async move { Store::open(&location).await });
    sleep(Duration::from_millis(300)).await;
    assert!(!opening.is_finished(), "it waits");
    tokio::task::block_in_place(|| server.run());
    opening.await.expect("no panic").expect("opens").close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_is_gone_everything_answers_at_once_that_it_is_and_afterwards_all_is_well() {
    let Some((server, _, location)) = own("while_it_is_gone") else { return };
    let store = Store::open(&location).await.expect("opens");
    let first = collection("first");
    store.insert_collection(&first).await.expect("inserts");
    for round in 0..3 {
        server.crash();
        let lost = collection(&format!("lost {round}"));
        let error = store.insert_collection(&lost).await.expect_err("it is gone");
        assert!(matches!(error, StoreError::Away(_)), "{error}");
        eventually(&store, |found| matches!(found, Err(StoreError::Away(_)))).await;
        let began = Instant::now();
        for _ in 0..100 {
            assert!(matches!(store.collections().await, Err(StoreError::Away(_))));
        }
        assert!(began.elapsed() < Duration::from_secs(5), "nobody waits for what is known");
        server.run();
        eventually(&store, Result::is_ok).await;
        store.insert_collection(&collection(&format!("found {round}"))).await.expect("inserts");
        let names = store.collections().await.expect("reads");
        assert!(names.iter().all(|found| found.name != lost.name), "nothing is done of what was an error");
    }
    assert_eq!(store.collections().await.expect("reads").len(), 4);
    store.close().await;
}

/// Commits break while many of them are under way: whoever is told that it was done finds it, and nobody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_crash_hits_is_done_as_it_was_answered() {
    let Some((server, _, location)) = own("whatever_a_crash_hits") else { return };
    let store = Store::open(&location).await.expect("opens");
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut answers = Vec::new();
                for number in 0..150 {
                    let name = format!("{writer}-{number}");
                    let answer = store.insert_collection(&collection(&name)).await;
                    if matches!(answer, Err(StoreError::Away(_))) {
                        sleep(Duration::from_millis(20)).await;
                    }
                    answers.push((name, answer));
                }
                answers
            })
        })
        .collect();
    let disturb = tokio::task::spawn_blocking(move || {
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(150));
            server.crash();
            server.run();
        }
        server
    });
    let server = disturb.await.expect("no panic");
    let mut answers = Vec::new();
    for writer in writers {
        answers.extend(writer.await.expect("no panic"));
    }
    eventually(&store, Result::is_ok).await;
    let kept: std::collections::HashSet<String> =
        store.collections().await.expect("reads").into_iter().map(|found| found.name).collect();
    let (mut done, mut not_done) = (0, 0);
    for (name, answer) in answers {
        match answer {
            Ok(()) => {
                done += 1;
                assert!(kept.contains(&name), "{name} was answered as done");
            }
            Err(StoreError::Away(_)) => {
                not_done += 1;
                assert!(!kept.contains(&name), "{name} was answered as not done");
            }
            // It can't be known, and is said to be so.
            Err(StoreError::Unknown) => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(done > 100, "{done} done, {not_done} not done");
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_answer_holds_nobody_up_for_ever_and_is_used_again_when_it_does() {
    let Some((server, _, location)) = own("one_that_does_not_answer") else { return };
    let store = Store::open(&location).await.expect("opens");
    store.insert_collection(&collection("before")).await.expect("inserts");
    server.freeze();
    let error = timeout(Duration::from_secs(60), store.insert_collection(&collection("frozen"))).await;
    assert!(matches!(error.expect("it is answered"), Err(StoreError::Away(_) | StoreError::Unknown)));
    eventually(&store, |found| matches!(found, Err(StoreError::Away(_)))).await;
    server.thaw();
    eventually(&store, Result::is_ok).await;
    store.insert_collection(&collection("after")).await.expect("inserts");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_is_refused_until_the_first_has_let_go() {
    let Some(bench) = Bench::postgres("a_second_server_is_refused") else { return };
    let first = bench.open().await;
    for said in [open_fails(&bench.location).await, Store::probe(&bench.location).await.expect_err("taken").to_string()]
    {
        assert!(said.contains("another server uses it") && said.contains("antimony-host on "), "{said}");
    }
    first.ping().await.expect("the first one doesn't notice");
    first.insert_collection(&collection("c")).await.expect("inserts");
    first.close().await;
    let second = bench.open().await;
    // Without being closed, as when its process dies.
    drop(second);
    bench.open().await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_lock_broke_takes_it_again_and_keeps_others_out_meanwhile() {
    let Some(bench) = Bench::postgres("a_server_whose_lock_broke") else { return };
    let Location::Postgres(place) = &bench.location else { panic!("it is PostgreSQL") };
    let server = server::Postgres::shared().expect("it is there");
    let store = bench.open().await;
    // The pool has connections, too.
    store.insert_collection(&collection("c")).await.expect("inserts");
    let owner = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let before = server.sql(&place.database, owner);
    assert_eq!(server.sql(&place.database, &format!("SELECT pg_terminate_backend(({owner}))")), "t");
    let refused = open_fails(&bench.location).await;
    assert!(refused.contains("another server uses it"), "{refused}");
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let now = server.sql(&place.database, owner);
        if !now.is_empty() && now != before {
            break;
        }
        assert!(Instant::now() < give_up, "the lock isn't taken again");
        sleep(Duration::from_millis(50)).await;
    }
    eventually(&store, Result::is_ok).await;
    store.insert_collection(&collection("d")).await.expect("inserts");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_while_another_had_the_database_does_not_touch_it_any_more() {
    let Some(bench) = Bench::postgres("a_server_that_was_away") else { return };
    let Location::Postgres(place) = &bench.location else { panic!("it is PostgreSQL") };
    let server = server::Postgres::shared().expect("it is there");
    let first = bench.open().await;
    first.insert_collection(&collection("first")).await.expect("inserts");
    // What another server leaves behind, and the end of all connections.
    server.sql(&place.database, "UPDATE antimony_host.owner SET mark = 'another'");
    let all = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE datname = current_database() \
               AND pid <> pg_backend_pid()";
    assert_eq!(server.sql(&place.database, all), "t");
    eventually(&first, |found| matches!(found, Err(StoreError::Away(why)) if why.contains("restart this one"))).await;
    let second = bench.open().await;
    second.insert_collection(&collection("second")).await.expect("inserts");
    assert!(matches!(first.insert_collection(&collection("third")).await, Err(StoreError::Away(_))));
    assert_eq!(second.collections().await.expect("reads").len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_loses_against_another_program_is_made_anew() {
    let Some(bench) = Bench::postgres("a_change_that_loses") else { return };
    let Location::Postgres(place) = &bench.location else { panic!("it is PostgreSQL") };
    let server = server::Postgres::shared().expect("it is there");
    let (store, mut course, ..) = bench.filled().await;
    // Somebody at a terminal has changed the row and takes their time to commit.
    let meddle =
        "BEGIN; UPDATE antimony_host.collections SET public_deploy = public_deploy; SELECT pg_sleep(1); COMMIT";
    let database = place.database.clone();
    let other = tokio::task::spawn_blocking(move || server.sql(&database, meddle));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' \
                 AND pid <> pg_backend_pid() AND datname = current_database()";
    while server.sql(&place.database, waits) == "0" {
        sleep(Duration::from_millis(10)).await;
    }
    let before = course.clone();
    course.name = "ours".to_owned();
    store.update_collection(&before, &course).await.expect("updates");
    other.await.expect("no panic");
    assert_eq!(store.collection(&course.id).await.expect("reads"), Some(course));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_checked_where_that_is_asked_for() {
    let test = "a_certificate_is_checked_where_that_is_asked_for";
    let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let Some(server) = server::Postgres::start_listening() else { return left_out::leave_out(test, server::MISSING) };
    server.write("server.crt", &certificate.cert.pem());
    server.write("server.key", &certificate.signing_key.serialize_pem());
    server.write("pg_hba.conf", "local all all trust\nhostssl all all 127.0.0.1/32 trust\n");
    server.sql("postgres", "ALTER SYSTEM SET ssl = on");
    server.sql("postgres", "SELECT pg_reload_conf()");
    let files = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("writes");
        Some(path)
    };
    let (trusted, strange) = (file("ca.pem", &certificate.cert.pem()), file("other.pem", &other.cert.pem()));
    let letter = file("letter.pem", "Dear friend");
    let location = Location::Postgres(Box::new(reached(&server.database())));
    let over = |host: &str, ssl_mode: SslMode, certificate: &Option<PathBuf>| {
        with(&location, |postgres| {
            postgres.host = host.to_owned();
            postgres.port = server.port();
            postgres.ssl_mode = ssl_mode;
            postgres.ssl_root_cert = certificate.clone();
            postgres.start_timeout = Duration::ZERO;
        })
    };
    // It takes a moment until the new rules count.
    let plain = over("127.0.0.1", SslMode::Disable, &None);
    let give_up = Instant::now() + Duration::from_secs(60);
    while Store::probe(&plain).await.is_ok() {
        assert!(Instant::now() < give_up, "it goes on taking connections that aren't encrypted");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(open_fails(&plain).await.contains("pg_hba.conf"));
    for (host, mode, certificate) in [
        ("127.0.0.1", SslMode::Prefer, &None),
        ("127.0.0.1", SslMode::Require, &None),
        ("localhost", SslMode::VerifyFull, &trusted),
        ("127.0.0.1", SslMode::VerifyCa, &trusted),
    ] {
        let store = Store::open(&over(host, mode, certificate)).await.expect("opens");
        store.insert_collection(&collection(&format!("{mode} {host}"))).await.expect("inserts");
        let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'antimony' \
                         AND datname = 'test0' AND client_addr IS NOT NULL";
        assert_eq!(server.sql("postgres", encrypted), "t", "{mode}");
        store.close().await;
    }
    for (host, mode, certificate, said) in [
        ("127.0.0.1", SslMode::VerifyFull, &trusted, "encrypted"),
        ("localhost", SslMode::VerifyFull, &strange, "encrypted"),
        ("localhost", SslMode::VerifyFull, &None, "encrypted"),
        ("localhost", SslMode::VerifyFull, &Some("/nowhere/ca.pem".into()), "database.sslRootCert: /nowhere/ca.pem"),
        ("localhost", SslMode::VerifyFull, &letter, "no certificate"),
    ] {
        let error = open_fails(&over(host, mode, certificate)).await;
        assert!(error.contains(said), "{mode} {certificate:?}: {error}");
    }
}
