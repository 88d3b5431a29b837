//! Following what a node prints: over its restarts, over those of the engine and of this server, nothing twice and
//! nothing lost.
//!
//! One task per follower. It asks the engine for everything from the last timestamp on that it has passed on, leaves out
//! the entries that it has passed on already, and is at the same place again. Output and error are written by two hands
//! in the engine, so each has a place of its own. A full channel makes it stop reading; the engine then waits, and the
//! node doesn't: its log is on the engine's disk. Should the engine's clock be set back while nobody follows, what is
//! printed until it has caught up may be missed.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::entries::{Decoder, Entry, Item, Output};
use super::events::{KnownNode, View, Watch};
use super::{Docker, DockerError, LIMIT, Phase, raw};
use crate::history::lines::Lines;
use crate::runtime::{LogChunk, LogPosition, RuntimeError};

/// Chunks that may wait for the follower.
const QUEUE: usize = 8;
/// Size from which on no more is added to a chunk.
const CHUNK: usize = 64 << 10;
/// How far apart the engine may write down what came on output and on error at the same time.
const DISORDER: i64 = 10_000_000_000;
/// First and longest pause before a log that broke off is asked for again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Watch {
    /// Follows what a node of an instance prints, from `after` or from the beginning of its container. Goes on when the
    /// node is restarted and, from the beginning, when its container is replaced by another. Ends when the instance has no
    /// container any more and nobody expects it to have one again, or when the receiver is dropped.
    ///
    /// A position of another container counts as none.
    ///
    /// # Errors
    /// [`RuntimeError::NoInstance`], [`RuntimeError::NoNode`]; others when the engine doesn't answer.
    pub async fn follow_log(
        &self,
        instance: &str,
        node: &str,
        after: Option<LogPosition>,
    ) -> Result<mpsc::Receiver<LogChunk>, RuntimeError> {
        if self.view().node(instance, node).is_none() {
            self.look(instance).await?;
            let view = self.view();
            if view.node(instance, node).is_none() && !self.is_expected(instance) {
                return Err(match view.nodes(instance) {
                    None => RuntimeError::NoInstance(instance.to_owned()),
                    Some(_) => RuntimeError::NoNode(node.to_owned()),
                });
            }
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let cursor = after.as_ref().map(|position| Cursor::parse(position.as_str()));
        let follower = Follower {
            watch: self.clone(),
            instance: instance.to_owned(),
            node: node.to_owned(),
            sender,
            elsewhere: matches!(cursor, Some(None)),
            cursor: cursor.flatten().unwrap_or_default(),
            tty: None,
            pause: FIRST_PAUSE,
        };
        tokio::spawn(follower.run());
        Ok(receiver)
    }
}

impl Docker {
    /// What a container has printed last, as text: so many lines at most. For messages, where something has gone wrong, so
    /// that an engine which doesn't tell is no error.
    pub async fn last_lines(&self, id: &str, count: usize) -> Vec<String> {
        let read = async {
            let tty = self.details(id).await?.tty;
            let mut stream = self.open(&format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&tail={count}"));
            let (mut decoder, mut items) = (Decoder::new(tty), Vec::new());
            while !fill(&mut stream, &mut decoder, &mut items).await? {}
            let mut lines = Lines::default();
            let mut printed = Vec::new();
            for item in items {
                if let Item::Entry(entry) = item {
                    lines.push(&entry.data, |line| printed.push(line.trim_end().to_owned()));
                }
            }
            lines.finish(|line| printed.push(line.trim_end().to_owned()));
            Ok::<_, DockerError>(printed)
        };
        let mut lines = tokio::time::timeout(LIMIT, read).await.unwrap_or(Ok(Vec::new())).unwrap_or_default();
        lines.retain(|line| !line.is_empty());
        lines.split_off(lines.len().saturating_sub(count))
    }
}

struct Follower {
    watch: Watch,
    instance: String,
    node: String,
    sender: mpsc::Sender<LogChunk>,
    cursor: Cursor,
    /// What comes next isn't what comes behind the cursor as it was.
    elsewhere: bool,
    /// The container whose log is read, and whether that has a terminal.
    tty: Option<(String, bool)>,
    pause: Duration,
}

/// How reading a log came to its end.
enum End {
    /// Nobody listens any more.
    Unwanted,
    /// The engine has no more at the moment. Whether there was something new.
    Read(bool),
}

impl Follower {
    async fn run(mut self) {
        let mut views = self.watch.views();
        loop {
            let view = views.borrow_and_update().clone();
            let Some(known) = view.node(&self.instance, &self.node).cloned() else {
                let gone = view.connected() && view.nodes(&self.instance).is_none();
                if gone && !self.watch.is_expected(&self.instance) {
                    return;
                }
                if !self.wait(&mut views, &view, None, None).await {
                    return;
                }
                continue;
            };
            let pause = match self.read(&known).await {
                Ok(End::Unwanted) => return,
                // What was printed last may have come after the end of the stream.
                Ok(End::Read(true)) => {
                    self.pause = FIRST_PAUSE;
                    Some(Duration::ZERO)
                }
                // It goes on when the node does.
                Ok(End::Read(false)) if known.container.phase != Phase::Running => None,
                Ok(End::Read(false)) | Err(DockerError::NotFound(_)) => Some(self.next_pause()),
                // Logs that go elsewhere, as the engine is configured.
                Err(DockerError::Refused { message, .. }) if message.contains("does not support reading") => {
                    tracing::warn!(instance = self.instance, node = self.node, message, "a log can't be read");
                    None
                }
                Err(error) => {
                    tracing::debug!(instance = self.instance, node = self.node, %error, "reading a log");
                    Some(self.next_pause())
                }
            };
            if !self.wait(&mut views, &view, Some(&known), pause).await {
                return;
            }
        }
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// Waits until the node is not any more what it was, or for so long. Answers whether to go on.
    async fn wait(
        &self,
        views: &mut watch::Receiver<Arc<View>>,
        before: &View,
        known: Option<&KnownNode>,
        pause: Option<Duration>,
    ) -> bool {
        let changed = async {
            let changed = |view: &Arc<View>| match known {
                // Whatever may have become of the instance, `run` looks.
                None => true,
                // Much may have happened while the engine could not be reached.
                Some(_) if view.connections() != before.connections() => true,
                Some(known) => view.node(&self.instance, &self.node) != Some(known),
            };
            if known.is_none() {
                return views.changed().await.is_ok();
            }
            views.wait_for(changed).await.is_ok()
        };
        let until = pause.map(|pause| Instant::now() + pause);
        tokio::select! {
            going_on = changed => going_on,
            () = async { tokio::time::sleep_until(until.expect("guarded")).await }, if until.is_some() => true,
            () = self.sender.closed() => false,
        }
    }

    async fn read(&mut self, known: &KnownNode) -> Result<End, DockerError> {
        let docker = self.watch.docker();
        let id = &known.container.id;
        let tty = match &self.tty {
            Some((of, tty)) if of == id => *tty,
            _ => docker.details(id).await?.tty,
        };
        self.tty = Some((id.clone(), tty));
        self.elsewhere |= self.cursor.be_at(id);
        let since = self.cursor.since(tty);
        let from = since.map(seconds).unwrap_or_default();
        let path = format!("/containers/{id}/logs?follow=1&stdout=1&stderr=1&timestamps=1&since={from}");
        let mut stream = docker.open(&path);
        let mut decoder = Decoder::new(tty);
        let mut resume = Resume::at(&self.cursor, since);
        let mut something = false;
        let mut items = Vec::new();
        loop {
            let mut batch = Batch::default();
            let ended = tokio::select! {
                ended = fill(&mut stream, &mut decoder, &mut items) => ended?,
                () = self.sender.closed() => return Ok(End::Unwanted),
            };
            let mut complaint = None;
            for item in items.drain(..) {
                match item {
                    Item::Entry(entry) if resume.has_seen(&entry) => {}
                    Item::Entry(entry) => batch.add(&mut self.cursor, &entry),
                    Item::Complaint(text) => complaint = Some(text),
                }
            }
            self.elsewhere |= std::mem::take(&mut resume.lost);
            if let Some(chunk) = batch.chunk(&self.cursor, self.elsewhere) {
                (something, self.elsewhere) = (true, false);
                if self.sender.send(chunk).await.is_err() {
                    return Ok(End::Unwanted);
                }
            }
            if let Some(text) = complaint {
                return Err(DockerError::Broken(text));
            }
            if ended {
                return Ok(End::Read(something));
            }
        }
    }
}

/// Reads what comes next, and as much as is there already, up to some size. Answers whether that was the end.
async fn fill(stream: &mut raw::Stream, decoder: &mut Decoder, items: &mut Vec<Item>) -> Result<bool, DockerError> {
    let mut next = Some(stream.piece().await?);
    let mut size = 0;
    while let Some(piece) = next {
        let Some(piece) = piece else {
            decoder.end(items);
            return Ok(true);
        };
        size += piece.len();
        decoder.piece(&piece, items)?;
        next = if size < CHUNK { stream.piece().now_or_never().transpose()? } else { None };
    }
    Ok(false)
}

#[derive(Default)]
struct Batch {
    data: BytesMut,
    /// Whether it ends inside of an entry.
    inside: bool,
}

impl Batch {
    fn add(&mut self, cursor: &mut Cursor, entry: &Entry) {
        self.data.extend_from_slice(&entry.data);
        self.inside = !entry.ends;
        cursor.pass(entry);
    }

    fn chunk(self, cursor: &Cursor, elsewhere: bool) -> Option<LogChunk> {
        let position = (!self.inside).then(|| LogPosition::new(&cursor.text()));
        (!self.data.is_empty()).then(|| LogChunk { data: self.data.freeze(), position, elsewhere })
    }
}

/// A time as the engine takes it: seconds with nine decimals.
pub(super) fn seconds(nanos: i64) -> String {
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}

/// A place in one of a container's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// Timestamp of the last entry that was passed on, in nanoseconds since 1970.
    time: i64,
    /// How many entries with this timestamp were.
    count: u32,
    /// Whether the last one had no line end: the next one may have the same timestamp, however long ago that is.
    unfinished: bool,
}

/// A place in the log of a container. As text: twelve digits of its id, then `o` and `e` for the outputs with time and
/// count each, such as `0123456789abo1763812648123456789.1`; `~` stands behind what is unfinished.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Cursor {
    container: String,
    out: Option<Mark>,
    err: Option<Mark>,
}

impl Cursor {
    fn text(&self) -> String {
        use std::fmt::Write;
        let mut text = self.container.clone();
        for (letter, mark) in [('o', &self.out), ('e', &self.err)] {
            if let Some(Mark { time, count, unfinished }) = mark {
                let tail = if *unfinished { "~" } else { "" };
                write!(text, "{letter}{time}.{count}{tail}").expect("writing to a string can't fail");
            }
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let (container, marks) = text.split_at_checked(12)?;
        let (out, err) = match marks.split_once('e') {
            Some((out, err)) => (out, Some(err)),
            None => (marks, None),
        };
        let mark = |text: &str| {
            let unfinished = text.ends_with('~');
            let (time, count) = text.trim_end_matches('~').split_once('.')?;
            Some(Mark { time: time.parse().ok()?, count: count.parse().ok()?, unfinished })
        };
        let out = if out.is_empty() { None } else { Some(mark(out.strip_prefix('o')?)?) };
        let err = err.map(mark);
        if err == Some(None) {
            return None;
        }
        Some(Self { container: container.to_owned(), out, err: err.flatten() })
    }

    /// Begins anew if this is another container than before, and answers whether it is.
    fn be_at(&mut self, id: &str) -> bool {
        let short = &id[..id.len().min(12)];
        if self.container == short {
            return false;
        }
        let before = std::mem::replace(self, Self { container: short.to_owned(), out: None, err: None });
        !before.container.is_empty()
    }

    fn pass(&mut self, entry: &Entry) {
        let mark = match entry.output {
            Output::Out => &mut self.out,
            Output::Err => &mut self.err,
        };
        let before = mark.filter(|mark| mark.time == entry.time).map_or(0, |mark| mark.count);
        let count = before.saturating_add(u32::from(entry.begins));
        *mark = Some(Mark { time: entry.time, count, unfinished: !entry.data.ends_with(b"\n") });
    }

    /// From when on the engine has to be asked, so that nothing is missing.
    fn since(&self, tty: bool) -> Option<i64> {
        let marks = || [self.out, self.err].into_iter().flatten();
        let latest = marks().map(|mark| mark.time).max()?;
        if tty {
            return Some(latest);
        }
        let unfinished = marks().filter(|mark| mark.unfinished).map(|mark| mark.time).min();
        let since = unfinished.unwrap_or(latest).min(latest - DISORDER);
        Some(match (self.out, self.err) {
            (Some(out), Some(err)) => since.max(out.time.min(err.time)),
            _ => since,
        })
    }
}

/// Leaves out what was passed on before, once per time that a log is opened.
struct Resume {
    out: Seen,
    err: Seen,
    /// What was passed on last isn't there any more: the engine keeps so much and no more, and the rest has gone.
    lost: bool,
}

struct Seen {
    /// `None`: everything from here on is new.
    mark: Option<Mark>,
    /// Entries with the timestamp of the mark so far.
    count: u32,
    /// The entry of the mark has been asked for, and nothing of that time or from before has come yet.
    due: bool,
}

impl Resume {
    /// `since`: from when on the engine is asked.
    fn at(cursor: &Cursor, since: Option<i64>) -> Self {
        let seen = |mark: Option<Mark>| Seen {
            due: mark.is_some_and(|mark| since.is_some_and(|since| since <= mark.time)),
            mark,
            count: 0,
        };
        Self { out: seen(cursor.out), err: seen(cursor.err), lost: false }
    }

    fn has_seen(&mut self, entry: &Entry) -> bool {
        let seen = match entry.output {
            Output::Out => &mut self.out,
            Output::Err => &mut self.err,
        };
        let Some(mark) = seen.mark else { return false };
        if entry.time == mark.time && entry.begins {
            seen.count += 1;
        }
        if entry.time <= mark.time {
            seen.due = false;
        }
        let is_old = entry.time < mark.time || (entry.time == mark.time && seen.count <= mark.count);
        if !is_old {
            seen.mark = None;
            self.lost |= seen.due;
        }
        is_old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(output: Output, time: i64, data: &'static str) -> Entry {
        Entry { output, time, data: data.into(), begins: true, ends: true }
    }

    fn cursor() -> Cursor {
        let mut cursor = Cursor::default();
        cursor.be_at("0123456789abcdef");
        cursor
    }

    #[test]
    fn a_position_survives_being_written_down() {
        let mut cursor = cursor();
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor.clone()));
        cursor.pass(&entry(Output::Err, 7, "x\n"));
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor.clone()));
        cursor.pass(&entry(Output::Out, 1_763_812_648_123_456_789, "no end"));
        assert_eq!(cursor.text(), "0123456789abo1763812648123456789.1~e7.1");
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        for nonsense in ["", "short", "0123456789abo", "0123456789abx1.1", "0123456789abo1.1e"] {
            assert_eq!(Cursor::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_position_of_another_container_counts_as_none() {
        let mut cursor = cursor();
        cursor.pass(&entry(Output::Out, 5, "x\n"));
        assert!(!cursor.be_at("0123456789abzzzz"));
        assert_eq!(cursor.since(true), Some(5), "twelve digits tell containers apart");
        assert!(cursor.be_at("another container"));
        assert_eq!(cursor.since(true), None);
        assert!(!Cursor::default().be_at("the first one"), "there was nothing before");
    }

    /// Cuts the same log after each entry, goes on from there, and looks at what comes twice or never.
    fn assert_resumes(log: &[Entry], tty: bool) {
        for cut in 0..=log.len() {
            let mut cursor = cursor();
            log[..cut].iter().for_each(|entry| cursor.pass(entry));
            let cursor = Cursor::parse(&cursor.text()).expect("was written by us");
            let since = cursor.since(tty).unwrap_or(i64::MIN);
            let mut resume = Resume::at(&cursor, cursor.since(tty));
            let again = log.iter().filter(|entry| entry.time >= since);
            let new: Vec<_> = again.filter(|entry| !resume.has_seen(entry)).collect();
            assert_eq!(new, log[cut..].iter().collect::<Vec<_>>(), "cut after {cut}");
            assert!(!resume.lost, "cut after {cut}");
        }
    }

    #[test]
    fn entries_of_one_timestamp_are_told_apart_by_their_number() {
        let line = |time, data| entry(Output::Out, time, data);
        assert_resumes(&[line(1, "a\n"), line(2, "b\n"), line(2, "b\n"), line(2, "b\n"), line(3, "c\n")], true);
    }

    #[test]
    fn a_log_whose_older_part_has_gone_is_not_gone_on_with_as_if_it_were_there() {
        let mut cursor = cursor();
        cursor.pass(&entry(Output::Out, 5, "five\n"));
        let lost = |times: &[i64]| {
            let mut resume = Resume::at(&cursor, cursor.since(true));
            times.iter().for_each(|time| _ = resume.has_seen(&entry(Output::Out, *time, "x\n")));
            resume.lost
        };
        assert!(!lost(&[5, 6]) && !lost(&[5, 5]) && !lost(&[5]) && !lost(&[]));
        assert!(lost(&[6]) && lost(&[7, 8]));
    }

    #[test]
    fn output_and_error_may_be_written_down_in_disorder() {
        use Output::{Err, Out};
        const S: i64 = 1_000_000_000;
        let log = [
            entry(Out, 100 * S, "a\n"),
            entry(Err, 102 * S, "later\n"),
            entry(Out, 101 * S, "earlier\n"),
            entry(Out, 103 * S, "a long line"),
            entry(Err, 900 * S, "much later\n"),
            entry(Out, 103 * S, "and its end\n"),
            entry(Out, 901 * S, "x\n"),
        ];
        assert_resumes(&log, false);
    }

    #[test]
    fn the_engine_is_not_asked_for_a_whole_log_because_one_output_is_silent() {
        let mut cursor = cursor();
        cursor.pass(&entry(Output::Err, 1, "hello\n"));
        cursor.pass(&entry(Output::Out, 1_000 * DISORDER, "x\n"));
        assert_eq!(cursor.since(false), Some(999 * DISORDER));
    }

    #[test]
    fn times_are_passed_to_the_nanosecond() {
        assert_eq!(seconds(1_763_812_648_000_000_009), "1763812648.000000009");
    }
}
