//! What is printed: tables and lines for people, JSON for scripts.
//!
//! Text of the server and of nodes is printed without its control characters, which could otherwise do anything to the
//! terminal of whoever looks at it.

use std::io::{self, Write};

use serde_json::Value;

use super::CtlError;

/// How answers are printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// An answer: the value, or the words.
    pub(super) fn answer(self, value: &Value, words: impl FnOnce() -> String) -> Result<(), CtlError> {
        let text = if self.json { format!("{value:#}") } else { words() };
        print(text.trim_end_matches('\n'))
    }

    /// Something that came: the value on a line, or the words.
    pub(super) fn came(self, value: &Value, words: impl FnOnce() -> String) -> Result<(), CtlError> {
        print(&if self.json { value.to_string() } else { words() })
    }

    /// What is to be known beside the answer.
    #[expect(clippy::print_stderr, reason = "it is the person's terminal, and no log")]
    pub(super) fn note(self, words: &str) {
        if !self.json {
            eprintln!("{words}");
        }
    }
}

fn print(text: &str) -> Result<(), CtlError> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    written.map_err(|error| CtlError::File("standard output".to_owned(), error))
}

/// Text of somebody else's on one line.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// Columns that are as wide as what is in them, below their titles.
pub(super) fn table(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut titles.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [vec!["r1".to_owned(), "running".to_owned()], vec!["router".to_owned(), "exited".to_owned()]];
        assert_eq!(table(&["NODE", "STATE"], &rows), "NODE    STATE\nr1      running\nrouter  exited");
    }

    #[test]
    fn what_others_wrote_cannot_control_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\tc\r\n"), "a[2Jb\tc");
    }
}
