//! Questions to the auth policy on behalf of a caller.

use jiff::Timestamp;

use super::Api;
use super::error::ApiError;
use super::extract::Caller;
use crate::auth::Identity;
use crate::plugins::decision::{Action, Circumstances, Refusal};

impl Api {
    /// The figures of this user, now. Found out once for each request.
    pub(super) fn circumstances(&self, user: &Identity) -> Circumstances {
        Circumstances {
            now: Timestamp::now(),
            open_shells: (self.open_shells)(&user.id),
            running_labs: self.labs.running_labs(&user.id),
        }
    }

    /// Asks whether the caller may do this.
    ///
    /// # Errors
    /// [`ApiError::Refused`].
    pub(super) async fn authorize(&self, caller: &Caller, action: Action<'_>) -> Result<(), ApiError> {
        let refused = self.plugins.authorize(&caller.identity, action, caller.circumstances).await;
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
        match self.plugins.authorize(&caller.identity, view, caller.circumstances).await {
            Ok(()) => Ok(true),
            Err(refusal @ Refusal::Failed { .. }) => Err(refusal.into()),
            Err(_) => Ok(false),
        }
    }
}
