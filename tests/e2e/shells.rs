//! Shells at their limits.

use crate::TWO_ROUTERS;
use crate::harness::{Server, User, next};

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
