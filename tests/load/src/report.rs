//! The table: figures of several rounds, their medians, and how they stand to what is aimed at.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is measured of each server. In the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    RoundTrip,
    RoundTripTail,
    AcksPerSecond,
    AckUnderLoad,
    AckTailUnderLoad,
    CpuPerAck,
    Burst,
    CpuPerBurstMessage,
    PacedRate,
    CpuPerPacedMessage,
    SwitchesPerPacedMessage,
    MemoryPerClient,
    EmptyMemory,
    Start,
    ClientAtAcks,
    ClientAtBurst,
    ClientPaced,
    Lost,
    Disordered,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
enum Aim {
    None,
    AtMost(f64),
    /// At most so many times what the second server has.
    AtMostTimesBare(f64),
    /// At least so many times what the third server has.
    AtLeastTimesNode(f64),
    /// At least so many times what the second server has, or what the third has.
    AtLeastTimesEither(f64, f64),
}

impl Figure {
    const ALL: [Self; 19] = [
        Self::RoundTrip,
        Self::RoundTripTail,
        Self::AcksPerSecond,
        Self::AckUnderLoad,
        Self::AckTailUnderLoad,
        Self::CpuPerAck,
        Self::Burst,
        Self::CpuPerBurstMessage,
        Self::PacedRate,
        Self::CpuPerPacedMessage,
        Self::SwitchesPerPacedMessage,
        Self::MemoryPerClient,
        Self::EmptyMemory,
        Self::Start,
        Self::ClientAtAcks,
        Self::ClientAtBurst,
        Self::ClientPaced,
        Self::Lost,
        Self::Disordered,
    ];

    /// Its row's name, and how it is written.
    fn label(self, sizes: &Sizes) -> (String, usize) {
        let Sizes { clients, idle, paced, .. } = sizes;
        let paced = thousands(*paced as f64, 0);
        match self {
            Self::RoundTrip => ("command ack round trip, 1 client, p50, µs".into(), 0),
            Self::RoundTripTail => ("same, p99, µs".into(), 0),
            Self::AcksPerSecond => (format!("acks/s, {clients} clients"), 0),
            Self::AckUnderLoad => ("same, ack p50, ms".into(), 1),
            Self::AckTailUnderLoad => ("same, ack p99, ms".into(), 1),
            Self::CpuPerAck => ("same, server CPU per ack, µs".into(), 1),
            Self::Burst => (format!("log fan-out to {clients} clients, unpaced, delivered/s"), 0),
            Self::CpuPerBurstMessage => ("same, server CPU per delivered message, µs".into(), 2),
            Self::PacedRate => (format!("log fan-out to {clients} clients, paced at {paced}/s, delivered/s"), 0),
            Self::CpuPerPacedMessage => ("log fan-out, paced: server CPU per delivered message, µs".into(), 2),
            Self::SwitchesPerPacedMessage => ("same, sleeps of server threads per delivered message".into(), 3),
            Self::MemoryPerClient => (format!("memory per idle client in 4 namespaces ({idle} clients), KiB"), 1),
            Self::EmptyMemory => ("memory of the server without clients, MiB".into(), 1),
            Self::Start => ("start to first accepted connection, warm cache, ms".into(), 0),
            Self::ClientAtAcks => ("the client's own load at acks/s, % of its processors".into(), 0),
            Self::ClientAtBurst => ("the client's own load at fan-out, unpaced, % of its processors".into(), 0),
            Self::ClientPaced => ("the client's own load at fan-out, paced, % of its processors".into(), 0),
            Self::Lost => ("messages lost, all rounds".into(), 0),
            Self::Disordered => ("messages doubled or out of order, all rounds".into(), 0),
        }
    }

    fn aim(self) -> Aim {
        match self {
            Self::RoundTrip => Aim::AtMostTimesBare(1.2),
            Self::AcksPerSecond => Aim::AtLeastTimesNode(1.2),
            Self::Burst => Aim::AtLeastTimesEither(0.8, 10.0),
            Self::CpuPerPacedMessage => Aim::AtMost(3.0),
            Self::MemoryPerClient => Aim::AtMost(40.0),
            Self::Start => Aim::AtMost(150.0),
            Self::Lost | Self::Disordered => Aim::AtMost(0.0),
            _ => Aim::None,
        }
    }

    /// Whether rounds are added up rather than halved.
    fn is_sum(self) -> bool {
        matches!(self, Self::Lost | Self::Disordered)
    }
}

/// How much of everything there was.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    pub(crate) clients: usize,
    pub(crate) idle: usize,
    /// Delivered messages per second.
    pub(crate) paced: u64,
    pub(crate) rounds: usize,
}

/// All figures of one server.
#[derive(Debug, Default)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    samples: BTreeMap<Figure, Vec<f64>>,
}

impl Column {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    pub(crate) fn add(&mut self, figure: Figure, value: f64) {
        self.samples.entry(figure).or_default().push(value);
    }

    /// Adds the samples of another round.
    pub(crate) fn append(&mut self, round: Self) {
        for (figure, samples) in round.samples {
            self.samples.entry(figure).or_default().extend(samples);
        }
    }

    pub(crate) fn value(&self, figure: Figure) -> Option<f64> {
        let mut samples = self.samples.get(&figure)?.clone();
        if figure.is_sum() {
            return Some(samples.iter().sum());
        }
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        let odd = samples.len() % 2 == 1;
        Some(if odd { samples[middle] } else { (samples[middle - 1] + samples[middle]) / 2.0 })
    }

    /// The least and the greatest sample.
    fn range(&self, figure: Figure) -> Option<(f64, f64)> {
        let samples = self.samples.get(&figure)?;
        let least = samples.iter().copied().min_by(f64::total_cmp)?;
        Some((least, samples.iter().copied().max_by(f64::total_cmp)?))
    }
}

/// The table, in Markdown. The first column is the server that the aims are for; the second is bare socketioxide and the
/// third Node's, as far as there are any.
pub(crate) fn table(columns: &[Column], sizes: &Sizes) -> String {
    let mut rows = vec![{
        let mut head = vec!["figure".to_owned()];
        head.extend(columns.iter().map(|column| column.name.to_owned()));
        head.extend(["aim".to_owned(), "met".to_owned()]);
        head
    }];
    for figure in Figure::ALL {
        let (label, digits) = figure.label(sizes);
        let mut row = vec![label];
        for column in columns {
            let value = column.value(figure).map_or("–".to_owned(), |value| thousands(value, digits));
            row.push(value);
        }
        let (aim, met) = judge(figure, columns, digits);
        row.extend([aim, met]);
        rows.push(row);
    }
    markdown(&rows)
}

/// How far apart the rounds were.
pub(crate) fn spread(columns: &[Column], sizes: &Sizes) -> String {
    let mut rows = vec![{
        let mut head = vec!["least – greatest of the rounds".to_owned()];
        head.extend(columns.iter().map(|column| column.name.to_owned()));
        head
    }];
    for figure in Figure::ALL.into_iter().filter(|figure| !matches!(figure.aim(), Aim::None) && !figure.is_sum()) {
        let (label, digits) = figure.label(sizes);
        let mut row = vec![label];
        for column in columns {
            let range = column.range(figure);
            let text = range.map(|(least, most)| format!("{} – {}", thousands(least, digits), thousands(most, digits)));
            row.push(text.unwrap_or_else(|| "–".to_owned()));
        }
        rows.push(row);
    }
    markdown(&rows)
}

fn judge(figure: Figure, columns: &[Column], digits: usize) -> (String, String) {
    let value = |column: usize| columns.get(column).and_then(|column| column.value(figure));
    let ours = value(0);
    let verdict = |met: Option<bool>| met.map_or("–", |met| if met { "yes" } else { "no" }).to_owned();
    match figure.aim() {
        Aim::None => (String::new(), String::new()),
        Aim::AtMost(most) => (format!("≤ {}", thousands(most, 0)), verdict(ours.map(|ours| ours <= most))),
        Aim::AtMostTimesBare(times) => {
            let most = value(1).map(|bare| bare * times);
            let text = most.map_or(String::new(), |most| format!(" = {}", thousands(most, digits)));
            (format!("≤ {times} × bare{text}"), verdict(ours.zip(most).map(|(ours, most)| ours <= most)))
        }
        Aim::AtLeastTimesNode(times) => {
            let least = value(2).map(|node| node * times);
            let text = least.map_or(String::new(), |least| format!(" = {}", thousands(least, digits)));
            (format!("≥ {times} × Node{text}"), verdict(ours.zip(least).map(|(ours, least)| ours >= least)))
        }
        Aim::AtLeastTimesEither(bare, node) => {
            let (by_bare, by_node) = (value(1).map(|value| value * bare), value(2).map(|value| value * node));
            let text = |least: Option<f64>| least.map_or("?".to_owned(), |least| thousands(least, digits));
            let aim = format!("≥ {bare} × bare = {} (≥ {node} × Node = {})", text(by_bare), text(by_node));
            let reached = |least: Option<f64>| verdict(ours.zip(least).map(|(ours, least)| ours >= least));
            (aim, format!("{} ({})", reached(by_bare), reached(by_node)))
        }
    }
}

fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0).max(3)).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let space = " ".repeat(widths[column] - cell.chars().count());
            let _ = if column == 0 { write!(text, "| {cell}{space} ") } else { write!(text, "| {space}{cell} ") };
        }
        text.push_str("|\n");
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let line = "-".repeat(width - 1);
                let _ = if column == 0 { write!(text, "| {line}- ") } else { write!(text, "| {line}: ") };
            }
            text.push_str("|\n");
        }
    }
    text
}

/// A number with its thousands set apart.
fn thousands(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |text| ("-", text));
    let (whole, fraction) =
        text.split_once('.').map_or((text, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(thousands(1_234_567.0, 0), "1 234 567");
        assert_eq!(thousands(999.0, 0), "999");
        assert_eq!(thousands(-1234.56, 1), "-1 234.6");
    }

    #[test]
    fn medians_are_of_rounds_and_losses_are_added_up() {
        let mut column = Column::new("x");
        for value in [9.0, 1.0, 2.0] {
            column.add(Figure::Burst, value);
            column.add(Figure::Lost, value);
        }
        assert_eq!(column.value(Figure::Burst), Some(2.0));
        assert_eq!(column.value(Figure::Lost), Some(12.0));
        assert_eq!(column.value(Figure::Start), None);
    }

    #[test]
    fn an_aim_is_judged_by_the_columns_that_are_there() {
        let mut columns = [Column::new("ours"), Column::new("bare"), Column::new("Node")];
        columns[0].add(Figure::Burst, 800.0);
        columns[1].add(Figure::Burst, 1000.0);
        assert_eq!(judge(Figure::Burst, &columns, 0).1, "yes (–)");
        columns[2].add(Figure::Burst, 81.0);
        assert_eq!(judge(Figure::Burst, &columns, 0).1, "yes (no)");
        columns[0].add(Figure::MemoryPerClient, 41.0);
        assert_eq!(judge(Figure::MemoryPerClient, &columns, 0), ("≤ 40".to_owned(), "no".to_owned()));
    }
}
