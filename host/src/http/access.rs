//! Questions to the auth policy on behalf of a caller.

use jiff::Timestamp;

use super::Api;
use super::error::ApiError;
use super::extract::Caller;
use crate::plugins::decision::{Action, Circumstances, Refusal};

impl Api {
    fn circumstances(&self, caller: &Caller) -> Circumstances {
        Circumstances {
            now: Timestamp::now(),
            open_shells: (self.open_shells)(&caller.identity.id),
            running_labs: self.labs.running_labs(&caller.identity.id),
        }
    }

    /// Asks whether the caller may do this.
    ///
    /// # Errors
    /// [`ApiError::Refused`].
    pub(super) async fn authorize(&self, caller: &Caller, action: Action<'_>) -> Result<(), ApiError> {
        let refused = self.plugins.authorize(&caller.identity, action, self.circumstances(caller)).await;
        refused.inspect_err(|refusal| {
            tracing::info!(user = %caller.identity.id, %refusal, "a request was refused");
        })?;
        Ok(())
    }

    /// Asks whether the caller may know of something. A policy that can't decide is an error, not a no: an answer that
    /// silently lacks things would be taken for the truth.
    ///
    /// # Errors
    /// [`ApiError::Refused`] when a plugin failed.
    pub(super) async fn may_see(&self, caller: &Caller, view: Action<'_>) -> Result<bool, ApiError> {
        match self.plugins.authorize(&caller.identity, view, self.circumstances(caller)).await {
            Ok(()) => Ok(true),
            Err(refusal @ Refusal::Failed { .. }) => Err(refusal.into()),
            Err(_) => Ok(false),
        }
    }
}
