//! Between the server's own types and those of the contract. One file per interface of `wit/`.
//!
//! What goes to a guest borrows everything that it can from the server's types; what has to be put together first (lists
//! of records) lives in an arena that the call brings along.

mod formatter;
mod policy;
mod types;
mod validator;

pub(super) use bumpalo::Bump as Arena;

pub(super) use super::bindings::exports::antimony::plugin::validator::Context;
pub(super) use formatter::{event, status};
pub(super) use policy::{action, claims, denied};
pub(super) use types::{circumstances, identity, identity_answer};
pub(super) use validator::{command, command_answer, context, rejected};

/// The longest name of a rule or of a part of the server, in bytes.
const NAME: usize = 64;
/// The longest sentence for a user, in bytes.
const SENTENCE: usize = 4 << 10;

/// Shortens what a guest wrote to what is of use to anybody, and makes one line of it.
fn line(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_wrote_becomes_a_short_line() {
        assert_eq!(line("no\nmore".into(), SENTENCE), "no more");
        assert_eq!(line("éé".into(), 3), "é");
        assert_eq!(line("fine".into(), NAME), "fine");
    }
}
