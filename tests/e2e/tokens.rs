//! Logins and tokens.

use antimony_host::client::{ApiError, ConnectError, Connection};
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::harness::{Place, Server, ServerBuilder, User, within};

/// The claims of a token, read as a browser reads them: without checking anything.
fn claims(token: &str) -> Map<String, Value> {
    use base64::Engine as _;
    let middle = token.split('.').nth(1).expect("a token has three parts");
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(middle).expect("base64");
    serde_json::from_slice(&json).expect("an object")
}

/// Signs claims with the server's own key.
fn signed(server: &Server, claims: &Map<String, Value>) -> String {
    let key = std::fs::read(server.place().data().join("signing.key")).expect("the server's key");
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(&key)).expect("sign")
}

fn status(result: Result<Value, ApiError>) -> u16 {
    result.expect_err("a refusal").refusal().expect("a status").0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_login_is_400_with_code_1001_and_says_no_more() {
    let server = Server::start().await;
    let mut said = Vec::new();
    for (username, password) in [("admin", "wrong"), ("nobody", "admin"), ("", ""), ("admin", "")] {
        let error = server.api().log_in(username, password).await.unwrap_err();
        assert_eq!(error.refusal(), Some((400, 1001)), "{username}: {error}");
        said.push(error.to_string());
    }
    said.dedup();
    assert_eq!(said.len(), 1, "whether the name exists is nobody's business: {said:?}");
    for body in [json!({}), json!({ "username": "admin" }), json!([]), json!({ "username": 1, "password": {} })] {
        let refused = server.api().request(Method::POST, "/users/login/native", Some(&body)).await;
        assert!([400, 422].contains(&status(refused)), "{body}");
    }
    server.admin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_with_and_without_api_in_front() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for path in ["/users/login/config", "/collections", "/topologies", "/labs"] {
        assert_eq!(admin.api.get(path).await.unwrap(), admin.api.get(&format!("/api{path}")).await.unwrap());
    }
    let config = server.api().get("/users/login/config").await.unwrap();
    assert_eq!((&config["native"]["enabled"], &config["openId"]["enabled"]), (&json!(true), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_no_access_token_and_the_reverse() {
    let server = Server::start().await;
    let login = server.api().log_in("admin", "admin").await.unwrap();
    let connection = Connection::open(&server.url).await.unwrap();
    assert_eq!(status(server.api().with_token(&login.refresh_token).get("/labs").await), 498);
    let refused = connection.connect_with_token("/lab-updates", &login.refresh_token).await.unwrap_err();
    assert_eq!(refused, ConnectError::Refused("Invalid Token".to_owned()));
    assert_eq!(status(server.api().refresh(&login.access_token).await.map(Value::from)), 401);

    let fresh = server.api().refresh(&login.refresh_token).await.unwrap();
    assert_eq!(server.api().with_token(&fresh).get("/labs").await.unwrap(), json!([]));
    connection.connect_with_token("/lab-updates", &fresh).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_token_the_api_says_so_with_the_status_that_clients_act_on() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", crate::ONE_NODE).await;
    let other = Server::start().await;
    for path in ["/labs", "/collections", "/topologies", &format!("/labs/{lab}")] {
        assert_eq!(status(server.api().get(path).await), 401, "{path} without a token");
        for token in ["nonsense", "a.b.c", &other.token("admin", &[])] {
            assert_eq!(status(server.api().with_token(token).get(path).await), 498, "{path} with {token}");
        }
    }
    assert_eq!(status(admin.api.get("/labs/01890000-0000-7000-8000-000000000000").await), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_says_what_clients_read_in_it_and_lasts_half_an_hour() {
    let server = Server::start().await;
    let login = server.api().log_in("admin", "admin").await.unwrap();
    let admin = claims(&login.access_token);
    assert_eq!(admin["isAdmin"], true);
    assert!(admin["id"].as_str().is_some_and(|id| !id.is_empty()));
    let seconds = |name: &str| admin[name].as_i64().unwrap();
    assert_eq!(seconds("exp") - seconds("nbf"), 30 * 60);
    let refresh = claims(&login.refresh_token);
    assert_eq!(refresh["exp"].as_i64().unwrap() - refresh["nbf"].as_i64().unwrap(), 30 * 24 * 3600);
    let member = claims(&server.token("student", &["a", "b"]));
    assert_eq!((&member["id"], &member["isAdmin"]), (&json!("student"), &json!(false)));
    // What the tests below rely on: their own signatures are taken.
    assert_eq!(server.api().with_token(&signed(&server, &member)).get("/labs").await.unwrap(), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_have_expired_or_lack_something_are_refused() {
    let server = Server::start().await;
    let connection = Connection::open(&server.url).await.unwrap();
    let whole = claims(&server.token("student", &[]));
    let now = Timestamp::now().as_second();
    let changed = |changes: &[(&str, Option<Value>)]| {
        let mut claims = whole.clone();
        for (name, value) in changes {
            match value {
                Some(value) => claims.insert((*name).to_owned(), value.clone()),
                None => claims.remove(*name),
            };
        }
        signed(&server, &claims)
    };
    let mut bad = vec![
        changed(&[("exp", Some(json!(now - 1))), ("nbf", Some(json!(now - 1801)))]),
        changed(&[("nbf", Some(json!(now + 600)))]),
        changed(&[("exp", None)]),
        changed(&[("id", None)]),
        changed(&[("id", Some(json!("")))]),
        changed(&[("id", Some(json!(7)))]),
    ];
    // Signed by nobody.
    let unsigned = |header: &str| {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let body = engine.encode(serde_json::to_vec(&whole).unwrap());
        format!("{}.{body}.", engine.encode(header))
    };
    bad.push(unsigned(r#"{"typ":"JWT","alg":"none"}"#));
    bad.push(unsigned(r#"{"typ":"JWT","alg":"HS256"}"#));
    for token in bad {
        let rest = status(server.api().with_token(&token).get("/labs").await);
        assert!([401, 498].contains(&rest), "{rest} for {:?}", claims(&token));
        let refused = connection.connect_with_token("/lab-updates", &token).await.unwrap_err();
        assert_eq!(refused, ConnectError::Refused("Invalid Token".to_owned()), "{:?}", claims(&token));
    }
}

/// A token that is valid for three seconds more.
fn short(server: &Server) -> String {
    let mut claims = claims(&server.token("student", &[]));
    claims.insert("exp".to_owned(), json!(Timestamp::now().as_second() + 3));
    signed(server, &claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token_as_if_the_network_had_failed() {
    let server = Server::start().await;
    let token = short(&server);
    let connection = Connection::open(&server.url).await.unwrap();
    let mut updates = connection.connect_with_token("/lab-updates", &token).await.unwrap();
    assert_eq!(within("the end of the namespace", updates.next_event()).await, None);
    // The whole connection has gone: clients come back from that by themselves, and not from being told to go.
    let again = connection.connect_with_token("/status-messages", &server.token("student", &[])).await;
    assert_eq!(again.unwrap_err(), ConnectError::Closed);
    let connection = Connection::open(&server.url).await.unwrap();
    let refused = connection.connect_with_token("/lab-updates", &token).await.unwrap_err();
    assert_eq!(refused, ConnectError::Refused("Invalid Token".to_owned()));
    connection.connect_with_token("/status-messages", &server.token("student", &[])).await.unwrap();
}

/// What a client without web sockets does: sends packets with one request, and gets them with another.
struct Polling {
    url: String,
    http: reqwest::Client,
}

impl Polling {
    async fn open(server: &Server) -> Self {
        let http = antimony_host::client::http();
        let url = format!("{}/socket.io/?EIO=4&transport=polling", server.url);
        let opened = http.get(&url).send().await.unwrap().text().await.unwrap();
        let opened: Value = serde_json::from_str(opened.strip_prefix('0').expect("an open packet")).unwrap();
        Self { url: format!("{url}&sid={}", opened["sid"].as_str().unwrap()), http }
    }

    async fn send(&self, packet: String) {
        let sent = self.http.post(&self.url).body(packet).send().await.unwrap();
        assert_eq!(sent.status(), 200);
    }

    /// The next answer that is not just a ping.
    async fn next(&self) -> (u16, String) {
        loop {
            let answer = within("an answer to a poll", self.http.get(&self.url).send()).await.unwrap();
            let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
            if text != "2" {
                return (status, text.trim_start_matches("2\x1e").to_owned());
            }
            self.send("3".to_owned()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_ends_with_its_token_as_if_the_session_were_unknown() {
    let server = Server::start().await;
    let client = Polling::open(&server).await;
    client.send(format!("40/lab-updates,{}", json!({ "token": short(&server) }))).await;
    let (status, packets) = client.next().await;
    assert!(status == 200 && packets.starts_with("40/lab-updates,"), "{status} {packets}");
    for _ in 0..2 {
        // The first waits until the token expires, the second comes after that.
        let (status, said) = client.next().await;
        assert!(status == 400 && said.contains("Session ID unknown"), "{status} {said}");
    }
    // Others are still served.
    Polling::open(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_ends_with_the_password_that_it_was_got_with() {
    let place = Place::new(User::Myself);
    let with = |password| {
        ServerBuilder::at(&place).env("SB_NATIVE_USERNAME", "me").env("SB_NATIVE_PASSWORD", password).start()
    };
    let mut server = with("first").await;
    let login = server.api().log_in("me", "first").await.unwrap();
    server.terminate().await;
    let mut server = with("first").await;
    server.api().refresh(&login.refresh_token).await.unwrap();
    server.terminate().await;
    let server = with("second").await;
    assert_eq!(status(server.api().refresh(&login.refresh_token).await.map(Value::from)), 401);
}
