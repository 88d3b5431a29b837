//! Requests whose path is too long, and bodies that come too slowly.
//!
//! A body isn't read here: whoever reads it finds that it fails once its time is over, which `http` answers with 408. How
//! long it may be is for whoever reads it, too.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::Sleep;

use super::config::LimitsConfig;
use crate::http::refusals;

/// What reading a body fails with once its time is over.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body of the request didn't come within {} s", .0.as_secs())]
pub struct TooSlow(pub Duration);

impl TooSlow {
    /// What is to be said if reading a body has failed because of this.
    pub fn within(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref()).copied()
    }
}

/// Refuses paths that are too long, and gives bodies a limit of time.
pub(super) async fn bound(State(limits): State<LimitsConfig>, request: Request, next: Next) -> Response {
    let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if length > limits.uri_bytes {
        return refusals::uri_too_long(limits.uri_bytes);
    }
    // Most requests have none, and web sockets stay for days.
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    next.run(request.map(|body| Body::new(Timed::new(body, limits.body_time())))).await
}

/// A body that fails once its time is over.
struct Timed {
    body: Body,
    time: Duration,
    over: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(body: Body, time: Duration) -> Self {
        Self { body, time, over: Box::pin(tokio::time::sleep(time)) }
    }
}

impl HttpBody for Timed {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if self.over.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(TooSlow(self.time).into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_does_not_come_fails_when_its_time_is_over() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let body = Body::new(Timed::new(never, Duration::from_millis(5)));
        let error = axum::body::to_bytes(body, 100).await.expect_err("it never came");
        assert!(TooSlow::within(&error).is_some(), "{error:?}");
        let body = Body::new(Timed::new(Body::from("here"), Duration::from_secs(5)));
        assert_eq!(axum::body::to_bytes(body, 100).await.expect("it came"), "here");
    }
}
