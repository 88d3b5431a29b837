//! How often plugins are asked, what comes of it, and how long it takes.
//!
//! `chain` and `watch` begin an [`Asking`] for each question and say how it ended; `plugin` lets the breaker have its say.
//! A question is counted when it has ended, once, with the one outcome that it had.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::breaker::{Admission, Asked, Breaker, BreakerReport};
use super::config::Hook;
use super::decision::{CallFailure, Refusal};
use super::plugin::{Plugin, PluginInfo};
use super::record::Input;
use crate::metrics::{Durations, Histogram, Sharded};

/// The steps that calls are counted in, in microseconds.
const STEPS: &[u64] =
    &[5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

/// What came of a question to a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A validator passed the command on as it was, or a policy allowed something.
    Allow,
    /// A policy denied something, or refused a token.
    Deny,
    /// A validator rejected the command.
    Reject,
    /// A validator made another command of it.
    Rewrite,
    /// A policy identified somebody, or a formatter worded an event.
    Answer,
    /// A policy that doesn't know somebody, or a formatter that has no words, left it to the next.
    Leave,
    /// [`CallFailure::TimedOut`]
    TimedOut,
    /// [`CallFailure::OutOfMemory`]
    OutOfMemory,
    /// [`CallFailure::TableOverflow`]
    TableOverflow,
    /// [`CallFailure::Oversize`]
    Oversize,
    /// [`CallFailure::StackOverflow`]
    StackOverflow,
    /// [`CallFailure::Trapped`]
    Trapped,
    /// [`CallFailure::InvalidAnswer`]
    InvalidAnswer,
    /// [`CallFailure::Busy`]
    Busy,
    /// [`CallFailure::BreakerOpen`]
    BreakerOpen,
    /// Whoever asked went away before there was an answer.
    Cancelled,
}

impl Outcome {
    /// All of them, each at the place of its discriminant.
    pub const ALL: [Self; 16] = [
        Self::Allow,
        Self::Deny,
        Self::Reject,
        Self::Rewrite,
        Self::Answer,
        Self::Leave,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::TableOverflow,
        Self::Oversize,
        Self::StackOverflow,
        Self::Trapped,
        Self::InvalidAnswer,
        Self::Busy,
        Self::BreakerOpen,
        Self::Cancelled,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Reject => "reject",
            Self::Rewrite => "rewrite",
            Self::Answer => "answer",
            Self::Leave => "leave",
            Self::TimedOut => "timeout",
            Self::OutOfMemory => "out-of-memory",
            Self::TableOverflow => "table",
            Self::Oversize => "oversize",
            Self::StackOverflow => "stack",
            Self::Trapped => "trap",
            Self::InvalidAnswer => "invalid-answer",
            Self::Busy => "busy",
            Self::BreakerOpen => "breaker-open",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the plugin said no.
    fn is_refusal(self) -> bool {
        matches!(self, Self::Deny | Self::Reject)
    }

    /// Whether there was no answer that makes sense.
    fn is_failure(self) -> bool {
        !matches!(
            self,
            Self::Allow | Self::Deny | Self::Reject | Self::Rewrite | Self::Answer | Self::Leave | Self::Cancelled
        )
    }

    /// What the answer `yes` or a refusal amounts to.
    pub(super) fn of<T>(verdict: &Result<T, Refusal>, yes: Self) -> Self {
        match verdict {
            Ok(_) => yes,
            Err(Refusal::Rejected { .. }) => Self::Reject,
            Err(Refusal::Denied { .. } | Refusal::Unrecognised) => Self::Deny,
            Err(Refusal::Failed { failure, .. }) => failure.into(),
        }
    }
}

impl From<&CallFailure> for Outcome {
    fn from(failure: &CallFailure) -> Self {
        match failure {
            CallFailure::TimedOut(_) => Self::TimedOut,
            CallFailure::OutOfMemory(_) => Self::OutOfMemory,
            CallFailure::TableOverflow(_) => Self::TableOverflow,
            CallFailure::Oversize(_) => Self::Oversize,
            CallFailure::StackOverflow => Self::StackOverflow,
            CallFailure::Trapped(_) => Self::Trapped,
            CallFailure::InvalidAnswer(_) => Self::InvalidAnswer,
            CallFailure::Busy => Self::Busy,
            CallFailure::BreakerOpen => Self::BreakerOpen,
        }
    }
}

/// The functions of a hook, in the order in which they are counted.
fn functions(hook: Hook) -> &'static [&'static str] {
    match hook {
        Hook::CommandValidator => &["validate"],
        Hook::AuthPolicy => &["authorize", "identify"],
        Hook::StatusFormatter => &["format"],
    }
}

/// How often a plugin was asked since it was loaded, and what came of it, whether it was acted upon or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PluginCounts {
    /// Questions that have ended.
    pub calls: u64,
    /// Rejections and denials.
    pub refusals: u64,
    /// Calls that failed, or answered what makes no sense.
    pub failures: u64,
}

/// All that was counted of a plugin since it was loaded.
#[derive(Debug, Clone)]
pub struct PluginReport {
    /// Which one.
    pub info: PluginInfo,
    /// In short.
    pub counts: PluginCounts,
    /// Of each of its functions.
    pub functions: Vec<FunctionReport>,
    /// Calls of which some log lines were dropped, since they were more than the budget allows.
    pub log_cut: u64,
    /// How its breaker is.
    pub breaker: BreakerReport,
}

/// What was counted of one function of a plugin.
#[derive(Debug, Clone)]
pub struct FunctionReport {
    /// Its name in `wit/`.
    pub function: &'static str,
    /// How often each outcome came about, for all of [`Outcome::ALL`].
    pub outcomes: Vec<(Outcome, u64)>,
    /// How long the questions took, waiting for other calls of the plugin included.
    pub times: Durations,
}

/// The same while it is counted.
#[derive(Debug)]
pub(super) struct Counts {
    functions: Sharded<[Tally; 2]>,
    log_cut: AtomicU64,
}

#[derive(Debug)]
struct Tally {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    times: Histogram,
}

impl Tally {
    fn new() -> Self {
        Self { outcomes: [const { AtomicU64::new(0) }; Outcome::ALL.len()], times: Histogram::new(STEPS) }
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self { functions: Sharded::new(|| [Tally::new(), Tally::new()]), log_cut: AtomicU64::new(0) }
    }
}

impl Counts {
    /// A call's log was cut.
    pub(super) fn log_was_cut(&self) {
        self.log_cut.fetch_add(1, Ordering::Relaxed);
    }

    fn record(&self, function: usize, outcome: Outcome, time: std::time::Duration) {
        let tally = &self.functions.mine()[function];
        tally.times.record(time);
        tally.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn of_function(&self, index: usize, function: &'static str) -> FunctionReport {
        let mut times = Histogram::new(STEPS).now();
        let mut outcomes = Outcome::ALL.map(|outcome| (outcome, 0));
        for tally in self.functions.all().map(|tallies| &tallies[index]) {
            for ((_, sum), count) in outcomes.iter_mut().zip(&tally.outcomes) {
                *sum += count.load(Ordering::Relaxed);
            }
            times.add(&tally.times.now());
        }
        FunctionReport { function, outcomes: outcomes.into(), times }
    }
}

impl Plugin {
    /// A question to this plugin begins.
    pub(super) fn ask<'a>(&'a self, asked: Asked<'a>) -> Asking<'a> {
        // `identify` is the one function that isn't the first of its hook.
        let function = usize::from(matches!(asked, Asked::Claims(_) | Asked::Recorded(Input::Identify { .. })));
        Asking { plugin: self, asked, function, begun: Instant::now(), probe: false.into(), ended: false }
    }

    /// What has been counted so far.
    pub(super) fn report(&self) -> PluginReport {
        let functions = functions(self.info.hook).iter().enumerate();
        let functions: Vec<_> = functions.map(|(index, name)| self.counts.of_function(index, name)).collect();
        let sum = |which: fn(Outcome) -> bool| -> u64 {
            let outcomes = functions.iter().flat_map(|function| &function.outcomes);
            outcomes.filter(|(outcome, _)| which(*outcome)).map(|(_, count)| count).sum()
        };
        PluginReport {
            info: self.info.clone(),
            counts: PluginCounts {
                calls: sum(|_| true),
                refusals: sum(Outcome::is_refusal),
                failures: sum(Outcome::is_failure),
            },
            functions,
            log_cut: self.counts.log_cut.load(Ordering::Relaxed),
            breaker: self.breaker.report(),
        }
    }
}

/// A question to a plugin, from its beginning to its end.
pub(super) struct Asking<'a> {
    plugin: &'a Plugin,
    asked: Asked<'a>,
    function: usize,
    begun: Instant,
    /// It is the one that finds out whether the plugin works again.
    probe: std::sync::atomic::AtomicBool,
    ended: bool,
}

impl Asking<'_> {
    fn breaker(&self) -> &Breaker {
        &self.plugin.breaker
    }

    /// Whether the plugin is to be asked at all. May be asked more than once.
    ///
    /// # Errors
    /// [`CallFailure::BreakerOpen`], which is not logged: the breaker has said so once, when it opened.
    pub(super) fn admit(&self) -> Result<(), CallFailure> {
        if self.probe.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.breaker().admit(&self.asked) {
            Admission::Usual => Ok(()),
            Admission::Probe => {
                self.probe.store(true, Ordering::Relaxed);
                Ok(())
            }
            Admission::Refused => Err(CallFailure::BreakerOpen),
        }
    }

    /// It has ended.
    pub(super) fn end(mut self, outcome: Outcome) {
        self.count(outcome);
        self.ended = true;
        let (info, probe) = (&self.plugin.info, *self.probe.get_mut());
        match outcome {
            // It was asked nothing, or there was no room: that says nothing of the plugin.
            Outcome::BreakerOpen | Outcome::Busy => {
                if probe {
                    self.breaker().probe_is_lost();
                }
            }
            outcome if outcome.is_failure() => self.breaker().fault(&self.asked, probe, info),
            _ => self.breaker().success(info),
        }
    }

    fn count(&self, outcome: Outcome) {
        let (info, time) = (&self.plugin.info, self.begun.elapsed());
        self.plugin.counts.record(self.function, outcome, time);
        tracing::debug!(
            plugin = info.name, hook = %info.hook, function = functions(info.hook)[self.function],
            outcome = outcome.name(), micros = time.as_micros(), "a plugin was asked"
        );
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.count(Outcome::Cancelled);
        if *self.probe.get_mut() {
            self.breaker().probe_is_lost();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_outcome_has_its_place_and_a_name_of_its_own() {
        let mut names: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Outcome::ALL.len());
    }

    #[test]
    fn functions_are_counted_apart_and_threads_together() {
        let counts = Counts::default();
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| counts.record(0, Outcome::Deny, Duration::from_micros(3)));
            }
        });
        counts.record(1, Outcome::TimedOut, Duration::from_millis(50));
        let (first, second) = (counts.of_function(0, "authorize"), counts.of_function(1, "identify"));
        assert_eq!(first.outcomes[Outcome::Deny as usize], (Outcome::Deny, 10));
        assert_eq!((first.times.count(), first.times.buckets[0]), (10, 10));
        assert_eq!(second.outcomes[Outcome::TimedOut as usize], (Outcome::TimedOut, 1));
        assert_eq!((second.times.count(), second.times.sum), (1, Duration::from_millis(50)));
    }
}
