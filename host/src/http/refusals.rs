//! Answers for what is refused before it gets to a route: in the form, and with the codes, of the rest of the API.
//!
//! `edge` calls these; it knows when something is refused, and not how that is said.

use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// There is nothing at this path.
pub(crate) fn no_route(path: &str) -> Response {
    ApiError::NoRoute(path.to_owned()).into_response()
}

/// The path and query are longer than `most` bytes.
pub(crate) fn uri_too_long(most: usize) -> Response {
    ApiError::UriTooLong(most).into_response()
}

/// A page of another site asks for a socket.
pub(crate) fn foreign_origin() -> Response {
    ApiError::ForeignOrigin.into_response()
}
