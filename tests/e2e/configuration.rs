//! Configurations as operators have them: those of other Antimony servers as they are, misspelt ones, and what
//! `antimony-host config` says about them. The real program each time.

use std::fs;
use std::process::Output;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{NotStarted, Place, Server, ServerBuilder, User, output_of};

/// In the form of the files of other Antimony servers.
const OF_ANOTHER_SERVER: &str = include_str!("config_of_antimony.yml");

/// The same, with any free port, since a test can't have one for itself.
fn of_another_server() -> String {
    OF_ANOTHER_SERVER.replace("port: 3100", "port: 0")
}

/// What the program says about a configuration, and how it ends.
async fn check(text: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (String, i32, Arc<Place>) {
    let place = Place::new(User::Myself);
    let file = place.data().with_file_name("config.yml");
    fs::write(&file, text).unwrap();
    let mut command = place.command();
    command.args(["config", "check", "config.yml"]).args(arguments).envs(environment.iter().copied());
    let Output { status, stdout, stderr } = output_of(command).await;
    let said = String::from_utf8(stdout).unwrap();
    let code = status.code().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&stderr)));
    (said, code, place)
}

fn has_line(said: &str, words: &[&str]) -> bool {
    said.lines().any(|line| words.iter().all(|word| line.contains(word)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_another_antimony_server_and_its_variables_start_this_one() {
    let variables = [("SB_NATIVE_USERNAME", "ada"), ("SB_NATIVE_PASSWORD", "lovelace"), ("SB_JWT_SECRET", "unused")];
    let start = async |place: &Arc<Place>| -> Server {
        let builder = ServerBuilder::at(place).config(&of_another_server()).by_its_configuration();
        variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value)).start().await
    };
    let place = Place::new(User::Myself);
    let other = place.data().with_file_name("lab-storage").join("topology-of-the-other-server");
    fs::create_dir_all(&other).unwrap();
    let mut server = start(&place).await;
    assert!(server.url.starts_with("http://0.0.0.0:"), "{}", server.url);
    let login = server.api().log_in("ada", "lovelace").await.expect("the variables say who may log in");
    let api = server.api().with_token(&login.access_token);
    api.create("/collections", &json!({"name": "course", "publicWrite": true, "publicDeploy": true}))
        .await
        .expect("made");

    let log = server.log().to_owned();
    for words in [
        &["WARN", "config.yml:", "capture.sshPort: it means nothing here", "over HTTP"][..],
        &["WARN", "config.yml:", "streaming", "logs.firstBytes"],
        &["WARN", "config.yml:", "containerlab.kindsConfig", "shell.commands"],
        &["WARN", "SB_JWT_SECRET", "data folder"],
    ] {
        assert_eq!(
            log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count(),
            1,
            "{words:?}: {log}"
        );
    }
    let root = place.data().parent().unwrap().to_owned();
    assert!(root.join("lab-storage/antimony-host/signing.key").exists());
    assert!(root.join("lab-run/antimony-host").is_dir());
    assert!(other.is_dir(), "what was there is left alone");
    assert!(fs::read_dir(place.data()).unwrap().next().is_none(), "nothing is kept elsewhere");

    drop(server);
    let server = start(&place).await;
    let login = server.api().log_in("ada", "lovelace").await.unwrap();
    let collections = server.api().with_token(&login.access_token).get("/collections").await.unwrap();
    assert_eq!(collections[0]["name"], "course", "it is kept where the file says");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_this_server_has_not_is_refused_when_it_starts() {
    let text = "deployment:\n  provider: clabernetes\n";
    let Err(NotStarted { output, .. }) = ServerBuilder::new(User::Myself).config(text).try_start().await else {
        panic!("it started");
    };
    assert!(has_line(&output, &["config.yml:2:3: deployment.provider: ", "Kubernetes"]), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_counts_and_where_it_comes_from_and_shows_no_secret() {
    let environment = [("SB_NATIVE_USERNAME", "ada"), ("SB_NATIVE_PASSWORD", "hunter2")];
    let (said, status, place) = check(&of_another_server(), &[], &environment).await;
    assert_eq!(status, 0, "{said}");
    for words in [
        &["warning: config.yml:", "capture.sshHost: it means nothing here"][..],
        &["server.port = 0 ", "# line 5"],
        &["shell.userLimit = 12 ", "# line 1"],
        &["logs.firstBytes = 262144 ", "# default"],
        &["fileSystem.storage = \"./lab-storage/\"", "# line "],
        &["SB_NATIVE_USERNAME = \"ada\"", "# SB_NATIVE_USERNAME"],
        &["SB_NATIVE_PASSWORD = \"(hidden)\""],
        &["A server would start with config.yml"],
    ] {
        assert!(has_line(&said, words), "{words:?}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    assert!(!place.data().with_file_name("lab-storage").exists(), "nothing was made");

    let (said, status, _) = check(&of_another_server(), &["--strict"], &environment).await;
    assert_eq!(status, 1, "{said}");
    let (said, status, _) = check(&of_another_server(), &["--json"], &environment).await;
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, &report["ok"], &report["errors"]), (0, &json!(true), &json!([])));
    let port = report["values"].as_array().unwrap().iter().find(|row| row["key"] == "server.port").unwrap();
    assert_eq!(*port, json!({"key": "server.port", "value": 0, "from": {"file": {"line": 5, "column": 3}}}));
    let warning = report["warnings"].as_array().unwrap().iter().find(|one| one["key"] == "ssh").unwrap();
    assert!(warning["line"].is_u64() && warning["column"] == 1, "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_everything_that_would_keep_a_server_from_starting() {
    let text = "server: {prot: 1}\nlogs: {firstBytes: many}\nplugins:\n  auth-policy:\n    - path: a.wasm\n      on-eror: refuse\n";
    let (said, status, _) = check(text, &[], &[]).await;
    assert_eq!(status, 1, "{said}");
    for words in [
        &["error: config.yml:2:20: logs.firstBytes: "][..],
        &["error: config.yml:6:7: plugins.auth-policy[0].on-eror: ", "`plugins.auth-policy[0].on-error`"],
        &["warning: config.yml:1:10: server.prot: ", "`server.port`"],
    ] {
        assert!(has_line(&said, words), "{words:?}: {said}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "server: {{port: {}}}\nfileSystem: {{storage: /proc}}\nplugins: {{auth-policy: [{{path: nowhere.wasm}}]}}\n",
        taken.local_addr().unwrap().port()
    );
    let (said, status, _) = check(&text, &[], &[("SB_NATIVE_PASWORD", "x"), ("SB_NATIVE_USERNAME", "ada")]).await;
    assert_eq!(status, 1, "{said}");
    for words in [
        &["error: server: ", "another program listens there"][..],
        &["error: auth: ", "SB_NATIVE_PASSWORD"],
        &["error: fileSystem.storage: ", "/proc/antimony-host"],
        &["error: plugins: ", "nowhere.wasm"],
        &["warning: SB_NATIVE_PASWORD: ", "SB_NATIVE_PASSWORD meant"],
    ] {
        assert!(has_line(&said, words), "{words:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_shows_what_is_computed_asks_no_database_and_looks_at_what_is_named() {
    let text = "server: {port: 0}\ndatabase: {kind: postgres, host: /nowhere, startTimeout: 0}\n\
                auth:\n  enableOpenId: true\n  openIdIssuer: http://127.0.0.1:1\n  openIdClientId: labs\n  \
                openIdRedirectHost: http://labs.test\ncontainerlab: {deviceConfig: kinds.json, schemaFallback: nowhere.json}\n";
    let place = Place::new(User::Myself);
    let root = place.data().parent().unwrap().to_owned();
    fs::write(root.join("config.yml"), text).unwrap();
    fs::write(root.join("kinds.json"), r#"[{"kind": "linux"}]"#).unwrap();
    let check = async |secret: &str, data: &[&str]| {
        let mut command = place.command();
        command.args(["config", "check", "config.yml"]).args(data).env("SB_OIDC_SECRET", secret);
        let output = output_of(command).await;
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        said
    };
    let said = check("", &[]).await;
    for words in [
        &["warning: auth.openIdClientSecret: ", "SB_OIDC_SECRET isn't set"][..],
        &["warning: containerlab.deviceConfig: ", "kinds.json", "interfacePattern"],
        &["warning: containerlab.schemaFallback: ", "nowhere.json", "No such file"],
        &["runtime = \"auto\"", "# default"],
        &["server.trustedProxies = [\"127.0.0.0/8\",\"::1\"]", "# default"],
        &["shell.commands = ", "\"default\":[\"bash\",\"sh\"]"],
        &["plugins.auth-policy = ", "builtin:auth-policy"],
        &["auth.usersFile = \"antimony-data/users.yml\"", "# default"],
        &["fileSystem.run = \"antimony-data/run\"", "# default"],
        &["database.kind = \"postgres\"", "# line 2"],
        &["database.sslMode = \"prefer\"", "# default"],
        &["A server would start with config.yml"],
    ] {
        assert!(has_line(&said, words), "{words:?}: {said}");
    }
    let said = check("a secret", &["--data", "elsewhere"]).await;
    assert!(!said.contains("openIdClientSecret: "), "{said}");
    assert!(has_line(&said, &["fileSystem.storage = \"elsewhere\"", "# --data"]), "{said}");
    // What is wrong with how it would be reached is said all the same.
    fs::write(root.join("config.yml"), text.replace("startTimeout: 0", "sslRootCert: no.pem")).unwrap();
    let mut command = place.command();
    let output = output_of({
        command.args(["config", "check", "config.yml"]);
        command
    });
    let output = output.await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && has_line(&said, &["error: database: ", "no.pem"]), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_and_the_doctor_look_at_tls_and_the_web_client_as_a_start_does() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "server:\n  port: 0\n  tls: {{certificate: none.pem, key: none.key, redirectFrom: \"{}\"}}\nui: {{dir: nowhere}}\n",
        taken.local_addr().unwrap()
    );
    let (said, status, place) = check(&text, &[], &[]).await;
    assert_eq!(status, 1, "{said}");
    for words in [
        &["error: server.tls: ", "none.pem"][..],
        &["error: server.tls.redirectFrom: ", "another program listens there"],
        &["error: ui.dir: ", "nowhere"],
    ] {
        assert!(has_line(&said, words), "{words:?}: {said}");
    }
    assert!(!said.contains("A server would start") && !said.contains("ui.dir: ui.dir"), "{said}");
    let mut command = place.command();
    command.args(["doctor", "--json", "--config", "config.yml"]);
    let output = output_of(command).await;
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (check, word) in [("tls", "none.pem"), ("redirect", "another program listens"), ("web client", "nowhere")] {
        let found = report["checks"].as_array().unwrap().iter().find(|found| found["check"] == check).unwrap();
        assert!(found["verdict"] == "problem" && found["found"].as_str().unwrap().contains(word), "{found}");
    }

    // What can be used is no error, and two can't listen at one place.
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let data = place.data();
    let root = data.parent().unwrap();
    fs::write(root.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(root.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::create_dir(root.join("client")).unwrap();
    fs::write(root.join("client/index.html"), "<p>").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    for (redirect, expected) in [("127.0.0.1:0".to_owned(), 0), (format!("127.0.0.1:{port}"), 1)] {
        let text = format!(
            "server:\n  host: 127.0.0.1\n  port: {port}\n  tls: {{certificate: cert.pem, key: key.pem, redirectFrom: \"{redirect}\"}}\nui: {{dir: client}}\n"
        );
        fs::write(root.join("config.yml"), text).unwrap();
        let mut command = place.command();
        command.args(["config", "check", "config.yml"]);
        let output = output_of(command).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(expected), "{said}");
        assert_eq!(said.contains("error: server.tls.redirectFrom: "), expected == 1, "{said}");
    }
}
