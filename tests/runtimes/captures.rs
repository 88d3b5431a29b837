//! What passes the interfaces of nodes, captured.

use serde_json::json;

use crate::bench::Bench;
use crate::harness::{Capture, Client, Figures, Shell, eventually};
use crate::nodes::until_node_is;
use crate::two_routers;

async fn pinged(client: &Client, lab: &str) {
    let mut shell = Shell::open(client, lab, "r1").await;
    shell.succeeds("ping -c 3 10.0.0.2").await;
}

fn echoes(number: u16) -> Vec<(bool, u16)> {
    // Of the two runtimes' programs, one counts from 0.
    let expected = |first: u16| (first..first + 3).flat_map(|number| [(false, number), (true, number)]).collect();
    expected(number)
}

pub(crate) async fn a_capture_of_a_ping_has_its_echoes_and_no_others_and_ends_with_its_node(on: &Bench) {
    let mut server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    admin.deploy(&lab).await.unwrap();
    let mut near = Capture::begin(&admin, &lab, "r1:eth1", "").await;
    let mut far = Capture::begin(&admin, &lab, "r2:eth1", "snaplen=54").await;
    pinged(&admin, &lab).await;
    far.until("three pings", |packets| packets.iter().filter(|packet| packet.echo().is_some()).count() == 6).await;
    admin.command(&lab, 2, json!({ "node": "r1" })).await.unwrap();
    let (why, dropped) = near.ending().await;
    // What ends first depends on who stops it: containerlab takes the links out of a node before.
    assert!(["the node has stopped", "the interface is gone"].contains(&why.as_str()), "{why}");
    assert_eq!(dropped, 0);
    let first = near.echoes()[0].1;
    for capture in [&near, &far] {
        assert_eq!(capture.echoes(), echoes(first), "all of them, both ways, in their order");
        let times: Vec<u128> = capture.packets.iter().map(|packet| packet.time).collect();
        assert!(times.is_sorted(), "{times:?}");
    }
    assert!(near.packets.iter().all(|packet| packet.length == packet.data.len()));
    assert!(far.packets.iter().any(|packet| packet.length == 98 && packet.data.len() == 54));

    // Nothing of it is in the way of the node's next life: it has its link again, and that can be captured.
    admin.command(&lab, 3, json!({ "node": "r1" })).await.unwrap();
    until_node_is(&admin, &lab, "r1", "running").await;
    let mut again = Capture::begin(&admin, &lab, "r1:eth1", "").await;
    let mut shell = Shell::open(&admin, &lab, "r1").await;
    eventually(async || match shell.run("ping -c 1 10.0.0.2").await {
        (0, _) => Ok(()),
        (_, printed) => Err(printed),
    })
    .await;
    again.until("an echo", |packets| packets.iter().any(|packet| packet.echo().is_some())).await;
    admin.destroy(&lab).await.unwrap();
    again.ending().await;
    assert!(server.is_alive());
}

pub(crate) async fn an_interface_that_is_not_there_is_refused_with_those_that_are(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &two_routers()).await;
    admin.deploy(&lab).await.unwrap();
    let Err(error) = Capture::try_begin(&admin, &lab, "r1:eth7", "").await else { panic!("there is none") };
    assert_eq!(error.refusal(), Some((404, 5005)), "{error}");
    let there: Vec<_> = error.to_string().rsplit_once("there are ").unwrap().1.split(", ").map(str::to_owned).collect();
    assert!(["lo", "eth1"].iter().all(|name| there.iter().any(|other| other == name)), "{error}");
    // What clients are shown is there: on containerlab, that is the management network, too.
    let shown = admin.api.lab(&lab).await.unwrap();
    let commands = shown["instance"]["nodes"][0]["interfaceCaptures"].as_object().unwrap().clone();
    assert_eq!(commands.contains_key("eth0"), on.is_containerlab(), "{commands:?}");
    let before = Figures::of(server.id()).descriptors;
    for interface in commands.keys() {
        Capture::begin(&admin, &lab, &format!("r1:{interface}"), "").await;
    }
    eventually(async || match Figures::of(server.id()).descriptors {
        now if now <= before + 2 => Ok(()),
        now => Err(format!("{now} descriptors, and {before} before")),
    })
    .await;
    admin.destroy(&lab).await.unwrap();
}
