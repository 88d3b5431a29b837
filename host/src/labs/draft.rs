//! What a lab would be once it is created or changed. Everything about it is checked here, so that the policy judges, and
//! the store keeps, nothing that makes no sense.

use std::sync::Arc;

use jiff::Timestamp;

use super::model::{InstanceState, Lab, LabId, LabSnapshot, LabState, StoredTopology, TopologyId};
use super::{LabError, LabPatch, NewLab};
use crate::store::Store;
use crate::topology::Topology;

/// Characters that the name of a lab may have.
const NAME_LIMIT: usize = 200;

/// A lab that could be, and the topology that it would be made from.
pub(super) struct Draft {
    pub(super) snapshot: LabSnapshot,
    pub(super) stored: StoredTopology,
}

/// A new lab; its id is empty.
pub(super) async fn new(store: &Store, new: &NewLab) -> Result<Draft, LabError> {
    check_name(&new.name)?;
    check_times(new.start_time, new.end_time)?;
    let stored = stored_topology(store, &new.topology_id).await?;
    let lab = Lab {
        id: LabId::from(""),
        name: new.name.clone(),
        start_time: new.start_time,
        end_time: new.end_time,
        topology_id: new.topology_id.clone(),
        collection_id: stored.collection_id.clone(),
        creator: new.creator.clone(),
        start_pending: new.start_time > Timestamp::now(),
        warned_before: None,
        instance: None,
    };
    complete(store, lab, stored).await
}

/// A lab that has an instance after a change: nothing about it can be changed but its end.
pub(super) fn extended(before: &LabSnapshot, patch: &LabPatch) -> Result<LabSnapshot, LabError> {
    let lab = &before.lab;
    let same = patch.name.as_ref().is_none_or(|name| *name == lab.name)
        && patch.start_time.is_none_or(|start| start == lab.start_time)
        && patch.topology_id.as_ref().is_none_or(|topology| *topology == lab.topology_id);
    let (true, Some(end)) = (same, patch.end_time) else { return Err(LabError::OnlyItsEnd(lab.name.clone())) };
    if before.state == LabState::Instance(InstanceState::Stopping) {
        return Err(LabError::BeingDestroyed(lab.name.clone()));
    }
    check_times(lab.start_time, end)?;
    Ok(LabSnapshot { lab: with_end(lab.clone(), end), ..before.clone() })
}

/// The lab with another end, of which nobody has been warned.
fn with_end(lab: Lab, end: Option<Timestamp>) -> Lab {
    let warned_before = lab.warned_before.filter(|_| lab.end_time == end);
    Lab { end_time: end, warned_before, ..lab }
}

/// A lab without an instance after a change.
pub(super) async fn changed(store: &Store, before: &LabSnapshot, patch: &LabPatch) -> Result<Draft, LabError> {
    let mut lab = before.lab.clone();
    if let Some(name) = &patch.name {
        check_name(name)?;
        lab.name.clone_from(name);
    }
    if patch.start_time.is_some() || patch.end_time.is_some() {
        let end = patch.end_time.unwrap_or(lab.end_time);
        lab = with_end(lab, end);
        if let Some(start) = patch.start_time {
            lab.start_time = start;
            // Whoever moves the start ahead wants it to start then, also if it has run before.
            lab.start_pending = start > Timestamp::now();
        }
        check_times(lab.start_time, lab.end_time)?;
    }
    lab.topology_id = patch.topology_id.clone().unwrap_or(lab.topology_id);
    let stored = stored_topology(store, &lab.topology_id).await?;
    lab.collection_id = stored.collection_id.clone();
    complete(store, lab, stored).await
}

/// Refuses a draft that isn't what was judged: the topology or its collection has been changed in between.
pub(super) fn check_judged(draft: &LabSnapshot, judged: &LabSnapshot) -> Result<(), LabError> {
    // The topology by itself too: with other files beside it, the same text may reach for the host.
    let same = draft.definition == judged.definition
        && draft.topology == judged.topology
        && draft.collection == judged.collection;
    if same { Ok(()) } else { Err(LabError::Overtaken) }
}

async fn complete(store: &Store, lab: Lab, stored: StoredTopology) -> Result<Draft, LabError> {
    let collection = store.collection(&stored.collection_id).await?;
    let collection = collection.ok_or_else(|| LabError::TopologyNotFound(stored.id.clone()))?;
    let topology = Topology::parse_beside(&stored.definition, &stored.file_paths)
        .map_err(|error| LabError::Invalid(format!("topology {}: {error}", stored.name)))?;
    let snapshot = LabSnapshot {
        state: LabState::derive(None, lab.start_time, Timestamp::now()),
        lab,
        collection,
        definition: stored.definition.clone(),
        topology: Arc::new(topology),
        instance: None,
        next: None,
    };
    Ok(Draft { snapshot, stored })
}

async fn stored_topology(store: &Store, id: &TopologyId) -> Result<StoredTopology, LabError> {
    store.topology(id).await?.ok_or_else(|| LabError::TopologyNotFound(id.clone()))
}

fn check_name(name: &str) -> Result<(), LabError> {
    if name.trim().is_empty() {
        return Err(LabError::Invalid("name: a lab needs a name".into()));
    }
    if name.chars().any(char::is_control) {
        return Err(LabError::Invalid("name: control characters are not allowed".into()));
    }
    if name.chars().count() > NAME_LIMIT {
        return Err(LabError::Invalid(format!("name: at most {NAME_LIMIT} characters are allowed")));
    }
    Ok(())
}

fn check_times(start: Timestamp, end: Option<Timestamp>) -> Result<(), LabError> {
    let Some(end) = end else { return Ok(()) };
    if end <= start {
        return Err(LabError::Invalid(format!("endTime: {end} is not after the start time, {start}")));
    }
    if end <= Timestamp::now() {
        return Err(LabError::Invalid(format!("endTime: {end} has already passed")));
    }
    Ok(())
}
