//! What the nodes of a lab use, as a table: once, or again with each reading.

use std::time::Duration;

use serde_json::Value;

use super::CtlError;
use super::labs::{self, text};
use super::output::{Output, printable, table};
use super::session::Session;

/// How long to wait before a lost connection is made again.
const AGAIN: Duration = Duration::from_secs(1);

const TITLES: [&str; 11] =
    ["NODE", "CPU", "CPU TIME", "MEMORY", "LIMIT", "PROCESSES", "INTERFACE", "STATE", "RECEIVED", "SENT", "LOST"];
/// How many of them are about the node, and not about one of its interfaces.
const OF_NODE: usize = 6;

/// Shows what nodes use. A reading alone doesn't say how busy a processor is at the moment: of the first two, the second is
/// shown.
pub(super) async fn show(session: &mut Session, lab: &str, follow: bool, output: &Output) -> Result<(), CtlError> {
    let lab = labs::find(session, lab).await?;
    let id = text(&lab, "id");
    let path = format!("/stats/{id}");
    let mut had_any = false;
    loop {
        let joined = async {
            let connection = session.connect().await?;
            session.try_join(&connection, &path).await
        };
        match joined.await {
            Ok(Some(mut feed)) => {
                while let Some(event) = feed.next_event().await {
                    let stats = &event.data()["payload"];
                    if follow {
                        let gap = if had_any { "\n" } else { "" };
                        output.came(stats, || format!("{gap}{}", rows(stats)))?;
                    } else if is_whole(stats) || had_any {
                        return output.answer(stats, || rows(stats));
                    }
                    had_any = true;
                }
            }
            Ok(None) if had_any && follow => {
                output.note("the lab has no instance any more");
                return Ok(());
            }
            // What is in the way is said there.
            Ok(None) => {
                let stats = session.get(&format!("/labs/{id}/stats")).await?;
                return output.answer(&stats, || rows(&stats));
            }
            Err(error @ (CtlError::LoggedOut(_) | CtlError::Join(..))) => return Err(error),
            Err(error) if !had_any => return Err(error),
            Err(_) => {}
        }
        output.note("the connection is lost; trying again");
        tokio::time::sleep(AGAIN).await;
    }
}

fn entries(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether it says of each node that runs how busy it is, where that can be known.
fn is_whole(stats: &Value) -> bool {
    entries(&stats["nodes"]).iter().all(|node| node["cpu"].is_null() || node["cpu"]["percent"].is_number())
}

/// A line for each node and each of its interfaces.
fn rows(stats: &Value) -> String {
    let lines = entries(&stats["nodes"]).iter().flat_map(|node| {
        let mut lines: Vec<Vec<String>> = entries(&node["interfaces"]).iter().map(interface).collect();
        if lines.is_empty() {
            lines.push(vec!["-".to_owned(); TITLES.len() - OF_NODE]);
        }
        let mut head = of_node(node);
        lines.into_iter().map(move |line| {
            let rest = vec![String::new(); OF_NODE];
            std::mem::replace(&mut head, rest).into_iter().chain(line).collect::<Vec<_>>()
        })
    });
    table(&TITLES, &lines.collect::<Vec<_>>())
}

fn of_node(node: &Value) -> Vec<String> {
    let name = printable(text(node, "node"));
    if node["running"] != true {
        let nothing = vec!["-".to_owned(); OF_NODE - 2];
        return [name, "stopped".to_owned()].into_iter().chain(nothing).collect();
    }
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    vec![
        name,
        or_dash(node["cpu"]["percent"].as_f64().map(|percent| format!("{percent:.1} %"))),
        or_dash(node["cpu"]["seconds"].as_f64().map(|seconds| format!("{seconds:.1} s"))),
        or_dash(node["memory"]["bytes"].as_u64().map(size)),
        or_dash(node["memory"]["limit"].as_u64().map(size)),
        or_dash(node["processes"].as_u64().map(|processes| processes.to_string())),
    ]
}

fn interface(interface: &Value) -> Vec<String> {
    let number = |key: &str| interface[key].as_u64().unwrap_or_default();
    let traffic = |bytes: &str, packets: &str| format!("{} in {}", size(number(bytes)), number(packets));
    let state = match interface["up"].as_bool() {
        Some(true) => "up",
        Some(false) => "down",
        None => "-",
    };
    let lost = ["rxErrors", "rxDropped", "txErrors", "txDropped"].map(number).iter().sum::<u64>();
    vec![
        printable(text(interface, "name")),
        state.to_owned(),
        traffic("rxBytes", "rxPackets"),
        traffic("txBytes", "txPackets"),
        lost.to_string(),
    ]
}

/// So many bytes, for people.
fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "a digit behind the point is shown")]
    let mut shown = bytes as f64 / 1024.0;
    let mut units = ["KiB", "MiB", "GiB"].iter();
    let mut unit = "TiB";
    for next in units.by_ref() {
        if shown < 1023.95 {
            unit = next;
            break;
        }
        shown /= 1024.0;
    }
    format!("{shown:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_has_a_line_for_each_of_its_interfaces() {
        let interface = |name: &str, up: Value| {
            json!({
                "name": name, "up": up, "mtu": 1500, "mac": null, "rxBytes": 2048, "rxPackets": 3, "rxErrors": 1,
                "rxDropped": 0, "txBytes": 98, "txPackets": 1, "txErrors": 0, "txDropped": 4,
            })
        };
        let stats = json!({ "at": "2026-01-02T03:04:05Z", "nodes": [
            { "node": "r1", "running": true, "cpu": { "seconds": 12.34, "percent": 50.0 },
              "memory": { "bytes": 5 << 20, "limit": null }, "processes": 3,
              "interfaces": [interface("eth1", json!(true)), interface("eth2", Value::Null)] },
            { "node": "r2", "running": false, "cpu": null, "memory": null, "processes": null, "interfaces": [] },
        ] });
        let shown = rows(&stats);
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1].join(" "), "r1 50.0 % 12.3 s 5.0 MiB - 3 eth1 up 2.0 KiB in 3 98 B in 1 5");
        assert_eq!(lines[2].join(" "), "eth2 - 2.0 KiB in 3 98 B in 1 5");
        assert_eq!(lines[3].join(" "), "r2 stopped - - - - - - - - -");
        assert!(is_whole(&stats));
        assert!(!is_whole(&json!({ "nodes": [{ "cpu": { "seconds": 1, "percent": null } }] })));
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (3 << 30, "3.0 GiB")];
        for (bytes, shown) in sizes {
            assert_eq!(size(bytes), shown);
        }
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(size(5 << 40), "5.0 TiB");
    }
}
