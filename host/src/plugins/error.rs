//! Why plugins couldn't be loaded: for the operator, in sentences that name the plugin, the file and the cause.

use super::config::{Budget, Grant, Hook};
use super::decision::CallFailure;
use super::golden::GoldenFailure;

/// Why the plugins of a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// One plugin can't.
    #[error("{hook} plugin {place} ({path}): {problem}")]
    Plugin {
        /// The list that it is in.
        hook: Hook,
        /// Its place in that list, from 1.
        place: usize,
        /// The component as it is configured.
        path: String,
        /// What is wrong.
        problem: Box<LoadProblem>,
    },
    /// Two plugins of one list have the same name, and messages couldn't tell them apart.
    #[error("{hook}: two plugins are named {name}; give one of them a `name` of its own")]
    SameName {
        /// The list.
        hook: Hook,
        /// The name.
        name: String,
    },
    /// No policy is in force, so that nobody could be identified and nothing allowed.
    #[error("auth-policy: at least one plugin has to be in the mode `enforce`")]
    NoPolicy,
    /// The engine doesn't start on this machine.
    #[error("{0}")]
    Engine(String),
}

/// What is wrong with one plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadProblem {
    /// The file can't be read.
    #[error("can't be read: {0}")]
    Unreadable(std::io::Error),
    /// There is no bundled plugin of this name.
    #[error("there is no bundled plugin of this name; there are {0}")]
    NoSuchBuiltin(String),
    /// A budget that can't be granted.
    #[error("budget: {0}")]
    Budget(String),
    /// It isn't the component that the operator means.
    #[error("sha256: the configuration expects {expected}, and the file is {found}")]
    Digest {
        /// As it is configured.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// What is to become of its failures isn't possible in this list.
    #[error("on-error: {0}")]
    OnError(String),
    /// It imports what its entry doesn't grant.
    #[error("grants: it imports {0}, which its `grants` do not name")]
    NotGranted(Grant),
    /// It doesn't decide as it has to.
    #[error("golden: {0}")]
    Golden(GoldenFailure),
    /// It isn't WebAssembly at all.
    #[error("is not a WebAssembly component (it does not begin like one)")]
    NotWasm,
    /// It is a core module.
    #[error("is a WebAssembly core module, not a component: build it with `antimony-host plugin build`")]
    CoreModule,
    /// It begins like a component, but breaks off or is damaged.
    #[error("is truncated or damaged: {0}")]
    Damaged(String),
    /// It imports something that isn't offered.
    #[error(
        "imports {0}, which plugins are not granted: they get antimony:plugin/logging@0.1.0, and an empty WASI 0.2"
    )]
    Import(String),
    /// It is a plugin, but for another decision.
    #[error("is a plugin for {found}, and stands in the list of {expected}")]
    OtherHook {
        /// The hook that it was made for.
        found: Hook,
        /// The hook that it was configured for.
        expected: Hook,
    },
    /// It lacks an export.
    #[error("is no {expected} plugin: it does not export {missing}")]
    NoHook {
        /// The hook that it was configured for.
        expected: Hook,
        /// The interface that it lacks.
        missing: String,
    },
    /// It was built against a version of the contract that this server doesn't serve.
    #[error("was built against antimony:plugin {found}, which is too {} for this server: it knows {known}. {}",
        if *.newer { "new" } else { "old" },
        if *.newer { format!("Either update the server, or build the plugin against {known}") }
        else { format!("Its author has to build it anew against {known}; wit/CHANGELOG.md says what is different") })]
    Version {
        /// The version that it exports or imports.
        found: String,
        /// The version that this server knows.
        known: &'static str,
        /// Whether the plugin is newer than the server.
        newer: bool,
    },
    /// It was built against a later patch of the contract, and uses something that came with it.
    #[error(
        "was built against antimony:plugin {found} and uses what {known}, which this server knows, doesn't have \
        ({problem}). Either update the server, or build the plugin against {known}"
    )]
    Newer {
        /// The version that it exports or imports.
        found: String,
        /// The version that this server knows.
        known: &'static str,
        /// What it uses.
        problem: String,
    },
    /// It exports the right names with other types, or its code isn't valid.
    #[error("does not fit the contract: {0}")]
    Contract(String),
    /// It refused its settings.
    #[error("refused its settings: {0}")]
    Settings(String),
    /// `configure` failed.
    #[error("failed in `configure`: {0}")]
    Configure(CallFailure),
    /// No snapshot of it could be taken.
    #[error("can't be snapshotted after `configure`: {0}")]
    Snapshot(String),
    /// `describe` failed.
    #[error("failed in `describe`: {0}")]
    Describe(CallFailure),
    /// Its description makes no sense.
    #[error("describes itself badly: {0}")]
    Description(String),
    /// Something went wrong in the host.
    #[error("{0}")]
    Host(String),
}

/// Says what of a budget can't be granted, if anything can't.
pub(super) fn check_budget(
    budget: &Budget,
    max_memory: usize,
    max_table: usize,
    max_calls: u32,
) -> Result<(), LoadProblem> {
    let problem = if budget.time_ms == 0 {
        "`time-ms` has to be at least 1".into()
    } else if budget.concurrency == 0 {
        "`concurrency` has to be at least 1".into()
    } else if budget.concurrency > max_calls {
        format!("`concurrency` can be {max_calls} at most")
    } else if budget.wall_clock_ms == Some(0) {
        "`wall-clock-ms` has to be at least 1".into()
    } else if budget.memory() > max_memory {
        format!("`memory-bytes` can be {max_memory} at most")
    } else if budget.table_elements > max_table {
        format!("`table-elements` can be {max_table} at most")
    } else {
        return Ok(());
    };
    Err(LoadProblem::Budget(problem))
}
