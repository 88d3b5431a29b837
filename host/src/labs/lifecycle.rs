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
//! ```text
//!   Running ── save ──▶ Saving ── ended ──▶ Running
//!                         └── destroy, lost ──▶ as from Running; the save is cancelled
//! ```
//!
//! Two ways are left out above: Replacing goes back to where it came from when the runtime could not be reached, and Failed
//! becomes Running when an instance that nobody could ask about is found to be up.
//!
//! A deploy of a lab that has an instance replaces it: the old instance is known and named until it is gone, so that
//! nothing is lost sight of when that fails, and only then does the new one begin.
//!
//! A lab that is being saved is up for everybody else: clients see it running, and its nodes can be started and stopped. It
//! can't be deployed anew, which would throw away what is just being saved; a destroy doesn't wait.
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
    /// Its instance is up, and the configurations of its nodes are being saved.
    Saving,
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
            Self::Running | Self::Saving => Some(InstanceState::Running),
            Self::Cancelling | Self::Stopping => Some(InstanceState::Stopping),
            Self::Failed => Some(InstanceState::Failed),
        }
    }

    /// Whether its instance is up, and is to stay so as far as anybody knows.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Saving)
    }
}

/// Something that happens to a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Somebody, or the schedule, asks to deploy it.
    Deploy,
    /// Somebody, or the schedule, asks to destroy it.
    Destroy,
    /// Somebody asks to save the configurations of its nodes.
    Save,
    /// Somebody asks for a checkpoint of it, which begins with a save if it is up.
    Keep,
    /// The save is done, or has failed.
    SaveEnded,
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
    /// Start to save the configurations of its nodes.
    BeginSave,
    /// Make a checkpoint of the lab as it is, without any instance.
    BeginKeep,
    /// Tell the save that is under way to stop. Whoever asked for it is answered when it has.
    CancelSave,
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
    /// A save is under way, or a checkpoint is being made.
    #[error("the lab is being saved: try again when that has ended")]
    BeingSaved,
}

/// The phase after `event`, and what has to be done.
///
/// # Errors
/// A [`Denial`] leaves everything as it is. Only `Deploy`, `Destroy`, `Save` and `Keep` can be denied.
pub fn step(phase: Phase, event: Event) -> Result<(Phase, &'static [Effect]), Denial> {
    use Effect as E;
    use Event::{Deploy, DeployEnded, Destroy, DestroyEnded, Found, Keep, Lost, Save, SaveEnded, Untouched};
    use Phase as P;

    Ok(match (phase, event) {
        (P::Idle, Deploy) => (P::Deploying, &[E::BeginDeploy]),
        (P::Running | P::Failed, Deploy) => (P::Replacing, &[E::BeginDestroy]),
        (P::Replacing | P::Deploying, Deploy) => return Err(Denial::AlreadyDeploying),
        (P::Cancelling | P::Stopping, Deploy) => return Err(Denial::BeingDestroyed),
        (P::Saving, Deploy) => return Err(Denial::BeingSaved),

        (P::Running, Save | Keep) => (P::Saving, &[E::BeginSave]),
        (P::Idle | P::Failed, Keep) => (phase, &[E::BeginKeep]),
        (P::Idle | P::Failed, Save) => return Err(Denial::NotRunning),
        (P::Saving, Save | Keep) => return Err(Denial::BeingSaved),
        (P::Replacing | P::Deploying, Save | Keep) => return Err(Denial::AlreadyDeploying),
        (P::Cancelling | P::Stopping, Save | Keep) => return Err(Denial::BeingDestroyed),
        (P::Saving, SaveEnded) => (P::Running, &[]),
        // The lab has gone on without it.
        (_, SaveEnded) => (phase, &[]),

        (P::Idle, Destroy) => return Err(Denial::NotRunning),
        // The destroy is under way already; there will be no deploy after it.
        (P::Replacing, Destroy) => (P::Stopping, &[E::AnswerDeployCancelled]),
        (P::Deploying, Destroy) => (P::Cancelling, &[E::CancelDeploy]),
        (P::Running | P::Failed, Destroy) => (P::Stopping, &[E::BeginDestroy]),
        (P::Saving, Destroy) => (P::Stopping, &[E::CancelSave, E::BeginDestroy]),
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
        (P::Saving, Lost) => (P::Failed, &[E::CancelSave, E::AnnounceLost]),
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

    #[test]
    fn a_lab_that_is_being_saved_is_up_and_can_be_destroyed_at_once_but_not_deployed_anew() {
        let (phase, effects) = step(Phase::Running, Event::Save).expect("it runs");
        assert_eq!((phase, effects), (Phase::Saving, &[Effect::BeginSave][..]));
        assert_eq!(phase.instance_state(), Some(InstanceState::Running));
        assert_eq!(step(phase, Event::Deploy), Err(Denial::BeingSaved));
        assert_eq!(step(phase, Event::Keep), Err(Denial::BeingSaved));
        let destroyed = step(phase, Event::Destroy);
        assert_eq!(destroyed, Ok((Phase::Stopping, &[Effect::CancelSave, Effect::BeginDestroy][..])));
        assert_eq!(step(Phase::Stopping, Event::SaveEnded), Ok((Phase::Stopping, &[][..])));
        assert_eq!(step(phase, Event::SaveEnded), Ok((Phase::Running, &[][..])));
    }

    #[test]
    fn a_checkpoint_is_made_of_a_lab_that_rests_and_a_save_only_of_one_that_runs() {
        for phase in [Phase::Idle, Phase::Failed] {
            assert_eq!(step(phase, Event::Keep), Ok((phase, &[Effect::BeginKeep][..])));
            assert_eq!(step(phase, Event::Save), Err(Denial::NotRunning));
        }
        for event in [Event::Save, Event::Keep] {
            assert_eq!(step(Phase::Replacing, event), Err(Denial::AlreadyDeploying));
            assert_eq!(step(Phase::Cancelling, event), Err(Denial::BeingDestroyed));
        }
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Deploy),
            Just(Event::Destroy),
            Just(Event::Save),
            Just(Event::Keep),
            Just(Event::SaveEnded),
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
            let (mut deploying, mut destroying, mut saving) = (false, false, false);
            let (mut deploys_waiting, mut destroys_waiting) = (0, 0);
            for event in events {
                match event {
                    Event::DeployEnded { .. } if !deploying => continue,
                    Event::DestroyEnded { .. } | Event::Untouched { .. } if !destroying => continue,
                    Event::SaveEnded if !saving => continue,
                    Event::DeployEnded { .. } => deploying = false,
                    Event::DestroyEnded { .. } | Event::Untouched { .. } => destroying = false,
                    Event::SaveEnded => saving = false,
                    Event::Deploy | Event::Destroy | Event::Save | Event::Keep | Event::Lost | Event::Found => {}
                }
                let Ok((next, effects)) = step(phase, event) else {
                    prop_assert!(matches!(event, Event::Deploy | Event::Destroy | Event::Save | Event::Keep));
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
                        Effect::BeginSave => {
                            prop_assert!(!saving && !deploying && !destroying);
                            saving = true;
                        }
                        Effect::BeginKeep => prop_assert!(!saving && !deploying && !destroying),
                        // It ends by itself from then on, and nobody waits for that.
                        Effect::CancelSave => {
                            prop_assert!(saving);
                            saving = false;
                        }
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
                prop_assert_eq!(saving, phase == Phase::Saving);
                prop_assert_eq!(deploying, matches!(phase, Phase::Deploying | Phase::Cancelling));
                prop_assert_eq!(destroying, matches!(phase, Phase::Replacing | Phase::Stopping));
                prop_assert_eq!(deploys_waiting > 0, deploying || phase == Phase::Replacing);
            }
        }
    }
}
