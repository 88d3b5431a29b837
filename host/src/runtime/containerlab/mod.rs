//! The containerlab runtime: the real `containerlab` program deploys and destroys, starts and stops nodes; Docker's API tells
//! what runs, follows logs and opens terminals.

mod config;
mod definition;
mod output;
mod program;
mod version;

pub use self::config::ContainerlabConfig;
pub use self::version::{
    Found, FoundEngine, FoundProgram, MINIMUM, Missing, Version, find_engine, find_program, probe,
};
