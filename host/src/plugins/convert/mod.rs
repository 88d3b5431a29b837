//! Between the server's own types and those of the contract. One file per interface of `wit/`.
//!
//! What goes to a guest borrows everything that it can from the server's types; what has to be put together first (lists
//! of records) lives in an arena that the call brings along.

mod formatter;
mod policy;
mod types;
mod validator;

pub(super) use bumpalo::Bump as Arena;
pub(super) use formatter::{event, status};
pub(super) use policy::{action, claims, denied};
pub(super) use types::{circumstances, identity, identity_answer};
pub(super) use validator::{command, command_answer, context, rejected};
