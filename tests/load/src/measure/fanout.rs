//! Lines of a log on their way to many clients, each of which counts what it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

use super::{Meter, Used};
use crate::connection::Connection;
use crate::contest::{Contestant, Running};

/// Room for what is read at once, per client.
const ROOM: usize = 64 * 1024;
/// How long nothing may come before what is missing counts as lost.
const SILENCE: Duration = Duration::from_secs(10);
/// How long it may take until the first line comes.
const BEGINNING: Duration = Duration::from_secs(60);
/// How often the slowest client is looked for.
const LOOK: Duration = Duration::from_micros(200);

/// What a client has got so far.
#[derive(Debug, Default)]
struct Tally {
    /// Number of the line that is next.
    next: AtomicU64,
    got: AtomicU64,
    /// Lines that had come before, or came after a later one.
    disorder: AtomicU64,
    /// When the latest line came, in nanoseconds since the clients gathered.
    latest: AtomicU64,
}

/// The clients.
pub(crate) struct Audience {
    tallies: Vec<Arc<Tally>>,
    /// When the first line came that anybody got of what is being emitted.
    earliest: Arc<AtomicU64>,
    next: u64,
    clients: JoinSet<anyhow::Result<()>>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Delivery {
    pub(crate) lost: u64,
    pub(crate) disorder: u64,
    /// Delivered per second, from the first line that anybody got to the last.
    pub(crate) per_second: f64,
    /// What it took, for so many delivered lines.
    pub(crate) used: Used,
    pub(crate) of: u64,
}

impl Audience {
    /// Has `clients` join the log.
    pub(crate) async fn gather(running: &Running, clients: usize) -> anyhow::Result<Self> {
        let zero = Instant::now();
        let earliest = Arc::new(AtomicU64::new(u64::MAX));
        let mut audience = Self { tallies: Vec::new(), earliest, next: 1, clients: JoinSet::new() };
        let path = running.log_path();
        for _ in 0..clients {
            let mut connection = Connection::open(running.address).await?.with_room(ROOM);
            connection.join(&path, &running.token).await?;
            let tally = Arc::new(Tally { next: AtomicU64::new(1), ..Tally::default() });
            audience.tallies.push(Arc::clone(&tally));
            audience.clients.spawn(listen(connection, path.clone(), tally, Arc::clone(&audience.earliest), zero));
        }
        Ok(audience)
    }

    fn sum(&self, of: impl Fn(&Tally) -> &AtomicU64) -> u64 {
        self.tallies.iter().map(|tally| of(tally).load(Ordering::Relaxed)).sum()
    }

    /// The line that the slowest has got.
    fn slowest(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.next.load(Ordering::Relaxed) - 1).min().unwrap_or(0)
    }

    /// Has `count` lines emitted at `rate` lines a second, 0 for as fast as can be, and waits until all have come or
    /// nothing comes any more.
    pub(crate) async fn hear(
        &mut self,
        contestant: &Contestant,
        running: &mut Running,
        count: u64,
        rate: u64,
    ) -> anyhow::Result<Delivery> {
        let first = self.next;
        self.next += count;
        let last = self.next - 1;
        let (got, disorder) = (self.sum(|t| &t.got), self.sum(|t| &t.disorder));
        self.earliest.store(u64::MAX, Ordering::Relaxed);

        let mut meter = Some(Meter::start(running)?);
        let (mut used, mut of) = (None, 0);
        let mut got_then = got;
        contestant.taken(running, first - 1)?;
        let mut emitting = Some(contestant.emit(running, first, count, rate)?);
        let (mut told, mut heard, mut quiet_since) = (first - 1, got, Instant::now());
        // What is paced is looked at where it runs evenly.
        let mut warming_up = rate > 0;
        while told < last {
            tokio::time::sleep(LOOK).await;
            let slowest = self.slowest();
            if slowest > told {
                told = slowest;
                contestant.taken(running, told)?;
            }
            let now = self.sum(|t| &t.got);
            if warming_up && told >= first + count / 10 {
                warming_up = false;
                (meter, got_then) = (Some(Meter::start(running)?), now);
            }
            if rate > 0
                && told >= first + count * 19 / 20
                && let Some(meter) = meter.take()
            {
                (used, of) = (Some(meter.stop()?), now - got_then);
            }
            if now > heard {
                (heard, quiet_since) = (now, Instant::now());
            }
            let patience = if heard > got { SILENCE } else { BEGINNING };
            if quiet_since.elapsed() > patience {
                break;
            }
            if let Some(done) = emitting.take_if(|emitting| emitting.is_finished()) {
                done.await??;
            }
            if let Some(ended) = self.clients.try_join_next() {
                ended?.context("a client that follows the log")?;
            }
        }
        let delivered = self.sum(|t| &t.got) - got;
        if let Some(meter) = meter {
            (used, of) = (Some(meter.stop()?), delivered);
        }
        if let Some(emitting) = emitting {
            tokio::time::timeout(BEGINNING, emitting).await.context("emitting never ends")???;
        }
        ensure!(delivered > 0, "no line came");
        let clients = self.tallies.len() as u64;
        // A client that has missed the end is to go on where the next lines begin.
        for tally in &self.tallies {
            tally.next.store(self.next, Ordering::Relaxed);
        }
        let latest = self.tallies.iter().map(|tally| tally.latest.load(Ordering::Relaxed)).max().unwrap_or(0);
        let time = Duration::from_nanos(latest.saturating_sub(self.earliest.load(Ordering::Relaxed)));
        let disorder = self.sum(|t| &t.disorder) - disorder;
        Ok(Delivery {
            lost: (count * clients).saturating_sub(delivered - disorder.min(delivered)),
            disorder,
            per_second: delivered as f64 / time.as_secs_f64(),
            used: used.unwrap_or_default(),
            of,
        })
    }
}

/// Follows the log, and counts.
async fn listen(
    mut connection: Connection,
    path: String,
    tally: Arc<Tally>,
    earliest: Arc<AtomicU64>,
    zero: Instant,
) -> anyhow::Result<()> {
    let start = format!(r#"42{path},["data","n | "#);
    loop {
        let (mut next, mut got, mut disorder) = (tally.next.load(Ordering::Relaxed), 0, 0);
        connection
            .read(|message| {
                let Some(number) = message.strip_prefix(start.as_bytes()).and_then(number) else { return };
                got += 1;
                if number >= next {
                    next = number + 1;
                } else {
                    disorder += 1;
                }
            })
            .await?;
        if got > 0 {
            let now = u64::try_from(zero.elapsed().as_nanos()).unwrap_or(u64::MAX);
            earliest.fetch_min(now, Ordering::Relaxed);
            tally.latest.store(now, Ordering::Relaxed);
            tally.got.fetch_add(got, Ordering::Relaxed);
            tally.disorder.fetch_add(disorder, Ordering::Relaxed);
            tally.next.store(next, Ordering::Relaxed);
        }
    }
}

/// The number in a line behind `n | `: 124 digits, then the end of the event.
fn number(rest: &[u8]) -> Option<u64> {
    let (digits, end) = rest.split_at_checked(124)?;
    if end != b"\"]" {
        return None;
    }
    let mut number = 0;
    for digit in &digits[108..] {
        number = number * 10 + u64::from(digit.wrapping_sub(b'0'));
    }
    Some(number)
}
