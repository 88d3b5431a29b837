//! The order in which plugins are asked, and what becomes of their answers.
//!
//! | hook | asked | a fault |
//! |---|---|---|
//! | validate | as a pipeline, each the previous one's answer; the first rejection ends it | refuses |
//! | identify | in order; the first answer counts | refuses |
//! | authorize | all; the first denial ends it | refuses |
//! | format | in order; the first answer counts | the next one, and at last plain wording |
//!
//! Where the operator has said so (`on-error: dangerously-allow`), a fault of validate and authorize lets through instead.
//!
//! Plugins in monitor mode have no place in these orders: they are asked afterwards, as if they stood at the end, and
//! nobody waits for them (see `watch`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::config::{Hook, Mode, OnError};
use super::convert::{self, Arena};
use super::decision::{Action, Circumstances, Command, Event, Refusal, ShellInfo, Status};
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

    /// Whether these are the same plugins, loaded once, in the same order.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Hook::ALL.into_iter().all(|hook| {
            let (ours, theirs) = (self.of(hook), other.of(hook));
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(one, other)| Arc::ptr_eq(one, other))
        })
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
            let answer = plugin.validate(convert::command(&command), context.clone()).await;
            let answer = answer.and_then(|answer| match answer {
                Ok(answer) => Ok(Ok(convert::command_answer(answer, &command).map_err(|fault| plugin.failed(fault))?)),
                Err(rejection) => Ok(Err(convert::rejected(plugin.name(), rejection))),
            });
            let verdict = answer.unwrap_or_else(|failure| passed_over(plugin, failure).map(|()| command.clone()));
            command = counted(plugin, verdict)?;
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
        let claims = convert::claims(&arena, claims);
        for plugin in &self.policies.in_force {
            let verdict = match plugin.identify(claims).await {
                Ok(Ok(None)) => Ok(None),
                Ok(Ok(Some(user))) => match convert::identity_answer(user) {
                    Ok(user) => Ok(Some(user)),
                    Err(fault) => Err(failed(plugin, plugin.failed(fault))),
                },
                Ok(Err(denial)) => Err(convert::denied(plugin.name(), denial)),
                Err(failure) => Err(failed(plugin, failure)),
            };
            if let Some(user) = counted(plugin, verdict)? {
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
            let verdict = match plugin.authorize(asking.clone(), asked.clone(), figures).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(denial)) => Err(convert::denied(plugin.name(), denial)),
                Err(failure) => passed_over(plugin, failure),
            };
            counted(plugin, verdict)?;
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
            // A fault was logged where it happened.
            if let Ok(Some(status)) = plugin.format(converted.clone()).await {
                return convert::status(status);
            }
        }
        wording::plain(event)
    }
}

fn failed(plugin: &Plugin, failure: super::decision::CallFailure) -> Refusal {
    Refusal::Failed { plugin: plugin.name().into(), failure }
}

/// A failure counts as no, unless the operator wants what the plugin can't judge to be let through.
fn passed_over(plugin: &Plugin, failure: super::decision::CallFailure) -> Result<(), Refusal> {
    if plugin.info.on_error != OnError::DangerouslyAllow {
        return Err(failed(plugin, failure));
    }
    tracing::warn!(
        plugin = plugin.name(), hook = %plugin.info.hook, failure = failure.name(),
        "LET THROUGH without a decision, because of `on-error: dangerously-allow`"
    );
    Ok(())
}

/// A plugin's verdict, once it is counted.
fn counted<T>(plugin: &Plugin, verdict: Result<T, Refusal>) -> Result<T, Refusal> {
    if matches!(verdict, Err(Refusal::Rejected { .. } | Refusal::Denied { .. })) {
        plugin.counts.refusals.fetch_add(1, Ordering::Relaxed);
    }
    verdict
}
