//! The order in which plugins are asked, and what becomes of their answers.
//!
//! | hook | asked | a fault |
//! |---|---|---|
//! | validate | as a pipeline, each the previous one's answer; the first rejection ends it | refuses |
//! | identify | in order; the first answer counts | refuses |
//! | authorize | all; the first denial ends it | refuses |
//! | format | in order; the first answer counts | the next one, and at last plain wording |
//!
//! A plugin in monitor mode is asked like any other; what it says is counted and logged, and then nothing comes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::config::{Hook, Mode};
use super::convert::{self, Arena};
use super::decision::{Action, Circumstances, Command, Event, Refusal, ShellInfo, Status};
use super::plugin::{Plugin, PluginInfo};
use super::wording;
use crate::auth::{Claims, Identity};
use crate::labs::model::LabSnapshot;

/// The plugins of all three hooks, each in its order.
pub(super) struct Chains {
    pub(super) validators: Vec<Arc<Plugin>>,
    pub(super) policies: Vec<Arc<Plugin>>,
    pub(super) formatters: Vec<Arc<Plugin>>,
}

impl Chains {
    pub(super) fn of(&self, hook: Hook) -> &[Arc<Plugin>] {
        match hook {
            Hook::CommandValidator => &self.validators,
            Hook::AuthPolicy => &self.policies,
            Hook::StatusFormatter => &self.formatters,
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
        for plugin in &self.validators {
            let answer = plugin.validate(convert::command(&command), context.clone()).await;
            let answer = answer.and_then(|answer| match answer {
                Ok(answer) => Ok(Ok(convert::command_answer(answer, &command).map_err(|fault| plugin.failed(fault))?)),
                Err(rejection) => Ok(Err(convert::rejected(plugin.name(), rejection))),
            });
            let verdict = answer.unwrap_or_else(|failure| Err(failed(plugin, failure)));
            match act_on(plugin, verdict)? {
                Some(answer) => command = answer,
                None => continue,
            }
        }
        Ok(command)
    }

    pub(super) async fn identify(&self, claims: &Claims) -> Result<Identity, Refusal> {
        let arena = Arena::new();
        let claims = convert::claims(&arena, claims);
        for plugin in &self.policies {
            let verdict = match plugin.identify(claims).await {
                Ok(Ok(None)) => Ok(None),
                Ok(Ok(Some(user))) => match convert::identity_answer(user) {
                    Ok(user) => Ok(Some(user)),
                    Err(fault) => Err(failed(plugin, plugin.failed(fault))),
                },
                Ok(Err(denial)) => Err(convert::denied(plugin.name(), denial)),
                Err(failure) => Err(failed(plugin, failure)),
            };
            if let Some(Some(user)) = act_on(plugin, verdict)? {
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
        let user = convert::identity(&arena, user);
        let action = convert::action(&arena, action);
        let circumstances = convert::circumstances(circumstances);
        for plugin in &self.policies {
            let verdict = match plugin.authorize(user.clone(), action.clone(), circumstances).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(denial)) => Err(convert::denied(plugin.name(), denial)),
                Err(failure) => Err(failed(plugin, failure)),
            };
            act_on(plugin, verdict)?;
        }
        Ok(())
    }

    pub(super) async fn format(&self, event: &Event) -> Status {
        let arena = Arena::new();
        let converted = convert::event(&arena, event);
        for plugin in &self.formatters {
            match plugin.format(converted.clone()).await {
                Ok(Some(status)) if plugin.info.mode == Mode::Monitor => {
                    tracing::info!(plugin = plugin.name(), content = status.content, "would word an event");
                }
                Ok(Some(status)) => return convert::status(status),
                // A fault was logged where it happened.
                Ok(None) | Err(_) => {}
            }
        }
        wording::plain(event)
    }
}

fn failed(plugin: &Plugin, failure: super::decision::CallFailure) -> Refusal {
    Refusal::Failed { plugin: plugin.name().into(), failure }
}

/// What comes of a plugin's verdict: its answer or refusal where it is in force, and nothing where it is only watched.
fn act_on<T>(plugin: &Plugin, verdict: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    if let Err(refusal) = &verdict
        && !matches!(refusal, Refusal::Failed { .. })
    {
        plugin.counts.refusals.fetch_add(1, Ordering::Relaxed);
    }
    match (plugin.info.mode, verdict) {
        (Mode::Enforce, verdict) => verdict.map(Some),
        (Mode::Monitor, Ok(_)) => Ok(None),
        (Mode::Monitor, Err(refusal)) => {
            tracing::info!(plugin = plugin.name(), hook = %plugin.info.hook, %refusal, "would refuse");
            Ok(None)
        }
    }
}
