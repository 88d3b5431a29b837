//! The containerlab runtime: the real `containerlab` program deploys and destroys, starts and stops nodes; Docker's API tells
//! what runs, follows logs and opens terminals.
//!
//! | module | role |
//! |---|---|
//! | [`driver`] | [`RuntimeDriver`](super::RuntimeDriver): hands what is asked on to the others, and sees it through |
//! | [`check`], [`deploy`], [`destroy`] | what can't be run here; what happens in which order |
//! | [`nodes`], [`links`] | starts and stops single nodes; makes links again that were lost |
//! | [`stats`] | what nodes use |
//! | [`capture`] | the way into a node's network, for captures of packets |
//! | [`save`] | saves configurations, and lays them out for the next deploy |
//! | [`life`] | who may do something to an instance at the moment |
//! | [`version`] | finds the program and the engine, and says what is missing |
//! | [`management`] | whether the network that labs share gets in the way of this machine's |
//! | [`config`] | the keys of `containerlab:` |
//! | [`engine`] | knows a container engine again |
//! | [`definition`] | writes the topology file such that nothing in it is expanded |
//! | [`program`], [`output`] | runs the program; reads what it prints |
//! | [`reasons`] | why a deploy failed, with what the engine knows of it |
//! | [`runs`], [`leftovers`] | ends runs that nobody waits for; takes away what containerlab leaves behind |
//! | [`networks`], [`network_gate`] | removes management networks, but not while somebody is about to use them |
//! | [`inspect`] | reads `inspect`, for engines that Docker's API doesn't reach |

mod capture;
mod check;
mod config;
mod definition;
mod deploy;
mod destroy;
mod driver;
mod engine;
mod inspect;
mod leftovers;
mod life;
mod links;
mod management;
mod network_gate;
mod networks;
mod nodes;
mod output;
mod program;
mod reasons;
mod runs;
mod save;
mod stats;
mod version;

pub use self::config::ContainerlabConfig;
pub use self::driver::ContainerlabRuntime;
pub use self::management::overlap;
pub use self::version::{
    Found, FoundEngine, FoundProgram, MINIMUM, Missing, Version, find_engine, find_program, probe,
};
