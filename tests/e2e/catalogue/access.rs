//! Access: lines 30, 32 and 33; line 31 is `tokens`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use antimony_host::client::{ConnectError, Namespace};
use serde_json::{Value, json};

use crate::harness::{Client, Server, Shell, User, code_of};
use crate::{ONE_NODE, TWO_ROUTERS};

/// Everything that comes in a namespace until `sentinel` comes, and for a moment after.
async fn all_until(namespace: &mut Namespace, sentinel: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let event = crate::harness::next(namespace).await;
        seen.push(event.data().to_string());
        if sentinel(event.data()) {
            break;
        }
    }
    // What might still come of the other lab was sent before the sentinel; this is for what would be out of order.
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(200), namespace.next_event()).await {
        seen.push(event.data().to_string());
    }
    seen
}

/// Line 30.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_access_to_a_lab_gets_nothing_of_it_by_whatever_namespace_or_command() {
    if !User::Myself.can_run_labs("no access, by any namespace") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    // Names that occur nowhere else.
    let definition = TWO_ROUTERS.replace("two-routers", "zqx-secret");
    assert!(definition.contains("zqx-secret"));
    let hidden = admin.create_lab("zqx-course", &definition).await;
    let shown = admin.create_lab("elsewhere", ONE_NODE).await;
    let outsider = server.member("outsider", &["elsewhere"]).await;
    let mut updates = outsider.join("/lab-updates").await;
    let mut statuses = outsider.join("/status-messages").await;
    let mut shells = outsider.join("/shell-commands").await;

    // All that can happen to a lab, good and bad.
    admin.deploy(&hidden).await.unwrap();
    for command in [2, 3, 4] {
        admin.command(&hidden, command, json!({ "node": "r1" })).await.unwrap();
    }
    let mut shell = Shell::open(&admin, &hidden, "r1").await;
    shell.succeeds("true").await;
    let container =
        admin.api.lab(&hidden).await.unwrap()["instance"]["nodes"][0]["containerId"].as_str().unwrap().to_owned();

    let mut paths = Vec::new();
    for id in [hidden.clone(), hidden.to_uppercase()] {
        for prefix in ["/logs/", "/logs//", "//logs/", "/logs/./", "/logs/../logs/", "/LOGS/", "/logs%2f", "/"] {
            for suffix in ["", "/", "/r1", "/r2", "/R1", "/../r1", "?x=1", "#", " ", "\u{0}", "%00", "/*"] {
                paths.push(format!("{prefix}{id}{suffix}"));
            }
        }
        paths.push(format!("/logs/{id}/{container}"));
        paths.push(format!("/logs/{shown}/../{id}"));
    }
    for id in [&shell.id, &shell.id.to_uppercase()] {
        paths.extend(["", "/", "?x", "/..", " "].map(|suffix| format!("/shells/{id}{suffix}")));
    }
    for path in &paths {
        match outsider.try_join(path).await {
            Err(ConnectError::Refused(words)) => {
                assert!(["No Access", "Invalid namespace"].contains(&words.as_str()), "{path}: {words}");
            }
            Ok(_) => panic!("the outsider got into {path:?}"),
            // The library keeps what is behind a question mark to itself, and may refuse a packet as a whole.
            Err(error) => panic!("{path:?}: {error}"),
        }
    }
    for command in 0..=7 {
        let more = json!({ "node": "r1", "shellId": shell.id });
        match outsider.command(&hidden, command, more).await {
            // Listing is of one's own shells only.
            Ok(open) => assert_eq!((command, open), (5, json!([]))),
            Err(error) => {
                assert!([Some(5403), Some(5005)].contains(&error.code()), "command {command}: {error}");
                assert!(!error.to_string().contains("zqx-secret"), "{error}");
            }
        }
    }
    // Of a lab that one may see, nothing of another can be had.
    for more in [json!({ "shellId": shell.id }), json!({ "shellId": format!("../{}", shell.id) })] {
        let code = code_of(outsider.command(&shown, 7, more).await);
        assert!([5403, 5007].contains(&code), "{code}");
    }
    assert_eq!(shell.succeeds("echo $((40 + 2))").await, "42", "the shell is untouched");
    admin.command(&hidden, 7, json!({ "shellId": shell.id })).await.unwrap();
    admin.deploy(&hidden).await.unwrap();
    admin.destroy(&hidden).await.unwrap();
    code_of(admin.destroy(&hidden).await);
    admin.api.request(reqwest::Method::DELETE, &format!("/labs/{hidden}"), None).await.unwrap();

    // The end of what they are to hear of the other: all that was told before has been told by then.
    let member_shell = {
        let owner: &Client = &outsider;
        admin.deploy(&shown).await.unwrap();
        owner.open_shell(&shown, "n1").await
    };
    outsider.command(&shown, 7, json!({ "shellId": member_shell })).await.unwrap();
    admin.destroy(&shown).await.unwrap();
    let of_shown = |data: &Value| data["payload"]["labId"] == *shown;
    let all = [
        all_until(&mut updates, of_shown).await,
        all_until(&mut statuses, |data| {
            data["payload"]["content"].as_str().is_some_and(|text| text.contains("destroyed"))
        })
        .await,
        all_until(&mut shells, |data| data["payload"]["shellId"] == *member_shell).await,
    ]
    .concat();
    for secret in [hidden.as_str(), "zqx", &shell.id, &container] {
        let told: Vec<_> = all.iter().filter(|text| text.contains(secret)).collect();
        assert!(told.is_empty(), "{secret} was told of: {told:#?}");
    }
    for path in ["/labs", "/topologies", "/collections", "/labs?searchQuery=zqx", "/labs?limit=100&offset=0"] {
        let listed = outsider.api.get(path).await.unwrap().to_string();
        assert!(!listed.contains("zqx") && !listed.contains(&hidden), "{path}: {listed}");
    }
}

/// Line 31, for what comes after the connect: the next command of somebody whose token has expired does nothing, and the
/// whole connection is cut although it is in use all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_busy_when_its_token_expires_is_cut_all_the_same() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let token = server.short_token("student", &["course"], 4);
    let client = Client::connect(&server, &token).await;
    let mut updates = client.join("/lab-updates").await;
    let mut answered = 0;
    let mut last = Ok(json!([]));
    while let Ok(open) = &last {
        assert_eq!(*open, json!([]));
        answered += 1;
        last = client.command(&lab, 5, json!({})).await;
    }
    // Either the command came a moment too late, or the connection was gone.
    let error = last.unwrap_err();
    assert!(error.code() == Some(5403) || error == antimony_host::client::AckError::Closed, "{error}");
    assert!(answered > 1);
    while crate::harness::within("the end of the connection", updates.next_event()).await.is_some() {}
    let (status, _) = server.api().with_token(&token).get("/labs").await.unwrap_err().refusal().unwrap();
    assert_eq!(status, 498);
}

/// All files and folders below a folder.
fn tree(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() && !entry.path().is_symlink() {
            found.extend(tree(&entry.path()));
        }
        found.insert(entry.path());
    }
    found
}

/// Line 32, as far as paths come in today: by names that become names of files, and by what a topology binds.
#[tokio::test(flavor = "multi_thread")]
async fn names_and_binds_that_are_paths_are_refused_and_nothing_is_written_outside() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let member = server.member("student", &["course"]).await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let place = server.place().data();
    let outside =
        |tree: BTreeSet<PathBuf>| tree.into_iter().filter(|path| !path.starts_with(&place)).collect::<BTreeSet<_>>();
    let around = place.parent().unwrap();
    let before = outside(tree(around));
    for name in [
        "../escape",
        "..",
        ".",
        "/tmp/escape",
        "a/../../b",
        "a/b",
        "a\\\\b",
        "-escape",
        "~escape",
        "\\0",
        "a\\nb",
        ".escape",
    ] {
        let topology = ONE_NODE.replace("name: one", &format!("name: \"{name}\""));
        let error = admin.api.create_topology(&collection, &topology).await.expect_err(name);
        assert_eq!(error.refusal(), Some((400, 3003)), "{name}: {error}");
        let topology = ONE_NODE.replace("n1:", &format!("\"{name}\":"));
        let error = admin.api.create_topology(&collection, &topology).await.expect_err(name);
        assert_eq!(error.refusal(), Some((400, 3003)), "{name}: {error}");
        let topology = format!("prefix: \"{name}\"\n{ONE_NODE}");
        let error = admin.api.create_topology(&collection, &topology).await.expect_err(name);
        assert_eq!(error.refusal(), Some((400, 3003)), "{name}: {error}");
    }
    // By way of a name that is only shown, nothing is opened or made.
    let fine = admin.api.create_topology(&collection, ONE_NODE).await.unwrap();
    let odd = admin.api.create_lab(&fine, "../../escape").await.unwrap();
    if User::Myself.can_run_labs("paths in names") {
        admin.deploy(&odd).await.unwrap();
        admin.destroy(&odd).await.unwrap();
    }
    for (number, bind) in
        ["../escape:/x", "/etc:/x", "/etc/passwd:/x:ro", "a/../../..:/x", "~/x:/x"].into_iter().enumerate()
    {
        let topology = format!(
            "name: binds-{number}\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      binds: [\"{bind}\"]\n"
        );
        let Ok(topology) = member.api.create_topology(&collection, &topology).await else { continue };
        match member.api.create_lab(&topology, "lab").await {
            Err(error) => assert_eq!(error.refusal().map(|(status, _)| status), Some(403), "{bind}: {error}"),
            Ok(lab) => assert_eq!(code_of(member.deploy(&lab).await), 5403, "{bind}"),
        }
    }
    assert_eq!(outside(tree(around)), before, "something was written outside of the data folder");
    for escaped in ["/tmp/escape", "/escape"] {
        assert!(!Path::new(escaped).exists(), "{escaped}");
    }
}

/// Line 33, as far as there is a login: nobody is sent anywhere. That a refresh token is no access token is `tokens`.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_answered_with_a_redirect_to_another_site() {
    let server = Server::start().await;
    let http = antimony_host::client::http_builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let elsewhere = "http%3A%2F%2Felsewhere.example%2F";
    for path in [
        "/users/login/openid",
        "/users/login/success",
        "/users/login/native",
        "/users/login/refresh",
        "/users/logout",
        "/",
        "//elsewhere.example/",
        "/labs",
    ] {
        for query in [
            "",
            &format!("?redirect={elsewhere}"),
            &format!("?next={elsewhere}&state={elsewhere}&code=x"),
            "?redirect=//elsewhere.example",
        ] {
            for base in ["", "/api"] {
                let request =
                    http.get(format!("{}{base}{path}{query}", server.url)).header("host", "elsewhere.example");
                let answer = crate::harness::within("an answer", request.send()).await.unwrap();
                let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
                let goes_elsewhere =
                    |to: &String| !to.starts_with('/') || to.starts_with("//") || to.starts_with("/\\");
                assert!(!location.as_ref().is_some_and(goes_elsewhere), "{base}{path}{query} leads to {location:?}");
            }
        }
    }
}
