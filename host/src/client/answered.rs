//! An answer that is read as it comes.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use reqwest::header::HeaderMap;

use super::ApiError;

/// An answer of any length, with what comes behind it. Dropping it hangs up.
#[derive(Debug)]
pub struct Answered {
    body: reqwest::Body,
    trailers: HeaderMap,
}

impl Answered {
    pub(super) fn new(response: reqwest::Response) -> Self {
        Self { body: response.into(), trailers: HeaderMap::new() }
    }

    /// The next bytes; `None`: that was all.
    ///
    /// # Errors
    /// [`ApiError::Http`] when the connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        while let Some(frame) = self.body.frame().await {
            match frame?.into_data() {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(frame) => self.trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        Ok(None)
    }

    /// What was said behind the bytes, once [`Self::next`] has answered that they were all.
    pub fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }
}
