//! The server of the contestant "bare socketioxide": the library as its documentation shows it, deciding nothing.
//!
//! Run as a process of its own by `contest`, through the subcommand `bare`. Says `listening on URL` when it is up, takes
//! orders on standard input as `node/server.mjs` does (see there), and ends when standard input does.

use std::io::Write as _;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::watch;

use crate::contest::line;

/// Serves until standard input ends.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let (layer, io) = SocketIo::builder().build_layer();
    io.ns("/lab-commands", async |socket: SocketRef| {
        socket.on("data", async |Data::<Value>(_), ack: AckSender| {
            let _ = ack.send(&json!({ "payload": [] }));
        });
    });
    for path in ["/lab-updates", "/status-messages", "/shell-commands"] {
        io.ns(path, async |_: SocketRef| {});
    }
    io.dyn_ns("/logs/{lab}", async |_: SocketRef| {})?;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    tokio::spawn(axum::serve(listener, axum::Router::new().layer(layer)).into_future());
    writeln!(std::io::stdout(), "listening on http://{address}")?;

    let (taken, takes) = watch::channel(0);
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(order) = orders.next_line().await? {
        let words: Vec<_> = order.split(' ').collect();
        match words[..] {
            ["emit", path, first, count, rate, window] => {
                let (first, count, rate, window) = (first.parse()?, count.parse()?, rate.parse()?, window.parse()?);
                tokio::spawn(emit(io.clone(), path.to_owned(), first, count, rate, window, takes.clone()));
            }
            ["taken", line] => drop(taken.send_replace(line.parse()?)),
            _ => anyhow::bail!("no such order: {order}"),
        }
    }
    Ok(())
}

/// Emits to the whole namespace. The library drops what finds a client's queue full (128 packets); `window` below that
/// keeps queues from filling.
async fn emit(
    io: SocketIo,
    path: String,
    first: u64,
    count: u64,
    rate: u64,
    window: u64,
    mut taken: watch::Receiver<u64>,
) {
    let began = std::time::Instant::now();
    let mut sent = 0;
    while sent < count {
        let due = match rate {
            0 => (*taken.borrow_and_update() + window + 1).saturating_sub(first),
            _ => (began.elapsed().as_secs_f64() * rate as f64) as u64 + 1,
        };
        while sent < due.min(count) {
            // What it couldn't send is seen by the clients, who count.
            if let Some(namespace) = io.of(&path) {
                let _ = namespace.emit("data", &line(first + sent)).await;
            }
            sent += 1;
        }
        if sent < count {
            match rate {
                0 => drop(taken.changed().await),
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}
