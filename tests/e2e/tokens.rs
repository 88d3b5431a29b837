//! Logins and tokens.

use antimony_host::client::{ApiError, ConnectError, Connection};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Server;

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
