//! Captures: packets at an interface of a node, as a pcap file that grows for as long as it is fetched.
//!
//! A capture shows what a shell in the node could see as well. So whoever may open a shell in it may capture; that is asked
//! again when the lab, the plugins in force or the time have changed, as it is of those who are connected to a socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http_body_util::StreamBody;
use hyper::body::Frame;
use jiff::Timestamp;
use utoipa::IntoParams;

use super::Api;
use super::error::ApiError;
use super::extract::{Caller, Ids};
use super::labs::visible;
use super::openapi::{
    CaptureLimit, DatabaseGone, Fails, Invalid, LabNotRunning, Mistake, NoCapture, NoRuntime, NoSuchNode,
    NodeNotRunning, NotFound, Refused, RuntimeGone,
};
use crate::auth::{AccessToken, Identity};
use crate::captures::{Session, Wish};
use crate::labs::model::{LabId, LabSnapshot};
use crate::plugins::decision::{Action, Circumstances, Command, CommandKind, Refusal};
use crate::runtime::capture::MAX_SNAPLEN;

/// What is answered. The edge knows this type, too: it is sent as it is.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.tcpdump.pcap";
/// How many packets are missing, because the client didn't take them in time. A trailer, for those who ask for trailers.
const DROPPED: HeaderName = HeaderName::from_static("x-capture-dropped");
/// Why it ended. A trailer as well.
const ENDED: HeaderName = HeaderName::from_static("x-capture-ended");
/// Most packets that can be asked for: what JSON has whole numbers for.
const MAX_PACKETS: u64 = (1 << 53) - 1;
/// Most seconds that can be asked for.
const MAX_SECONDS: u64 = 365 * 24 * 3600;

/// How often it is asked again whether somebody may capture.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How often, and after how long, a decision that failed is asked for again before a capture ends for it.
const RETRIES: u32 = 3;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the query says.
#[derive(Debug, Default, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CaptureQuery {
    /// Most bytes that are kept of each packet. Missing: all.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 262144, required = false)]
    snaplen: Option<u32>,
    /// Ends after so many packets.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 9007199254740991_u64, required = false)]
    packets: Option<u64>,
    /// Ends after so many seconds.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 31536000, required = false)]
    seconds: Option<u64>,
    /// True: packets that are not for the interface, too, for which it is made promiscuous meanwhile.
    #[param(value_type = Option<bool>, required = false)]
    promiscuous: Option<bool>,
}

impl CaptureQuery {
    /// Reads the pairs of a query. Keys that mean nothing are passed over, and so are empty values.
    fn read(pairs: &[(String, String)]) -> Result<Self, ApiError> {
        let mut query = Self::default();
        for (key, value) in pairs {
            let value = value.trim();
            match key.as_str() {
                _ if value.is_empty() => {}
                "snaplen" => query.snaplen = Some(number(key, value, u64::from(MAX_SNAPLEN))?),
                "packets" => query.packets = Some(number(key, value, MAX_PACKETS)?),
                "seconds" => query.seconds = Some(number(key, value, MAX_SECONDS)?),
                "promiscuous" => {
                    let read = value.parse();
                    query.promiscuous = Some(
                        read.map_err(|_| ApiError::Invalid(format!("{key}: {value:?} is neither true nor false")))?,
                    );
                }
                _ => {}
            }
        }
        Ok(query)
    }

    fn wish<'a>(&self, node: &'a str, interface: &'a str) -> Wish<'a> {
        let all = Wish::all(node, interface);
        Wish {
            snaplen: self.snaplen.unwrap_or(all.snaplen),
            promiscuous: self.promiscuous.unwrap_or(false),
            packets: self.packets,
            time: self.seconds.map(Duration::from_secs),
            ..all
        }
    }
}

fn number<N: TryFrom<u64>>(key: &str, value: &str, most: u64) -> Result<N, ApiError> {
    let read = value.parse().ok().filter(|number| (1..=most).contains(number));
    read.and_then(|number: u64| N::try_from(number).ok())
        .ok_or_else(|| ApiError::Invalid(format!("{key}: {value:?} is no whole number from 1 to {most}")))
}

/// Capture packets
///
/// What passes an interface of a node, in both directions, as a pcap file with times in nanoseconds that grows as packets
/// come. It ends when as much has come as was asked for, when the node stops or its interface goes, when the client may no
/// longer, or its access token expires, and when the client hangs up. Who may open a shell in the node may do this. A client
/// that reads too slowly lacks packets; how many is said in the trailer `x-capture-dropped`, and why it ended in
/// `x-capture-ended`, to clients that send `TE: trailers`.
#[utoipa::path(
    get, path = "/labs/{id}/nodes/{node}/interfaces/{interface}/capture", operation_id = "captureInterface", tag = "labs",
    params(
        ("id" = String, Path, description = "Id of the lab"),
        ("node" = String, Path, description = "Name of the node"),
        ("interface" = String, Path, description = "Name of the interface in the node"),
        CaptureQuery,
    ),
    responses(
        (status = 200, description = "The beginning of the file, at once; then packets.",
            body = String, content_type = "application/vnd.tcpdump.pcap"),
        Fails<(
            NoCapture, LabNotRunning, NodeNotRunning, Refused, NotFound, NoSuchNode, Invalid, CaptureLimit, Mistake, NoRuntime,
            DatabaseGone, RuntimeGone,
        )>,
    ),
)]
pub(super) async fn capture(
    State(api): State<Api>,
    caller: Caller,
    method: Method,
    place: Ids<3>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let Ids([lab, node, interface]) = place;
    let lab = visible(&api, &caller, &lab.as_str().into()).await?;
    let query = CaptureQuery::read(&query)?;
    let wish = query.wish(&node, &interface);
    api.captures.check(&lab, wish)?;
    // Before the question: where other plugins come between, it is asked again.
    let generation = api.plugins.generation();
    api.authorize(&caller, Action::Command(&shell_in(&lab.lab.id, &node), &lab, None)).await?;
    let head = head(&file_name(&lab.lab.name, &node, &interface));
    if method == Method::HEAD {
        // Of no length that could be told.
        return Ok((head, Body::from_stream(futures::stream::empty::<Result<Bytes, Infallible>>())).into_response());
    }
    let right = Right {
        api: api.clone(),
        identity: caller.identity.clone(),
        token: caller.token,
        circumstances: caller.circumstances,
        node: node.clone(),
        generation,
    };
    let revoked = right.lost(Arc::clone(&lab)).boxed();
    let session = api.captures.open(&lab, wish, &caller.identity.id, revoked).await?;
    Ok((head, Body::new(StreamBody::new(frames(session)))).into_response())
}

/// The frames of an answer: the bytes of the file, and the trailers.
fn frames(session: Session) -> impl futures::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    futures::stream::unfold(Some(session), |session| async move {
        let mut session = session?;
        if let Some(bytes) = session.next().await {
            return Some((Ok(Frame::data(bytes)), Some(session)));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert(DROPPED, HeaderValue::from(session.dropped()));
        let why = session.ended().and_then(|end| HeaderValue::try_from(end.to_string()).ok());
        trailers.extend(why.map(|why| (ENDED, why)));
        Some((Ok(Frame::trailers(trailers)), None))
    })
}

fn head(file: &str) -> HeaderMap {
    let mut head = HeaderMap::new();
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{file}\""));
    head.insert(header::CONTENT_DISPOSITION, disposition.expect("the file's name is made for that"));
    head.insert(header::TRAILER, HeaderValue::from_static("x-capture-dropped, x-capture-ended"));
    // Proxies would wait for more, where they collect answers; nginx is told by this.
    head.insert("x-accel-buffering", HeaderValue::from_static("no"));
    head
}

/// A name that any system takes for a file.
fn file_name(lab: &str, node: &str, interface: &str) -> String {
    let safe = |text: &str| -> String {
        let safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        text.chars().map(|c| if safe(c) { c } else { '_' }).collect()
    };
    format!("{}-{}-{}.pcap", safe(lab), safe(node), safe(interface))
}

/// What the policy is asked: a shell in the node would see as much.
fn shell_in(lab: &LabId, node: &str) -> Command {
    Command { kind: CommandKind::OpenShell, lab_id: lab.clone(), node: Some(node.to_owned()), shell_id: None }
}

/// Somebody's right to capture in a node, which they may lose.
struct Right {
    api: Api,
    identity: Identity,
    token: AccessToken,
    /// As they were when it began.
    circumstances: Circumstances,
    node: String,
    /// The plugins that granted it, or earlier ones.
    generation: u64,
}

/// What came of asking again.
enum Again {
    Allowed,
    Lost(&'static str),
    /// A plugin failed to say.
    Failed(Refusal),
}

impl Right {
    /// Ready when it is lost, with the reason.
    async fn lost(mut self, lab: Arc<LabSnapshot>) -> &'static str {
        const GONE: &str = "the lab is gone";
        let Some(mut changes) = self.api.labs.watch(&lab.lab.id) else { return GONE };
        let mut generations = self.api.plugins.generations();
        // It was granted by the lab and the plugins as they were then, which may be before this.
        if !Arc::ptr_eq(&changes.borrow_and_update(), &lab) {
            changes.mark_changed();
        }
        if *generations.borrow_and_update() != self.generation {
            generations.mark_changed();
        }
        loop {
            let left = self.token.expires.duration_since(Timestamp::now());
            let left = Duration::try_from(left).unwrap_or_default();
            if left.is_zero() {
                return "the access token has expired";
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return GONE },
                // They can't end before the server does.
                _ = generations.changed() => {}
                () = tokio::time::sleep(left.min(ASK_AGAIN)) => {}
            }
            let lab = changes.borrow_and_update().clone();
            if let Some(why) = self.judge_again(&lab).await {
                return why;
            }
        }
    }

    async fn judge_again(&mut self, lab: &Arc<LabSnapshot>) -> Option<&'static str> {
        let mut failures = 0;
        loop {
            match self.ask_again(lab).await {
                Again::Allowed => return None,
                Again::Lost(why) => return Some(why),
                // So many at once as a change brings may be more than a plugin has time for.
                Again::Failed(_) if failures < RETRIES => {
                    failures += 1;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Again::Failed(refusal) => {
                    let user = &self.identity.id;
                    tracing::error!(%user, %refusal, "a capture has to end: nobody can say whether it may go on");
                    return Some("a plugin could not say whether it may go on");
                }
            }
        }
    }

    async fn ask_again(&mut self, lab: &LabSnapshot) -> Again {
        let Self { api, identity, token, node, .. } = self;
        let generation = api.plugins.generation();
        if generation != self.generation {
            match api.plugins.identify(&token.claims).await {
                Ok(now) if now == *identity => self.generation = generation,
                Err(refusal @ Refusal::Failed { .. }) => return Again::Failed(refusal),
                Ok(_) | Err(_) => return Again::Lost("the access token means somebody else by now"),
            }
        }
        let now = api.circumstances(identity);
        // Shells that were opened since don't take away what was there before them.
        let circumstances = Circumstances { open_shells: now.open_shells.min(self.circumstances.open_shells), ..now };
        let command = shell_in(&lab.lab.id, node);
        for action in [Action::ViewLab(lab), Action::Command(&command, lab, None)] {
            match api.plugins.authorize(identity, action, circumstances).await {
                Ok(()) => {}
                Err(refusal @ Refusal::Failed { .. }) => return Again::Failed(refusal),
                Err(refusal) => {
                    tracing::info!(user = %identity.id, %refusal, "a capture may not go on");
                    return Again::Lost("the policy doesn't allow it any more");
                }
            }
        }
        Again::Allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<CaptureQuery, String> {
        let pairs: Vec<_> = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        CaptureQuery::read(&pairs).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_number_in_its_range_is_refused_with_key_and_range() {
        let query = read(&[("snaplen", "96"), ("packets", "10"), ("seconds", ""), ("x", "y")]).expect("is taken");
        assert_eq!(query, CaptureQuery { snaplen: Some(96), packets: Some(10), ..CaptureQuery::default() });
        for (key, value) in
            [("snaplen", "0"), ("snaplen", "262145"), ("packets", "-1"), ("seconds", "1.5"), ("promiscuous", "maybe")]
        {
            let error = read(&[(key, value)]).expect_err(value);
            assert!(error.starts_with(&format!("{key}: {value:?}")), "{error}");
        }
    }

    #[test]
    fn the_name_of_the_file_is_one_for_any_system() {
        assert_eq!(file_name("Übung \"1\"", "r1", "ethernet-1/1"), "_bung__1_-r1-ethernet-1_1.pcap");
    }
}
