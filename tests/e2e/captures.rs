//! Captures of packets: what is in them, who may have them, and that nothing is left of them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::TWO_ROUTERS;
use crate::harness::{
    Capture, Client, Figures, Packet, Place, Server, ServerBuilder, Shell, User, capture_path, eventually, leave_out,
};
use crate::plugins::build;

/// Two routers that run.
async fn deployed(client: &Client) -> String {
    let lab = client.create_lab("course", TWO_ROUTERS).await;
    client.deploy(&lab).await.unwrap();
    lab
}

/// Whether a capture is refused with this status and code; answers the message.
async fn refused(client: &Client, lab: &str, place: &str, query: &str, expected: (u16, i64)) -> String {
    match Capture::try_begin(client, lab, place, query).await {
        Ok(_) => panic!("{expected:?} was due"),
        Err(error) => {
            assert_eq!(error.refusal(), Some(expected), "{error}");
            error.to_string()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_of_a_ping_has_its_echoes_and_no_others_on_a_server_run_by_root() {
    if User::Myself.can_run_labs("captures as whoever runs the tests") {
        captures_a_ping(User::Myself).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_of_a_ping_has_its_echoes_and_no_others_on_a_server_run_by_an_ordinary_user() {
    if User::Ordinary.can_run_labs("captures as an ordinary user") {
        captures_a_ping(User::Ordinary).await;
    }
}

async fn captures_a_ping(user: User) {
    let mut server = ServerBuilder::new(user).start().await;
    let admin = server.admin().await;
    let lab = deployed(&admin).await;
    let begun = jiff::Timestamp::now().as_nanosecond().unsigned_abs();
    let mut near = Capture::begin(&admin, &lab, "r1:eth1", "").await;
    let mut far = Capture::begin(&admin, &lab, "r2:eth1", "snaplen=60").await;
    assert_eq!((near.snaplen, far.snaplen), (262_144, 60));
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    shell.succeeds("ping -c 3 -i 0.2 -s 200 10.0.0.2").await;
    admin.command(&lab, 2, json!({ "node": "r1" })).await.unwrap();
    let expected = [1, 2, 3].map(|number| [(false, number), (true, number)]).concat();
    assert_eq!(near.ending().await, ("the node has stopped".to_owned(), 0));
    assert_eq!(near.echoes(), expected, "all of them, both ways, in their order");
    let pings: Vec<_> = near.packets.iter().filter(|packet| packet.echo().is_some()).collect();
    assert!(pings.iter().all(|packet| packet.length == 242 && packet.data.len() == 242), "{pings:#?}");
    let times: Vec<u128> = near.packets.iter().map(|packet| packet.time).collect();
    let now = jiff::Timestamp::now().as_nanosecond().unsigned_abs();
    assert!(times.is_sorted() && times.iter().all(|time| (begun..=now).contains(time)), "{times:?}");
    assert!(times.iter().any(|time| time % 1000 != 0), "nanoseconds: {times:?}");

    admin.destroy(&lab).await.unwrap();
    assert_eq!(far.ending().await, ("the node has stopped".to_owned(), 0));
    assert_eq!(far.echoes(), expected);
    for packet in far.packets.iter().filter(|packet| packet.echo().is_some()) {
        assert_eq!((packet.data.len(), packet.length), (60, 242), "its beginning, and how long it was");
    }
    let log = server.log();
    for words in
        ["a capture has begun user=native:admin", "node=\"r1\" interface=\"eth1\"", "why=\"the node has stopped\""]
    {
        assert!(log.contains(words), "{words}: {log}");
    }
    opens_in_tshark(&near.bytes, 6);
}

/// Has Wireshark's own reader read a capture.
fn opens_in_tshark(bytes: &[u8], echoes: usize) {
    let mut tshark = Command::new("tshark");
    tshark.args(["-r", "-", "-Y", "icmp", "-T", "fields", "-e", "icmp.type", "-e", "frame.len"]);
    let running = tshark.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut running) = running else {
        leave_out("captures in tshark", "tshark is not installed");
        return;
    };
    running.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = running.wait_with_output().unwrap();
    let (read, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert_eq!(read.lines().count(), echoes, "{read}\n{said}");
    assert!(read.lines().all(|line| ["8\t242", "0\t242"].contains(&line)), "{read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vlan_tag_that_the_kernel_has_taken_out_is_put_back() {
    if !User::Myself.can_run_labs("captures of tagged packets") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = deployed(&admin).await;
    // Where it comes in, the kernel takes the tag out before anybody sees it.
    let mut capture = Capture::begin(&admin, &lab, "r2:eth1", "").await;
    let mut short = Capture::begin(&admin, &lab, "r2:eth1", "snaplen=14").await;
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    shell.succeeds("which python3").await;
    let script = "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((\"eth1\", 0)); \
        s.send(bytes.fromhex(\"ffffffffffff\" + \"02abcdef0102\" + \"81006007\" + \"88b5\") + b\"tagged\" * 10)";
    shell.succeeds(&format!("python3 -c '{script}'")).await;
    let ours = |packet: &&Packet| packet.data.get(6..12) == Some(&[2, 0xab, 0xcd, 0xef, 1, 2]);
    capture.until("the packet", |packets| packets.iter().any(|packet| ours(&packet))).await;
    let packet = capture.packets.iter().find(ours).unwrap();
    assert_eq!(
        packet.data[..18],
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0xab, 0xcd, 0xef, 1, 2, 0x81, 0x00, 0x60, 0x07, 0x88, 0xb5]
    );
    assert_eq!((packet.length, &packet.data[18..]), (78, "tagged".repeat(10).as_bytes()));
    short.until("the packet", |packets| packets.iter().any(|packet| ours(&packet))).await;
    let packet = short.packets.iter().find(ours).unwrap();
    assert_eq!((packet.length, &packet.data[12..]), (78, &[0x81, 0x00][..]), "{packet:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_ends_after_as_many_packets_or_seconds_as_were_asked_for() {
    if !User::Myself.can_run_labs("limits of captures") {
        return;
    }
    let server = Server::start().await;
    let admin = server.admin().await;
    let lab = deployed(&admin).await;
    let mut counted = Capture::begin(&admin, &lab, "r1:lo", "packets=3").await;
    let mut timed = Capture::begin(&admin, &lab, "r1:lo", "seconds=1").await;
    assert_eq!(timed.ending().await, ("the time that was asked for is over".to_owned(), 0));
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    shell.succeeds("ping -c 2 -i 0.2 127.0.0.1").await;
    assert_eq!(counted.ending().await.0, "there were as many packets as were asked for");
    // What goes to itself is there once, though it goes out and comes in.
    assert_eq!(counted.echoes(), [(false, 1), (true, 1), (false, 2)]);
    assert_eq!(counted.packets.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_captured_is_refused_with_what_can() {
    if !User::Myself.can_run_labs("captures that are refused") {
        return;
    }
    let config = "capture: { limitPerUser: 2, limit: 3, excludedInterfaces: [gway-*] }";
    let mut server = ServerBuilder::new(User::Myself).config(config).start().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", TWO_ROUTERS).await;
    refused(&admin, &lab, "r1:eth1", "", (400, 5003)).await;
    admin.deploy(&lab).await.unwrap();
    let said = refused(&admin, &lab, "r3:eth1", "", (404, 5006)).await;
    assert!(said.contains("there is no node r3 in the lab; there are r1, r2"), "{said}");
    for interface in ["eth9", "a-name-that-is-too-long-for-any", "%00", "..%2Fr2"] {
        let place = format!("r1:{interface}");
        let said = refused(&admin, &lab, &place, "", (404, 5005)).await;
        assert!(interface == "%00" || said.contains("there are lo, eth1"), "{said}");
    }
    refused(&admin, &lab, "r1:gway-1", "", (400, 5000)).await;
    let said = refused(&admin, &lab, "r1:eth1", "snaplen=0", (422, 5422)).await;
    assert!(said.contains("snaplen: \"0\" is no whole number from 1 to 262144"), "{said}");
    refused(&admin, "no-such-lab", "r1:eth1", "", (404, 5005)).await;

    // Who doesn't know of the lab doesn't hear of its nodes either.
    refused(&server.member("mallory", &["other"]).await, &lab, "r1:eth1", "", (404, 5005)).await;
    let nobody = server.member("bob", &[]).await;
    refused(&nobody, &lab, "r1:eth1", "", (404, 5005)).await;

    // HEAD begins nothing, and takes nobody's place.
    let url = format!("{}{}", server.url, capture_path(&lab, "r1:eth1", ""));
    let head = antimony_host::client::http().head(&url).bearer_auth(&admin.token).send().await.unwrap();
    let header = |name: &str| head.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(head.status(), 200);
    assert_eq!(header("content-type"), "application/vnd.tcpdump.pcap");
    assert!(header("content-disposition").ends_with("-r1-eth1.pcap\""), "{}", header("content-disposition"));
    assert!(!server.log().contains("a capture has begun"), "HEAD has begun one");

    let one = Capture::begin(&admin, &lab, "r1:eth1", "").await;
    let two = Capture::begin(&admin, &lab, "r1:eth1", "").await;
    let said = refused(&admin, &lab, "r1:eth1", "", (429, 5000)).await;
    assert!(said.contains("2 captures of yours go on"), "{said}");
    admin.command(&lab, 2, json!({ "node": "r2" })).await.unwrap();
    drop(one);
    // Now there is a place.
    eventually(async || match Capture::try_begin(&admin, &lab, "r2:eth1", "").await {
        Err(error) if error.refusal() == Some((400, 5004)) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => panic!("the node has stopped"),
    })
    .await;
    drop(two);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_capture_whose_client_has_gone_though_no_packet_comes() {
    if !User::Myself.can_run_labs("captures whose client goes") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = deployed(&admin).await;
    // Threads and connections that stay are there from the first on.
    drop(Capture::begin(&admin, &lab, "r1:lo", "").await);
    let ended = "why=\"whoever captured has gone\"";
    eventually(async || match server.log().matches(ended).count() {
        1 => Ok(()),
        _ => Err(server.log().to_owned()),
    })
    .await;
    let before = Figures::of(server.id());
    let mut captures = Vec::new();
    // As many as a user may have.
    for _ in 0..4 {
        captures.push(Capture::begin(&admin, &lab, "r1:lo", "").await);
    }
    let during = Figures::of(server.id());
    assert!(during.descriptors >= before.descriptors + 4, "{before:?} {during:?}");
    drop(captures);
    eventually(async || match Figures::of(server.id()) {
        now if now.descriptors <= before.descriptors && server.log().matches(ended).count() == 5 => Ok(()),
        now => Err(format!("{before:?} {now:?}")),
    })
    .await;
}

/// Sends so many packets of 60 kB from a node to itself.
const FLOOD: u32 = 2000;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_loses_packets_and_is_told_while_memory_stays_as_it_is() {
    if !User::Myself.can_run_labs("captures of slow clients") {
        return;
    }
    let server = ServerBuilder::new(User::Myself).config("capture: { bufferBytes: 2097152 }").start().await;
    let admin = server.admin().await;
    let lab = deployed(&admin).await;
    let mut slow = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    socket2::SockRef::from(&slow).set_recv_buffer_size(64 << 10).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let path = capture_path(&lab, "r1:lo", "");
    write!(
        slow,
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nTE: trailers\r\nauthorization: Bearer {}\r\n\r\n",
        admin.token
    )
    .unwrap();
    let mut head = [0; 4096];
    let length = slow.read(&mut head).unwrap();
    assert!(head[..length].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head[..length]));
    let before = Figures::of(server.id());
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    let script = format!(
        "import socket; to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); to.bind((\"127.0.0.1\", 9)); \
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
         [s.sendto(bytes(60000), (\"127.0.0.1\", 9)) for _ in range({FLOOD})]"
    );
    // Now and then a little is read, or the connection would be given up.
    let (flooded, is_over) = tokio::sync::oneshot::channel::<()>();
    let reading = tokio::task::spawn_blocking(move || {
        let mut is_over = is_over;
        let mut some = [0; 1024];
        while is_over.try_recv().is_err() {
            slow.read_exact(&mut some).unwrap();
            std::thread::sleep(Duration::from_millis(100));
        }
        // Then all that is left.
        let mut rest = Vec::new();
        let mut chunk = vec![0; 1 << 20];
        while !rest.ends_with(b"\r\n\r\n") {
            let length = slow.read(&mut chunk).unwrap();
            assert!(length > 0, "it ended without its trailers");
            rest.extend_from_slice(&chunk[..length]);
        }
        rest
    });
    shell.succeeds(&format!("python3 -c '{script}'")).await;
    let during = Figures::of(server.id());
    flooded.send(()).unwrap();
    admin.command(&lab, 2, json!({ "node": "r1" })).await.unwrap();
    let rest = reading.await.unwrap();
    let trailers = String::from_utf8_lossy(&rest[rest.len() - 200..]).into_owned();
    let dropped: u64 = trailers.rsplit_once("x-capture-dropped: ").unwrap().1.lines().next().unwrap().parse().unwrap();
    assert!(dropped > u64::from(FLOOD) / 2, "{trailers}");
    let bytes = u64::from(FLOOD) * 60_000;
    assert!(rest.len() as u64 + dropped * 60_000 <= bytes + bytes / 10, "{} and {dropped}", rest.len());
    let more = during.memory.saturating_sub(before.memory);
    assert!(more < 32 << 10, "{more} KiB more for a capture that may keep 2 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn captures_end_with_the_server_with_the_token_and_with_an_interface_that_goes() {
    if !User::Myself.can_run_labs("ends of captures") {
        return;
    }
    let mut server = Server::start().await;
    let admin = server.admin().await;
    let lab = deployed(&admin).await;
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    let mut at_end = Capture::begin(&admin, &lab, "r1:eth1", "").await;
    let mut elsewhere = Capture::begin(&admin, &lab, "r2:lo", "").await;
    // Down and up again is no end.
    shell.succeeds("ip link set eth1 down && ip link set eth1 up && ip addr replace 10.0.0.1/30 dev eth1").await;
    shell.succeeds("ping -c 1 10.0.0.2").await;
    at_end.until("the echoes", |packets| packets.iter().filter(|packet| packet.echo().is_some()).count() == 2).await;
    shell.succeeds("ip link del eth1").await;
    assert_eq!(at_end.ending().await.0, "the interface is gone");

    let expires = jiff::Timestamp::now().as_second() + 3;
    let token = server.token_with("somebody", &[("isAdmin", json!(true)), ("exp", json!(expires))]);
    let holder = Client::connect(&server, &token).await;
    let mut brief = Capture::begin(&holder, &lab, "r2:lo", "").await;
    assert_eq!(brief.ending().await.0, "the access token has expired");

    let ended = tokio::spawn(async move { elsewhere.ending().await.0 });
    assert!(server.terminate().await.success());
    assert_eq!(ended.await.unwrap(), "the server is shutting down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_ends_when_the_policy_changes_its_mind_and_is_in_the_decision_log() {
    let test = "captures that a policy ends";
    if !User::Myself.can_run_labs(test) {
        return;
    }
    let Some(built) = build(test, "tests/guests/obedient").await else { return };
    let place = Place::new(User::Myself);
    let folder = place.data().parent().unwrap().to_owned();
    std::fs::copy(built, folder.join("policy.wasm")).unwrap();
    let config = |settings: &str| {
        format!(
            "plugins:\n  auth-policy:\n    - path: policy.wasm\n      settings: {settings}\n    - path: \
             builtin:auth-policy\n"
        )
    };
    let server = ServerBuilder::at(&place).config(&config("{}")).start().await;
    let admin = server.admin().await;
    let collection = admin.api.create_collection("course", true, true).await.unwrap();
    let topology = admin.api.create_topology(&collection, TWO_ROUTERS).await.unwrap();
    let ada = server.member("ada", &["course"]).await;
    let lab = ada.api.create_lab(&topology, "hers").await.unwrap();
    ada.deploy(&lab).await.unwrap();
    let mut hers = Capture::begin(&ada, &lab, "r1:eth1", "").await;
    let mut admins = Capture::begin(&admin, &lab, "r1:eth1", "").await;
    std::fs::write(folder.join("config.yml"), config("{ deny: [open-shell], reason: not today }")).unwrap();
    kill(Pid::from_raw(server.id().try_into().unwrap()), Signal::SIGHUP).unwrap();
    assert_eq!(hers.ending().await.0, "the policy doesn't allow it any more");
    let said = refused(&ada, &lab, "r1:eth1", "", (403, 5403)).await;
    assert!(said.contains("not today"), "{said}");
    // The other one goes on.
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    shell.succeeds("ping -c 1 10.0.0.2").await;
    admins.until("the echoes", |packets| packets.iter().filter(|packet| packet.echo().is_some()).count() == 2).await;
    eventually(async || {
        let log = std::fs::read_to_string(place.data().join("decisions.log")).unwrap_or_default();
        let asked = log.lines().filter(|line| line.contains("open-shell") && line.contains("ada")).count();
        if asked >= 3 { Ok(()) } else { Err(format!("{asked}: {log}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_shown_the_command_for_each_interface_as_the_operator_has_it() {
    if !User::Myself.can_run_labs("commands for captures") {
        return;
    }
    let command = "capture:\n  command: 'ssh {container}@{host} {interface} | wireshark -k -i -'\n";
    for config in ["", command] {
        let server = ServerBuilder::new(User::Myself).config(config).start().await;
        let admin = server.admin().await;
        let lab = deployed(&admin).await;
        let shown = admin.api.lab(&lab).await.unwrap();
        let node = &shown["instance"]["nodes"][0];
        let expected = if config.is_empty() {
            let path = format!("/api/labs/{lab}/nodes/r1/interfaces/eth1/capture");
            format!("curl -sN -H \"Authorization: Bearer $TOKEN\" {}{path} | wireshark -k -i -", server.url)
        } else {
            format!("ssh {}@127.0.0.1 eth1 | wireshark -k -i -", node["containerName"].as_str().unwrap())
        };
        assert_eq!(node["interfaceCaptures"], json!({ "eth1": expected }), "{node}");
        if !config.is_empty() {
            continue;
        }
        // What is shown works, but for Wireshark, in whose place is a program that wants no display.
        let line = expected.replace("wireshark -k -i -", "head -c 4 | od -A n -t x4");
        let run = || Command::new("sh").args(["-c", &line]).env("TOKEN", &admin.token).output().unwrap();
        let output = tokio::task::block_in_place(run);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "a1b23c4d", "{output:?}");
    }
}
