//! The demo, as a person sees it who has just cloned this.

use crate::harness::{Place, User, output_of, run_program};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_everything_and_ends_well() {
    if User::Myself.can_run_labs("the demo") {
        demo(User::Myself).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_works_for_an_ordinary_user() {
    if User::Ordinary.can_run_labs("the demo as an ordinary user") {
        demo(User::Ordinary).await;
    }
}

async fn demo(user: User) {
    let place = Place::new(user);
    let mut command = place.command();
    command.args(["demo", "--exit", "--listen", "127.0.0.1:0"]);
    let output = output_of(command).await;
    let shown = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!shown.contains('\u{1b}'), "no colours where there is no terminal: {shown}");
    for part in [
        "logged in",
        "two-routers",
        "router 10.255.0.1 is up; its host name is r1",
        "node r1 of kind linux is running",
        "node r2 of kind linux is running",
        "ping's exit status: 0",
        "refused, error 5403",
        "auth-policy",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_cannot_go_on_says_why_and_fails() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run_program(&["demo", "--exit", "--listen", &address]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&address), "{said}");
}
