//! The REST resources, row by row, as deployed clients use them: what each answers, to whom, and with which status and code it
//! refuses what. Each row is asked at `/…` and at `/api/…`.

use jiff::{Timestamp, ToSpan};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ONE_NODE;
use crate::harness::{Server, User};

const NOWHERE: &str = "01890000-0000-7000-8000-000000000000";

/// Who asks.
#[derive(Debug, Clone, Copy)]
enum By {
    Nobody,
    Admin,
    /// Belongs to the collection `course`.
    Member,
    /// Belongs to another.
    Stranger,
}

/// An answer, as it came.
struct Came {
    status: StatusCode,
    total: Option<String>,
    body: Value,
}

struct Table {
    server: Server,
    http: reqwest::Client,
    admin: String,
    member: String,
    stranger: String,
}

impl Table {
    async fn new(server: Server) -> Self {
        let admin = server.api().log_in("admin", "admin").await.unwrap().access_token;
        let (member, stranger) = (server.token("student", &["course"]), server.token("stranger", &["other"]));
        Self { server, http: antimony_host::client::http(), admin, member, stranger }
    }

    async fn ask(&self, by: By, method: &str, path: &str, body: &Value) -> Came {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.server.url));
        request = match by {
            By::Nobody => request,
            By::Admin => request.bearer_auth(&self.admin),
            By::Member => request.bearer_auth(&self.member),
            By::Stranger => request.bearer_auth(&self.stranger),
        };
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let total = answer.headers().get("x-total-count").map(|value| value.to_str().unwrap().to_owned());
        Came { status, total, body: answer.json().await.unwrap() }
    }

    /// The payload of what has to work.
    async fn ok(&self, by: By, method: &str, path: &str, body: Value) -> Value {
        let came = self.ask(by, method, path, &body).await;
        assert_eq!(came.status, StatusCode::OK, "{by:?} {method} {path} {body}: {}", came.body);
        assert_eq!(came.body.as_object().unwrap().len(), 1, "{}", came.body);
        if method == "GET" {
            let again = self.ask(by, method, &format!("/api{path}"), &body).await;
            assert_eq!((again.status, &again.body, &again.total), (came.status, &came.body, &came.total), "/api{path}");
        }
        came.body["payload"].clone()
    }

    async fn id(&self, by: By, path: &str, body: Value) -> String {
        self.ok(by, "POST", path, body).await.as_str().unwrap().to_owned()
    }

    /// Refusals: who asks for what, and the status, the code and a part of the message that has to come.
    async fn refuses(&self, rows: &[(By, &str, &str, Value, u16, i64, &str)]) {
        for (by, method, path, body, status, code, part) in rows {
            for path in [(*path).to_owned(), format!("/api{path}")] {
                let came = self.ask(*by, method, &path, body).await;
                let row = format!("{by:?} {method} {path} {body}: {} {}", came.status, came.body);
                assert_eq!((came.status.as_u16(), came.body["code"].as_i64()), (*status, Some(*code)), "{row}");
                let message = came.body["message"].as_str().unwrap();
                assert!(message.contains(part) && !message.is_empty(), "{part:?} is missing: {row}");
                assert_eq!(came.body.as_object().unwrap().len(), 2, "{row}");
            }
        }
    }
}

fn bound(name: &str, bind: &str) -> String {
    format!("name: {name}\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      binds: [\"{bind}\"]\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_and_what_everybody_may_ask() {
    let on = Table::new(Server::start().await).await;
    let config = on.ok(By::Nobody, "GET", "/users/login/config", Value::Null).await;
    assert_eq!(config["native"], json!({"enabled": true, "allowEmpty": false}));
    assert!(config["openId"]["enabled"].is_boolean());
    let schema = on.ok(By::Nobody, "GET", "/clab-schema", Value::Null).await;
    assert!(schema["definitions"]["node-config"]["properties"]["kind"]["enum"].as_array().unwrap().len() > 50);
    let wrong = json!({"username": "admin", "password": "wrong"});
    on.refuses(&[
        (By::Nobody, "POST", "/users/login/native", wrong, 400, 1001, "wrong"),
        (By::Nobody, "POST", "/users/login/native", json!({"username": "admin"}), 422, 5422, "password"),
        (By::Nobody, "GET", "/users/login/refresh", Value::Null, 401, 5000, "log in"),
        (By::Nobody, "GET", "/collections", Value::Null, 401, 5000, "log in"),
        (By::Nobody, "GET", "/topologies", Value::Null, 401, 5000, "log in"),
        (By::Nobody, "GET", "/labs", Value::Null, 401, 5000, "log in"),
        (By::Nobody, "GET", "/devices", Value::Null, 401, 5000, "log in"),
        (By::Nobody, "POST", "/topologies/x/files", json!({}), 401, 5000, "log in"),
        (By::Admin, "GET", "/nowhere", Value::Null, 404, 5005, "/nowhere"),
        (By::Admin, "PUT", "/labs", json!({}), 405, 5000, "PUT"),
    ])
    .await;
    let expired = on.server.short_token("student", &["course"], -100);
    let answer = on.http.get(format!("{}/labs", on.server.url)).bearer_auth(expired).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 498);

    let devices = on.ok(By::Member, "GET", "/devices", Value::Null).await;
    let devices = devices.as_array().unwrap();
    for (kind, pattern, start) in [("linux", "eth$", 1), ("nokia_srlinux", "e1-$", 1), ("ceos", "eth$", 1)] {
        let device = devices.iter().find(|device| device["kind"] == kind).expect(kind);
        assert_eq!((&device["interfacePattern"], &device["interfaceStart"]), (&json!(pattern), &json!(start)));
        assert_eq!(device.as_object().unwrap().len(), 4, "{device}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_row_by_row() {
    let on = Table::new(Server::start().await).await;
    let course = json!({"name": "course", "publicWrite": true, "publicDeploy": false});
    let id = on.id(By::Admin, "/collections", course.clone()).await;
    on.id(By::Admin, "/collections", json!({"name": "second", "publicWrite": false, "publicDeploy": false})).await;
    let path = &*format!("/collections/{id}");
    on.refuses(&[
        (By::Member, "POST", "/collections", json!({"name": "mine"}), 403, 5403, "auth-policy"),
        (By::Admin, "POST", "/collections", course, 400, 2001, "course"),
        (By::Admin, "POST", "/collections", json!({"name": " "}), 422, 5422, "name"),
        (By::Admin, "POST", "/collections", json!({}), 422, 5422, "name"),
        (
            By::Admin,
            "POST",
            "/collections",
            json!({"name": "a", "publicWrite": 1}),
            422,
            5422,
            "publicWrite: it should be true or false, and is the number 1",
        ),
        (By::Admin, "PATCH", path, json!({"name": "second"}), 400, 2001, "second"),
        (By::Member, "PATCH", path, json!({"publicDeploy": true}), 403, 5403, "auth-policy"),
        (By::Stranger, "PATCH", path, json!({"publicDeploy": true}), 404, 5005, &id),
        (By::Member, "DELETE", path, Value::Null, 403, 5403, "auth-policy"),
        (By::Admin, "DELETE", &format!("/collections/{NOWHERE}"), Value::Null, 404, 5005, NOWHERE),
    ])
    .await;
    on.ok(By::Admin, "PATCH", path, json!({"publicDeploy": true})).await;
    let seen = on.ok(By::Member, "GET", "/collections", Value::Null).await;
    let creator = seen[0]["creator"].clone();
    assert_eq!(
        seen,
        json!([{"id": id, "name": "course", "publicWrite": true, "publicDeploy": true, "creator": creator}])
    );
    assert!(creator["id"].is_string() && creator["name"].is_string());
    assert_eq!(on.ok(By::Stranger, "GET", "/collections", Value::Null).await, json!([]));
    on.ok(By::Admin, "DELETE", path, Value::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topologies_and_their_files_row_by_row() {
    let on = Table::new(Server::start().await).await;
    let collection = on.id(By::Admin, "/collections", json!({"name": "course", "publicWrite": true})).await;
    let new =
        |definition: &str| json!({"collectionId": collection, "definition": definition, "syncUrl": "https://x/y"});
    let id = on.id(By::Member, "/topologies", new(ONE_NODE)).await;
    let other = on.id(By::Admin, "/topologies", new(&ONE_NODE.replace("name: one", "name: two"))).await;
    let path = &*format!("/topologies/{id}");
    let files = &*format!("{path}/files");
    let body = |file: &str, content: &str| json!({"filePath": file, "content": content});
    let first = on.id(By::Member, files, body("./conf/r1.cfg", "hostname r1\n")).await;
    let second = on.id(By::Member, files, json!({"filePath": "empty"})).await;
    let file = &*format!("{files}/{first}");

    let theirs = format!("/topologies/{other}");
    let mut rows = vec![
        (By::Member, "POST", "/topologies", new(ONE_NODE), 400, 3001, "one"),
        (By::Member, "POST", "/topologies", new("name: [\n"), 400, 3003, "line"),
        (By::Member, "POST", "/topologies", json!({"collectionId": collection}), 422, 5422, "definition"),
        (By::Stranger, "POST", "/topologies", new(ONE_NODE), 404, 5005, "collection"),
        (By::Member, "PATCH", path, json!({"definition": "x"}), 400, 3003, ""),
        (By::Admin, "PATCH", path, json!({"definition": ONE_NODE.replace("name: one", "name: two")}), 400, 3001, "two"),
        (By::Admin, "PATCH", path, json!({"collectionId": NOWHERE}), 404, 5005, NOWHERE),
        (By::Member, "PATCH", &theirs, json!({"definition": ONE_NODE}), 403, 5403, "creator"),
        (By::Stranger, "DELETE", path, Value::Null, 404, 5005, &id),
        // The files: taken, bad, too large, not theirs, not there.
        (By::Member, "POST", files, body("conf/r1.cfg", ""), 400, 4001, "conf/r1.cfg"),
        (By::Member, "POST", files, body("conf/./r1.cfg", ""), 400, 4001, "conf/r1.cfg"),
        (By::Member, "PATCH", file, json!({"filePath": "empty"}), 400, 4001, "empty"),
        (By::Member, "PUT", file, body("empty", ""), 400, 4001, "empty"),
        (By::Member, "PATCH", file, json!({"filePath": "../x"}), 400, 4002, "filePath"),
        (By::Member, "POST", files, json!({"content": "x"}), 422, 5422, "filePath"),
        (By::Member, "POST", files, json!({"filePath": 5}), 422, 5422, "filePath"),
        (By::Member, "POST", files, body("nul", "a\0b"), 422, 5422, "NUL"),
        (By::Stranger, "POST", files, body("x", ""), 404, 5005, &id),
        (By::Stranger, "DELETE", file, Value::Null, 404, 5005, &id),
    ];
    let big = "x".repeat((1 << 20) + 1);
    rows.push((By::Member, "POST", files, body("big", &big), 422, 5422, "1048576"));
    let long = "a".repeat(600);
    let bad = ["", "/etc/x", "..", "a/../b", "a\0b", "a//b", "a/", "~/x", "__clabDir__/x", "clab-x/y", "a\\b", &long];
    rows.extend(bad.iter().map(|bad| (By::Member, "POST", files, body(bad, ""), 400, 4002, "filePath")));
    // A folder of another file, and a file where another has a folder.
    rows.push((By::Member, "POST", files, body("conf", ""), 400, 4002, "conf/r1.cfg"));
    rows.push((By::Member, "POST", files, body("empty/x", ""), 400, 4002, "empty"));
    let elsewhere = format!("/topologies/{other}/files");
    let (nothing, mixed) = (format!("{files}/{NOWHERE}"), format!("{elsewhere}/{first}"));
    rows.push((By::Member, "PATCH", &nothing, json!({}), 404, 5005, NOWHERE));
    rows.push((By::Member, "DELETE", &nothing, Value::Null, 404, 5005, NOWHERE));
    rows.push((By::Admin, "DELETE", &mixed, Value::Null, 404, 5005, &first));
    // Only its creator changes a topology, by its files as well.
    rows.push((By::Member, "POST", &elsewhere, body("x", ""), 403, 5403, "creator"));
    on.refuses(&rows).await;

    on.ok(By::Member, "PATCH", file, json!({"content": "hostname R1\n"})).await;
    let empty = format!("{files}/{second}");
    on.ok(By::Member, "PUT", &empty, body("a.sh", "#!/bin/sh\n")).await;
    let seen = on.ok(By::Member, "GET", "/topologies", Value::Null).await;
    let one = seen.as_array().unwrap().iter().find(|topology| topology["id"] == *id).unwrap();
    assert_eq!(
        *one,
        json!({
            "id": id, "collectionId": collection, "definition": ONE_NODE, "syncUrl": "https://x/y",
            "creator": {"id": "student", "name": "student"}, "lastDeployFailed": false,
            "bindFiles": [
                {"id": second, "topologyId": id, "filePath": "a.sh", "content": "#!/bin/sh\n"},
                {"id": first, "topologyId": id, "filePath": "conf/r1.cfg", "content": "hostname R1\n"},
            ],
        })
    );

    // All files of a topology together have their bound, in number and in size.
    let piece = "é".repeat(1 << 19);
    for number in 0..3 {
        on.id(By::Member, files, body(&format!("big-{number}"), &piece)).await;
    }
    on.refuses(&[(By::Member, "POST", files, body("big-3", &piece), 422, 5422, "4194304")]).await;

    // With its topology a file goes too.
    on.ok(By::Member, "DELETE", &empty, Value::Null).await;
    on.ok(By::Member, "DELETE", path, Value::Null).await;
    on.refuses(&[(By::Admin, "PATCH", file, json!({"content": ""}), 404, 5005, &id)]).await;
    let again = on.id(By::Member, "/topologies", new(ONE_NODE)).await;
    let seen = on.ok(By::Member, "GET", "/topologies", Value::Null).await;
    let again = seen.as_array().unwrap().iter().find(|topology| topology["id"] == *again).unwrap();
    assert_eq!(again["bindFiles"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_of_a_file_of_the_topology_is_for_members_and_one_of_the_host_is_not() {
    let on = Table::new(Server::start().await).await;
    let publicly = json!({"name": "course", "publicWrite": true, "publicDeploy": true});
    let collection = on.id(By::Admin, "/collections", publicly).await;
    let lab = |topology: &str| json!({"name": "x", "startTime": "2090-01-01T00:00:00Z", "topologyId": topology});
    // A folder that nodes write to could come to lead anywhere.
    let of_host = ["/etc:/x:ro", "../x:/x", "__clabDir__/x:/x", "conf:/x"];
    let of_topology = ["conf/x:/x", "./conf/x:/x:ro", "conf:/x:ro", "not-yet-there:/x"];
    for (number, bind) in of_host.into_iter().chain(of_topology).enumerate() {
        let definition = bound(&format!("t{number}"), bind);
        let new = json!({"collectionId": collection, "definition": definition});
        let topology = on.id(By::Member, "/topologies", new).await;
        let file = json!({"filePath": "conf/x", "content": ""});
        // What a member may not run, a member may not change either.
        let files = format!("/topologies/{topology}/files");
        if of_host.contains(&bind) {
            on.refuses(&[(By::Member, "POST", &files, file.clone(), 403, 5403, bind)]).await;
        }
        on.id(if of_host.contains(&bind) { By::Admin } else { By::Member }, &files, file).await;
        if of_host.contains(&bind) {
            on.refuses(&[(By::Member, "POST", "/labs", lab(&topology), 403, 5403, bind)]).await;
            on.id(By::Admin, "/labs", lab(&topology)).await;
        } else {
            on.id(By::Member, "/labs", lab(&topology)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labs_row_by_row() {
    if !User::Myself.can_run_labs("the rows about labs") {
        return;
    }
    let on = Table::new(Server::start().await).await;
    let collection = on.id(By::Admin, "/collections", json!({"name": "course", "publicDeploy": true})).await;
    let closed = on.id(By::Admin, "/collections", json!({"name": "other"})).await;
    let topology = json!({"collectionId": collection, "definition": ONE_NODE});
    let topology = on.id(By::Admin, "/topologies", topology).await;
    let hidden = on.id(By::Admin, "/topologies", json!({"collectionId": closed, "definition": ONE_NODE})).await;
    let now = Timestamp::now();
    let at = |hours: i64| Timestamp::from_second((now + hours.hours()).as_second()).unwrap().to_string();
    let new = |name: &str, start: i64, end: Option<i64>| json!({"name": name, "startTime": at(start), "endTime": end.map(at), "topologyId": topology});
    let monday = on.id(By::Member, "/labs", new("Monday", 2, Some(4))).await;
    let tuesday = on.id(By::Member, "/labs", new("Tuesday", 26, None)).await;
    let running = on.id(By::Member, "/labs", new("running", -1, Some(5))).await;
    let elsewhere = json!({"name": "hidden", "startTime": at(3), "topologyId": hidden});
    let elsewhere = on.id(By::Admin, "/labs", elsewhere).await;
    let member = on.server.member("student", &["course"]).await;
    member.deploy(&running).await.unwrap();

    let shown = on.ok(By::Member, "GET", &format!("/labs/{monday}"), Value::Null).await;
    assert_eq!(
        shown,
        json!({
            "id": monday, "name": "Monday", "startTime": at(2), "endTime": at(4), "topologyId": topology,
            "collectionId": collection, "creator": {"id": "student", "name": "student"}, "topologyDefinition": ONE_NODE,
        })
    );
    let shown = on.ok(By::Member, "GET", &format!("/labs/{running}"), Value::Null).await;
    let instance = &shown["instance"];
    assert_eq!((&instance["name"], &instance["state"]), (&shown["instanceName"], &json!(1)));
    assert_eq!(instance["recovered"], false);
    for time in ["deployed", "latestStateChange"] {
        instance[time].as_str().unwrap().parse::<Timestamp>().expect("RFC 3339");
    }
    let node = &instance["nodes"][0];
    assert_eq!((&node["name"], &node["kind"], &node["state"]), (&json!("n1"), &json!("linux"), &json!("running")));
    assert_eq!((&node["interfaceCaptures"], &node["canRestart"]), (&json!({}), &json!(true)));
    assert!(node["ipv4"].is_string() && node["ipv6"].is_string() && node["containerId"].as_str().unwrap().len() == 12);
    assert_eq!(node["containerName"], node["containnerName"]);

    // The list: filters before paging, and how many there are in all.
    let start = |hours| format!("startDate={}", at(hours));
    for (by, query, total, names) in [
        (By::Member, String::new(), 3, vec!["running", "Monday", "Tuesday"]),
        (By::Admin, String::new(), 4, vec!["running", "Monday", "hidden", "Tuesday"]),
        (By::Stranger, String::new(), 1, vec!["hidden"]),
        (By::Member, "limit=1&offset=1".to_owned(), 3, vec!["Monday"]),
        (By::Member, "limit=5&offset=3".to_owned(), 3, vec![]),
        (By::Member, "limit=0".to_owned(), 3, vec!["running", "Monday", "Tuesday"]),
        (By::Member, "searchQuery=DAY&limit=1".to_owned(), 2, vec!["Monday"]),
        (By::Member, "stateFilter[]=1&stateFilter[]=-1".to_owned(), 1, vec!["running"]),
        (By::Member, "stateFilter=1&stateFilter=-2".to_owned(), 3, vec!["running", "Monday", "Tuesday"]),
        (By::Member, "stateFilter%5B%5D=-2".to_owned(), 2, vec!["Monday", "Tuesday"]),
        (By::Admin, format!("collectionFilter[]={closed}"), 1, vec!["hidden"]),
        (
            By::Admin,
            format!("collectionFilter={closed}&collectionFilter={collection}&limit=2"),
            4,
            vec!["running", "Monday"],
        ),
        (By::Member, format!("collectionFilter[]={closed}"), 0, vec![]),
        (By::Member, start(1), 2, vec!["Monday", "Tuesday"]),
        (By::Member, format!("{}&endDate={}", start(1), at(5)), 1, vec!["Monday"]),
        (
            By::Member,
            "limit=1000&offset=0&searchQuery=&startDate=&endDate=&".to_owned(),
            3,
            vec!["running", "Monday", "Tuesday"],
        ),
    ] {
        let came = on.ask(by, "GET", &format!("/api/labs?{query}"), &Value::Null).await;
        let seen: Vec<_> = came.body["payload"].as_array().expect(&query).iter().map(|lab| &lab["name"]).collect();
        assert_eq!(seen, names, "{by:?} {query}");
        assert_eq!(came.total, Some(total.to_string()), "{by:?} {query}");
    }

    let (path, gone) = (format!("/labs/{monday}"), format!("/labs/{NOWHERE}"));
    let (up, not_theirs) = (format!("/labs/{running}"), format!("/labs/{elsewhere}"));
    let mut rows = vec![
        (By::Member, "GET", &*gone, Value::Null, 404, 5005, NOWHERE),
        (By::Member, "GET", &not_theirs, Value::Null, 404, 5005, &elsewhere),
        (By::Stranger, "PATCH", &path, json!({"name": "x"}), 404, 5005, &monday),
        (By::Member, "POST", "/labs", json!({"name": "x", "topologyId": topology}), 422, 5422, "startTime"),
        (By::Member, "POST", "/labs", new("x", 2, Some(1)), 422, 5422, "endTime"),
        (By::Member, "POST", "/labs", new("x", -3, Some(-2)), 422, 5422, "endTime"),
        (By::Member, "POST", "/labs", new("", 2, None), 422, 5422, "name"),
        (By::Member, "POST", "/labs", new("a\0b", 2, None), 422, 5422, "name"),
        (
            By::Member,
            "POST",
            "/labs",
            json!({"name": "x", "startTime": "2030-01-01", "topologyId": topology}),
            422,
            5422,
            "startTime",
        ),
        (
            By::Member,
            "POST",
            "/labs",
            json!({"name": "x", "startTime": at(1), "topologyId": hidden}),
            404,
            5005,
            &hidden,
        ),
        (By::Member, "PATCH", &path, json!({"endTime": at(1)}), 422, 5422, "endTime"),
        (By::Member, "PATCH", &path, json!({"topologyId": NOWHERE}), 404, 5005, NOWHERE),
        (By::Member, "PATCH", &path, json!({"indefinite": "yes"}), 422, 5422, "indefinite"),
        (By::Member, "PATCH", &up, json!({"name": "x"}), 400, 5000, "destroy it first"),
        (By::Member, "PATCH", &up, json!({"endTime": at(6), "topologyId": hidden}), 404, 5005, &hidden),
        (By::Member, "PATCH", &up, json!({"endTime": at(6), "startTime": at(-2)}), 400, 5000, "only its end"),
        (By::Member, "PATCH", &up, json!({"endTime": at(0)}), 422, 5422, "endTime"),
        (By::Member, "GET", "/capacity?from=soon", Value::Null, 422, 5422, "from: \"soon\""),
        (By::Member, "GET", "/capacity?to=2030", Value::Null, 422, 5422, "to: \"2030\""),
        (By::Nobody, "GET", "/capacity", Value::Null, 401, 5000, "log in"),
        (By::Admin, "DELETE", &up, Value::Null, 400, 5000, "destroy it first"),
        (By::Member, "GET", "/labs?limit=many", Value::Null, 422, 5422, "limit: \"many\""),
        (
            By::Member,
            "GET",
            "/labs?limit=-1",
            Value::Null,
            422,
            5422,
            "limit: \"-1\" is no whole number from 0 to 4294967295",
        ),
        (By::Member, "GET", "/labs?offset=1.5", Value::Null, 422, 5422, "offset"),
        (By::Member, "GET", "/labs?startDate=soon", Value::Null, 422, 5422, "startDate"),
        (By::Member, "GET", "/labs?endDate=2030", Value::Null, 422, 5422, "endDate"),
        (By::Member, "GET", "/labs?stateFilter[]=running", Value::Null, 422, 5422, "stateFilter[]"),
        (By::Member, "GET", "/labs?stateFilter=4", Value::Null, 422, 5422, "3 (failed)"),
    ];
    let theirs = json!({"name": "x", "startTime": at(1), "topologyId": hidden});
    rows.push((By::Stranger, "POST", "/labs", theirs, 403, 5403, "auth-policy"));
    on.refuses(&rows).await;

    on.ok(By::Member, "PATCH", &path, json!({"name": "Wednesday", "indefinite": true})).await;
    on.ok(By::Member, "PATCH", &path, json!({"name": null, "endTime": null})).await;
    let shown = on.ok(By::Member, "GET", &path, Value::Null).await;
    assert_eq!((&shown["name"], &shown["endTime"]), (&json!("Wednesday"), &Value::Null));
    let later = (now + 9.hours()).strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    on.ok(By::Member, "PATCH", &path, json!({"endTime": later, "indefinite": false})).await;
    assert_eq!(on.ok(By::Member, "GET", &path, Value::Null).await["endTime"], at(9));

    // Of a lab that runs, the end alone; what is as it is already is no change.
    let mut same = new("running", -1, Some(7));
    same["indefinite"] = json!(false);
    on.ok(By::Member, "PATCH", &up, same).await;
    assert_eq!(on.ok(By::Member, "GET", &up, Value::Null).await["endTime"], at(7));
    on.ok(By::Member, "PATCH", &up, json!({"indefinite": true})).await;
    assert_eq!(on.ok(By::Member, "GET", &up, Value::Null).await["endTime"], Value::Null);
    let nothing = json!({"labs": null, "nodes": null, "memory": null});
    let reserved = json!({"labs": 1, "nodes": 1, "memory": 256 << 20});
    let course = json!({"name": "course", "limits": nothing, "reserved": reserved});
    assert_eq!(
        on.ok(By::Member, "GET", "/capacity", Value::Null).await,
        json!({"limits": nothing, "reserved": reserved, "collections": [course]})
    );

    member.destroy(&running).await.unwrap();
    for lab in [&monday, &tuesday, &running] {
        on.ok(By::Member, "DELETE", &format!("/labs/{lab}"), Value::Null).await;
    }
    assert_eq!(on.ok(By::Member, "GET", "/labs", Value::Null).await, json!([]));
}
