//! Which cases of the protocols' official suites there are, which test of ours shows each, and how it ends. The table in
//! `tests/interop/README.md` is made of this.

use std::fmt::Write;
use std::fs;

/// Whose suite has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suite {
    Engine,
    Socket,
    /// The suite of Socket.IO repeats it.
    Both,
}

struct Case {
    suite: Suite,
    about: &'static str,
    /// The name of our test.
    test: &'static str,
    /// What happens instead, and why that is harmless; `None`: it passes.
    differs: Option<&'static str>,
}

const fn case(suite: Suite, about: &'static str, test: &'static str) -> Case {
    Case { suite, about, test, differs: None }
}

use Suite::{Both, Engine, Socket};

const CASES: [Case; 41] = [
    case(
        Both,
        "handshake, polling: a session is opened",
        "a_session_by_polling_begins_with_what_the_client_has_to_know",
    ),
    case(Both, "handshake, polling: wrong or missing version", "polling_in_another_version_or_in_none_is_refused"),
    case(
        Both,
        "handshake, polling: wrong or missing transport",
        "a_request_for_an_unknown_transport_or_for_none_is_refused",
    ),
    case(Both, "handshake, polling: wrong method", "a_session_is_begun_by_get_and_nothing_else"),
    case(
        Both,
        "handshake, web socket: a session is opened",
        "a_session_by_web_socket_begins_with_what_the_client_has_to_know",
    ),
    case(
        Both,
        "handshake, web socket: wrong or missing version",
        "a_web_socket_in_another_version_or_in_none_is_refused",
    ),
    case(
        Both,
        "handshake, web socket: wrong or missing transport",
        "a_web_socket_for_an_unknown_transport_or_for_none_is_refused",
    ),
    case(Engine, "message, polling: one text", "a_message_by_polling_is_taken_and_answered"),
    case(Engine, "message, polling: several texts", "several_messages_in_one_payload_keep_their_order"),
    case(Engine, "message, polling: text and bytes", "text_and_bytes_share_a_payload"),
    case(Engine, "message, polling: invalid packet", "a_payload_that_is_none_ends_the_session"),
    case(Engine, "message, polling: two polls at once", "two_polls_at_once_end_the_session"),
    Case {
        suite: Engine,
        about: "message, polling: a poll is given up",
        test: "a_session_survives_a_poll_that_was_given_up_and_loses_nothing",
        differs: Some(
            "the session goes on instead of ending; what the poll was not told is told to the next, and a client that \
             has really gone is noticed by its next ping",
        ),
    },
    case(Engine, "message, web socket: text", "a_text_by_web_socket_is_taken_and_answered"),
    case(Engine, "message, web socket: bytes", "bytes_by_web_socket_are_taken_and_answered"),
    case(Engine, "message, web socket: invalid packet", "a_frame_that_is_no_packet_ends_the_session"),
    case(Both, "heartbeat, polling: pings and pongs", "pings_by_polling_come_again_and_again_while_they_are_answered"),
    case(Both, "heartbeat, polling: no pong", "a_session_by_polling_ends_when_its_pings_are_not_answered"),
    case(
        Both,
        "heartbeat, web socket: pings and pongs",
        "pings_by_web_socket_come_again_and_again_while_they_are_answered",
    ),
    case(Both, "heartbeat, web socket: no pong", "a_session_by_web_socket_ends_when_its_pings_are_not_answered"),
    case(Both, "close, polling", "a_client_that_polls_ends_its_session_by_a_packet"),
    case(Both, "close, web socket", "a_client_ends_its_session_by_a_packet_over_its_web_socket"),
    case(Both, "upgrade from polling to web socket", "a_session_changes_from_polling_to_a_web_socket"),
    case(Both, "upgrade: polls after it", "a_session_that_has_changed_is_not_polled_any_more_and_goes_on"),
    case(
        Both,
        "upgrade: another web socket after it",
        "a_session_that_has_changed_takes_no_other_web_socket_and_goes_on",
    ),
    case(Socket, "connect: main namespace", "the_main_namespace_is_joined"),
    case(Socket, "connect: main namespace, payload", "the_main_namespace_is_joined_with_a_payload_that_handlers_see"),
    case(Socket, "connect: custom namespace", "another_namespace_is_joined"),
    case(Socket, "connect: custom namespace, payload", "another_namespace_is_joined_with_a_payload_that_handlers_see"),
    case(Socket, "connect: unknown namespace", "a_namespace_that_is_not_there_is_refused_in_so_many_words"),
    case(Socket, "connect: invalid packet", "a_first_packet_that_is_none_ends_the_connection"),
    case(Socket, "connect: none comes", "a_connection_without_a_namespace_ends_after_a_while"),
    case(Socket, "disconnect: main namespace", "leaving_the_main_namespace_is_not_answered_and_ends_nothing_else"),
    case(Socket, "disconnect: custom namespace", "leaving_another_namespace_leaves_the_main_one"),
    case(Socket, "event: text", "an_event_keeps_its_arguments"),
    case(Socket, "event: attachments", "an_event_keeps_its_attachments"),
    case(Socket, "event with acknowledgement: text", "an_event_is_acknowledged_by_its_number"),
    case(
        Socket,
        "event with acknowledgement: attachments",
        "an_event_with_attachments_is_acknowledged_with_attachments",
    ),
    case(Socket, "event: unknown type", "a_packet_of_an_unknown_type_ends_the_connection"),
    case(Socket, "event: invalid payload", "an_event_that_is_no_list_ends_the_connection"),
    case(Socket, "event: invalid acknowledgement id", "an_acknowledgement_id_that_is_no_number_ends_the_connection"),
];

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/interop/README.md");
const BEGIN: &str = "<!-- cases: written by the test `the_table_in_the_readme_is_that_of_the_cases` -->\n";
const END: &str = "<!-- end of cases -->\n";

/// The cases that a suite has.
fn cases_of(suite: Suite) -> impl Iterator<Item = &'static Case> {
    CASES.iter().filter(move |case| case.suite == Both || case.suite == suite)
}

fn table() -> String {
    let summary = |suite| {
        let passing = cases_of(suite).filter(|case| case.differs.is_none()).count();
        format!("{passing} of {}", cases_of(suite).count())
    };
    let mut table = format!("Engine.IO: {} pass. Socket.IO: {} pass.\n\n", summary(Engine), summary(Socket));
    table.push_str("| case | Engine.IO | Socket.IO | test | instead |\n|---|---|---|---|---|\n");
    for Case { suite, about, test, differs } in &CASES {
        let result = if differs.is_none() { "passes" } else { "differs" };
        let of = |other| if *suite == Both || *suite == other { result } else { "" };
        let (engine, socket, instead) = (of(Engine), of(Socket), differs.unwrap_or_default());
        writeln!(table, "| {about} | {engine} | {socket} | `{test}` | {instead} |").unwrap();
    }
    table
}

/// With `UPDATE_TABLES=1` it is written there.
#[test]
fn the_table_in_the_readme_is_that_of_the_cases() {
    let readme = fs::read_to_string(README).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the line that the table begins with");
    let (shown, after) = rest.split_once(END).expect("the line that it ends with");
    if shown == table() {
        return;
    }
    if std::env::var_os("UPDATE_TABLES").is_some_and(|value| value == "1") {
        fs::write(README, [before, BEGIN, &table(), END, after].concat()).unwrap();
    } else {
        panic!("it shows something else: run this test with UPDATE_TABLES=1, and look at what has changed");
    }
}

#[test]
fn every_case_of_the_suites_has_a_test() {
    let (engine, socket) = (include_str!("engine.rs"), include_str!("socket.rs"));
    for Case { suite, test, .. } in &CASES {
        let source = if *suite == Socket { socket } else { engine };
        assert!(source.contains(&format!("async fn {test}() {{")), "{test} is not there");
    }
    // As many as the suites have.
    assert_eq!((cases_of(Engine).count(), cases_of(Socket).count()), (25, 32));
}
