//! The decision log: who asked for what, and what the plugins said, one JSON line per decision.
//!
//! It is the audit trail of the server, what `plugin test` and `plugin diff` replay, and the evidence on watched plugins;
//! [`super::record`] says what is in a line. Chains and watched plugins hand decisions over through a bounded queue and never
//! wait; a thread of its own writes them. What doesn't fit into the queue is counted, and the log says so in a line of its
//! own: `{"time": …, "dropped": 12}`.
//!
//! A file that has grown to its size becomes `decisions.log.1`, that one `.2`, and so on up to the number that is kept. Lines
//! are written whole; what a crash cut short is moved away at the next start, so that it is the last line of its file. A
//! crash of the machine may cost what was written last: a decision is handed to the system as soon as the thread gets to
//! it, together with those that wait behind it, and nobody waits for the disk. A crash of the server costs what was in the
//! queue.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::config::Mode;
use super::plugin::Plugin;
use super::record::{Answer, InForce, Input, Kind, Line, Outcome, PluginRef, Record};

/// Decisions that may wait to be written.
const QUEUE: usize = 1024;
/// Bytes of lines that are held before they are handed to the system, unless one line alone is longer.
const HELD: usize = 64 << 10;

/// `decision-log:` of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DecisionLogConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// The file, relative to the data folder.
    pub path: PathBuf,
    /// How large the file may become before the next one is begun, in bytes.
    pub max_bytes: u64,
    /// How many full files are kept besides.
    pub keep: u32,
    /// Which sorts of decisions are written down.
    pub functions: Vec<Kind>,
    /// Of decisions about what somebody may see, where they are written down at all, one in so many is.
    pub sample: u32,
}

impl Default for DecisionLogConfig {
    /// What people did: commands, connections, writes, and who they were. A line has about 1 KB and 100 bytes more for each
    /// node of the lab; all files together have 80 MiB at most.
    fn default() -> Self {
        Self {
            enabled: true,
            path: "decisions.log".into(),
            max_bytes: 16 << 20,
            keep: 4,
            functions: vec![Kind::Command, Kind::Connect, Kind::Write, Kind::Identify],
            sample: 1,
        }
    }
}

/// What is put into the queue.
enum Message {
    Decision(Box<Record>),
    /// Write down what is there, say so, and end.
    Close(oneshot::Sender<()>),
}

/// Handle to the log. Cheap to clone.
#[derive(Clone)]
pub struct DecisionLog {
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
}

struct Shared {
    functions: Vec<Kind>,
    sample: u64,
    questions: AtomicU64,
    views: AtomicU64,
    dropped: AtomicU64,
}

impl DecisionLog {
    /// Opens the log, below `data` unless its path is absolute. `None`: the configuration wants none.
    ///
    /// # Errors
    /// What the system says of the file.
    pub fn open(config: &DecisionLogConfig, data: &Path) -> io::Result<Option<Self>> {
        if !config.enabled {
            return Ok(None);
        }
        let files = Files::open(data.join(&config.path), config.max_bytes, config.keep)?;
        let (log, messages) = Self::queue(config, QUEUE);
        let shared = Arc::clone(&log.shared);
        std::thread::Builder::new().name("decision-log".into()).spawn(move || write(files, &messages, &shared))?;
        Ok(Some(log))
    }

    fn queue(config: &DecisionLogConfig, length: usize) -> (Self, Receiver<Message>) {
        let (queue, messages) = sync_channel(length);
        let shared = Shared {
            functions: config.functions.clone(),
            sample: u64::from(config.sample.max(1)),
            questions: AtomicU64::new(0),
            views: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        (Self { queue, shared: Arc::new(shared) }, messages)
    }

    /// A new question: its number, and whether decisions about it are written down.
    pub(super) fn question(&self, kind: Kind) -> (u64, bool) {
        let number = self.shared.questions.fetch_add(1, Ordering::Relaxed) + 1;
        let wanted = self.shared.functions.contains(&kind)
            && (kind != Kind::View
                || self.shared.views.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.shared.sample));
        (number, wanted)
    }

    fn put(&self, record: Record) {
        match self.queue.try_send(Message::Decision(Box::new(record))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// What a watched plugin would have decided.
    pub(super) fn watched(&self, plugin: &Plugin, question: u64, input: Input, answer: Answer, in_force: InForce) {
        let mut record = record(plugin, question, input, answer.outcome, answer.duration);
        record.memory_bytes = u64::try_from(answer.memory).ok();
        record.in_force = Some(in_force);
        self.put(record);
    }

    /// How many decisions are missing in the log so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Writes down what is in the queue, and ends. Returns when the file holds it.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        let queue = self.queue.clone();
        // There may be no room in it at the moment.
        let sent = tokio::task::spawn_blocking(move || queue.send(Message::Close(done))).await;
        if matches!(sent, Ok(Ok(()))) {
            // An error means that the writer has ended, and there is nothing to wait for.
            let _ = closed.await;
        }
    }
}

fn record(plugin: &Plugin, question: u64, input: Input, outcome: Outcome, took: Duration) -> Record {
    Record {
        time: Timestamp::now(),
        hook: plugin.info.hook,
        function: input.function(),
        mode: plugin.info.mode,
        question,
        plugin: PluginRef::from(&plugin.info),
        input,
        outcome,
        duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        memory_bytes: None,
        in_force: None,
    }
}

/// A question that plugins are asked one after the other, as far as somebody wants to know of it.
pub(super) struct Question<'a> {
    log: Option<&'a DecisionLog>,
    pub(super) number: u64,
    pub(super) wanted: bool,
}

impl<'a> Question<'a> {
    /// Begins one. `any`: one of the plugins that may be asked.
    pub(super) fn begin(any: Option<&'a Plugin>, kind: Kind) -> Self {
        match any.and_then(Plugin::decision_log) {
            None => Self { log: None, number: 0, wanted: false },
            Some(log) => {
                let (number, wanted) = log.question(kind);
                Self { log: Some(log), number, wanted }
            }
        }
    }

    /// A plugin is about to be asked.
    pub(super) fn note(&self, plugin: &'a Plugin) -> Option<Note<'a>> {
        let log = self.log.filter(|_| self.wanted)?;
        Some(Note { log, question: self.number, plugin, began: Instant::now() })
    }
}

/// One plugin's part of a question, to be written down.
pub(super) struct Note<'a> {
    log: &'a DecisionLog,
    question: u64,
    plugin: &'a Plugin,
    began: Instant,
}

impl Note<'_> {
    /// It has answered.
    pub(super) fn decided(self, input: Input, outcome: Outcome) {
        let took = self.began.elapsed();
        debug_assert!(self.plugin.info.mode == Mode::Enforce, "watched plugins have a line of their own");
        self.log.put(record(self.plugin, self.question, input, outcome, took));
    }
}

/// The writer's thread.
fn write(files: Files, messages: &Receiver<Message>, shared: &Shared) {
    let mut writer = Writer { files, shared, noted: 0, trouble: false };
    while let Ok(message) = messages.recv() {
        if let Some(done) = writer.turn(message, messages) {
            let _ = done.send(());
            break;
        }
    }
}

struct Writer<'a> {
    files: Files,
    shared: &'a Shared,
    /// How many of those that are missing the log tells of.
    noted: u64,
    /// Whether something failed since all was handed over the last time, which has been said then.
    trouble: bool,
}

impl Writer<'_> {
    /// Writes down one decision and those that wait behind it, and hands them to the system all at once. Answers whom to
    /// tell that the log is closed, if that was asked for.
    fn turn(&mut self, first: Message, messages: &Receiver<Message>) -> Option<oneshot::Sender<()>> {
        let mut closed = None;
        // Not without an end: decisions may come as fast as they are written.
        for message in std::iter::once(first).chain(messages.try_iter()).take(QUEUE) {
            match message {
                Message::Decision(record) => {
                    if let Err(error) = self.files.write(&Line::Decision(*record)) {
                        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                        self.failed(&error);
                    }
                }
                Message::Close(done) => {
                    closed = Some(done);
                    break;
                }
            }
        }
        if self.flush() {
            let dropped = self.shared.dropped.load(Ordering::Relaxed);
            let missing = dropped - self.noted;
            // What can't be noted now is noted with the next.
            if missing > 0 && self.files.write(&Line::Dropped { time: Timestamp::now(), dropped: missing }).is_ok() {
                self.noted = dropped;
                self.flush();
            }
        }
        closed
    }

    /// Hands what was written to the system. What it doesn't take stays where it is, and is handed over with the next.
    fn flush(&mut self) -> bool {
        match self.files.flush() {
            Ok(()) => self.trouble = false,
            Err(error) => self.failed(&error),
        }
        !self.trouble
    }

    /// Says what is wrong, unless it has been so since it was said.
    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.trouble, true) {
            tracing::error!(%error, "the decision log can't be written; decisions go on without it");
        }
    }
}

/// The file that is written, and those before it.
struct Files {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    file: File,
    /// Lines that the system has not taken yet, and what is left of one that it took in part: written on when it takes more,
    /// so that no line is ever half written while the server lives.
    held: Vec<u8>,
    /// Bytes of the file and of what is held for it.
    size: u64,
}

impl Files {
    fn open(path: PathBuf, max_bytes: u64, keep: u32) -> io::Result<Self> {
        let (mut file, mut size) = open(&path)?;
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                rotate(&path, keep.max(1))?;
                (file, size) = open(&path)?;
            }
        }
        Ok(Self { path, max_bytes, keep, file, held: Vec::new(), size })
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let length = bytes.len() as u64;
        if self.size > 0 && self.size + length > self.max_bytes {
            self.flush()?;
            rotate(&self.path, self.keep)?;
            (self.file, self.size) = open(&self.path)?;
        }
        if !self.held.is_empty() && self.held.len() + bytes.len() > HELD {
            self.flush()?;
        }
        self.held.append(&mut bytes);
        self.size += length;
        Ok(())
    }

    /// Hands what is held to the system. What it doesn't take stays.
    fn flush(&mut self) -> io::Result<()> {
        let mut taken = 0;
        let result = loop {
            match self.held.get(taken..) {
                None | Some([]) => break Ok(()),
                Some(rest) => match self.file.write(rest) {
                    Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => taken += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                },
            }
        };
        self.held.drain(..taken);
        self.held.shrink_to(2 * HELD);
        result
    }
}

/// Opens a file to append to it, for the server's user alone.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// Moves every file on by one; the last one is gone, which with `keep` 0 is the first.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    if keep == 0 {
        return std::fs::remove_file(path);
    }
    for number in (0..keep).rev() {
        match std::fs::rename(name(number), name(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::plugins::record::{Function, Given, read_records};

    fn sample(question: u64) -> Record {
        let claims = json!({"claims": {"id": "ada"}});
        let claims = claims.as_object().unwrap();
        let input = Input::complete(Function::Identify, claims, &Given::default()).unwrap();
        let plugin = PluginRef { name: "p".into(), version: "1".into(), sha256: "00".into() };
        Record {
            time: Timestamp::UNIX_EPOCH,
            hook: crate::plugins::config::Hook::AuthPolicy,
            function: Function::Identify,
            mode: Mode::Enforce,
            question,
            plugin,
            input,
            outcome: Outcome::Left,
            duration_us: 1,
            memory_bytes: None,
            in_force: None,
        }
    }

    fn questions(path: &Path) -> Vec<u64> {
        read_records(path).unwrap().map(|recorded| recorded.unwrap().record.question).collect()
    }

    #[tokio::test]
    async fn what_was_decided_is_in_the_file_when_it_is_closed_and_the_next_server_goes_on() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.log");
        for begin in [0, 100] {
            let log = DecisionLog::open(&DecisionLogConfig::default(), dir.path()).unwrap().unwrap();
            (begin..begin + 100).for_each(|number| log.put(sample(number)));
            log.close().await;
        }
        assert_eq!(questions(&path), (0..200).collect::<Vec<_>>());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn files_are_kept_up_to_their_number_and_size() {
        let dir = tempfile::tempdir().unwrap();
        let config = DecisionLogConfig { max_bytes: 2_000, keep: 2, ..DecisionLogConfig::default() };
        let log = DecisionLog::open(&config, dir.path()).unwrap().unwrap();
        (0..100).for_each(|number| log.put(sample(number)));
        log.close().await;
        let mut all = Vec::new();
        for name in ["decisions.log.2", "decisions.log.1", "decisions.log"] {
            let path = dir.path().join(name);
            assert!(std::fs::metadata(&path).unwrap().len() <= 2_000, "{name}");
            all.extend(questions(&path));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        // The latest, with none missing in between.
        assert_eq!(all.last(), Some(&99));
        assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{all:?}");
    }

    #[tokio::test]
    async fn what_a_full_queue_has_no_room_for_is_counted_in_the_log_and_nobody_waits() {
        let dir = tempfile::tempdir().unwrap();
        let config = DecisionLogConfig::default();
        let (log, messages) = DecisionLog::queue(&config, 3);
        // Nobody writes yet: all of this would wait for ever if it waited.
        (0..10).for_each(|number| log.put(sample(number)));
        let path = dir.path().join("decisions.log");
        let files = Files::open(path.clone(), config.max_bytes, config.keep).unwrap();
        let shared = Arc::clone(&log.shared);
        let writer = std::thread::spawn(move || write(files, &messages, &shared));
        log.close().await;
        writer.join().unwrap();
        let mut records = read_records(&path).unwrap();
        assert_eq!((records.by_ref().count(), records.dropped(), log.dropped()), (3, 7, 7));
    }

    #[test]
    fn what_waits_is_handed_to_the_system_together_and_held_back_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let config = DecisionLogConfig::default();
        let (log, messages) = DecisionLog::queue(&config, 8);
        let path = dir.path().join("decisions.log");
        let files = Files::open(path.clone(), config.max_bytes, config.keep).unwrap();
        let mut writer = Writer { files, shared: &log.shared, noted: 0, trouble: false };
        for (waiting, there) in [(1, 1), (5, 6), (1, 7)] {
            (0..waiting).for_each(|number| log.put(sample(number)));
            assert!(writer.turn(messages.recv().unwrap(), &messages).is_none());
            // Nothing more comes, and no time passes.
            assert_eq!(questions(&path).len(), there);
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_kept_while_there_is_room_and_only_what_is_lost_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let config = DecisionLogConfig::default();
        let (log, messages) = DecisionLog::queue(&config, 8);
        let path = dir.path().join("decisions.log");
        let mut files = Files::open(path.clone(), config.max_bytes, config.keep).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let real = std::mem::replace(&mut files.file, full);
        let mut writer = Writer { files, shared: &log.shared, noted: 0, trouble: false };
        let said = Said::default();
        let mut number = 0;
        tracing::subscriber::with_default(tracing_subscriber::registry().with(said.clone()), || {
            let mut decide = |writer: &mut Writer<'_>| {
                log.put(sample(number));
                number += 1;
                assert!(writer.turn(messages.recv().unwrap(), &messages).is_none());
            };
            (0..20).for_each(|_| decide(&mut writer));
            assert_eq!(log.dropped(), 0);
            let held = String::from_utf8(writer.files.held.clone()).unwrap();
            assert!(held.lines().count() == 20 && !held.contains("dropped"), "{held}");
            // Until there is no room in memory either.
            while log.dropped() < 5 {
                decide(&mut writer);
            }
            assert_eq!(said.0.load(Ordering::Relaxed), 1);
            // The disk has room again.
            writer.files.file = real;
            decide(&mut writer);
            assert!(!writer.trouble);
        });
        let mut records = read_records(&path).unwrap();
        let there: Vec<u64> = records.by_ref().map(|recorded| recorded.unwrap().record.question).collect();
        let expected: Vec<u64> = (0..number - 6).chain([number - 1]).collect();
        assert_eq!((there, records.dropped(), log.dropped()), (expected, 5, 5));
    }

    /// Counts what the server's log is told.
    #[derive(Clone, Default)]
    struct Said(Arc<AtomicU64>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Said {
        fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_line_that_a_full_disk_took_in_part_is_ended_when_there_is_room_again_however_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.log");
        let mut files = Files::open(path.clone(), 1 << 30, 0).unwrap();
        // A pipe that nobody reads takes so much and no more, as a disk does.
        let (mut reader, writer) = io::pipe().unwrap();
        nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let file = std::mem::replace(&mut files.file, File::from(std::os::fd::OwnedFd::from(writer)));
        let mut long = sample(1);
        long.plugin.name = "p".repeat(1 << 20);
        for record in [sample(0), long, sample(2)] {
            // The third is told that there is no room, and is lost; no part of it is there.
            let _ = files.write(&Line::Decision(record));
        }
        assert!(files.flush().is_err());
        let mut taken = vec![0; 1 << 20];
        let count = reader.read(&mut taken).unwrap();
        std::fs::write(&path, &taken[..count]).unwrap();
        files.file = file;
        files.write(&Line::Decision(sample(3))).unwrap();
        files.flush().unwrap();
        assert_eq!(questions(&path), [0, 1, 3]);
        assert!(files.held.capacity() <= 2 * HELD);
    }

    #[test]
    fn what_a_crash_cut_short_ends_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.log");
        let line = serde_json::to_string(&sample(1)).unwrap();
        std::fs::write(&path, format!("{line}\n{}", &line[..50])).unwrap();
        let mut files = Files::open(path.clone(), 1 << 20, 0).unwrap();
        files.write(&Line::Decision(sample(2))).unwrap();
        files.flush().unwrap();
        assert_eq!((questions(&path), questions(&dir.path().join("decisions.log.1"))), (vec![2], vec![1]));
    }

    #[test]
    fn views_are_written_down_where_that_is_wanted_and_then_one_in_so_many() {
        let wanted = |config: &DecisionLogConfig, kind| {
            let (log, _messages) = DecisionLog::queue(config, 1);
            (0..100).filter(|_| log.question(kind).1).count()
        };
        let usual = DecisionLogConfig::default();
        assert_eq!((wanted(&usual, Kind::View), wanted(&usual, Kind::Command)), (0, 100));
        let views = DecisionLogConfig { functions: vec![Kind::View, Kind::Write], sample: 10, ..usual };
        assert_eq!((wanted(&views, Kind::View), wanted(&views, Kind::Write)), (10, 100));
    }
}
