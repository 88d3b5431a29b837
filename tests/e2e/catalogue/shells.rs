//! The result must be right: what becomes of shells. Lines 22 and 23; 19 to 21 are in `tests/runtimes`.

use serde_json::{Value, json};

use antimony_host::client::AckError;

use crate::ONE_NODE;
use crate::harness::{Client, Lines, Server, User, code_of};

/// Line 22.
#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_shells_opened_at_once_with_one_open_already_exactly_nineteen_open() {
    if !User::Myself.can_run_labs("twenty shells at once") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    // From two connections: the limit is the user's, whatever they are connected by.
    let tab = Client::connect(&server, &admin.token).await;
    for round in 0..3 {
        admin.open_shell(&lab, "n1").await;
        let all: Vec<_> = (0..20)
            .map(|number| [&admin, &tab][number % 2].command_in_background(&lab, 6, json!({ "node": "n1" })))
            .collect();
        let (mut opened, mut refused) = (0, 0);
        for answer in all {
            match answer.await.unwrap() {
                Ok(Value::String(_)) => opened += 1,
                Err(AckError::Refused { code: 5008, .. }) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((opened, refused), (19, 1), "round {round}");
        let open = admin.command(&lab, 5, json!({})).await.unwrap();
        let open = open.as_array().unwrap();
        assert_eq!(open.len(), 20);
        assert_eq!(code_of(admin.command(&lab, 6, json!({ "node": "n1" })).await), 5008);
        // Somebody else has places of their own.
        if round == 0 {
            let member = server.member("student", &["course"]).await;
            member.open_shell(&lab, "n1").await;
        }
        for shell in open {
            admin.command(&lab, 7, json!({ "shellId": shell["id"] })).await.unwrap();
        }
    }
    admin.destroy(&lab).await.unwrap();
}

/// Line 23. That somebody else's shell is 5403 is shown here and by `policy`.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_reloads_the_page_may_close_and_use_the_shells_that_they_opened_before() {
    if !User::Myself.can_run_labs("shells after a reload") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let before = server.member("student", &["course"]).await;
    let (first, second) = (before.open_shell(&lab, "n1").await, before.open_shell(&lab, "n1").await);
    let screen = Lines::of(before.join(&format!("/shells/{first}")).await);
    screen.namespace().emit("data", "echo $((40 + 2))=\n").await.unwrap();
    drop((screen, before));
    // With another token of the same person, as after another login.
    let after = server.member("student", &["course"]).await;
    let both = json!([{ "id": first, "node": "n1" }, { "id": second, "node": "n1" }]);
    assert_eq!(after.command(&lab, 5, json!({})).await, Ok(both));
    Lines::of(after.join(&format!("/shells/{first}")).await).until("42=").await;
    let stranger = server.member("stranger", &["course"]).await;
    assert_eq!(code_of(stranger.command(&lab, 7, json!({ "shellId": first })).await), 5403);
    assert_eq!(stranger.command(&lab, 5, json!({})).await, Ok(json!([])));
    assert_eq!(after.command(&lab, 7, json!({ "shellId": first })).await, Ok(Value::Null));
    assert_eq!(after.command(&lab, 5, json!({})).await, Ok(json!([{ "id": second, "node": "n1" }])));
    admin.destroy(&lab).await.unwrap();
}
