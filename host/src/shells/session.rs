//! One terminal session: the task that owns the terminal, and the handle that others read and write it by.
//!
//! ```text
//!   viewers ── input() ──▶ queue ──▶ writer ──▶ terminal ──▶ reader ──▶ output (history) ──▶ viewers
//! ```
//!
//! Writing and reading are two loops, so that a process that prints before it reads can't block both directions. A
//! process that prints faster than anybody looks is made to wait, as on any terminal ([`Pace`]).

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::utf8::Utf8Stream;
use crate::history::pace::Pace;
use crate::history::{History, Retention};
use crate::plugins::decision::ShellInfo;
use crate::runtime::{NOT_ENDED, Pty};

/// Bytes of output that are kept per shell.
const OUTPUT_CAPACITY: usize = 1024 * 1024;
/// Bytes of input that may wait for the process to read.
const INPUT_CAPACITY: usize = 4 * 1024 * 1024;
/// How many bytes the viewer that is least behind may be behind before the process has to wait.
const MAX_LAG: u64 = 256 * 1024;
/// How long a process is made to wait for viewers of whom none gets on.
const VIEWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long a terminated process may take to go before the session is given up.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// Somebody closed it, or it was closed for a reason; in a few words.
    Closed(String),
    /// Its process ended by itself.
    Exited(String),
    /// Nothing was typed or printed for this long.
    Idle(Duration),
    /// Its terminal broke.
    Broken(String),
}

impl Ending {
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Broken(_))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(why) => write!(f, "The shell was closed: {why}."),
            Self::Exited(how) => write!(f, "The shell has ended: {how}."),
            Self::Idle(limit) => write!(f, "The shell was closed: it was idle for {} s.", limit.as_secs()),
            Self::Broken(why) => write!(f, "The shell broke: {why}."),
        }
    }
}

/// Why input wasn't taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The session has ended.
    #[error("the shell has been closed")]
    Ended,
    /// The process doesn't read, and as much waits for it as may.
    #[error("the process in the shell doesn't read its input: {INPUT_CAPACITY} bytes are waiting for it already")]
    Full,
}

/// A terminal session, open or ended.
#[derive(Debug)]
pub struct Session {
    info: ShellInfo,
    output: Arc<History<Arc<str>>>,
    input: mpsc::UnboundedSender<Bytes>,
    /// Bytes in `input`. The queue itself is unbounded because it is filled where nothing can wait.
    waiting: Arc<AtomicUsize>,
    /// Whether input is being dropped, which the user has been told of.
    dropping: AtomicBool,
    /// Columns and rows, once somebody has said how large the terminal is.
    size: watch::Sender<Option<(u16, u16)>>,
    close: CancellationToken,
    close_reason: Mutex<Option<String>>,
    ended: watch::Receiver<bool>,
}

impl Session {
    /// Which shell it is, and whose.
    pub fn info(&self) -> &ShellInfo {
        &self.info
    }

    /// What it printed and prints.
    pub fn output(&self) -> &Arc<History<Arc<str>>> {
        &self.output
    }

    /// Types `bytes`. Never waits; bytes reach the process in the order of the calls.
    ///
    /// Where the process doesn't read, the terminal itself says so, once until it reads again.
    ///
    /// # Errors
    /// [`InputError`]; none of `bytes` was taken.
    pub fn input(&self, bytes: Bytes) -> Result<(), InputError> {
        if !self.is_open() {
            return Err(InputError::Ended);
        }
        let length = bytes.len();
        let before = self.waiting.fetch_add(length, Ordering::Relaxed);
        if before > 0 && before + length > INPUT_CAPACITY {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            if !self.dropping.swap(true, Ordering::Relaxed) {
                self.output.append(format!("\r\n[input dropped: {}]\r\n", InputError::Full).into());
            }
            return Err(InputError::Full);
        }
        self.dropping.store(false, Ordering::Relaxed);
        self.input.send(bytes).map_err(|_| InputError::Ended)
    }

    /// Tells the terminal its size. Where several viewers differ, the latest counts.
    ///
    /// # Errors
    /// [`InputError::Ended`].
    pub fn resize(&self, cols: u16, rows: u16) -> Result<(), InputError> {
        if !self.is_open() {
            return Err(InputError::Ended);
        }
        self.size.send_replace(Some((cols, rows)));
        Ok(())
    }

    /// Asks it to end. Done when [`Self::ended`] is.
    pub fn request_close(&self, reason: &str) {
        let mut stored = self.close_reason.lock().unwrap_or_else(PoisonError::into_inner);
        stored.get_or_insert_with(|| reason.to_owned());
        self.close.cancel();
    }

    /// Whether its process still runs.
    pub fn is_open(&self) -> bool {
        !*self.ended.borrow()
    }

    /// Waits until its process has ended.
    pub async fn ended(&self) {
        // An error means that the task is gone, which is an end too.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// Starts the task of a session. The future is ready when the session has ended; `place` is dropped before anybody can
/// see that, so that whoever waited for the end finds the place free.
pub(super) fn start(
    info: ShellInfo,
    pty: Pty,
    idle_timeout: Duration,
    place: impl Send + 'static,
) -> (Arc<Session>, impl Future<Output = Ending> + Send + 'static) {
    let (input, queue) = mpsc::unbounded_channel();
    let (ended_sender, ended) = watch::channel(false);
    let session = Arc::new(Session {
        info,
        output: Arc::new(History::new(Retention::latest(OUTPUT_CAPACITY))),
        input,
        waiting: Arc::default(),
        dropping: AtomicBool::new(false),
        size: watch::Sender::new(None),
        close: CancellationToken::new(),
        close_reason: Mutex::new(None),
        ended,
    });
    let task = tokio::spawn(run(Arc::clone(&session), pty, queue, idle_timeout));
    let ending = {
        let session = Arc::clone(&session);
        async move {
            let ending = task.await.unwrap_or_else(|error| Ending::Broken(format!("an internal error: {error}")));
            session.output.close();
            drop(place);
            ended_sender.send_replace(true);
            ending
        }
    };
    (session, ending)
}

async fn run(session: Arc<Session>, pty: Pty, queue: mpsc::UnboundedReceiver<Bytes>, idle_timeout: Duration) -> Ending {
    let Pty { input, mut output, control, mut exit } = pty;
    let active = Arc::new(Mutex::new(Instant::now()));
    let writer = tokio::spawn(write(queue, input, Arc::clone(&session.waiting), Arc::clone(&active)));
    let mut text = Utf8Stream::default();
    let mut ending = None;
    let mut give_up = None;
    let mut size = session.size.subscribe();
    // Somebody may have been faster than this task.
    size.mark_changed();
    let mut pace = Pace::new(Arc::clone(&session.output), MAX_LAG, VIEWER_PATIENCE);
    loop {
        let last_active = *active.lock().unwrap_or_else(PoisonError::into_inner);
        // What is ending is read to its end, whoever looks.
        let wait_until = if ending.is_none() { pace.wait_until() } else { None };
        tokio::select! {
            () = pace.progress(wait_until), if wait_until.is_some() => {}
            chunk = output.recv(), if wait_until.is_none() => match chunk {
                Some(chunk) => {
                    *active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    append(&session.output, text.decode(&chunk));
                }
                None => break,
            },
            // The sender is in the session, which is held by this.
            Ok(()) = size.changed() => {
                if let Some((cols, rows)) = *size.borrow_and_update() {
                    control.resize(cols, rows);
                }
            }
            () = session.close.cancelled(), if ending.is_none() => {
                let reason = session.close_reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
                ending = Some(Ending::Closed(reason.unwrap_or_else(|| "on request".into())));
                give_up = Some(Instant::now() + END_TIMEOUT);
                control.terminate();
            }
            () = tokio::time::sleep_until(last_active + idle_timeout), if ending.is_none() => {
                let last_active = *active.lock().unwrap_or_else(PoisonError::into_inner);
                if last_active.elapsed() >= idle_timeout {
                    ending = Some(Ending::Idle(idle_timeout));
                    give_up = Some(Instant::now() + END_TIMEOUT);
                    control.terminate();
                }
            }
            () = async { tokio::time::sleep_until(give_up.expect("guarded")).await }, if give_up.is_some() => {
                ending = Some(Ending::Broken(NOT_ENDED.into()));
                break;
            }
        }
    }
    append(&session.output, text.finish());
    writer.abort();
    match ending {
        // The runtime says that it has not come about.
        Some(Ending::Closed(_) | Ending::Idle(_)) if exit.try_recv().is_ok_and(|how| how == NOT_ENDED) => {
            Ending::Broken(NOT_ENDED.into())
        }
        Some(ending) => ending,
        // The output ended by itself: the process has gone, or goes right now.
        None => match tokio::time::timeout(END_TIMEOUT, &mut exit).await {
            Ok(Ok(how)) if how == NOT_ENDED => Ending::Broken(how),
            Ok(Ok(how)) => Ending::Exited(how),
            Ok(Err(_)) => Ending::Exited("its node has gone".into()),
            Err(_) => {
                control.terminate();
                Ending::Broken("its terminal was closed, but its process goes on".into())
            }
        },
    }
}

fn append(output: &History<Arc<str>>, text: String) {
    if !text.is_empty() {
        output.append(text.into());
    }
}

async fn write(
    mut queue: mpsc::UnboundedReceiver<Bytes>,
    input: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
    active: Arc<Mutex<Instant>>,
) {
    while let Some(bytes) = queue.recv().await {
        let length = bytes.len();
        *active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if input.send(bytes).await.is_err() {
            return;
        }
        waiting.fetch_sub(length, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::runtime::PtyControl;

    /// The other side of a terminal.
    struct Process {
        reads: mpsc::Receiver<Bytes>,
        writes: Option<mpsc::Sender<Bytes>>,
        exit: Option<oneshot::Sender<String>>,
        terminated: CancellationToken,
        sizes: mpsc::UnboundedReceiver<(u16, u16)>,
    }

    struct Control {
        terminated: CancellationToken,
        sizes: mpsc::UnboundedSender<(u16, u16)>,
    }

    impl PtyControl for Control {
        fn resize(&self, cols: u16, rows: u16) {
            self.sizes.send((cols, rows)).expect("the test holds the other side");
        }
        fn terminate(&self) {
            self.terminated.cancel();
        }
    }

    fn terminal() -> (Pty, Process) {
        let (input, reads) = mpsc::channel(1);
        let (writes, output) = mpsc::channel(1);
        let (exited, exit) = oneshot::channel();
        let terminated = CancellationToken::new();
        let (resized, sizes) = mpsc::unbounded_channel();
        let control = Box::new(Control { terminated: terminated.clone(), sizes: resized });
        let process = Process { reads, writes: Some(writes), exit: Some(exited), terminated, sizes };
        (Pty { input, output, control, exit }, process)
    }

    impl Process {
        async fn print(&self, bytes: &'static [u8]) {
            self.writes.as_ref().expect("runs").send(Bytes::from_static(bytes)).await.expect("somebody reads");
        }

        fn end(&mut self, how: &str) {
            self.exit.take().expect("ends once").send(how.into()).expect("somebody waits");
            self.writes = None;
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    fn info() -> ShellInfo {
        ShellInfo { id: "s".into(), lab_id: "l".into(), node: "r1".into(), owner: "u".into() }
    }

    #[tokio::test]
    async fn output_is_kept_whole_and_the_end_says_how_the_process_ended() {
        let (pty, mut process) = terminal();
        let (session, ending) = start(info(), pty, LONG, ());
        process.print(b"a\xe2\x82").await;
        process.print(b"\xac\n").await;
        process.end("exit status 3");
        assert_eq!(ending.await, Ending::Exited("exit status 3".into()));
        assert_eq!(session.output().follow().0.join(""), "a€\n");
        assert!(!session.is_open());
        assert_eq!(session.input(Bytes::from_static(b"x")), Err(InputError::Ended));
    }

    #[tokio::test]
    async fn closing_ends_the_process_and_gives_the_place_back_before_anybody_is_told() {
        struct Taken(Arc<AtomicBool>);
        impl Drop for Taken {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let given_back = Arc::new(AtomicBool::new(false));
        let (pty, mut process) = terminal();
        let (session, ending) = start(info(), pty, LONG, Taken(Arc::clone(&given_back)));
        let ending = tokio::spawn(ending);
        session.request_close("its owner closed it");
        process.terminated.cancelled().await;
        assert!(session.is_open(), "the process still runs");
        process.end("signal 1");
        session.ended().await;
        assert!(given_back.load(Ordering::SeqCst));
        assert_eq!(ending.await.expect("ends"), Ending::Closed("its owner closed it".into()));
    }

    #[tokio::test]
    async fn the_terminal_hears_of_its_size_until_it_has_ended() {
        let (pty, mut process) = terminal();
        let (session, ending) = start(info(), pty, LONG, ());
        for size in [(132, 43), (1, 1)] {
            session.resize(size.0, size.1).expect("it is open");
            assert_eq!(process.sizes.recv().await, Some(size));
        }
        process.end("exit status 0");
        ending.await;
        assert_eq!(session.resize(80, 24), Err(InputError::Ended));
    }

    #[tokio::test]
    async fn a_shell_in_which_nothing_happens_is_closed() {
        let (pty, mut process) = terminal();
        let limit = Duration::from_millis(20);
        let (_session, ending) = start(info(), pty, limit, ());
        process.terminated.cancelled().await;
        process.end("signal 1");
        assert_eq!(ending.await, Ending::Idle(limit));
    }

    const CHUNK: usize = 4096;

    /// Prints this many bytes, as fast as somebody takes them.
    fn flood(process: &Process, bytes: usize) -> tokio::task::JoinHandle<()> {
        let writes = process.writes.clone().expect("runs");
        tokio::spawn(async move {
            for _ in 0..bytes / CHUNK {
                writes.send(Bytes::from_static(&[b'y'; CHUNK])).await.expect("somebody reads");
            }
        })
    }

    #[tokio::test]
    async fn a_process_that_prints_faster_than_its_viewer_looks_waits_and_loses_nothing() {
        let (pty, mut process) = terminal();
        let (session, ending) = start(info(), pty, LONG, ());
        let mut viewer = session.output().follow_new();
        let bytes = 4 * OUTPUT_CAPACITY;
        let flood = flood(&process, bytes);
        let mut seen = 0;
        while seen < bytes {
            let batch = viewer.next(8).await.expect("nothing was dropped");
            viewer.advance(batch.len());
            seen += batch.iter().map(|text| text.len()).sum::<usize>();
            // Slower than the process, which never sleeps.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        flood.await.expect("no panic");
        process.end("exit status 0");
        ending.await;
    }

    #[tokio::test]
    async fn a_process_that_nobody_looks_at_does_not_wait() {
        let (pty, mut process) = terminal();
        let (_session, ending) = start(info(), pty, LONG, ());
        flood(&process, 4 * OUTPUT_CAPACITY).await.expect("no panic");
        process.end("exit status 0");
        ending.await;
    }

    #[tokio::test]
    async fn a_shell_whose_process_waits_for_viewers_can_be_closed() {
        let (pty, mut process) = terminal();
        let (session, ending) = start(info(), pty, LONG, ());
        let ending = tokio::spawn(ending);
        let _viewer = session.output().follow_new();
        let flood = flood(&process, 4 * OUTPUT_CAPACITY);
        while session.output().lag() <= Some(MAX_LAG) {
            tokio::task::yield_now().await;
        }
        session.request_close("on request");
        process.terminated.cancelled().await;
        flood.await.expect("no panic");
        process.end("signal 1");
        assert_eq!(ending.await.expect("no panic"), Ending::Closed("on request".into()));
    }

    #[tokio::test]
    async fn input_arrives_in_order_also_when_the_process_prints_before_it_reads() {
        let (pty, mut process) = terminal();
        let (session, ending) = start(info(), pty, LONG, ());
        for number in 0..1000 {
            session.input(Bytes::from(format!("{number}\n"))).expect("there is room");
        }
        for _ in 0..100 {
            process.print(b"busy\n").await;
        }
        for number in 0..1000 {
            assert_eq!(process.reads.recv().await, Some(Bytes::from(format!("{number}\n"))));
        }
        process.end("exit status 0");
        ending.await;
    }

    #[tokio::test]
    async fn input_for_a_process_that_does_not_read_is_bounded_and_the_user_is_told() {
        let (pty, mut process) = terminal();
        let (session, ending) = start(info(), pty, LONG, ());
        let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
        let taken = (0..100).take_while(|_| session.input(chunk.clone()) != Err(InputError::Full)).count();
        assert!((4..=6).contains(&taken), "{taken} MiB were taken");
        assert_eq!(session.input(chunk.clone()), Err(InputError::Full));
        let notes = |session: &Session| session.output().follow().0.concat().matches("[input dropped: ").count();
        assert_eq!(notes(&session), 1, "said once");
        process.reads.recv().await;
        process.reads.recv().await;
        while session.input(chunk.clone()) == Err(InputError::Full) {
            tokio::task::yield_now().await;
        }
        while session.input(chunk.clone()) != Err(InputError::Full) {}
        assert_eq!(notes(&session), 2, "and once more when it happens again");
        process.end("exit status 0");
        ending.await;
    }
}
