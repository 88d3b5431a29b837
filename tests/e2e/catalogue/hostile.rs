//! Clients that say what no client says, or stop in the middle: beyond the catalogue's list. Each time the server lives, its
//! memory and descriptors come back, and others are served.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Bystander;
use super::floods::Polling;
use crate::ONE_NODE;
use crate::harness::{Client, Figures, Lines, Raw, Server, User, descriptors, eventually, within};

/// KiB by which memory may differ between the second wave of an attack and the last: what the allocator keeps of messages of
/// a mebibyte differs by that. What leaks with each of them is far more after all waves.
const BOUND: u64 = 32 << 10;

/// An attack in several waves. Others are served meanwhile; after each wave descriptors are as they were, and after the
/// last memory is as after the second: what the first ones cost is what the allocator keeps for the next.
async fn waves(server: &mut Server, waves: usize, attack: impl AsyncFn(&Server, &str)) {
    let admin = server.admin().await;
    let lab = admin.create_lab("bystander", ONE_NODE).await;
    let bystander = Bystander::start(server, &admin.token, &lab).await;
    let before = Figures::of(server.id());
    let mut second = None;
    for wave in 0..waves {
        attack(server, &admin.token).await;
        bystander.gets_answers(3).await;
        eventually(async || match Figures::of(server.id()) {
            now if now.descriptors <= before.descriptors => Ok(()),
            now => Err(format!("{before:?}, {now:?}, {:#?}", descriptors(server.id()))),
        })
        .await;
        if wave == 1 {
            second = Some(Figures::of(server.id()));
        }
    }
    let (second, last) = (second.expect("two waves"), Figures::of(server.id()));
    bystander.finish().await;
    assert!(server.is_alive());
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert!(
        last.memory <= second.memory + BOUND,
        "before {before:?}\nafter the second wave {second:?}\nafter the last {last:?}"
    );
}

/// Sends these frames over a connection of their own, and goes when the server has dealt with them or has ended it.
async fn send_all(server: &Server, token: &str, frames: &[String]) {
    let mut raw = Raw::open(&server.url).await;
    assert!(raw.join("/lab-commands", token).await);
    for frame in frames {
        raw.send(frame.clone()).await;
    }
    // Whatever is behind that is answered, unless the connection has ended by now.
    raw.send("42/lab-commands,4711[\"data\"]").await;
    raw.until("43/lab-commands,4711[").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_end_their_connection_at_most() {
    let mut server = Server::start().await;
    let frames: Vec<String> = [
        "",
        " ",
        "4",
        "7",
        "x",
        "é",
        "\u{0}",
        "49",
        "4x",
        "40",
        "40/",
        "40,",
        "40/,",
        "41",
        "41/nowhere,",
        "42",
        "42[",
        "42[]",
        "42/lab-commands",
        "42/lab-commands,",
        "42/lab-commands,[",
        "42/lab-commands,[]",
        "42/lab-commands,{}",
        "42/lab-commands,[1]",
        "42/lab-commands,[null,null]",
        "42/lab-commands,[[\"data\"]]",
        "42/lab-commands,\"data\"",
        "42/lab-commands,[\"data\"",
        "42/lab-commands,[\"data\",]",
        "42/lab-commands,[\"data\"]]",
        "42/lab-commands,[\"\\ud800\"]",
        "42/lab-updates,[\"data\"]",
        "42/nowhere,[\"data\"]",
        "43",
        "43/lab-commands,",
        "43/lab-commands,1",
        "43/lab-commands,1[",
        "44",
        "44/lab-commands,{}",
        "45",
        "45-",
        "451",
        "451-",
        "450-/lab-commands,[\"data\"]",
        "46",
        "461-/lab-commands,1[]",
        "45-1-/lab-commands,[]",
        "4518446744073709551616-[]",
        "40/lab-updates",
        "40/lab-updates,{",
        "40/lab-updates,[]",
        "40/lab-updates,null",
        "40/lab-updates,1",
        "40/lab-updates,{\"token\":{}}",
        "40/lab-updates?token=1,",
        "40/../lab-updates,",
        "40//lab-updates,",
        "40/lab-updates/,",
        "40/LAB-UPDATES,{}",
        "0{}",
        "1 ",
        "2",
        "2probe",
        "3",
        "3probe",
        "5",
        "6",
        "8",
        "b",
        "bAAAA",
        "4\u{1e}4",
        "\u{1e}\u{1e}",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    waves(&mut server, 5, async |server, token| {
        for frame in &frames {
            send_all(server, token, std::slice::from_ref(frame)).await;
        }
        // All of them one after another, and as the first thing of a session.
        send_all(server, token, &frames).await;
        for frame in &frames {
            let mut raw = Raw::open(&server.url).await;
            raw.send(frame.clone()).await;
            raw.send_binary(frame.clone().into_bytes()).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgement_ids_that_are_huge_negative_or_used_again_harm_nobody() {
    let mut server = Server::start().await;
    let frames: Vec<String> = [
        "0",
        "-1",
        "-0",
        "007",
        "1e3",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999999999",
    ]
    .into_iter()
    .flat_map(|id| [format!("42/lab-commands,{id}[\"data\"]"), format!("43/lab-commands,{id}[{{\"payload\":null}}]")])
    .collect();
    waves(&mut server, 5, async |server, token| {
        for frame in &frames {
            send_all(server, token, std::slice::from_ref(frame)).await;
        }
        // One id many times: each is answered.
        let mut raw = Raw::open(&server.url).await;
        assert!(raw.join("/lab-commands", token).await);
        for _ in 0..20 {
            raw.send("42/lab-commands,7[\"data\"]").await;
        }
        for answer in 0..20 {
            assert!(raw.until("43/lab-commands,7[").await.is_some(), "answer {answer}");
        }
        // Answers that nobody asked for.
        for id in 0..500 {
            raw.send(format!("43/lab-commands,{id}[]")).await;
        }
        raw.send("42/lab-commands,8[\"data\"]").await;
        assert!(raw.until("43/lab-commands,8[").await.is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_that_never_come_that_nobody_announced_or_that_are_too_many_harm_nobody() {
    let mut server = Server::start().await;
    let placeholder = "[\"data\",{\"_placeholder\":true,\"num\":0}]";
    waves(&mut server, 5, async |server, token| {
        for count in [
            "1",
            "2",
            "1000",
            "65536",
            "4294967295",
            "4294967296",
            "9223372036854775807",
            "18446744073709551615",
            "-1",
            "00",
        ] {
            let mut raw = Raw::open(&server.url).await;
            assert!(raw.join("/lab-commands", token).await);
            raw.send(format!("45{count}-/lab-commands,1{placeholder}")).await;
            // Something else instead of what was announced, and then less than was announced.
            raw.send("42/lab-commands,2[\"data\"]").await;
            raw.send(format!("451-/lab-commands,3{placeholder}")).await;
            raw.send_binary(vec![0; 100]).await;
            raw.send("42/lab-commands,4[\"data\"]").await;
        }
        for frame in [
            "[\"data\",{\"_placeholder\":true,\"num\":7}]",
            "[\"data\",{\"_placeholder\":true,\"num\":-1}]",
            "[\"data\",{\"_placeholder\":1}]",
            "[]",
            "",
        ] {
            let mut raw = Raw::open(&server.url).await;
            assert!(raw.join("/lab-commands", token).await);
            raw.send(format!("451-/lab-commands,1{frame}")).await;
            raw.send_binary(vec![0; 10_000]).await;
            // Nobody announced these.
            for _ in 0..20 {
                raw.send_binary(vec![0; 10_000]).await;
            }
            raw.send("42/lab-commands,2[\"data\"]").await;
        }
    })
    .await;
}

/// Attachments that are announced may not pile up without a bound.
#[tokio::test(flavor = "multi_thread")]
async fn attachments_without_end_cost_bounded_memory() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let bystander = Bystander::start(&server, &admin.token, &lab).await;
    let before = Figures::of(server.id());
    let mut raw = Raw::open(&server.url).await;
    assert!(raw.join("/lab-commands", &admin.token).await);
    raw.send("451000000-/lab-commands,1[\"data\",{\"_placeholder\":true,\"num\":0}]").await;
    // 256 MiB in all, unless somebody stops it.
    for _ in 0..256 {
        if !raw.send_binary(vec![7; 1 << 20]).await {
            break;
        }
    }
    bystander.finish().await;
    let after = Figures::of(server.id());
    assert!(after.peak < before.peak + (64 << 10), "before: {before:?}, after: {after:?}");
    drop(raw);
    assert!(server.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_namespaces_that_are_a_mebibyte_long_are_refused_and_leave_nothing() {
    let mut server = Server::start().await;
    waves(&mut server, 8, async |server, token| {
        let mut raw = Raw::open(&server.url).await;
        for number in 0..10 {
            let path = format!("/logs/{number}{}", "x".repeat(1 << 20));
            assert!(!raw.join(&path, token).await);
        }
        for kind in ["41", "42", "43", "451-"] {
            raw.send(format!("{kind}/{},1[\"data\"]", "y".repeat(1 << 20))).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_and_odd_authentication_is_refused_and_leaves_nothing() {
    let mut server = Server::start().await;
    let big = "x".repeat(3 << 19);
    waves(&mut server, 8, async |server, _| {
        let half = &big[..big.len() / 2];
        for auth in [
            json!({ "token": big }),
            json!({ "token": format!("{half}.{half}.{}", &big[..100]) }),
            json!({ "token": "a.b.c", "more": big }),
            json!({ "token": vec![0; 300_000] }),
            json!({ "token": { half: half } }),
            json!(vec![json!({}); 300_000]),
            json!(big),
            json!(0),
        ] {
            let mut raw = Raw::open(&server.url).await;
            raw.send(format!("40/lab-updates,{auth}")).await;
            let answer = raw.next().await.expect("an answer");
            assert!(answer.starts_with("44/lab-updates,"), "{answer:.100}");
            assert!(["Unauthorized", "Invalid Token"].iter().any(|words| answer.contains(words)), "{answer:.100}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sessions_that_never_authenticate_leave_nothing() {
    let mut server = Server::start().await;
    waves(&mut server, 3, async |server, token| {
        // The library lets go of them some seconds later, whether the client is still there or not.
        tokio::time::sleep(Duration::from_secs(12)).await;
        // Not all at once, since every client needs descriptors too, on this side.
        for _ in 0..4 {
            let mut all = Vec::new();
            for number in 0..250 {
                let mut raw = Raw::open(&server.url).await;
                if number % 2 == 0 {
                    raw.send("40/lab-updates,").await;
                }
                all.push(raw);
            }
            // Somebody who has a token still gets in.
            assert!(Raw::open(&server.url).await.join("/lab-updates", token).await);
        }
    })
    .await;
}

/// Each join is judged by plugins, in a task of its own.
#[tokio::test(flavor = "multi_thread")]
async fn joins_by_the_ten_thousand_over_one_connection_cost_bounded_memory() {
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    let bystander = Bystander::start(&server, &admin.token, &lab).await;
    let before = Figures::of(server.id());
    for frames in [
        ["40/lab-updates,{\"token\":\"a.b.c\"}".to_owned(), "40/nowhere,".to_owned()],
        [format!("40/lab-updates,{}", json!({ "token": admin.token })), "41/lab-updates,".to_owned()],
    ] {
        let mut raw = Raw::open(&server.url).await;
        for number in 0..40_000 {
            // A client that never reads is cut some time; it comes back.
            if !raw.feed(frames[number % 2].clone()).await {
                raw = Raw::open(&server.url).await;
            }
        }
        raw.flush().await;
    }
    bystander.finish().await;
    let after = Figures::of(server.id());
    assert!(after.peak < before.peak + (128 << 10), "before: {before:?}, after: {after:?}");
    assert!(server.is_alive());
}

/// They are let go by the server too, when the client only waits.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_never_authenticate_and_polling_sessions_that_were_abandoned_are_ended_by_the_server() {
    let server = Server::start().await;
    let before = Figures::of(server.id());
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(Raw::open(&server.url).await);
    }
    let mut abandoned = Vec::new();
    for _ in 0..100 {
        abandoned.push(Polling::open(&server).await);
    }
    // Each is asked once only, since to ask is to be there.
    let ended = async {
        while let Some(session) = abandoned.pop() {
            if session.post("3".to_owned()).await == Some(400) {
                return true;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        false
    };
    let cut = async {
        for raw in &mut silent {
            // They answer pings, but join nothing.
            assert!(
                raw.is_cut_within(Duration::from_secs(120)).await,
                "a session without any namespace stays for ever"
            );
        }
    };
    let (ended, ()) = tokio::join!(ended, cut);
    assert!(ended, "an abandoned polling session stays for ever");
    drop((silent, abandoned));
    eventually(async || match Figures::of(server.id()).descriptors {
        now if now <= before.descriptors => Ok(()),
        now => Err(format!("{now} descriptors, {} before", before.descriptors)),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_and_requests_that_stop_in_the_middle_harm_nobody() {
    let mut server = Server::start().await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let begun = [
        "",
        "G",
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n",
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        "POST /socket.io/?EIO=4&transport=polling&sid=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n40",
        "POST /labs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
        "POST /labs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n{",
        "\u{0}\u{16}\u{3}\u{1}\u{2}",
    ];
    waves(&mut server, 3, async |_, _| {
        let mut all = Vec::new();
        for number in 0..400 {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(begun[number % begun.len()].as_bytes()).await.unwrap();
            all.push(stream);
        }
        // Half of them say that they are done, and stay.
        for stream in all.iter_mut().step_by(2) {
            let _ = stream.shutdown().await;
        }
    })
    .await;
}

/// Broken frames of the web socket protocol itself.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_no_web_socket_frames_end_their_connection() {
    let mut server = Server::start().await;
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let upgrade = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let frames: [&[u8]; 7] = [
        // Not masked; reserved bits; an unknown kind; a length of 2^63; a text that is no text; a ping that is too long;
        // a continuation of nothing.
        &[0x81, 0x02, b'4', b'0'],
        &[0xf1, 0x80, 0, 0, 0, 0],
        &[0x8f, 0x80, 0, 0, 0, 0],
        &[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, b'4'],
        &[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe],
        &[0x89, 0xfe, 0xff, 0xff, 0, 0, 0, 0],
        &[0x80, 0x82, 0, 0, 0, 0, b'4', b'0'],
    ];
    waves(&mut server, 3, async |_, _| {
        for frame in frames {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            stream.write_all(upgrade.as_bytes()).await.unwrap();
            stream.write_all(frame).await.unwrap();
            let mut all = Vec::new();
            let end = within("the end of the connection", stream.read_to_end(&mut all)).await;
            assert!(end.is_err() || all.starts_with(b"HTTP/1.1 101"), "{frame:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storms_of_joins_and_leaves_of_one_namespace_leave_nothing_and_others_get_every_line() {
    if !User::Myself.can_run_labs("storms of joins") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", ONE_NODE).await;
    admin.deploy(&lab).await.unwrap();
    let path = format!("/logs/{lab}");
    let mut steady = Lines::of(admin.join(&path).await);
    steady.read().await;
    waves(&mut server, 3, async |server, token| {
        let storms: Vec<_> = (0..8)
            .map(|number| {
                let (url, token, path) = (server.url.clone(), token.to_owned(), path.clone());
                tokio::spawn(async move {
                    for round in 0..60 {
                        let mut raw = Raw::open(&url).await;
                        match (number + round) % 4 {
                            // Joins and hears so; doesn't wait for that; leaves before it is in; joins twice.
                            0 => assert!(raw.join(&path, &token).await),
                            1 => drop(raw.send(format!("40{path},{}", json!({ "token": token }))).await),
                            2 => {
                                raw.send(format!("40{path},{}", json!({ "token": token }))).await;
                                raw.send(format!("41{path},")).await;
                            }
                            _ => {
                                for _ in 0..5 {
                                    raw.send(format!("40{path},{}", json!({ "token": token }))).await;
                                    raw.send(format!("41{path},")).await;
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        for storm in storms {
            storm.await.unwrap();
        }
    })
    .await;
    // Whoever was there all the while still hears what is written, and so does whoever comes now.
    let mut new = Lines::of(Client::connect(&server, &admin.token).await.join(&path).await);
    admin.destroy(&lab).await.unwrap();
    for log in [&mut steady, &mut new] {
        log.until("Nothing is left of").await;
    }
}
