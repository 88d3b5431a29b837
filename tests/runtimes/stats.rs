//! What nodes use: processor, memory, processes, and what goes over their interfaces.

use std::time::Duration;

use serde_json::{Value, json};

use crate::DEFAULTS;
use crate::apart;
use crate::bench::Bench;
use crate::harness::{Client, Shell, eventually, expect_data};

const MIB: u64 = 1 << 20;

/// What a node of a lab uses now.
async fn of_node(client: &Client, lab: &str, node: &str) -> Value {
    let stats = client.api.get(&format!("/labs/{lab}/stats")).await.unwrap();
    find(&stats, node)
}

fn find(stats: &Value, node: &str) -> Value {
    let nodes = stats["nodes"].as_array().unwrap();
    nodes.iter().find(|each| each["node"] == node).unwrap_or_else(|| panic!("no {node} in {stats}")).clone()
}

fn memory(node: &Value) -> u64 {
    node["memory"]["bytes"].as_u64().unwrap_or_else(|| panic!("memory of {node}"))
}

fn seconds(node: &Value) -> f64 {
    node["cpu"]["seconds"].as_f64().unwrap_or_else(|| panic!("cpu of {node}"))
}

/// Three nodes in a row, without what IPv6 says by itself. Only the first link has addresses.
fn row() -> String {
    let quiet = "sysctls: {net.ipv6.conf.all.disable_ipv6: \"1\"}";
    apart(&format!(
        "name: row\ntopology:\n  {DEFAULTS}\n  nodes:\n    \
         n1: {{{quiet}, memory: 512MB, exec: [ip address replace 10.0.0.1/30 dev eth1]}}\n    \
         n2: {{{quiet}, exec: [ip address replace 10.0.0.2/30 dev eth1]}}\n    \
         n3: {{{quiet}}}\n  \
         links:\n    - endpoints: [\"n1:eth1\", \"n2:eth1\"]\n    - endpoints: [\"n1:eth2\", \"n3:eth1\"]\n"
    ))
}

pub(crate) async fn what_nodes_use_is_told_of_those_that_use_it_and_nothing_of_those_that_are_stopped(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &row()).await;
    admin.deploy(&lab).await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "n1").await;
    let (before, idle) = (of_node(&admin, &lab, "n1").await, of_node(&admin, &lab, "n2").await);
    assert_eq!((&before["running"], &before["cpu"]["percent"]), (&json!(true), &Value::Null), "{before}");
    let limit = before["memory"]["limit"].as_u64();
    assert!(limit.is_none_or(|limit| (500_000_000..=512 * MIB).contains(&limit)), "{before}");
    assert!(on.runtime != crate::bench::Runtime::Containerlab || limit.is_some(), "{before}");

    // It fills a buffer of that size over and over.
    shell.succeeds("dd if=/dev/zero of=/dev/null bs=64M 2>/dev/null & echo $! > /tmp/pid").await;
    eventually(async || {
        let now = of_node(&admin, &lab, "n1").await;
        let grown = memory(&now) >= memory(&before) + 60 * MIB && seconds(&now) >= seconds(&before) + 1.0;
        let more = now["processes"].as_u64() > before["processes"].as_u64();
        if grown && more { Ok(()) } else { Err(format!("{now} after {before}")) }
    })
    .await;
    let mut feed = admin.join(&format!("/stats/{lab}")).await;
    let busy = |data: &Value| find(&data["payload"], "n1")["cpu"]["percent"].as_f64() > Some(5.0);
    expect_data(&mut feed, "a busy node", busy).await;
    drop(feed);
    let still_idle = of_node(&admin, &lab, "n2").await;
    assert!(seconds(&still_idle) < seconds(&idle) + 1.0, "{still_idle} after {idle}");
    assert!(memory(&still_idle) < memory(&idle) + 30 * MIB, "{still_idle} after {idle}");
    shell.succeeds("kill $(cat /tmp/pid); wait").await;
    eventually(async || {
        let now = of_node(&admin, &lab, "n1").await;
        let back = memory(&now) < memory(&before) + 30 * MIB && now["processes"] == before["processes"];
        if back { Ok(()) } else { Err(format!("{now} after {before}")) }
    })
    .await;

    admin.command(&lab, 2, json!({ "node": "n2" })).await.unwrap();
    let nothing = json!({
        "node": "n2", "running": false, "cpu": null, "memory": null, "processes": null, "interfaces": [],
    });
    assert_eq!(of_node(&admin, &lab, "n2").await, nothing);
    assert_eq!(of_node(&admin, &lab, "n1").await["running"], true);
    admin.command(&lab, 3, json!({ "node": "n2" })).await.unwrap();
    let again = of_node(&admin, &lab, "n2").await;
    assert!(again["running"] == true && again["cpu"].is_object() && !interface(&again, "eth1").is_null(), "{again}");
    admin.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}

/// An interface of a node; null: there is none.
fn interface(node: &Value, name: &str) -> Value {
    let interfaces = node["interfaces"].as_array().unwrap();
    assert!(interfaces.iter().all(|each| each["name"] != "lo"), "{node}");
    interfaces.iter().find(|each| each["name"] == name).cloned().unwrap_or_default()
}

pub(crate) async fn a_ping_moves_the_counters_of_its_link_and_of_no_other(on: &Bench) {
    let server = on.server().await;
    let admin = server.admin().await;
    let lab = admin.create_lab("course", &row()).await;
    admin.deploy(&lab).await.unwrap();
    let mut shell = Shell::open(&admin, &lab, "n1").await;
    let all = async || {
        let stats = admin.api.get(&format!("/labs/{lab}/stats")).await.unwrap();
        let ends = [("n1", "eth1"), ("n2", "eth1"), ("n1", "eth2"), ("n3", "eth1")];
        ends.map(|(node, name)| interface(&find(&stats, node), name))
    };
    if on.is_containerlab() {
        // It switches on what the topology has switched off.
        for node in ["n1", "n2", "n3"] {
            let mut shell = Shell::open(&admin, &lab, node).await;
            shell.succeeds("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6").await;
        }
    }
    shell.succeeds("ping -c 1 -W 5 10.0.0.2").await;
    let mut before = all().await;
    eventually(async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = all().await;
        let last = std::mem::replace(&mut before, now.clone());
        if last == now { Ok(()) } else { Err(format!("something goes on: {now:#?} after {last:#?}")) }
    })
    .await;
    for end in &before {
        assert_eq!((&end["up"], &end["mtu"]), (&json!(true), &json!(9500)), "{end}");
        assert_eq!(end["mac"].as_str().map(str::len), Some(17), "{end}");
    }
    shell.succeeds("ping -c 5 -i 0.2 -W 5 10.0.0.2").await;
    let after = all().await;
    let moved = |end: usize, key: &str| after[end][key].as_u64().unwrap() - before[end][key].as_u64().unwrap();
    // Besides the pings, each side may ask once or twice where the other is.
    for (near, far) in [(0, 1), (1, 0)] {
        let sent = moved(near, "txPackets");
        assert!((5..=9).contains(&sent), "{sent} packets: {after:#?} after {before:#?}");
        assert!((5 * 98..5 * 98 + 4 * 60).contains(&moved(near, "txBytes")), "{after:#?} after {before:#?}");
        assert_eq!((sent, moved(near, "txBytes")), (moved(far, "rxPackets"), moved(far, "rxBytes")));
    }
    assert_eq!((&before[2], &before[3]), (&after[2], &after[3]), "nothing went over the other link");
    shell.succeeds("ip link set eth2 down").await;
    let [_, _, near, far] = all().await;
    assert_eq!((&near["up"], &far["up"]), (&json!(false), &json!(false)), "{near} {far}");
    admin.destroy(&lab).await.unwrap();
    on.leaves_nothing().await;
}
