//! Values that several resources have, as the document describes them: what they are checked by in `extract` and `filter`
//! says no type.

use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

fn of_type(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(kind))
}

/// The payload of an answer that says nothing but that it worked: null.
pub(in crate::http) enum Nothing {}

impl PartialSchema for Nothing {
    fn schema() -> RefOr<Schema> {
        of_type(Type::Null).into()
    }
}

impl ToSchema for Nothing {}

/// A name that somebody gives something.
pub(in crate::http) enum Name {}

impl PartialSchema for Name {
    fn schema() -> RefOr<Schema> {
        // Not blank, nor with control characters.
        let pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$";
        of_type(Type::String)
            .description(Some("Not blank, without control characters. White space around it is taken away."))
            .min_length(Some(1))
            .max_length(Some(100))
            .pattern(Some(pattern))
            .into()
    }
}

impl ToSchema for Name {}

/// A moment.
pub(in crate::http) enum Time {}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        time().description(Some("A time of RFC 3339, kept to the millisecond.")).into()
    }
}

impl ToSchema for Time {}

fn time() -> ObjectBuilder {
    of_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .examples(["2030-01-31T08:00:00Z"])
}

/// In a query, an empty value says as much as none.
fn or_empty(schema: ObjectBuilder) -> RefOr<Schema> {
    AnyOfBuilder::new().item(schema).item(of_type(Type::String).max_length(Some(0))).into()
}

/// A time in a query.
pub(in crate::http) fn time_in_query() -> RefOr<Schema> {
    or_empty(time())
}

/// A number of things in a query.
pub(in crate::http) fn count_in_query() -> RefOr<Schema> {
    // As many as the server can count.
    or_empty(of_type(Type::Integer).minimum(Some(0)).maximum(Some(u64::MAX)))
}

/// States of labs in a query.
pub(in crate::http) fn states_in_query() -> RefOr<Schema> {
    let state = of_type(Type::Integer).minimum(Some(i32::MIN)).maximum(Some(i32::MAX));
    ArrayBuilder::new().items(or_empty(state)).into()
}
