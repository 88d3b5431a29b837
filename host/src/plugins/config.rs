//! What an operator says about plugins: which ones, in which order, with what settings and budgets.
//!
//! A part of the configuration file, under `plugins`. Reading the file is not done here.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// Which plugins decide what, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PluginsConfig {
    /// The pipeline that commands go through.
    pub command_validator: Vec<Entry>,
    /// The policies: the first that recognises a token identifies its bearer, and all have to allow an action.
    pub auth_policy: Vec<Entry>,
    /// The formatters: the first that answers words an event.
    pub status_formatter: Vec<Entry>,
}

impl Default for PluginsConfig {
    /// The bundled plugins with the settings that they have by themselves.
    fn default() -> Self {
        let bundled = |hook: Hook| vec![Entry::new(format!("{BUILTIN}{}", hook.name()))];
        Self {
            command_validator: bundled(Hook::CommandValidator),
            auth_policy: bundled(Hook::AuthPolicy),
            status_formatter: bundled(Hook::StatusFormatter),
        }
    }
}

impl PluginsConfig {
    /// The entries of one hook.
    pub fn entries(&self, hook: Hook) -> &[Entry] {
        match hook {
            Hook::CommandValidator => &self.command_validator,
            Hook::AuthPolicy => &self.auth_policy,
            Hook::StatusFormatter => &self.status_formatter,
        }
    }
}

/// A component with more bytes than this has an interpreter in it: those that are compiled take a tenth of it, and an
/// engine for JavaScript or Python three times as much.
const INTERPRETER: usize = 4 << 20;
/// The memory that a component gets by default.
const MEMORY: usize = 16 << 20;
/// The memory that one with an interpreter gets by default. It begins with some 10 MiB.
const INTERPRETED_MEMORY: usize = 64 << 20;

/// What a path of a bundled plugin begins with.
pub(super) const BUILTIN: &str = "builtin:";

/// One of the three decisions that plugins make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Is this command valid?
    CommandValidator,
    /// Who is this, and may they do that?
    AuthPolicy,
    /// How is this event worded?
    StatusFormatter,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::CommandValidator, Self::AuthPolicy, Self::StatusFormatter];

    /// The name of its world in `wit/`, and of its list in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::CommandValidator => "command-validator",
            Self::AuthPolicy => "auth-policy",
            Self::StatusFormatter => "status-formatter",
        }
    }

    /// The interface that its world exports besides `lifecycle`.
    pub(super) fn interface(self) -> &'static str {
        match self {
            Self::CommandValidator => "validator",
            Self::AuthPolicy => "policy",
            Self::StatusFormatter => "formatter",
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One plugin in a list.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entry {
    /// The component: `builtin:` and the name of a bundled one, or a file, relative to the configuration file.
    pub path: String,
    /// What the SHA-256 of the component has to be, in hexadecimal. It is checked before anything of it is compiled.
    #[serde(default)]
    pub sha256: Option<Sha256Hex>,
    /// A name for logs, metrics and refusals, instead of the one that the plugin gives itself.
    #[serde(default)]
    pub name: Option<String>,
    /// Handed to the plugin's `configure` as JSON. Nothing means `{}`.
    #[serde(default)]
    pub settings: serde_json::Value,
    /// Whether what it decides counts.
    #[serde(default)]
    pub mode: Mode,
    /// What becomes of a question that the plugin fails to answer. Unless it is set: `refuse`, and `skip` in the list of
    /// formatters.
    #[serde(default)]
    pub on_error: Option<OnError>,
    /// Whether each call gets an instance of its own.
    #[serde(default)]
    pub instance: InstanceMode,
    /// What a call may cost.
    #[serde(default)]
    pub budget: Budget,
    /// What of the host it may import. Unless it is set: all that there is, which is `[logging, wasi]`. A component that
    /// imports anything else is refused.
    #[serde(default)]
    pub grants: Option<Vec<Grant>>,
    /// Files of cases, relative to the configuration file, that the plugin has to decide as they say before it is used.
    #[serde(default, deserialize_with = "one_or_several")]
    #[schemars(with = "OneOrSeveral")]
    pub golden: Vec<String>,
    /// When it is no longer asked, since it keeps failing.
    #[serde(default)]
    pub breaker: BreakerConfig,
}

impl Entry {
    /// An entry with everything but the path as it is by default.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            name: None,
            settings: serde_json::Value::Null,
            mode: Mode::default(),
            budget: Budget::default(),
            sha256: None,
            on_error: None,
            instance: InstanceMode::default(),
            grants: None,
            golden: Vec::new(),
            breaker: BreakerConfig::default(),
        }
    }

    /// Whether the plugin may import this.
    pub fn is_granted(&self, grant: Grant) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.contains(&grant))
    }

    /// What becomes of a question that the plugin fails to answer, when it stands in the list of `hook`.
    ///
    /// # Errors
    /// When it is set to what isn't possible there; says what is.
    pub fn on_error(&self, hook: Hook) -> Result<OnError, String> {
        match (hook, self.on_error) {
            (Hook::StatusFormatter, None | Some(OnError::Skip)) => Ok(OnError::Skip),
            (Hook::StatusFormatter, Some(_)) => {
                Err("in the list of formatters only `skip` is possible: no message is lost for want of its wording"
                    .into())
            }
            (_, None | Some(OnError::Refuse)) => Ok(OnError::Refuse),
            (_, Some(OnError::DangerouslyAllow)) => Ok(OnError::DangerouslyAllow),
            (_, Some(OnError::Skip)) => Err(format!(
                "`skip` is for formatters. Here it would let through what {hook} is there to refuse, whenever the plugin \
                 fails; if that is what you want, say `dangerously-allow`"
            )),
        }
    }

    /// The settings as the plugin gets them.
    pub(super) fn settings_json(&self) -> String {
        if self.settings.is_null() { "{}".into() } else { self.settings.to_string() }
    }
}

/// The SHA-256 of a component: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9A-Fa-f]{64}$"))]
pub struct Sha256Hex(String);

impl Sha256Hex {
    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(format!("sha256: {text:?} is not 64 hexadecimal digits, as `sha256sum` prints them"))
    }
}

/// What becomes of a question that a plugin fails to answer: it trapped, exceeded its budget, or answered nonsense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// It counts as no. What validators and policies do unless told otherwise.
    Refuse,
    /// It is as if the plugin weren't there: the next formatter is asked, and at last there is plain wording. What
    /// formatters do.
    Skip,
    /// For validators and policies: whoever makes the plugin fail gets past it. A command goes on as it was, and an action
    /// counts as allowed by this policy; the others of the list are still asked. Each time is logged as a warning. Who
    /// somebody is, is never guessed: a policy that fails to identify a token refuses it all the same, so that such an
    /// entry belongs behind the one that identifies people.
    DangerouslyAllow,
}

/// Whether each call of a plugin gets an instance of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceMode {
    /// It does, and nothing can leak from one call into the next.
    #[default]
    PerCall,
    /// Instances are used again, which is faster where a fresh one takes long, as with JavaScript and Python. The plugin may
    /// remember what it was asked before.
    Warm,
}

/// Something of the host that plugins may import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// `antimony:plugin/logging`: lines in the server's log, within `log-bytes`.
    Logging,
    /// WASI 0.2 with nothing behind it: no files, environment, network or streams, clocks that stand still. What is built
    /// from JavaScript and Python imports it.
    Wasi,
}

impl std::fmt::Display for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Logging => "logging",
            Self::Wasi => "wasi",
        })
    }
}

/// One text, or a list of texts.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match OneOrSeveral::deserialize(deserializer)? {
        OneOrSeveral::One(one) => vec![one],
        OneOrSeveral::Several(several) => several,
    })
}

/// Whether what a plugin decides counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It is asked, counted and logged, and everything goes on as if it weren't there: for trying a plugin out. It is asked
    /// what the plugins in force were asked, after they have answered, with nobody waiting for it, and its answer is
    /// compared with theirs; when more of this goes on than there is room for, it is left out.
    Monitor,
}

/// What a plugin's calls may cost. Each overrun has its own [`CallFailure`](super::decision::CallFailure).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Budget {
    /// How long a call may compute, in milliseconds. Counted are the 1 ms ticks that find it computing, so that a call
    /// which a busy machine leaves waiting is not charged for that; but no call lasts longer than
    /// `wall-clock-ms` in all.
    pub time_ms: u32,
    /// How long a call may last in all, whether it computes, waits for others or sleeps, in milliseconds. Unless it is
    /// set: four times `time-ms`, and at least half a second.
    pub wall_clock_ms: Option<u32>,
    /// Linear memory of an instance in total, in bytes. Unless it is set: 16 MiB, and 64 MiB for a component that is larger
    /// than 4 MiB, since that brings an interpreter along (JavaScript, Python).
    pub memory_bytes: Option<usize>,
    /// What a call may return, in bytes.
    pub answer_bytes: usize,
    /// What a call may log, in bytes.
    pub log_bytes: usize,
    /// Elements of an instance's tables in total.
    pub table_elements: usize,
    /// How many calls may run at once; more wait for a moment. All entries together can have 512.
    pub concurrency: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            time_ms: 50,
            wall_clock_ms: None,
            memory_bytes: None,
            answer_bytes: 1 << 20,
            log_bytes: 8 << 10,
            table_elements: 10_000,
            concurrency: 32,
        }
    }
}

/// When a plugin that keeps failing is no longer asked. See `breaker` for what that means to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BreakerConfig {
    /// After so many faults in a row. 0: it is always asked.
    pub failures: u32,
    /// After how long one question is put to it all the same, to see whether it works again, in milliseconds. When it
    /// fails again, or is open again soon after it has closed, that takes twice as long, up to 16 times.
    pub cool_down_ms: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 10, cool_down_ms: 5_000 }
    }
}

impl Budget {
    /// What the defaults come to for a component of so many bytes.
    pub(super) fn for_component(self, bytes: usize) -> Self {
        let by_default = if Self::is_interpreter(bytes) { INTERPRETED_MEMORY } else { MEMORY };
        Self { memory_bytes: Some(self.memory_bytes.unwrap_or(by_default)), ..self }
    }

    /// Whether a component of so many bytes has an interpreter in it.
    pub(super) fn is_interpreter(bytes: usize) -> bool {
        bytes > INTERPRETER
    }

    /// Linear memory of an instance in total, in bytes; of a component that has no interpreter in it, where it isn't set.
    pub fn memory(&self) -> usize {
        self.memory_bytes.unwrap_or(MEMORY)
    }

    /// How long a call may compute.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.time_ms.into())
    }

    /// How long a call may last in all. Only a call that sleeps, or a machine that is hopelessly overloaded, gets there.
    pub fn wall_clock(&self) -> Duration {
        let by_default = || (self.time() * 4).max(Duration::from_millis(500));
        self.wall_clock_ms.map_or_else(by_default, |ms| Duration::from_millis(ms.into()))
    }

    /// How long a call waits for others of its plugin to end, before it fails as busy: ten times what each of them may
    /// compute, and at least half a second.
    pub fn patience(&self) -> Duration {
        (self.time() * 10).max(Duration::from_millis(500))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_means_the_bundled_plugins() {
        let config: PluginsConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, PluginsConfig::default());
        assert_eq!(config.auth_policy[0].path, "builtin:auth-policy");
        assert_eq!(config.auth_policy[0].settings_json(), "{}");
    }

    #[test]
    fn an_entry_reads_as_it_is_documented() {
        let text = r#"{"auth-policy": [{"path": "a.wasm", "name": "mine", "settings": {"k": 1}, "mode": "monitor",
            "budget": {"time-ms": 5}, "breaker": {"failures": 0}}]}"#;
        let config: PluginsConfig = serde_json::from_str(text).unwrap();
        let entry = &config.auth_policy[0];
        assert_eq!((entry.mode, entry.budget.time_ms, entry.budget.concurrency), (Mode::Monitor, 5, 32));
        assert_eq!(entry.settings_json(), r#"{"k":1}"#);
        assert_eq!(entry.breaker, BreakerConfig { failures: 0, cool_down_ms: 5_000 });
        assert_eq!(config.command_validator, PluginsConfig::default().command_validator);
    }

    #[test]
    fn what_becomes_of_a_failed_question_depends_on_the_hook() {
        let said = |on_error| Entry { on_error, ..Entry::new("p.wasm") };
        assert_eq!(said(None).on_error(Hook::AuthPolicy), Ok(OnError::Refuse));
        assert_eq!(said(None).on_error(Hook::CommandValidator), Ok(OnError::Refuse));
        assert_eq!(said(None).on_error(Hook::StatusFormatter), Ok(OnError::Skip));
        assert!(said(Some(OnError::Refuse)).on_error(Hook::StatusFormatter).is_err());
        for hook in [Hook::AuthPolicy, Hook::CommandValidator] {
            let why = said(Some(OnError::Skip)).on_error(hook).unwrap_err();
            assert!(why.contains("dangerously-allow"), "{why}");
            assert_eq!(said(Some(OnError::DangerouslyAllow)).on_error(hook), Ok(OnError::DangerouslyAllow));
        }
    }

    #[test]
    fn a_digest_that_is_none_is_refused_with_its_key() {
        let entry = |digest: &str| serde_json::from_str::<Entry>(&format!(r#"{{"path": "p", "sha256": "{digest}"}}"#));
        let error = entry("abc").unwrap_err().to_string();
        assert!(error.contains("sha256") && error.contains("abc"), "{error}");
        assert_eq!(entry(&"AB".repeat(32)).unwrap().sha256.unwrap().as_str(), "ab".repeat(32));
    }

    #[test]
    fn golden_cases_are_one_file_or_several() {
        let entry = |golden: &str| {
            serde_json::from_str::<Entry>(&format!(r#"{{"path": "p", "golden": {golden}}}"#)).unwrap().golden
        };
        assert_eq!(entry(r#""a.yml""#), ["a.yml"]);
        assert_eq!(entry(r#"["a.yml", "b.yml"]"#), ["a.yml", "b.yml"]);
    }

    #[test]
    fn everything_that_there_is_is_granted_unless_the_operator_says_less() {
        let entry = |grants| Entry { grants, ..Entry::new("p") };
        assert!(entry(None).is_granted(Grant::Wasi));
        assert!(!entry(Some(vec![Grant::Logging])).is_granted(Grant::Wasi));
    }

    #[test]
    fn a_call_lasts_four_times_what_it_may_compute_unless_the_operator_says_otherwise() {
        let budget = |json: &str| serde_json::from_str::<Budget>(json).unwrap().wall_clock();
        assert_eq!(budget("{}"), Duration::from_millis(500));
        assert_eq!(budget(r#"{"time-ms": 1000}"#), Duration::from_secs(4));
        assert_eq!(budget(r#"{"wall-clock-ms": 70}"#), Duration::from_millis(70));
    }

    #[test]
    fn a_component_with_an_interpreter_gets_more_memory_unless_the_operator_says_how_much() {
        let budget = |memory_bytes| Budget { memory_bytes, ..Budget::default() };
        assert_eq!(budget(None).for_component(400 << 10).memory(), 16 << 20);
        assert_eq!(budget(None).for_component(12 << 20).memory(), 64 << 20);
        // Also when it is what others have by default.
        for said in [16 << 20, 20 << 20] {
            assert_eq!(budget(Some(said)).for_component(12 << 20).memory(), said);
        }
        assert_eq!(serde_json::from_str::<Budget>(r#"{"memory-bytes": 16777216}"#).unwrap(), budget(Some(16 << 20)));
    }

    #[test]
    fn a_misspelt_key_is_an_error_at_every_level() {
        for text in [
            r#"{"auth-polcy": []}"#,
            r#"{"auth-policy": [{"path": "a", "setings": {}}]}"#,
            r#"{"auth-policy": [{"path": "a", "budget": {"time": 5}}]}"#,
        ] {
            assert!(serde_json::from_str::<PluginsConfig>(text).is_err(), "{text}");
        }
    }
}
