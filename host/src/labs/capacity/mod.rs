//! Capacity: what labs may take at once, in all and by collection, and which lab has reserved how much of it when.
//!
//! A lab that the schedule has yet to start reserves its time, from start to end; one that has an instance reserves from
//! now on until its end. Any other reserves nothing. What a lab would reserve is claimed from the [`Book`] before it is
//! created, changed or deployed, and a claim that doesn't fit is refused with [`NoRoom`]; what exists already stays, also
//! where the limits are lowered. The tasks of labs keep the book up to date.
//!
//! | module | role |
//! |---|---|
//! | [`config`] | what operators say |
//! | `amounts` | resources, amounts of them, and limits |
//! | `timeline` | pure: how much is taken when, the first moment at which it is too much, the earliest at which it isn't |
//! | `book` | who has reserved what; claims |
//! | `no_room` | a refusal, and its words |

mod amounts;
mod book;
pub mod config;
mod no_room;
mod timeline;

pub use self::amounts::{Amounts, Limits, Resource};
pub(super) use self::book::{Book, Booking, Purpose};
pub use self::book::{Claim, Reserved};
pub use self::no_room::NoRoom;
pub use self::timeline::Span;
