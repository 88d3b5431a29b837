//! The OpenAPI document: where it is to be had, that it describes every route, and that every answer in it is really given.
//! That nothing else is given is held by `harness::rest` in all suites.

use std::collections::BTreeSet;

use antimony_host::client::{Exchange, http};
use antimony_host::store::MAX_FILE;
use reqwest::{Client as Http, RequestBuilder, header};
use serde_json::{Value, json};

use crate::ONE_NODE;
use crate::harness::rest::{self, Operation};
use crate::harness::{Capture, Place, Server, ServerBuilder, User, capture_path, eventually, run_program};

/// What other tests show: what becomes of a plugin, a database or a runtime that fails; captures that a policy refuses; logins
/// with a provider.
const ELSEWHERE: [&str; 10] = [
    " 500 5000",
    " 503 5000",
    " 503 5001",
    "/capture 403 5403",
    "/capture 500 5001",
    "/readyz 503",
    "/login/openid 302",
    "/login/success 302",
    "/login/success 401 5000",
    "/login/refresh 400 5000",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_printed_and_served_to_anybody() {
    let printed = run_program(&["openapi"]).await;
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    let document: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let server = Server::start().await;
    for path in ["/openapi.json", "/api/openapi.json"] {
        let answer = http().get(format!("{}{path}", server.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert_eq!(answer.text().await.unwrap(), printed.trim_end(), "{path}");
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_a_group_and_a_sentence() {
    let mut names = BTreeSet::new();
    let operations = rest::operations();
    assert!(operations.len() >= 31, "there are {}", operations.len());
    for Operation { name, json, .. } in operations {
        let id = json["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no name for programs"));
        assert!(names.insert(id), "{id} names two operations");
        assert_eq!(json["tags"].as_array().map(Vec::len), Some(1), "{name} belongs to one group");
        assert!(json["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{name} has no summary");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_nothing_but_this_server() {
    let server = Server::start().await;
    for root in ["", "/api"] {
        let address = format!("{}{root}/docs", server.url);
        let stays = antimony_host::client::http_builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let moved = stays.get(&address).send().await.unwrap();
        assert_eq!((moved.status().as_u16(), &moved.headers()["location"]), (308, &"docs/".parse().unwrap()));
        assert!(moved.text().await.unwrap().contains("<a href=\"docs/\">"), "for those who don't follow");
        // Following where `/docs` leads.
        let page = http().get(format!("{}{root}/docs", server.url)).send().await.unwrap();
        assert_eq!(page.url().path(), format!("{root}/docs/"));
        let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
        assert_eq!(page.headers()["content-type"], "text/html");
        let base = page.url().clone();
        let html = page.text().await.unwrap();
        assert!(!html.contains("<script>") && !html.contains("<style"), "what is within the page is not allowed to it");
        let named = ["src=\"", "href=\""].iter().flat_map(|start| html.split(start).skip(1));
        let named: BTreeSet<_> = named.filter_map(|rest| rest.split('"').next()).collect();
        assert!(named.contains("./swagger-initializer.js"), "{named:?}");
        for name in named {
            let file = base.join(name).unwrap();
            assert_eq!(file.origin(), base.origin(), "{name} is elsewhere");
            let answer = http().get(file).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{name}");
            assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        }
        let script =
            http().get(base.join("swagger-initializer.js").unwrap()).send().await.unwrap().text().await.unwrap();
        assert!(script.contains(r#""url": "../openapi.json""#), "{script}");
        let document = http().get(base.join("../openapi.json").unwrap()).send().await.unwrap();
        assert_eq!((document.status().as_u16(), document.url().path()), (200, format!("{root}/openapi.json").as_str()));
        let missing = http().get(base.join("no-such-file.js").unwrap()).send().await.unwrap();
        assert_eq!(missing.status(), 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_document_is_really_given() {
    let test = "all of the OpenAPI document";
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let place = Place::new(User::Myself);
    let config_file = place.data().parent().unwrap().join("config.yml");
    let full = "capacity: { collections: { full: { labs: 0 } } }";
    let few = "capture: { limitPerUser: 1, excludedInterfaces: [eth0] }";
    let validator =
        |entry: &str| format!("{full}\n{few}\nplugins:\n  command-validator:\n    - path: builtin:{entry}\n");
    let server = ServerBuilder::at(&place).config(&validator("command-validator")).start().await;
    let browser = Browser { server: &server, http: http() };
    let admin = server.admin().await;
    let member = server.member("member", &["course"]).await;

    for operation in rest::operations() {
        browser.what_every_request_can_meet(operation, &admin.token).await;
    }

    // Operators.
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/users/login/config",
        "/plugins",
        "/labs",
        "/capacity",
        "/devices",
        "/clab-schema",
    ] {
        browser.send(Some(&admin.token), "GET", path, None).await;
    }
    for (method, path) in [("GET", "/plugins"), ("POST", "/plugins/reload"), ("POST", "/plugins/rollback")] {
        browser.send(Some(&member.token), method, path, None).await;
    }
    browser.expect(400, &admin.token, "POST", "/plugins/rollback", None).await;
    let dialect = validator("command-validator\n      settings: { dialect: antimony-ui }");
    std::fs::write(&config_file, dialect).unwrap();
    browser.expect(200, &admin.token, "POST", "/plugins/reload", None).await;
    browser.expect(200, &admin.token, "POST", "/plugins/rollback", None).await;
    std::fs::write(&config_file, validator("no-such-plugin")).unwrap();
    browser.expect(400, &admin.token, "POST", "/plugins/reload", None).await;

    // Users.
    let login = server.api().log_in("admin", "admin").await.unwrap();
    server.api().refresh(&login.refresh_token).await.unwrap();
    server.api().log_in("admin", "wrong").await.unwrap_err();
    browser.send(None, "GET", "/users/login/refresh", None).await;
    browser.send(None, "POST", "/users/logout", None).await;
    for path in ["/users/login/openid", "/users/login/success"] {
        browser.send(None, "GET", path, None).await;
    }
    for path in ["/users/login/native", "/users/logout"] {
        browser.send_from("https://elsewhere.example", "POST", path).await;
    }

    // Collections.
    let course = admin.api.create_collection("course", false, false).await.unwrap();
    let named = |name: &str| Some(json!({ "name": name }));
    browser.expect(400, &admin.token, "POST", "/collections", named("course")).await;
    let other = admin.api.create_collection("other", false, false).await.unwrap();
    browser.expect(403, &member.token, "POST", "/collections", named("mine")).await;
    let (path, other_path) = (format!("/collections/{course}"), format!("/collections/{other}"));
    browser.expect(200, &admin.token, "PATCH", &path, Some(json!({}))).await;
    browser.expect(400, &admin.token, "PATCH", &path, named("other")).await;
    browser.expect(403, &member.token, "PATCH", &path, named("mine")).await;
    browser.expect(200, &member.token, "GET", "/collections", None).await;

    // Topologies.
    let of = |collection: &str, definition: &str| Some(json!({ "collectionId": collection, "definition": definition }));
    let another = ONE_NODE.replace("one", "another");
    let topology = admin.api.create_topology(&course, ONE_NODE).await.unwrap();
    for (status, token, body) in [
        (400, &admin.token, of(&course, ONE_NODE)),
        (400, &admin.token, of(&course, "")),
        (403, &member.token, of(&course, &another)),
        (404, &member.token, of(&other, &another)),
    ] {
        browser.expect(status, token, "POST", "/topologies", body).await;
    }
    let topology_path = format!("/topologies/{topology}");
    browser.expect(200, &admin.token, "GET", "/topologies", None).await;
    browser.expect(200, &admin.token, "PATCH", &topology_path, Some(json!({}))).await;
    browser.expect(403, &member.token, "PATCH", &topology_path, Some(json!({}))).await;
    browser.expect(400, &admin.token, "PATCH", &topology_path, Some(json!({ "definition": "" }))).await;
    admin.api.create_topology(&course, &another).await.unwrap();
    browser.expect(400, &admin.token, "PATCH", &topology_path, Some(json!({ "definition": another }))).await;

    // Bind files.
    let files = format!("{topology_path}/files");
    let at = |path: &str| Some(json!({ "filePath": path, "content": "hostname r1" }));
    let file = admin.api.create(&files, &at("r1.cfg").unwrap()).await.unwrap();
    admin.api.create(&files, &at("r2.cfg").unwrap()).await.unwrap();
    let file_path = format!("{files}/{file}");
    browser.expect(400, &admin.token, "POST", &files, at("r1.cfg")).await;
    for (method, path) in [("POST", &files), ("PATCH", &file_path), ("PUT", &file_path)] {
        browser.expect(400, &admin.token, method, path, at("r2.cfg")).await;
        browser.expect(400, &admin.token, method, path, at("../r1.cfg")).await;
        browser.expect(403, &member.token, method, path, at("r3.cfg")).await;
    }
    browser.expect(200, &admin.token, "PATCH", &file_path, Some(json!({ "content": "" }))).await;
    browser.expect(200, &admin.token, "PUT", &file_path, at("r1.cfg")).await;
    browser.expect(403, &member.token, "DELETE", &file_path, None).await;
    browser.expect(200, &admin.token, "DELETE", &file_path, None).await;

    // Labs.
    let start = "2030-01-31T08:00:00Z";
    let lab = |topology: &str| Some(json!({ "name": "lab", "startTime": start, "topologyId": topology }));
    browser.expect(403, &member.token, "POST", "/labs", lab(&topology)).await;
    browser.expect(404, &admin.token, "POST", "/labs", lab("nothing")).await;
    browser.expect(422, &admin.token, "GET", "/labs?limit=many", None).await;
    browser.expect(422, &admin.token, "GET", "/capacity?from=soon", None).await;
    let full = admin.api.create_collection("full", false, false).await.unwrap();
    let full = admin.api.create_topology(&full, ONE_NODE).await.unwrap();
    browser.expect(400, &admin.token, "POST", "/labs", lab(&full)).await;
    let lab = admin.api.create_lab(&topology, "lab").await.unwrap();
    let lab_path = format!("/labs/{lab}");
    browser.expect(200, &admin.token, "GET", &lab_path, None).await;
    browser.expect(200, &admin.token, "PATCH", &lab_path, named("monday")).await;
    browser.expect(403, &member.token, "PATCH", &lab_path, named("mine")).await;
    browser.expect(403, &member.token, "DELETE", &lab_path, None).await;
    browser.expect(400, &admin.token, "PATCH", &topology_path, Some(json!({ "collectionId": other }))).await;
    browser.expect(400, &admin.token, "DELETE", &topology_path, None).await;
    let stats = format!("{lab_path}/stats");
    browser.expect(400, &admin.token, "GET", &stats, None).await;
    browser.expect(400, &admin.token, "GET", &capture_path(&lab, "n1:lo", ""), None).await;
    let checkpoints = format!("{lab_path}/checkpoints");
    let save = format!("{lab_path}/save");
    browser.expect(400, &admin.token, "POST", &save, None).await;
    admin.deploy(&lab).await.unwrap();
    browser.expect(200, &member.token, "GET", &stats, None).await;
    let begun = Capture::begin(&admin, &lab, "n1:lo", "").await;
    browser.expect(429, &admin.token, "GET", &capture_path(&lab, "n1:lo", ""), None).await;
    drop(begun);
    eventually(async || {
        match browser.send(Some(&admin.token), "GET", &capture_path(&lab, "n1:lo", "seconds=1"), None).await {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    for (status, place) in
        [(400, "n1:eth0"), (404, "n1:eth9"), (404, "n2:lo"), (422, "n1:lo?packets=0"), (422, "n1:lo?snaplen=x")]
    {
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        browser.expect(status, &admin.token, "GET", &capture_path(&lab, place, query), None).await;
    }
    admin.command(&lab, 2, json!({ "node": "n1" })).await.unwrap();
    browser.expect(400, &admin.token, "GET", &capture_path(&lab, "n1:lo", ""), None).await;
    browser.expect(200, &admin.token, "POST", &save, None).await;
    browser.expect(403, &member.token, "POST", &save, None).await;
    browser.expect(200, &admin.token, "POST", &checkpoints, named("first")).await;
    browser.expect(400, &admin.token, "POST", &checkpoints, named("first")).await;
    browser.expect(403, &member.token, "POST", &checkpoints, named("mine")).await;
    let id = admin.api.get(&checkpoints).await.unwrap()[0]["id"].as_str().unwrap().to_owned();
    let checkpoint = format!("{checkpoints}/{id}");
    let (archive, restore) = (format!("{checkpoint}/archive"), format!("{checkpoint}/restore"));
    browser.expect(200, &admin.token, "GET", &checkpoint, None).await;
    browser.expect(200, &admin.token, "GET", &archive, None).await;
    browser.expect(403, &member.token, "POST", &restore, None).await;
    browser.expect(403, &member.token, "GET", &checkpoint, None).await;
    browser.expect(403, &member.token, "GET", &archive, None).await;
    browser.expect(200, &admin.token, "POST", &restore, None).await;
    // Somebody has taken the data folder apart.
    std::fs::remove_file(place.data().join(format!("checkpoints/{lab}/{id}.tar"))).unwrap();
    for (method, path) in [("GET", &checkpoint), ("GET", &archive), ("POST", &restore)] {
        browser.expect(400, &admin.token, method, path, None).await;
    }
    browser.expect(403, &member.token, "DELETE", &checkpoint, None).await;
    browser.expect(200, &admin.token, "DELETE", &checkpoint, None).await;
    browser.expect(400, &admin.token, "PATCH", &lab_path, named("tuesday")).await;
    browser.expect(400, &admin.token, "DELETE", &lab_path, None).await;
    admin.destroy(&lab).await.unwrap();
    browser.expect(200, &admin.token, "DELETE", &lab_path, None).await;

    // Taking it all away.
    browser.expect(403, &member.token, "DELETE", &topology_path, None).await;
    browser.expect(200, &admin.token, "DELETE", &topology_path, None).await;
    browser.expect(403, &member.token, "DELETE", &path, None).await;
    browser.expect(400, &admin.token, "DELETE", &path, None).await;
    browser.expect(200, &admin.token, "DELETE", &other_path, None).await;

    // Guessing, until the server has had enough.
    let guess = json!({ "username": "admin", "password": "wrong" });
    while browser.send(None, "POST", "/users/login/native", Some(guess.clone())).await != 429 {}

    let mut seen = rest::seen(&server.url);
    seen.extend(without_native_login().await);
    seen.extend(without_logs(test).await);
    let mut missing = rest::all_there_is();
    missing.retain(|answer| !seen.contains(answer) && !ELSEWHERE.iter().any(|end| answer.ends_with(end)));
    assert_eq!(missing, BTreeSet::new(), "in the document, and not seen");
}

/// What is seen of a server that nobody can log in to.
async fn without_native_login() -> BTreeSet<String> {
    let server = ServerBuilder::new(User::Myself).config("auth:\n  enableNative: false\n").start().await;
    server.api().log_in("admin", "admin").await.unwrap_err();
    rest::seen(&server.url)
}

/// What is seen of a server whose policy lets nobody read logs who isn't an administrator.
async fn without_logs(test: &str) -> BTreeSet<String> {
    let Some(policy) = crate::plugins::build(test, "tests/guests/obedient").await else {
        return BTreeSet::from(["GET /labs/{id}/stats 403 5403".to_owned()]);
    };
    let entry = format!("    - path: {}\n      settings: {{ deny: [lab-log] }}\n", policy.display());
    let config = format!("plugins:\n  auth-policy:\n    - path: builtin:auth-policy\n{entry}");
    let server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let (admin, member) = (server.admin().await, server.member("member", &["course"]).await);
    let lab = admin.create_lab("course", ONE_NODE).await;
    member.api.lab(&lab).await.unwrap();
    let refused = member.api.get(&format!("/labs/{lab}/stats")).await.unwrap_err();
    assert_eq!(refused.refusal(), Some((403, 5403)), "{refused}");
    rest::seen(&server.url)
}

/// Sends whatever a client may, and shows the answers to whoever holds them against the document.
struct Browser<'a> {
    server: &'a Server,
    http: Http,
}

impl Browser<'_> {
    /// No token, one that is none, an id that there isn't, and bodies that are no good; all as the document says that they
    /// matter to the operation.
    async fn what_every_request_can_meet(&self, operation: &Operation, admin: &str) {
        let named = |part: &str| if part.starts_with('{') { "nothing".to_owned() } else { part.to_owned() };
        let path = operation.path.split('/').map(named).collect::<Vec<_>>().join("/");
        let method = operation.method.to_uppercase();
        if operation.json.get("security").is_none() {
            for token in [None, Some("x")] {
                self.send(token, &method, &path, None).await;
            }
        }
        if operation.json.get("requestBody").is_some() {
            // What writes a file may say each of its bytes with six.
            let limit = if path.contains("/files") { 6 * MAX_FILE + (64 << 10) } else { 1 << 20 };
            let long = format!("{{\"name\": \"{}\"}}", "x".repeat(limit));
            for (content_type, body) in
                [("application/json", long.as_str()), ("application/json", "["), ("text/plain", "{}")]
            {
                self.send_as(Some(admin), &method, &path, content_type, body.to_owned()).await;
            }
        }
        if path != operation.path {
            let body = operation.json.get("requestBody").map(|_| json!({ "filePath": "r1.cfg", "name": "x" }));
            self.send(Some(admin), &method, &path, body).await;
        }
    }

    async fn expect(&self, status: u16, token: &str, method: &str, path: &str, body: Option<Value>) {
        let shown = format!("{method} {path} {body:?}");
        assert_eq!(self.send(Some(token), method, path, body).await, status, "{shown}");
    }

    async fn send(&self, token: Option<&str>, method: &str, path: &str, body: Option<Value>) -> u16 {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.send_as(token, method, path, "application/json", body).await
    }

    /// As a page of another site has a browser do it.
    async fn send_from(&self, origin: &str, method: &str, path: &str) {
        let url = format!("{}{path}", self.server.url);
        self.take(method, path, self.http.request(method.parse().unwrap(), url).header(header::ORIGIN, origin)).await;
    }

    async fn send_as(&self, token: Option<&str>, method: &str, path: &str, content_type: &str, body: String) -> u16 {
        let url = format!("{}{path}", self.server.url);
        let mut request = self.http.request(method.parse().unwrap(), url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type).body(body);
        }
        self.take(method, path, request).await
    }

    async fn take(&self, method: &str, path: &str, request: RequestBuilder) -> u16 {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let content_type = answer.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        let body = answer.text().await.unwrap();
        let base_url = &self.server.url;
        rest::take(&Exchange { base_url, method, path, status, content_type: &content_type, body: &body });
        status
    }
}
