//! `logging`: a guest's lines in the server's log.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::plugins::bindings::antimony::plugin::logging::{Host, Level};
use crate::plugins::state::CallState;

/// What a line costs besides its text, so that a flood of empty lines ends as well.
const LINE_COST: usize = 32;

/// What is left of a call's budget for logging.
pub(in crate::plugins) struct LogBudget {
    plugin: Arc<str>,
    call: u64,
    left: usize,
    cut: bool,
    open: bool,
}

impl LogBudget {
    pub(in crate::plugins) fn new(plugin: Arc<str>, call: u64, bytes: usize) -> Self {
        Self { plugin, call, left: bytes, cut: false, open: true }
    }

    /// For a call in which a guest may not log at all, since a snapshot is going to be taken of it.
    pub(in crate::plugins) fn close(&mut self) {
        self.open = false;
    }

    /// Whether something of what the call logged was dropped.
    pub(in crate::plugins) fn is_cut(&self) -> bool {
        self.cut
    }

    /// What of `message` still fits in, or `None` when nothing does.
    fn take<'a>(&mut self, message: &'a str) -> Option<&'a str> {
        if self.cut || self.left < LINE_COST {
            return None;
        }
        self.left -= LINE_COST;
        let kept = &message[..message.floor_char_boundary(self.left)];
        self.left -= kept.len();
        Some(kept)
    }

    fn log(&mut self, level: Level, message: &str) {
        let (plugin, call) = (self.plugin.clone(), self.call);
        let kept = self.take(message);
        if let Some(kept) = kept {
            let message = escape(kept);
            match level {
                Level::Debug => tracing::debug!(%plugin, call, "{message}"),
                Level::Info => tracing::info!(%plugin, call, "{message}"),
                Level::Warn => tracing::warn!(%plugin, call, "{message}"),
                Level::Error => tracing::error!(%plugin, call, "{message}"),
            }
        }
        if kept.is_none_or(|kept| kept.len() < message.len()) && !self.cut {
            self.cut = true;
            tracing::warn!(%plugin, call, "it logs more than its budget allows: the rest of this call's lines is dropped");
        }
    }
}

/// Makes one line of a text, and nothing that a terminal would obey.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}

/// A guest called what it may not call at this point.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::plugins) struct Forbidden(&'static str);

impl Host for CallState {
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        if !self.log.open {
            return Err(Forbidden("`configure` may not log, since a snapshot is taken of the instance after it").into());
        }
        self.log.log(level, &message);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_call_logs_no_more_than_its_budget() {
        let mut budget = LogBudget::new("p".into(), 1, 100);
        assert_eq!(budget.take("x".repeat(50).as_str()).unwrap().len(), 50);
        assert_eq!(budget.take("").map(str::len), None);
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        let mut budget = LogBudget::new("p".into(), 1, LINE_COST + 3);
        assert_eq!(budget.take("éé"), Some("é"));
    }

    #[test]
    fn empty_lines_use_up_the_budget_as_well() {
        let mut budget = LogBudget::new("p".into(), 1, 10 * LINE_COST);
        let lines = std::iter::from_fn(|| budget.take("")).count();
        assert_eq!(lines, 10);
    }

    #[test]
    fn control_characters_are_escaped_and_others_are_not() {
        assert_eq!(escape("a\nb\u{1b}[2J\u{7f}ü\t"), "a\\nb\\u{1b}[2J\\u{7f}ü\\t");
    }
}
