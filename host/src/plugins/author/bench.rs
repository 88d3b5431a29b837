//! `plugin bench`: what a plugin's calls cost, each in a fresh instance, as in a server.
//!
//! Times are taken around the same call that a server makes, one after the other on one thread. Instructions are counted
//! in another engine, which adds a counter to the code, so that counting costs the times nothing.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::CheckError;
use super::check::hook_of;
use crate::plugins::config::{Entry, Hook};
use crate::plugins::engine::Engine;
use crate::plugins::error::LoadProblem;
use crate::plugins::loader;
use crate::plugins::record::{self, Case, Function, Given, Input};
use crate::plugins::shape::Names;
use crate::plugins::snapshot::Snapshots;

/// How long one case is measured for at most, however many calls were asked for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Calls that are made first and not counted: they bring the code and the pool's memory in.
const WARMING: u32 = 50;
/// Calls that each find the processor's caches full of something else.
const COLD: u32 = 50;
/// What is read to fill these caches, in bytes: more than a core's share of any.
const SWEEP: usize = 64 << 20;

tokio::task_local! {
    /// Where the instructions of a call are noted.
    static FUEL: Cell<u64>;
}

/// Called at the end of a call in an engine that counts, with what is left of the fuel that it began with.
pub(in crate::plugins) fn note_fuel(left: u64) {
    let _ = FUEL.try_with(|fuel| fuel.set(u64::MAX - left));
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measured {
    /// Name of the plugin.
    pub name: String,
    /// Its version.
    pub version: String,
    /// To load it the first time, in milliseconds.
    pub load_ms: f64,
    /// To load it from what a server keeps, in milliseconds.
    pub load_again_ms: f64,
    /// Each case.
    pub cases: Vec<MeasuredCase>,
}

/// What the calls of one case cost.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MeasuredCase {
    /// The case.
    pub name: String,
    /// What was asked.
    pub function: Function,
    /// What came of it: the name of the outcome, with its rule or kind of failure.
    pub outcome: String,
    /// How many calls the times are of.
    pub calls: usize,
    /// Median with the processor's caches full of something else, in microseconds.
    pub cold_us: f64,
    /// Half of the calls took no longer than this, in microseconds.
    pub p50_us: f64,
    /// Nine of ten.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
    /// Calls that one core makes per second.
    pub calls_per_second: f64,
    /// Linear memory at the end of a call, in bytes.
    pub memory_bytes: usize,
    /// Instructions of WebAssembly that a call executes, as Wasmtime counts its fuel.
    pub instructions: u64,
}

/// Measures the plugin of `entry` with these cases, or with an example of each of its functions. Belongs on a runtime of
/// one thread.
///
/// # Errors
/// [`CheckError`]: a server wouldn't take it either.
pub async fn bench(hook: Option<Hook>, entry: &Entry, cases: &[Case], calls: u32) -> Result<Measured, CheckError> {
    let problem = |problem| CheckError::Problem { path: entry.path.clone(), problem };
    let host = |error: std::io::Error| problem(LoadProblem::Host(error.to_string()));
    let bytes = super::read(Path::new(&entry.path)).await.map_err(problem)?;
    let names = Names::read(&bytes).map_err(problem)?;
    let hook = hook.or_else(|| hook_of(&names)).ok_or_else(|| CheckError::NoPlugin(entry.path.clone()))?;
    let checked = super::check(Some(hook), entry).await?;

    let (dir, counting_dir) = (super::scratch().map_err(host)?, super::scratch().map_err(host)?);
    let load = async |engine: &Engine, dir: &Path| {
        let plugin = loader::prepare(engine, &Snapshots::new(dir), Path::new(""), hook, entry).await;
        plugin.map_err(problem)
    };
    let engine = Engine::start(dir.path())?;
    let plugin = load(&engine, dir.path()).await?;
    let counting = Engine::start_counting(counting_dir.path())?;
    let counted = load(&counting, counting_dir.path()).await?;

    let examples = examples(hook).map_err(|error| problem(LoadProblem::Host(error)))?;
    let of_cases = cases.iter().filter(|case| case.input.function().hook() == hook);
    let mut inputs: Vec<(String, Input)> = of_cases.map(|case| (case.name.clone(), case.input.clone())).collect();
    if inputs.is_empty() {
        inputs = examples;
    }
    let mut measured = Vec::with_capacity(inputs.len());
    let mut sweep = vec![1_u8; SWEEP];
    for (name, input) in inputs {
        let fuel = FUEL.scope(Cell::new(0), async {
            record::ask(&counted, &input).await;
            FUEL.with(Cell::get)
        });
        let instructions = fuel.await;
        let mut answer = record::ask(&plugin, &input).await;
        for _ in 1..WARMING {
            answer = record::ask(&plugin, &input).await;
        }
        let began = Instant::now();
        let mut warm = Vec::new();
        while warm.len() < usize::try_from(calls).unwrap_or(usize::MAX).max(1) && began.elapsed() < PATIENCE {
            let began = Instant::now();
            std::hint::black_box(record::ask(&plugin, &input).await);
            warm.push(began.elapsed());
        }
        let mean = began.elapsed().as_secs_f64() / warm.len() as f64;
        let mut cold = Vec::new();
        for _ in 0..COLD {
            sweep.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
            std::hint::black_box(&sweep);
            let began = Instant::now();
            std::hint::black_box(record::ask(&plugin, &input).await);
            cold.push(began.elapsed());
        }
        warm.sort_unstable();
        cold.sort_unstable();
        let outcome = match answer.outcome.rule() {
            Some(rule) => format!("{} ({rule})", answer.outcome.name()),
            None => answer.outcome.name().to_owned(),
        };
        measured.push(MeasuredCase {
            name,
            function: input.function(),
            outcome,
            calls: warm.len(),
            cold_us: percentile(&cold, 50),
            p50_us: percentile(&warm, 50),
            p90_us: percentile(&warm, 90),
            p99_us: percentile(&warm, 99),
            max_us: percentile(&warm, 100),
            calls_per_second: 1.0 / mean,
            memory_bytes: answer.memory,
            instructions,
        });
    }
    Ok(Measured {
        name: checked.info.name,
        version: checked.info.version,
        load_ms: checked.first.as_secs_f64() * 1e3,
        load_again_ms: checked.again.as_secs_f64() * 1e3,
        cases: measured,
    })
}

/// In microseconds, of what is sorted and not empty.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted[index].as_secs_f64() * 1e6
}

/// A plain question for each function of a hook.
fn examples(hook: Hook) -> Result<Vec<(String, Input)>, String> {
    let given = json!({ "lab": { "nodes": [{ "name": "n1" }, { "name": "n2" }] } });
    let given = Given::new(given.as_object().cloned().unwrap_or_default()).map_err(|problem| problem.to_string())?;
    let all = Function::ALL.into_iter().filter(|function| function.hook() == hook);
    let example = |function: Function| {
        let input = match function {
            Function::Validate => json!({ "command": { "kind": "open-shell", "node": "n1" } }),
            Function::Identify => json!({ "claims": { "id": "ada", "isAdmin": false, "collections": ["course"] } }),
            Function::Authorize => json!({ "action": { "command": { "kind": "deploy" } } }),
            Function::Format => json!({ "event": { "what": { "lab-deployed": {} } } }),
        };
        let input = input.as_object().cloned().unwrap_or_default();
        let input = Input::complete(function, &input, &given).map_err(|problem| format!("{function}: {problem}"))?;
        Ok((format!("example of {function}"), input))
    };
    all.map(example).collect()
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {}: loaded in {:.0} ms, and in {:.1} ms from what a server keeps",
            self.name, self.version, self.load_ms, self.load_again_ms
        )?;
        if cfg!(debug_assertions) {
            write!(f, "\nThis program was built without optimisation: times are several times what a server takes.")?;
        }
        for case in &self.cases {
            write!(
                f,
                "\n\n{}: {} {}\n  time         {:.1} µs (p90 {:.1}, p99 {:.1}, max {:.1}; {:.1} with cold caches), {} calls\n  \
                 on one core  {:.0} calls per second\n  memory       {} KiB\n  instructions {}",
                case.name,
                case.function,
                case.outcome,
                case.p50_us,
                case.p90_us,
                case.p99_us,
                case.max_us,
                case.cold_us,
                case.calls,
                case.calls_per_second,
                case.memory_bytes / 1024,
                case.instructions
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_example_of_every_function() {
        let all: usize = Hook::ALL.into_iter().map(|hook| examples(hook).unwrap().len()).sum();
        assert_eq!(all, Function::ALL.len());
    }

    #[test]
    fn percentiles_are_of_what_was_measured() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_micros).collect();
        let close = |percent, expected: f64| (percentile(&sorted, percent) - expected).abs() < 1e-6;
        assert!(close(50, 50.0) && close(99, 99.0) && close(100, 100.0));
        assert!((percentile(&sorted[..1], 50) - 1.0).abs() < 1e-6);
    }
}
