//! Labs: what they are and what happens to them.

pub mod model;

use std::sync::Arc;

use jiff::Timestamp;

use self::model::{CollectionId, LabId, LabSnapshot, TopologyId, User};

/// A lab that somebody wants to create.
#[derive(Debug, Clone)]
pub struct NewLab {
    /// The name that its creator gives it.
    pub name: String,
    /// When it should start.
    pub start_time: Timestamp,
    /// When it should be destroyed.
    pub end_time: Option<Timestamp>,
    /// The topology that it is made from.
    pub topology_id: TopologyId,
    /// Who creates it.
    pub creator: User,
}

/// What somebody wants to change about a lab; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct LabPatch {
    /// Another name.
    pub name: Option<String>,
    /// Another start time.
    pub start_time: Option<Timestamp>,
    /// Another end time; `Some(None)`: no end.
    pub end_time: Option<Option<Timestamp>>,
    /// Another topology.
    pub topology_id: Option<TopologyId>,
}

/// Why something wasn't done to a lab's definition.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// There is no such lab.
    #[error("there is no lab {0}")]
    NotFound(LabId),
    /// There is no such topology.
    #[error("there is no topology {0}")]
    TopologyNotFound(TopologyId),
    /// Name or times make no sense; says which and why.
    #[error("{0}")]
    Invalid(String),
    /// The lab has an instance, and labs with one can't be edited or deleted.
    #[error("lab {0} has an instance: destroy it first")]
    InUse(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// Handle to all labs. Cheap to clone.
#[derive(Clone)]
pub struct Labs {}

#[expect(clippy::unimplemented, unused_variables, clippy::unused_async, reason = "outline")]
impl Labs {
    /// The lab as it is now.
    pub fn get(&self, id: &LabId) -> Option<Arc<LabSnapshot>> {
        unimplemented!()
    }
    /// All labs as they are now, by start time.
    pub fn list(&self) -> Vec<Arc<LabSnapshot>> {
        unimplemented!()
    }
    /// What a new lab would be, for the auth policy to judge; its id is empty. Checks everything that `create` checks.
    ///
    /// # Errors
    /// [`LabError::TopologyNotFound`], [`LabError::Invalid`].
    pub async fn draft(&self, new: &NewLab) -> Result<LabSnapshot, LabError> {
        unimplemented!()
    }
    /// Creates a lab.
    ///
    /// # Errors
    /// As [`Self::draft`], and [`LabError::Store`].
    pub async fn create(&self, new: NewLab) -> Result<Arc<LabSnapshot>, LabError> {
        unimplemented!()
    }
    /// What a changed lab would be, for the auth policy to judge.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn draft_update(&self, id: &LabId, patch: &LabPatch) -> Result<LabSnapshot, LabError> {
        unimplemented!()
    }
    /// Changes a lab.
    ///
    /// # Errors
    /// [`LabError::NotFound`], [`LabError::InUse`], [`LabError::TopologyNotFound`], [`LabError::Invalid`], [`LabError::Store`].
    pub async fn update(&self, id: &LabId, patch: LabPatch) -> Result<Arc<LabSnapshot>, LabError> {
        unimplemented!()
    }
    /// Deletes a lab and all that is kept of it.
    ///
    /// # Errors
    /// [`LabError::NotFound`], [`LabError::InUse`], [`LabError::Store`].
    pub async fn delete(&self, id: &LabId) -> Result<(), LabError> {
        unimplemented!()
    }
    /// A topology was changed in the store: labs that are made from it show the new one from now on.
    pub async fn topology_changed(&self, id: &TopologyId) {
        unimplemented!()
    }
    /// A collection was changed in the store.
    pub async fn collection_changed(&self, id: &CollectionId) {
        unimplemented!()
    }
}
