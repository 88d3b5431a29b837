//! `validator`: commands and rejections.

use super::types::{circumstances, command_kind, command_kind_answer, identity, lab, shell};
use super::{Arena, NAME, SENTENCE, line};
use crate::auth::Identity;
use crate::labs::model::LabSnapshot;
use crate::plugins::bindings::exports::antimony::plugin::validator as wit;
use crate::plugins::decision::{CallFailure, Circumstances, Command, Refusal, RejectionCode, ShellInfo};

pub(in crate::plugins) fn command(command: &Command) -> wit::CommandParam<'_> {
    wit::CommandParam {
        kind: command_kind(command.kind),
        lab_id: command.lab_id.as_str(),
        node: command.node.as_deref(),
        shell_id: command.shell_id.as_ref().map(|id| id.as_str()),
    }
}

pub(in crate::plugins) fn context<'a>(
    arena: &'a Arena,
    user: &'a Identity,
    at: &'a LabSnapshot,
    named: Option<&'a ShellInfo>,
    figures: Circumstances,
) -> wit::Context<'a> {
    wit::Context {
        user: identity(arena, user),
        lab: lab(arena, at),
        shell: named.map(shell),
        circumstances: circumstances(figures),
    }
}

/// The command that a validator returned for `asked`.
pub(in crate::plugins) fn command_answer(answer: wit::CommandResult, asked: &Command) -> Result<Command, CallFailure> {
    if answer.lab_id != asked.lab_id.as_str() {
        return Err(CallFailure::InvalidAnswer("the command is for another lab".into()));
    }
    Ok(Command {
        kind: command_kind_answer(answer.kind),
        lab_id: asked.lab_id.clone(),
        node: answer.node,
        shell_id: answer.shell_id.map(Into::into),
    })
}

pub(in crate::plugins) fn rejected(plugin: &str, rejection: wit::Rejection) -> Refusal {
    Refusal::Rejected {
        plugin: plugin.into(),
        rule: line(rejection.rule, NAME),
        message: line(rejection.message, SENTENCE),
        code: match rejection.code {
            wit::RejectionCode::Generic => RejectionCode::Generic,
            wit::RejectionCode::LabDeploying => RejectionCode::LabDeploying,
            wit::RejectionCode::LabNotRunning => RejectionCode::LabNotRunning,
            wit::RejectionCode::NodeNotRunning => RejectionCode::NodeNotRunning,
            wit::RejectionCode::NodeNotFound => RejectionCode::NodeNotFound,
            wit::RejectionCode::ShellNotFound => RejectionCode::ShellNotFound,
            wit::RejectionCode::ShellLimit => RejectionCode::ShellLimit,
            wit::RejectionCode::InvalidRequest => RejectionCode::InvalidRequest,
        },
    }
}
