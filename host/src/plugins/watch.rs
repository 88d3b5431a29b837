//! Plugins in monitor mode: asked beside the chains, with nobody waiting for them and nothing coming of their answers.
//!
//! A chain hands over what its own plugins were asked, once it has its answer. Since the call outlives the question, it
//! takes copies along; they are made only where a plugin is watched. When more such calls run than there is room for,
//! further ones are left out and counted as failures: a plugin that is tried out must not cost the server its memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::breaker::Asked;
use super::convert::{self, Arena};
use super::decision::{
    Action, CallFailure, Circumstances, Command, Event, Namespace, Refusal, ShellInfo, TopologyView,
};
use super::metrics::Outcome;
use super::plugin::Plugin;
use crate::auth::{Claims, Identity};
use crate::labs::model::{Collection, LabSnapshot, StoredTopology};
use crate::topology::Topology;

/// Calls of the watched plugins of a hook that may run or wait at once. Each has an equal part of it.
const CALLS: usize = 64;

/// The plugins of one hook that are watched.
pub(super) struct Watched {
    /// Each with a room of its own: one that doesn't come to an end keeps no other from being asked.
    plugins: Vec<(Arc<Plugin>, Arc<Semaphore>)>,
}

impl Watched {
    pub(super) fn new(plugins: Vec<Arc<Plugin>>) -> Self {
        let calls = (CALLS / plugins.len().max(1)).max(1);
        Self { plugins: plugins.into_iter().map(|plugin| (plugin, Arc::new(Semaphore::new(calls)))).collect() }
    }

    /// The plugins that there is room for.
    fn each(&self, asked: Asked<'_>) -> impl Iterator<Item = (Arc<Plugin>, OwnedSemaphorePermit)> {
        self.plugins.iter().filter_map(move |(plugin, room)| match room.clone().try_acquire_owned() {
            Ok(room) => Some((plugin.clone(), room)),
            Err(_) => {
                plugin.ask(asked).end(Outcome::from(&plugin.failed(CallFailure::Busy)));
                None
            }
        })
    }

    pub(super) fn validate(
        &self,
        command: &Command,
        user: &Identity,
        lab: &LabSnapshot,
        shell: Option<&ShellInfo>,
        circumstances: Circumstances,
    ) {
        for (plugin, room) in self.each(Asked::Command(user, command)) {
            let (command, user, lab, shell) = (command.clone(), user.clone(), lab.clone(), shell.cloned());
            tokio::spawn(async move {
                let _room = room;
                let arena = Arena::new();
                let context = convert::context(&arena, &user, &lab, shell.as_ref(), circumstances);
                let asking = plugin.ask(Asked::Command(&user, &command));
                let outcome = match plugin.validate(&asking, convert::command(&command), context).await {
                    Ok(Ok(answer)) => match convert::command_answer(answer, &command) {
                        Ok(answer) if answer == command => Outcome::Allow,
                        Ok(_) => Outcome::Rewrite,
                        Err(fault) => Outcome::from(&plugin.failed(fault)),
                    },
                    Ok(Err(rejection)) => {
                        would_refuse(&plugin, &convert::rejected(plugin.name(), rejection));
                        Outcome::Reject
                    }
                    // It was logged where it happened.
                    Err(failure) => Outcome::from(&failure),
                };
                asking.end(outcome);
            });
        }
    }

    pub(super) fn identify(&self, claims: &Claims) {
        for (plugin, room) in self.each(Asked::Claims(claims)) {
            let claims = claims.clone();
            tokio::spawn(async move {
                let _room = room;
                let arena = Arena::new();
                let asking = plugin.ask(Asked::Claims(&claims));
                let outcome = match plugin.identify(&asking, convert::claims(&arena, &claims)).await {
                    Ok(Ok(Some(user))) => match convert::identity_answer(user) {
                        Ok(_) => Outcome::Answer,
                        Err(fault) => Outcome::from(&plugin.failed(fault)),
                    },
                    Ok(Err(denial)) => {
                        would_refuse(&plugin, &convert::denied(plugin.name(), denial));
                        Outcome::Deny
                    }
                    Ok(Ok(None)) => Outcome::Leave,
                    Err(failure) => Outcome::from(&failure),
                };
                asking.end(outcome);
            });
        }
    }

    pub(super) fn authorize(&self, user: &Identity, action: Action<'_>, circumstances: Circumstances) {
        for (plugin, room) in self.each(Asked::Action(user, action)) {
            let (user, action) = (user.clone(), OwnedAction::from(action));
            tokio::spawn(async move {
                let _room = room;
                let arena = Arena::new();
                let asking = plugin.ask(Asked::Action(&user, action.borrow()));
                let asker = convert::identity(&arena, &user);
                let action = convert::action(&arena, action.borrow());
                let circumstances = convert::circumstances(circumstances);
                let outcome = match plugin.authorize(&asking, asker, action, circumstances).await {
                    Ok(Ok(())) => Outcome::Allow,
                    Ok(Err(denial)) => {
                        would_refuse(&plugin, &convert::denied(plugin.name(), denial));
                        Outcome::Deny
                    }
                    Err(failure) => Outcome::from(&failure),
                };
                asking.end(outcome);
            });
        }
    }

    pub(super) fn format(&self, event: &Event) {
        for (plugin, room) in self.each(Asked::Event(event)) {
            let event = event.clone();
            tokio::spawn(async move {
                let _room = room;
                let arena = Arena::new();
                let asking = plugin.ask(Asked::Event(&event));
                let outcome = match plugin.format(&asking, convert::event(&arena, &event)).await {
                    Ok(Some(status)) => {
                        let content = convert::status(status).content;
                        tracing::info!(plugin = plugin.name(), content, "would word an event");
                        Outcome::Answer
                    }
                    Ok(None) => Outcome::Leave,
                    Err(failure) => Outcome::from(&failure),
                };
                asking.end(outcome);
            });
        }
    }
}

fn would_refuse(plugin: &Plugin, refusal: &Refusal) {
    tracing::info!(plugin = plugin.name(), hook = %plugin.info.hook, %refusal, "would refuse");
}

/// An action that outlives the question.
enum OwnedAction {
    Connect(OwnedNamespace),
    Command(Command, Box<LabSnapshot>, Option<ShellInfo>),
    /// Something with one lab.
    Lab(fn(&LabSnapshot) -> Action<'_>, Box<LabSnapshot>),
    UpdateLab(Box<(LabSnapshot, LabSnapshot)>),
    /// Something with one topology.
    Topology(fn(&OwnedTopology) -> Action<'_>, Box<OwnedTopology>),
    UpdateTopology(Box<(OwnedTopology, OwnedTopology)>),
    /// Something with one collection.
    Collection(fn(&Collection) -> Action<'_>, Collection),
    UpdateCollection(Box<(Collection, Collection)>),
}

enum OwnedNamespace {
    Global(Namespace<'static>),
    LabLog(Box<LabSnapshot>),
    NodeLog(Box<LabSnapshot>, String),
    Shell(ShellInfo, Box<LabSnapshot>),
}

struct OwnedTopology {
    stored: StoredTopology,
    collection: Collection,
    definition: Topology,
}

impl OwnedTopology {
    fn borrow(&self) -> TopologyView<'_> {
        TopologyView { stored: &self.stored, collection: &self.collection, definition: &self.definition }
    }
}

impl From<TopologyView<'_>> for OwnedTopology {
    fn from(view: TopologyView<'_>) -> Self {
        Self { stored: view.stored.clone(), collection: view.collection.clone(), definition: view.definition.clone() }
    }
}

impl From<Namespace<'_>> for OwnedNamespace {
    fn from(namespace: Namespace<'_>) -> Self {
        match namespace {
            Namespace::LabCommands => Self::Global(Namespace::LabCommands),
            Namespace::LabUpdates => Self::Global(Namespace::LabUpdates),
            Namespace::StatusMessages => Self::Global(Namespace::StatusMessages),
            Namespace::ShellCommands => Self::Global(Namespace::ShellCommands),
            Namespace::LabLog(lab) => Self::LabLog(Box::new(lab.clone())),
            Namespace::NodeLog(lab, node) => Self::NodeLog(Box::new(lab.clone()), node.to_owned()),
            Namespace::Shell(shell, lab) => Self::Shell(shell.clone(), Box::new(lab.clone())),
        }
    }
}

impl OwnedNamespace {
    fn borrow(&self) -> Namespace<'_> {
        match self {
            Self::Global(namespace) => *namespace,
            Self::LabLog(lab) => Namespace::LabLog(lab),
            Self::NodeLog(lab, node) => Namespace::NodeLog(lab, node),
            Self::Shell(shell, lab) => Namespace::Shell(shell, lab),
        }
    }
}

impl From<Action<'_>> for OwnedAction {
    fn from(action: Action<'_>) -> Self {
        let lab = |lab: &LabSnapshot| Box::new(lab.clone());
        let topology = |view| Box::new(OwnedTopology::from(view));
        match action {
            Action::Connect(namespace) => Self::Connect(namespace.into()),
            Action::Command(command, at, shell) => Self::Command(command.clone(), lab(at), shell.cloned()),
            Action::ViewLab(at) => Self::Lab(|at| Action::ViewLab(at), lab(at)),
            Action::CreateLab(at) => Self::Lab(|at| Action::CreateLab(at), lab(at)),
            Action::DeleteLab(at) => Self::Lab(|at| Action::DeleteLab(at), lab(at)),
            Action::UpdateLab(before, after) => Self::UpdateLab(Box::new((before.clone(), after.clone()))),
            Action::ViewTopology(view) => Self::Topology(|of| Action::ViewTopology(of.borrow()), topology(view)),
            Action::CreateTopology(view) => Self::Topology(|of| Action::CreateTopology(of.borrow()), topology(view)),
            Action::DeleteTopology(view) => Self::Topology(|of| Action::DeleteTopology(of.borrow()), topology(view)),
            Action::UpdateTopology(before, after) => Self::UpdateTopology(Box::new((before.into(), after.into()))),
            Action::ViewCollection(at) => Self::Collection(|at| Action::ViewCollection(at), at.clone()),
            Action::CreateCollection(at) => Self::Collection(|at| Action::CreateCollection(at), at.clone()),
            Action::DeleteCollection(at) => Self::Collection(|at| Action::DeleteCollection(at), at.clone()),
            Action::UpdateCollection(before, after) => {
                Self::UpdateCollection(Box::new((before.clone(), after.clone())))
            }
        }
    }
}

impl OwnedAction {
    fn borrow(&self) -> Action<'_> {
        match self {
            Self::Connect(namespace) => Action::Connect(namespace.borrow()),
            Self::Command(command, lab, shell) => Action::Command(command, lab, shell.as_ref()),
            Self::Lab(action, lab) => action(lab),
            Self::UpdateLab(change) => Action::UpdateLab(&change.0, &change.1),
            Self::Topology(action, topology) => action(topology),
            Self::UpdateTopology(change) => Action::UpdateTopology(change.0.borrow(), change.1.borrow()),
            Self::Collection(action, collection) => action(collection),
            Self::UpdateCollection(change) => Action::UpdateCollection(&change.0, &change.1),
        }
    }
}
