//! What was written down, and what it says.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::harness::Figures;

/// What the server used at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Since the beginning.
    pub(crate) at: Duration,
    pub(crate) figures: Figures,
    /// What had been done by then, all in all.
    pub(crate) done: u64,
}

/// All of them, in the order of time.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(crate) fn write(&self, path: &Path) {
        let mut text = "seconds,memory_kib,peak_kib,descriptors,threads,processes,done\n".to_owned();
        for Sample { at, figures, done } in &self.0 {
            let Figures { memory, peak, descriptors, threads, processes } = figures;
            let seconds = at.as_secs_f64();
            text.push_str(&format!("{seconds:.1},{memory},{peak},{descriptors},{threads},{processes},{done}\n"));
        }
        std::fs::write(path, text).expect("write the samples");
    }

    /// Whether memory is flat: see [`judge`].
    pub(crate) fn judge(&self, bound: u64) -> Result<String, String> {
        judge(&self.0.iter().map(|sample| sample.figures.memory).collect::<Vec<_>>(), bound)
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>8} {:>10} {:>11} {:>7} {:>9} {:>9}",
            "seconds", "memory KiB", "descriptors", "threads", "processes", "done"
        )?;
        // As many lines as fit on a screen.
        let step = self.0.len().div_ceil(40).max(1);
        for Sample { at, figures, done } in self.0.iter().step_by(step) {
            let Figures { memory, descriptors, threads, processes, .. } = figures;
            let seconds = at.as_secs();
            writeln!(f, "{seconds:>8} {memory:>10} {descriptors:>11} {threads:>7} {processes:>9} {done:>9}")?;
        }
        Ok(())
    }
}

/// The median of the last fifth may exceed that of the second by `bound` and no more. Says both in any case.
fn judge(memory: &[u64], bound: u64) -> Result<String, String> {
    let fifth = memory.len() / 5;
    assert!(fifth > 0, "five samples at least are needed");
    let (early, late) = (median(&memory[fifth..2 * fifth]), median(&memory[memory.len() - fifth..]));
    let verdict = format!(
        "memory: median of the second fifth {early} KiB, of the last fifth {late} KiB, allowed growth {bound} KiB"
    );
    if late <= early + bound { Ok(verdict) } else { Err(verdict) }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

#[test]
fn growth_after_the_warm_up_is_seen_and_warm_up_and_peaks_are_not() {
    let warm_up_then_flat: Vec<u64> =
        (0..100).map(|at| 1000 + 40 * at.min(20) + 300 * u64::from(at % 10 == 0)).collect();
    assert!(judge(&warm_up_then_flat, 50).is_ok());
    let growing: Vec<u64> = (0..100).map(|at| 1000 + at).collect();
    assert!(judge(&growing, 50).is_err());
}
