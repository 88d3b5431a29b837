//! What the nodes of labs use, sampled for as long as somebody wants to know.
//!
//! ```text
//!   listen ──► no sampler ──starts──► reading ──► waiting ──(interval, or somebody asks)──► reading …
//!                  ▲                                 │
//!                  └────────── the last listener has gone
//! ```
//!
//! [`Stats`] finds the sampler of a lab or starts one: a task that asks the runtime every interval and puts what it hears in
//! a place that holds the latest [`Reading`] only. Whoever listens reads it there, at their own pace: a slow listener misses
//! readings, and neither holds up the sampler nor fills memory. `socket` listens for those who are connected, `http` for
//! as long as a request takes. Nothing in here knows either.

pub mod config;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::labs::Labs;
use crate::labs::model::LabId;
use crate::runtime::stats::NodeStats;
use crate::runtime::{RuntimeDriver, RuntimeError};

/// How long a reading may take.
const LIMIT: Duration = Duration::from_secs(20);
/// The least time between two readings of a lab, whoever asks.
const SHORTEST: Duration = Duration::from_millis(500);

/// What the nodes of a lab use at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// When that was so.
    pub at: Timestamp,
    /// Each node, in the order of the instance.
    pub nodes: Vec<NodeReading>,
}

/// What a node uses at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReading {
    /// As the runtime tells it.
    pub stats: NodeStats,
    /// Processor time since the reading before, in percent of one processor; `None`: there is none before, or the node was
    /// started since.
    pub percent: Option<f64>,
}

/// Why nobody knows what a lab uses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatsError {
    /// There is nothing that runs.
    #[error("this lab has no instance: deploy it first")]
    NoInstance,
    /// The runtime can't say.
    #[error("what the nodes use can't be found out at the moment: {0}")]
    Runtime(String),
}

/// Handle to the samplers of all labs. Cheap to clone.
#[derive(Clone)]
pub struct Stats(Arc<Inner>);

struct Inner {
    labs: Labs,
    driver: Arc<dyn RuntimeDriver>,
    interval: Duration,
    /// Those that are at work. The lock is held for a look or an insert only.
    samplers: Mutex<HashMap<LabId, Arc<Sampler>>>,
}

/// What a sampler and its listeners share.
#[derive(Default)]
struct Sampler {
    feed: watch::Sender<Feed>,
    /// Somebody wants a reading now.
    wanted: Notify,
}

/// What has come of the readings so far.
#[derive(Debug, Clone, Default)]
struct Feed {
    /// The latest that worked.
    reading: Option<Arc<Reading>>,
    /// When the latest was begun, and why it didn't work if it didn't.
    latest: Option<(Instant, Result<(), StatsError>)>,
}

/// Somebody who wants to know what a lab uses. The sampler works until the last is dropped.
pub struct Listener {
    sampler: Arc<Sampler>,
    feed: watch::Receiver<Feed>,
    told: Option<Timestamp>,
}

impl Stats {
    /// Samplers for `labs`, which ask `driver` every `interval`.
    pub fn new(labs: Labs, driver: Arc<dyn RuntimeDriver>, interval: Duration) -> Self {
        Self(Arc::new(Inner { labs, driver, interval: interval.max(SHORTEST), samplers: Mutex::default() }))
    }

    /// Readings of a lab from now on: the latest at once, if there is a sampler already.
    pub fn listen(&self, lab: &LabId) -> Listener {
        let mut samplers = self.0.samplers();
        let sampler = samplers.entry(lab.clone()).or_insert_with(|| {
            let sampler = Arc::<Sampler>::default();
            tokio::spawn(sample(Arc::clone(&self.0), lab.clone(), Arc::clone(&sampler)));
            sampler
        });
        // Under the lock: a sampler that finds nobody there leaves under it.
        Listener { feed: sampler.feed.subscribe(), sampler: Arc::clone(sampler), told: None }
    }

    /// One reading, which is not older than half a second. However many ask at once, the runtime is asked once.
    ///
    /// # Errors
    /// [`StatsError`].
    pub async fn now(&self, lab: &LabId) -> Result<Arc<Reading>, StatsError> {
        self.listen(lab).reading(Instant::now()).await
    }

    /// How many labs are sampled at the moment.
    pub fn samplers(&self) -> usize {
        self.0.samplers().len()
    }
}

impl Listener {
    /// The next reading: the latest, if it was not told yet. May be dropped while it waits. `None` when nothing will come any
    /// more.
    pub async fn next(&mut self) -> Option<Arc<Reading>> {
        loop {
            let latest = self.feed.borrow_and_update().reading.clone();
            if let Some(reading) = latest.filter(|reading| self.told != Some(reading.at)) {
                self.told = Some(reading.at);
                return Some(reading);
            }
            self.feed.changed().await.ok()?;
        }
    }

    /// What comes of a reading that was begun shortly before `asked` or later.
    async fn reading(mut self, asked: Instant) -> Result<Arc<Reading>, StatsError> {
        let mut wanted = false;
        loop {
            let Feed { reading, latest } = self.feed.borrow_and_update().clone();
            if let Some((_, outcome)) = latest.filter(|(begun, _)| *begun + SHORTEST >= asked) {
                outcome?;
                return reading.ok_or(StatsError::NoInstance);
            }
            if !std::mem::replace(&mut wanted, true) {
                self.sampler.wanted.notify_one();
            }
            let ended = |_| StatsError::Runtime("the server is shutting down".to_owned());
            self.feed.changed().await.map_err(ended)?;
        }
    }
}

impl Inner {
    fn samplers(&self) -> MutexGuard<'_, HashMap<LabId, Arc<Sampler>>> {
        self.samplers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a sampler out that has nobody left to listen. False: somebody has come.
    fn leave(&self, lab: &LabId, sampler: &Sampler) -> bool {
        let mut samplers = self.samplers();
        let nobody = sampler.feed.receiver_count() == 0;
        if nobody {
            samplers.remove(lab);
        }
        nobody
    }

    async fn read(&self, lab: &LabId) -> Result<Vec<NodeStats>, StatsError> {
        let instance = self.labs.get(lab).and_then(|lab| lab.instance.clone()).ok_or(StatsError::NoInstance)?;
        let failed = |error: String| Err(StatsError::Runtime(error));
        match tokio::time::timeout(LIMIT, self.driver.stats(&instance.name)).await {
            Ok(Ok(stats)) => Ok(stats),
            // It is on its way up, or has failed: nothing of it runs.
            Ok(Err(RuntimeError::NoInstance(_))) => {
                let at = Instant::now();
                let idle = |node: String| NodeStats { node, at, usage: None };
                Ok(instance.nodes.into_iter().map(|node| idle(node.name)).collect())
            }
            Ok(Err(error)) => failed(error.to_string()),
            Err(_) => failed(format!("it takes longer than {LIMIT:?}")),
        }
    }
}

/// Processor time of each node, and when that was so.
type Before = HashMap<String, (Instant, Duration)>;

/// The task of one lab.
async fn sample(inner: Arc<Inner>, lab: LabId, sampler: Arc<Sampler>) {
    let mut before = Before::new();
    loop {
        let begun = Instant::now();
        let read = async {
            let outcome = inner.read(&lab).await.map(|stats| reading(stats, &mut before));
            if let Err(error) = &outcome {
                tracing::debug!(%lab, %error, "no reading");
            }
            sampler.feed.send_modify(|feed| {
                feed.latest = Some((begun, outcome.as_ref().map(drop).map_err(Clone::clone)));
                if let Ok(reading) = outcome {
                    feed.reading = Some(Arc::new(reading));
                }
            });
            let again = async {
                sampler.wanted.notified().await;
                tokio::time::sleep_until((begun + SHORTEST).into()).await;
            };
            // A runtime that is slow gets time for others.
            let next = (begun + inner.interval).max(Instant::now() + SHORTEST / 2);
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = again => {}
            }
        };
        tokio::select! {
            biased;
            () = sampler.feed.closed() => if inner.leave(&lab, &sampler) { return },
            () = read => {}
        }
    }
}

/// Makes a reading of what the runtime tells and of the one before.
fn reading(stats: Vec<NodeStats>, before: &mut Before) -> Reading {
    let mut now = Before::new();
    let node = |stats: NodeStats| {
        let used = stats.usage.as_ref().and_then(|usage| usage.cpu);
        let percent = used.and_then(|used| {
            now.insert(stats.node.clone(), (stats.at, used));
            let (at, earlier) = before.get(&stats.node)?;
            let passed = stats.at.saturating_duration_since(*at).as_secs_f64();
            let more = used.checked_sub(*earlier)?.as_secs_f64();
            (passed > 0.0).then(|| 100.0 * more / passed)
        });
        NodeReading { stats, percent }
    };
    let nodes = stats.into_iter().map(node).collect();
    *before = now;
    Reading { at: Timestamp::now(), nodes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::stats::Usage;

    fn stats(node: &str, at: Instant, cpu: Option<u64>) -> NodeStats {
        let usage = cpu.map(|cpu| Usage { cpu: Some(Duration::from_millis(cpu)), ..Usage::default() });
        NodeStats { node: node.to_owned(), at, usage }
    }

    #[tokio::test]
    async fn a_listener_that_is_slow_hears_the_latest_reading_and_none_twice() {
        let sampler = Arc::<Sampler>::default();
        let mut listener = Listener { feed: sampler.feed.subscribe(), sampler: Arc::clone(&sampler), told: None };
        let at = |second| Timestamp::from_second(second).unwrap();
        for second in 0..100 {
            let reading = Arc::new(Reading { at: at(second), nodes: Vec::new() });
            sampler.feed.send_modify(|feed| feed.reading = Some(reading));
        }
        assert_eq!(listener.next().await.unwrap().at, at(99));
        // One that failed is no news.
        let failed = Err(StatsError::Runtime("it is away".to_owned()));
        sampler.feed.send_modify(|feed| feed.latest = Some((Instant::now(), failed)));
        let waits = futures::FutureExt::now_or_never(listener.next());
        assert_eq!(waits, None);
        let latest = listener.reading(Instant::now()).await;
        assert_eq!(latest, Err(StatsError::Runtime("it is away".to_owned())), "but for whoever wants to know now");
    }

    #[test]
    fn percent_is_of_one_processor_since_the_reading_before() {
        let (mut before, start) = (Before::new(), Instant::now());
        let mut percents = |second: u64, nodes: &[(&str, Option<u64>)]| {
            let at = start + Duration::from_secs(second);
            let stats = nodes.iter().map(|(node, cpu)| stats(node, at, *cpu)).collect();
            reading(stats, &mut before).nodes.iter().map(|node| node.percent).collect::<Vec<_>>()
        };
        assert_eq!(percents(0, &[("a", Some(1000)), ("b", Some(0)), ("c", None)]), [None, None, None]);
        assert_eq!(percents(2, &[("a", Some(6000)), ("b", Some(0)), ("c", Some(5))]), [Some(250.0), Some(0.0), None]);
        assert_eq!(
            percents(4, &[("a", Some(10)), ("b", None), ("c", Some(5))]),
            [None, None, Some(0.0)],
            "started anew"
        );
        assert_eq!(percents(5, &[("a", Some(510)), ("b", Some(7))]), [Some(50.0), None]);
    }
}
