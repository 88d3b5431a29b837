//! What may happen to a lab, and what follows from it. Pure: no IO, no time, no tasks.
//!
//! ```text
//!   Idle ── deploy ──▶ Deploying ── up ──▶ Running
//!                       │   │  ▲              │
//!               destroy │   │  │ gone         │ deploy, destroy, lost
//!                       │   │  │              ▼
//!                       │   │ Replacing ◀── deploy ── Running, Failed
//!                       │   │  │
//!                       │   └──┴── failed ──▶ Failed ◀── lost ── Running
//!                       ▼
//!                  Cancelling ── ended ──▶ Stopping ── gone ──▶ Idle
//!                                          ▲      └─── failed ──▶ Failed
//!                                          └── destroy ── Replacing, Running, Failed
//! ```
//!
//! Two ways are left out above: Replacing goes back to where it came from when the runtime could not be reached, and Failed
//! becomes Running when an instance that nobody could ask about is found to be up.
//!
//! A deploy of a lab that has an instance replaces it: the old instance is known and named until it is gone, so that
//! nothing is lost sight of when that fails, and only then does the new one begin.
//!
//! [`super::lab_task`] feeds events in and performs the effects that come out.

use crate::labs::model::InstanceState;

/// Where a lab is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has no instance.
    Idle,
    /// Its instance is being taken down so that a new one can be brought up.
    Replacing,
    /// Its instance is being brought up.
    Deploying,
    /// Its instance was being brought up when somebody asked to destroy it; the deploy is being cancelled.
    Cancelling,
    /// Its instance is up.
    Running,
    /// Its instance is being taken down.
    Stopping,
    /// The last attempt to bring it up or down failed, or it was lost.
    Failed,
}

impl Phase {
    /// The state that clients see; `None`: there is no instance.
    pub fn instance_state(self) -> Option<InstanceState> {
        match self {
            Self::Idle => None,
            Self::Replacing | Self::Deploying => Some(InstanceState::Deploying),
            Self::Running => Some(InstanceState::Running),
            Self::Cancelling | Self::Stopping => Some(InstanceState::Stopping),
            Self::Failed => Some(InstanceState::Failed),
        }
    }
}

/// Something that happens to a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Somebody, or the schedule, asks to deploy it.
    Deploy,
    /// Somebody, or the schedule, asks to destroy it.
    Destroy,
    /// The runtime is done with bringing it up.
    DeployEnded {
        /// Whether it is up.
        up: bool,
    },
    /// The runtime is done with taking it down.
    DestroyEnded {
        /// Whether it is gone.
        gone: bool,
    },
    /// The runtime could not be reached when it was to take it down: all is as before.
    Untouched {
        /// Whether it was up before.
        up: bool,
    },
    /// The runtime says that the instance has gone by itself.
    Lost,
    /// The runtime says that an instance of which nobody could say what had become of it is up.
    Found,
}

/// What has to be done because of an event, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Start to bring an instance up.
    BeginDeploy,
    /// Tell the running deploy to stop; it will still end with [`Event::DeployEnded`].
    CancelDeploy,
    /// Start to take the instance down.
    BeginDestroy,
    /// Answer whoever asked for the deploy: it is up.
    AnswerDeployed,
    /// Answer whoever asked for the deploy: it failed.
    AnswerDeployFailed,
    /// Answer whoever asked for the deploy: it was not begun, and nothing has changed.
    AnswerDeployRefused,
    /// Answer whoever asked for the deploy: it was cancelled.
    AnswerDeployCancelled,
    /// Answer everybody who asked for the destroy: it is gone.
    AnswerDestroyed,
    /// Answer everybody who asked for the destroy: it failed.
    AnswerDestroyFailed,
    /// Tell users that the instance was lost.
    AnnounceLost,
    /// Tell users that the instance goes on.
    AnnounceRecovered,
}

/// Why an event is refused. Expected, and told to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denial {
    /// A deploy is under way.
    #[error("the lab is already being deployed")]
    AlreadyDeploying,
    /// The lab is being taken down.
    #[error("the lab is being destroyed: deploy it again when that has ended")]
    BeingDestroyed,
    /// The lab has no instance.
    #[error("the lab is not running")]
    NotRunning,
}

/// The phase after `event`, and what has to be done.
///
/// # Errors
/// A [`Denial`] leaves everything as it is. Only `Deploy` and `Destroy` can be denied.
pub fn step(phase: Phase, event: Event) -> Result<(Phase, &'static [Effect]), Denial> {
    use Effect as E;
    use Event::{Deploy, DeployEnded, Destroy, DestroyEnded, Found, Lost, Untouched};
    use Phase as P;

    Ok(match (phase, event) {
        (P::Idle, Deploy) => (P::Deploying, &[E::BeginDeploy]),
        (P::Running | P::Failed, Deploy) => (P::Replacing, &[E::BeginDestroy]),
        (P::Replacing | P::Deploying, Deploy) => return Err(Denial::AlreadyDeploying),
        (P::Cancelling | P::Stopping, Deploy) => return Err(Denial::BeingDestroyed),

        (P::Idle, Destroy) => return Err(Denial::NotRunning),
        // The destroy is under way already; there will be no deploy after it.
        (P::Replacing, Destroy) => (P::Stopping, &[E::AnswerDeployCancelled]),
        (P::Deploying, Destroy) => (P::Cancelling, &[E::CancelDeploy]),
        (P::Running | P::Failed, Destroy) => (P::Stopping, &[E::BeginDestroy]),
        // Whoever asks again gets the result of the destroy that is under way.
        (P::Cancelling | P::Stopping, Destroy) => (phase, &[]),

        (P::Deploying, DeployEnded { up: true }) => (P::Running, &[E::AnswerDeployed]),
        (P::Deploying, DeployEnded { up: false }) => (P::Failed, &[E::AnswerDeployFailed]),
        // However the deploy ended: it was to go, and a destroy makes sure of that.
        (P::Cancelling, DeployEnded { .. }) => (P::Stopping, &[E::AnswerDeployCancelled, E::BeginDestroy]),

        (P::Replacing, DestroyEnded { gone: true }) => (P::Deploying, &[E::BeginDeploy]),
        (P::Replacing, DestroyEnded { gone: false }) => (P::Failed, &[E::AnswerDeployFailed]),

        (P::Stopping, DestroyEnded { gone: true }) => (P::Idle, &[E::AnswerDestroyed]),
        (P::Stopping, DestroyEnded { gone: false } | Untouched { .. }) => (P::Failed, &[E::AnswerDestroyFailed]),

        (P::Replacing, Untouched { up: true }) => (P::Running, &[E::AnswerDeployRefused]),
        (P::Replacing, Untouched { up: false }) => (P::Failed, &[E::AnswerDeployRefused]),

        (P::Running, Lost) => (P::Failed, &[E::AnnounceLost]),
        // While something is under way, its own end tells what became of the instance.
        (_, Lost) => (phase, &[]),
        (P::Failed, Found) => (P::Running, &[E::AnnounceRecovered]),
        (_, Found) => (phase, &[]),

        // An end without a beginning changes nothing.
        (_, DeployEnded { .. } | DestroyEnded { .. } | Untouched { .. }) => (phase, &[]),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_deploy_is_refused_while_deploying() {
        assert_eq!(step(Phase::Deploying, Event::Deploy), Err(Denial::AlreadyDeploying));
    }

    #[test]
    fn destroy_is_refused_without_an_instance() {
        assert_eq!(step(Phase::Idle, Event::Destroy), Err(Denial::NotRunning));
    }

    #[test]
    fn destroy_during_deploy_never_ends_in_running() {
        let (phase, _) = step(Phase::Deploying, Event::Destroy).expect("destroy cancels");
        // The deploy may just have succeeded when it was told to stop.
        let (phase, effects) = step(phase, Event::DeployEnded { up: true }).expect("an end is never denied");
        assert_eq!(phase, Phase::Stopping);
        assert_eq!(effects, [Effect::AnswerDeployCancelled, Effect::BeginDestroy]);
    }

    #[test]
    fn a_failed_destroy_leaves_a_lab_that_can_be_destroyed_again() {
        let (phase, _) = step(Phase::Stopping, Event::DestroyEnded { gone: false }).expect("an end is never denied");
        assert_eq!(phase, Phase::Failed);
        assert_eq!(step(phase, Event::Destroy), Ok((Phase::Stopping, &[Effect::BeginDestroy][..])));
    }

    #[test]
    fn a_deploy_of_a_running_lab_takes_it_down_before_it_brings_it_up() {
        assert_eq!(step(Phase::Running, Event::Deploy), Ok((Phase::Replacing, &[Effect::BeginDestroy][..])));
        let gone = Event::DestroyEnded { gone: true };
        assert_eq!(step(Phase::Replacing, gone), Ok((Phase::Deploying, &[Effect::BeginDeploy][..])));
    }

    #[test]
    fn a_lab_whose_instance_could_not_be_touched_is_as_it_was_when_it_is_deployed_anew() {
        let untouched = |up| step(Phase::Replacing, Event::Untouched { up });
        assert_eq!(untouched(true), Ok((Phase::Running, &[Effect::AnswerDeployRefused][..])));
        assert_eq!(untouched(false), Ok((Phase::Failed, &[Effect::AnswerDeployRefused][..])));
        let asked = Event::Untouched { up: true };
        assert_eq!(step(Phase::Stopping, asked), Ok((Phase::Failed, &[Effect::AnswerDestroyFailed][..])));
    }

    #[test]
    fn a_destroy_while_an_instance_is_replaced_leaves_nothing_to_deploy() {
        let (phase, effects) = step(Phase::Replacing, Event::Destroy).expect("destroy cancels");
        assert_eq!((phase, effects), (Phase::Stopping, &[Effect::AnswerDeployCancelled][..]));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Deploy),
            Just(Event::Destroy),
            any::<bool>().prop_map(|up| Event::DeployEnded { up }),
            any::<bool>().prop_map(|gone| Event::DestroyEnded { gone }),
            any::<bool>().prop_map(|up| Event::Untouched { up }),
            Just(Event::Lost),
            Just(Event::Found),
        ]
    }

    proptest! {
        /// Plays random events against the rules, ends of jobs only while such a job runs, and checks that there is never
        /// more than one job, that each request is answered once, and that the phase says which job runs.
        #[test]
        fn there_is_at_most_one_job_and_every_request_is_answered(events in prop::collection::vec(any_event(), 0..200)) {
            let mut phase = Phase::Idle;
            let (mut deploying, mut destroying) = (false, false);
            let (mut deploys_waiting, mut destroys_waiting) = (0, 0);
            for event in events {
                match event {
                    Event::DeployEnded { .. } if !deploying => continue,
                    Event::DestroyEnded { .. } | Event::Untouched { .. } if !destroying => continue,
                    Event::DeployEnded { .. } => deploying = false,
                    Event::DestroyEnded { .. } | Event::Untouched { .. } => destroying = false,
                    Event::Deploy | Event::Destroy | Event::Lost | Event::Found => {}
                }
                let Ok((next, effects)) = step(phase, event) else {
                    prop_assert!(matches!(event, Event::Deploy | Event::Destroy));
                    continue;
                };
                match event {
                    Event::Deploy => deploys_waiting += 1,
                    Event::Destroy => destroys_waiting += 1,
                    _ => {}
                }
                for effect in effects {
                    match effect {
                        Effect::BeginDeploy => {
                            prop_assert!(!deploying && !destroying);
                            deploying = true;
                        }
                        Effect::BeginDestroy => {
                            prop_assert!(!deploying && !destroying);
                            destroying = true;
                        }
                        Effect::CancelDeploy => prop_assert!(deploying),
                        Effect::AnswerDeployed
                        | Effect::AnswerDeployFailed
                        | Effect::AnswerDeployRefused
                        | Effect::AnswerDeployCancelled => {
                            prop_assert_eq!(deploys_waiting, 1);
                            deploys_waiting = 0;
                        }
                        Effect::AnswerDestroyed | Effect::AnswerDestroyFailed => {
                            prop_assert!(destroys_waiting > 0);
                            destroys_waiting = 0;
                        }
                        Effect::AnnounceLost | Effect::AnnounceRecovered => {}
                    }
                }
                phase = next;
                prop_assert_eq!(deploying, matches!(phase, Phase::Deploying | Phase::Cancelling));
                prop_assert_eq!(destroying, matches!(phase, Phase::Replacing | Phase::Stopping));
                prop_assert_eq!(deploys_waiting > 0, deploying || phase == Phase::Replacing);
            }
        }
    }
}
