//! The few requests that the flow needs.

use reqwest::{Client, Method, header};
use serde_json::{Value, json};

/// The REST API as somebody who has logged in.
pub struct Rest {
    http: Client,
    url: String,
    token: String,
}

impl Rest {
    pub async fn log_in(url: &str, user: &str, password: &str) -> Self {
        let http = Client::new();
        let credentials = json!({ "username": user, "password": password });
        let answer = http.post(format!("{url}/users/login/native")).json(&credentials).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let token = answer
            .headers()
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|cookie| cookie.to_str().ok()?.strip_prefix("accessToken=")?.split(';').next())
            .next()
            .expect("an access token among the cookies")
            .to_owned();
        Self { http, url: url.to_owned(), token }
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub async fn get(&self, path: &str) -> Value {
        self.request(Method::GET, path, None).await
    }

    /// Answers the id of what it has created.
    pub async fn create(&self, path: &str, body: Value) -> String {
        self.request(Method::POST, path, Some(body)).await.as_str().expect("an id").to_owned()
    }

    async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        let mut answer: Value = answer.json().await.expect("JSON");
        assert_eq!(status, 200, "{path}: {answer}");
        answer["payload"].take()
    }
}
