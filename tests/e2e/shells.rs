//! Shells at their limits.

use serde_json::json;

use crate::TWO_ROUTERS;
use crate::harness::{Server, User, code_of, next};

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_that_prints_without_end_keeps_its_reader() {
    if !User::Myself.can_run_labs("a shell that prints without end") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let shell = admin.open_shell(&lab, "r1").await;
    let mut terminal = admin.join(&format!("/shells/{shell}")).await;
    terminal.emit("data", "stty -echo; yes | head -c 8000000; echo all $((1 + 1)) printed\n").await.unwrap();
    let (mut bytes, mut end) = (0, String::new());
    while !end.contains("all 2 printed") {
        let event = next(&mut terminal).await;
        let Some(text) = event.data().as_str() else { continue };
        assert!(!text.contains("output skipped"), "the reader kept up, after {bytes} bytes");
        bytes += text.len();
        end = format!("{}{text}", &end[end.len().saturating_sub(32)..]);
    }
    assert!(bytes > 8_000_000, "{bytes}");
    admin.destroy(&lab).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_types_and_waits_for_an_answer_gets_one() {
    if !User::Myself.can_run_labs("answers to what is typed") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    admin.deploy(&lab).await.unwrap();
    let shell = admin.open_shell(&lab, "r1").await;
    let terminal = admin.join(&format!("/shells/{shell}")).await;
    assert_eq!(terminal.call("data", "true\n").await, Ok(json!(null)));
    for nothing_to_type in [json!(5), json!(null), json!({"x": 1}), json!([1])] {
        assert_eq!(code_of(terminal.call("data", nothing_to_type).await), 5422);
    }
    for no_size in
        [json!({"cols": 80}), json!({"cols": 0, "rows": 24}), json!({"cols": 65536, "rows": 24}), json!([80, 24])]
    {
        assert_eq!(code_of(terminal.call("resize", no_size).await), 5422);
    }
    assert_eq!(code_of(terminal.call("no-event", "that anybody knows").await), 5422);
    admin.command(&lab, 7, json!({ "shellId": shell })).await.unwrap();
    assert_eq!(code_of(terminal.call("data", "too late\n").await), 5007);
    admin.destroy(&lab).await.unwrap();
}
