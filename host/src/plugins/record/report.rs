//! Many answers in sum: where a candidate decides otherwise, what it costs; and test results as JUnit has them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::outcome::Outcome;

/// Examples that are kept of each way to differ.
const EXAMPLES: usize = 3;

/// How a candidate's answers compare with those that were given.
#[derive(Debug, Default)]
pub struct Comparison {
    same: u64,
    groups: BTreeMap<(String, String), Group>,
    times: Vec<u64>,
    memory: Vec<u64>,
    times_in_force: Vec<u64>,
}

#[derive(Debug, Default)]
struct Group {
    count: u64,
    examples: Vec<String>,
}

impl Comparison {
    /// Takes one more. `example` says which decision it is.
    pub fn add(&mut self, in_force: &Outcome, candidate: &Outcome, example: impl FnOnce() -> String) {
        if in_force.same(candidate) {
            self.same += 1;
            return;
        }
        let (before, mut after) = (headline(in_force), headline(candidate));
        if before == after {
            after = match candidate {
                Outcome::Deny { .. } | Outcome::Reject { .. } => "the same, in other words".into(),
                _ => "the same, otherwise in detail".into(),
            };
        }
        let group = self.groups.entry((before, after)).or_default();
        group.count += 1;
        if group.examples.len() < EXAMPLES {
            group.examples.push(example());
        }
    }

    /// Takes what one of the candidate's answers cost: microseconds, and bytes of memory where that is known.
    pub fn cost(&mut self, micros: u64, memory: Option<u64>) {
        self.times.push(micros);
        self.memory.extend(memory);
    }

    /// Takes how long the answer in force took, in microseconds.
    pub fn cost_in_force(&mut self, micros: u64) {
        self.times_in_force.push(micros);
    }

    /// How many answers differ.
    pub fn differing(&self) -> u64 {
        self.groups.values().map(|group| group.count).sum()
    }

    /// How many were compared.
    pub fn compared(&self) -> u64 {
        self.same + self.differing()
    }
}

impl Comparison {
    /// The same as its text says, for other programs: `compared`, `same`, `differing`, the ways to differ with the most
    /// frequent first, and how times (µs) and memory (bytes) are spread, where that is known.
    pub fn to_json(&self) -> Value {
        let differences = self.by_frequency().into_iter().map(|((before, after), group)| {
            json!({"in-force": before, "candidate": after, "count": group.count, "examples": group.examples})
        });
        let differences: Vec<_> = differences.collect();
        json!({
            "compared": self.compared(),
            "same": self.same,
            "differing": self.differing(),
            "differences": differences,
            "candidate-us": Percentiles::of(&self.times),
            "in-force-us": Percentiles::of(&self.times_in_force),
            "candidate-memory-bytes": Percentiles::of(&self.memory),
        })
    }

    /// The ways to differ, the most frequent first.
    fn by_frequency(&self) -> Vec<(&(String, String), &Group)> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        groups
    }
}

fn headline(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Deny { rule, .. } => format!("deny {rule}"),
        Outcome::Reject { code, rule, .. } => format!("reject {rule} ({})", super::given::kebab(&format!("{code:?}"))),
        Outcome::Failed { kind, .. } => format!("failed ({kind})"),
        Outcome::Accept { rewritten: true, .. } => "accept another command".into(),
        other => other.name().into(),
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} decisions: {} the same, {} otherwise", self.compared(), self.same, self.differing())?;
        for ((before, after), group) in self.by_frequency() {
            writeln!(f, "\n  {before} -> {after}: {}", group.count)?;
            for example in &group.examples {
                writeln!(f, "      {example}")?;
            }
        }
        writeln!(f)?;
        if let Some(times) = Percentiles::of(&self.times) {
            writeln!(f, "  time of the candidate, µs    {times}")?;
        }
        if let Some(times) = Percentiles::of(&self.times_in_force) {
            writeln!(f, "  time in force, µs            {times}")?;
        }
        if let Some(memory) = Percentiles::of(&self.memory) {
            writeln!(f, "  memory of the candidate, B   {memory}")?;
        }
        Ok(())
    }
}

/// How a figure is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Half of all are as small.
    pub p50: u64,
    /// Nine of ten are.
    pub p90: u64,
    /// 99 of 100 are.
    pub p99: u64,
    /// All are.
    pub max: u64,
}

impl Percentiles {
    /// Of these; `None`: there are none.
    pub fn of(values: &[u64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let max = *sorted.last()?;
        let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        Some(Self { p50: at(50), p90: at(90), p99: at(99), max })
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {}  p90 {}  p99 {}  max {}", self.p50, self.p90, self.p99, self.max)
    }
}

/// One test, for [`junit`].
#[derive(Debug, Clone)]
pub struct TestResult {
    /// The file that it comes from.
    pub file: String,
    /// The line in it.
    pub line: u64,
    /// What it is called.
    pub name: String,
    /// How long the answer took.
    pub took: Duration,
    /// How it differs from what was expected, if it does.
    pub difference: Option<String>,
}

/// The results as JUnit writes them, which is what CI services read.
pub fn junit(results: &[TestResult]) -> String {
    let mut suites: Vec<(&str, Vec<&TestResult>)> = Vec::new();
    for result in results {
        match suites.iter_mut().find(|(file, _)| *file == result.file) {
            Some((_, suite)) => suite.push(result),
            None => suites.push((&result.file, vec![result])),
        }
    }
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (file, suite) in suites {
        let failures = suite.iter().filter(|result| result.difference.is_some()).count();
        let file = escaped(file);
        // Writing to a string can't fail.
        let _ = writeln!(xml, "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{failures}\">", suite.len());
        for result in suite {
            let _ = write!(
                xml,
                "    <testcase classname=\"{file}\" name=\"{}\" file=\"{file}\" line=\"{}\" time=\"{:.6}\"",
                escaped(&result.name),
                result.line,
                result.took.as_secs_f64()
            );
            let _ = match &result.difference {
                None => writeln!(xml, "/>"),
                Some(difference) => writeln!(
                    xml,
                    ">\n      <failure message=\"it was decided otherwise\">{}</failure>\n    </testcase>",
                    escaped(difference)
                ),
            };
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Text within XML, where control characters have no place at all.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() && c != '\n' => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn deny(rule: &str, message: &str) -> Outcome {
        Outcome::Deny { rule: rule.into(), message: message.into() }
    }

    #[test]
    fn what_differs_is_grouped_by_rule_with_the_most_frequent_first() {
        let mut comparison = Comparison::default();
        for number in 0..10 {
            comparison.add(&deny("creator-only", "no"), &Outcome::Allow, || format!("number {number}"));
        }
        comparison.add(&Outcome::Allow, &deny("quota", "too many"), || "a third lab".into());
        comparison.add(&deny("quota", "a"), &deny("quota", "b"), || "worded".into());
        comparison.add(&Outcome::Allow, &Outcome::Allow, || unreachable!("it doesn't differ"));
        comparison.cost(7, Some(100));
        let shown = comparison.to_string();
        assert!(
            shown.starts_with("13 decisions: 1 the same, 12 otherwise\n\n  deny creator-only -> allow: 10\n"),
            "{shown}"
        );
        assert!(shown.contains("number 2\n") && !shown.contains("number 3"), "{shown}");
        assert!(shown.contains("  allow -> deny quota: 1\n      a third lab\n"), "{shown}");
        assert!(shown.contains("  deny quota -> the same, in other words: 1\n"), "{shown}");
        assert!(shown.contains("p50 7  p90 7  p99 7  max 7"), "{shown}");

        let json = comparison.to_json();
        assert_eq!((&json["compared"], &json["same"], &json["differing"]), (&json!(13), &json!(1), &json!(12)));
        let first = json!({
            "in-force": "deny creator-only", "candidate": "allow", "count": 10,
            "examples": ["number 0", "number 1", "number 2"],
        });
        assert_eq!(json["differences"][0], first);
        assert_eq!(json["candidate-us"], json!({"p50": 7, "p90": 7, "p99": 7, "max": 7}));
        assert_eq!(json["in-force-us"], Value::Null);
    }

    #[test]
    fn percentiles_are_those_of_the_figures() {
        let figures: Vec<u64> = (1..=200).rev().collect();
        assert_eq!(Percentiles::of(&figures), Some(Percentiles { p50: 100, p90: 180, p99: 198, max: 200 }));
        assert_eq!(Percentiles::of(&[5]), Some(Percentiles { p50: 5, p90: 5, p99: 5, max: 5 }));
        assert_eq!(Percentiles::of(&[]), None);
    }

    #[test]
    fn results_are_well_formed_whatever_they_are_called() {
        let result = |name: &str, difference: Option<&str>| TestResult {
            file: "a.yml".into(),
            line: 3,
            name: name.into(),
            took: Duration::from_micros(15),
            difference: difference.map(Into::into),
        };
        let xml = junit(&[result("\"<&>\u{1b}", None), result("b", Some("  - outcome: allow\n"))]);
        assert!(xml.contains("<testsuite name=\"a.yml\" tests=\"2\" failures=\"1\">"), "{xml}");
        assert!(
            xml.contains("name=\"&quot;&lt;&amp;&gt;\u{fffd}\" file=\"a.yml\" line=\"3\" time=\"0.000015\"/>"),
            "{xml}"
        );
        assert!(xml.contains("<failure message=\"it was decided otherwise\">  - outcome: allow\n</failure>"), "{xml}");
    }
}
