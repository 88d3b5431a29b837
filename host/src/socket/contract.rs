//! The machine-readable contract: the AsyncAPI document of everything that is said over Socket.IO.
//!
//! The document is written by hand, for the authors of clients. The command line prints it and [`routes`] serves it;
//! nothing in the server reads it. What keeps it true are tests: those here hold its numbers and texts against the
//! code's, and the end-to-end tests hold all their traffic against its schemas.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// The document, as YAML.
pub const DOCUMENT: &str = include_str!("asyncapi.yaml");

/// Serves the document at `/asyncapi.yaml` and `/api/asyncapi.yaml`, to anybody.
pub fn routes() -> Router {
    let document = || async { ([(header::CONTENT_TYPE, "application/yaml")], DOCUMENT).into_response() };
    Router::new().route("/asyncapi.yaml", get(document)).route("/api/asyncapi.yaml", get(document))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::plugins::decision::{CommandKind, Severity};
    use crate::socket::access::NotAdmitted;
    use crate::socket::shell_commands::ShellCommand;

    fn document() -> Value {
        serde_saphyr::from_str(DOCUMENT).expect("the document is YAML")
    }

    fn schema(name: &str) -> Value {
        document()["components"]["schemas"][name].clone()
    }

    /// The values that a schema lists, with their titles.
    fn listed(name: &str) -> Vec<(Value, String)> {
        let schema = schema(name);
        let cases = schema["oneOf"].as_array().unwrap_or_else(|| panic!("{name} lists its values"));
        cases.iter().map(|case| (case["const"].clone(), case["title"].as_str().unwrap_or_default().into())).collect()
    }

    #[test]
    fn the_error_codes_are_those_of_the_code() {
        // Read from the source, so that a code that is added there is missed here.
        let source = include_str!("error.rs");
        let in_code: BTreeSet<u64> =
            source.lines().filter_map(|line| line.split_once(": u16 = ")?.1.strip_suffix(';')?.parse().ok()).collect();
        let in_document = listed("ErrorCode").into_iter().map(|(code, _)| code.as_u64().expect("a number")).collect();
        assert_eq!(in_code, in_document);
        assert_eq!(in_code.len(), 11);
    }

    #[test]
    fn the_commands_are_those_of_the_code() {
        // A match, so that a command that is added is missed here.
        let name = |kind| match kind {
            CommandKind::Deploy => "Deploy",
            CommandKind::Destroy => "Destroy",
            CommandKind::StopNode => "StopNode",
            CommandKind::StartNode => "StartNode",
            CommandKind::RestartNode => "RestartNode",
            CommandKind::ListShells => "ListShells",
            CommandKind::OpenShell => "OpenShell",
            CommandKind::CloseShell => "CloseShell",
        };
        let kinds = [
            CommandKind::Deploy,
            CommandKind::Destroy,
            CommandKind::StopNode,
            CommandKind::StartNode,
            CommandKind::RestartNode,
            CommandKind::ListShells,
            CommandKind::OpenShell,
            CommandKind::CloseShell,
        ];
        let document = document();
        let operations = document["operations"].as_object().expect("operations");
        let commands = operations.iter().filter(|(id, operation)| {
            operation["channel"]["$ref"] == "#/channels/labCommands" && *id != "commandAsText"
        });
        assert_eq!(commands.count(), kinds.len());
        for kind in kinds {
            let number = &schema(name(kind))["allOf"][1]["properties"]["command"]["const"];
            assert_eq!(*number, kind as u8, "{kind:?}");
        }
    }

    #[test]
    fn the_severities_are_those_of_the_code() {
        let all = [Severity::Success, Severity::Info, Severity::Warning, Severity::Error, Severity::Fatal];
        let title = |severity| match severity {
            Severity::Success => "Success",
            Severity::Info => "Info",
            Severity::Warning => "Warning",
            Severity::Error => "Error",
            Severity::Fatal => "Fatal",
        };
        let in_code: Vec<_> = all.into_iter().map(|each| (Value::from(each as u8), title(each).to_owned())).collect();
        assert_eq!(listed("Severity"), in_code);
    }

    #[test]
    fn the_shell_commands_are_those_of_the_code() {
        let title = |command| match command {
            ShellCommand::Error => "Error",
            ShellCommand::Close => "Close",
        };
        let all = [ShellCommand::Error, ShellCommand::Close];
        let in_code: Vec<_> = all.into_iter().map(|each| (Value::from(each as u8), title(each).to_owned())).collect();
        assert_eq!(listed("ShellCommandId"), in_code);
    }

    #[test]
    fn the_refusals_are_those_of_the_code() {
        let all = [
            NotAdmitted::Unauthorized,
            NotAdmitted::InvalidToken,
            NotAdmitted::NoAccess,
            NotAdmitted::InvalidNamespace,
        ];
        let text = |refusal| match refusal {
            NotAdmitted::Unauthorized
            | NotAdmitted::InvalidToken
            | NotAdmitted::NoAccess
            | NotAdmitted::InvalidNamespace => Value::from(refusal.to_string()),
        };
        let in_document: Vec<_> = listed("RefusalText").into_iter().map(|(text, _)| text).collect();
        assert_eq!(in_document, all.map(text));
    }
}
