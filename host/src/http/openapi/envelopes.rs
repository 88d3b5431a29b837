//! Has the envelopes of answers refer to what is in them, by its name.
//!
//! The schema of a generic type holds those of its arguments in full, so that `Payload<Vec<LabJson>>` would show clients
//! another lab than `Payload<LabJson>`, and none that has a name.

use utoipa::openapi::schema::{ArrayItems, Components};
use utoipa::openapi::{OpenApi, Ref, RefOr, Schema};

/// Replaces every payload, or what a list of a payload consists of, that has a schema of its own.
pub(super) fn share(document: &mut OpenApi) {
    let Some(Components { schemas, .. }) = &mut document.components else { return };
    let named = schemas.clone();
    let name_of = |schema: &RefOr<Schema>| {
        let (name, _) = named.iter().find(|(_, other)| *other == schema)?;
        Some(RefOr::from(Ref::from_schema_name(name)))
    };
    for (_, schema) in schemas.iter_mut().filter(|(name, _)| name.starts_with("Payload_")) {
        let RefOr::T(Schema::Object(envelope)) = schema else { continue };
        let Some(payload) = envelope.properties.get_mut("payload") else { continue };
        let shared = match payload {
            RefOr::T(Schema::Array(list)) => match &mut list.items {
                ArrayItems::RefOrSchema(item) => &mut **item,
                ArrayItems::False => continue,
            },
            payload => payload,
        };
        if let Some(reference) = name_of(shared) {
            *shared = reference;
        }
    }
}
