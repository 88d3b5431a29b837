//! The task that follows what changes in the engine, and the view of all labs that it keeps.
//!
//! An event only says that there is something to look at: what counts is what a listing answers afterwards, compared with
//! what was known. So it makes no difference whether an event was missed, because the engine was restarted for instance.
//! Just the end of a node's process is passed on as it is told, because a listing may find it running again.
//!
//! ```text
//!               ┌─ no answer: wait, longer each time ─┐
//!               ▼                                     │
//!   open the stream of events ── list all, compare ── follow: event → list, compare → tell
//!               ▲                                     │
//!               └────────── the stream broke ─────────┘
//! ```
//!
//! What the driver does itself must not look like a loss: it holds an [`Expected`] meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::containers::LAB;
use super::logs::seconds;
use super::{Container, Docker, DockerError, Phase};
use crate::labs::model::NodeState;
use crate::runtime::RuntimeEvent;

/// Events that a slow subscriber may be behind before it loses some.
const BACKLOG: usize = 1024;
/// How long events are gathered at least before the engine is asked what has become of it all.
const GATHER: Duration = Duration::from_millis(20);
/// How often everything is compared although no event came.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// First and longest pause before the engine is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Most bytes of one event.
const LARGEST_EVENT: usize = 1 << 20;
/// What can change the state of a node.
const ACTIONS: [&str; 11] =
    ["create", "start", "restart", "die", "stop", "oom", "pause", "unpause", "destroy", "rename", "health_status"];

/// A node as the engine showed it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNode {
    /// Its container.
    pub container: Container,
    /// How often that was seen starting. Changes with each start, also where its state is the same as before.
    pub starts: u64,
}

/// All labs as the engine showed them last.
#[derive(Debug, Clone, Default)]
pub struct View {
    labs: Labs,
    connected: bool,
    connections: u64,
}

type Nodes = BTreeMap<String, KnownNode>;
type Labs = BTreeMap<String, Arc<Nodes>>;

impl View {
    /// Whether the engine answers: what is here is old if it doesn't.
    pub fn connected(&self) -> bool {
        self.connected
    }

    /// How often the engine was reached after it had not been.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// Names of all labs that have at least one container.
    pub fn labs(&self) -> impl Iterator<Item = &str> {
        self.labs.keys().map(String::as_str)
    }

    /// The nodes of a lab, by name; `None`: it has none.
    pub fn nodes(&self, lab: &str) -> Option<&BTreeMap<String, KnownNode>> {
        self.labs.get(lab).map(Arc::as_ref)
    }

    /// One node of a lab.
    pub fn node(&self, lab: &str, node: &str) -> Option<&KnownNode> {
        self.labs.get(lab)?.get(node)
    }
}

/// What is expected to change: a whole instance, or one node of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Subject {
    instance: String,
    node: Option<String>,
}

/// An announced change that is under way.
#[derive(Debug, Default)]
struct Expectation {
    /// How many want it to be taken as expected.
    holders: usize,
    /// The nodes that the instance had when it was announced.
    nodes: BTreeSet<String>,
}

type Expectations = HashMap<Subject, Expectation>;

/// A way to the task. Cheap to clone; the task ends with the last one.
#[derive(Debug, Clone)]
pub struct Watch {
    docker: Docker,
    view: watch::Receiver<Arc<View>>,
    expected: watch::Sender<Expectations>,
    events: broadcast::Sender<RuntimeEvent>,
    commands: mpsc::UnboundedSender<Command>,
}

#[derive(Debug)]
enum Command {
    /// An expectation is over. `stays`: the instance is meant to be there.
    Over { subject: Subject, stays: bool },
    /// Look at this lab now, and answer when that has been done.
    Look { lab: String, done: oneshot::Sender<Result<(), DockerError>> },
}

/// While this is held, whatever happens to the instance, or to the one node, is taken as asked for: nothing is told about
/// it, and nothing that follows the nodes of such an instance takes it for gone. Afterwards the states of its nodes are told
/// once, also of those that it has no more; but nothing, if it has none left, unless [`Expected::stays`] was called.
#[derive(Debug)]
pub struct Expected {
    subject: Subject,
    stays: bool,
    commands: mpsc::UnboundedSender<Command>,
}

impl Expected {
    /// Ends it, with an instance that is there now: if it has gone by the time when that is looked at, its loss is told.
    pub fn stays(mut self) {
        self.stays = true;
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        // Where the task is gone nobody is told anything any more.
        let _ = self.commands.send(Command::Over { subject: std::mem::take(&mut self.subject), stays: self.stays });
    }
}

impl Docker {
    /// Starts to follow what changes. One such task is enough for a server.
    pub fn watch(&self) -> Watch {
        let (view_sender, view) = watch::channel(Arc::new(View::default()));
        let events = broadcast::Sender::new(BACKLOG);
        let expected = watch::Sender::new(Expectations::new());
        let (commands, queue) = mpsc::unbounded_channel();
        let tracker = Tracker {
            docker: self.clone(),
            view: view_sender,
            events: events.clone(),
            expected: expected.clone(),
            commands: queue,
            labs: Labs::new(),
            connected: false,
            connections: 0,
            took: Duration::ZERO,
            has_looked: false,
            over: Vec::new(),
            changed: Changed::default(),
            untold: Vec::new(),
            listed: 0,
        };
        tokio::spawn(tracker.run());
        Watch { docker: self.clone(), view, expected, events, commands }
    }
}

impl Watch {
    /// The engine that is followed.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Changes that nobody announced by [`Watch::expect`], from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    /// What is known at the moment.
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// The same, and each change of it.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Announces that this instance is about to be deployed, destroyed or otherwise changed by the caller. To be called
    /// before that begins, and held until it has ended.
    #[must_use]
    pub fn expect(&self, instance: &str) -> Expected {
        self.announce(Subject { instance: instance.to_owned(), node: None })
    }

    /// The same for one node. What happens to the others meanwhile, and the loss of all of them, is told as ever.
    #[must_use]
    pub fn expect_node(&self, instance: &str, node: &str) -> Expected {
        self.announce(Subject { instance: instance.to_owned(), node: Some(node.to_owned()) })
    }

    fn announce(&self, subject: Subject) -> Expected {
        let nodes = self.view.borrow().nodes(&subject.instance).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        self.expected.send_modify(|expected| {
            let expectation = expected.entry(subject.clone());
            expectation.or_insert_with(|| Expectation { holders: 0, nodes }).holders += 1;
        });
        Expected { subject, stays: false, commands: self.commands.clone() }
    }

    /// Whether somebody has announced what happens to this node.
    pub fn is_node_expected(&self, instance: &str, node: &str) -> bool {
        is_expected(&self.expected.borrow(), instance, Some(node))
    }

    /// Tells subscribers something that was found out beside this.
    pub fn tell(&self, event: RuntimeEvent) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// Whether somebody holds an [`Expected`] for all of it.
    pub(super) fn is_expected(&self, instance: &str) -> bool {
        is_expected(&self.expected.borrow(), instance, None)
    }

    /// Asks the engine about one lab now; [`Watch::view`] has it afterwards.
    ///
    /// # Errors
    /// [`DockerError`] when the engine doesn't answer.
    pub async fn look(&self, lab: &str) -> Result<(), DockerError> {
        let (done, answer) = oneshot::channel();
        let gone = || DockerError::Broken("nobody follows it any more".to_owned());
        self.commands.send(Command::Look { lab: lab.to_owned(), done }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Waits until the engine has been asked at least once. No limit: it may not answer at all.
    pub async fn ready(&self) {
        // An error means that the task is gone, so that nothing will ever be known.
        let _ = self.views().wait_for(|view| view.connected).await;
    }
}

/// Whether a change of the instance, or of the node if there is one, was announced.
fn is_expected(expected: &Expectations, instance: &str, node: Option<&str>) -> bool {
    let is = |node: Option<&str>| {
        expected.contains_key(&Subject { instance: instance.to_owned(), node: node.map(str::to_owned) })
    };
    is(None) || node.is_some_and(|node| is(Some(node)))
}

/// What there is to look at, and when.
#[derive(Debug, Default)]
struct Changed {
    /// `None`: more than one lab.
    lab: Option<String>,
    due: Option<Instant>,
}

impl Changed {
    fn add(&mut self, lab: Option<&str>, gather: Duration) {
        match self.due {
            None => {
                self.lab = lab.map(str::to_owned);
                self.due = Some(Instant::now() + gather);
            }
            Some(_) if self.lab.as_deref() != lab => self.lab = None,
            Some(_) => {}
        }
    }
}

/// Why following came to an end.
enum End {
    /// Nobody holds a [`Watch`] any more.
    Unwanted,
    /// The stream broke, or the engine didn't answer.
    Broken(DockerError),
}

impl From<DockerError> for End {
    fn from(error: DockerError) -> Self {
        Self::Broken(error)
    }
}

struct Tracker {
    docker: Docker,
    view: watch::Sender<Arc<View>>,
    events: broadcast::Sender<RuntimeEvent>,
    expected: watch::Sender<Expectations>,
    commands: mpsc::UnboundedReceiver<Command>,
    labs: Labs,
    connected: bool,
    connections: u64,
    /// How long the last listing took.
    took: Duration,
    /// Whether anything was ever known: what is found at the start is no change.
    has_looked: bool,
    /// Expectations that are over, once the engine has been asked what came of them.
    over: Vec<(Subject, bool)>,
    changed: Changed,
    /// What is to be told as soon as the view that it is about is published.
    untold: Vec<RuntimeEvent>,
    /// When the listing that was made as following began was done, by the engine's clock in nanoseconds: events may be
    /// older than it.
    listed: i64,
}

impl Tracker {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.follow(&mut pause).await {
                End::Unwanted => return,
                End::Broken(error) => {
                    if std::mem::take(&mut self.connected) {
                        tracing::warn!(engine = %self.docker.host(), %error, "the Docker engine is not followed any more");
                        self.publish();
                    } else {
                        tracing::debug!(%error, "the Docker engine doesn't answer");
                    }
                }
            }
            let until = Instant::now() + pause;
            pause = (pause * 2).min(LONGEST_PAUSE);
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => break,
                    command = self.commands.recv() => match command {
                        None => return,
                        Some(Command::Over { subject, stays }) => self.over.push((subject, stays)),
                        Some(Command::Look { lab, done }) => {
                            let _ = done.send(self.look(Some(&lab)).await);
                        }
                    }
                }
            }
        }
    }

    async fn follow(&mut self, pause: &mut Duration) -> End {
        match self.follow_stream(pause).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn follow_stream(&mut self, pause: &mut Duration) -> Result<std::convert::Infallible, End> {
        // The engine doesn't say when it has begun to tell events, so it is asked for those since before the listing:
        // what happens in between is seen twice, and not never.
        let clock = self.docker.clock().await?;
        let begun = Instant::now();
        self.look(None).await?;
        let took = i64::try_from(begun.elapsed().as_nanos()).unwrap_or(i64::MAX);
        self.listed = clock.saturating_add(took);
        let filters = serde_json::json!({ "type": ["container"], "label": [LAB], "event": ACTIONS }).to_string();
        let (since, filters) = (seconds(clock), percent_encode(&filters));
        let mut stream = self.docker.open(&format!("/events?since={since}&filters={filters}"));
        if !std::mem::replace(&mut self.connected, true) {
            self.connections += 1;
            tracing::info!(engine = %self.docker.host(), labs = self.labs.len(), "following the Docker engine");
            self.publish();
        }
        *pause = FIRST_PAUSE;
        let mut buffer = Vec::new();
        let mut compare_at = Instant::now() + COMPARE_EVERY;
        loop {
            let due = self.changed.due;
            tokio::select! {
                command = self.commands.recv() => match command {
                    None => return Err(End::Unwanted),
                    Some(Command::Over { subject, stays }) => {
                        let instance = subject.instance.clone();
                        self.over.push((subject, stays));
                        self.look(Some(&instance)).await?;
                    }
                    Some(Command::Look { lab, done }) => {
                        let looked = self.look(Some(&lab)).await;
                        let broken = looked.clone().err();
                        let _ = done.send(looked);
                        if let Some(error) = broken {
                            return Err(error.into());
                        }
                    }
                },
                piece = stream.piece() => self.read(&mut buffer, &piece?.ok_or_else(ended)?)?,
                () = async { tokio::time::sleep_until(due.expect("guarded")).await }, if due.is_some() => {
                    let lab = std::mem::take(&mut self.changed).lab;
                    self.look(lab.as_deref()).await?;
                }
                () = tokio::time::sleep_until(compare_at) => {
                    self.look(None).await?;
                    compare_at = Instant::now() + COMPARE_EVERY;
                }
            }
        }
    }

    fn read(&mut self, buffer: &mut Vec<u8>, piece: &[u8]) -> Result<(), DockerError> {
        buffer.extend_from_slice(piece);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            match serde_json::from_slice::<Event>(&line) {
                Ok(event) => self.noticed(&event),
                // Better to look once too often.
                Err(error) => {
                    tracing::debug!(%error, "an event of the Docker engine that can't be read");
                    self.changed.add(None, self.gather());
                }
            }
        }
        if buffer.len() > LARGEST_EVENT {
            return Err(DockerError::Broken(format!("an event of more than {LARGEST_EVENT} bytes")));
        }
        Ok(())
    }

    fn noticed(&mut self, event: &Event) {
        let lab = event.actor.attributes.get(LAB).map(String::as_str);
        self.changed.add(lab, self.gather());
        let known = lab.and_then(|lab| self.labs.get_mut(lab)).map(Arc::make_mut);
        let Some((node, known)) = known.into_iter().flatten().find(|(_, known)| known.container.id == event.actor.id)
        else {
            return;
        };
        let before = known.container.state();
        match event.action.as_str() {
            "start" => known.starts += 1,
            "die" if event.time_nano > self.listed => {
                known.container.phase = Phase::Exited;
                known.container.health = None;
            }
            _ => return,
        }
        let (instance, node, state) = (known.container.lab.clone(), node.clone(), known.container.state());
        if state != before {
            self.tell(RuntimeEvent::Node { instance, node, state });
        }
        self.publish();
    }

    /// Asks the engine about one lab or all, tells what has changed, and settles expectations that are over.
    async fn look(&mut self, lab: Option<&str>) -> Result<(), DockerError> {
        let mut found = Labs::new();
        let begun = Instant::now();
        let containers = self.docker.containers(lab).await?;
        self.took = begun.elapsed();
        for container in containers {
            let nodes = Arc::make_mut(found.entry(container.lab.clone()).or_default());
            // Several containers of one node: the first stands for it.
            nodes.entry(container.node.clone()).or_insert(KnownNode { container, starts: 0 });
        }
        // Each once: the second time it would look as if all of it were gone.
        let seen: BTreeSet<String> = match lab {
            Some(lab) => [lab.to_owned()].into(),
            None => self.labs.keys().chain(found.keys()).cloned().collect(),
        };
        for lab in seen {
            self.compare(&lab, found.remove(&lab));
        }
        if lab.is_none() {
            self.has_looked = true;
        }
        self.settle(lab);
        self.publish();
        Ok(())
    }

    /// An engine that has much to do, such as a large lab to bring up, is not asked all the time.
    fn gather(&self) -> Duration {
        GATHER.max(2 * self.took)
    }

    fn compare(&mut self, lab: &str, found: Option<Arc<Nodes>>) {
        let before = self.labs.remove(lab);
        let mut now = found.unwrap_or_default();
        let mut changes = Vec::new();
        let mut changed = |node: &str, state| {
            let (instance, node) = (lab.to_owned(), node.to_owned());
            changes.push(RuntimeEvent::Node { instance, node, state });
        };
        let none = Arc::default();
        let known = before.as_ref().unwrap_or(&none);
        for (name, node) in Arc::make_mut(&mut now) {
            let state = node.container.state();
            match known.get(name) {
                None => changed(name, state),
                Some(before) => {
                    if before.container.id == node.container.id {
                        node.starts = before.starts;
                    }
                    if before.container.state() != state {
                        changed(name, state);
                    }
                }
            }
        }
        for (name, node) in known.iter().filter(|(name, _)| !now.contains_key(*name)) {
            if node.container.state() != NodeState::Exited {
                changed(name, NodeState::Exited);
            }
        }
        if now.is_empty() {
            if let Some(before) = before.filter(|before| !before.is_empty()) {
                let reason = if self.connected {
                    format!("the last of its containers ({}) was removed from outside", names(&before))
                } else {
                    format!("its containers ({}) are gone since the Docker engine was away", names(&before))
                };
                changes.push(RuntimeEvent::InstanceLost { instance: lab.to_owned(), reason });
            }
        } else {
            self.labs.insert(lab.to_owned(), now);
        }
        if self.has_looked {
            changes.into_iter().for_each(|change| self.tell(change));
        }
    }

    /// Ends expectations that are over and whose outcome has just been looked at.
    fn settle(&mut self, looked_at: Option<&str>) {
        let (settled, rest) = std::mem::take(&mut self.over)
            .into_iter()
            .partition(|(subject, _)| looked_at.is_none_or(|lab| lab == subject.instance));
        self.over = rest;
        let settled: Vec<(Subject, bool)> = settled;
        for (subject, stays) in settled {
            let mut ended = None;
            self.expected.send_modify(|expected| {
                if let Some(expectation) = expected.get_mut(&subject) {
                    expectation.holders -= 1;
                    if expectation.holders == 0 {
                        ended = expected.remove(&subject);
                    }
                }
            });
            let Some(ended) = ended else { continue };
            let Subject { instance, node: only } = subject;
            // Without any node it was destroyed, or its loss was told.
            let Some(nodes) = self.labs.get(&instance).cloned() else {
                if stays && only.is_none() {
                    let reason = "its containers were removed from outside as soon as it was up".to_owned();
                    self.tell(RuntimeEvent::InstanceLost { instance, reason });
                }
                continue;
            };
            let names = ended.nodes.iter().chain(nodes.keys()).collect::<BTreeSet<_>>();
            for name in names.into_iter().filter(|name| only.as_ref().is_none_or(|only| only == *name)) {
                // Of those that have gone meanwhile nobody would ever hear again.
                let state = nodes.get(name).map_or(NodeState::Exited, |node| node.container.state());
                self.tell(RuntimeEvent::Node { instance: instance.clone(), node: name.clone(), state });
            }
        }
    }

    /// Has it told, unless it is expected, once the view shows it.
    fn tell(&mut self, event: RuntimeEvent) {
        let (instance, node) = match &event {
            RuntimeEvent::Node { instance, node, .. } | RuntimeEvent::Note { instance, node, .. } => {
                (instance, Some(node.as_str()))
            }
            RuntimeEvent::InstanceLost { instance, .. } => (instance, None),
        };
        if !is_expected(&self.expected.borrow(), instance, node) {
            tracing::debug!(?event, "the Docker engine has changed something");
            self.untold.push(event);
        }
    }

    /// Publishes the view, and then what is to be told: whoever hears of it looks at the view.
    fn publish(&mut self) {
        let (labs, connected, connections) = (self.labs.clone(), self.connected, self.connections);
        self.view.send_replace(Arc::new(View { labs, connected, connections }));
        for event in self.untold.drain(..) {
            // Nobody may be listening.
            let _ = self.events.send(event);
        }
    }
}

fn names(nodes: &Nodes) -> String {
    nodes.values().map(|node| node.container.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn ended() -> DockerError {
    DockerError::Broken("the stream of events has ended".to_owned())
}

/// A text as it can stand in the query of an address.
fn percent_encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    actor: Actor,
    /// Nanoseconds since 1970.
    #[serde(default, rename = "timeNano")]
    time_nano: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    /// Labels of the container among them.
    #[serde(default)]
    attributes: HashMap<String, String>,
}
