//! The form of records, and how short cases become complete.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Map, Value, json};

use super::mirror::{Action, HostDemand, Mirror as _};
use super::*;
use crate::plugins::convert::Arena;

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn authorize(input: Value, given: Value) -> Result<Input, String> {
    let given = Given::new(object(given)).map_err(|problem| problem.to_string())?;
    Input::complete(Function::Authorize, &object(input), &given).map_err(|problem| problem.to_string())
}

fn record(input: Input, outcome: Outcome) -> Record {
    Record {
        time: "2026-03-02T08:00:00.123456Z".parse().unwrap(),
        hook: input.function().hook(),
        function: input.function(),
        mode: Mode::Enforce,
        question: 7,
        plugin: PluginRef { name: "auth-policy".into(), version: "0.1.0".into(), sha256: "0a".into() },
        input,
        outcome,
        duration_us: 11,
        memory_bytes: None,
        in_force: None,
    }
}

#[test]
fn a_record_is_spelled_as_the_contract_is() {
    let input = authorize(
        json!({
            "action": {"command": {"kind": "open-shell", "node": "r1", "shell": null}},
            "circumstances": {"now": "2026-03-02T08:00:00Z", "open-shells": 2},
        }),
        json!({"lab": {"nodes": [{"name": "r1", "demands": ["privileged", {"network-mode": "host"}]}]}}),
    );
    let outcome = Outcome::Deny { rule: "creator-only".into(), message: "no".into() };
    let json = serde_json::to_value(record(input.unwrap(), outcome)).unwrap();
    let collection = json!({
        "id": "collection-1", "name": "course", "public-write": true, "public-deploy": true, "creator": "root"
    });
    let node = json!({
        "name": "r1", "kind": "linux", "image": null, "state": "running", "demands": ["privileged", {"network-mode": "host"}]
    });
    let lab = json!({
        "id": "lab-1", "name": "lab", "topology-id": "topology-1", "collection": collection, "creator": "ada",
        "start-time": 0, "end-time": null, "state": "running", "nodes": [node],
    });
    let expected = json!({
        "time": "2026-03-02T08:00:00.123456Z", "hook": "auth-policy", "function": "authorize", "mode": "enforce",
        "question": 7, "plugin": {"name": "auth-policy", "version": "0.1.0", "sha256": "0a"},
        "input": {
            "user": {"id": "ada", "admin": false, "collections": ["course"]},
            "action": {"command": {"kind": "open-shell", "lab": lab, "node": "r1", "shell": null}},
            "circumstances": {"now": 1_772_438_400_000_u64, "open-shells": 2, "running-labs": 0},
        },
        "outcome": {"deny": {"rule": "creator-only", "message": "no"}},
        "duration-us": 11,
    });
    assert_eq!(json, expected);
}

#[test]
fn a_record_reads_back_as_it_was() {
    let inputs = [
        (Function::Authorize, json!({"action": {"update-topology": {"before": {}, "after": {"name": "b"}}}})),
        (Function::Authorize, json!({"action": {"connect": "lab-updates"}})),
        (Function::Authorize, json!({"action": {"connect": {"node-log": {"node": "r1"}}}})),
        (Function::Identify, json!({"claims": {"id": "ada", "n": 1.5, "list": ["a"], "mixed": [1], "admin": true}})),
        (Function::Validate, json!({"command": {"kind": "close-shell", "shell-id": "s"}, "context": {"shell": {}}})),
        (Function::Format, json!({"event": {"what": {"shell-failed": {"reason": "x"}}}})),
        (Function::Format, json!({"event": {"what": "lab-deployed"}})),
    ];
    for (function, input) in inputs {
        let input = Input::complete(function, &object(input), &Given::default()).unwrap();
        let record = record(input, Outcome::Left);
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record, "{line}");
    }
}

#[test]
fn what_is_lent_to_a_guest_is_what_was_taken() {
    let input =
        authorize(json!({"action": {"update-lab": {"before": {}, "after": {"end-time": 5}}}}), json!({})).unwrap();
    let Input::Authorize { user, action, circumstances } = &input else { unreachable!() };
    let arena = Arena::new();
    let again = Input::authorize(&user.lend(&arena), &action.lend(&arena), circumstances.lend(&arena));
    assert_eq!(again, input);
}

#[test]
fn a_case_is_over_what_is_given_and_that_is_over_the_defaults() {
    let input = authorize(
        json!({"user": {"id": "bob"}, "action": {"delete-lab": {"name": "mine", "collection": {"public-write": false}}}}),
        json!({"lab": {"creator": "eve", "name": "theirs"}, "collection": {"name": "exam"}}),
    );
    let Input::Authorize { user, action: Action::DeleteLab(lab), .. } = input.unwrap() else { unreachable!() };
    assert_eq!((user.id.as_str(), user.collections), ("bob", vec!["course".to_owned()]));
    assert_eq!((lab.name.as_str(), lab.creator.as_str(), lab.collection.name.as_str()), ("mine", "eve", "exam"));
    assert!(lab.collection.public_deploy && !lab.collection.public_write);
}

#[test]
fn mistakes_in_a_case_are_named_with_their_place() {
    for (input, given, problem) in [
        (json!({"acton": {}}), json!({}), "input: authorize has no argument `acton`"),
        (json!({}), json!({}), "input.action: is missing"),
        (json!({"action": "view"}), json!({}), "input.action: `view` is no case of it"),
        (json!({"action": {"view-lab": {"stat": "x"}}}), json!({}), "input.action.view-lab: has no field `stat`"),
        (json!({"action": {"view-lab": {"state": "up"}}}), json!({}), "input.action.view-lab.state: `up` is no case"),
        (json!({"action": {"view-lab": {"nodes": [{"name": 7}]}}}), json!({}), "input.action.view-lab.nodes[0].name: "),
        (json!({"action": "view-lab"}), json!({"lb": {}}), "given.lb: can be identity"),
        (json!({"action": "view-lab"}), json!({"lab": {"nme": ""}}), "input.action.view-lab: has no field `nme`"),
    ] {
        let error = authorize(input.clone(), given).unwrap_err();
        assert!(error.starts_with(problem), "{input}: {error}");
    }
}

#[test]
fn a_log_holds_complete_inputs_only() {
    let error = Input::read(Function::Authorize, json!({"user": {"id": "ada", "admin": false}})).unwrap_err();
    assert!(error.starts_with("input.user: missing field `collections`"), "{error}");
}

#[test]
fn demands_and_collections_keep_their_kind() {
    let input =
        authorize(json!({"action": {"view-topology": {"nodes": [{"demands": [{"port": "80:80"}]}]}}}), json!({}));
    let Input::Authorize { action: Action::ViewTopology(topology), .. } = input.unwrap() else { unreachable!() };
    assert_eq!(topology.nodes[0].demands, [HostDemand::Port("80:80".into())]);
    let one =
        Outcome::Identity(mirror::Identity { id: "a".into(), admin: true, collections: vec!["x".into(), "y".into()] });
    let two =
        Outcome::Identity(mirror::Identity { id: "a".into(), admin: true, collections: vec!["y".into(), "x".into()] });
    assert!(one.same(&two), "their order means nothing");
}

#[test]
fn a_line_that_a_crash_cut_short_ends_the_log_and_one_that_is_wrong_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.log");
    let input = authorize(json!({"action": "view-lab"}), json!({})).unwrap();
    let line = serde_json::to_string(&record(input, Outcome::Allow)).unwrap();
    let note = r#"{"time":"2026-03-02T08:00:00Z","dropped":3}"#;
    std::fs::write(&path, format!("{line}\n{note}\n{line}\n{}", &line[..40])).unwrap();
    let mut records = read_records(&path).unwrap();
    let places: Vec<u64> = records.by_ref().map(|recorded| recorded.unwrap().place.line).collect();
    assert_eq!((places, records.dropped()), (vec![1, 3], 3));

    std::fs::write(&path, format!("{line}\n{}\n{line}\n", line.replace("\"admin\"", "\"amin\""))).unwrap();
    let records: Vec<_> = read_records(&path).unwrap().collect();
    let error = records.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(records.len() == 2 && error.contains("decisions.log:2: is not a recorded decision: input.user"), "{error}");
}

#[test]
fn expectations_that_no_answer_can_meet_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cases.yml");
    for (expect, problem) in [
        ("accept", "expect.outcome: of authorize it can be allow, deny, failed"),
        ("{ outcome: deny, rul: x }", "expect.rul: the outcome `deny` has rule, message"),
        ("{ outcome: allow, rule: x }", "expect.rule: the outcome `allow` has nothing more"),
        ("{ rule: x }", "expect.outcome: "),
    ] {
        let text = format!(
            "cases:\n  - name: it\n    function: authorize\n    input: {{ action: view-lab }}\n    expect: {expect}\n"
        );
        std::fs::write(&path, text).unwrap();
        let error = read_cases(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("cases.yml:2: case \"it\": {problem}")), "{expect}: {error}");
    }
}
