//! What is appended to a history becomes files here: one task for each history, which owns its [`Segments`]. What is read
//! back of them is the affair of [`super::kept`].

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::history::lines::Line;
use crate::history::marks::{Mark, Marks};
use crate::history::{Entry, FollowEnd, Follower, Retention};

/// Lines that are written at a time.
pub(super) const BATCH: usize = 4096;
/// Bytes that a segment after the first has at least, however little is to be kept.
const SEGMENT_MIN: usize = if cfg!(test) { 200 } else { 64 * 1024 };
/// Bytes of lines that are written before where their source is gone on with is written again: so many are read once more
/// at most, and whatever comes line by line doesn't cost the disk a mark for each.
pub(super) const UNMARKED: usize = if cfg!(test) { 20 } else { 4 * 1024 };
/// How long a writer gathers lines after it has written some.
const GATHER: Duration = Duration::from_millis(100);

/// Writes what comes until the history or the server ends.
pub(super) async fn write(mut follower: Follower<Line>, mut segments: Segments, closing: CancellationToken) {
    loop {
        // When the server ends, what is there already is still written.
        let last = closing.is_cancelled();
        let lines = tokio::select! {
            biased;
            lines = follower.next(BATCH) => lines,
            () = closing.cancelled(), if !last => continue,
            () = std::future::ready(()), if last => break,
        };
        let full;
        match lines {
            Ok(lines) => {
                full = lines.len() == BATCH;
                let (number, count) = (follower.position(), lines.len());
                let written = tokio::task::spawn_blocking(move || {
                    segments.write(number, &lines);
                    segments
                });
                let Ok(same) = written.await else { return };
                segments = same;
                follower.advance(count);
            }
            Err(FollowEnd::FellBehind) => {
                follower.skip_dropped();
                segments.missed_until(follower.passed());
                continue;
            }
            Err(FollowEnd::Closed) => break,
        }
        // Where lines come faster than that, there is nothing to gather.
        if !full && !closing.is_cancelled() {
            let _ = tokio::time::timeout(GATHER, closing.cancelled()).await;
        }
    }
    let number = follower.position();
    let _ = tokio::task::spawn_blocking(move || segments.finish(number)).await;
}

/// What is written, and to which file.
pub(super) struct Segments {
    pub(super) dir: PathBuf,
    pub(super) retention: Retention,
    /// The segments after the one that is kept for good, oldest first.
    pub(super) latest: VecDeque<Segment>,
    pub(super) open: Option<Open>,
    /// Bytes of all lines so far.
    pub(super) passed: u64,
    /// Marks that are to be written.
    pub(super) marks: Arc<Marks>,
    /// The last one that was written, with which each file begins: the one that it stands in may go.
    pub(super) mark: Option<Mark>,
    /// A later one that is to be written some time, and not for itself.
    pub(super) held: Option<Mark>,
    /// Bytes of lines since the last one that was written.
    pub(super) unmarked: usize,
    /// Whether the last write failed, which was said.
    pub(super) failing: bool,
}

/// The segment that is being written.
///
/// The file itself is open while a batch is written: there may be more logs than a process may have files.
pub(super) struct Open {
    pub(super) segment: Segment,
    /// Bytes of the file.
    pub(super) size: usize,
    /// Whether there are lines among them.
    pub(super) has_lines: bool,
}

/// A file of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// Number of its first line.
    pub(super) first: u64,
    /// Bytes of all lines before that.
    pub(super) passed: u64,
}

impl Segment {
    pub(super) fn file_name(self) -> String {
        format!("{:020}-{:020}.log", self.first, self.passed)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (first, passed) = name.strip_suffix(".log")?.split_once('-')?;
        Some(Self { first: first.parse().ok()?, passed: passed.parse().ok()? })
    }
}

impl Segments {
    /// Adds lines of which the first has this number.
    pub(super) fn write(&mut self, number: u64, lines: &[Line]) {
        let mut marks = self.marks.take(number + lines.len() as u64);
        let written = self.try_write(number, lines, &mut marks);
        self.wrote(written, marks);
        self.passed += weight(lines);
    }

    /// Writes what was held back, when no more lines will come than those before the one of this number.
    pub(super) fn finish(mut self, number: u64) {
        let mut marks = self.marks.take(number);
        self.unmarked = UNMARKED;
        let mut buffer = Buffer::default();
        self.mark(&mut marks, number, &mut buffer);
        let written = self.flush(&mut buffer);
        self.wrote(written, marks);
    }

    /// Deals with what became of writing, which got as far as to these marks.
    fn wrote(&mut self, written: io::Result<()>, mut marks: VecDeque<Mark>) {
        let Err(error) = written else {
            self.failing = false;
            return;
        };
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(dir = %self.dir.display(), %error, "a log can't be written; lines are lost on disk");
        }
        // The last line may be half written. Whatever comes next begins another file, named by its place.
        if let Some(Open { segment, has_lines: false, .. }) = self.open.take() {
            self.latest.retain(|kept| *kept != segment);
            let _ = fs::remove_file(self.dir.join(segment.file_name()));
        }
        // Which begins with the last mark there was, or what follows would be taken for lines of another source.
        if let Some(mark) = marks.pop_back() {
            (self.mark, self.held) = (Some(mark), None);
        }
    }

    fn try_write(&mut self, number: u64, lines: &[Line], marks: &mut VecDeque<Mark>) -> io::Result<()> {
        let mut buffer = Buffer::default();
        let (mut at, mut passed) = (number, self.passed);
        for line in lines {
            self.mark(marks, at, &mut buffer);
            if self.is_full(buffer.bytes.len()) {
                self.flush(&mut buffer)?;
                self.begin(Segment { first: at, passed })?;
            }
            self.unmarked += buffer.line(line);
            at += 1;
            passed += line.weight() as u64;
        }
        self.mark(marks, at, &mut buffer);
        self.flush(&mut buffer)
    }

    /// Writes the marks that belong before the line of this number, each behind what it is about and before what follows.
    /// One that isn't needed for what is written already to be read right may come later.
    fn mark(&mut self, marks: &mut VecDeque<Mark>, line: u64, buffer: &mut Buffer) {
        while let Some(mark) = marks.pop_front_if(|mark| mark.place() <= line) {
            if mark.is_dispensable_after(self.mark.as_ref()) {
                self.held = Some(mark);
            } else {
                self.put(mark, buffer);
            }
        }
        if self.unmarked >= UNMARKED
            && let Some(mark) = self.held.take()
        {
            self.put(mark, buffer);
        }
    }

    fn put(&mut self, mark: Mark, buffer: &mut Buffer) {
        if self.open.is_some() {
            buffer.mark(&mark);
        }
        (self.mark, self.held, self.unmarked) = (Some(mark), None, 0);
    }

    /// Whether the next line belongs into another file.
    fn is_full(&self, buffered: usize) -> bool {
        let Some(Open { segment, size, .. }) = &self.open else { return true };
        let limit = if self.is_beginning(*segment) {
            self.retention.first
        } else {
            (self.retention.latest / 2).max(SEGMENT_MIN)
        };
        size + buffered >= limit
    }

    /// Whether a segment is the one that is kept for good.
    pub(super) fn is_beginning(&self, segment: Segment) -> bool {
        segment.first == 0 && self.retention.first > 0
    }

    fn flush(&mut self, buffer: &mut Buffer) -> io::Result<()> {
        let buffer = std::mem::take(buffer);
        if let Some(Open { segment, size, has_lines }) = &mut self.open
            && !buffer.bytes.is_empty()
        {
            File::options().append(true).open(self.dir.join(segment.file_name()))?.write_all(&buffer.bytes)?;
            *size += buffer.bytes.len();
            *has_lines |= buffer.has_lines;
        }
        Ok(())
    }

    fn begin(&mut self, segment: Segment) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let mut buffer = Buffer::default();
        if let Some(mark) = self.held.take() {
            self.mark = Some(mark);
        }
        if let Some(mark) = &self.mark {
            buffer.mark(mark);
            self.unmarked = 0;
        }
        // What a file of that name holds was never finished.
        let path = self.dir.join(segment.file_name());
        if let Err(error) = File::create(&path)?.write_all(&buffer.bytes) {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        if !self.is_beginning(segment) {
            self.latest.push_back(segment);
        }
        self.open = Some(Open { segment, size: buffer.bytes.len(), has_lines: false });
        // The oldest goes when there is enough without it.
        while let Some(second) = self.latest.get(1)
            && segment.passed.saturating_sub(second.passed) >= self.retention.latest as u64
        {
            let oldest = self.latest.pop_front().expect("there are two");
            match fs::remove_file(self.dir.join(oldest.file_name())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Goes on with a segment that was begun by another server. What is behind what was read of it is not kept.
    pub(super) fn resume(&mut self, open: Open) -> io::Result<()> {
        let file = File::options().append(true).open(self.dir.join(open.segment.file_name()))?;
        file.set_len(open.size as u64)?;
        self.open = Some(open);
        Ok(())
    }

    /// Lines that came too fast were never seen; so many bytes have passed by in all.
    pub(super) fn missed_until(&mut self, passed: u64) {
        let bytes = passed.saturating_sub(self.passed);
        tracing::warn!(dir = %self.dir.display(), bytes, "a log comes faster than it is written; lines are lost on disk");
        self.open = None;
        self.passed = passed;
    }
}

/// What is written to a file at once.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Whether there are lines among them.
    has_lines: bool,
}

impl Buffer {
    /// Adds a line, and says how many bytes it is.
    fn line(&mut self, line: &Line) -> usize {
        self.bytes.extend_from_slice(line.text().as_bytes());
        self.bytes.push(b'\n');
        self.has_lines = true;
        line.text().len() + 1
    }

    fn mark(&mut self, mark: &Mark) {
        mark.write(&mut self.bytes);
        self.bytes.push(b'\n');
    }
}

pub(super) fn weight(lines: &[Line]) -> u64 {
    lines.iter().map(|line| line.weight() as u64).sum()
}
