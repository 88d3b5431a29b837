//! Commands and their acknowledgements: how long one takes, and how many there are in a second.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::JoinSet;

use super::{Meter, Used};
use crate::connection::Connection;
use crate::contest::Running;

/// What came of it.
pub(crate) struct Acks {
    /// How long each command took, sorted.
    pub(crate) times: Vec<Duration>,
    pub(crate) used: Used,
}

/// Has each of `clients` send a command as soon as the one before is answered, for some time.
pub(crate) async fn run(running: &Running, clients: usize, time: Duration) -> anyhow::Result<Acks> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        let mut connection = Connection::open(running.address).await?;
        connection.join("/lab-commands", &running.token).await?;
        connections.push(connection);
    }
    // Commands before it counts: memory is fetched, code is read, branches are learned.
    let warm_up = Instant::now() + time / 5;
    let mut working = JoinSet::new();
    for mut connection in connections {
        let command = running.command_around();
        working.spawn(async move { work(&mut connection, &command, warm_up).await.map(|_| (connection, command)) });
    }
    let mut warm = Vec::new();
    while let Some(client) = working.join_next().await {
        warm.push(client??);
    }

    let meter = Meter::start(running)?;
    let until = Instant::now() + time;
    let mut working = JoinSet::new();
    for (mut connection, command) in warm {
        working.spawn(async move { work(&mut connection, &command, until).await });
    }
    let mut times = Vec::new();
    while let Some(client) = working.join_next().await {
        times.extend(client??);
    }
    let used = meter.stop()?;
    times.sort_unstable();
    Ok(Acks { times, used })
}

/// Sends commands one after another; answers how long each took.
async fn work(
    connection: &mut Connection,
    (before, behind): &(String, String),
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for id in 1.. {
        let command = format!("{before}{id}{behind}");
        let expected = format!(r#"43/lab-commands,{id}[{{"payload":[]}}]"#);
        let sent = Instant::now();
        connection.send(&command).await?;
        let answer = connection.next().await?;
        let now = Instant::now();
        ensure!(answer == expected.as_bytes(), "a wrong answer: {}", String::from_utf8_lossy(answer));
        times.push(now - sent);
        if now >= until {
            break;
        }
    }
    Ok(times)
}
