//! How the demo speaks: headings, facts, and what other programs say, set apart from each other.
//!
//! Writes to standard output only. Colours, and nothing else of ANSI, are used when that is a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// The narrator.
pub(super) struct Voice {
    colours: bool,
    began: Instant,
    step: u32,
    /// Whether the last output of a terminal in a node ended within a line.
    within_line: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";

impl Voice {
    pub(super) fn new() -> Self {
        Self { colours: io::stdout().is_terminal(), began: Instant::now(), step: 0, within_line: false }
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) {
        self.step += 1;
        let number = self.step;
        let title = self.painted(BOLD, &format!("{number}. {title}"));
        let time = self.painted(DIM, &format!("[{:6.2} s]", self.began.elapsed().as_secs_f32()));
        self.say(&format!("\n{time} {title}\n"));
    }

    /// Something that has been done, or seen.
    pub(super) fn fact(&mut self, text: &str) {
        let mark = self.painted(GREEN, "✓");
        self.say(&format!("  {mark} {text}\n"));
    }

    /// A line that somebody else wrote; `who` says who.
    pub(super) fn quote(&mut self, who: &str, line: &str) {
        let who = self.painted(CYAN, &format!("{who:>8} │"));
        self.say(&format!("  {who} {line}\n"));
    }

    /// Plain text, as it is.
    pub(super) fn text(&mut self, text: &str) {
        self.say(&format!("{text}\n"));
    }

    /// Output of a terminal in a node, cut anywhere: shown at once, each line behind the name of the node.
    pub(super) fn terminal(&mut self, node: &str, output: &str) {
        let prefix = format!("  {} ", self.painted(CYAN, &format!("{node:>8} │")));
        let mut shown = String::new();
        for piece in printable(output).split_inclusive('\n') {
            if !self.within_line {
                shown.push_str(&prefix);
            }
            shown.push_str(piece);
            self.within_line = !piece.ends_with('\n');
        }
        write(&shown);
    }

    fn say(&mut self, text: &str) {
        if std::mem::take(&mut self.within_line) {
            write("\n");
        }
        write(text);
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Nobody to read it is no reason to stop: the demo's exit status still tells how it went.
fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Leaves out what would move the reader's cursor or change their terminal: escape sequences and control characters
/// other than the line feed.
pub(super) fn printable(output: &str) -> String {
    let mut shown = String::with_capacity(output.len());
    let mut chars = output.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => match chars.next() {
                // A control sequence ends with a byte from @ to ~.
                Some('[') => while chars.next().is_some_and(|char| !('@'..='~').contains(&char)) {},
                // A command to the terminal, such as one that sets its title, ends with BEL or ESC \.
                Some(']') => {
                    while let Some(char) = chars.next() {
                        if char == '\u{7}' || (char == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\n' => shown.push('\n'),
            char if char.is_control() => {}
            char => shown.push(char),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_output_cannot_steer_the_readers_terminal() {
        assert_eq!(printable("\u{1b}[?2004hr1:/# ls\r\n\u{1b}[01;34mbin\u{1b}[0m\r\n"), "r1:/# ls\nbin\n");
        assert_eq!(printable("\u{1b}]0;title\u{7}a\u{1b}]0;title\u{1b}\\b\u{8}\u{7}é"), "abé");
        assert_eq!(printable("cut off \u{1b}["), "cut off ");
    }
}
