//! `/logs/<labId>` and `/logs/<labId>/<node>`: what the deploys and destroys of a lab print, and what its nodes print.
//!
//! The first exists once the lab has an instance, and stays for as long as the lab: what a failed deploy printed is wanted
//! after it failed. Those of nodes exist until the instance is destroyed, from the moment that a deploy is done, or before that
//! where the runtime shows nodes while it deploys. A node has two: by its name, and by the id of its container, which is how
//! clients in the field ask.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use super::access::{self, Connected, Door};
use super::{Hub, message, namespaces, pump};
use crate::labs::model::{LabId, LabSnapshot};

/// Whose log it is, within a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LogOf {
    Lab,
    /// By its name.
    Node(String),
}

/// The log namespaces that each lab has at present.
#[derive(Debug, Default)]
pub(super) struct LogNamespaces(Mutex<HashMap<LabId, BTreeMap<String, LogOf>>>);

/// Makes the log namespaces that a lab should have, and removes those that it should not have any more. Called by one task
/// only, for each change in turn.
pub(super) fn update(hub: &Hub, lab: &LabSnapshot) {
    let id = &lab.lab.id;
    let mut wanted = BTreeMap::new();
    if lab.instance.is_some() || hub.labs.has_log(id) {
        wanted.insert(format!("/logs/{id}"), LogOf::Lab);
    }
    for node in hub.labs.node_logs(id) {
        let log = LogOf::Node(node.clone());
        let containers = lab.instance.iter().flat_map(|instance| &instance.nodes);
        for container in containers.filter(|container| container.name == node && !container.container_id.is_empty()) {
            wanted.insert(format!("/logs/{id}/{}", container.container_id), log.clone());
        }
        // Last, so that it counts where a node is named as another's container.
        wanted.insert(format!("/logs/{id}/{node}"), log);
    }
    change(hub, id, wanted);
}

/// Removes all log namespaces of a lab.
pub(super) fn remove(hub: &Hub, lab: &LabId) {
    change(hub, lab, BTreeMap::new());
}

fn change(hub: &Hub, lab: &LabId, wanted: BTreeMap<String, LogOf>) {
    let mut all = hub.logs.0.lock().unwrap_or_else(PoisonError::into_inner);
    let before = all.remove(lab).unwrap_or_default();
    for (path, log) in &before {
        if wanted.get(path) != Some(log) {
            hub.namespaces.remove(&hub.io, path);
        }
    }
    for (path, log) in &wanted {
        hub.namespaces.ensure(path.clone(), |path| serve(hub, path, lab, log));
    }
    if !wanted.is_empty() {
        all.insert(lab.clone(), wanted);
    }
}

fn serve(hub: &Hub, path: String, lab: &LabId, log: &LogOf) {
    let door = match log {
        LogOf::Lab => Door::LabLog(lab.clone()),
        LogOf::Node(node) => Door::NodeLog(lab.clone(), node.clone()),
    };
    let (lab, log) = (lab.clone(), log.clone());
    access::serve(hub, path, door, message::refuse_input, move |connected| {
        let (lab, log) = (lab.clone(), log.clone());
        async move {
            let Connected { hub, peer, .. } = connected;
            let log = match log {
                LogOf::Lab => hub.labs.log(&lab).await,
                LogOf::Node(node) => hub.labs.node_log(&lab, &node).await,
            };
            let Some(log) = log else {
                // What it belonged to has gone while the socket was being let in, and its namespace has lost track of it.
                namespaces::disconnect(|| peer.socket()).await;
                return;
            };
            let (backlog, follower) = log.follow();
            drop(log);
            pump::backlog_then_live(&peer, backlog, follower, &pump::EveryLine).await;
        }
    });
}
