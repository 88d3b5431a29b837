//! What becomes of each row of the other server here, beside what there is, and why some can't be taken. Pure: rows in, what
//! to write out.
//!
//! People are who they log in as. The other server calls a person by an id that it made up, and remembers the subject that
//! the OpenID provider calls them by; here they are called by that subject, so that whoever logs in by the same provider has
//! what is theirs. Its one native administrator becomes the one of this server's native login.
//!
//! What has an id that is here already was imported before, and stays as it is. A collection with a name that is here
//! already, under another id, is the same one, since people belong to collections by name.

use std::collections::HashMap;

use jiff::Timestamp;

use super::source::{CollectionRow, FileRow, LabRow, Rows, TopologyRow, UserRow};
use super::storage::Files;
use super::{Counts, Note, time};
use crate::auth;
use crate::labs::model::{BindFile, Collection, CollectionId, Lab, StoredTopology, TopologyId, User, UserId};
use crate::store::{Everything, MAX_COUNT, MAX_FILE, MAX_FILES};
use crate::topology::{Topology, file_path};

/// What is here already.
#[derive(Debug, Default)]
pub(super) struct Here {
    pub(super) users: Vec<UserId>,
    pub(super) collections: Vec<Collection>,
    pub(super) topologies: Vec<StoredTopology>,
    pub(super) files: Vec<BindFile>,
    pub(super) labs: Vec<Lab>,
}

/// What to write, and what there is to say about it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) new: Everything,
    pub(super) added: Counts,
    pub(super) already: Counts,
    /// What can't be taken over.
    pub(super) refused: Vec<Note>,
    /// What is to be said about something that can.
    pub(super) warnings: Vec<Note>,
}

/// Decides about all rows. `native_username` is the name by which the administrator logs in here.
pub(super) fn plan(rows: Rows, files: &impl Files, here: Here, native_username: &str, now: Timestamp) -> Plan {
    let administrator = User { id: auth::native_user_id(native_username), name: native_username.to_owned() };
    let plan = Plan::default();
    let mut planner = Planner {
        here,
        files,
        now,
        administrator,
        people: HashMap::new(),
        collections: HashMap::new(),
        paths: HashMap::new(),
        plan,
    };
    for row in &rows.files {
        let (Some(topology), Ok(path)) = (&row.topology, file_path(&row.path)) else { continue };
        planner.paths.entry(topology.clone()).or_default().push(path);
    }
    rows.users.into_iter().for_each(|row| planner.user(row));
    rows.collections.into_iter().for_each(|row| planner.collection(row));
    rows.topologies.into_iter().for_each(|row| planner.topology(row));
    rows.files.into_iter().for_each(|row| planner.file(row));
    rows.labs.into_iter().for_each(|row| planner.lab(row));
    let Plan { new, added, .. } = &mut planner.plan;
    *added = Counts {
        users: new.users.len(),
        collections: new.collections.len(),
        topologies: new.topologies.len(),
        files: new.files.len(),
        labs: new.labs.len(),
    };
    planner.plan
}

/// Goes over the rows, those first that others refer to.
struct Planner<'a, F> {
    here: Here,
    files: &'a F,
    now: Timestamp,
    /// Whose everything is whose creator nobody knows any more.
    administrator: User,
    /// People as they are called here, by their ids there.
    people: HashMap<String, User>,
    /// Collections by their ids there.
    collections: HashMap<String, CollectionId>,
    /// Paths of the files of topologies, by the ids of those.
    paths: HashMap<String, Vec<String>>,
    plan: Plan,
}

/// Whether a row is the native administrator: that server gives them an id of nothing but zeros.
fn is_native(row: &UserRow) -> bool {
    !row.uuid.is_empty() && row.uuid.chars().all(|digit| matches!(digit, '0' | '-'))
}

impl<F: Files> Planner<'_, F> {
    fn refuse(&mut self, what: &'static str, id: &str, name: &str, why: impl Into<String>) {
        self.plan.refused.push(Note::new(what, id, name, why));
    }

    fn warn(&mut self, what: &'static str, id: &str, name: &str, why: impl Into<String>) {
        self.plan.warnings.push(Note::new(what, id, name, why));
    }

    /// Whoever created something, as they are called here.
    fn creator(&mut self, of: (&'static str, &str, &str), uuid: Option<&String>) -> User {
        if let Some(user) = uuid.and_then(|uuid| self.people.get(uuid)) {
            return user.clone();
        }
        let administrator = self.administrator.clone();
        let (what, id, name) = of;
        let why = format!("who created it can't be told any more, so that it is {}'s now", administrator.name);
        self.warn(what, id, name, why);
        administrator
    }

    fn user(&mut self, row: UserRow) {
        let user = if is_native(&row) {
            self.administrator.clone()
        } else if row.sub.is_empty() {
            let why = "no OpenID provider knows them by any subject, so that they can't log in";
            return self.refuse("user", &row.uuid, &row.name, why);
        } else {
            let name = if row.name.is_empty() { row.sub.clone() } else { row.name };
            User { id: auth::openid_user_id(&row.sub), name }
        };
        self.people.insert(row.uuid, user.clone());
        if self.here.users.contains(&user.id) {
            self.plan.already.users += 1;
        } else if !self.plan.new.users.iter().any(|known| known.id == user.id) {
            self.plan.new.users.push(user);
        }
    }

    fn collection(&mut self, row: CollectionRow) {
        let CollectionRow { uuid, name, public_write, public_deploy, creator } = row;
        if name.trim().is_empty() {
            return self.refuse("collection", &uuid, &name, "it has no name, by which people belong to it");
        }
        let known = self.here.collections.iter().chain(&self.plan.new.collections);
        let same =
            known.clone().find(|known| known.id.as_str() == uuid).or(known.clone().find(|known| known.name == name));
        if let Some(same) = same.map(|same| same.id.clone()) {
            if same.as_str() != uuid {
                let why =
                    "there is a collection of this name here: what is in it comes into that one, which stays as it is";
                self.warn("collection", &uuid, &name, why);
            }
            self.plan.already.collections += 1;
            self.collections.insert(uuid, same);
            return;
        }
        let creator = self.creator(("collection", &uuid, &name), creator.as_ref());
        let id = CollectionId::from(uuid.as_str());
        self.collections.insert(uuid, id.clone());
        self.plan.new.collections.push(Collection { id, name, public_write, public_deploy, creator });
    }

    fn topology(&mut self, row: TopologyRow) {
        let TopologyRow { uuid, name, sync_url, last_deploy_failed, collection, creator } = row;
        if self.here.topologies.iter().any(|known| known.id.as_str() == uuid) {
            self.plan.already.topologies += 1;
            return;
        }
        let Some(collection_id) = collection.and_then(|id| self.collections.get(&id)).cloned() else {
            return self.refuse("topology", &uuid, &name, "its collection is gone, or can't be taken over");
        };
        let definition = match self.files.definition(&uuid) {
            Ok(definition) => definition,
            Err(why) => return self.refuse("topology", &uuid, &name, why),
        };
        // The name of a topology is what its definition says.
        let (name, problem) =
            match Topology::parse_beside(&definition, self.paths.get(&uuid).map(Vec::as_slice).unwrap_or_default()) {
                Ok(topology) => (topology.name, None),
                Err(error) => (name, Some(error)),
            };
        let mut known = self.here.topologies.iter().chain(&self.plan.new.topologies);
        if known.any(|known| known.collection_id == collection_id && known.name == name) {
            return self.refuse("topology", &uuid, &name, "there is another one of this name in its collection");
        }
        if let Some(error) = problem {
            let why = format!("no lab can be deployed from it before its definition is mended: {error}");
            self.warn("topology", &uuid, &name, why);
        }
        let creator = self.creator(("topology", &uuid, &name), creator.as_ref());
        self.plan.new.topologies.push(StoredTopology {
            id: uuid.into(),
            name,
            collection_id,
            definition,
            sync_url: sync_url.filter(|url| !url.is_empty()),
            last_deploy_failed,
            creator,
            file_paths: Vec::new(),
        });
    }

    /// The topology with this id, if it is here or will be.
    fn topology_of(&self, id: Option<String>) -> Option<&StoredTopology> {
        let id = TopologyId::from(id?);
        self.here.topologies.iter().chain(&self.plan.new.topologies).find(|known| known.id == id)
    }

    fn file(&mut self, row: FileRow) {
        let FileRow { uuid, path, topology } = row;
        if self.here.files.iter().any(|known| known.id.as_str() == uuid) {
            self.plan.already.files += 1;
            return;
        }
        let Some(topology_id) = self.topology_of(topology).map(|known| known.id.clone()) else {
            return self.refuse("file", &uuid, &path, "its topology is gone, or can't be taken over");
        };
        let plain = match file_path(&path) {
            Ok(plain) => plain,
            Err(why) => return self.refuse("file", &uuid, &path, why.to_string()),
        };
        let content = match self.files.file(topology_id.as_str(), &plain) {
            Ok(content) => content,
            Err(why) => return self.refuse("file", &uuid, &path, why),
        };
        let known = self.here.files.iter().chain(&self.plan.new.files).filter(|known| known.topology_id == topology_id);
        let (count, bytes) = known.clone().fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.content.len()));
        let in_the_way = |known: &BindFile| {
            let (one, other) = (&known.path, &plain);
            one == other || one.starts_with(&format!("{other}/")) || other.starts_with(&format!("{one}/"))
        };
        if let Some(other) = known.clone().find(|known| in_the_way(known)) {
            let why = format!("its topology has the file {} already", other.path);
            return self.refuse("file", &uuid, &path, why);
        }
        if content.len() > MAX_FILE || bytes + content.len() > MAX_FILES || count + 1 > MAX_COUNT {
            let why = format!(
                "a topology may have {MAX_COUNT} files of {MAX_FILE} bytes each and {MAX_FILES} bytes together at most"
            );
            return self.refuse("file", &uuid, &path, why);
        }
        self.plan.new.files.push(BindFile { id: uuid.into(), topology_id, path: plain, content });
    }

    fn lab(&mut self, row: LabRow) {
        let LabRow { uuid, name, start_time, end_time, topology, creator, instance } = row;
        if self.here.labs.iter().any(|known| known.id.as_str() == uuid) {
            self.plan.already.labs += 1;
            return;
        }
        let Some(topology) = self.topology_of(topology) else {
            return self.refuse("lab", &uuid, &name, "its topology is gone, or can't be taken over");
        };
        let (topology_id, collection_id) = (topology.id.clone(), topology.collection_id.clone());
        let Some(start) = time::parse(&start_time) else {
            return self.refuse("lab", &uuid, &name, format!("its start time, {start_time:?}, is no time"));
        };
        let end_time = end_time.filter(|text| !time::means_none(text));
        let end = end_time.as_deref().and_then(time::parse);
        // Without an end it would run for ever.
        if let Some(text) = end_time.filter(|_| end.is_none()) {
            return self.refuse("lab", &uuid, &name, format!("its end time, {text:?}, is no time"));
        }
        if end.is_some_and(|end| end <= start) {
            return self.refuse("lab", &uuid, &name, "it ends before it starts");
        }
        let is_over = end.is_some_and(|end| end <= self.now);
        if let Some(instance) = instance.filter(|_| start <= self.now && !is_over) {
            let why = format!(
                "if the other server runs it at the moment, as {instance}, that isn't taken over: destroy it there before it \
                 is deployed here"
            );
            self.warn("lab", &uuid, &name, why);
        }
        let creator = self.creator(("lab", &uuid, &name), creator.as_ref());
        let start_pending = start > self.now;
        self.plan.new.labs.push(Lab {
            id: uuid.into(),
            name,
            start_time: start,
            end_time: end,
            topology_id,
            collection_id,
            creator,
            start_pending,
            warned_before: None,
            instance: None,
        });
    }
}
