//! Topologies that are wrong: refused with the place and the reason, and nothing is half created.

use jiff::{Timestamp, ToSpan};
use reqwest::Method;
use serde_json::json;

use crate::harness::{Server, User};
use crate::{ONE_NODE, TWO_ROUTERS};

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_wrong_is_refused_with_its_place_and_nothing_is_created() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let topology = admin.api.create_topology(&collection, ONE_NODE).await.unwrap();
    let nodes = "name: bad\ntopology:\n  nodes:\n    r1:\n      kind: linux\n    r2:\n      kind: linux\n";
    for (definition, words) in [
        ("name: bad\ntopology: [\n".to_owned(), &["2"][..]),
        ("name: bad\n\ttopology: {}\n".to_owned(), &["2"]),
        ("topology:\n  nodes:\n    r1:\n      kind: linux\n".to_owned(), &["name"]),
        (format!("{nodes}  links:\n    - endpoints: [\"r1:eth1\", \"r3:eth1\"]\n"), &["r3", "9"]),
        (format!("{nodes}  links:\n    - endpoints: [\"r1:eth1\", \"r2\"]\n"), &["r2"]),
        (format!("{nodes}  links:\n    - endpoints: [\"r1:eth1\"]\n"), &["9"]),
        (
            format!(
                "{nodes}  links:\n    - endpoints: [\"r1:eth1\", \"r2:eth1\"]\n    - endpoints: [\"r1:eth1\", \"r2:eth2\"]\n"
            ),
            &["r1", "eth1"],
        ),
        (nodes.replace("kind: linux", "kind: [linux]"), &["kind"]),
        (String::new(), &[]),
        ("just a sentence".to_owned(), &[]),
    ] {
        let error = admin.api.create_topology(&collection, &definition).await.expect_err(&definition);
        assert_eq!(error.refusal(), Some((400, 3003)), "{definition}: {error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word:?} is missing in {error}\nfor {definition}");
        }
        let change = json!({ "collectionId": collection, "definition": definition, "syncUrl": "" });
        let error = admin.api.request(Method::PATCH, &format!("/topologies/{topology}"), Some(&change)).await;
        assert_eq!(error.unwrap_err().refusal(), Some((400, 3003)), "{definition}");
    }
    let kept = admin.api.get("/topologies").await.unwrap();
    assert_eq!(kept.as_array().unwrap().len(), 1, "{kept}");
    assert_eq!(kept[0]["definition"], ONE_NODE);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_time_do_not_undo_each_other() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", false, false).await.unwrap();
    let topology = admin.api.create_topology(&collection, ONE_NODE).await.unwrap();
    let (of_collection, of_topology) = (format!("/collections/{collection}"), format!("/topologies/{topology}"));
    for round in 0..30 {
        let (on, url) = (round % 2 == 0, format!("https://example.org/{round}"));
        let definition = format!("{ONE_NODE}# {round}\n");
        let changes = [
            (&of_collection, json!({ "name": format!("course {round}") })),
            (&of_collection, json!({ "publicWrite": on })),
            (&of_collection, json!({ "publicDeploy": on })),
            (&of_topology, json!({ "definition": definition })),
            (&of_topology, json!({ "syncUrl": url })),
        ];
        let changes = changes.iter().map(|(path, change)| admin.api.request(Method::PATCH, path, Some(change)));
        futures::future::try_join_all(changes).await.unwrap();
        let collections = admin.api.get("/collections").await.unwrap();
        let kept = ["name", "publicWrite", "publicDeploy"].map(|key| collections[0][key].clone());
        assert_eq!(kept, [json!(format!("course {round}")), json!(on), json!(on)], "round {round}");
        let topologies = admin.api.get("/topologies").await.unwrap();
        let kept = ["definition", "syncUrl"].map(|key| topologies[0][key].clone());
        assert_eq!(kept, [json!(definition), json!(url)], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_taken_have_codes_of_their_own() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let error = admin.api.create_collection("course", false, false).await.unwrap_err();
    assert_eq!(error.refusal(), Some((400, 2001)), "{error}");
    admin.api.create_topology(&collection, ONE_NODE).await.unwrap();
    let error = admin.api.create_topology(&collection, ONE_NODE).await.unwrap_err();
    assert_eq!(error.refusal(), Some((400, 3001)), "{error}");
    let other = admin.api.create_collection("other", true, true).await.unwrap();
    admin.api.create_topology(&other, ONE_NODE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_whose_times_make_no_sense_is_refused() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let topology = admin.api.create_topology(&collection, ONE_NODE).await.unwrap();
    let now = Timestamp::now();
    let at = |hours: i64| (now + hours.hours()).to_string();
    for (start, end) in [
        (json!(at(2)), json!(at(1))),
        (json!(at(2)), json!(at(2))),
        (json!(at(-2)), json!(at(-1))),
        (json!("tomorrow"), json!(null)),
        (json!(5), json!(null)),
        (json!(null), json!(null)),
    ] {
        let lab = json!({ "name": "lab", "topologyId": topology, "startTime": start, "endTime": end });
        let error = admin.api.create("/labs", &lab).await.expect_err(&lab.to_string());
        assert!(matches!(error.refusal(), Some((400 | 422, _))), "{lab}: {error}");
    }
    let nowhere = admin.api.create_lab("01890000-0000-7000-8000-000000000000", "lab").await.unwrap_err();
    assert!(matches!(nowhere.refusal(), Some((404 | 422, _))), "{nowhere}");
    assert_eq!(admin.api.get("/labs").await.unwrap(), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_this_runtime_cannot_run_is_refused_at_deploy_and_nothing_is_begun() {
    if !User::Myself.can_run_labs("a kind that is not supported") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let definition = TWO_ROUTERS.replace("    r2:\n", "    r2:\n      kind: nokia_srlinux\n");
    let lab = admin.create_lab("course", &definition).await;
    let error = admin.deploy(&lab).await.unwrap_err();
    assert!([Some(5000), Some(5001)].contains(&error.code()), "{error}");
    for word in ["r2", "nokia_srlinux", "containerlab"] {
        assert!(error.to_string().contains(word), "{word:?} is missing in {error}");
    }
    assert_eq!(admin.state(&lab).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_change_a_bind_file_at_once_do_not_undo_each_others_change() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let topology = admin.api.create_topology(&collection, ONE_NODE).await.unwrap();
    let files = format!("/topologies/{topology}/files");
    let id = admin.api.create(&files, &json!({ "filePath": "a", "content": "0" })).await.unwrap();
    let path = format!("{files}/{id}");
    let patch = async |what: serde_json::Value| {
        admin.api.request(Method::PATCH, &path, Some(&what)).await.unwrap();
    };
    for round in 1..=40 {
        let (name, content) = (format!("config/{round}"), round.to_string());
        tokio::join!(patch(json!({ "filePath": name })), patch(json!({ "content": content })));
        let shown = admin.api.get("/topologies").await.unwrap();
        let file = &shown[0]["bindFiles"][0];
        assert_eq!((&file["filePath"], &file["content"]), (&json!(name), &json!(content)), "{file}");
    }
}
