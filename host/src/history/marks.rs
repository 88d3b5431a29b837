//! Where the lines of a history came from, and where their source is to be gone on with: what makes sure that after a
//! restart of the server no line is missing and none comes twice.
//!
//! A [`Mark`] says that with so many lines a source had been read up to a position. Marks stand among the lines on disk
//! ([`super::archive`]), so that whatever part of both was written before the server was killed, they fit together: the
//! source is gone on with at the last mark, and as many lines are left out as there are behind it already. That needs
//! no more of a source than to write the same again from a position on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::runtime::LogPosition;

/// Begins a mark in a file: a byte that no line has, as they all are UTF-8.
const SIGN: u8 = 0xff;
/// Marks that may wait to be written.
const QUEUE: usize = 64;

/// With so many lines, a source had been read so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// How many lines there had been since the beginning of the history.
    #[serde(rename = "n")]
    lines: u64,
    /// How many of the lines behind the position were among them.
    #[serde(rename = "s", default, skip_serializing_if = "is_zero")]
    skip: u64,
    /// What was read.
    #[serde(rename = "of")]
    source: Arc<str>,
    /// How far; `None`: it had just been begun.
    #[serde(rename = "at", default, skip_serializing_if = "Option::is_none")]
    position: Option<LogPosition>,
    /// Number of the line before which it belongs into the file.
    #[serde(skip)]
    place: u64,
    /// What the file says so far is wrong for what comes behind it: the source is begun, or there are fewer lines than was
    /// thought.
    #[serde(skip)]
    anew: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Mark {
    /// Number of the line before which it belongs into the file.
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    /// Whether the line behind it is none of the source's, which nothing else says.
    fn is_of_stranger(&self) -> bool {
        self.lines > self.place
    }

    /// Whether it says no more than how far a source was read, which the mark before it says as well, if not that far.
    fn only_saves_reading(&self) -> bool {
        !self.is_of_stranger() && !self.anew
    }

    /// Whether it only saves reading again what was read: without it, its source is gone on with at the one before it.
    pub(super) fn is_dispensable_after(&self, before: Option<&Self>) -> bool {
        self.only_saves_reading() && before.is_some_and(|before| before.source == self.source)
    }

    /// As it stands in a file, without its line end.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) {
        buffer.push(SIGN);
        // JSON has no line end in it, whatever the source and the position are.
        serde_json::to_writer(buffer, self).expect("a mark has no keys but text");
    }

    /// The mark that a piece of a file is; `None`: it is a line. A mark that can't be read is as good as none.
    pub(super) fn read(piece: &[u8]) -> Option<Option<Self>> {
        let text = piece.strip_prefix(&[SIGN])?;
        Some(serde_json::from_slice(text).ok())
    }
}

/// Where to go on with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Read from behind this position; `None`: from the beginning.
    pub after: Option<LogPosition>,
    /// So many lines from there on are known already.
    pub skip: u64,
}

/// The marks of one history. Whoever appends sets them, and its writer takes them.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The latest of all.
    latest: Option<Mark>,
    /// What is to be written, in the order of lines.
    waiting: VecDeque<Mark>,
}

impl Marks {
    /// With the last mark that was found on disk.
    pub(super) fn restored(latest: Option<Mark>) -> Self {
        Self(Mutex::new(State { latest, waiting: VecDeque::new() }))
    }

    /// Where to go on with `source`, now that there are so many lines. A source that isn't the last one that was read is
    /// begun, and marked as such.
    pub(super) fn resume(&self, source: &str, lines: u64) -> Resume {
        let mut state = self.lock();
        if let Some(latest) = state.latest.clone().filter(|latest| *latest.source == *source) {
            let skip = latest.skip + lines.saturating_sub(latest.lines);
            let after = latest.position.clone();
            if latest.lines > lines {
                // A stranger's line that was lost with the server. The next line, which is the source's, would be taken for
                // it should this server be killed too.
                state.add(Mark { lines, place: lines, anew: true, ..latest });
            }
            return Resume { after, skip };
        }
        state.add(Mark { lines, skip: 0, source: source.into(), position: None, place: lines, anew: true });
        Resume { after: None, skip: 0 }
    }

    /// Says that the source that is being read is another from the line behind so many on: what is read from its beginning
    /// is what comes now.
    pub(super) fn begin_again(&self, lines: u64) {
        let mut state = self.lock();
        if let Some(source) = state.latest.as_ref().map(|latest| Arc::clone(&latest.source)) {
            state.add(Mark { lines, skip: 0, source, position: None, place: lines, anew: true });
        }
    }

    /// Says that with so many lines the source that is being read was read so far.
    pub(super) fn reached(&self, lines: u64, position: LogPosition) {
        let mut state = self.lock();
        if let Some(source) = state.latest.as_ref().map(|latest| Arc::clone(&latest.source)) {
            state.add(Mark { lines, skip: 0, source, position: Some(position), place: lines, anew: false });
        }
    }

    /// Says that behind so many lines one follows that is none of the source's. It may be missing on disk at last, but then
    /// there are fewer lines than the mark says, which is as if it had never been.
    pub(super) fn insert(&self, lines: u64) {
        let mut state = self.lock();
        if let Some(latest) = state.latest.clone() {
            let skip = latest.skip + lines.saturating_sub(latest.lines);
            state.add(Mark { lines: lines + 1, skip, place: lines, anew: false, ..latest });
        }
    }

    /// The marks that belong before lines up to the one of this number: of each source the first,
    /// which may be where it begins, and the last; and those of strangers.
    pub(super) fn take(&self, line: u64) -> VecDeque<Mark> {
        let mut state = self.lock();
        let count = state.waiting.iter().take_while(|mark| mark.place <= line).count();
        let mut marks: VecDeque<Mark> = VecDeque::new();
        for mark in state.waiting.drain(..count) {
            let same = marks.iter().rev().take_while(|before| before.source == mark.source).count();
            if same >= 2 {
                marks.pop_back_if(|before| before.only_saves_reading());
            }
            marks.push_back(mark);
        }
        marks
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, mut mark: Mark) {
        self.latest = Some(mark.clone());
        // Nothing has come in between, so whoever reads both goes by the second: a node that prints nothing is begun anew
        // as often as its lab is deployed, and nobody takes these away.
        if let Some(before) = self.waiting.pop_back_if(|before| before.place == mark.place && !before.is_of_stranger())
        {
            mark.anew |= before.anew;
        }
        let last_two = self.waiting.len().checked_sub(2).map(|from| self.waiting.range(from..));
        if self.waiting.len() >= QUEUE
            && last_two.is_some_and(|mut both| both.all(|waiting| waiting.source == mark.source))
        {
            // The writer is behind. What it finds when it gets there is older than it could be, and right all the same.
            self.waiting.pop_back_if(|before| before.only_saves_reading());
        }
        self.waiting.push_back(mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> LogPosition {
        LogPosition::new(text)
    }

    fn resume(after: Option<&str>, skip: u64) -> Resume {
        Resume { after: after.map(at), skip }
    }

    #[test]
    fn a_source_is_gone_on_with_at_its_last_mark_without_the_lines_behind_it() {
        let marks = Marks::default();
        assert_eq!(marks.resume("one", 5), resume(None, 0));
        assert_eq!(marks.resume("one", 7), resume(None, 2));
        marks.reached(8, at("p"));
        assert_eq!(marks.resume("one", 8), resume(Some("p"), 0));
        assert_eq!(marks.resume("one", 11), resume(Some("p"), 3));
        marks.insert(11);
        assert_eq!(marks.resume("one", 12), resume(Some("p"), 3));
        // Another one begins anew, and what was known of the first is of no use any more.
        assert_eq!(marks.resume("two", 12), resume(None, 0));
        assert_eq!(marks.resume("one", 12), resume(None, 0));
    }

    #[test]
    fn a_mark_is_told_from_a_line_and_comes_back_whatever_it_says() {
        let mark = Mark {
            lines: 3,
            skip: 1,
            source: "a\n\"b\u{ff}".into(),
            position: Some(at("1\n2")),
            place: 0,
            anew: false,
        };
        let mut buffer = Vec::new();
        mark.write(&mut buffer);
        assert!(!buffer.contains(&b'\n'));
        assert_eq!(Mark::read(&buffer), Some(Some(mark)));
        assert_eq!(Mark::read("ÿ{}".as_bytes()), None);
        assert_eq!(Mark::read(b"\xff{\"n\":"), Some(None));
    }

    #[test]
    fn that_a_stranger_was_lost_is_marked_before_the_next_line_takes_its_place() {
        let found = Mark { lines: 11, skip: 3, source: "one".into(), position: Some(at("p")), place: 0, anew: false };
        let marks = Marks::restored(Some(found.clone()));
        assert_eq!(marks.resume("one", 10), resume(Some("p"), 3));
        let taken = Vec::from(marks.take(10));
        let [corrected] = &taken[..] else { panic!("{taken:?}") };
        assert!(!corrected.is_dispensable_after(Some(&found)));
        // As another server reads it that finds one more line.
        assert_eq!(Marks::restored(Some(corrected.clone())).resume("one", 11), resume(Some("p"), 4));
        let right = Marks::restored(Some(found));
        assert_eq!(right.resume("one", 11), resume(Some("p"), 3));
        assert!(right.take(11).is_empty());
    }

    #[test]
    fn sources_that_never_say_anything_leave_one_mark() {
        let marks = Marks::default();
        marks.resume("one", 0);
        marks.reached(5, at("p"));
        for deploy in 0..1000 {
            assert_eq!(marks.resume(&format!("deploy {deploy}"), 5), resume(None, 0));
        }
        let taken: Vec<_> = marks.take(5).iter().map(|mark| (mark.source.to_string(), mark.lines, mark.anew)).collect();
        assert_eq!(taken, [("one".to_owned(), 0, true), ("deploy 999".to_owned(), 5, true)]);
    }

    #[test]
    fn a_source_that_is_begun_again_is_gone_on_with_from_its_beginning() {
        let marks = Marks::default();
        marks.resume("one", 0);
        marks.reached(5, at("p"));
        marks.begin_again(7);
        assert_eq!(marks.resume("one", 9), resume(None, 2));
        marks.reached(9, at("q"));
        assert_eq!(marks.resume("one", 9), resume(Some("q"), 0));
    }

    #[test]
    fn what_says_that_a_line_is_a_stranger_is_never_left_out() {
        let marks = Marks::default();
        marks.resume("one", 0);
        for line in 1..100 {
            marks.reached(line, at("p"));
        }
        marks.insert(99);
        for line in 101..200 {
            marks.reached(line, at("q"));
        }
        assert!(marks.lock().waiting.len() <= QUEUE + 2);
        let taken: Vec<u64> = marks.take(200).iter().map(|mark| mark.lines).collect();
        assert_eq!(taken, [0, 100, 199]);
    }

    #[test]
    fn marks_that_wait_are_bounded_and_the_beginning_of_a_source_is_among_them() {
        let marks = Marks::default();
        marks.resume("one", 0);
        for line in 1..1000 {
            marks.reached(line, at(&line.to_string()));
        }
        marks.resume("two", 1000);
        marks.reached(1005, at("z"));
        assert!(marks.lock().waiting.len() <= QUEUE + 2);
        let taken =
            |line| marks.take(line).iter().map(|mark| (mark.source.to_string(), mark.lines)).collect::<Vec<_>>();
        assert_eq!(taken(1004), [("one".into(), 0), ("one".into(), 999), ("two".into(), 1000)]);
        assert_eq!(taken(1004), []);
        assert_eq!(taken(1005), [("two".into(), 1005)]);
    }
}
