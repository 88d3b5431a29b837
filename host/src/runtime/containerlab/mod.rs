//! The containerlab runtime: the real `containerlab` program deploys and destroys, starts and stops nodes; Docker's API tells
//! what runs, follows logs and opens terminals.
//!
//! | module | role |
//! |---|---|
//! | [`driver`] | [`RuntimeDriver`](super::RuntimeDriver): what happens in which order |
//! | [`nodes`] | starts and stops single nodes, and makes links again that were lost |
//! | [`version`] | finds the program and the engine, and says what is missing |
//! | [`management`] | whether the network that labs share gets in the way of this machine's |
//! | [`config`] | the keys of `containerlab:` |
//! | [`definition`] | writes the topology file such that nothing in it is expanded |
//! | [`program`], [`output`] | runs the program; reads what it prints |
//! | [`reasons`] | why a deploy failed, with what the engine knows of it |
//! | [`leftovers`] | takes away what containerlab leaves behind |
//! | [`network_gate`] | keeps a network from being removed while somebody is about to use it |
//! | [`inspect`] | reads `inspect`, for engines that Docker's API doesn't reach |

mod config;
mod definition;
mod driver;
mod inspect;
mod leftovers;
mod management;
mod network_gate;
mod nodes;
mod output;
mod program;
mod reasons;
mod version;

pub use self::config::ContainerlabConfig;
pub use self::driver::ContainerlabRuntime;
pub use self::management::overlap;
pub use self::version::{
    Found, FoundEngine, FoundProgram, MINIMUM, Missing, Version, find_engine, find_program, probe,
};
