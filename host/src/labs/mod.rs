//! Labs: what they are and what happens to them.

pub mod model;
