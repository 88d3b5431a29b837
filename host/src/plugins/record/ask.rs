//! Asks one plugin what was recorded or written down, under its budget, as a chain asks it.

use std::cell::Cell;
use std::time::Instant;

use super::input::Input;
use super::mirror::Mirror as _;
use super::outcome::{Answer, Outcome};
use crate::plugins::breaker::Asked;
use crate::plugins::convert::{self, Arena};
use crate::plugins::decision::{CallFailure, Command};
use crate::plugins::metrics::{Asking, Outcome as Counted};
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
    let asking = plugin.ask(Asked::Recorded(input));
    let (answer, memory) = MEMORY
        .scope(Cell::new(0), async {
            let answer = decide(plugin, &asking, input).await;
            (answer, MEMORY.with(Cell::get))
        })
        .await;
    let (outcome, counted) = match answer {
        Ok(outcome) => {
            let counted = match &outcome {
                Outcome::Allow | Outcome::Accept { rewritten: false, .. } => Counted::Allow,
                Outcome::Accept { .. } => Counted::Rewrite,
                Outcome::Deny { .. } => Counted::Deny,
                Outcome::Reject { .. } => Counted::Reject,
                Outcome::Left => Counted::Leave,
                Outcome::Identity(_) | Outcome::Status { .. } | Outcome::Failed { .. } => Counted::Answer,
            };
            (outcome, counted)
        }
        Err(failure) => (Outcome::from(&failure), Counted::from(&failure)),
    };
    asking.end(counted);
    Answer { outcome, duration: began.elapsed(), memory }
}

async fn decide(plugin: &Plugin, asking: &Asking<'_>, input: &Input) -> Result<Outcome, CallFailure> {
    let arena = Arena::new();
    Ok(match input {
        Input::Validate { command, context } => {
            match plugin.validate(asking, command.lend(&arena), context.lend(&arena)).await? {
                Ok(answer) => {
                    let answer = convert::command_answer(answer, &Command::from(command));
                    Outcome::validated(command, &Ok(answer.map_err(|fault| plugin.failed(fault))?))
                }
                Err(rejection) => (&convert::rejected(plugin.name(), rejection)).into(),
            }
        }
        Input::Identify { claims } => match plugin.identify(asking, claims.lend(&arena)).await? {
            Ok(None) => Outcome::Left,
            Ok(Some(user)) => {
                let user = convert::identity_answer(user).map_err(|fault| plugin.failed(fault))?;
                Outcome::Identity((&user).into())
            }
            Err(denial) => (&convert::denied(plugin.name(), denial)).into(),
        },
        Input::Authorize { user, action, circumstances } => {
            let (user, action) = (user.lend(&arena), action.lend(&arena));
            match plugin.authorize(asking, user, action, circumstances.lend(&arena)).await? {
                Ok(()) => Outcome::Allow,
                Err(denial) => (&convert::denied(plugin.name(), denial)).into(),
            }
        }
        Input::Format { event } => match plugin.format(asking, event.lend(&arena)).await? {
            Some(status) => (&convert::status(status)).into(),
            None => Outcome::Left,
        },
    })
}
