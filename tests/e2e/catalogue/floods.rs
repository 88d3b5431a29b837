//! A client, or a node, must not be able to take the server down by sheer amount: lines 6 and 7.

use std::time::Duration;

use antimony_host::client::Connection;
use serde_json::json;

use super::Bystander;
use crate::ONE_NODE;
use crate::harness::{Client, Figures, Lines, Raw, Server, User, eventually, within};

/// KiB that a flood may cost the server at most, at its peak: queues and histories of bounded size, and what the
/// allocator keeps of them.
const BOUND: u64 = 96 << 10;

/// Prints a line of 10 MiB, a million lines as fast as it can, and what is no UTF-8, each with a line behind it.
pub(super) const FLOOD: &str = "head -c 10485760 /dev/zero | tr '\\\\0' x; echo; echo after the long line $((1 + 1));
yes a line of the flood | head -n 1000000; echo after the flood $((1 + 1));
printf 'no text: \\\\377\\\\376\\\\303 and on\\\\n'; head -c 65536 /dev/urandom; echo; echo after the noise $((1 + 1))";

/// Somebody who follows a log as clients do: who is cut because they don't keep up comes back.
pub(super) struct Reader<'a> {
    client: &'a Client,
    path: String,
    log: Lines,
}

impl<'a> Reader<'a> {
    pub(super) async fn join(client: &'a Client, path: &str) -> Self {
        // A connection of its own: only that one is cut.
        Self { client, path: path.to_owned(), log: Lines::of(client.join_once_there_elsewhere(path).await) }
    }

    /// Reads until a line with `wanted` comes.
    pub(super) async fn until(&mut self, wanted: &str) {
        let mut looked_at = 0;
        let reading = async {
            loop {
                if self.log.pieces[looked_at..].iter().any(|line| line.contains(wanted)) {
                    return;
                }
                looked_at = self.log.pieces.len();
                if !self.log.read().await {
                    let namespace = self.client.join_once_there_elsewhere(&self.path).await;
                    self.log = Lines::of(namespace);
                    looked_at = 0;
                }
            }
        };
        tokio::time::timeout(3 * crate::harness::PATIENCE, reading)
            .await
            .unwrap_or_else(|_| panic!("{wanted:?} did not come in {}", self.path));
    }
}

/// Line 6, as it comes into the log of a lab.
#[tokio::test(flavor = "multi_thread")]
async fn long_lines_many_lines_and_no_text_at_all_in_the_log_of_a_lab_cost_bounded_memory_and_the_log_goes_on() {
    if !User::Myself.can_run_labs("a flood in the log of a lab") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let quiet = admin.create_lab("quiet", ONE_NODE).await;
    admin.deploy(&quiet).await.unwrap();
    admin.destroy(&quiet).await.unwrap();
    let flood: String = FLOOD.lines().collect();
    let topology = format!(
        "name: flood\ntopology:\n  nodes:\n    n1:\n      kind: linux\n      exec:\n        - \"sh -c \\\"{}\\\"\"\n",
        flood.replace('$', "\\\\$")
    );
    let lab = admin.create_lab("course", &topology).await;
    let before = Figures::of(server.id());
    let bystander = Bystander::start(&server, &admin.token, &quiet).await;
    let deploy = {
        let admin = Client::connect(&server, &admin.token).await;
        let lab = lab.clone();
        tokio::spawn(async move {
            tokio::time::timeout(
                3 * crate::harness::PATIENCE,
                admin.commands.call("data", json!({ "labId": lab, "command": 0 })),
            )
            .await
        })
    };
    let mut reader = Reader::join(&admin, &format!("/logs/{lab}")).await;
    // Somebody who joins and never reads again.
    let mut stuck = Raw::open(&server.url).await;
    assert!(stuck.join(&format!("/logs/{lab}"), &admin.token).await);
    let during = bystander.answers();
    reader.until("after the noise 2").await;
    assert!(bystander.answers() > during, "somebody else is served meanwhile");
    assert_eq!(deploy.await.unwrap().expect("the deploy ends"), Ok(serde_json::Value::Null));
    bystander.finish().await;
    let after = Figures::of(server.id());
    assert!(after.peak < before.memory + BOUND, "before: {before:?}, after: {after:?}");
    // What is kept is a bounded part, of which each piece is text, and so is the end of it.
    let kept = admin.log(&lab).await;
    assert!(kept.iter().any(|line| line.contains("after the noise 2")));
    assert!(kept.iter().map(String::len).sum::<usize>() < 8 << 20);
    assert!(
        kept.iter().any(|line| line.contains("no text: \u{fffd}\u{fffd}\u{fffd} and on")),
        "what is no text is replaced"
    );
    admin.destroy(&lab).await.unwrap();
    drop(stuck);
    assert!(server.is_alive());
}

/// Line 7, too much in one piece.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_ends_its_connection_and_others_do_not_notice() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let before = Figures::of(server.id());
    let bystander = Bystander::start(&server, &admin.token, &lab).await;
    let huge = "x".repeat(3 << 20);
    for round in 0..10 {
        // As an event, as what comes before anybody knows who it is, in bytes, and in one request.
        let mut raw = Raw::open(&server.url).await;
        assert!(raw.join("/lab-commands", &admin.token).await);
        raw.send(format!("42/lab-commands,1[\"data\",\"{huge}\"]")).await;
        assert!(raw.is_cut_within(crate::harness::PATIENCE).await, "round {round}: an event of 3 MiB was taken");
        let mut raw = Raw::open(&server.url).await;
        raw.send(format!("40/lab-updates,{{\"token\":\"{huge}\"}}")).await;
        assert!(raw.is_cut_within(crate::harness::PATIENCE).await, "round {round}: a token of 3 MiB was taken");
        let mut raw = Raw::open(&server.url).await;
        raw.send_binary(vec![0; 3 << 20]).await;
        assert!(raw.is_cut_within(crate::harness::PATIENCE).await, "round {round}: 3 MiB of bytes were taken");
        let polling = Polling::open(&server).await;
        assert_ne!(polling.post(huge.clone()).await, Some(200), "round {round}: a request of 3 MiB was taken");
        let status = antimony_host::client::http()
            .post(format!("{}/topologies", server.url))
            .bearer_auth(&admin.token)
            .body(huge.clone())
            .send()
            .await;
        assert!(status.is_err() || status.is_ok_and(|answer| answer.status() == 413));
    }
    bystander.finish().await;
    let after = Figures::of(server.id());
    assert!(after.peak < before.memory + BOUND, "before: {before:?}, after: {after:?}");
    eventually(async || match Figures::of(server.id()).descriptors {
        now if now <= before.descriptors => Ok(()),
        now => Err(format!("{now} descriptors, {} before", before.descriptors)),
    })
    .await;
    assert!(server.is_alive());
}

/// Line 7, too deep.
#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_json_is_refused_and_others_do_not_notice() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let bystander = Bystander::start(&server, &admin.token, &lab).await;
    for depth in [1_000, 100_000, 400_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            if nested.len() > 2_000_000 {
                continue;
            }
            let mut raw = Raw::open(&server.url).await;
            assert!(raw.join("/lab-commands", &admin.token).await);
            // As a command, within one, as one in a string; to a namespace without input; as somebody's token.
            raw.send(format!("42/lab-commands,1[\"data\",{nested}]")).await;
            raw.send(format!("42/lab-commands,2[\"data\",{{\"labId\":{nested},\"command\":0}}]")).await;
            raw.send(format!("42/lab-commands,3[\"data\",{}]", json!(nested))).await;
            raw.send(format!("40/lab-updates,{{\"token\":{nested}}}")).await;
            raw.send(format!("40/status-messages,{nested}")).await;
            raw.send("42/lab-commands,4[\"data\",{\"labId\":\"x\",\"command\":5}]").await;
            // Each is answered with an error, or the connection ends; nothing else.
            while let Some(frame) = raw.next().await {
                let is_refusal = frame.contains("\"code\":5422") || frame.starts_with("44/");
                let is_end = frame.contains("\"code\":5005");
                assert!(is_refusal || is_end, "depth {depth}: {frame:.200}");
                if is_end {
                    break;
                }
            }
        }
        let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let http = antimony_host::client::http().post(format!("{}/labs", server.url)).bearer_auth(&admin.token);
        let answer =
            within("an answer", http.header("content-type", "application/json").body(deep).send()).await.unwrap();
        assert!(answer.status().is_client_error(), "{}", answer.status());
    }
    bystander.finish().await;
    assert!(server.is_alive());
}

/// Line 7, too many.
#[tokio::test(flavor = "multi_thread")]
async fn a_million_tiny_events_are_answered_refused_or_slowed_and_others_do_not_notice() {
    const EVENTS: usize = 1_000_000;
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let before = Figures::of(server.id());
    let bystander = Bystander::start(&server, &admin.token, &lab).await;
    let before_flood = bystander.answers();
    // Without anybody who waits, with somebody who reads the answers, and with somebody who doesn't.
    let mut floods = Vec::new();
    for kind in 0..4 {
        let (url, token, lab) = (server.url.clone(), admin.token.clone(), lab.clone());
        floods.push(tokio::spawn(async move {
            let mut raw = Raw::open(&url).await;
            assert!(raw.join("/lab-commands", &token).await && raw.join("/lab-updates", &token).await);
            for number in 0..EVENTS / 4 {
                let frame = match kind {
                    0 => "42/lab-commands,[\"data\"]".to_owned(),
                    1 => "42/lab-updates,[\"x\"]".to_owned(),
                    2 => format!("42/lab-commands,[\"data\",{{\"labId\":\"{lab}\",\"command\":5}}]"),
                    _ => format!("42/lab-commands,{number}[\"data\"]"),
                };
                // Whoever sends and never reads is cut in the end; whoever is cut comes back and goes on.
                if !raw.feed(frame).await {
                    raw = Raw::open(&url).await;
                    raw.join("/lab-commands", &token).await;
                    raw.join("/lab-updates", &token).await;
                }
            }
            raw.flush().await;
        }));
    }
    for flood in floods {
        tokio::time::timeout(Duration::from_secs(300), flood).await.expect("the flood ends").unwrap();
    }
    let during = bystander.answers() - before_flood;
    assert!(during >= 100, "somebody else got {during} answers during the flood");
    bystander.finish().await;
    let after = Figures::of(server.id());
    assert!(after.peak < before.memory + BOUND, "before: {before:?}, after: {after:?}");
    let connection = Connection::open(&server.url).await.unwrap();
    connection.connect_with_token("/lab-updates", &admin.token).await.unwrap();
    assert!(server.is_alive());
}

/// A session of a client without web sockets.
pub(super) struct Polling {
    pub(super) url: String,
    http: reqwest::Client,
}

impl Polling {
    pub(super) async fn open(server: &Server) -> Self {
        let http = antimony_host::client::http();
        let url = format!("{}/socket.io/?EIO=4&transport=polling", server.url);
        let opened = within("a handshake", http.get(&url).send()).await.unwrap().text().await.unwrap();
        let opened: serde_json::Value =
            serde_json::from_str(opened.strip_prefix('0').expect("an open packet")).unwrap();
        Self { url: format!("{url}&sid={}", opened["sid"].as_str().unwrap()), http }
    }

    /// Sends packets; the status of the answer, unless the connection was cut.
    pub(super) async fn post(&self, packets: String) -> Option<u16> {
        let answer = within("an answer", self.http.post(&self.url).body(packets).send()).await;
        answer.ok().map(|answer| answer.status().as_u16())
    }
}
