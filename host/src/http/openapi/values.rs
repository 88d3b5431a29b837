//! Values that several resources have, as the document describes them: what they are checked by in `extract` and `filter`
//! says no type.

use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
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
        of_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A time of RFC 3339, kept to the millisecond."))
            .examples(["2030-01-31T08:00:00Z"])
            .into()
    }
}

impl ToSchema for Time {}

/// A list of states of labs: those of an instance, and -2 and -1 of a lab without one.
pub(in crate::http) fn states() -> RefOr<Schema> {
    ArrayBuilder::new().items(of_type(Type::Integer).minimum(Some(-2)).maximum(Some(3))).into()
}
