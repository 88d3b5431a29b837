//! Who has reserved what. The tasks of labs write down how their lab is; whoever wants to change that claims beforehand what
//! it would be, and holds the [`Claim`] until it has been done or given up.
//!
//! One lock guards all of it, is held for a look or an entry only, and never over an await. What is looked at and entered
//! under it is one step, so that of two who want the last place one gets it. A lab takes, at each moment, the most of what
//! it is and what is claimed for it: whichever of them comes true, there is room.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::amounts::{Amounts, Limits, Resource};
use super::config::CapacityConfig;
use super::no_room::{InTheWay, Instead, NoRoom};
use super::timeline::{Both, Overrun, Part, Scope, Side, Span, Timeline};
use crate::labs::model::{Collection, CollectionId, LabId, LabSnapshot, TopologyId};

/// For how long an instance counts still whose time is over: it is being destroyed, or that will be tried again.
const OVERDUE: SignedDuration = SignedDuration::from_mins(1);

/// When a lab takes what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// It has an instance.
    Now,
    /// The schedule starts it then.
    From(Timestamp),
    /// Somebody may deploy it, or nobody.
    Unknown,
}

/// What a lab takes, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::labs) struct Booking {
    lab: LabId,
    name: String,
    topology: TopologyId,
    collection: CollectionId,
    when: When,
    end: Option<Timestamp>,
    amounts: Amounts,
}

impl Booking {
    /// What a lab takes as it is.
    fn of(snapshot: &LabSnapshot, memory_per_node: u64) -> Self {
        let lab = &snapshot.lab;
        let when = match snapshot.instance {
            Some(_) => When::Now,
            None if lab.start_pending => When::From(lab.start_time),
            None => When::Unknown,
        };
        Self {
            lab: lab.id.clone(),
            name: lab.name.clone(),
            topology: lab.topology_id.clone(),
            collection: snapshot.collection.id.clone(),
            when,
            end: lab.end_time,
            amounts: Amounts::of_lab(&snapshot.topology, memory_per_node),
        }
    }

    /// The time for which it takes that, as things are at `now`.
    fn span(&self, now: Timestamp) -> Option<Span> {
        let over = self.end.is_some_and(|end| end <= now);
        match self.when {
            When::Now if over => Some(Span { from: now, until: now.checked_add(OVERDUE).ok() }),
            When::Now => Some(Span { from: now, until: self.end }),
            When::From(_) if over => None,
            When::From(start) => Some(Span { from: start.max(now), until: self.end }),
            When::Unknown => None,
        }
    }
}

/// What a claim is for, by which it is said what would fit instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::labs) enum Purpose {
    /// A lab is created or changed, and may be at another time.
    Plan,
    /// A lab is deployed by hand.
    Deploy,
    /// A lab that runs gets another end.
    Extend,
    /// A topology is changed, and all labs with it that are to be started.
    Topology,
}

/// How much is reserved.
#[derive(Debug, Clone)]
pub struct Reserved {
    /// By all labs together.
    pub all: Amounts,
    /// By the labs of each collection that has any.
    pub collections: HashMap<CollectionId, Amounts>,
}

/// What is known of a lab.
#[derive(Debug, Default)]
struct Entry {
    /// How it is; `None` while it is being created.
    booked: Option<Booking>,
    /// How it may come to be, and by which claim.
    claims: Vec<(u64, Booking)>,
}

impl Entry {
    fn bookings(&self) -> impl Iterator<Item = &Booking> {
        self.booked.iter().chain(self.claims.iter().map(|(_, booking)| booking))
    }
}

#[derive(Debug, Default)]
struct Entries {
    labs: HashMap<LabId, Entry>,
    last_claim: u64,
}

/// The book. There is one for all labs.
#[derive(Debug, Default)]
pub(in crate::labs) struct Book {
    config: CapacityConfig,
    entries: Mutex<Entries>,
}

/// Something claimed, which counts as taken until this is dropped.
#[derive(Debug)]
#[must_use = "what is claimed is let go of when this is dropped"]
pub struct Claim {
    book: Arc<Book>,
    number: u64,
    labs: Vec<LabId>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut entries = self.book.entries();
        for lab in &self.labs {
            let Some(entry) = entries.labs.get_mut(lab) else { continue };
            entry.claims.retain(|(number, _)| *number != self.number);
            if entry.booked.is_none() && entry.claims.is_empty() {
                entries.labs.remove(lab);
            }
        }
    }
}

impl Book {
    pub(in crate::labs) fn new(config: CapacityConfig) -> Self {
        Self { config, entries: Mutex::default() }
    }

    /// The limits.
    pub(in crate::labs) fn config(&self) -> &CapacityConfig {
        &self.config
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lab is like this now.
    pub(in crate::labs) fn note(&self, lab: &LabSnapshot) {
        let booking = Booking::of(lab, self.config.memory_per_node.0);
        self.entries().labs.entry(lab.lab.id.clone()).or_default().booked = Some(booking);
    }

    /// A lab is no more.
    pub(in crate::labs) fn forget(&self, lab: &LabId) {
        self.entries().labs.remove(lab);
    }

    /// What a lab would take as it is in `snapshot`.
    pub(in crate::labs) fn planned(&self, snapshot: &LabSnapshot) -> Booking {
        Booking::of(snapshot, self.config.memory_per_node.0)
    }

    /// What a lab would take if it were deployed now, as it is in `snapshot`.
    pub(in crate::labs) fn deployed(&self, snapshot: &LabSnapshot) -> Booking {
        Booking { when: When::Now, ..self.planned(snapshot) }
    }

    /// What the labs of a topology that are to be started would take if it were this one.
    pub(in crate::labs) fn with_topology(&self, id: &TopologyId, topology: &crate::topology::Topology) -> Vec<Booking> {
        let amounts = Amounts::of_lab(topology, self.config.memory_per_node.0);
        let entries = self.entries();
        let labs = entries.labs.values().filter_map(|entry| entry.bookings().last());
        let scheduled = labs.filter(|booking| booking.topology == *id && matches!(booking.when, When::From(_)));
        scheduled.map(|booking| Booking { amounts, ..booking.clone() }).collect()
    }

    /// Claims what the schedule has reserved already.
    pub(in crate::labs) fn hold(self: &Arc<Self>, wanted: Booking) -> Claim {
        self.enter(&mut self.entries(), vec![wanted])
    }

    /// Claims what labs of one collection would take. What they have already they keep, also where the limits have been
    /// lowered: it is looked at where they would take more than they do.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub(in crate::labs) fn claim(
        self: &Arc<Self>,
        wanted: Vec<Booking>,
        purpose: Purpose,
        collection: &Collection,
        now: Timestamp,
    ) -> Result<Claim, Box<NoRoom>> {
        let limits = Both { all: self.config.limits(), own: self.config.limits_of(&collection.name) };
        let mut entries = self.entries();
        if limits.all.is_none() && limits.own.is_none() {
            return Ok(self.enter(&mut entries, wanted));
        }
        let refused = |scope: Scope, resource: Resource, needed: u64| NoRoom {
            collection: (scope == Scope::Own).then(|| collection.name.clone()),
            resource,
            limit: limits.of(scope).of(resource).unwrap_or_default(),
            taken: 0,
            needed,
            span: None,
            now,
            in_the_way: Vec::new(),
            instead: Instead::Unknown,
        };
        if let Some((scope, resource, needed)) = entries.too_large(&wanted, &limits, &collection.id) {
            return Err(Box::new(refused(scope, resource, needed)));
        }
        let timeline = entries.timeline(&wanted, &collection.id, now);
        let Some(overrun) = timeline.overrun(&limits) else { return Ok(self.enter(&mut entries, wanted)) };
        let in_the_way = entries.in_the_way(&wanted, &overrun, &collection.id, now);
        drop(entries);
        let earliest = |keep_end: bool| {
            let [booking] = wanted.as_slice() else { return Instead::Unknown };
            let Some(span) = booking.span(now) else { return Instead::Unknown };
            timeline.earliest(span, booking.amounts, &limits, keep_end).map_or(Instead::Never, Instead::From)
        };
        let instead = match purpose {
            Purpose::Plan => earliest(false),
            Purpose::Deploy => earliest(true),
            Purpose::Extend if overrun.span.from > now => Instead::Until(overrun.span.from),
            Purpose::Extend | Purpose::Topology => Instead::Unknown,
        };
        Err(Box::new(NoRoom {
            taken: overrun.taken,
            span: Some(overrun.span),
            in_the_way,
            instead,
            ..refused(overrun.scope, overrun.resource, overrun.needed)
        }))
    }

    fn enter(self: &Arc<Self>, entries: &mut Entries, wanted: Vec<Booking>) -> Claim {
        entries.last_claim += 1;
        let number = entries.last_claim;
        let labs = wanted.iter().map(|booking| booking.lab.clone()).collect();
        for booking in wanted {
            entries.labs.entry(booking.lab.clone()).or_default().claims.push((number, booking));
        }
        Claim { book: Arc::clone(self), number, labs }
    }

    /// Most that is reserved of each resource within a time.
    pub(in crate::labs) fn reserved(&self, within: Span, now: Timestamp) -> Reserved {
        let mut all = Vec::new();
        let mut collections: HashMap<CollectionId, Vec<Part>> = HashMap::new();
        for entry in self.entries().labs.values() {
            all.extend(parts(entry.bookings(), Side::Others, now, |_| true));
            let those: BTreeSet<_> = entry.bookings().map(|booking| &booking.collection).collect();
            for collection in those {
                let own = entry.bookings().filter(|booking| booking.collection == *collection);
                collections.entry(collection.clone()).or_default().extend(parts(own, Side::Others, now, |_| true));
            }
        }
        let peak = |parts: &[Part]| Timeline::of(parts).peak(within);
        let collections = collections.into_iter().map(|(collection, parts)| (collection, peak(&parts)));
        Reserved { all: peak(&all), collections: collections.collect() }
    }
}

impl Entries {
    fn booked(&self, lab: &LabId) -> Option<&Booking> {
        self.labs.get(lab)?.booked.as_ref()
    }

    /// A lab that exceeds a limit by itself, unless it has done so before: no time would do.
    fn too_large(
        &self,
        wanted: &[Booking],
        limits: &Both<Limits>,
        own: &CollectionId,
    ) -> Option<(Scope, Resource, u64)> {
        let too_large = |booking: &Booking, scope: Scope, resource: Resource| {
            let counts = |before: &&Booking| scope == Scope::All || before.collection == *own;
            let before = self.booked(&booking.lab).filter(counts).map_or(0, |before| before.amounts.of(resource));
            let needed = booking.amounts.of(resource);
            let limit = limits.of(scope).of(resource);
            (needed > before && limit.is_some_and(|limit| needed > limit)).then_some((scope, resource, needed))
        };
        wanted.iter().find_map(|booking| {
            let scopes = [Scope::Own, Scope::All].into_iter();
            let mut all = scopes.flat_map(|scope| Resource::ALL.map(|resource| (scope, resource)));
            all.find_map(|(scope, resource)| too_large(booking, scope, resource))
        })
    }

    fn timeline(&self, wanted: &[Booking], own: &CollectionId, now: Timestamp) -> Timeline {
        let is_own = |booking: &Booking| booking.collection == *own;
        let asked: BTreeSet<_> = wanted.iter().map(|booking| &booking.lab).collect();
        let others = self.labs.iter().filter(|(lab, _)| !asked.contains(lab));
        let mut all: Vec<Part> =
            others.flat_map(|(_, entry)| parts(entry.bookings(), Side::Others, now, is_own)).collect();
        for booking in wanted {
            all.extend(parts(self.booked(&booking.lab).into_iter(), Side::Before, now, is_own));
            all.extend(parts([booking].into_iter(), Side::After, now, is_own));
        }
        Timeline::of(&all)
    }

    /// The labs that have what is wanted when it is, those first that let go of it first.
    fn in_the_way(&self, wanted: &[Booking], overrun: &Overrun, own: &CollectionId, now: Timestamp) -> Vec<InTheWay> {
        let asked: BTreeSet<_> = wanted.iter().map(|booking| &booking.lab).collect();
        let counts = |booking: &Booking| {
            (overrun.scope == Scope::All || booking.collection == *own) && booking.amounts.of(overrun.resource) > 0
        };
        let others = self.labs.iter().filter(|(lab, _)| !asked.contains(lab));
        let mut found: Vec<_> = others
            .filter_map(|(lab, entry)| {
                let there = entry.bookings().filter(|booking| counts(booking));
                let there = there.filter_map(|booking| Some((booking, booking.span(now)?)));
                let there = there.filter(|(_, span)| span.meets(overrun.span));
                // The one without an end, or with the last.
                let (booking, span) = there.max_by_key(|(_, span)| (span.until.is_none(), span.until))?;
                Some(InTheWay { lab: lab.clone(), name: booking.name.clone(), until: span.until })
            })
            .collect();
        found
            .sort_unstable_by(|a, b| (a.until.is_none(), a.until, &a.name).cmp(&(b.until.is_none(), b.until, &b.name)));
        found
    }
}

/// What the bookings of one lab take: the most of them at each moment.
fn parts<'a>(
    bookings: impl Iterator<Item = &'a Booking>,
    side: Side,
    now: Timestamp,
    is_own: impl Fn(&Booking) -> bool,
) -> Vec<Part> {
    let taken = |booking: &Booking| {
        let (all, nothing) = (booking.amounts, Amounts::default());
        Both { all, own: if is_own(booking) { all } else { nothing } }
    };
    let there: Vec<(Span, Both<Amounts>)> =
        bookings.filter_map(|booking| Some((booking.span(now)?, taken(booking)))).collect();
    if let [(span, amounts)] = there.as_slice() {
        return vec![Part { side, span: *span, amounts: *amounts }];
    }
    let mut moments: Vec<Timestamp> =
        there.iter().flat_map(|(span, _)| [Some(span.from), span.until]).flatten().collect();
    moments.sort_unstable();
    moments.dedup();
    let ends = moments.iter().skip(1).copied().map(Some).chain([None]);
    let spans = moments.iter().zip(ends).map(|(from, until)| Span { from: *from, until });
    let most = |span: Span| {
        let there = there.iter().filter(|(other, _)| other.meets(span)).map(|(_, amounts)| *amounts);
        there.reduce(|one, other| Both { all: one.all.max(other.all), own: one.own.max(other.own) })
    };
    spans.filter_map(|span| Some(Part { side, span, amounts: most(span)? })).collect()
}

#[cfg(test)]
mod tests {
    use super::super::config::{Bytes, CollectionCapacity};
    use super::*;
    use crate::labs::model::User;

    const MEMORY: u64 = 1 << 20;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).expect("in range")
    }

    fn collection(name: &str) -> Collection {
        Collection {
            id: name.into(),
            name: name.to_owned(),
            public_write: false,
            public_deploy: false,
            creator: User { id: "u".into(), name: "u".into() },
        }
    }

    fn booking(lab: &str, when: When, end: Option<i64>, nodes: u64) -> Booking {
        Booking {
            lab: lab.into(),
            name: lab.to_owned(),
            topology: "t".into(),
            collection: "course".into(),
            when,
            end: end.map(at),
            amounts: Amounts { labs: 1, nodes, memory: nodes * MEMORY },
        }
    }

    fn scheduled(lab: &str, start: i64, end: i64, nodes: u64) -> Booking {
        booking(lab, When::From(at(start)), Some(end), nodes)
    }

    fn book(labs: Option<u64>, nodes: Option<u64>) -> Arc<Book> {
        let course = CollectionCapacity { labs, nodes, memory: None };
        let collections = [("course".to_owned(), course)].into();
        Arc::new(Book::new(CapacityConfig { memory_per_node: Bytes(MEMORY), collections, ..CapacityConfig::default() }))
    }

    impl Book {
        fn keep(&self, booking: Booking) {
            let lab = booking.lab.clone();
            self.entries().labs.entry(lab).or_default().booked = Some(booking);
        }

        fn asked(self: &Arc<Self>, wanted: Booking, purpose: Purpose) -> Result<Claim, Box<NoRoom>> {
            self.claim(vec![wanted], purpose, &collection("course"), at(0))
        }
    }

    #[test]
    fn what_is_claimed_counts_until_the_claim_is_dropped() {
        let book = book(Some(1), None);
        let first = book.asked(scheduled("a", 1, 3, 1), Purpose::Plan).expect("there is room");
        let refused = book.asked(scheduled("b", 2, 4, 1), Purpose::Plan).expect_err("it is taken");
        assert_eq!((refused.taken, refused.needed, refused.instead), (1, 1, Instead::From(at(3))));
        assert_eq!(refused.span, Some(Span { from: at(2), until: Some(at(3)) }));
        drop(first);
        let second = book.asked(scheduled("b", 2, 4, 1), Purpose::Plan).expect("it has been let go of");
        book.keep(scheduled("b", 2, 4, 1));
        drop(second);
        assert!(book.asked(scheduled("c", 2, 4, 1), Purpose::Plan).is_err(), "it has become what was claimed");
        book.forget(&"b".into());
        assert!(book.asked(scheduled("c", 2, 4, 1), Purpose::Plan).is_ok());
        assert!(book.entries().labs.is_empty(), "nothing is left of what came to nothing");
    }

    #[test]
    fn of_many_who_want_the_last_place_at_once_one_gets_it() {
        let book = book(Some(1), None);
        let start = std::sync::Barrier::new(8);
        let claims: Vec<_> = std::thread::scope(|scope| {
            let ask = |number: i32| {
                let (book, start) = (&book, &start);
                scope.spawn(move || {
                    start.wait();
                    book.asked(scheduled(&number.to_string(), 1, 2, 1), Purpose::Plan)
                })
            };
            let all: Vec<_> = (0..8).map(ask).collect();
            all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(claims.iter().filter(|claim| claim.is_ok()).count(), 1);
    }

    #[test]
    fn what_a_lab_has_it_keeps_though_limits_were_lowered() {
        let book = book(Some(1), Some(4));
        book.keep(booking("a", When::Now, Some(5), 3));
        book.keep(booking("b", When::Now, Some(5), 3));
        // Deployed anew as it is, or smaller; not larger, and not for longer while the other is there.
        assert!(book.asked(booking("a", When::Now, Some(5), 3), Purpose::Deploy).is_ok());
        assert!(book.asked(booking("a", When::Now, Some(4), 2), Purpose::Deploy).is_ok());
        let grown = book.asked(booking("a", When::Now, Some(5), 4), Purpose::Deploy).expect_err("too large");
        assert_eq!((grown.resource, grown.taken, grown.instead), (Resource::Nodes, 3, Instead::Never));
        assert!(book.asked(booking("a", When::Now, Some(9), 3), Purpose::Extend).is_ok(), "the other is gone by then");
        book.keep(booking("b", When::Now, Some(7), 3));
        let longer = book.asked(booking("a", When::Now, Some(9), 3), Purpose::Extend).expect_err("the other is there");
        assert_eq!((longer.span.map(|span| span.from), longer.instead), (Some(at(5)), Instead::Until(at(5))));
    }

    #[test]
    fn a_lab_that_exceeds_a_limit_by_itself_is_refused_whenever_it_is() {
        let book = book(None, Some(4));
        for when in [When::Unknown, When::From(at(1)), When::Now] {
            let refused = book.asked(booking("a", when, None, 5), Purpose::Plan).expect_err("too large");
            assert_eq!((refused.span, refused.needed, refused.limit), (None, 5, 4));
        }
        book.keep(booking("a", When::Unknown, None, 5));
        assert!(book.asked(booking("a", When::Unknown, None, 5), Purpose::Plan).is_ok(), "it is there already");
    }

    #[test]
    fn labs_that_are_over_or_that_nobody_starts_take_nothing() {
        let span = |booking: Booking| booking.span(at(10));
        assert_eq!(span(booking("a", When::Unknown, None, 1)), None);
        assert_eq!(span(scheduled("a", 5, 10, 1)), None);
        assert_eq!(span(scheduled("a", 5, 11, 1)), Some(Span { from: at(10), until: Some(at(11)) }));
        assert_eq!(span(scheduled("a", 12, 13, 1)), Some(Span { from: at(12), until: Some(at(13)) }));
        assert_eq!(span(booking("a", When::Now, None, 1)), Some(Span { from: at(10), until: None }));
        // Its destroy fails: it is there still, but that is not for ever.
        assert_eq!(
            span(booking("a", When::Now, Some(9), 1)),
            Some(Span { from: at(10), until: Some(at(10) + OVERDUE) })
        );
    }

    #[test]
    fn those_in_the_way_are_those_that_take_of_it_at_that_time() {
        let book = book(Some(2), None);
        book.keep(scheduled("late", 8, 9, 1));
        book.keep(booking("endless", When::Now, None, 1));
        book.keep(scheduled("first", 1, 3, 1));
        book.keep(Booking { collection: "other".into(), ..scheduled("elsewhere", 1, 3, 1) });
        let refused = book.asked(scheduled("b", 2, 5, 1), Purpose::Plan).expect_err("full");
        let named: Vec<_> = refused.in_the_way.iter().map(|lab| (lab.name.as_str(), lab.until)).collect();
        assert_eq!(named, [("first", Some(at(3))), ("endless", None)]);
        assert_eq!(refused.instead, Instead::From(at(3)));
    }

    #[test]
    fn a_topology_that_grows_needs_room_for_all_labs_that_are_to_be_started_with_it() {
        let book = book(None, Some(6));
        let topology = crate::topology::Topology::parse(
            "name: t\ntopology: {nodes: {a: {kind: linux}, b: {kind: linux}, c: {kind: linux}, d: {kind: linux}}}",
        );
        let topology = topology.expect("valid");
        book.keep(scheduled("a", 1, 3, 2));
        book.keep(scheduled("b", 4, 6, 2));
        book.keep(booking("runs", When::Now, Some(2), 2));
        let wanted = || book.with_topology(&"t".into(), &topology);
        assert_eq!(wanted().len(), 2, "what runs stays as it is");
        assert!(book.claim(wanted(), Purpose::Topology, &collection("course"), at(0)).is_ok());
        book.keep(scheduled("b", 2, 6, 2));
        let refused = book.claim(wanted(), Purpose::Topology, &collection("course"), at(0)).expect_err("no room");
        assert_eq!((refused.taken, refused.needed), (0, 8), "both at once, from the end of the other on");
    }

    #[test]
    fn a_lab_counts_once_while_it_is_changed_and_for_the_most_that_it_may_come_to_be() {
        let book = book(None, Some(10));
        book.keep(scheduled("a", 1, 3, 2));
        let claim = book.asked(scheduled("a", 2, 4, 5), Purpose::Plan).expect("there is room");
        let peak = |from, until| {
            let reserved = book.reserved(Span { from: at(from), until: Some(at(until)) }, at(0));
            assert_eq!(reserved.collections[&"course".into()], reserved.all);
            (reserved.all.labs, reserved.all.nodes)
        };
        assert_eq!(
            (peak(1, 2), peak(2, 3), peak(3, 4), peak(0, 9), peak(4, 9)),
            ((1, 2), (1, 5), (1, 5), (1, 5), (0, 0))
        );
        drop(claim);
        assert_eq!((peak(2, 3), peak(3, 4)), ((1, 2), (0, 0)));
    }
}
