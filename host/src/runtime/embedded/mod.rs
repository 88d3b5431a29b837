//! Linux namespaces as a runtime: containerlab topologies whose nodes are `kind: linux`, with no image and no daemon.
//!
//! Each node is a container in namespaces of its own, root inside and nobody outside; each link is a veth pair. Nothing
//! survives the server, however it ends, and nothing has to be installed. `server` makes an [`EmbeddedRuntime`], `labs`
//! and `shells` use it through [`RuntimeDriver`](super::RuntimeDriver), and `main` calls [`helper_main`] first of all,
//! because the processes that make up a lab are this program again.
//!
//! | module | owns |
//! |---|---|
//! | [`driver`] | the trait's methods, and which instances there are |
//! | `instance` | the server's end of one lab's socket |
//! | `terminal`, `logs` | open terminals; what nodes printed |
//! | `files` | saving the files of nodes, and bringing them back |
//! | `plan` | what of a topology this runtime can do, and how it does it |
//! | `preflight` | whether this machine allows it, and if not, what to switch on |
//! | `protocol` | what goes over the socket |
//! | `helper` | everything on the other side of it |
//! | `cgroup`, `meters` | limits; what nodes use |
//!
//! The system calls that need `unsafe` are in `sys`, beside it.

mod cgroup;
pub mod driver;
mod files;
mod helper;
mod instance;
mod logs;
mod meters;
mod plan;
mod preflight;
mod protocol;
mod terminal;

use std::path::PathBuf;

pub use self::driver::EmbeddedRuntime;
pub use self::helper::helper_main;
pub use self::preflight::Unavailable;

/// Its name in the configuration, in messages and in the store.
pub const NAME: &str = "embedded";

/// Finds out whether this machine can run labs, by running one; without any effect on those that run. Blocks for some ten
/// milliseconds.
///
/// # Errors
/// One sentence that says what to switch on.
pub fn preflight(options: &EmbeddedOptions) -> Result<(), Unavailable> {
    preflight::check(options)
}

/// How the runtime shall work.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// The program that [`helper_main`] is called in: the server's own.
    pub helper: PathBuf,
    /// Files and folders of the host that no node may see, such as the server's data folder. Nodes see nothing but
    /// programs anyway; this counts where one of these lies below `/usr`. Absolute, or the runtime refuses to start.
    pub hidden: Vec<PathBuf>,
    /// Processes that a node may have.
    pub processes: u64,
    /// Bytes of memory of a node whose topology doesn't say.
    pub memory: u64,
    /// Bytes that a node may write to its root file system. They count as its memory.
    pub disk: u64,
    /// Nodes that a topology may have.
    pub max_nodes: usize,
    /// Most bytes of memory that a topology may ask for per node.
    pub max_memory: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            helper: PathBuf::from("/proc/self/exe"),
            hidden: Vec::new(),
            processes: 512,
            memory: 1 << 30,
            disk: 256 << 20,
            max_nodes: 200,
            max_memory: 16 << 30,
        }
    }
}
