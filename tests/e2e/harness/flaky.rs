//! A network between a client and a server that loses connections when it is told to.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to a server, until they are cut.
pub(crate) struct FlakyNetwork {
    url: String,
    cuts: Arc<watch::Sender<u32>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl FlakyNetwork {
    /// The network before the server at `url`.
    pub(crate) async fn before(url: &str) -> Self {
        let server = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cuts = Arc::new(watch::Sender::new(0));
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&cuts)));
        Self { url, cuts, accepting }
    }

    /// Where clients connect to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Loses all connections, and the next one as well: a client that polls may have none at this moment.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for FlakyNetwork {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: String, cuts: Arc<watch::Sender<u32>>) {
    let mut lost = 0;
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut cut = cuts.subscribe();
        if *cut.borrow_and_update() > lost {
            lost += 1;
            continue;
        }
        let server = server.clone();
        tokio::spawn(async move {
            let mut server = TcpStream::connect(server).await.unwrap();
            tokio::select! {
                // The sender lives as long as somebody accepts; without it nothing is cut any more.
                _ = cut.changed() => {}
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            }
        });
    }
}
