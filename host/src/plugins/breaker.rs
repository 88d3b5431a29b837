//! The breaker of a plugin that keeps failing: its questions are then answered at once, as failed, and cost nothing.
//!
//! ```text
//!            so many faults in a row, whoever asked
//!   closed ───────────────────────────────────────────▶ open ──┐ a probe failed:
//!      ▲                                                 │ ▲   │ twice as long
//!      └──────────── any answer that makes sense ────────┘ └───┘
//! ```
//!
//! What a plugin fails on may be what one user sent: that must not take it away from everybody. So an open breaker
//! refuses only what has shown to be in vain: a question by somebody who met one of these faults, about something that
//! met one of them as well. Whoever met none, and whatever met none, is put to the plugin as ever; and one answer that
//! makes sense closes the breaker. A plugin that is broken for everything is thus asked once by each user and about each
//! thing, and then left alone but for one question, of whatever sort, after each cool-down. Only when hundreds of users
//! and things have met faults without one answer in between, everything counts as known to be in vain.
//!
//! A plugin that answers now and then would have its breaker open and close all the time, and be asked in vain most of it.
//! So what it cools down doubles with each probe that fails, up to [`LONGEST`] times what is configured; and a breaker that
//! opens again before it has been closed for as long as it last cooled down goes on from there. Once it has been closed
//! for that long, it begins anew.
//!
//! That a plugin was busy is not a fault: it says how much was asked, and nothing of the plugin.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::mem::discriminant;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::config::BreakerConfig;
use super::decision::{Action, Command, Event, Namespace};
use super::plugin::PluginInfo;
use super::record::Input;
use crate::auth::{Claims, Identity};

/// So many users, and so many things, are told apart.
const REMEMBERED: usize = 256;

/// So many times what is configured does a plugin cool down at most.
const LONGEST: u32 = 16;

/// What a plugin is asked, as far as faults depend on it.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    /// Is this command valid?
    Command(&'a Identity, &'a Command),
    /// Whose token is this?
    Claims(&'a Claims),
    /// May this user do that?
    Action(&'a Identity, Action<'a>),
    /// How is this event worded?
    Event(&'a Event),
    /// Any of these, as it was recorded.
    Recorded(&'a Input),
}

impl Asked<'_> {
    /// Who asks.
    fn asker(&self, keys: &RandomState) -> u64 {
        match self {
            Self::Command(user, _) | Self::Action(user, _) => keys.hash_one(user.id.as_str()),
            // Whoever the bearer says they are; each token of theirs has other times.
            Self::Claims(Claims(claims)) => match ["id", "sub"].iter().find_map(|name| claims.get(*name)) {
                Some(id) => keys.hash_one(id.to_string()),
                None => keys.hash_one(serde_json::to_string(claims).unwrap_or_default()),
            },
            Self::Event(event) => keys.hash_one(event.by.as_ref().map(|user| user.as_str())),
            Self::Recorded(input) => keys.hash_one(input.asker()),
        }
    }

    /// What it is about: the object, and what is to be done to it.
    fn subject(&self, keys: &RandomState) -> u64 {
        match self {
            Self::Command(_, command) => keys.hash_one((command.kind, command.lab_id.as_str())),
            Self::Claims(_) => 0,
            Self::Action(_, action) => {
                let about = about(action);
                let kind = if let Action::Command(command, ..) = action { Some(command.kind) } else { None };
                keys.hash_one((discriminant(action), kind, about))
            }
            Self::Event(event) => keys.hash_one((discriminant(&event.what), event.lab.lab.id.as_str())),
            Self::Recorded(input) => keys.hash_one(input.subject()),
        }
    }
}

/// The object of an action: ids where there are some, and otherwise what it is to be called.
fn about<'a>(action: &Action<'a>) -> (&'a str, &'a str) {
    match *action {
        Action::Connect(namespace) => match namespace {
            Namespace::LabCommands => ("lab-commands", ""),
            Namespace::LabUpdates => ("lab-updates", ""),
            Namespace::StatusMessages => ("status-messages", ""),
            Namespace::ShellCommands => ("shell-commands", ""),
            Namespace::LabLog(lab) => ("logs", lab.lab.id.as_str()),
            Namespace::NodeLog(lab, node) => (lab.lab.id.as_str(), node),
            Namespace::Shell(shell, _) => ("shells", shell.id.as_str()),
        },
        Action::Command(_, lab, _)
        | Action::ViewLab(lab)
        | Action::UpdateLab(lab, _)
        | Action::DeleteLab(lab)
        | Action::CreateLab(lab) => (lab.lab.id.as_str(), &lab.lab.name),
        Action::ViewTopology(view)
        | Action::CreateTopology(view)
        | Action::UpdateTopology(view, _)
        | Action::DeleteTopology(view) => (view.stored.id.as_str(), &view.definition.name),
        Action::ViewCollection(collection)
        | Action::CreateCollection(collection)
        | Action::UpdateCollection(collection, _)
        | Action::DeleteCollection(collection) => (collection.id.as_str(), &collection.name),
    }
}

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The plugin is asked.
    Usual,
    /// It is asked to find out whether it works again. What came of it has to be said.
    Probe,
    /// It isn't asked.
    Refused,
}

/// How a breaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerReport {
    /// Whether it is open: what has shown to be in vain isn't asked.
    pub open: bool,
    /// Faults without an answer in between, up to now.
    pub faults_in_a_row: u32,
    /// How many users met them; 256 means as many or more.
    pub users: usize,
    /// How often it has opened since the plugin was loaded.
    pub opened: u64,
}

/// The breaker of one plugin.
pub(super) struct Breaker {
    config: BreakerConfig,
    /// Faults in a row. As long as there are none, this is all that is looked at.
    faults: AtomicU32,
    state: Mutex<State>,
    keys: RandomState,
}

#[derive(Default)]
struct State {
    /// When the next probe may be made, while it is open.
    open_until: Option<Instant>,
    probing: bool,
    /// How long it cools down, or did last, as a multiple of what is configured; 0: it was never open.
    times: u32,
    /// When it was last open, as far as somebody would notice.
    closed: Option<Instant>,
    askers: HashSet<u64>,
    subjects: HashSet<u64>,
    opened: u64,
}

/// Remembers one more, as long as there is room.
fn remember(known: &mut HashSet<u64>, one: u64) {
    if known.len() < REMEMBERED {
        known.insert(one);
    }
}

fn is_known(known: &HashSet<u64>, one: u64) -> bool {
    known.len() >= REMEMBERED || known.contains(&one)
}

impl Breaker {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self { config, faults: AtomicU32::new(0), state: Mutex::default(), keys: RandomState::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this question is put to the plugin.
    pub(super) fn admit(&self, asked: &Asked<'_>) -> Admission {
        if self.faults.load(Ordering::Relaxed) < self.config.failures || self.config.failures == 0 {
            return Admission::Usual;
        }
        self.admit_at(self.asker(asked), self.subject(asked), Instant::now())
    }

    fn asker(&self, asked: &Asked<'_>) -> u64 {
        asked.asker(&self.keys)
    }

    fn subject(&self, asked: &Asked<'_>) -> u64 {
        asked.subject(&self.keys)
    }

    fn admit_at(&self, asker: u64, subject: u64, now: Instant) -> Admission {
        let mut state = self.state();
        let Some(until) = state.open_until else { return Admission::Usual };
        if now >= until && !state.probing {
            state.probing = true;
            return Admission::Probe;
        }
        if is_known(&state.askers, asker) && is_known(&state.subjects, subject) {
            Admission::Refused
        } else {
            Admission::Usual
        }
    }

    /// The plugin failed.
    pub(super) fn fault(&self, asked: &Asked<'_>, probe: bool, info: &PluginInfo) {
        if self.config.failures == 0 {
            return;
        }
        if self.fault_at(self.asker(asked), self.subject(asked), probe, Instant::now()) {
            tracing::error!(
                plugin = info.name, hook = %info.hook, faults = self.config.failures,
                "the plugin keeps failing: its breaker opens, and what it failed on is not put to it for {:?}",
                self.config.cool_down() * self.state().times.max(1)
            );
        }
    }

    /// Whether it has opened by this.
    fn fault_at(&self, asker: u64, subject: u64, probe: bool, now: Instant) -> bool {
        let mut state = self.state();
        let faults = self.faults.load(Ordering::Relaxed).saturating_add(1);
        self.faults.store(faults, Ordering::Relaxed);
        remember(&mut state.askers, asker);
        remember(&mut state.subjects, subject);
        if probe {
            state.probing = false;
        }
        let opens = state.open_until.is_none() && faults >= self.config.failures;
        if opens {
            let last = self.config.cool_down() * state.times;
            let soon = state.closed.is_some_and(|closed| now.saturating_duration_since(closed) < last);
            state.times = if soon { (state.times * 2).min(LONGEST) } else { 1 };
        } else if probe && state.open_until.is_some() {
            state.times = (state.times * 2).min(LONGEST);
        }
        if opens || (probe && state.open_until.is_some()) {
            state.open_until = Some(now + self.config.cool_down() * state.times);
        }
        state.opened += u64::from(opens);
        opens
    }

    /// The plugin answered, and it makes sense.
    pub(super) fn success(&self, info: &PluginInfo) {
        if self.faults.load(Ordering::Relaxed) != 0 && self.closes_at(Instant::now()) {
            tracing::info!(plugin = info.name, hook = %info.hook, "the plugin answers: its breaker closes");
        }
    }

    /// Forgets all faults; whether it was open.
    fn closes_at(&self, now: Instant) -> bool {
        let mut state = self.state();
        self.faults.store(0, Ordering::Relaxed);
        let was_open = state.open_until.is_some();
        let closed = if was_open { Some(now) } else { state.closed };
        *state = State { opened: state.opened, times: state.times, closed, ..State::default() };
        was_open
    }

    /// A probe ended without telling anything: the next question is one.
    pub(super) fn probe_is_lost(&self) {
        self.state().probing = false;
    }

    pub(super) fn report(&self) -> BreakerReport {
        let state = self.state();
        BreakerReport {
            open: state.open_until.is_some(),
            faults_in_a_row: self.faults.load(Ordering::Relaxed),
            users: state.askers.len(),
            opened: state.opened,
        }
    }
}

impl BreakerConfig {
    /// How long an open breaker waits before it lets a question through.
    pub fn cool_down(&self) -> Duration {
        Duration::from_millis(self.cool_down_ms.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVE: u64 = 1;
    const BOB: u64 = 2;
    const COOL_DOWN: Duration = Duration::from_millis(5_000);

    fn breaker() -> Breaker {
        Breaker::new(BreakerConfig { failures: 3, cool_down_ms: 5_000 })
    }

    /// A breaker that eve's questions about lab 10 have opened.
    fn opened(at: Instant) -> Breaker {
        let breaker = breaker();
        assert!(!breaker.fault_at(EVE, 10, false, at) && !breaker.fault_at(EVE, 10, false, at));
        assert_eq!(breaker.admit_at(EVE, 10, at), Admission::Usual);
        assert!(breaker.fault_at(EVE, 10, false, at), "so many in a row");
        breaker
    }

    #[test]
    fn what_has_failed_is_refused_and_whoever_met_no_fault_is_not() {
        let now = Instant::now();
        let breaker = opened(now);
        assert_eq!(breaker.admit_at(EVE, 10, now), Admission::Refused);
        // Eve about something else, and somebody else about the same.
        assert_eq!(breaker.admit_at(EVE, 11, now), Admission::Usual);
        assert_eq!(breaker.admit_at(BOB, 10, now), Admission::Usual);
        assert_eq!(breaker.report(), BreakerReport { open: true, faults_in_a_row: 3, users: 1, opened: 1 });
    }

    #[test]
    fn an_answer_in_between_begins_the_count_anew_and_an_answer_closes() {
        let now = Instant::now();
        let breaker = breaker();
        for _ in 0..10 {
            assert!(!breaker.fault_at(EVE, 10, false, now) && !breaker.fault_at(EVE, 10, false, now));
            assert!(!breaker.closes_at(now), "it was never open");
        }
        let breaker = opened(now);
        assert!(breaker.closes_at(now));
        assert_eq!(breaker.admit_at(EVE, 10, now), Admission::Usual);
        assert_eq!(breaker.report(), BreakerReport { open: false, faults_in_a_row: 0, users: 0, opened: 1 });
    }

    #[test]
    fn a_plugin_that_fails_for_everybody_is_left_alone_by_each_after_one_fault() {
        let now = Instant::now();
        let breaker = opened(now);
        assert_eq!(breaker.admit_at(BOB, 10, now), Admission::Usual);
        assert!(!breaker.fault_at(BOB, 10, false, now), "it is open already");
        assert_eq!(breaker.admit_at(BOB, 10, now), Admission::Refused);
        // Beyond what is remembered, nobody is told apart any more.
        for other in 0..1_000 {
            breaker.fault_at(100 + other, 100 + other, false, now);
        }
        assert_eq!(breaker.admit_at(50_000, 50_000, now), Admission::Refused);
        assert_eq!(breaker.report().users, REMEMBERED);
    }

    #[test]
    fn after_the_cool_down_one_question_is_let_through_and_decides() {
        let begin = Instant::now();
        let breaker = opened(begin);
        let later = begin + Duration::from_millis(5_000);
        assert_eq!(breaker.admit_at(EVE, 10, later - Duration::from_millis(1)), Admission::Refused);
        assert_eq!(breaker.admit_at(EVE, 10, later), Admission::Probe);
        assert_eq!(breaker.admit_at(EVE, 10, later), Admission::Refused, "one at a time");
        // Whoever asked went away.
        breaker.probe_is_lost();
        assert_eq!(breaker.admit_at(EVE, 10, later), Admission::Probe);
        assert!(!breaker.fault_at(EVE, 10, true, later));
        assert_eq!(breaker.admit_at(EVE, 10, later), Admission::Refused, "it cools down again");
        assert_eq!(breaker.admit_at(EVE, 10, later + COOL_DOWN), Admission::Refused, "for twice as long");
        assert_eq!(breaker.admit_at(EVE, 10, later + 2 * COOL_DOWN), Admission::Probe);
        assert!(breaker.closes_at(later + 2 * COOL_DOWN));
    }

    /// How long it takes from `open` until somebody is asked again, as a multiple of what is configured.
    fn cools_down(breaker: &Breaker, open: Instant) -> u32 {
        let asked = |times: &u32| breaker.admit_at(EVE, 10, open + COOL_DOWN * *times) == Admission::Probe;
        (1..100).find(asked).unwrap_or(100)
    }

    #[test]
    fn a_plugin_that_goes_on_failing_is_asked_less_and_less_often_down_to_a_bound() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for expected in [1, 2, 4, 8, 16, 16] {
            let times = cools_down(&breaker, now);
            assert_eq!(times, expected);
            now += COOL_DOWN * times;
            assert!(!breaker.fault_at(EVE, 10, true, now));
        }
    }

    #[test]
    fn a_plugin_that_answers_now_and_then_cools_down_longer_each_time_until_it_has_been_well_for_as_long() {
        let mut now = Instant::now();
        let breaker = opened(now);
        let fails = |now| assert_eq!((0..3).filter(|_| breaker.fault_at(EVE, 10, false, now)).count(), 1);
        for expected in [1, 2, 4] {
            let times = cools_down(&breaker, now);
            assert_eq!(times, expected);
            now += COOL_DOWN * times;
            assert!(breaker.closes_at(now), "the probe was answered");
            now += COOL_DOWN / 2;
            fails(now);
        }
        assert_eq!(cools_down(&breaker, now), 8);
        now += COOL_DOWN * 8;
        assert!(breaker.closes_at(now));
        // An answer while it is closed is nothing new.
        assert!(!breaker.closes_at(now + COOL_DOWN));
        now += COOL_DOWN * 8;
        fails(now);
        assert_eq!(cools_down(&breaker, now), 1);
        assert_eq!(breaker.report().opened, 5);
    }

    #[test]
    fn tokens_of_one_person_are_one_asker_whatever_their_times() {
        let keys = RandomState::new();
        let asker = |claims: serde_json::Value| {
            let serde_json::Value::Object(claims) = claims else { panic!("claims are an object") };
            Asked::Claims(&Claims(claims)).asker(&keys)
        };
        let eve = asker(serde_json::json!({"id": "eve", "iat": 1}));
        assert_eq!(eve, asker(serde_json::json!({"id": "eve", "iat": 2})));
        assert_ne!(eve, asker(serde_json::json!({"id": "bob", "iat": 1})));
        assert_ne!(asker(serde_json::json!({"email": "a"})), asker(serde_json::json!({"email": "b"})));
    }
}
