//! Requests to the engine whose answer is read as it comes: logs, events, terminals. One connection each.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{Address, CONNECT_LIMIT, Docker, DockerError, LIMIT, cause};

/// Most bytes of an answer that is read whole.
const LARGEST: usize = 1 << 20;

/// After how much silence an engine elsewhere is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What the engine says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    pub(super) version: String,
    pub(super) api_version: String,
    pub(super) platform: Option<Platform>,
}

/// What kind of engine it is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Platform {
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Complaint {
    message: String,
}

/// Reads an answer in JSON. The path has no version in front of it, as before both sides know which one they share.
pub(super) async fn json<T: DeserializeOwned>(
    address: &Address,
    path: &str,
    limit: Duration,
) -> Result<T, DockerError> {
    let answer = async {
        let response = send(address, Method::GET, path, Bytes::new(), false).await?;
        let body = whole(response).await?;
        serde_json::from_slice(&body).map_err(|error| DockerError::Broken(format!("answer to {path}: {error}")))
    };
    tokio::time::timeout(limit, answer).await.map_err(|_| DockerError::TimedOut("an answer", limit))?
}

impl Docker {
    /// Asks for something that goes on for long. Nothing happens before the first [`Stream::piece`], and there is no limit
    /// to how long that may take: the engine begins its answer only when there is something to tell.
    pub(super) fn open(&self, path: &str) -> Stream {
        let path = format!("/v{}{path}", self.inner.api_version);
        let address = self.inner.address.clone();
        let answer = async move {
            let response = send(&address, Method::GET, &path, Bytes::new(), false).await?;
            Ok(response.into_body())
        };
        Stream(State::Asking(Box::pin(answer)))
    }

    /// The engine's clock: nanoseconds since 1970.
    pub(super) async fn clock(&self) -> Result<i64, DockerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Info {
            system_time: jiff::Timestamp,
        }
        let info: Info = json(&self.inner.address, "/info", LIMIT).await?;
        i64::try_from(info.system_time.as_nanosecond()).map_err(|error| DockerError::Broken(error.to_string()))
    }

    /// What tells the engine from others, wherever it listens: the id that it gives itself, which several on one machine may
    /// share, and its data folder. `None`: it doesn't say.
    pub(crate) async fn id(&self) -> Result<Option<String>, DockerError> {
        #[derive(Deserialize)]
        struct Info {
            #[serde(default, rename = "ID")]
            id: String,
            #[serde(default, rename = "DockerRootDir")]
            data: String,
        }
        let info: Info = json(&self.inner.address, "/info", LIMIT).await?;
        Ok(Some(format!("{} in {}", info.id, info.data)).filter(|_| !info.id.is_empty()))
    }

    /// Asks for a connection that goes both ways from then on.
    pub(super) async fn upgrade(&self, path: &str, body: Bytes) -> Result<TokioIo<Upgraded>, DockerError> {
        let path = format!("/v{}{path}", self.inner.api_version);
        let response = send(&self.inner.address, Method::POST, &path, body, true).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(DockerError::Broken(format!("{} instead of a connection for a terminal", response.status())));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| DockerError::Broken(cause(&error)))?;
        Ok(TokioIo::new(upgraded))
    }
}

/// Sends a request over a new connection. Answers that are no success are errors.
async fn send(
    address: &Address,
    method: Method,
    path: &str,
    body: Bytes,
    upgrade: bool,
) -> Result<Response<Incoming>, DockerError> {
    let unreachable =
        |error: std::io::Error| DockerError::Unreachable { host: address.to_string(), reason: error.to_string() };
    let mut request = Request::builder().method(method).uri(path).header(HOST, "docker");
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if upgrade {
        request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
    }
    let request = request.body(Full::new(body)).map_err(|error| DockerError::Broken(error.to_string()))?;
    let response = match address {
        Address::Unix(path) => {
            exchange(connected(UnixStream::connect(path)).await.map_err(unreachable)?, request).await
        }
        Address::Tcp(authority) => {
            let stream = connected(TcpStream::connect(authority)).await.map_err(unreachable)?;
            let _ = stream.set_nodelay(true);
            // Streams are silent for hours, and an engine whose machine is gone never says so.
            let alive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
            let _ = SockRef::from(&stream).set_tcp_keepalive(&alive);
            exchange(stream, request).await
        }
    };
    let response = response.map_err(|error| DockerError::Broken(cause(&error)))?;
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let body = whole(response).await?;
    let message = serde_json::from_slice::<Complaint>(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned(), |complaint| complaint.message);
    Err(DockerError::of_status(status.as_u16(), message))
}

async fn connected<S>(stream: impl Future<Output = std::io::Result<S>>) -> std::io::Result<S> {
    tokio::time::timeout(CONNECT_LIMIT, stream).await?
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer: it is closed when nobody holds that any more.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, DockerError> {
    let collected = Limited::new(response.into_body(), LARGEST).collect().await;
    let collected = collected.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => DockerError::Broken(format!("an answer of more than {LARGEST} bytes")),
        None => DockerError::Broken(error.to_string()),
    })?;
    Ok(collected.to_bytes())
}

/// An answer that is read as it comes.
pub(super) struct Stream(State);

enum State {
    Asking(Pin<Box<dyn Future<Output = Result<Incoming, DockerError>> + Send>>),
    Reading(Incoming),
    Over,
}

impl Stream {
    /// The next piece, never two of those that the engine wrote at once; `None` at its end. Nothing is lost when the
    /// future is dropped.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, DockerError> {
        loop {
            match &mut self.0 {
                State::Asking(answer) => {
                    let answer = answer.await;
                    self.0 = State::Over;
                    self.0 = State::Reading(answer?);
                }
                State::Reading(body) => match body.frame().await {
                    None => self.0 = State::Over,
                    Some(Err(error)) => {
                        self.0 = State::Over;
                        return Err(DockerError::Broken(cause(&error)));
                    }
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Ok(Some(data));
                        }
                    }
                },
                State::Over => return Ok(None),
            }
        }
    }
}
