//! Users of a file, as an operator manages them and as they log in.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use antimony_host::client::{Api, ApiError};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Place, Server, ServerBuilder, User, eventually, within};

const PROGRAM: &str = env!("CARGO_BIN_EXE_antimony-host");

/// Runs `antimony-host user …` for the data folder of `place`, with this on its standard input.
fn user(place: &Place, arguments: &[&str], input: &str) -> Output {
    place.user_command(arguments, input)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn done(place: &Place, arguments: &[&str], input: &str) -> String {
    let output = user(place, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

fn add(place: &Place, name: &str, password: &str, more: &[&str]) {
    place.add_user(name, password, more);
}

fn fails(place: &Place, arguments: &[&str], input: &str, part: &str) {
    let output = user(place, arguments, input);
    assert!(!output.status.success() && said(&output).contains(part), "{arguments:?}: {}", said(&output));
}

fn status(result: Result<impl Sized, ApiError>) -> u16 {
    result.err().expect("a refusal").refusal().expect("a status").0
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let middle = token.split('.').nth(1).expect("a token has three parts");
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(middle).unwrap()).unwrap()
}

#[test]
fn users_are_added_shown_changed_and_removed_by_a_command() {
    let place = Place::new(User::Myself);
    let file = place.data().join("users.yml");
    fails(&place, &["list"], "", "there are no users");
    add(&place, "alice", "correct horse", &["--admin", "--collection", "a", "--collection", "b"]);
    add(&place, "bob", "battery staple", &[]);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("$argon2id$") && !text.contains("correct horse"), "{text}");
    assert_eq!(done(&place, &["list"], ""), "alice, administrator: a, b\nbob\n");

    fails(&place, &["add", "bob", "--password-stdin"], "another one\n", "there is a user bob already");
    fails(&place, &["add", "carol", "--password-stdin"], "short\n", "at least 8 characters");
    fails(&place, &["add", "carol", "--password-stdin"], "", "at least 8 characters");
    fails(&place, &["add", " carol", "--password-stdin"], "long enough\n", "begin or end with spaces");
    fails(&place, &["add", "", "--password-stdin"], "long enough\n", "needs a name");
    fails(&place, &["set-password", "carol", "--password-stdin"], "long enough\n", "there is no user carol");
    fails(&place, &["remove", "carol"], "", "there is no user carol");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "nothing has changed");

    done(&place, &["set-password", "alice", "--password-stdin"], "another horse\n");
    assert_eq!(done(&place, &["list"], ""), "alice, administrator: a, b\nbob\n");
    assert_ne!(std::fs::read_to_string(&file).unwrap(), text);
    done(&place, &["remove", "bob"], "");
    assert_eq!(done(&place, &["list"], ""), "alice, administrator: a, b\n");

    let broken = std::fs::read_to_string(&file).unwrap().replace("admin: true", "admin: perhaps");
    std::fs::write(&file, &broken).unwrap();
    let lines = broken.lines().position(|line| line.contains("perhaps")).unwrap() + 1;
    for arguments in [&["list"][..], &["remove", "alice"], &["add", "bob", "--password-stdin"]] {
        fails(&place, arguments, "long enough\n", "users.alice.admin");
        fails(&place, arguments, "long enough\n", &lines.to_string());
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), broken);
}

#[test]
fn a_password_is_asked_for_at_the_terminal_and_not_shown() {
    let place = Place::new(User::Myself);
    let ask = |first: &str, second: &str| {
        let terminal = native_pty_system().openpty(PtySize::default()).unwrap();
        let mut command = CommandBuilder::new(PROGRAM);
        command.args(["user", "add", "alice", "--data"]);
        command.arg(place.data());
        let mut child = terminal.slave.spawn_command(command).unwrap();
        drop(terminal.slave);
        let mut reader = terminal.master.try_clone_reader().unwrap();
        let mut writer = terminal.master.take_writer().unwrap();
        let mut shown = String::new();
        for (prompt, password) in [("Password of alice:", first), ("The same again:", second)] {
            // Typed only once it asks and the terminal has been told to show nothing: what comes before, it would show.
            while !shown.contains(prompt) {
                let mut part = [0; 256];
                let count = reader.read(&mut part).unwrap();
                assert_ne!(count, 0, "it ended: {shown}");
                shown.push_str(&String::from_utf8_lossy(&part[..count]));
            }
            let echoes = || {
                let flags = terminal.master.get_termios().expect("a terminal of Unix").local_flags.bits();
                flags & nix::libc::ECHO != 0
            };
            let deadline = Instant::now() + crate::harness::PATIENCE;
            while echoes() {
                assert!(Instant::now() < deadline, "it would show the password");
                std::thread::sleep(Duration::from_millis(5));
            }
            writer.write_all(format!("{password}\n").as_bytes()).unwrap();
        }
        let status = child.wait().unwrap();
        // The end of a terminal is an error to whoever reads it.
        let _ = reader.read_to_string(&mut shown);
        (status.success(), shown)
    };
    let (ok, shown) = ask("correct horse", "correct house");
    assert!(!ok && shown.contains("two different passwords"), "{shown}");
    let (ok, shown) = ask("correct horse", "correct horse");
    assert!(ok && !shown.contains("correct"), "{shown}");
    assert_eq!(done(&place, &["list"], ""), "alice\n");
}

async fn with_users(place: &Arc<Place>) -> Server {
    ServerBuilder::at(place).env("SB_NATIVE_USERNAME", "root").env("SB_NATIVE_PASSWORD", "root's own").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn local_users_log_in_beside_the_administrator_and_are_who_the_file_says() {
    let place = Place::new(User::Myself);
    add(&place, "alice", "correct horse", &["--collection", "course"]);
    add(&place, "boss", "battery staple", &["--admin"]);
    add(&place, "root", "not root's own", &["--admin"]);
    let server = with_users(&place).await;
    let api = server.api();
    let token = async |name: &str, password: &str| {
        api.log_in(name, password).await.map(|login| claims(&login.access_token)).map_err(|error| error.refusal())
    };
    let alice = token("alice", "correct horse").await.unwrap();
    assert_eq!((&alice["id"], &alice["isAdmin"]), (&json!("local:alice"), &json!(false)));
    assert_eq!((&alice["name"], &alice["collections"]), (&json!("alice"), &json!(["course"])));
    assert_eq!(token("boss", "battery staple").await.unwrap()["isAdmin"], true);
    assert_eq!(token("root", "root's own").await.unwrap()["id"], "native:root");
    let wrong = Some((400, 1001));
    for (name, password) in [
        ("root", "not root's own"),
        ("alice", "battery staple"),
        ("alice", "correct horse "),
        ("alice", ""),
        ("Alice", "correct horse"),
        ("nobody", "correct horse"),
        ("", ""),
    ] {
        assert_eq!(token(name, password).await.unwrap_err(), wrong, "{name}/{password}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_in_the_file_counts_at_once_and_ends_sessions() {
    let place = Place::new(User::Myself);
    add(&place, "alice", "correct horse", &[]);
    add(&place, "bob", "battery staple", &[]);
    let mut server = with_users(&place).await;
    let api = server.api();
    let alice = api.log_in("alice", "correct horse").await.unwrap().refresh_token;
    let bob = api.log_in("bob", "battery staple").await.unwrap().refresh_token;
    assert_eq!(claims(&api.refresh(&alice).await.unwrap())["isAdmin"], false);

    // An editor at work: what she may is asked for anew at each refresh.
    let file = place.data().join("users.yml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("admin: false", "admin: true", 1)).unwrap();
    eventually(async || match claims(&api.refresh(&alice).await.unwrap())["isAdmin"] == true {
        true => Ok(()),
        false => Err("alice is no administrator yet".to_owned()),
    })
    .await;

    // A mistake changes nothing, and is said.
    std::fs::write(&file, text.replacen("admin: false", "admin: perhaps", 1)).unwrap();
    eventually(async || match server.log().contains("users.alice.admin") {
        true => Ok(()),
        false => Err("nothing is said".to_owned()),
    })
    .await;
    api.refresh(&alice).await.unwrap();
    std::fs::write(&file, &text).unwrap();

    done(&place, &["set-password", "alice", "--password-stdin"], "another horse\n");
    done(&place, &["remove", "bob"], "");
    eventually(async || match api.log_in("alice", "another horse").await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await;
    assert_eq!(status(api.refresh(&alice).await), 401);
    assert_eq!(status(api.refresh(&bob).await), 401);
    assert_eq!(status(api.log_in("bob", "battery staple").await), 400);

    // Without a file there is nobody.
    let alice = api.log_in("alice", "another horse").await.unwrap().refresh_token;
    std::fs::remove_file(&file).unwrap();
    eventually(async || match api.refresh(&alice).await {
        Err(_) => Ok(()),
        Ok(_) => Err("alice is still there".to_owned()),
    })
    .await;
    api.log_in("root", "root's own").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_local_users_a_server_may_be_reached_from_elsewhere_and_has_no_known_password() {
    let place = Place::new(User::Myself);
    let open = || ServerBuilder::at(&place).listen("0.0.0.0:0");
    let failed = open().try_start().await.err().expect("admin/admin for everybody");
    assert!(failed.output.contains("antimony-host user add"), "{}", failed.output);
    add(&place, "alice", "correct horse", &["--admin"]);
    let mut server = open().start().await;
    let api = Api::anonymous(&server.url.replace("0.0.0.0", "127.0.0.1"));
    api.log_in("alice", "correct horse").await.unwrap();
    assert_eq!(status(api.log_in("admin", "admin").await), 400);
    server.terminate().await;
    // Nor on this machine.
    let server = ServerBuilder::at(&place).start().await;
    assert_eq!(status(server.api().log_in("admin", "admin").await), 400);
    assert_eq!(server.api().get("/users/login/config").await.unwrap()["native"]["enabled"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_known_password_is_none_any_more_once_a_local_user_is_added_to_a_server_that_runs() {
    let place = Place::new(User::Myself);
    let server = ServerBuilder::at(&place).start().await;
    let api = server.api();
    let admin = api.log_in("admin", "admin").await.unwrap().refresh_token;
    api.refresh(&admin).await.unwrap();
    add(&place, "alice", "correct horse", &["--admin"]);
    eventually(async || api.log_in("alice", "correct horse").await.map(drop).map_err(|error| error.to_string())).await;
    // Neither anew, nor by what somebody has of it.
    assert_eq!(status(api.log_in("admin", "admin").await), 400);
    assert_eq!(status(api.refresh(&admin).await), 401);
    // Its name is free for a local user, at once.
    add(&place, "admin", "another horse", &["--admin"]);
    eventually(async || api.log_in("admin", "another horse").await.map(drop).map_err(|error| error.to_string())).await;
    assert_eq!(status(api.log_in("admin", "admin").await), 400);
    assert_eq!(api.get("/users/login/config").await.unwrap()["native"]["enabled"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_may_name_the_file_which_has_to_be_right() {
    let place = Place::new(User::Myself);
    let config = "auth:\n  usersFile: data/team.yml\n";
    let start = || ServerBuilder::at(&place).config(config);
    let failed = start().try_start().await.err().expect("there is no such file");
    assert!(failed.output.contains("auth.usersFile") && failed.output.contains("team.yml"), "{}", failed.output);
    std::fs::write(place.data().join("team.yml"), "users:\n  alice:\n    password: hunter2hunter2\n").unwrap();
    let failed = start().try_start().await.err().expect("it is no hash");
    assert!(failed.output.contains("users.alice.password") && failed.output.contains('3'), "{}", failed.output);
    assert!(!failed.output.contains("hunter2"), "{}", failed.output);
    std::fs::remove_file(place.data().join("team.yml")).unwrap();
    let path = place.data().parent().map(Path::to_owned).unwrap().join("config.yml");
    let path = path.to_str().unwrap();
    done(&place, &["add", "alice", "--password-stdin", "--config", path], "correct horse\n");
    let server = start().start().await;
    server.api().log_in("alice", "correct horse").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_logins_leaves_the_server_to_everybody_else() {
    let place = Place::new(User::Myself);
    add(&place, "alice", "correct horse", &[]);
    let server = with_users(&place).await;
    let token = server.token("student", &[]);
    let http = antimony_host::client::http();
    let storm: Vec<_> = (0..600)
        .map(|index| {
            let url = format!("{}/users/login/native", server.url);
            // Each from somewhere else, so that no limit of one address gets in their way.
            let from = format!("198.51.{}.{}", index / 250, index % 250);
            let request = http.post(url).header("x-forwarded-for", from);
            let request = request.json(&json!({"username": format!("user{index}"), "password": "wrong"}));
            tokio::spawn(async move {
                let answer = request.send().await.unwrap();
                (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
            })
        })
        .collect();
    let api = server.api().with_token(&token);
    let mut slowest = Duration::ZERO;
    while !storm.iter().all(tokio::task::JoinHandle::is_finished) {
        let began = Instant::now();
        within("an answer during the storm", api.get("/labs")).await.unwrap();
        slowest = slowest.max(began.elapsed());
    }
    for answer in storm {
        // Wrong, or sent away to come back later.
        assert!(matches!(answer.await.unwrap(), (400, false) | (429, true)));
    }
    // One hash takes a tenth of this on the slowest machine; all of them in a row would take a minute.
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    // Names were all different, and so were addresses: nobody is locked out.
    server.api().log_in("alice", "correct horse").await.unwrap();
    assert_eq!(status(server.api().request(Method::POST, "/users/login/native", Some(&json!({}))).await), 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_that_storms_with_a_right_password_keeps_nobody_else_out() {
    let place = Place::new(User::Myself);
    add(&place, "alice", "correct horse", &[]);
    add(&place, "bob", "battery staple", &[]);
    let server = with_users(&place).await;
    let (http, url) = (antimony_host::client::http(), format!("{}/users/login/native", server.url));
    let log_in = |name: &str, password: &str, from: &str| {
        let request = http.post(&url).header("x-forwarded-for", from);
        let request = request.json(&json!({"username": name, "password": password}));
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let storm = (0..330).map(|_| async {
        loop {
            let status = log_in("alice", "correct horse", "198.51.100.1").await;
            assert!(matches!(status, 200 | 429), "{status}");
        }
    });
    let others = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..30 {
            let login = log_in("root", "root's own", "203.0.113.1");
            assert_eq!(within("the administrator", login).await, 200);
            let login = log_in("bob", "battery staple", "203.0.113.2");
            assert_eq!(within("another user", login).await, 200);
        }
    };
    tokio::select! {
        () = async { drop(futures::future::join_all(storm).await) } => unreachable!("it goes on for ever"),
        () = others => {}
    }
}
