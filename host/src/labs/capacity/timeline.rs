//! How much is taken when: a sweep over the moments at which something begins or ends. Pure: it knows neither clock nor labs.

use jiff::Timestamp;

use super::amounts::{Amounts, Limits, Resource};

/// From one moment on, and until before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it; `None`: it has no end.
    pub until: Option<Timestamp>,
}

impl Span {
    /// Whether there is a moment that is in both.
    pub(super) fn meets(self, other: Self) -> bool {
        self.until.is_none_or(|until| until > other.from) && other.until.is_none_or(|until| until > self.from)
    }
}

/// The same of the whole server, and of the collection that is asked about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Both<T> {
    pub(super) all: T,
    pub(super) own: T,
}

/// Whether a limit is that of the whole server or that of the collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Own,
}

impl<T: Copy> Both<T> {
    pub(super) fn of(&self, scope: Scope) -> T {
        match scope {
            Scope::All => self.all,
            Scope::Own => self.own,
        }
    }
}

impl Both<Amounts> {
    fn each(self, other: Self, by: impl Fn(Amounts, Amounts) -> Amounts) -> Self {
        Self { all: by(self.all, other.all), own: by(self.own, other.own) }
    }
}

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Of labs that are not asked about.
    Others,
    /// Of those that are, as it is.
    Before,
    /// Of those that are, as it would be.
    After,
}

/// So much is taken for so long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) side: Side,
    pub(super) span: Span,
    /// Of which `own` counts for the collection.
    pub(super) amounts: Both<Amounts>,
}

/// How much is taken at some moment.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    others: Both<Amounts>,
    before: Both<Amounts>,
    after: Both<Amounts>,
}

impl Taken {
    fn side(&mut self, side: Side) -> &mut Both<Amounts> {
        match side {
            Side::Others => &mut self.others,
            Side::Before => &mut self.before,
            Side::After => &mut self.after,
        }
    }

    /// A limit that would be exceeded, and more so than it is already.
    fn exceeds(&self, limits: &Both<Limits>) -> Option<(Scope, Resource)> {
        let exceeded = |scope: Scope, resource: Resource| {
            let [others, before, after] = [self.others, self.before, self.after].map(|one| one.of(scope).of(resource));
            let limit = limits.of(scope).of(resource);
            after > before && limit.is_some_and(|limit| others.saturating_add(after) > limit)
        };
        let all = [Scope::Own, Scope::All].into_iter();
        let mut all = all.flat_map(|scope| Resource::ALL.into_iter().map(move |resource| (scope, resource)));
        all.find(|(scope, resource)| exceeded(*scope, *resource))
    }
}

/// A limit would be exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overrun {
    pub(super) scope: Scope,
    pub(super) resource: Resource,
    /// The first time for which it would be.
    pub(super) span: Span,
    /// Most that others have taken meanwhile.
    pub(super) taken: u64,
    /// Most that would be needed meanwhile.
    pub(super) needed: u64,
}

/// How much is taken, from the first moment at which something is: each entry counts until the next.
#[derive(Debug)]
pub(super) struct Timeline(Vec<(Timestamp, Taken)>);

impl Timeline {
    pub(super) fn of(parts: &[Part]) -> Self {
        let mut changes = Vec::with_capacity(2 * parts.len());
        for part in parts.iter().filter(|part| part.span.until.is_none_or(|until| until > part.span.from)) {
            changes.push((part.span.from, true, part));
            changes.extend(part.span.until.map(|until| (until, false, part)));
        }
        changes.sort_unstable_by_key(|(at, ..)| *at);
        let mut steps: Vec<(Timestamp, Taken)> = Vec::new();
        let mut taken = Taken::default();
        for (at, begins, part) in changes {
            let side = taken.side(part.side);
            *side = side.each(part.amounts, if begins { Amounts::plus } else { Amounts::minus });
            match steps.last_mut() {
                Some((last, step)) if *last == at => *step = taken,
                _ => steps.push((at, taken)),
            }
        }
        Self(steps)
    }

    /// Each time during which nothing changes, in order and without gaps. The last one has no end.
    fn steps(&self) -> impl Iterator<Item = (Span, &Taken)> {
        let next = self.0.iter().skip(1).map(|(at, _)| Some(*at)).chain([None]);
        self.0.iter().zip(next).map(|((from, taken), until)| (Span { from: *from, until }, taken))
    }

    /// The first time for which a limit would be exceeded by what is asked about, and more so than it is already.
    pub(super) fn overrun(&self, limits: &Both<Limits>) -> Option<Overrun> {
        let mut found: Option<Overrun> = None;
        for (span, taken) in self.steps() {
            let exceeded = taken.exceeds(limits);
            let Some((scope, resource)) = found.map(|overrun| (overrun.scope, overrun.resource)).or(exceeded) else {
                continue;
            };
            if exceeded != Some((scope, resource)) {
                break;
            }
            let amounts = |side: &Both<Amounts>| side.of(scope).of(resource);
            let (others, needed) = (amounts(&taken.others), amounts(&taken.after));
            let overrun = found.get_or_insert(Overrun { scope, resource, span, taken: 0, needed: 0 });
            overrun.span.until = span.until;
            overrun.taken = overrun.taken.max(others);
            overrun.needed = overrun.needed.max(needed);
        }
        found
    }

    /// The earliest moment, from the beginning of `wanted` on, from which something that takes `amounts` would fit beside the
    /// others: for as long as `wanted` is, or, with `keep_end`, until that ends.
    pub(super) fn earliest(
        &self,
        wanted: Span,
        amounts: Amounts,
        limits: &Both<Limits>,
        keep_end: bool,
    ) -> Option<Timestamp> {
        let after = Both { all: amounts, own: amounts };
        if (Taken { after, ..Taken::default() }).exceeds(limits).is_some() {
            return None;
        }
        let length = wanted.until.map(|until| wanted.from.duration_until(until));
        let mut from = wanted.from;
        for (span, taken) in self.steps() {
            // What would be beyond the end of all time is taken for endless.
            let until = if keep_end { wanted.until } else { length.and_then(|length| from.checked_add(length).ok()) };
            if until.is_some_and(|until| until <= span.from) {
                break;
            }
            if span.until.is_some_and(|until| until <= from) {
                continue;
            }
            if (Taken { others: taken.others, after, ..Taken::default() }).exceeds(limits).is_some() {
                from = span.until?;
                if keep_end && wanted.until.is_some_and(|until| until <= from) {
                    return None;
                }
            }
        }
        Some(from)
    }

    /// Most that others have taken of each resource within a time.
    pub(super) fn peak(&self, within: Span) -> Amounts {
        let meanwhile = self.steps().filter(|(span, _)| span.meets(within));
        meanwhile.fold(Amounts::default(), |most, (_, taken)| most.max(taken.others.all))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Moments are whole seconds from 0 to here in these tests, so that all of them can be looked at.
    const END: i64 = 24;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn contains(span: Span, moment: Timestamp) -> bool {
        span.from <= moment && span.until.is_none_or(|until| moment < until)
    }

    fn any_span() -> impl Strategy<Value = Span> {
        let until = prop_oneof![3 => (1..8_i64).prop_map(Some), 1 => Just(None)];
        (0..16_i64, until)
            .prop_map(|(from, length)| Span { from: at(from), until: length.map(|length| at(from + length)) })
    }

    fn any_amounts() -> impl Strategy<Value = Amounts> {
        (1..4_u64, 0..6_u64).prop_map(|(nodes, memory)| Amounts { labs: 1, nodes, memory })
    }

    fn any_part() -> impl Strategy<Value = Part> {
        let side = prop_oneof![6 => Just(Side::Others), 1 => Just(Side::Before), 1 => Just(Side::After)];
        (side, any_span(), any_amounts(), any::<bool>()).prop_map(|(side, span, all, own)| {
            let own = if own { all } else { Amounts::default() };
            Part { side, span, amounts: Both { all, own } }
        })
    }

    fn any_limits() -> impl Strategy<Value = Limits> {
        let limit = |most: u64| prop_oneof![1 => Just(None), 2 => (0..most).prop_map(Some)];
        (limit(5), limit(12), limit(16)).prop_map(|(labs, nodes, memory)| Limits { labs, nodes, memory })
    }

    /// How much a side takes at a moment, counted one by one.
    fn taken(parts: &[Part], side: Side, scope: Scope, resource: Resource, moment: Timestamp) -> u64 {
        let there = parts.iter().filter(|part| part.side == side && contains(part.span, moment));
        there.map(|part| part.amounts.of(scope).of(resource)).sum()
    }

    /// The limit that would be exceeded at a moment, by looking at each.
    fn exceeded(parts: &[Part], limits: &Both<Limits>, moment: Timestamp) -> Option<(Scope, Resource)> {
        let count = |side, scope, resource| taken(parts, side, scope, resource, moment);
        for scope in [Scope::Own, Scope::All] {
            for resource in Resource::ALL {
                let [others, before, after] =
                    [Side::Others, Side::Before, Side::After].map(|side| count(side, scope, resource));
                if limits.of(scope).of(resource).is_some_and(|limit| others + after > limit) && after > before {
                    return Some((scope, resource));
                }
            }
        }
        None
    }

    proptest! {
        #[test]
        fn the_first_overrun_is_that_of_a_count_moment_by_moment(
            parts in prop::collection::vec(any_part(), 0..12), all in any_limits(), own in any_limits(),
        ) {
            let limits = Both { all, own };
            let found = Timeline::of(&parts).overrun(&limits);
            let moments = (0..END).map(at).filter_map(|moment| Some((moment, exceeded(&parts, &limits, moment)?)));
            let first = moments.into_iter().next();
            prop_assert_eq!(found.map(|overrun| (overrun.span.from, (overrun.scope, overrun.resource))), first);
            if let Some(Overrun { scope, resource, span, taken: most, needed }) = found {
                let meanwhile = (0..END).map(at).filter(|moment| contains(span, *moment));
                let count = |side, moment| taken(&parts, side, scope, resource, moment);
                let (mut others, mut after) = (0, 0);
                for moment in meanwhile {
                    prop_assert_eq!(exceeded(&parts, &limits, moment), Some((scope, resource)));
                    others = others.max(count(Side::Others, moment));
                    after = after.max(count(Side::After, moment));
                }
                prop_assert_eq!((most, needed), (others, after));
                if let Some(until) = span.until {
                    prop_assert_ne!(exceeded(&parts, &limits, until), Some((scope, resource)));
                }
            }
        }

        #[test]
        fn the_earliest_start_is_that_of_trying_every_one(
            parts in prop::collection::vec(any_part(), 0..12), all in any_limits(), own in any_limits(),
            wanted in any_span(), amounts in any_amounts(), keep_end: bool,
        ) {
            let limits = Both { all, own };
            let others: Vec<Part> = parts.into_iter().filter(|part| part.side == Side::Others).collect();
            let length = wanted.until.map(|until| wanted.from.duration_until(until));
            let fits = |from: Timestamp| {
                let until = if keep_end { wanted.until } else { length.map(|length| from + length) };
                if until.is_some_and(|until| until <= from) {
                    return false;
                }
                let span = Span { from, until };
                let mut parts = others.clone();
                parts.push(Part { side: Side::After, span, amounts: Both { all: amounts, own: amounts } });
                (0..2 * END).map(at).filter(|moment| contains(span, *moment)).all(|moment| exceeded(&parts, &limits, moment).is_none())
            };
            let naive = (wanted.from.as_second()..END).map(at).find(|from| fits(*from));
            prop_assert_eq!(Timeline::of(&others).earliest(wanted, amounts, &limits, keep_end), naive);
        }

        #[test]
        fn the_peak_is_the_most_that_is_taken_at_any_moment(
            parts in prop::collection::vec(any_part(), 0..12), within in any_span(),
        ) {
            let peak = Timeline::of(&parts).peak(within);
            for resource in Resource::ALL {
                let meanwhile = (0..2 * END).map(at).filter(|moment| contains(within, *moment));
                let most = meanwhile.map(|moment| taken(&parts, Side::Others, Scope::All, resource, moment)).max();
                prop_assert_eq!(peak.of(resource), most.unwrap_or_default());
            }
        }
    }

    #[test]
    fn what_begins_when_another_ends_does_not_meet_it() {
        let part = |side, from, until| Part {
            side,
            span: Span { from: at(from), until: Some(at(until)) },
            amounts: Both { all: Amounts { labs: 1, ..Amounts::default() }, own: Amounts::default() },
        };
        let limits = Both { all: Limits { labs: Some(1), ..Limits::default() }, own: Limits::default() };
        assert_eq!(Timeline::of(&[part(Side::Others, 0, 5), part(Side::After, 5, 9)]).overrun(&limits), None);
        let overrun = Timeline::of(&[part(Side::Others, 0, 5), part(Side::After, 4, 9)]).overrun(&limits);
        assert_eq!(overrun.map(|overrun| overrun.span), Some(Span { from: at(4), until: Some(at(5)) }));
    }
}
