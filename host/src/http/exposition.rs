//! Prometheus' text format, version 0.0.4: what `metrics` writes its figures with.
//!
//! Each family is written once, with its help and type before its samples, as the format wants it.

use std::fmt::{self, Display, Write as _};

use crate::metrics::Durations;

/// What a response in this format says it is.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The unit that durations are shown in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    Seconds,
    Microseconds,
}

impl Unit {
    fn of_micros(self, micros: f64) -> f64 {
        match self {
            Self::Seconds => micros / 1e6,
            Self::Microseconds => micros,
        }
    }
}

/// A text under way.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// Begins a family of counters, whose name ends with `_total`.
    pub(super) fn counters(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// Begins a family of gauges.
    pub(super) fn gauges(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Begins a family of histograms.
    pub(super) fn histograms(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        // Quotes are not escaped here, unlike in values of labels.
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { text: &mut self.0, name }
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// A family whose samples are being written.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Family<'_> {
    /// A sample of it.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    /// A histogram of it.
    pub(super) fn durations(&mut self, labels: Labels<'_>, times: &Durations, unit: Unit) -> &mut Self {
        let mut count = 0;
        for (bound, more) in times.bounds.iter().zip(&times.buckets) {
            count += more;
            #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
            let bound = unit.of_micros(*bound as f64).to_string();
            self.line("_bucket", labels, Some(&bound), count);
        }
        let count = times.count();
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, unit.of_micros(times.sum.as_secs_f64() * 1e6));
        self.line("_count", labels, None, count);
        self
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) {
        self.write(suffix, labels, bound, value).expect("writing to a string doesn't fail");
    }

    fn write(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: impl Display) -> fmt::Result {
        write!(self.text, "{}{suffix}", self.name)?;
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut separator = '{';
        for (name, value) in labels {
            write!(self.text, "{separator}{name}=\"{}\"", Escaped(value))?;
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        writeln!(self.text, " {value}")
    }
}

/// The value of a label.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_are_written_with_help_and_type_and_labels_are_escaped() {
        let mut text = Exposition::default();
        text.gauges("up", "With \"quotes\", a \\ and\na line").sample(&[], 1);
        text.counters("calls_total", "Calls").sample(&[("a", "x\"y\\z\nü"), ("b", "")], 7).sample(&[("a", "2")], 0.5);
        let expected = "# HELP up With \"quotes\", a \\\\ and\\na line\n# TYPE up gauge\nup 1\n\
                        # HELP calls_total Calls\n# TYPE calls_total counter\n\
                        calls_total{a=\"x\\\"y\\\\z\\nü\",b=\"\"} 7\ncalls_total{a=\"2\"} 0.5\n";
        assert_eq!(text.finish(), expected);
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_all() {
        let times = Durations { bounds: &[5, 1_000], buckets: vec![2, 1, 4], sum: Duration::from_micros(2_500) };
        for (unit, bounds, sum) in
            [(Unit::Microseconds, ["5", "1000"], "2500"), (Unit::Seconds, ["0.000005", "0.001"], "0.0025")]
        {
            let mut text = Exposition::default();
            text.histograms("t", "T").durations(&[("p", "x")], &times, unit);
            let expected = format!(
                "# HELP t T\n# TYPE t histogram\nt_bucket{{p=\"x\",le=\"{}\"}} 2\nt_bucket{{p=\"x\",le=\"{}\"}} 3\n\
                 t_bucket{{p=\"x\",le=\"+Inf\"}} 7\nt_sum{{p=\"x\"}} {sum}\nt_count{{p=\"x\"}} 7\n",
                bounds[0], bounds[1]
            );
            assert_eq!(text.finish(), expected);
        }
    }
}
