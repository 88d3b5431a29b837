//! Error codes on the wire, and the one mapping of errors to them.

use serde::Serialize;

use crate::labs::LabCommandError;
use crate::labs::lifecycle::Denial;
use crate::plugins::decision::{Refusal, RejectionCode};
use crate::runtime::RuntimeError;
use crate::shells::{InputError, OpenError};

/// Anything without a code of its own.
pub(super) const GENERIC: u16 = 5000;
/// The runtime returned an error.
pub(super) const RUNTIME: u16 = 5001;
/// The lab is being deployed.
pub(super) const DEPLOYING: u16 = 5002;
/// The lab is not running.
pub(super) const LAB_NOT_RUNNING: u16 = 5003;
/// The node is not running. The specification repeats the text of 5002 here; clients in the field read it as this.
pub(super) const NODE_NOT_RUNNING: u16 = 5004;
/// No such lab.
pub(super) const LAB_NOT_FOUND: u16 = 5005;
/// No such node.
pub(super) const NODE_NOT_FOUND: u16 = 5006;
/// No such shell.
pub(super) const SHELL_NOT_FOUND: u16 = 5007;
/// As many shells as the user may have.
pub(super) const SHELL_LIMIT: u16 = 5008;
/// The request is malformed.
pub(super) const INVALID: u16 = 5422;
/// The user may not do that.
pub(super) const DENIED: u16 = 5403;

/// An error as an acknowledgement carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct WireError {
    /// One of the documented codes.
    pub(super) code: u16,
    /// A sentence for the user.
    pub(super) message: String,
}

impl WireError {
    pub(super) fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<LabCommandError> for WireError {
    fn from(error: LabCommandError) -> Self {
        let code = match &error {
            LabCommandError::NotFound(_) => LAB_NOT_FOUND,
            LabCommandError::Denied(Denial::AlreadyDeploying) => DEPLOYING,
            LabCommandError::Denied(Denial::NotRunning) => LAB_NOT_RUNNING,
            LabCommandError::Denied(Denial::BeingDestroyed | Denial::BeingSaved)
            | LabCommandError::Cancelled
            | LabCommandError::SaveCancelled
            | LabCommandError::Refused(_)
            | LabCommandError::NoRoom(_)
            | LabCommandError::ShuttingDown
            | LabCommandError::Internal(_) => GENERIC,
            LabCommandError::NodeNotFound(_) => NODE_NOT_FOUND,
            LabCommandError::NodeNotRunning(_) => NODE_NOT_RUNNING,
            LabCommandError::Runtime(_) => RUNTIME,
        };
        Self::new(code, error.to_string())
    }
}

impl From<OpenError> for WireError {
    fn from(error: OpenError) -> Self {
        let code = match &error {
            OpenError::Limit(_) => SHELL_LIMIT,
            OpenError::LabNotRunning | OpenError::Runtime(RuntimeError::NoInstance(_)) => LAB_NOT_RUNNING,
            OpenError::Runtime(RuntimeError::NoNode(_)) => NODE_NOT_FOUND,
            OpenError::Runtime(RuntimeError::NodeNotRunning(_)) => NODE_NOT_RUNNING,
            OpenError::ShuttingDown | OpenError::Runtime(_) => GENERIC,
        };
        Self::new(code, error.to_string())
    }
}

impl From<InputError> for WireError {
    fn from(error: InputError) -> Self {
        let code = match error {
            InputError::Ended => SHELL_NOT_FOUND,
            InputError::Full => GENERIC,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refusal> for WireError {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::Rejected { code, .. } => match code {
                RejectionCode::Generic => GENERIC,
                RejectionCode::LabDeploying => DEPLOYING,
                RejectionCode::LabNotRunning => LAB_NOT_RUNNING,
                RejectionCode::NodeNotRunning => NODE_NOT_RUNNING,
                RejectionCode::NodeNotFound => NODE_NOT_FOUND,
                RejectionCode::ShellNotFound => SHELL_NOT_FOUND,
                RejectionCode::ShellLimit => SHELL_LIMIT,
                RejectionCode::InvalidRequest => INVALID,
            },
            Refusal::Denied { .. } | Refusal::Unrecognised => DENIED,
            Refusal::Failed { .. } => GENERIC,
        };
        Self::new(code, refusal.to_string())
    }
}
