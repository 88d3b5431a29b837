//! Deploys labs at their start time, warns their users before their end time, and destroys them then.
//!
//! What is due is a pure function of the labs and the time, so that nothing is remembered that a restart would lose: a
//! start that was missed while the server was down is found at the first look. Only what failed is remembered, so that
//! it is tried again after a while, not at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Labs;
use super::model::{InstanceState, LabId, LabSnapshot};

/// The longest sleep: after it the clock is read anew, in case somebody has set it.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How long after it has failed something is tried again that is still due, at first and later on.
const AGAIN: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(5 * 60), Duration::from_secs(15 * 60)];

/// What the schedule asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Due {
    /// Deploy it.
    Start(LabId),
    /// Its whole time passed while nobody could deploy it: say so.
    Missed(LabId),
    /// Warn its users that it ends then, so long before that.
    Warn(LabId, Timestamp, Duration),
    /// Destroy it. The time is part of it: with another one it is tried at once.
    End(LabId, Timestamp),
}

/// What is due at `now`, and when to look again. Users are warned so long before the end of a lab.
fn due<'a>(
    labs: impl IntoIterator<Item = &'a LabSnapshot>,
    warn_before: &[Duration],
    now: Timestamp,
) -> (Vec<Due>, Option<Timestamp>) {
    let mut due = Vec::new();
    let mut next: Option<Timestamp> = None;
    let mut look_at = |time: Timestamp| next = Some(next.map_or(time, |next| next.min(time)));
    for snapshot in labs {
        let lab = &snapshot.lab;
        let ended = lab.end_time.is_some_and(|end| end <= now);
        match &snapshot.instance {
            None if !lab.start_pending => {}
            None if ended => due.push(Due::Missed(lab.id.clone())),
            None if lab.start_time <= now => due.push(Due::Start(lab.id.clone())),
            None => look_at(lab.start_time),
            Some(instance) => match lab.end_time {
                Some(end) if ended && instance.state != InstanceState::Stopping => {
                    due.push(Due::End(lab.id.clone(), end));
                }
                Some(end) if !ended => {
                    look_at(end);
                    if matches!(instance.state, InstanceState::Running | InstanceState::Failed) {
                        let (warning, next) = warning(end, lab.warned_before, warn_before, now);
                        due.extend(warning.map(|before| Due::Warn(lab.id.clone(), end, before)));
                        next.map(&mut look_at);
                    }
                }
                _ => {}
            },
        }
    }
    (due, next)
}

/// Whether users are to be warned now of an end that is ahead, and when next. Of times that passed while nobody could be
/// warned, the last one alone counts; `warned` is how many seconds before this end they were warned already.
fn warning(
    end: Timestamp,
    warned: Option<u32>,
    warn_before: &[Duration],
    now: Timestamp,
) -> (Option<Duration>, Option<Timestamp>) {
    let left = Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO);
    let passed = warn_before.iter().copied().filter(|before| *before >= left).min();
    let passed = passed.filter(|before| warned.is_none_or(|warned| before.as_secs() < u64::from(warned)));
    let ahead = warn_before.iter().copied().filter(|before| *before < left).max();
    (passed, ahead.and_then(|before| end.checked_sub(before).ok()))
}

/// What has been asked for already, and how it went.
#[derive(Debug, Default)]
struct Asked(HashMap<Due, Tries>);

/// How something that was asked for has gone so far.
#[derive(Debug, Default)]
struct Tries {
    /// How often it has ended with the thing still to be done.
    ended: usize,
    /// When it may be tried again; `None` while it is being tried.
    again: Option<Instant>,
}

impl Asked {
    /// Whether to ask for this now. If so, it counts as being tried until [`Self::ended`].
    fn ask(&mut self, item: &Due, now: Instant) -> bool {
        match self.0.get_mut(item) {
            None => {
                self.0.insert(item.clone(), Tries::default());
                true
            }
            Some(tries) => tries.again.take_if(|again| *again <= now).is_some(),
        }
    }

    /// A try has ended. What has been done by it isn't due any more; for the rest there is a next time.
    fn ended(&mut self, item: &Due, now: Instant) {
        if let Some(tries) = self.0.get_mut(item) {
            tries.again = Some(now + AGAIN[tries.ended.min(AGAIN.len() - 1)]);
            tries.ended += 1;
        }
    }

    /// Forgets what isn't due any more. What is being tried stays: meanwhile it isn't due either, and may be anew.
    fn retain(&mut self, due: &[Due]) {
        self.0.retain(|item, tries| tries.again.is_none() || due.contains(item));
    }

    /// When the next thing is to be tried again.
    fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|tries| tries.again).min()
    }
}

/// Keeps the schedule until the server ends. `changed` is told whenever a lab's times or state change.
pub(super) async fn run(labs: Labs, warn_before: Vec<Duration>, changed: Arc<Notify>) {
    let mut asked = Asked::default();
    // Each in a task of its own: a lab that takes minutes must not hold up the others.
    let mut tries: JoinSet<Due> = JoinSet::new();
    loop {
        let now = Timestamp::now();
        let snapshots = labs.list();
        let (due, next) = due(snapshots.iter().map(|snapshot| &**snapshot), &warn_before, now);
        asked.retain(&due);
        for item in due {
            if asked.ask(&item, Instant::now()) {
                tries.spawn(carry_out(labs.clone(), item));
            }
        }
        let sleep = next.map_or(LONGEST_SLEEP, |next| {
            Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO).min(LONGEST_SLEEP)
        });
        let again = asked.next().map_or(LONGEST_SLEEP, |again| again.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = labs.shared.closing.cancelled() => return,
            () = changed.notified() => {}
            Some(tried) = tries.join_next() => match tried {
                Ok(item) => asked.ended(&item, Instant::now()),
                Err(error) => tracing::error!(%error, "a request of the schedule broke"),
            },
            // The wait is cut to whole milliseconds somewhere below; one more makes sure that the time has come.
            () = tokio::time::sleep(sleep.min(again) + Duration::from_millis(1)) => {}
        }
    }
}

/// Asks for it, and answers what it was when that has ended. How it went is told to users like any other deploy or destroy.
async fn carry_out(labs: Labs, due: Due) -> Due {
    let result = match &due {
        Due::Start(id) => labs.deploy(id, None, None).await,
        Due::End(id, end) => labs.end(id, *end).await,
        Due::Warn(id, end, before) => {
            labs.warn(id, *end, *before).await;
            Ok(())
        }
        Due::Missed(id) => {
            labs.missed(id).await;
            Ok(())
        }
    };
    if let Err(error) = result {
        tracing::warn!(?due, %error, "the schedule's request was not carried out");
    }
    due
}

#[cfg(test)]
mod tests {
    use super::super::model::{Collection, Instance, Lab, LabState, User};
    use super::*;
    use crate::topology::Topology;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    fn lab(start: i64, end: Option<i64>, start_pending: bool, state: Option<InstanceState>) -> LabSnapshot {
        let creator = User { id: "u".into(), name: "u".into() };
        LabSnapshot {
            lab: Lab {
                id: "lab".into(),
                name: "lab".into(),
                start_time: time(start),
                end_time: end.map(time),
                topology_id: "t".into(),
                collection_id: "c".into(),
                creator: creator.clone(),
                start_pending,
                warned_before: None,
                instance: None,
            },
            collection: Collection {
                id: "c".into(),
                name: "c".into(),
                public_write: false,
                public_deploy: false,
                creator,
            },
            state: LabState::derive(state, time(start), time(100)),
            definition: String::new(),
            topology: Arc::new(Topology { name: "t".into(), prefix: None, nodes: vec![], links: vec![] }),
            instance: state.map(|state| Instance {
                name: "i".into(),
                deployed: time(0),
                state,
                since: time(0),
                nodes: vec![],
                recovered: false,
            }),
            next: None,
        }
    }

    #[test]
    fn a_lab_is_started_when_its_time_has_come_and_not_before() {
        assert_eq!(due([&lab(101, None, true, None)], &[], time(100)), (vec![], Some(time(101))));
        assert_eq!(due([&lab(100, None, true, None)], &[], time(100)), (vec![Due::Start("lab".into())], None));
    }

    #[test]
    fn a_lab_that_was_started_before_is_not_started_again() {
        assert_eq!(due([&lab(50, None, false, None)], &[], time(100)), (vec![], None));
    }

    #[test]
    fn a_start_missed_while_the_server_was_down_is_made_up_for() {
        assert_eq!(due([&lab(1, Some(200), true, None)], &[], time(100)), (vec![Due::Start("lab".into())], None));
    }

    #[test]
    fn a_lab_whose_whole_time_passed_is_shown_as_missed() {
        assert_eq!(due([&lab(1, Some(99), true, None)], &[], time(100)), (vec![Due::Missed("lab".into())], None));
    }

    #[test]
    fn a_lab_is_destroyed_at_its_end_also_while_it_is_being_deployed() {
        for state in [InstanceState::Running, InstanceState::Deploying, InstanceState::Failed] {
            assert_eq!(
                due([&lab(1, Some(100), false, Some(state))], &[], time(100)),
                (vec![Due::End("lab".into(), time(100))], None)
            );
        }
        assert_eq!(due([&lab(1, Some(100), false, Some(InstanceState::Stopping))], &[], time(100)), (vec![], None));
    }

    #[test]
    fn the_next_look_is_at_the_earliest_time_that_is_ahead() {
        let labs = [lab(300, None, true, None), lab(1, Some(200), false, Some(InstanceState::Running))];
        assert_eq!(due(&labs, &[], time(100)), (vec![], Some(time(200))));
    }

    const MINUTE: i64 = 60;
    const BEFORE: [Duration; 2] = [Duration::from_secs(900), Duration::from_secs(300)];

    /// What is due of a lab that runs and ends at 10:00, when users were warned so many seconds before.
    fn due_at(minute: i64, warned: Option<u32>, state: InstanceState) -> (Vec<Due>, Option<i64>) {
        let mut lab = lab(0, Some(600 * MINUTE), false, Some(state));
        lab.lab.warned_before = warned;
        let (due, next) = due([&lab], &BEFORE, time(minute * MINUTE));
        (due, next.map(|next| next.as_second() / MINUTE))
    }

    fn warn(before: Duration) -> Vec<Due> {
        vec![Due::Warn("lab".into(), time(600 * MINUTE), before)]
    }

    #[test]
    fn users_are_warned_once_at_each_time_before_the_end() {
        let at = |minute, warned| due_at(minute, warned, InstanceState::Running);
        assert_eq!(at(100, None), (vec![], Some(585)));
        assert_eq!(at(585, None), (warn(BEFORE[0]), Some(595)));
        assert_eq!(at(586, Some(900)), (vec![], Some(595)));
        assert_eq!(at(595, Some(900)), (warn(BEFORE[1]), Some(600)));
        assert_eq!(at(597, Some(300)), (vec![], Some(600)));
        assert_eq!(at(600, Some(300)), (vec![Due::End("lab".into(), time(600 * MINUTE))], None));
    }

    #[test]
    fn of_warnings_that_were_missed_the_last_one_is_given() {
        assert_eq!(due_at(597, None, InstanceState::Running), (warn(BEFORE[1]), Some(600)));
        assert_eq!(due_at(590, None, InstanceState::Failed), (warn(BEFORE[0]), Some(595)));
        assert_eq!(due_at(700, None, InstanceState::Running).0, [Due::End("lab".into(), time(600 * MINUTE))]);
    }

    #[test]
    fn nobody_is_warned_of_a_lab_that_is_not_up_yet_or_goes_already() {
        for state in [InstanceState::Deploying, InstanceState::Stopping] {
            assert_eq!(due_at(597, None, state), (vec![], Some(600)), "{state:?}");
        }
        assert_eq!(due([&lab(0, Some(600), true, None)], &BEFORE, time(0)).0, [Due::Start("lab".into())]);
    }

    #[test]
    fn an_end_that_fails_is_tried_again_after_ever_longer_times() {
        let (mut asked, mut now) = (Asked::default(), Instant::now());
        let end = Due::End("lab".into(), time(100));
        assert!(asked.ask(&end, now));
        for minutes in [1, 5, 15, 15] {
            // It isn't due while it is being destroyed, and not asked for twice.
            asked.retain(&[]);
            assert!(!asked.ask(&end, now + Duration::from_secs(3600)));
            now += Duration::from_secs(600);
            asked.ended(&end, now);
            asked.retain(std::slice::from_ref(&end));
            let wait = Duration::from_secs(minutes * 60);
            assert!(!asked.ask(&end, now + wait - Duration::from_millis(1)), "too early");
            assert_eq!(asked.next(), Some(now + wait));
            now += wait;
            assert!(asked.ask(&end, now), "after {minutes} minutes");
        }
    }

    #[test]
    fn an_end_that_is_moved_and_what_has_been_done_are_not_remembered() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        let end = Due::End("lab".into(), time(100));
        assert!(asked.ask(&end, now));
        asked.ended(&end, now);
        assert!(asked.ask(&Due::End("lab".into(), time(200)), now), "another time is another end");
        asked.retain(&[]);
        assert!(asked.ask(&end, now), "it was done");
    }
}
