//! A server that can't start says why, and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Client, NotStarted, Place, Server, ServerBuilder, User, output_of, run_program};

/// Starts a server that must not start; answers what it said.
async fn not_started(builder: ServerBuilder) -> String {
    match builder.try_start().await {
        Ok(server) => panic!("the server started at {}", server.url),
        Err(NotStarted { status, output }) => {
            assert_eq!(status.code(), Some(1), "an error, neither a panic nor a signal: {output}");
            assert!(!output.contains("panicked"), "{output}");
            output
        }
    }
}

fn says(output: &str, words: &[&str]) {
    for word in words {
        assert!(output.contains(word), "{word:?} is missing in: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = not_started(ServerBuilder::new(User::Myself).listen(&address)).await;
    says(&output, &[&address, "--listen"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_is_named_with_file_line_and_key() {
    for (text, words) in [
        (
            "logs:\n  firstBytes: 20\n  latestBites: 5\n",
            &["config.yml:3:3: logs.latestBites", "`logs.latestBytes`"][..],
        ),
        ("server:\n  port: many\n", &["port", "2"]),
        ("server:\n  host: 127.0.0.1\n port: 1\n", &["3"]),
        ("auth: [\n", &["1"]),
        ("plugins:\n  auth-polcy: []\n", &["auth-polcy", "2"]),
    ] {
        let output = not_started(ServerBuilder::new(User::Myself).config(text)).await;
        says(&output, &["config.yml"]);
        says(&output, words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_cannot_be_loaded_is_named_with_what_is_wrong() {
    let missing = "plugins:\n  auth-policy:\n    - path: nowhere.wasm\n";
    says(&not_started(ServerBuilder::new(User::Myself).config(missing)).await, &["nowhere.wasm"]);
    let builder = ServerBuilder::new(User::Myself);
    fs::write(builder.data().join("random.wasm"), b"\0asm and then nothing of the kind").unwrap();
    let random = "plugins:\n  auth-policy:\n    - path: data/random.wasm\n";
    says(&not_started(builder.config(random)).await, &["random.wasm"]);
    let unknown = "plugins:\n  auth-policy:\n    - path: builtin:nothing\n";
    says(&not_started(ServerBuilder::new(User::Myself).config(unknown)).await, &["builtin:nothing"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_cannot_be_written_is_named() {
    let builder = ServerBuilder::new(User::Ordinary);
    let data = builder.data();
    // Root's own folder, or, where the tests aren't root's, one that they have locked themselves.
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&data, Some(0), Some(0)).unwrap();
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555)).unwrap();
    let output = not_started(builder).await;
    says(&output, &[data.to_str().unwrap()]);

    let builder = ServerBuilder::new(User::Myself);
    let data = builder.data();
    fs::remove_dir(&data).unwrap();
    fs::write(&data, "a file").unwrap();
    says(&not_started(builder).await, &[data.to_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_serves_one_server_at_a_time() {
    let server = Server::start().await;
    let output = not_started(ServerBuilder::at(server.place())).await;
    says(&output, &[server.place().data().to_str().unwrap(), "--data"]);
    server.admin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_file_serves_one_server_at_a_time_wherever_the_others_keep_the_rest() {
    let places = [Place::new(User::Myself), Place::new(User::Myself)];
    let file = places[0].data().with_file_name("shared.db");
    let link = places[1].data().with_file_name("link.db");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let by = |path: &std::path::Path| format!("database: {{ localFile: '{}' }}\n", path.display());
    let mut first = ServerBuilder::at(&places[0]).config(&by(&file)).start().await;

    let refused = ["link.db", "can't be used: another server uses it: end that one"];
    says(&not_started(ServerBuilder::at(&places[1]).config(&by(&link))).await, &refused);
    // Who would only write into it is refused as well, and who looks is told.
    let config = places[1].data().with_file_name("config.yml");
    fs::write(&config, by(&link)).unwrap();
    fs::write(places[1].data().with_file_name("other.db"), "").unwrap();
    let mut import = places[1].command();
    import.args(["import", "--dry-run", "--from", "other.db", "--storage", ".", "--data"]).arg(places[1].data());
    let import = output_of({
        import.arg("--config").arg(&config);
        import
    });
    says(&String::from_utf8(import.await.stderr).unwrap(), &refused);
    let mut check = places[1].command();
    check.args(["config", "check"]).arg(&config).arg("--data").arg(places[1].data());
    says(&String::from_utf8(output_of(check).await.stdout).unwrap(), &refused);

    first.admin().await.api.create_collection("course", true, true).await.unwrap();
    assert!(first.terminate().await.success());
    let second = ServerBuilder::at(&places[1]).config(&by(&link)).start().await;
    assert_eq!(second.admin().await.api.get("/collections").await.unwrap()[0]["name"], "course");
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_for_other_machines_needs_a_login_of_its_own() {
    let output = not_started(ServerBuilder::new(User::Myself).listen("0.0.0.0:0")).await;
    says(&output, &["0.0.0.0", "SB_NATIVE_USERNAME", "SB_NATIVE_PASSWORD"]);
    let half = ServerBuilder::new(User::Myself).env("SB_NATIVE_USERNAME", "ada");
    says(&not_started(half).await, &["SB_NATIVE_PASSWORD"]);

    let builder = ServerBuilder::new(User::Myself).listen("0.0.0.0:0");
    let server = builder.env("SB_NATIVE_USERNAME", "ada").env("SB_NATIVE_PASSWORD", "lovelace").start().await;
    let refused = server.api().log_in("admin", "admin").await.unwrap_err();
    assert_eq!(refused.refusal(), Some((400, 1001)));
    let login = server.api().log_in("ada", "lovelace").await.unwrap();
    Client::connect(&server, &login.access_token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_user_namespaces_one_sentence_says_what_to_switch_on() {
    if !User::Ordinary.can_run_labs("a machine without user namespaces") {
        return;
    }
    // The limit is one of each user namespace, so that of a machine is lowered in one that stands for it. The rights that
    // this takes are gone before the server runs.
    let without = [
        "unshare",
        "--user",
        "--map-current-user",
        "--keep-caps",
        "sh",
        "-c",
        "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --inh-caps=-all --ambient-caps=-all \"$@\"",
        "sh",
    ];
    let output = not_started(ServerBuilder::new(User::Ordinary).through(&without)).await;
    says(&output, &["user.max_user_namespaces"]);
    let sentences = output.lines().filter(|line| line.starts_with("antimony-host: ")).count();
    assert_eq!(sentences, 1, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_configuration_is_named() {
    let output = run_program(&["serve", "--listen", "127.0.0.1:0", "--config", "/nowhere/antimony.yml"]).await;
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8_lossy(&output.stderr), &["/nowhere/antimony.yml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_configuration_is_what_the_server_does_without_one() {
    let server = ServerBuilder::new(User::Myself).config(include_str!("../../examples/antimony.yml")).start().await;
    server.admin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_login_is_not_for_web_pages() {
    let server = Server::start().await;
    let port = server.url.rsplit(':').next().expect("a port").to_owned();
    let http = antimony_host::client::http();
    let get = async |path: &str, host: &str| {
        let answer = http.get(format!("{}{path}", server.url)).header("Host", host).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for path in ["/users/login/config", "/socket.io/?EIO=4&transport=polling"] {
        for host in [format!("localhost:{port}"), "127.0.0.1".to_owned(), format!("[::1]:{port}")] {
            assert_eq!(get(path, &host).await.0, 200, "{path} at {host}");
        }
        let (status, said) = get(path, &format!("rebound.example:{port}")).await;
        assert!(status == 403 && said.contains("SB_NATIVE_PASSWORD"), "{status} {said}");
    }
    let url = format!("{}/users/login/native", server.url);
    let login = r#"{"username": "admin", "password": "admin"}"#;
    for (content_type, status) in [("text/plain", 415), ("application/json; charset=utf-8", 200)] {
        let answer = http.post(&url).header("Content-Type", content_type).body(login).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{content_type}");
    }

    let builder = ServerBuilder::new(User::Myself).env("SB_NATIVE_USERNAME", "me").env("SB_NATIVE_PASSWORD", "secret");
    let own = builder.start().await;
    let answer =
        http.get(format!("{}/users/login/config", own.url)).header("Host", "labs.example").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "with a login of one's own any name is right");
}
