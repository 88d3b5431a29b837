//! What a plugin answered.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::mirror::{Command, CommandKind, Identity, RejectionCode, Severity};
use crate::plugins::decision::{self, Refusal};

/// What came of a call. Written as its name, or as an object of one key where there is more to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Outcome {
    /// `authorize`: it may be done.
    Allow,
    /// `authorize`, `identify`: no.
    Deny {
        /// The rule that spoke.
        rule: String,
        /// A sentence for the user.
        message: String,
    },
    /// `validate`: it is not valid.
    Reject {
        /// The error code for the user.
        code: RejectionCode,
        /// The rule that spoke.
        rule: String,
        /// A sentence for the user.
        message: String,
    },
    /// `validate`: it is valid.
    Accept {
        /// Whether it differs from the command that was asked about.
        rewritten: bool,
        /// What it means.
        command: Command,
    },
    /// `identify`: this is who it is.
    Identity(Identity),
    /// `identify`, `format`: somebody else shall answer.
    Left,
    /// `format`: the event in words.
    Status {
        /// The part of the server that speaks.
        source: String,
        /// A sentence.
        content: String,
        /// The same in full.
        log_content: String,
        /// How much it matters.
        severity: Severity,
    },
    /// There was no answer, or none that makes sense.
    Failed {
        /// Short name of the kind of failure, such as `timeout`.
        kind: String,
        /// What happened.
        message: String,
    },
}

impl Outcome {
    /// Its name: `allow`, `deny`, …
    pub fn name(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny { .. } => "deny",
            Self::Reject { .. } => "reject",
            Self::Accept { .. } => "accept",
            Self::Identity(_) => "identity",
            Self::Left => "left",
            Self::Status { .. } => "status",
            Self::Failed { .. } => "failed",
        }
    }

    /// The rule that spoke, where one did.
    pub fn rule(&self) -> Option<&str> {
        match self {
            Self::Deny { rule, .. } | Self::Reject { rule, .. } => Some(rule),
            _ => None,
        }
    }

    /// Whether it is no answer at all.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    /// Whether somebody was told no.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Deny { .. } | Self::Reject { .. })
    }

    /// All that it says, in one level: `outcome` with its name, and its fields beside that. What cases are compared with
    /// and differences are shown in.
    pub fn flat(&self) -> Map<String, Value> {
        let mut flat = Map::new();
        flat.insert("outcome".into(), self.name().into());
        // Serialising it can't fail: its keys are strings.
        if let Ok(Value::Object(outer)) = serde_json::to_value(self)
            && let Some(Value::Object(fields)) = outer.into_iter().next().map(|(_, fields)| fields)
        {
            flat.extend(fields);
        }
        // They are in no particular order.
        if let Some(Value::Array(names)) = flat.get_mut("collections") {
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
        flat
    }

    /// Whether two answers are the same: field by field, but of failures only their kind, since what they say (after how
    /// many milliseconds, in which function) may differ from one time to the next.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Failed { kind, .. }, Self::Failed { kind: other, .. }) => kind == other,
            _ => self.flat() == other.flat(),
        }
    }

    /// The same, no matter in which words somebody is refused.
    pub fn same_but_for_words(&self, other: &Self) -> bool {
        // By far the most often.
        if self == other {
            return true;
        }
        let (mut one, mut two) = (self.flat(), other.flat());
        one.remove("message");
        two.remove("message");
        one == two
    }

    /// A validator's verdict on `asked`.
    pub(in crate::plugins) fn validated(asked: &Command, verdict: &Result<decision::Command, Refusal>) -> Self {
        match verdict {
            Ok(command) => {
                let command = Command::from(command);
                Self::Accept { rewritten: command != *asked, command }
            }
            Err(refusal) => refusal.into(),
        }
    }

    /// A policy's verdict on claims.
    pub(in crate::plugins) fn identified(verdict: &Result<Option<crate::auth::Identity>, Refusal>) -> Self {
        match verdict {
            Ok(Some(user)) => Self::Identity(user.into()),
            Ok(None) => Self::Left,
            Err(refusal) => refusal.into(),
        }
    }

    /// A formatter's answer.
    pub(in crate::plugins) fn formatted(answer: &Result<Option<decision::Status>, decision::CallFailure>) -> Self {
        match answer {
            Ok(Some(status)) => status.into(),
            Ok(None) => Self::Left,
            Err(failure) => failure.into(),
        }
    }

    /// A policy's verdict on an action.
    pub(in crate::plugins) fn authorized(verdict: &Result<(), Refusal>) -> Self {
        match verdict {
            Ok(()) => Self::Allow,
            Err(refusal) => refusal.into(),
        }
    }
}

impl From<&Refusal> for Outcome {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Rejected { rule, message, code, .. } => {
                Self::Reject { code: (*code).into(), rule: rule.clone(), message: message.clone() }
            }
            Refusal::Denied { rule, message, .. } => Self::Deny { rule: rule.clone(), message: message.clone() },
            Refusal::Unrecognised => Self::Left,
            Refusal::Failed { failure, .. } => failure.into(),
        }
    }
}

impl From<&decision::CallFailure> for Outcome {
    fn from(failure: &decision::CallFailure) -> Self {
        Self::Failed { kind: failure.name().into(), message: failure.to_string() }
    }
}

impl From<&decision::Status> for Outcome {
    fn from(status: &decision::Status) -> Self {
        Self::Status {
            source: status.source.clone(),
            content: status.content.clone(),
            log_content: status.log_content.clone(),
            severity: match status.severity {
                decision::Severity::Success => Severity::Success,
                decision::Severity::Info => Severity::Info,
                decision::Severity::Warning => Severity::Warning,
                decision::Severity::Error => Severity::Error,
                decision::Severity::Fatal => Severity::Fatal,
            },
        }
    }
}

impl From<&crate::auth::Identity> for Identity {
    fn from(user: &crate::auth::Identity) -> Self {
        Self { id: user.id.as_str().into(), admin: user.admin, collections: user.collections.clone() }
    }
}

macro_rules! kinds {
    ($($case:ident),+) => {
        impl From<decision::CommandKind> for CommandKind {
            fn from(kind: decision::CommandKind) -> Self {
                match kind { $(decision::CommandKind::$case => Self::$case,)+ }
            }
        }

        impl From<CommandKind> for decision::CommandKind {
            fn from(kind: CommandKind) -> Self {
                match kind { $(CommandKind::$case => Self::$case,)+ }
            }
        }
    };
}

kinds!(Deploy, Destroy, StopNode, StartNode, RestartNode, ListShells, OpenShell, CloseShell);

macro_rules! codes {
    ($($case:ident),+) => {
        impl From<decision::RejectionCode> for RejectionCode {
            fn from(code: decision::RejectionCode) -> Self {
                match code { $(decision::RejectionCode::$case => Self::$case,)+ }
            }
        }
    };
}

codes!(Generic, LabDeploying, LabNotRunning, NodeNotRunning, NodeNotFound, ShellNotFound, ShellLimit, InvalidRequest);

impl From<&decision::Command> for Command {
    fn from(command: &decision::Command) -> Self {
        Self {
            kind: command.kind.into(),
            lab_id: command.lab_id.as_str().into(),
            node: command.node.clone(),
            shell_id: command.shell_id.as_ref().map(|id| id.as_str().into()),
        }
    }
}

impl From<&Command> for decision::Command {
    fn from(command: &Command) -> Self {
        Self {
            kind: command.kind.into(),
            lab_id: command.lab_id.as_str().into(),
            node: command.node.clone(),
            shell_id: command.shell_id.as_deref().map(Into::into),
        }
    }
}

/// An answer, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What came of the call.
    pub outcome: Outcome,
    /// How long it took, instance and conversion included.
    pub duration: Duration,
    /// Linear memory that the instance had in the end, in bytes.
    pub memory: usize,
}
