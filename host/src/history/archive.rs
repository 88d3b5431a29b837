//! Keeps histories of lines on disk, so that a restart of the server loses none.
//!
//! Each history has a folder of segments: text files whose name says which line they begin with and how many bytes came
//! before it. The first segment is kept for good; of those that follow, the latest few. A task per history writes what is
//! appended, in batches and after the fact: whoever appends never waits for the disk, and what a killed server loses is
//! what came in the last tenth of a second, unless it can be had again where it came from: for that, [`Archived::resume`]
//! says where to go on. A disk that can't be written costs what isn't written, and nothing else.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lines::Line;
use super::marks::{Mark, Marks, Resume};
use super::{Entry, FollowEnd, Follower, History, Retention};
use crate::runtime::LogPosition;

/// Lines that are written at a time.
const BATCH: usize = 4096;
/// Bytes that a segment after the first has at least, however little is to be kept.
const SEGMENT_MIN: usize = if cfg!(test) { 200 } else { 64 * 1024 };
/// Bytes of lines that are written before where their source is gone on with is written again: so many are read once more
/// at most, and whatever comes line by line doesn't cost the disk a mark for each.
const UNMARKED: usize = if cfg!(test) { 20 } else { 4 * 1024 };
/// The folder beside them that histories are moved to that can't be read. No name of a history is written like that.
const ASIDE: &str = ".unreadable";
/// How long a writer gathers lines after it has written some.
const GATHER: Duration = Duration::from_millis(100);

/// A folder of histories. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive {
    root: PathBuf,
    retention: Retention,
    writers: TaskTracker,
    closing: CancellationToken,
}

impl Archive {
    /// The histories below `root`, of which each keeps `retention`.
    pub fn new(root: PathBuf, retention: Retention) -> Self {
        Self { root, retention, writers: TaskTracker::new(), closing: CancellationToken::new() }
    }

    /// Brings a history back, as far as it was kept; and keeps what is appended from now on.
    pub async fn open(&self, place: &[&str]) -> Archived {
        let dir = self.dir(place);
        let (read, retention) = (dir.clone(), self.retention);
        let (history, segments) = tokio::task::spawn_blocking(move || {
            let kept = Kept::read(&read).unwrap_or_else(|error| {
                tracing::error!(dir = %read.display(), %error, "a log can't be read; it is put aside and begins anew");
                // That it can't be is said there, and writing says what comes of it.
                let _ = put_aside(&read);
                Kept::default()
            });
            kept.restore(&read, retention)
        })
        .await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let (history, marks) = (Arc::new(history), Arc::clone(&segments.marks));
        let ended = CancellationToken::new();
        let follower = history.follow_aside();
        let (closing, guard) = (self.closing.clone(), ended.clone().drop_guard());
        self.writers.spawn(async move {
            let _guard = guard;
            write(follower, segments, closing).await;
        });
        Archived { history, marks, dir, ended }
    }

    /// Whether anything is kept of this history.
    pub fn has(&self, place: &[&str]) -> bool {
        fs::read_dir(self.dir(place)).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Names of the histories, or of the folders of such, at `place`.
    pub fn names(&self, place: &[&str]) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir(place)) else { return Vec::new() };
        let mut names: Vec<String> = entries.filter_map(|entry| decode(entry.ok()?.file_name().to_str()?)).collect();
        names.sort();
        names
    }

    /// Removes all that is kept at `place`. To be called when no history there is open.
    pub async fn remove(&self, place: &[&str]) {
        remove(&self.dir(place)).await;
    }

    /// Writes what is still to be written. Nothing is kept of what is appended later.
    pub async fn close(&self) {
        self.closing.cancel();
        self.writers.close();
        self.writers.wait().await;
    }

    fn dir(&self, place: &[&str]) -> PathBuf {
        place.iter().fold(self.root.clone(), |dir, name| dir.join(encode(name)))
    }
}

/// An open history of an archive.
#[derive(Debug)]
pub struct Archived {
    history: Arc<History<Line>>,
    marks: Arc<Marks>,
    dir: PathBuf,
    /// Cancelled when its writer has ended.
    ended: CancellationToken,
}

impl Archived {
    /// The history itself.
    pub fn history(&self) -> &Arc<History<Line>> {
        &self.history
    }

    /// Where to go on reading `source`, of which the lines of this history come, so that none is missing and none comes
    /// twice; also after a restart of the server, however it ended. Each of what this history is made of in turn has a
    /// name of its own. To be called by the only one who appends.
    pub fn resume(&self, source: &str) -> Resume {
        self.marks.resume(source, self.history.count())
    }

    /// Appends a line that isn't of the source.
    pub fn insert(&self, line: Line) {
        // First: what isn't marked as a stranger would be taken for one of the source's.
        self.marks.insert(self.history.count());
        self.history.append(line);
    }

    /// Says that with the lines so far, the source was read up to this position, and no piece of a line is kept elsewhere.
    pub fn reached(&self, position: LogPosition) {
        self.marks.reached(self.history.count(), position);
    }

    /// Closes the history, and waits until all of it is written.
    pub async fn close(&self) {
        self.history.close();
        self.ended.cancelled().await;
    }

    /// Closes the history and removes what is kept of it.
    pub async fn remove(&self) {
        self.close().await;
        remove(&self.dir).await;
    }
}

async fn remove(dir: &Path) {
    match tokio::fs::remove_dir_all(dir).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(dir = %dir.display(), %error, "a log could not be removed"),
    }
}

/// Keeps what can't be read, a history or a part of one, from being written over.
fn put_aside(path: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let aside = folder.join(ASIDE);
    let mut name = name.to_owned();
    name.push(format!("-{}", jiff::Timestamp::now().as_millisecond()));
    let moved = fs::DirBuilder::new().recursive(true).mode(0o700).create(&aside);
    moved.and_then(|()| fs::rename(path, aside.join(name))).inspect_err(|error| {
        tracing::error!(path = %path.display(), %error, "what can't be read can't be put aside either");
    })
}

/// Writes what comes until the history or the server ends.
async fn write(mut follower: Follower<Line>, mut segments: Segments, closing: CancellationToken) {
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
struct Segments {
    dir: PathBuf,
    retention: Retention,
    /// The segments after the one that is kept for good, oldest first.
    latest: VecDeque<Segment>,
    open: Option<Open>,
    /// Bytes of all lines so far.
    passed: u64,
    /// Marks that are to be written.
    marks: Arc<Marks>,
    /// The last one that was written, with which each file begins: the one that it stands in may go.
    mark: Option<Mark>,
    /// A later one that is to be written some time, and not for itself.
    held: Option<Mark>,
    /// Bytes of lines since the last one that was written.
    unmarked: usize,
    /// Whether the last write failed, which was said.
    failing: bool,
}

/// The segment that is being written.
///
/// The file itself is open while a batch is written: there may be more logs than a process may have files.
struct Open {
    segment: Segment,
    /// Bytes of the file.
    size: usize,
    /// Whether there are lines among them.
    has_lines: bool,
}

/// A file of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    /// Number of its first line.
    first: u64,
    /// Bytes of all lines before that.
    passed: u64,
}

impl Segment {
    fn file_name(self) -> String {
        format!("{:020}-{:020}.log", self.first, self.passed)
    }

    fn parse(name: &str) -> Option<Self> {
        let (first, passed) = name.strip_suffix(".log")?.split_once('-')?;
        Some(Self { first: first.parse().ok()?, passed: passed.parse().ok()? })
    }
}

impl Segments {
    /// Adds lines of which the first has this number.
    fn write(&mut self, number: u64, lines: &[Line]) {
        let mut marks = self.marks.take(number + lines.len() as u64);
        let written = self.try_write(number, lines, &mut marks);
        self.wrote(written, marks);
        self.passed += weight(lines);
    }

    /// Writes what was held back, when no more lines will come than those before the one of this number.
    fn finish(mut self, number: u64) {
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
    fn is_beginning(&self, segment: Segment) -> bool {
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
    fn resume(&mut self, open: Open) -> io::Result<()> {
        let file = File::options().append(true).open(self.dir.join(open.segment.file_name()))?;
        file.set_len(open.size as u64)?;
        self.open = Some(open);
        Ok(())
    }

    /// Lines that came too fast were never seen; so many bytes have passed by in all.
    fn missed_until(&mut self, passed: u64) {
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

fn weight(lines: &[Line]) -> u64 {
    lines.iter().map(|line| line.weight() as u64).sum()
}

/// What was found on disk, oldest first.
#[derive(Default)]
struct Kept(Vec<KeptSegment>);

struct KeptSegment {
    segment: Segment,
    lines: Vec<Line>,
    /// Bytes of the file up to where a line or a mark was half written.
    end: usize,
    /// The last mark in it.
    mark: Option<Mark>,
}

impl KeptSegment {
    fn parse(segment: Segment, bytes: &[u8]) -> Self {
        // What comes after the last line end was being written when the server was killed.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut kept = Self { segment, lines: Vec::new(), end, mark: None };
        for piece in bytes[..end].split_inclusive(|byte| *byte == b'\n') {
            let text = &piece[..piece.len() - 1];
            if let Some(mark) = Mark::read(text) {
                kept.mark = mark.or(kept.mark);
            } else {
                kept.lines.push(Line::from(&*String::from_utf8_lossy(text)));
            }
        }
        kept
    }
}

/// Lines that follow each other without a gap.
struct Run {
    begin: Segment,
    lines: Vec<Line>,
}

impl Kept {
    fn read(dir: &Path) -> io::Result<Self> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            found.extend(entry?.file_name().to_str().and_then(Segment::parse));
        }
        found.sort();
        let mut kept = Vec::new();
        for segment in found {
            let path = dir.join(segment.file_name());
            match fs::read(&path) {
                Ok(bytes) => kept.push(KeptSegment::parse(segment, &bytes)),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a part of a log can't be read and is put aside");
                    put_aside(&path)?;
                }
            }
        }
        Ok(Self(kept))
    }

    /// The history, and what goes on writing it.
    fn restore(self, dir: &Path, retention: Retention) -> (History<Line>, Segments) {
        let mark = self.0.iter().rev().find_map(|kept| kept.mark.clone());
        let mut segments = Segments {
            dir: dir.to_owned(),
            retention,
            latest: VecDeque::new(),
            open: None,
            passed: 0,
            marks: Arc::new(Marks::restored(mark.clone())),
            mark,
            held: None,
            unmarked: 0,
            failing: false,
        };
        segments.latest =
            self.0.iter().map(|kept| kept.segment).filter(|segment| !segments.is_beginning(*segment)).collect();
        let last =
            self.0.last().map(|kept| Open { segment: kept.segment, size: kept.end, has_lines: !kept.lines.is_empty() });
        let mut runs: Vec<Run> = Vec::new();
        for KeptSegment { segment, lines, .. } in self.0 {
            match runs.last_mut() {
                Some(run) if run.begin.first + run.lines.len() as u64 == segment.first => run.lines.extend(lines),
                _ => runs.push(Run { begin: segment, lines }),
            }
        }
        let latest = runs.pop().unwrap_or(Run { begin: Segment { first: 0, passed: 0 }, lines: Vec::new() });
        segments.passed = latest.begin.passed + weight(&latest.lines);
        if let Some(open) = last
            && let Err(error) = segments.resume(open)
        {
            tracing::error!(dir = %dir.display(), %error, "a log can't be gone on with; another file is begun");
        }
        let beginning =
            runs.into_iter().next().filter(|run| run.begin.first == 0).map_or_else(Vec::new, |run| run.lines);
        let beginning = within(beginning, retention.first);
        let missing = (
            latest.begin.first.saturating_sub(beginning.len() as u64),
            latest.begin.passed.saturating_sub(weight(&beginning)),
        );
        (History::restored(retention, beginning, missing, latest.lines), segments)
    }
}

/// The first lines that together weigh no more than `limit`.
fn within(mut lines: Vec<Line>, limit: usize) -> Vec<Line> {
    let mut sum = 0;
    let fit = lines.iter().take_while(|line| {
        sum += line.weight();
        sum <= limit
    });
    let fit = fit.count();
    lines.truncate(fit);
    lines
}

/// A file name for any name.
fn encode(name: &str) -> String {
    let mut encoded = String::new();
    for (place, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if place == 0 => encoded.push_str("%2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02x}")),
        }
    }
    encoded
}

/// The name that a file name stands for, if any.
fn decode(file: &str) -> Option<String> {
    if file.starts_with('.') {
        return None;
    }
    let mut bytes = Vec::new();
    let mut rest = file.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETENTION: Retention = Retention { first: 200, latest: 400, behind: 4000 };

    fn texts(history: &Arc<History<Line>>) -> Vec<String> {
        history.follow().0.iter().map(|line| line.text().to_owned()).collect()
    }

    fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| format!("{number:04}")).collect()
    }

    async fn append(dir: &Path, range: std::ops::Range<usize>) {
        let archive = Archive::new(dir.to_owned(), RETENTION);
        let log = archive.open(&["lab", "a/b"]).await;
        for line in numbers(range) {
            log.history().append(Line::from(&*line));
        }
        archive.close().await;
    }

    async fn backlog(dir: &Path) -> Vec<String> {
        let archive = Archive::new(dir.to_owned(), RETENTION);
        let backlog = texts(archive.open(&["lab", "a/b"]).await.history());
        archive.close().await;
        backlog
    }

    #[tokio::test]
    async fn what_was_appended_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(backlog(dir.path()).await.is_empty());
        append(dir.path(), 0..3).await;
        append(dir.path(), 3..5).await;
        assert_eq!(backlog(dir.path()).await, numbers(0..5));
        let archive = Archive::new(dir.path().to_owned(), RETENTION);
        assert!(archive.has(&["lab", "a/b"]) && !archive.has(&["lab", "c"]));
        assert_eq!(archive.names(&["lab"]), ["a/b"]);
        archive.open(&["lab", "a/b"]).await.remove().await;
        assert!(!archive.has(&["lab", "a/b"]));
    }

    #[tokio::test]
    async fn the_first_and_the_latest_lines_are_kept_and_a_mark_says_how_many_are_not() {
        let dir = tempfile::tempdir().expect("a folder");
        // Each weighs 20: 10 of the first and 20 of the latest stay.
        for part in 0..10 {
            append(dir.path(), part * 100..(part + 1) * 100).await;
        }
        let expected = |backlog: Vec<String>| {
            let mark = backlog.iter().position(|line| line.starts_with('[')).expect("a mark");
            assert_eq!(backlog[..mark], numbers(0..mark), "{backlog:?}");
            let latest = &backlog[mark + 1..];
            assert_eq!(latest, numbers(1000 - latest.len()..1000), "{backlog:?}");
            assert_eq!(backlog[mark], format!("[{} lines are left out here: about 19 KiB]", 1000 - backlog.len() + 1));
            (mark, latest.len())
        };
        assert_eq!(expected(backlog(dir.path()).await), (10, 20));
        let on_disk: u64 = fs::read_dir(dir.path().join("lab/a%2fb"))
            .expect("is there")
            .map(|file| file.expect("is there").metadata().expect("is there").len())
            .sum();
        assert!(on_disk <= 1000, "{on_disk}");
    }

    #[tokio::test]
    async fn a_line_that_was_half_written_is_as_if_it_had_never_come() {
        let dir = tempfile::tempdir().expect("a folder");
        append(dir.path(), 0..3).await;
        let segment = dir.path().join("lab/a%2fb").join(Segment { first: 0, passed: 0 }.file_name());
        File::options().append(true).open(&segment).and_then(|mut file| file.write_all(b"00")).expect("is there");
        append(dir.path(), 3..5).await;
        assert_eq!(backlog(dir.path()).await, numbers(0..5));
    }

    /// A source that writes numbers and gives out positions every third line; it is read as far as `end`.
    fn read_on(log: &Archived, source: &str, end: u64) {
        let Resume { after, skip } = log.resume(source);
        let begin: u64 = after.map_or(0, |after| after.as_str().parse().expect("a number"));
        for number in begin..end {
            if number >= begin + skip {
                log.history().append(Line::from(&*format!("{source}{number:04}")));
            }
            if number % 3 == 2 && number >= begin + skip {
                log.reached(LogPosition::new(&(number + 1).to_string()));
            }
        }
    }

    /// The files in a folder, in the order in which they were written.
    fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(dir).expect("is there").map(|entry| entry.expect("is there").path());
        let mut files: Vec<_> = entries.map(|path| (path.clone(), fs::read(&path).expect("is there"))).collect();
        files.sort();
        files
    }

    /// Leaves the first bytes of these files of a folder, and no others.
    fn cut(whole: &[(PathBuf, Vec<u8>)], mut left: usize) {
        let folder = whole[0].0.parent().expect("it is in one");
        fs::remove_dir_all(folder).and_then(|()| fs::create_dir(folder)).expect("done");
        for (path, bytes) in whole {
            match bytes.len().min(left) {
                0 => {}
                size => fs::write(path, &bytes[..size]).expect("written"),
            }
            left = left.saturating_sub(bytes.len());
        }
    }

    #[test]
    fn what_comes_line_by_line_costs_few_marks_and_can_be_gone_on_with_wherever_it_was_cut() {
        let dir = tempfile::tempdir().expect("a folder");
        let retention = Retention { first: 200, latest: 100_000, behind: 100_000 };
        let (_, mut segments) = Kept::default().restore(dir.path(), retention);
        let marks = Arc::clone(&segments.marks);
        marks.resume("a", 0);
        for number in 0..100 {
            segments.write(number, &[Line::from("tick")]);
            marks.reached(number + 1, LogPosition::new(&(number + 1).to_string()));
        }
        let marked = |files: &[(PathBuf, Vec<u8>)]| {
            files.iter().flat_map(|(_, bytes)| bytes).filter(|byte| **byte == 0xff).count()
        };
        let whole = files(dir.path());
        assert!(marked(&whole) <= 100 * 5 / UNMARKED + whole.len(), "{} marks", marked(&whole));
        let resume = |count: u64| {
            let Resume { after, skip } = marks_of(dir.path(), retention).resume("a", count);
            after.map_or(0, |after| after.as_str().parse::<u64>().expect("a number")) + skip
        };
        for killed in 0..=whole.iter().map(|(_, bytes)| bytes.len()).sum() {
            cut(&whole, killed);
            let count = Kept::read(dir.path()).expect("is there").restore(dir.path(), retention).0.count();
            assert_eq!(resume(count), count, "killed after {killed} bytes");
        }
        // What was held back is written in the end.
        cut(&whole, usize::MAX);
        segments.finish(100);
        let last = marks_of(dir.path(), retention).resume("a", 100);
        assert_eq!(last, Resume { after: Some(LogPosition::new("100")), skip: 0 });
    }

    fn marks_of(dir: &Path, retention: Retention) -> Arc<Marks> {
        Kept::read(dir).expect("is there").restore(dir, retention).1.marks
    }

    #[test]
    fn a_source_that_begins_while_nothing_can_be_written_is_known_later() {
        let dir = tempfile::tempdir().expect("a folder");
        let place = dir.path().join("log");
        let (_, mut segments) = Kept::default().restore(&place, RETENTION);
        let marks = Arc::clone(&segments.marks);
        marks.resume("a", 0);
        segments.write(0, &[Line::from("a0")]);
        let aside = dir.path().join("aside");
        fs::rename(&place, &aside).and_then(|()| fs::write(&place, "in the way")).expect("done");
        marks.resume("b", 1);
        marks.reached(2, LogPosition::new("p"));
        segments.write(1, &[Line::from("b0"), Line::from("b1")]);
        assert!(segments.failing);
        fs::remove_file(&place).and_then(|()| fs::rename(&aside, &place)).expect("done");
        segments.write(3, &[Line::from("b2")]);
        assert!(!segments.failing);
        let last = marks_of(&place, RETENTION).resume("b", 4);
        assert_eq!(last, Resume { after: Some(LogPosition::new("p")), skip: 2 });
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_put_aside_and_is_no_history() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("lab")).expect("made");
        fs::write(dir.path().join("lab/a%2fb"), "no folder").expect("written");
        append(dir.path(), 0..3).await;
        let aside = |folder: &str| fs::read_dir(dir.path().join(folder)).expect("is there").next().expect("one");
        let kept = aside("lab/.unreadable").expect("is there").path();
        assert_eq!(fs::read_to_string(kept).expect("is there"), "no folder");
        assert_eq!(Archive::new(dir.path().to_owned(), RETENTION).names(&["lab"]), ["a/b"]);
        // A part of one, where the next lines would go.
        let segment = dir.path().join("lab/a%2fb").join(Segment { first: 3, passed: 60 }.file_name());
        fs::create_dir(&segment).and_then(|()| fs::write(segment.join("there"), "")).expect("made");
        append(dir.path(), 3..50).await;
        assert_eq!(backlog(dir.path()).await[..5], numbers(0..5));
        assert!(aside("lab/a%2fb/.unreadable").expect("is there").path().join("there").exists());
    }

    #[tokio::test]
    async fn wherever_a_server_was_killed_no_line_is_missing_and_none_comes_twice() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = async || {
            // Two files, and all of it in memory.
            let retention = Retention { first: 60, latest: 100_000, behind: 100_000 };
            let archive = Archive::new(dir.path().to_owned(), retention);
            let log = archive.open(&["lab", "a/b"]).await;
            (archive, log)
        };
        let (archive, log) = open().await;
        read_on(&log, "a", 10);
        log.insert(Line::from("[a note]"));
        // Far enough for it to be marked again, all in one.
        read_on(&log, "a", 14);
        read_on(&log, "b", 8);
        archive.close().await;
        let expected: Vec<String> = (0..10)
            .map(|number| format!("a{number:04}"))
            .chain(["[a note]".into()])
            .chain((10..14).map(|number| format!("a{number:04}")))
            .chain((0..8).map(|number| format!("b{number:04}")))
            .collect();
        let whole = files(&dir.path().join("lab/a%2fb"));
        let length: usize = whole.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(whole.len() > 1 && length > 200, "{} files, {length} bytes", whole.len());
        // As if the server had been killed after each byte that it wrote.
        for killed in 0..=length {
            cut(&whole, killed);
            let (archive, log) = open().await;
            let before = texts(log.history());
            assert_eq!(before, expected[..before.len()], "killed after {killed} bytes");
            // What the source wrote in the meantime comes too, and the note doesn't come again.
            let on_with = if before.len() >= 15 { "b" } else { "a" };
            read_on(&log, on_with, 16);
            let all: Vec<String> = texts(log.history()).into_iter().filter(|line| line.starts_with(on_with)).collect();
            let wanted: Vec<String> = (0..16).map(|number| format!("{on_with}{number:04}")).collect();
            assert_eq!(all, wanted, "killed after {killed} bytes");
            archive.close().await;
        }
    }

    #[tokio::test]
    async fn the_last_mark_outlives_the_file_that_it_was_written_to() {
        let dir = tempfile::tempdir().expect("a folder");
        let archive = Archive::new(dir.path().to_owned(), RETENTION);
        let log = archive.open(&["lab", "a/b"]).await;
        assert_eq!(log.resume("a"), Resume { after: None, skip: 0 });
        log.reached(LogPosition::new("p"));
        for line in numbers(0..1000) {
            log.history().append(Line::from(&*line));
        }
        archive.close().await;
        let archive = Archive::new(dir.path().to_owned(), RETENTION);
        let log = archive.open(&["lab", "a/b"]).await;
        assert_eq!(log.resume("a"), Resume { after: Some(LogPosition::new("p")), skip: 1000 });
        archive.close().await;
    }

    #[test]
    fn any_name_has_a_file_name_and_comes_back() {
        for name in ["spine-1", "..", "a/b", "é %41", "A.b_c"] {
            let file = encode(name);
            assert!(!file.contains('/') && !file.starts_with('.'), "{file}");
            assert_eq!(decode(&file).as_deref(), Some(name));
        }
    }

    #[tokio::test]
    async fn how_much_was_missed_is_counted_from_what_was_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let (history, mut segments) = Kept::default().restore(dir.path(), RETENTION);
        let history = Arc::new(history);
        let mut follower = history.follow_aside();
        let append = |range| {
            for line in numbers(range) {
                history.append(Line::from(&*line));
            }
        };
        append(0..50);
        let lines = follower.next(BATCH).await.expect("they are there");
        segments.write(follower.position(), &lines);
        // All of them, and some more, are dropped before the writer can say that they are written.
        append(50..500);
        follower.advance(lines.len());
        assert!(matches!(follower.next(BATCH).await, Err(FollowEnd::FellBehind)));
        follower.skip_dropped();
        segments.missed_until(follower.passed());
        assert_eq!(segments.passed, follower.position() * 20, "each line weighs 20");
    }
}
