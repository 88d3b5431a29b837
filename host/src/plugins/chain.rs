//! The order in which plugins are asked, and what becomes of their answers.
//!
//! | hook | asked | a fault |
//! |---|---|---|
//! | validate | as a pipeline, each the previous one's answer; the first rejection ends it | refuses |
//! | identify | in order; the first answer counts | refuses |
//! | authorize | all; the first denial ends it | refuses |
//! | format | in order; the first answer counts | the next one, and at last plain wording |
//!
//! Plugins in monitor mode have no place in these orders: they are asked the same afterwards, each as if it were alone, and
//! nobody waits for them (see `watch`). What is decided goes to the decision log, where there is one.

use std::sync::Arc;

use super::breaker::Asked;
use super::config::{Hook, Mode};
use super::convert::{self, Arena};
use super::decision::{Action, Circumstances, Command, Event, Refusal, ShellInfo, Status};
use super::decision_log::Question;
use super::metrics::{Asking, Outcome};
use super::plugin::{Plugin, PluginInfo};
use super::record::{self, InForce, Input, Kind};
use super::watch::{Compared, Watched};
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

    fn question(&self, kind: Kind) -> Question<'_> {
        Question::begin(self.all.first().map(|plugin| &**plugin), kind)
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

    /// How the answers of watched plugins compare with what was decided.
    pub(super) fn compared(&self) -> Vec<(PluginInfo, Compared)> {
        [&self.validators, &self.policies, &self.formatters]
            .into_iter()
            .flat_map(|chain| chain.watched.compared())
            .collect()
    }

    pub(super) async fn validate(
        &self,
        command: Command,
        user: &Identity,
        lab: &LabSnapshot,
        shell: Option<&ShellInfo>,
        circumstances: Circumstances,
    ) -> Result<Command, Refusal> {
        let arena = Arena::new();
        let context = convert::context(&arena, user, lab, shell, circumstances);
        let question = self.validators.question(Kind::Command);
        let watched = self.validators.watched.any().then(|| Input::validate(&convert::command(&command), &context));
        let verdict = self.validate_in_force(command, user, &context, &question).await;
        if let Some(input) = watched {
            let in_force = InForce::validated(&input, &verdict);
            self.validators.watched.ask(input, in_force, &question);
        }
        verdict
    }

    async fn validate_in_force(
        &self,
        mut command: Command,
        user: &Identity,
        context: &convert::Context<'_>,
        question: &Question<'_>,
    ) -> Result<Command, Refusal> {
        for plugin in &self.validators.in_force {
            let note = question.note(plugin);
            let asking = plugin.ask(Asked::Command(user, &command));
            let answer = plugin.validate(&asking, convert::command(&command), context.clone()).await;
            let answer = answer.and_then(|answer| match answer {
                Ok(answer) => Ok(Ok(convert::command_answer(answer, &command).map_err(|fault| plugin.failed(fault))?)),
                Err(rejection) => Ok(Err(convert::rejected(plugin.name(), rejection))),
            });
            let verdict = answer.unwrap_or_else(|failure| Err(failed(plugin, failure)));
            if let Some(note) = note {
                let outcome = record::Outcome::validated(&(&command).into(), &verdict);
                note.decided(Input::validate(&convert::command(&command), context), outcome);
            }
            let unchanged = verdict.as_ref().is_ok_and(|answer| *answer == command);
            command = ended(asking, verdict, if unchanged { Outcome::Allow } else { Outcome::Rewrite })?;
        }
        Ok(command)
    }

    pub(super) async fn identify(&self, claims: &Claims) -> Result<Identity, Refusal> {
        let question = self.policies.question(Kind::Identify);
        let user = self.identify_in_force(claims, &question).await;
        if self.policies.watched.any() {
            let arena = Arena::new();
            let input = Input::identify(convert::claims(&arena, claims));
            self.policies.watched.ask(input, InForce::identified(&user), &question);
        }
        user
    }

    async fn identify_in_force(&self, claims: &Claims, question: &Question<'_>) -> Result<Identity, Refusal> {
        let arena = Arena::new();
        let converted = convert::claims(&arena, claims);
        for plugin in &self.policies.in_force {
            let note = question.note(plugin);
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
            if let Some(note) = note {
                note.decided(Input::identify(converted), record::Outcome::identified(&verdict));
            }
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
        let question = self.policies.question(Kind::of(&action));
        let mut all = Ok(());
        for plugin in &self.policies.in_force {
            let note = question.note(plugin);
            let asked_of_it = plugin.ask(Asked::Action(user, action));
            let verdict = match plugin.authorize(&asked_of_it, asking.clone(), asked.clone(), figures).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(denial)) => Err(convert::denied(plugin.name(), denial)),
                Err(failure) => Err(failed(plugin, failure)),
            };
            if let Some(note) = note {
                note.decided(Input::authorize(&asking, &asked, figures), record::Outcome::authorized(&verdict));
            }
            all = ended(asked_of_it, verdict, Outcome::Allow);
            if all.is_err() {
                break;
            }
        }
        if self.policies.watched.any() {
            let input = Input::authorize(&asking, &asked, figures);
            self.policies.watched.ask(input, InForce::authorized(&all), &question);
        }
        all
    }

    pub(super) async fn format(&self, event: &Event) -> Status {
        let question = self.formatters.question(Kind::Format);
        let status = self.format_in_force(event, &question).await;
        if self.formatters.watched.any() {
            let arena = Arena::new();
            let input = Input::format(&convert::event(&arena, event));
            self.formatters.watched.ask(input, InForce { plugin: None, outcome: (&status).into() }, &question);
        }
        status
    }

    async fn format_in_force(&self, event: &Event, question: &Question<'_>) -> Status {
        let arena = Arena::new();
        let converted = convert::event(&arena, event);
        for plugin in &self.formatters.in_force {
            let note = question.note(plugin);
            let asking = plugin.ask(Asked::Event(event));
            // A fault was logged where it happened.
            let answer = plugin.format(&asking, converted.clone()).await.map(|status| status.map(convert::status));
            if let Some(note) = note {
                note.decided(Input::format(&converted), record::Outcome::formatted(&answer));
            }
            match answer {
                Ok(Some(status)) => {
                    asking.end(Outcome::Answer);
                    return status;
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
