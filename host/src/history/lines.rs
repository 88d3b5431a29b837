//! Cuts what processes print into the lines of a log.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Entry;

/// Most bytes of one line; a longer one comes in pieces of about this size.
pub const LINE: usize = 64 * 1024;

/// A line of a log, without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(Arc<str>);

impl Line {
    /// Its text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Entry for Line {
    fn weight(&self) -> usize {
        self.0.weight()
    }

    fn left_out(entries: u64, bytes: u64) -> Option<Self> {
        let lines = if entries == 1 { "1 line is" } else { &format!("{entries} lines are") };
        Some(Self(format!("[{lines} left out here: about {} KiB]", bytes.div_ceil(1024)).into()))
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line whose end hasn't come yet.
    partial: Vec<u8>,
}

impl Lines {
    /// Calls `line` for each line that `bytes` complete. Bytes that can't be UTF-8 become U+FFFD. A line that is too long
    /// is cut, but not within a character.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&str)) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            let room = LINE.saturating_sub(self.partial.len());
            // A character that begins within the line ends within it.
            let cut = room + piece.iter().skip(room).take(3).take_while(|byte| is_continuation(**byte)).count();
            if piece.len() > cut {
                self.complete(&piece[..cut], &mut line);
                bytes = &bytes[cut..];
                continue;
            }
            match end {
                Some(end) => {
                    let piece = &bytes[..end];
                    bytes = &bytes[end + 1..];
                    self.complete(piece, &mut line);
                }
                None => {
                    self.partial.extend_from_slice(piece);
                    return;
                }
            }
        }
    }

    /// Whether all bytes so far have become lines.
    pub fn is_complete(&self) -> bool {
        self.partial.is_empty()
    }

    /// Calls `line` for what is left when no more bytes will come.
    pub fn finish(&mut self, mut line: impl FnMut(&str)) {
        if !self.partial.is_empty() {
            self.complete(&[], &mut line);
        }
    }

    fn complete(&mut self, rest: &[u8], line: &mut impl FnMut(&str)) {
        let mut emit =
            |bytes: &[u8]| line(String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)).as_ref());
        if self.partial.is_empty() {
            emit(rest);
        } else {
            self.partial.extend_from_slice(rest);
            emit(&self.partial);
            self.partial.clear();
        }
    }
}

/// Whether this is a byte of a character other than its first.
fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |line| seen.push(line.to_owned()));
        }
        lines.finish(|line| seen.push(line.to_owned()));
        seen
    }

    #[test]
    fn lines_come_without_their_ends_and_empty_ones_count() {
        assert_eq!(cut(&[b"a\r\n\nb", b"c\n", b"d"]), ["a", "", "bc", "d"]);
    }

    #[test]
    fn what_is_not_utf8_is_replaced_and_nothing_else_is_lost() {
        assert_eq!(cut(&[b"a\xffb\n\xe2\x82", b"\xac\n"]), ["a\u{fffd}b", "€"]);
    }

    #[test]
    fn a_line_that_is_too_long_comes_in_pieces_cut_between_characters() {
        let text = format!("a{}", "é".repeat(3 * LINE));
        let bytes = text.as_bytes();
        for chunks in [vec![bytes], bytes.chunks(1).collect(), bytes.chunks(LINE).collect()] {
            let seen = cut(&chunks);
            assert!(seen.len() > 5 && seen.iter().all(|line| line.len() <= LINE + 3), "{}", seen.len());
            assert_eq!(seen.concat(), text);
        }
        let nothing = vec![0x80; 3 * LINE];
        assert!(cut(&[&nothing]).iter().all(|line| line.chars().all(|char| char == '\u{fffd}')));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_stream_is_cut(text in "[a€\n]{0,60}", at in 0usize..200) {
            let bytes = text.as_bytes();
            let (one, two) = bytes.split_at(at.min(bytes.len()));
            let whole = cut(&[bytes]);
            prop_assert_eq!(cut(&[one, two]), whole.clone());
            let mut expected: Vec<&str> = text.split('\n').collect();
            if expected.last() == Some(&"") {
                expected.pop();
            }
            prop_assert_eq!(whole, expected);
        }
    }
}
