//! Accepting connections, and speaking HTTP on them within limits of time and size.
//!
//! One task accepts; each connection that is let in gets a task of its own, in which TLS, where it is spoken, begins too,
//! so that nobody waits for anybody else's handshake. A connection ends when its client takes too long for a handshake or
//! for the head of a request, or when the server does.
//!
//! ```text
//!  accept ── too many? ── told so and closed
//!    │
//!  handshake (TLS) ── too long, or nonsense ── closed
//!    │
//!  head of a request ── too long, too slow ── 431, 414, closed
//!    │
//!  the routes ── the next head, or a web socket, which only `socket` ends
//! ```

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{Admission, Full, Permit};
use super::config::LimitsConfig;
use super::tls::Tls;
use crate::socket::transport;

/// How long a TLS handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long to wait when the system can't accept connections, such as for want of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long a client's kernel may leave what the server sent unacknowledged. A client that has stopped reading is not
/// noticed by pings; this is what ends its connection.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// After how long without a byte, and how often then, a client's kernel is asked whether it is still there. An answer that
/// goes on, such as a capture of packets where none come, would otherwise outlive a client whose machine has gone.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// Says which protocol the client speaks with whatever stands in front.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Answered to whoever is one too many; with TLS, closing has to do.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 71\r\n\
    retry-after: 10\r\nconnection: close\r\n\r\n\
    {\"code\":5000,\"message\":\"the server has too many connections as it is\"}\n";

/// Says that a request came over TLS that this server speaks itself. An extension of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OverTls;

/// Something that answers requests.
pub(super) trait Answers: Clone + Send + 'static {
    /// Answers one.
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send;
}

impl Answers for axum::Router {
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send {
        let answer = tower_service::Service::call(&mut self.clone(), request);
        async move { answer.await.unwrap_or_else(|never: Infallible| match never {}) }
    }
}

/// What all connections have in common.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) limits: LimitsConfig,
    pub(super) admission: Admission,
    pub(super) tls: Option<Tls>,
    /// Once it is cancelled, nobody is let in and nothing more is asked.
    pub(super) stop: CancellationToken,
}

/// Serves until stopped, and returns when the last connection has ended.
pub(super) async fn serve(listener: TcpListener, terms: Terms, answers: impl Answers) {
    let connections = TaskTracker::new();
    loop {
        let (stream, address) = tokio::select! {
            biased;
            () = terms.stop.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        match terms.admission.admit(address.ip()) {
            Ok(permit) => {
                connections.spawn(connection(stream, address, permit, terms.clone(), answers.clone()));
            }
            Err(full) => turn_away(&stream, address, full, terms.tls.is_some()),
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // They have gone again before it was their turn.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted at the moment");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn turn_away(stream: &TcpStream, address: SocketAddr, full: Full, tls: bool) {
    tracing::debug!(%address, reason = full.name(), "a connection was turned away: there are too many");
    if !tls {
        // Whoever doesn't take it at once doesn't get it.
        let _ = stream.try_write(TOO_MANY);
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, permit: Permit, terms: Terms, answers: impl Answers) {
    let options = socket2::SockRef::from(&stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
    // Terminals feel every delayed packet. Neither option can fail on a TCP socket of Linux; if one did, the
    // connection would still work.
    let _ = options.set_tcp_nodelay(true);
    let _ = options.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    let _ = options.set_tcp_keepalive(&keepalive);
    let stream = match &terms.tls {
        None => Wire::Plain(stream),
        Some(tls) => {
            let handshake = tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream));
            let outcome = tokio::select! {
                () = terms.stop.cancelled() => return,
                outcome = handshake => outcome,
            };
            match outcome {
                Ok(Ok(stream)) => Wire::Tls(Box::new(stream)),
                Ok(Err(error)) => {
                    tls.count_failure();
                    tracing::debug!(%address, %error, "a TLS handshake failed");
                    return;
                }
                Err(_) => {
                    tls.count_failure();
                    tracing::debug!(%address, "a TLS handshake took longer than {HANDSHAKE_TIME:?}");
                    return;
                }
            }
        }
    };
    http(Admitted { wire: stream, _permit: permit }, address, &terms, answers).await;
}

/// Speaks HTTP/1.1 on a connection until it ends or becomes a web socket.
async fn http(stream: Admitted, address: SocketAddr, terms: &Terms, answers: impl Answers) {
    let (stream, connection) = transport::killable(stream, address);
    let tls = terms.tls.is_some();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(connection.clone()));
        if tls {
            request.extensions_mut().insert(OverTls);
            // As a proxy would say it, so that there is one place to look at for whether cookies have to be secure.
            request.headers_mut().insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        }
        let answers = answers.clone();
        async move { Ok::<_, Infallible>(answers.answer(request).await) }
    });
    let limits = &terms.limits;
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // It also ends connections on which nothing is asked.
        .header_read_timeout(limits.head_time())
        .max_headers(limits.header_fields)
        .max_header_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = terms.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%address, %error, "a connection has ended");
    }
}

/// What bytes go over.
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that was let in, for as long as it is open.
struct Admitted {
    wire: Wire,
    _permit: Permit,
}

/// Does the same with either wire.
macro_rules! on_wire {
    ($self:ident, $stream:ident => $work:expr) => {
        match &mut $self.get_mut().wire {
            Wire::Plain($stream) => $work,
            Wire::Tls($stream) => $work,
        }
    };
}

impl AsyncRead for Admitted {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_wire!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, stream => Pin::new(stream).poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_wire!(self, stream => Pin::new(stream).poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_one_too_many_gets_a_whole_answer() {
        let text = std::str::from_utf8(TOO_MANY).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{} bytes", body.len());
        serde_json::from_str::<serde_json::Value>(body).expect("JSON");
    }
}
