//! What an operator can set, and how a mistake in it is reported.

use serde::Deserialize;

use crate::bindings::antimony::plugin::types::CommandKind;
use crate::bindings::exports::antimony::plugin::validator::Command;

/// The settings of this plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// What the numbers of commands mean.
    pub(crate) dialect: Dialect,
}

/// What the numbers of commands mean: existing clients disagree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Dialect {
    /// As specified: 2 stops a node, 3 starts one.
    #[default]
    Antimony,
    /// As the deployed web client means them: 2 starts a node, 3 stops one.
    AntimonyUi,
}

impl Settings {
    /// Reads the settings; the error names key and place.
    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }
}

impl Dialect {
    /// The command as the specification would have it.
    pub(crate) fn translate(self, command: Command) -> Command {
        let kind = match (self, command.kind) {
            (Self::AntimonyUi, CommandKind::StopNode) => CommandKind::StartNode,
            (Self::AntimonyUi, CommandKind::StartNode) => CommandKind::StopNode,
            (_, kind) => kind,
        };
        Command { kind, ..command }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn command(kind: CommandKind) -> Command {
        Command { kind, lab_id: "lab".into(), node: Some("r1".into()), shell_id: None }
    }

    #[test]
    fn no_settings_mean_the_specified_dialect() {
        assert_eq!(Settings::parse("{}").unwrap().dialect, Dialect::Antimony);
    }

    #[test]
    fn the_web_clients_dialect_swaps_stop_and_start_and_nothing_else() {
        let dialect = Settings::parse(r#"{"dialect": "antimony-ui"}"#).unwrap().dialect;
        assert_eq!(dialect.translate(command(CommandKind::StopNode)).kind, CommandKind::StartNode);
        assert_eq!(dialect.translate(command(CommandKind::StartNode)).kind, CommandKind::StopNode);
        assert_eq!(dialect.translate(command(CommandKind::RestartNode)).kind, CommandKind::RestartNode);
        assert_eq!(Dialect::Antimony.translate(command(CommandKind::StopNode)).kind, CommandKind::StopNode);
    }

    #[test]
    fn a_misspelt_key_is_named_with_what_would_be_right() {
        let error = Settings::parse(r#"{"dialekt": "antimony"}"#).unwrap_err();
        assert!(error.contains("dialekt") && error.contains("`dialect`") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn an_unknown_dialect_is_named_with_those_that_exist() {
        let error = Settings::parse(r#"{"dialect": "klingon"}"#).unwrap_err();
        assert!(error.contains("klingon") && error.contains("antimony-ui"), "{error}");
    }
}
