//! The REST side of the client.
//!
//! Owns one HTTP client and, once somebody has logged in, their tokens. Answers the `payload` of the server's
//! envelope, or its error as it is.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::answered::Answered;
use super::watch::{Exchange, show_exchange};

/// Why a request brought no payload.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server refused it.
    #[error("{status}, code {code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code in the envelope; 0 where there was no envelope.
        code: i64,
        /// The sentence in the envelope, or the body where there was no envelope.
        message: String,
    },
    /// A success without the envelope, or without what it must hold; says what was missing.
    #[error("the answer to {0} makes no sense: {1}")]
    Malformed(String, String),
    /// No answer at all.
    #[error("no answer from the server: {0}")]
    Http(#[from] reqwest::Error),
}

impl ApiError {
    /// Status and code of a refusal.
    pub fn refusal(&self) -> Option<(u16, i64)> {
        match self {
            Self::Refused { status, code, .. } => Some((*status, *code)),
            _ => None,
        }
    }
}

/// What a login brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// For requests and namespaces; half an hour.
    pub access_token: String,
    /// For getting another access token, and nothing else.
    pub refresh_token: String,
}

/// The REST API of one server, as one person. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base_url: String,
    token: Option<String>,
}

impl Api {
    /// The API of the server at `base_url` without anybody's token.
    pub fn anonymous(base_url: &str) -> Self {
        Self { http: super::http(), base_url: base_url.trim_end_matches('/').to_owned(), token: None }
    }

    /// The same server, as the holder of `token`.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The token that requests carry.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Sends one request; answers the payload.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base_url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.payload(method, path, request.send().await?).await
    }

    /// `GET path`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.request(Method::GET, path, None).await
    }

    /// `GET path` where the answer is no JSON, and is read as it comes, however long it is.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn open(&self, path: &str) -> Result<Answered, ApiError> {
        let mut request = self.http.get(format!("{}{path}", self.base_url)).header(header::TE, "trailers");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await?;
        if response.status() == StatusCode::OK {
            return Ok(Answered::new(response));
        }
        let payload = self.payload(Method::GET, path, response).await;
        Err(payload.err().unwrap_or_else(|| ApiError::Malformed(path.to_owned(), "it is of no use".to_owned())))
    }

    /// `GET path` where the answer is JSON without an envelope, as health and readiness are.
    ///
    /// # Errors
    /// [`ApiError::Http`], also where the answer is no JSON. Whatever its status is, the answer is an answer.
    pub async fn get_bare(&self, path: &str) -> Result<Value, ApiError> {
        Ok(self.http.get(format!("{}{path}", self.base_url)).send().await?.json().await?)
    }

    /// Logs in by name and password.
    ///
    /// # Errors
    /// [`ApiError`]; 400 with code 1001 when they are wrong.
    pub async fn log_in(&self, username: &str, password: &str) -> Result<LoggedIn, ApiError> {
        let path = "/users/login/native";
        let credentials = json!({ "username": username, "password": password });
        let response = self.http.post(format!("{}{path}", self.base_url)).json(&credentials).send().await?;
        let cookies: Vec<_> = response.cookies().map(|c| (c.name().to_owned(), c.value().to_owned())).collect();
        self.payload(Method::POST, path, response).await?;
        let cookie = |name: &str| {
            cookies
                .iter()
                .find(|(other, _)| other == name)
                .map(|(_, value)| value.clone())
                .ok_or_else(|| ApiError::Malformed(path.to_owned(), format!("it sets no cookie {name}")))
        };
        Ok(LoggedIn { access_token: cookie("accessToken")?, refresh_token: cookie("authToken")? })
    }

    /// Gets another access token for a refresh token.
    ///
    /// # Errors
    /// [`ApiError`]; 401 when somebody has to log in again.
    pub async fn refresh(&self, refresh_token: &str) -> Result<String, ApiError> {
        let path = "/users/login/refresh";
        let request = self.http.get(format!("{}{path}", self.base_url));
        let response = request.header(header::COOKIE, format!("authToken={refresh_token}")).send().await?;
        as_id(path, self.payload(Method::GET, path, response).await?)
    }

    /// Logs out, with the refresh token of the login, if there is one.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn log_out(&self, refresh_token: Option<&str>) -> Result<(), ApiError> {
        let path = "/users/logout";
        let mut request = self.http.post(format!("{}{path}", self.base_url));
        if let Some(token) = refresh_token {
            request = request.header(header::COOKIE, format!("authToken={token}"));
        }
        self.payload(Method::POST, path, request.send().await?).await.map(drop)
    }

    /// Creates a collection; answers its id.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn create_collection(
        &self,
        name: &str,
        public_write: bool,
        public_deploy: bool,
    ) -> Result<String, ApiError> {
        let body = json!({ "name": name, "publicWrite": public_write, "publicDeploy": public_deploy });
        self.create("/collections", &body).await
    }

    /// Creates a topology from its definition, which is YAML; answers its id.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn create_topology(&self, collection_id: &str, definition: &str) -> Result<String, ApiError> {
        let body = json!({ "collectionId": collection_id, "definition": definition, "syncUrl": "" });
        self.create("/topologies", &body).await
    }

    /// Creates a lab that nothing but a command starts and ends: its start is now, and it has no end. Answers its id.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn create_lab(&self, topology_id: &str, name: &str) -> Result<String, ApiError> {
        let body = json!({
            "name": name,
            "topologyId": topology_id,
            "startTime": jiff::Timestamp::now().to_string(),
            "endTime": null,
        });
        self.create("/labs", &body).await
    }

    /// A lab as it is now.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn lab(&self, id: &str) -> Result<Value, ApiError> {
        self.get(&format!("/labs/{id}")).await
    }

    /// `POST path`, where the answer is the id of what was created.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn create(&self, path: &str, body: &Value) -> Result<String, ApiError> {
        as_id(path, self.request(Method::POST, path, Some(body)).await?)
    }

    /// Takes an answer out of its envelope.
    async fn payload(&self, method: Method, path: &str, response: reqwest::Response) -> Result<Value, ApiError> {
        let status = response.status();
        let content_type = response.headers().get(header::CONTENT_TYPE).cloned();
        let body = response.text().await?;
        show_exchange(&Exchange {
            base_url: &self.base_url,
            method: method.as_str(),
            path,
            status: status.as_u16(),
            content_type: content_type.as_ref().and_then(|kind| kind.to_str().ok()).unwrap_or_default(),
            body: &body,
        });
        let envelope: Option<Value> = serde_json::from_str(&body).ok();
        if status == StatusCode::OK {
            return match envelope {
                Some(Value::Object(mut envelope)) if envelope.contains_key("payload") => {
                    Ok(envelope.remove("payload").unwrap_or_default())
                }
                _ => Err(ApiError::Malformed(path.to_owned(), format!("there is no payload in {body}"))),
            };
        }
        let envelope = envelope.unwrap_or_default();
        Err(ApiError::Refused {
            status: status.as_u16(),
            code: envelope["code"].as_i64().unwrap_or(0),
            message: envelope["message"].as_str().map_or(body, str::to_owned),
        })
    }
}

fn as_id(path: &str, payload: Value) -> Result<String, ApiError> {
    match payload {
        Value::String(id) => Ok(id),
        other => Err(ApiError::Malformed(path.to_owned(), format!("a string was due, and {other} came"))),
    }
}
