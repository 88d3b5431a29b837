//! What a client costs that is there and does nothing.

use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::contest::{Contestant, Running};
use crate::machine;

/// The namespaces that a web page of Antimony joins at once.
const NAMESPACES: [&str; 4] = ["/status-messages", "/lab-updates", "/lab-commands", "/shell-commands"];
/// How many connect at a time.
const AT_A_TIME: usize = 32;
/// How long a server may take to settle down.
const SETTLE: Duration = Duration::from_millis(1500);

/// What came of it, in bytes.
pub(crate) struct Memory {
    /// Resident before the first client.
    pub(crate) empty: u64,
    /// Growth per client.
    pub(crate) per_client: f64,
}

/// Connects `clients`, each to four namespaces, and lets them be.
pub(crate) async fn run(contestant: &Contestant, running: &mut Running, clients: usize) -> anyhow::Result<Memory> {
    tokio::time::sleep(SETTLE).await;
    contestant.collect_garbage(running)?;
    let empty = machine::resident(running.process.id())?;
    let mut idle = JoinSet::new();
    let mut left = clients;
    while left > 0 {
        let mut connecting = JoinSet::new();
        for _ in 0..left.min(AT_A_TIME) {
            let (address, token) = (running.address, running.token.clone());
            connecting.spawn(async move {
                let mut connection = Connection::open(address).await?;
                for namespace in NAMESPACES {
                    connection.join(namespace, &token).await?;
                }
                anyhow::Ok(connection)
            });
        }
        left -= connecting.len();
        while let Some(connection) = connecting.join_next().await {
            let mut connection = connection??;
            // Answers pings, and nothing else comes.
            idle.spawn(async move { while connection.next().await.is_ok() {} });
        }
    }
    tokio::time::sleep(SETTLE).await;
    contestant.collect_garbage(running)?;
    let full = machine::resident(running.process.id())?;
    ensure!(idle.try_join_next().is_none(), "an idle client lost its connection");
    Ok(Memory { empty, per_client: (full as f64 - empty as f64) / clients as f64 })
}
