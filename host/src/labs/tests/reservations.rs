//! What labs reserve, what is refused because of it, and ends that come near or are moved.

use std::sync::LazyLock;

use jiff::SignedDuration;

use super::*;
use crate::labs::capacity::config::CapacityConfig;
use crate::labs::capacity::{Amounts, Resource};

/// What hours are counted from: the same for all tests.
static START: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const THREE_NODES: &str =
    "name: t\ntopology:\n  nodes:\n    r1: {kind: linux}\n    r2: {kind: linux}\n    r3: {kind: linux}\n";

fn limited(labs: Option<u64>, nodes: Option<u64>) -> Planning {
    Planning { capacity: CapacityConfig { labs, nodes, ..CapacityConfig::default() }, warn_before: Vec::new() }
}

fn warning(seconds: u64) -> Planning {
    Planning { warn_before: vec![Duration::from_secs(seconds)], ..Planning::default() }
}

impl Fixture {
    async fn with_room_for(labs: Option<u64>, nodes: Option<u64>) -> Self {
        Self::planned(Scripted::new(), TWO_NODES, |_| None, limited(labs, nodes)).await
    }

    /// A lab that the schedule starts in so many hours, for so long.
    async fn scheduled(&self, name: &str, from: i32, hours: Option<i32>) -> Result<LabId, LabError> {
        let start_time = *START + HOUR * from;
        let new = NewLab {
            name: name.into(),
            start_time,
            end_time: hours.map(|hours| start_time + HOUR * hours),
            topology_id: self.topology.clone(),
            creator: user(),
        };
        let judged = self.labs.draft(&new).await.unwrap();
        Ok(self.labs.create(new, &judged).await?.lab.id.clone())
    }

    async fn change(&self, id: &LabId, patch: LabPatch) -> Result<Arc<LabSnapshot>, LabError> {
        let judged = self.labs.draft_update(id, &patch).await?;
        self.labs.update(id, patch, judged).await
    }

    async fn end_at(&self, id: &LabId, end: Option<Timestamp>) -> Result<Arc<LabSnapshot>, LabError> {
        self.change(id, LabPatch { end_time: Some(end), ..LabPatch::default() }).await
    }

    async fn deployed(&self) -> LabId {
        let id = self.lab().await;
        self.driver.deploys.add_permits(1);
        self.labs.deploy(&id, Some("ada".into()), None).await.unwrap();
        id
    }

    /// Waits for the next warning; answers the end that it is about.
    async fn warned(&mut self) -> Timestamp {
        loop {
            if let Notice::Ending { end, .. } = self.notices.recv().await.unwrap() {
                return end;
            }
        }
    }

    fn reserved(&self) -> Amounts {
        self.labs.reserved(None).all
    }
}

fn no_room<T>(result: Result<T, LabError>) -> String {
    match result {
        Err(LabError::NoRoom(no_room)) => no_room.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("there was room"),
    }
}

#[tokio::test]
async fn a_lab_that_would_not_fit_at_its_time_is_not_created() {
    let f = Fixture::with_room_for(Some(1), None).await;
    let first = f.scheduled("first", 2, Some(2)).await.unwrap();
    let refused = no_room(f.scheduled("second", 3, None).await);
    assert!(refused.contains("this server has 1 of 1 labs between") && refused.contains("one lab; "), "{refused}");
    assert!(!refused.contains("first") && refused.contains("it would fit from"), "{refused}");
    assert_eq!(f.labs.list().len(), 1);
    // Before it, after it, and instead of it.
    f.scheduled("before", 1, Some(1)).await.unwrap();
    f.labs.delete(&first).await.unwrap();
    f.scheduled("second", 3, None).await.unwrap();
}

#[tokio::test]
async fn a_lab_that_is_changed_needs_room_for_what_it_would_be() {
    let f = Fixture::with_room_for(Some(1), None).await;
    let first = f.scheduled("first", 2, Some(2)).await.unwrap();
    let second = f.scheduled("second", 4, Some(2)).await.unwrap();
    let end = f.labs.get(&first).unwrap().lab.end_time.unwrap();
    no_room(f.end_at(&first, Some(end + HOUR)).await);
    assert_eq!(f.labs.get(&first).unwrap().lab.end_time, Some(end));
    // It does not stand in its own way, and what has nothing to do with it is no matter.
    let patch = LabPatch { name: Some("other".into()), end_time: Some(Some(end - HOUR)), ..LabPatch::default() };
    assert_eq!(f.change(&first, patch).await.unwrap().lab.name, "other");
    let patch = LabPatch { start_time: Some(end - HOUR), ..LabPatch::default() };
    f.change(&second, patch).await.unwrap();
    no_room(f.end_at(&first, Some(end)).await);
}

#[tokio::test]
async fn a_deploy_at_another_time_than_reserved_needs_room_and_lets_go_of_it_in_the_end() {
    let f = Fixture::with_room_for(Some(1), None).await;
    let (one, other) = (f.lab().await, f.lab().await);
    assert_eq!(f.reserved(), Amounts::default(), "what nobody starts reserves nothing");
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&one, Some("ada".into()), None).await.unwrap();
    assert_eq!(f.reserved(), Amounts { labs: 1, nodes: 2, memory: 512 << 20 });
    let refused = f.labs.deploy(&other, Some("ada".into()), None).await.unwrap_err();
    assert!(matches!(refused, LabCommandError::NoRoom(_)), "{refused}");
    assert_eq!(state(&f.labs, &other), LabState::Inactive, "nothing was begun");
    // One that runs is deployed anew beside itself.
    f.driver.deploys.add_permits(1);
    f.driver.destroys.add_permits(2);
    f.labs.deploy(&one, Some("ada".into()), None).await.unwrap();
    f.labs.destroy(&one, Some("ada".into())).await.unwrap();
    assert_eq!(f.reserved(), Amounts::default());
    f.driver.deploys.add_permits(1);
    f.labs.deploy(&other, Some("ada".into()), None).await.unwrap();
}

#[tokio::test]
async fn what_is_being_deployed_or_was_refused_holds_no_more_than_it_takes() {
    let f = Fixture::with_room_for(Some(1), None).await;
    let (one, other) = (f.lab().await, f.lab().await);
    let deploying = f.deploy(&one);
    while state(&f.labs, &one) != LabState::Instance(InstanceState::Deploying) {
        tokio::task::yield_now().await;
    }
    assert!(matches!(f.deploy(&other).await.unwrap(), Err(LabCommandError::NoRoom(_))));
    f.driver.destroys.add_permits(1);
    f.destroy(&one).await.unwrap().unwrap();
    assert!(deploying.await.unwrap().is_err());
    f.driver.deploys.add_permits(1);
    f.deploy(&other).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_schedule_starts_what_was_reserved_also_where_there_is_no_room_any_more() {
    // Stored before there was any limit.
    let made = |topology: &StoredTopology| Some(stored_lab(topology, -10, Some(3600), true));
    let mut f = Fixture::planned(Scripted::new(), TWO_NODES, made, limited(Some(0), None)).await;
    f.driver.deploys.add_permits(1);
    f.wait_for(|what| matches!(what, Occurrence::LabDeployed)).await;
    assert_eq!(f.reserved().labs, 1);
}

#[tokio::test]
async fn a_topology_may_not_grow_beyond_the_room_of_labs_that_are_to_be_started() {
    let f = Fixture::with_room_for(None, Some(5)).await;
    let topology = Topology::parse(THREE_NODES).unwrap();
    let collection = f.store.collections().await.unwrap().remove(0);
    let first = f.scheduled("first", 1, Some(2)).await.unwrap();
    drop(f.labs.claim_topology(&f.topology, &topology, &collection).unwrap());
    f.scheduled("second", 2, Some(2)).await.unwrap();
    let refused = no_room(f.labs.claim_topology(&f.topology, &topology, &collection));
    assert!(refused.contains("5 nodes") && refused.contains("6 needed"), "{refused}");
    f.labs.delete(&first).await.unwrap();
    // What is claimed counts until the labs know of it, and then by itself.
    let claimed = f.labs.claim_topology(&f.topology, &topology, &collection).unwrap();
    let before = f.store.topology(&f.topology).await.unwrap().unwrap();
    let after = StoredTopology { definition: THREE_NODES.into(), ..before.clone() };
    f.store.update_topology(&before, &after).await.unwrap();
    let ahead = Span { from: Timestamp::now(), until: None };
    assert_eq!(f.labs.reserved(Some(ahead)).all.of(Resource::Nodes), 3);
    f.labs.topology_changed(&f.topology, Some(claimed)).await;
    assert_eq!(f.labs.reserved(Some(ahead)).all.of(Resource::Nodes), 3);
    no_room(f.scheduled("third", 2, Some(1)).await);
}

#[tokio::test]
async fn a_redeploy_of_a_topology_that_has_grown_needs_room_for_it() {
    let f = Fixture::with_room_for(None, Some(2)).await;
    let id = f.deployed().await;
    let before = f.store.topology(&f.topology).await.unwrap().unwrap();
    let after = StoredTopology { definition: THREE_NODES.into(), ..before.clone() };
    f.store.update_topology(&before, &after).await.unwrap();
    f.labs.topology_changed(&f.topology, None).await;
    let refused = f.labs.deploy(&id, Some("ada".into()), None).await.unwrap_err().to_string();
    assert!(refused.contains("room for 2 nodes in all, and 3 would be needed"), "{refused}");
    assert_eq!(state(&f.labs, &id), LabState::Instance(InstanceState::Running), "it runs on as it was");
}

#[tokio::test]
async fn the_end_of_a_lab_that_runs_can_be_moved_and_nothing_else_of_it() {
    let f = Fixture::with_room_for(Some(1), None).await;
    let id = f.deployed().await;
    let end = Timestamp::from_second(Timestamp::now().as_second() + 3600).unwrap();
    // What is as it is already is no change.
    let lab = f.labs.get(&id).unwrap().lab.clone();
    let patch = LabPatch {
        name: Some(lab.name),
        start_time: Some(lab.start_time),
        end_time: Some(Some(end)),
        topology_id: Some(lab.topology_id),
    };
    assert_eq!(f.change(&id, patch.clone()).await.unwrap().lab.end_time, Some(end));
    assert_eq!(f.store.lab(&id).await.unwrap().unwrap().end_time, Some(end));
    assert!(f.store.lab(&id).await.unwrap().unwrap().instance.is_some(), "it runs on");
    let renamed = LabPatch { name: Some("other".into()), ..patch };
    assert!(matches!(f.change(&id, renamed).await, Err(LabError::OnlyItsEnd(_))));
    assert!(matches!(f.change(&id, LabPatch::default()).await, Err(LabError::OnlyItsEnd(_))));
    assert!(matches!(f.end_at(&id, Some(end - HOUR * 2)).await, Err(LabError::Invalid(_))), "it has passed");
    // Somebody has reserved the time after it.
    f.scheduled("next", 3, Some(1)).await.unwrap();
    let refused = no_room(f.end_at(&id, None).await);
    assert!(refused.contains("there is room for it until"), "{refused}");
    f.end_at(&id, Some(end + HOUR)).await.unwrap();
}

#[tokio::test]
async fn a_lab_that_is_extended_is_destroyed_at_its_new_end() {
    let mut f = Fixture::new().await;
    let id = f.deployed().await;
    f.end_at(&id, Some(Timestamp::now() + HOUR)).await.unwrap();
    let soon = Timestamp::now() + SignedDuration::from_millis(300);
    f.end_at(&id, Some(soon)).await.unwrap();
    f.driver.destroys.add_permits(1);
    f.wait_for(|what| matches!(what, Occurrence::LabDestroyed)).await;
    assert!(Timestamp::now() >= soon);
}

#[tokio::test]
async fn a_schedule_that_comes_with_an_end_of_before_destroys_nothing() {
    let f = Fixture::new().await;
    let id = f.deployed().await;
    let end = Timestamp::now() + HOUR;
    f.end_at(&id, Some(end)).await.unwrap();
    f.driver.destroys.add_permits(1);
    f.labs.end(&id, end - HOUR).await.unwrap();
    assert_eq!(state(&f.labs, &id), LabState::Instance(InstanceState::Running));
    f.labs.end(&id, end).await.unwrap();
    assert_eq!(state(&f.labs, &id), LabState::Inactive);
}

#[tokio::test]
async fn users_are_warned_once_of_each_end() {
    let mut f = Fixture::planned(Scripted::new(), TWO_NODES, |_| None, warning(3600)).await;
    let id = f.deployed().await;
    let minutes = |minutes: i64| Timestamp::from_second(Timestamp::now().as_second() + 60 * minutes).unwrap();
    let (first, second) = (minutes(10), minutes(20));
    f.end_at(&id, Some(first)).await.unwrap();
    assert_eq!(f.warned().await, first);
    assert_eq!(f.store.lab(&id).await.unwrap().unwrap().warned_before, Some(3600));
    // Looked at once more, by the same schedule and by one that tries to give it again.
    f.labs.reschedule.notify_one();
    f.labs.warn(&id, first, Duration::from_secs(3600)).await;
    f.end_at(&id, Some(second)).await.unwrap();
    assert_eq!(f.warned().await, second, "not of the first end again, and anew of another");
}

#[tokio::test]
async fn a_warning_is_given_once_over_a_restart() {
    let lab = |warned: Option<u32>| {
        move |topology: &StoredTopology| {
            let mut lab = lab_with_instance(topology, "scripted", InstanceState::Running);
            (lab.end_time, lab.warned_before) = (Some(Timestamp::now() + SignedDuration::from_mins(10)), warned);
            Some(lab)
        }
    };
    let mut missed = Fixture::planned(where_it_runs(&["r1", "r2"]), TWO_NODES, lab(None), warning(3600)).await;
    missed.warned().await;
    let mut given = Fixture::planned(where_it_runs(&["r1", "r2"]), TWO_NODES, lab(Some(3600)), warning(3600)).await;
    let id = given.labs.list()[0].lab.id.clone();
    let other = Timestamp::from_second(Timestamp::now().as_second() + 1200).unwrap();
    given.end_at(&id, Some(other)).await.unwrap();
    assert_eq!(given.warned().await, other, "the first that is given is of the other end");
}
