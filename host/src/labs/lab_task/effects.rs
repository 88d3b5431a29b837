//! What follows from a step of the lifecycle: the store is told, then everybody, then whatever has to be done is begun.

use std::sync::Arc;

use super::{LabCommandError, LabTask, Phase, answer};
use crate::history::lines::Line;
use crate::labs::lifecycle::Effect;
use crate::plugins::decision::Occurrence;

/// Lines of the log that go into the status message of a failure.
const FAILURE_DETAIL_LINES: usize = 20;

impl LabTask {
    /// Goes to `phase` and performs `effects`. The order matters: the store knows before anything begins, and everybody
    /// is told of the new state before whoever waits gets their answer.
    pub(super) async fn enter(&mut self, phase: Phase, effects: &'static [Effect]) {
        let before = self.facts.phase;
        self.facts.enter(phase);
        if effects.contains(&Effect::BeginDeploy) {
            self.kept = self.kept_next.take();
            let definition = self.kept.as_ref().map(|kept| &kept.definition);
            self.facts.begin_instance(&self.shared.driver.place(), definition);
        }
        if phase == Phase::Stopping || effects.contains(&Effect::BeginDeploy) {
            // Whatever it was, it is not wanted any more.
            self.in_doubt = false;
        }
        if phase == Phase::Idle {
            self.facts.end_instance();
            self.kept = None;
            self.files = Arc::default();
            self.logs.remove_nodes().await;
        }
        // That it is being saved is nobody else's affair.
        let same = phase == before || (phase.is_up() && before.is_up());
        let stored = if same { true } else { self.store_instance().await };
        if !same {
            self.publish_change().await;
            // A cancelled deploy has announced it already.
            let destroying = matches!(phase, Phase::Stopping | Phase::Cancelling) && before != Phase::Cancelling;
            if destroying {
                self.announce(Occurrence::LabDestroying, self.by.clone()).await;
            }
        }
        for effect in effects {
            self.perform(*effect, stored).await;
        }
    }

    async fn perform(&mut self, effect: Effect, stored: bool) {
        match effect {
            Effect::BeginDeploy => {
                self.announce(Occurrence::LabDeploying, self.by.clone()).await;
                self.begin_deploy(stored);
            }
            Effect::CancelDeploy => self.cancel.cancel(),
            Effect::BeginDestroy => self.begin_destroy(),
            Effect::BeginSave => self.begin_save(true),
            Effect::BeginKeep => self.begin_save(false),
            Effect::CancelSave => self.save_cancel.cancel(),
            Effect::AnswerDeployed => {
                self.note_outcome(false).await;
                self.announce(Occurrence::LabDeployed, self.by.clone()).await;
                self.answer_deploy(Ok(()));
            }
            Effect::AnswerDeployFailed => {
                self.note_outcome(true).await;
                let error = self.take_failure();
                let (reason, detail) = self.failure_texts(&error).await;
                self.announce(Occurrence::LabDeployFailed { reason, detail }, self.by.clone()).await;
                self.answer_deploy(Err(error));
            }
            Effect::AnswerDeployRefused => {
                // The topology has no part in this.
                let error = self.take_failure();
                let (reason, detail) = (error.to_string(), String::new());
                self.announce(Occurrence::LabDeployFailed { reason, detail }, self.by.clone()).await;
                self.answer_deploy(Err(error));
            }
            Effect::AnswerDeployCancelled => {
                self.failure = None;
                self.announce(Occurrence::LabDeployCancelled, self.by.clone()).await;
                self.answer_deploy(Err(LabCommandError::Cancelled));
            }
            Effect::AnswerDestroyed => {
                self.announce(Occurrence::LabDestroyed, self.by.clone()).await;
                self.answer_destroys(&Ok(()));
            }
            Effect::AnswerDestroyFailed => {
                let error = self.take_failure();
                let (reason, detail) = self.failure_texts(&error).await;
                self.announce(Occurrence::LabDestroyFailed { reason, detail }, self.by.clone()).await;
                self.answer_destroys(&Err(error));
            }
            Effect::AnnounceLost => {
                let error = self.take_failure();
                let (reason, detail) = self.failure_texts(&error).await;
                self.announce(Occurrence::LabLost { reason, detail }, None).await;
            }
            Effect::AnnounceRecovered => self.goes_on().await,
        }
    }

    /// How a deploy of a checkpoint ends says nothing of the topology.
    async fn note_outcome(&mut self, failed: bool) {
        if self.kept.is_none() {
            self.set_topology_deploy_failed(failed).await;
        }
    }

    fn answer_deploy(&mut self, result: Result<(), LabCommandError>) {
        // From here on it is what the lab is that counts.
        self.claim = None;
        if let Some(reply) = self.deploy_waiter.take() {
            answer(reply, result);
        }
    }

    fn answer_destroys(&mut self, result: &Result<(), LabCommandError>) {
        for reply in self.destroy_waiters.drain(..) {
            answer(reply, result.clone());
        }
    }

    fn take_failure(&mut self) -> LabCommandError {
        self.failure.take().unwrap_or_else(|| LabCommandError::Internal("no reason was given".into()))
    }

    async fn failure_texts(&self, error: &LabCommandError) -> (String, String) {
        let lines = self.logs.own().await.tail(FAILURE_DETAIL_LINES);
        let lines: Vec<&str> = lines.iter().map(Line::text).collect();
        (error.to_string(), lines.join("\n"))
    }
}
