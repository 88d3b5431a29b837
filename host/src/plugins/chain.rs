//! The order in which plugins are asked, and what becomes of their answers.
//!
//! | hook | asked | a fault |
//! |---|---|---|
//! | validate | as a pipeline, each the previous one's answer; the first rejection ends it | refuses |
//! | identify | in order; the first answer counts | refuses |
//! | authorize | all; the first denial ends it | refuses |
//! | format | in order; the first answer counts | the next one, and at last plain wording |
//!
//! Plugins in monitor mode have no place in these orders: they are asked afterwards, as if they stood at the end, and
//! nobody waits for them (see `watch`).

use std::sync::Arc;

use super::breaker::Asked;
use super::config::{Hook, Mode};
use super::convert::{self, Arena};
use super::decision::{Action, Circumstances, Command, Event, Refusal, ShellInfo, Status};
use super::metrics::{Asking, Outcome};
use super::plugin::{Plugin, PluginInfo};
use super::watch::Watched;
use super::wording;
use crate::auth::{Claims, Identity};
use crate::labs::model::LabSnapshot;

/// The plugins of all three hooks.
pub(super) struct Chains {
    validators: Chain,
    policies: Chain,
    formatters: Chain,
}

/// The plugins of one hook.
struct Chain {
    /// All of them, as the operator ordered them.
    all: Vec<Arc<Plugin>>,
    /// Those whose answers count, in that order.
    in_force: Vec<Arc<Plugin>>,
    /// The others.
    watched: Watched,
}

impl Chain {
    fn new(all: Vec<Arc<Plugin>>) -> Self {
        let of_mode = |mode| all.iter().filter(|plugin| plugin.info.mode == mode).cloned().collect();
        Self { in_force: of_mode(Mode::Enforce), watched: Watched::new(of_mode(Mode::Monitor)), all }
    }
}

impl Chains {
    pub(super) fn new(validators: Vec<Arc<Plugin>>, policies: Vec<Arc<Plugin>>, formatters: Vec<Arc<Plugin>>) -> Self {
        Self { validators: Chain::new(validators), policies: Chain::new(policies), formatters: Chain::new(formatters) }
    }

    /// The plugins of a hook, as the operator ordered them.
    pub(super) fn of(&self, hook: Hook) -> &[Arc<Plugin>] {
        match hook {
            Hook::CommandValidator => &self.validators.all,
            Hook::AuthPolicy => &self.policies.all,
            Hook::StatusFormatter => &self.formatters.all,
        }
    }

    pub(super) fn infos(&self) -> Vec<PluginInfo> {
        Hook::ALL.into_iter().flat_map(|hook| self.of(hook)).map(|plugin| plugin.info.clone()).collect()
    }

    pub(super) async fn validate(
        &self,
        mut command: Command,
        user: &Identity,
        lab: &LabSnapshot,
        shell: Option<&ShellInfo>,
        circumstances: Circumstances,
    ) -> Result<Command, Refusal> {
        let arena = Arena::new();
        let context = convert::context(&arena, user, lab, shell, circumstances);
        for plugin in &self.validators.in_force {
            let asking = plugin.ask(Asked::Command(user, &command));
            let answer = plugin.validate(&asking, convert::command(&command), context.clone()).await;
            let answer = answer.and_then(|answer| match answer {
                Ok(answer) => Ok(Ok(convert::command_answer(answer, &command).map_err(|fault| plugin.failed(fault))?)),
                Err(rejection) => Ok(Err(convert::rejected(plugin.name(), rejection))),
            });
            let verdict = answer.unwrap_or_else(|failure| Err(failed(plugin, failure)));
            let unchanged = verdict.as_ref().is_ok_and(|answer| *answer == command);
            command = ended(asking, verdict, if unchanged { Outcome::Allow } else { Outcome::Rewrite })?;
        }
        self.validators.watched.validate(&command, user, lab, shell, circumstances);
        Ok(command)
    }

    pub(super) async fn identify(&self, claims: &Claims) -> Result<Identity, Refusal> {
        let user = self.identify_in_force(claims).await;
        self.policies.watched.identify(claims);
        user
    }

    async fn identify_in_force(&self, claims: &Claims) -> Result<Identity, Refusal> {
        let arena = Arena::new();
        let converted = convert::claims(&arena, claims);
        for plugin in &self.policies.in_force {
            let asking = plugin.ask(Asked::Claims(claims));
            let verdict = match plugin.identify(&asking, converted).await {
                Ok(Ok(None)) => Ok(None),
                Ok(Ok(Some(user))) => match convert::identity_answer(user) {
                    Ok(user) => Ok(Some(user)),
                    Err(fault) => Err(failed(plugin, plugin.failed(fault))),
                },
                Ok(Err(denial)) => Err(convert::denied(plugin.name(), denial)),
                Err(failure) => Err(failed(plugin, failure)),
            };
            let known = matches!(verdict, Ok(Some(_)));
            if let Some(user) = ended(asking, verdict, if known { Outcome::Answer } else { Outcome::Leave })? {
                return Ok(user);
            }
        }
        Err(Refusal::Unrecognised)
    }

    pub(super) async fn authorize(
        &self,
        user: &Identity,
        action: Action<'_>,
        circumstances: Circumstances,
    ) -> Result<(), Refusal> {
        let arena = Arena::new();
        let (asking, asked) = (convert::identity(&arena, user), convert::action(&arena, action));
        let figures = convert::circumstances(circumstances);
        for plugin in &self.policies.in_force {
            let question = plugin.ask(Asked::Action(user, action));
            let verdict = match plugin.authorize(&question, asking.clone(), asked.clone(), figures).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(denial)) => Err(convert::denied(plugin.name(), denial)),
                Err(failure) => Err(failed(plugin, failure)),
            };
            ended(question, verdict, Outcome::Allow)?;
        }
        self.policies.watched.authorize(user, action, circumstances);
        Ok(())
    }

    pub(super) async fn format(&self, event: &Event) -> Status {
        let status = self.format_in_force(event).await;
        self.formatters.watched.format(event);
        status
    }

    async fn format_in_force(&self, event: &Event) -> Status {
        let arena = Arena::new();
        let converted = convert::event(&arena, event);
        for plugin in &self.formatters.in_force {
            let asking = plugin.ask(Asked::Event(event));
            // A fault was logged where it happened.
            match plugin.format(&asking, converted.clone()).await {
                Ok(Some(status)) => {
                    asking.end(Outcome::Answer);
                    return convert::status(status);
                }
                Ok(None) => asking.end(Outcome::Leave),
                Err(failure) => asking.end(Outcome::from(&failure)),
            }
        }
        wording::plain(event)
    }
}

fn failed(plugin: &Plugin, failure: super::decision::CallFailure) -> Refusal {
    Refusal::Failed { plugin: plugin.name().into(), failure }
}

/// A plugin's verdict, once it is counted; `yes` is what it amounts to where it is no refusal.
fn ended<T>(asking: Asking<'_>, verdict: Result<T, Refusal>, yes: Outcome) -> Result<T, Refusal> {
    asking.end(Outcome::of(&verdict, yes));
    verdict
}
