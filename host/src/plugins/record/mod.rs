//! Decisions as data: what a plugin was asked and what it answered, so that it can be kept, shown, compared and asked
//! again of any component.
//!
//! Used by the decision log, by watched plugins (`watch`), and by the command line (`plugin run`, `test`, `diff`). Nothing
//! here decides anything, and nothing here is on the way of a decision unless somebody wants it recorded.
//!
//! | file | its part |
//! |---|---|
//! | `mirror`, `input`, `outcome` | arguments and answers of the functions of `wit/`, owned, with their names there |
//! | `given` | how a short case becomes complete arguments |
//! | `cases` | cases in YAML and recorded decisions, read with their places; what is expected, and how it differs |
//! | `report` | how answers compare, in sum; test results as JUnit has them |
//! | `ask`, `trial` | asking one plugin, one that runs or one that was loaded for this |
//!
//! # The form of a record
//!
//! One JSON object. `input` holds all arguments of the function by their names in `wit/`, and nothing else that a plugin
//! could depend on exists, so a record can be replayed. Records and fields are spelled as in `wit/`, a variant's case
//! without content is its name, one with content an object of one key; times are milliseconds since 1970, except for `time`
//! itself.
//!
//! ```json
//! {"time": "2026-03-02T08:00:00.123456Z", "hook": "auth-policy", "function": "authorize", "mode": "enforce", "question": 7,
//!  "plugin": {"name": "auth-policy", "version": "0.1.0", "sha256": "…"},
//!  "input": {"user": {…}, "action": {"command": {"kind": "deploy", "lab": {…}, …}}, "circumstances": {…}},
//!  "outcome": {"deny": {"rule": "creator-only", "message": "…"}}, "duration-us": 11}
//! ```
//!
//! There are no tokens, passwords or keys in it, since none of them ever goes to a plugin. There is what does: ids of users
//! and labs, names of nodes and images, host paths that a topology asks for, the end of a failed deploy's output, and the
//! claims of tokens (names, groups, mail addresses, as far as a token has them). Files of records are for the operator
//! alone.

mod ask;
mod cases;
mod given;
mod input;
pub mod mirror;
mod outcome;
mod report;
mod trial;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use self::ask::{ask, note_memory};
pub use self::cases::{Case, CasesError, Difference, Expect, Place, ReadRecords, Recorded, read_cases, read_records};
pub use self::given::{Given, Problem};
pub use self::input::{Function, Input, Kind};
pub use self::outcome::{Answer, Outcome};
pub use self::report::{Comparison, Percentiles, TestResult, junit};
pub use self::trial::{Trial, Trials};
use super::config::{Hook, Mode};
use super::decision::{self, Refusal};

/// Which plugin decided.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginRef {
    /// Its name in messages.
    pub name: String,
    /// Its version, as it says itself.
    pub version: String,
    /// SHA-256 of the component, in hexadecimal.
    pub sha256: String,
}

impl From<&super::PluginInfo> for PluginRef {
    fn from(info: &super::PluginInfo) -> Self {
        Self { name: info.name.clone(), version: info.version.clone(), sha256: info.digest.clone() }
    }
}

/// What the plugins in force came to, where a watched one was asked the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InForce {
    /// Name of the plugin that refused or failed, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
}

impl InForce {
    /// What the validators said of the command of `asked`.
    pub(super) fn validated(asked: &Input, verdict: &Result<decision::Command, Refusal>) -> Self {
        let outcome = match asked {
            Input::Validate { command, .. } => Outcome::validated(command, verdict),
            _ => Outcome::Left,
        };
        Self { plugin: refuser(verdict), outcome }
    }

    /// Whom the policies recognised.
    pub(super) fn identified(verdict: &Result<crate::auth::Identity, Refusal>) -> Self {
        let outcome = match verdict {
            Ok(user) => Outcome::Identity(user.into()),
            Err(refusal) => refusal.into(),
        };
        Self { plugin: refuser(verdict), outcome }
    }

    /// What the policies said of an action.
    pub(super) fn authorized(verdict: &Result<(), Refusal>) -> Self {
        Self { plugin: refuser(verdict), outcome: Outcome::authorized(verdict) }
    }
}

/// The plugin that refused, or failed.
fn refuser<T>(verdict: &Result<T, Refusal>) -> Option<String> {
    match verdict {
        Err(Refusal::Rejected { plugin, .. } | Refusal::Denied { plugin, .. } | Refusal::Failed { plugin, .. }) => {
            Some(plugin.clone())
        }
        Ok(_) | Err(Refusal::Unrecognised) => None,
    }
}

/// One decision of one plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", try_from = "Raw")]
pub struct Record {
    /// When it was made.
    pub time: Timestamp,
    /// What the plugin decides.
    pub hook: Hook,
    /// The function that was called.
    pub function: Function,
    /// Whether it counted.
    pub mode: Mode,
    /// The same for all plugins that were asked about one thing; counted since the server's start.
    pub question: u64,
    /// Who decided.
    pub plugin: PluginRef,
    /// What it was asked.
    pub input: Input,
    /// What it answered.
    pub outcome: Outcome,
    /// How long that took, in microseconds.
    pub duration_us: u64,
    /// Linear memory of the instance in the end, in bytes. Only of watched plugins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// What the plugins in force decided. Only of watched plugins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force: Option<InForce>,
}

/// A record as it is read: what its input has to be depends on the function.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Raw {
    time: Timestamp,
    hook: Hook,
    function: Function,
    mode: Mode,
    question: u64,
    plugin: PluginRef,
    input: Value,
    outcome: Outcome,
    duration_us: u64,
    memory_bytes: Option<u64>,
    in_force: Option<InForce>,
}

impl TryFrom<Raw> for Record {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        if raw.function.hook() != raw.hook {
            return Err(format!("{} is no function of {}", raw.function, raw.hook));
        }
        Ok(Self {
            time: raw.time,
            hook: raw.hook,
            function: raw.function,
            mode: raw.mode,
            question: raw.question,
            plugin: raw.plugin,
            input: Input::read(raw.function, raw.input)?,
            outcome: raw.outcome,
            duration_us: raw.duration_us,
            memory_bytes: raw.memory_bytes,
            in_force: raw.in_force,
        })
    }
}

/// A line of a decision log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large kind")]
pub enum Line {
    /// A decision.
    Decision(Record),
    /// So many decisions were not written down, since more were made than could be written.
    Dropped {
        /// When that was noticed.
        time: Timestamp,
        /// How many.
        dropped: u64,
    },
}

#[cfg(test)]
mod tests;
