//! What an earlier server has left of a lab: taken up when the task begins, or as soon as the runtime can say.

use super::{JobEnd, LabTask, Phase};
use crate::labs::lifecycle;
use crate::labs::revive::{self, Revival};
use crate::plugins::decision::Occurrence;

impl LabTask {
    /// Goes on with what an earlier server has left.
    pub(super) async fn take_up(&mut self, revival: Revival) {
        match revival {
            Revival::None => {}
            Revival::Failed { .. } => {
                self.logs.restore_nodes();
                self.publish_change().await;
            }
            Revival::Running(_) => {
                self.goes_on().await;
                self.publish_change().await;
            }
            Revival::Lost { reason, .. } => {
                self.store_instance().await;
                // Whoever opens the log finds why it ends here.
                let note = format!("The instance is lost: {reason}");
                self.ended_before(note, Occurrence::LabLost { reason, detail: String::new() }).await;
            }
            Revival::CutShort { up, reason, .. } => {
                self.store_instance().await;
                let detail = String::new();
                let (what, told) = if up {
                    ("deploy", Occurrence::LabDeployFailed { reason: reason.clone(), detail })
                } else {
                    ("destroy", Occurrence::LabDestroyFailed { reason: reason.clone(), detail })
                };
                self.ended_before(format!("The {what} was cut short: {reason}"), told).await;
            }
            // What is stored stays as it is: a server that can look will know better.
            Revival::Unknown(reason) => {
                let note = format!("This server can't go on with the instance: {reason}");
                self.ended_before(note, Occurrence::LabLost { reason, detail: String::new() }).await;
            }
        }
    }

    /// The instance of an earlier server runs on.
    pub(super) async fn goes_on(&mut self) {
        let gone = self.missing_nodes();
        if !gone.is_empty() {
            let gone = gone.join(", ");
            self.note(&format!("The lab has run on without a server; these nodes of it are gone: {gone}")).await;
        }
        self.follow_nodes().await;
        if let Some(instance) = self.facts.instance_name() {
            self.shared.driver.resume(instance);
        }
        self.announce(Occurrence::LabRecovered, None).await;
    }

    /// Says why the instance of an earlier server can't be gone on with.
    async fn ended_before(&mut self, note: String, told: Occurrence) {
        self.logs.restore_nodes();
        self.note(&note).await;
        self.publish_change().await;
        self.announce(told, None).await;
    }

    /// Asks once more what became of an instance of which nobody could say so far.
    pub(super) fn ask_again(&mut self) {
        let Some(instance) = self.facts.lab.instance.clone().filter(|_| self.facts.phase == Phase::Failed) else {
            return;
        };
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let shared = self.shared.clone();
        self.jobs.spawn(async move {
            let revival = revive::what_became_of(&*shared.driver, Some(&instance), &shared.run_dir, 1).await;
            JobEnd::Revival { instance: instance.name, revival }
        });
    }

    /// Takes over what became of an instance, if it is in doubt still.
    pub(super) async fn found(&mut self, instance: &str, revival: Revival) {
        self.looking = false;
        let asked = self.in_doubt && self.facts.phase == Phase::Failed;
        if !asked || self.facts.instance_name() != Some(instance) || matches!(revival, Revival::Unknown(_)) {
            return;
        }
        self.in_doubt = false;
        match revival {
            Revival::Running(nodes) => {
                self.facts.recover(nodes);
                self.event(lifecycle::Event::Found).await;
            }
            Revival::Lost { ref left, .. } | Revival::CutShort { ref left, .. } | Revival::Failed { ref left } => {
                self.facts.set_nodes(left.clone());
                self.take_up(revival).await;
            }
            Revival::None | Revival::Unknown(_) => {}
        }
    }
}
