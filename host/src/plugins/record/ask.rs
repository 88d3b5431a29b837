//! Asks one plugin what was recorded or written down, under its budget, as a chain asks it.

use std::cell::Cell;
use std::time::Instant;

use super::input::Input;
use super::mirror::Mirror as _;
use super::outcome::{Answer, Outcome};
use crate::plugins::convert::{self, Arena};
use crate::plugins::decision::{CallFailure, Command, Refusal};
use crate::plugins::plugin::Plugin;

tokio::task_local! {
    /// Where the memory of a call is noted, in tasks that want to know.
    static MEMORY: Cell<usize>;
}

/// Called at the end of every call, with the linear memory of its instance in bytes.
pub(in crate::plugins) fn note_memory(bytes: usize) {
    // Nobody has asked, as a rule.
    let _ = MEMORY.try_with(|memory| memory.set(bytes));
}

/// Asks a plugin, and counts what came of it.
pub(in crate::plugins) async fn ask(plugin: &Plugin, input: &Input) -> Answer {
    let began = Instant::now();
    let (outcome, memory) = MEMORY
        .scope(Cell::new(0), async {
            let outcome = decide(plugin, input).await;
            (outcome, MEMORY.with(Cell::get))
        })
        .await;
    plugin.count_refusal(matches!(outcome, Outcome::Deny { .. } | Outcome::Reject { .. }));
    Answer { outcome, duration: began.elapsed(), memory }
}

async fn decide(plugin: &Plugin, input: &Input) -> Outcome {
    let failed = |failure: CallFailure| Outcome::from(&failure);
    let arena = Arena::new();
    match input {
        Input::Validate { command, context } => {
            let answer = plugin.validate(command.lend(&arena), context.lend(&arena)).await;
            let verdict = match answer {
                Ok(Ok(answer)) => match convert::command_answer(answer, &Command::from(command)) {
                    Ok(command) => Ok(command),
                    Err(fault) => return failed(plugin.failed(fault)),
                },
                Ok(Err(rejection)) => Err(convert::rejected(plugin.name(), rejection)),
                Err(failure) => return failed(failure),
            };
            Outcome::validated(command, &verdict)
        }
        Input::Identify { claims } => match plugin.identify(claims.lend(&arena)).await {
            Ok(Ok(None)) => Outcome::Left,
            Ok(Ok(Some(user))) => match convert::identity_answer(user) {
                Ok(user) => Outcome::Identity((&user).into()),
                Err(fault) => failed(plugin.failed(fault)),
            },
            Ok(Err(denial)) => refused(&convert::denied(plugin.name(), denial)),
            Err(failure) => failed(failure),
        },
        Input::Authorize { user, action, circumstances } => {
            let answer = plugin.authorize(user.lend(&arena), action.lend(&arena), circumstances.lend(&arena)).await;
            match answer {
                Ok(Ok(())) => Outcome::Allow,
                Ok(Err(denial)) => refused(&convert::denied(plugin.name(), denial)),
                Err(failure) => failed(failure),
            }
        }
        Input::Format { event } => match plugin.format(event.lend(&arena)).await {
            Ok(Some(status)) => (&convert::status(status)).into(),
            Ok(None) => Outcome::Left,
            Err(failure) => failed(failure),
        },
    }
}

fn refused(refusal: &Refusal) -> Outcome {
    refusal.into()
}
