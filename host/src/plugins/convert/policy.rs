//! `policy`: claims, actions and denials.

use serde_json::Value;

use super::types::{collection, command_kind, lab, shell, topology};
use super::{Arena, NAME, SENTENCE, line};
use crate::auth::Claims;
use crate::plugins::bindings::exports::antimony::plugin::policy as wit;
use crate::plugins::decision::{Action, Namespace, Refusal};

pub(in crate::plugins) fn claims<'a>(arena: &'a Arena, claims: &'a Claims) -> &'a [wit::Claim<'a>] {
    let claim = |(name, value): (&'a String, &'a Value)| wit::Claim { name, value: claim_value(arena, value) };
    let claims: Vec<_> = claims.0.iter().map(claim).collect();
    arena.alloc_slice_fill_iter(claims)
}

fn claim_value<'a>(arena: &'a Arena, value: &'a Value) -> wit::ClaimValue<'a> {
    let json = || wit::ClaimValue::Json(arena.alloc_str(&value.to_string()));
    match value {
        Value::String(text) => wit::ClaimValue::Text(text),
        Value::Bool(value) => wit::ClaimValue::Boolean(*value),
        Value::Number(number) => number.as_i64().map_or_else(json, wit::ClaimValue::Integer),
        Value::Array(items) if items.iter().all(Value::is_string) => wit::ClaimValue::Texts(
            arena.alloc_slice_fill_iter(items.iter().map(|item| item.as_str().unwrap_or_default())),
        ),
        Value::Array(_) | Value::Object(_) | Value::Null => json(),
    }
}

pub(in crate::plugins) fn action<'a>(arena: &'a Arena, action: Action<'a>) -> wit::Action<'a> {
    match action {
        Action::Connect(to) => wit::Action::Connect(namespace(arena, to)),
        Action::Command(command, at, named) => wit::Action::Command(wit::CommandRequest {
            kind: command_kind(command.kind),
            lab: lab(arena, at),
            node: command.node.as_deref(),
            shell: named.map(shell),
        }),
        Action::ViewLab(at) => wit::Action::ViewLab(lab(arena, at)),
        Action::CreateLab(at) => wit::Action::CreateLab(lab(arena, at)),
        Action::UpdateLab(before, after) => {
            wit::Action::UpdateLab(wit::LabChange { before: lab(arena, before), after: lab(arena, after) })
        }
        Action::DeleteLab(at) => wit::Action::DeleteLab(lab(arena, at)),
        Action::ViewTopology(view) => wit::Action::ViewTopology(topology(arena, view)),
        Action::CreateTopology(view) => wit::Action::CreateTopology(topology(arena, view)),
        Action::UpdateTopology(before, after) => wit::Action::UpdateTopology(wit::TopologyChange {
            before: topology(arena, before),
            after: topology(arena, after),
        }),
        Action::DeleteTopology(view) => wit::Action::DeleteTopology(topology(arena, view)),
        Action::ViewCollection(at) => wit::Action::ViewCollection(collection(at)),
        Action::CreateCollection(at) => wit::Action::CreateCollection(collection(at)),
        Action::UpdateCollection(before, after) => {
            let change = wit::CollectionChange { before: collection(before), after: collection(after) };
            wit::Action::UpdateCollection(change)
        }
        Action::DeleteCollection(at) => wit::Action::DeleteCollection(collection(at)),
    }
}

fn namespace<'a>(arena: &'a Arena, namespace: Namespace<'a>) -> wit::Namespace<'a> {
    match namespace {
        Namespace::LabCommands => wit::Namespace::LabCommands,
        Namespace::LabUpdates => wit::Namespace::LabUpdates,
        Namespace::StatusMessages => wit::Namespace::StatusMessages,
        Namespace::ShellCommands => wit::Namespace::ShellCommands,
        Namespace::LabLog(at) => wit::Namespace::LabLog(lab(arena, at)),
        Namespace::NodeLog(at, node) => wit::Namespace::NodeLog(wit::NodeLog { lab: lab(arena, at), node }),
        Namespace::Shell(at, of) => wit::Namespace::Shell(wit::ShellInLab { shell: shell(at), lab: lab(arena, of) }),
    }
}

pub(in crate::plugins) fn denied(plugin: &str, denial: wit::Denial) -> Refusal {
    Refusal::Denied { plugin: plugin.into(), rule: line(denial.rule, NAME), message: line(denial.message, SENTENCE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_keep_their_kind() {
        let json = serde_json::json!({
            "id": "ada", "isAdmin": true, "exp": 7, "collections": ["a", "b"], "none": [], "mixed": [1], "pi": 3.5
        });
        let Value::Object(map) = json else { unreachable!() };
        let arena = Arena::new();
        let all = Claims(map);
        let find = |name: &str| {
            let claim = claims(&arena, &all).iter().find(|claim| claim.name == name).expect("it was given");
            format!("{:?}", claim.value)
        };
        assert_eq!(find("id"), r#"ClaimValue::Text("ada")"#);
        assert_eq!(find("isAdmin"), "ClaimValue::Boolean(true)");
        assert_eq!(find("exp"), "ClaimValue::Integer(7)");
        assert_eq!(find("collections"), r#"ClaimValue::Texts(["a", "b"])"#);
        assert_eq!(find("none"), "ClaimValue::Texts([])");
        assert_eq!(find("mixed"), r#"ClaimValue::Json("[1]")"#);
        assert_eq!(find("pi"), r#"ClaimValue::Json("3.5")"#);
    }
}
