//! A refusal for lack of room: what is in the way, and what would fit. It is worded by what somebody may see: the labs in
//! the way are those of others, and nobody is told of one that they may not see.

use std::collections::HashSet;
use std::fmt;

use jiff::Timestamp;

use super::amounts::Resource;
use super::timeline::Span;
use crate::labs::model::LabId;

/// Most labs that are named.
const NAMED: usize = 5;
/// Most labs of which it is asked whether somebody may see them.
const ASKED: usize = 50;

/// A lab that has reserved what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InTheWay {
    pub(super) lab: LabId,
    pub(super) name: String,
    /// When it lets go of it.
    pub(super) until: Option<Timestamp>,
}

/// What would fit instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instead {
    /// The same from then on.
    From(Timestamp),
    /// It may run until then.
    Until(Timestamp),
    /// There is no later time.
    Never,
    /// Nobody can say.
    Unknown,
}

/// There is not enough left of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoom {
    /// Whose limit it is: this collection's; `None`: the server's.
    pub(super) collection: Option<String>,
    pub(super) resource: Resource,
    pub(super) limit: u64,
    /// How much others have of it.
    pub(super) taken: u64,
    /// How much would be needed.
    pub(super) needed: u64,
    /// When there isn't enough; `None`: there never is.
    pub(super) span: Option<Span>,
    /// When it was asked.
    pub(super) now: Timestamp,
    pub(super) in_the_way: Vec<InTheWay>,
    pub(super) instead: Instead,
}

impl std::error::Error for NoRoom {}

/// For those of whom nothing is known: no lab is named.
impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(None))
    }
}

impl NoRoom {
    /// The labs in the way that may be named, to those who may see them.
    pub fn labs(&self) -> impl Iterator<Item = &LabId> {
        self.in_the_way.iter().take(ASKED).map(|lab| &lab.lab)
    }

    /// A sentence for somebody who may see these labs.
    pub fn sentence(&self, seen: &HashSet<LabId>) -> String {
        self.words(Some(seen))
    }

    fn words(&self, seen: Option<&HashSet<LabId>>) -> String {
        let who = self.collection.as_ref().map_or_else(|| "this server".to_owned(), |name| format!("'{name}'"));
        let (limit, needed) = (amount(self.limit, self.resource), amount(self.needed, self.resource));
        let unit = match self.resource {
            Resource::Labs => "labs",
            Resource::Nodes => "nodes",
            Resource::Memory => "memory",
        };
        let Some(span) = self.span else {
            return format!("it doesn't fit: {who} has room for {limit} {unit} in all, and {needed} would be needed");
        };
        let taken = amount(self.taken, self.resource);
        let free = amount(self.limit.saturating_sub(self.taken), self.resource);
        let period = match (span.from <= self.now, span.until) {
            (true, None) => "from now on".to_owned(),
            (true, Some(until)) => format!("from now until {until}"),
            (false, None) => format!("from {} on", span.from),
            (false, Some(until)) => format!("between {} and {until}", span.from),
        };
        let mut words =
            format!("it doesn't fit: {who} has {taken} of {limit} {unit} {period} ({free} free, {needed} needed)");
        let those = self.those(seen);
        if !those.is_empty() {
            words.push_str(&format!(": {}", listed(&those)));
        }
        match self.instead {
            Instead::From(time) => words.push_str(&format!("; it would fit from {time} on")),
            Instead::Until(time) => words.push_str(&format!("; there is room for it until {time}")),
            Instead::Never => words.push_str("; as things are, there is no later time at which it would fit"),
            Instead::Unknown => {}
        }
        words
    }

    /// The labs in the way, by name as far as they may be named.
    fn those(&self, seen: Option<&HashSet<LabId>>) -> Vec<String> {
        let Some(seen) = seen else {
            let count = self.in_the_way.len();
            return if count == 0 { Vec::new() } else { vec![labs(count)] };
        };
        let named = |lab: &InTheWay| match lab.until {
            Some(until) => format!("{} (until {until})", lab.name),
            None => format!("{} (without an end)", lab.name),
        };
        let asked = self.in_the_way.len().min(ASKED);
        let visible: Vec<_> = self.in_the_way[..asked].iter().filter(|lab| seen.contains(&lab.lab)).collect();
        let mut those: Vec<String> = visible.iter().take(NAMED).map(|lab| named(lab)).collect();
        match asked - visible.len() {
            0 => {}
            1 => those.push("one you can't see".to_owned()),
            hidden => those.push(format!("{hidden} you can't see")),
        }
        match self.in_the_way.len() - asked + visible.len().saturating_sub(NAMED) {
            0 => {}
            more => those.push(format!("{more} more")),
        }
        those
    }
}

/// So much of a resource, in words.
fn amount(amount: u64, resource: Resource) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    if resource != Resource::Memory {
        return amount.to_string();
    }
    let Some((unit, shift)) = UNITS.into_iter().find(|(_, shift)| amount >> shift > 0) else {
        return if amount == 0 { "0".to_owned() } else { format!("{amount} B") };
    };
    let (whole, rest) = (amount >> shift, amount & ((1 << shift) - 1));
    // Tenths, which are enough to see what is meant.
    match (u128::from(rest) * 10) >> shift {
        0 => format!("{whole} {unit}"),
        tenths => format!("{whole}.{tenths} {unit}"),
    }
}

fn labs(count: usize) -> String {
    if count == 1 { "one lab".to_owned() } else { format!("{count} labs") }
}

/// `a`, `a and b`, `a, b, and c`.
fn listed(all: &[String]) -> String {
    match all {
        [] => String::new(),
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        [others @ .., last] => format!("{}, and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        format!("2030-01-31T{text}:00Z").parse().expect("a time")
    }

    fn in_the_way(lab: &str, until: Option<&str>) -> InTheWay {
        InTheWay { lab: lab.into(), name: lab.to_owned(), until: until.map(time) }
    }

    fn full() -> NoRoom {
        NoRoom {
            collection: Some("course".to_owned()),
            resource: Resource::Labs,
            limit: 3,
            taken: 3,
            needed: 1,
            span: Some(Span { from: time("14:00"), until: Some(time("15:30")) }),
            now: time("08:00"),
            in_the_way: vec![
                in_the_way("bgp", Some("15:30")),
                in_the_way("ospf", Some("16:00")),
                in_the_way("secret", None),
            ],
            instead: Instead::From(time("15:30")),
        }
    }

    fn seen(labs: &[&str]) -> HashSet<LabId> {
        labs.iter().map(|&lab| lab.into()).collect()
    }

    #[test]
    fn what_is_in_the_way_is_named_as_far_as_it_may_be_seen() {
        assert_eq!(
            full().sentence(&seen(&["bgp", "ospf"])),
            "it doesn't fit: 'course' has 3 of 3 labs between 2030-01-31T14:00:00Z and 2030-01-31T15:30:00Z (0 free, 1 \
             needed): bgp (until 2030-01-31T15:30:00Z), ospf (until 2030-01-31T16:00:00Z), and one you can't see; it would \
             fit from 2030-01-31T15:30:00Z on"
        );
        assert!(full().sentence(&seen(&[])).contains("needed): 3 you can't see; "));
        assert!(full().sentence(&seen(&["secret"])).contains(": secret (without an end) and 2 you can't see"));
    }

    #[test]
    fn nothing_is_named_where_nobody_knows_who_hears_it() {
        let words = full().to_string();
        assert!(words.contains("needed): 3 labs; ") && !words.contains("bgp"), "{words}");
    }

    #[test]
    fn many_labs_are_counted_rather_than_named() {
        let many: Vec<_> = (0..80).map(|number| in_the_way(&format!("lab{number}"), Some("15:30"))).collect();
        let ids: Vec<_> = many.iter().map(|lab| lab.name.clone()).collect();
        let no_room = NoRoom { in_the_way: many, ..full() };
        assert_eq!(no_room.labs().count(), ASKED);
        let words = no_room.sentence(&ids.iter().map(|id| id.as_str().into()).collect());
        assert!(words.contains("lab4 (until") && !words.contains("lab5 ") && words.contains("and 75 more"), "{words}");
    }

    #[test]
    fn limits_of_the_server_and_those_that_never_suffice_are_said_as_such() {
        let memory = NoRoom {
            collection: None,
            resource: Resource::Memory,
            limit: 32 << 30,
            taken: (30 << 30) + (512 << 20),
            needed: 2 << 30,
            span: Some(Span { from: time("08:00"), until: None }),
            in_the_way: Vec::new(),
            instead: Instead::Never,
            ..full()
        };
        assert_eq!(
            memory.to_string(),
            "it doesn't fit: this server has 30.5 GiB of 32 GiB memory from now on (1.5 GiB free, 2 GiB needed); as things \
             are, there is no later time at which it would fit"
        );
        let never = NoRoom { resource: Resource::Nodes, limit: 20, needed: 30, span: None, ..full() };
        let words = "it doesn't fit: 'course' has room for 20 nodes in all, and 30 would be needed";
        assert_eq!(never.to_string(), words);
    }
}
