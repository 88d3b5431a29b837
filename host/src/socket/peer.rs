//! One client in one namespace, held in a way that lets it go.
//!
//! The library takes a client for connected until whatever handles its end has run, and ignores one that comes back to a
//! namespace before that: it would wait for ever. Where no such handler is set, it lets go of the socket at once. So none
//! is set: tasks hold a [`Peer`], which doesn't keep the socket, and hear of the end by the socket being dropped.

use std::convert::Infallible;
use std::sync::{Arc, Weak};

use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::SocketRef;
use socketioxide::handler::FromConnectParts;
use socketioxide::socket::Socket;
use socketioxide_core::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A client in a namespace.
#[derive(Clone)]
pub(super) struct Peer(Weak<Socket<LocalAdapter>>);

impl Peer {
    pub(super) fn of(socket: &Arc<Socket<LocalAdapter>>) -> Self {
        Self(Arc::downgrade(socket))
    }

    /// Its socket, unless it has gone. Not to be kept across an await.
    pub(super) fn socket(&self) -> Option<SocketRef> {
        self.shared().map(SocketRef::from)
    }

    /// The same as the library's own parts take it.
    pub(super) fn shared(&self) -> Option<Arc<Socket<LocalAdapter>>> {
        self.0.upgrade()
    }
}

impl FromConnectParts<LocalAdapter> for Peer {
    type Error = Infallible;

    fn from_connect_parts(socket: &Arc<Socket<LocalAdapter>>, _: &Option<Value>) -> Result<Self, Infallible> {
        Ok(Self::of(socket))
    }
}

/// Hangs on a socket; what it guards is cancelled when the socket is dropped.
#[derive(Clone)]
struct UntilGone(#[expect(dead_code, reason = "it is there to be dropped")] Arc<DropGuard>);

/// A token that is cancelled when the socket has gone.
pub(super) fn gone(socket: &SocketRef) -> CancellationToken {
    let gone = CancellationToken::new();
    socket.extensions.insert(UntilGone(Arc::new(gone.clone().drop_guard())));
    gone
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use futures::{SinkExt as _, StreamExt as _};
    use socketioxide::SocketIo;
    use socketioxide::handler::ConnectHandler;
    use tokio_tungstenite::tungstenite::Message;

    use super::*;

    /// On one thread, so that nothing happens but at awaits: the library's own join is over when the client hears of it.
    /// The client's leave and its next join come as two frames at once, as a page sends them that is drawn anew.
    #[tokio::test]
    async fn a_namespace_that_was_left_can_be_joined_again_at_once() {
        let (layer, io) = SocketIo::builder().build_layer();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ends);
        let admit = async move |socket: SocketRef| {
            seen.lock().unwrap().push(gone(&socket));
            Ok::<_, Infallible>(())
        };
        io.ns("/here", (async |_: Peer| {}).with(admit));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, axum::Router::new().layer(layer)).into_future());

        let (mut client, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        for round in 0..100 {
            if round > 0 {
                client.feed(Message::text("41/here,")).await.unwrap();
            }
            client.send(Message::text("40/here,")).await.unwrap();
            let joined =
                async { while !client.next().await.unwrap().unwrap().to_text().unwrap().starts_with("40/here,") {} };
            let joined = tokio::time::timeout(Duration::from_secs(30), joined).await;
            joined.unwrap_or_else(|_| panic!("join {round} was never answered"));
        }
        drop(client);
        let ends = std::mem::take(&mut *ends.lock().unwrap());
        assert_eq!(ends.len(), 100);
        for end in ends {
            end.cancelled().await;
        }
    }
}
