//! What operators name for those who write topologies: kinds of nodes in a file, and a schema by address or file.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Place, Server, ServerBuilder, User};

/// Answers every request with this, and counts them.
async fn site(answer: Vec<u8>) -> (String, Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/clab.schema.json", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = socket.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
            let _ = socket.write_all(head.as_bytes()).await;
            let _ = socket.write_all(&answer).await;
        }
    });
    (url, asked, task)
}

async fn schema(server: &Server) -> Value {
    server.api().get("/clab-schema").await.unwrap()
}

fn configured(url: &str, more: &str) -> String {
    format!("containerlab:\n  schemaUrl: {url}\n{more}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_fetched_once_and_kept_over_a_restart() {
    let (url, asked, site) = site(br#"{"title": "fetched"}"#.to_vec()).await;
    let place = Place::new(User::Myself);
    let mut server = ServerBuilder::at(&place).config(&configured(&url, "")).start().await;
    assert_eq!(schema(&server).await, json!({"title": "fetched"}));
    assert_eq!(schema(&server).await, json!({"title": "fetched"}));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(server.terminate().await.success());
    drop(server);
    // Nobody answers there any more.
    site.abort();
    let _ = site.await;
    let server = ServerBuilder::at(&place).config(&configured(&url, "")).start().await;
    assert_eq!(schema(&server).await, json!({"title": "fetched"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_schema_to_fetch_the_operators_file_is_offered_and_without_that_our_own() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"title": "from a file"}"#).unwrap();
    let fallback = format!("  schemaFallback: {}\n", file.path().display());
    let too_long = format!("{{\"title\": \"{}\"}}", "x".repeat(5 << 20));
    for (answer, more, title) in [
        (b"this is no JSON".to_vec(), fallback.as_str(), "from a file"),
        (too_long.into_bytes(), &fallback, "from a file"),
        (b"[]".to_vec(), "  schemaFallback: nowhere.json\n", "containerlab topology file"),
    ] {
        let (url, ..) = site(answer).await;
        let server = ServerBuilder::new(User::Myself).config(&configured(&url, more)).start().await;
        assert_eq!(schema(&server).await["title"], title);
    }
    let server = ServerBuilder::new(User::Myself).config(&format!("containerlab:\n{fallback}")).start().await;
    assert_eq!(schema(&server).await["title"], "from a file");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_kinds_of_nodes_are_offered_without_their_passwords() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        r#"[{"kind": "odd_os", "name": "Odd", "interfacePattern": "odd$", "interfaceStart": 3, "password": "secret"}]"#,
    )
    .unwrap();
    let config = format!("containerlab:\n  deviceConfig: {}\n", file.path().display());
    let mut server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let devices = server.admin().await.api.get("/devices").await.unwrap();
    let odd = json!({"kind": "odd_os", "name": "Odd", "interfacePattern": "odd$", "interfaceStart": 3});
    assert_eq!(devices, json!([odd]));
    assert!(server.terminate().await.success());

    // A file that can't be used is said in the log, and is no reason not to start.
    std::fs::write(file.path(), r#"[{"kind": "odd_os"}]"#).unwrap();
    let mut server = ServerBuilder::new(User::Myself).config(&config).start().await;
    let devices = server.admin().await.api.get("/devices").await.unwrap();
    assert!(devices.as_array().unwrap().len() > 50);
    assert!(server.log().contains("interfacePattern"), "{}", server.log());
}
