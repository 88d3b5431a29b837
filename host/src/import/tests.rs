use std::collections::HashMap;

use super::plan::{Here, Plan, plan};
use super::source::{CollectionRow, FileRow, LabRow, TopologyRow, UserRow};
use super::storage::Files;
use super::*;
use crate::store::Everything;

const DEFINITION: &str = "name: ring\ntopology: {nodes: {r1: {kind: linux}}}\n";

/// Files by their topology and path.
struct InMemory(HashMap<(&'static str, &'static str), &'static str>);

impl Files for InMemory {
    fn file(&self, topology: &str, path: &str) -> Result<String, String> {
        let found = self.0.iter().find(|((of, name), _)| *of == topology && *name == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| format!("{topology}/{path} isn't there"))
    }
}

fn files() -> InMemory {
    let file = "topology.clab.yaml";
    InMemory(HashMap::from([(("t1", file), DEFINITION), (("t2", file), "name: [broken"), (("t1", "r1.cfg"), "hello")]))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn rows() -> Rows {
    let user = |uuid: &str, sub: &str, name: &str| UserRow { uuid: uuid.into(), sub: sub.into(), name: name.into() };
    let collection = |uuid: &str, name: &str, creator: &str| CollectionRow {
        uuid: uuid.into(),
        name: name.into(),
        public_write: true,
        public_deploy: false,
        creator: some(creator),
    };
    let topology = |uuid: &str, collection: &str| TopologyRow {
        uuid: uuid.into(),
        name: format!("named {uuid}"),
        sync_url: some(""),
        last_deploy_failed: true,
        collection: some(collection),
        creator: some("u1"),
    };
    let file = |uuid: &str, path: &str| FileRow { uuid: uuid.into(), path: path.into(), topology: some("t1") };
    let lab = |uuid: &str, start: &str, end: Option<&str>, topology: &str| LabRow {
        uuid: uuid.into(),
        name: format!("named {uuid}"),
        start_time: start.into(),
        end_time: end.map(str::to_owned),
        topology: some(topology),
        creator: some("u1"),
        instance: some("ring-17"),
    };
    Rows {
        users: vec![
            user("00000000-0000-0000-0000-00000000000", "Admin", "Admin"),
            user("u1", "f3a", "ada@example.org"),
            user("u2", "", "nobody"),
        ],
        collections: vec![
            collection("c1", "course", "u1"),
            collection("c2", "lost", "u9"),
            collection("c3", " ", "u1"),
        ],
        topologies: vec![topology("t1", "c1"), topology("t2", "c2"), topology("t3", "c1"), topology("t4", "c3")],
        files: vec![file("f1", "r1.cfg"), file("f2", "../passwd"), file("f3", "gone.cfg")],
        labs: vec![
            lab("l1", "2026-01-01 08:00:00+00:00", Some("2026-01-01 09:00:00+00:00"), "t1"),
            lab("l2", "2026-03-01 08:00:00+00:00", None, "t1"),
            lab("l3", "2026-01-01 08:00:00+00:00", None, "t2"),
            lab("l4", "2026-01-01 08:00:00+00:00", Some("2025-01-01 08:00:00+00:00"), "t1"),
            lab("l5", "soon", None, "t1"),
            lab("l6", "2026-01-01 08:00:00+00:00", None, "t3"),
            lab("l7", "2026-01-01 08:00:00+00:00", Some("later"), "t1"),
            lab("l8", "2026-03-01 08:00:00+00:00", Some("0001-01-01 00:00:00+00:00"), "t1"),
        ],
    }
}

fn planned_beside(here: Here) -> Plan {
    plan(rows(), &files(), here, "root", "2026-02-01T00:00:00Z".parse().expect("a time"))
}

fn planned() -> Plan {
    planned_beside(Here::default())
}

#[test]
fn people_become_who_they_log_in_as() {
    let plan = planned();
    let users: Vec<_> = plan.new.users.iter().map(|user| (user.id.as_str(), user.name.as_str())).collect();
    assert_eq!(users, [("native:root", "root"), ("openid:f3a", "ada@example.org")]);
    assert_eq!(plan.new.collections[0].creator.id.as_str(), "openid:f3a");
    assert_eq!(plan.new.collections[1].creator.id.as_str(), "native:root", "its creator is gone");
    assert!(plan.warnings.iter().any(|note| note.id == "c2" && note.why.contains("root")), "{:?}", plan.warnings);
}

#[test]
fn what_can_be_taken_is_and_the_rest_is_named_with_the_reason() {
    let plan = planned();
    let refused: Vec<_> = plan.refused.iter().map(|note| (note.what, note.id.as_str())).collect();
    let expected = [
        ("user", "u2"),
        ("collection", "c3"),
        ("topology", "t3"),
        ("topology", "t4"),
        ("file", "f2"),
        ("file", "f3"),
        ("lab", "l4"),
        ("lab", "l5"),
        ("lab", "l6"),
        ("lab", "l7"),
    ];
    assert_eq!(refused, expected, "{:?}", plan.refused);
    assert!(plan.refused.iter().all(|note| !note.why.is_empty()));
    let new = &plan.new;
    let topologies: Vec<_> = new.topologies.iter().map(|known| (known.id.as_str(), known.name.as_str())).collect();
    assert_eq!(topologies, [("t1", "ring"), ("t2", "named t2")], "the definition says the name, where it can be read");
    assert_eq!((new.topologies[0].sync_url.as_deref(), new.topologies[0].last_deploy_failed), (None, true));
    assert!(plan.warnings.iter().any(|note| note.id == "t2" && note.why.contains("mended")), "{:?}", plan.warnings);
    assert_eq!((new.files.len(), new.files[0].content.as_str()), (1, "hello"));
}

#[test]
fn labs_keep_their_times_and_only_those_ahead_will_be_started() {
    let plan = planned();
    let labs: Vec<_> = plan.new.labs.iter().map(|lab| (lab.id.as_str(), lab.start_pending)).collect();
    assert_eq!(labs, [("l1", false), ("l2", true), ("l3", false), ("l8", true)]);
    assert_eq!(plan.new.labs[3].end_time, None, "it has none, in the other server's words");
    let about: Vec<_> = plan.warnings.iter().filter(|note| note.what == "lab").map(|note| note.id.as_str()).collect();
    assert_eq!(about, ["l3"], "of these, it alone may run at the moment");
    assert_eq!(plan.new.labs[0].end_time.expect("it has one").to_string(), "2026-01-01T09:00:00Z");
}

#[test]
fn what_is_here_already_stays_and_is_not_added_twice() {
    let first = planned();
    let Everything { users, collections, topologies, files, labs } = first.new;
    let users = users.into_iter().map(|user| user.id).collect();
    let again = planned_beside(Here { users, collections, topologies, files, labs });
    assert_eq!(again.added, Counts::default());
    assert_eq!(again.already, first.added);
    assert_eq!(again.refused.len(), first.refused.len());
}

#[test]
fn a_collection_of_a_name_that_is_here_is_the_same_one() {
    let mut here = planned().new.collections.swap_remove(0);
    (here.id, here.public_write) = ("ours".into(), false);
    let plan = planned_beside(Here { collections: vec![here], ..Here::default() });
    assert_eq!((plan.already.collections, plan.added.collections), (1, 1));
    assert_eq!(plan.new.topologies[0].collection_id.as_str(), "ours");
    assert_eq!(plan.new.labs[0].collection_id.as_str(), "ours");
    assert!(plan.warnings.iter().any(|note| note.id == "c1"), "{:?}", plan.warnings);
}
