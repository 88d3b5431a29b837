//! TLS of the server's own: what is spoken, what is said when it can't be, and how the certificate is exchanged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

use super::{Wire, base, write};
use crate::harness::{NotStarted, Server, ServerBuilder, User, eventually, within};

/// A certificate for localhost and its key, in PEM.
struct Made {
    certificate: String,
    key: String,
    der: CertificateDer<'static>,
}

fn made(not_after_year: i32) -> Made {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).expect("valid");
    params.not_after = rcgen::date_time_ymd(not_after_year, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    Made { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
}

fn put(base: &Path, made: &Made) {
    write(base, &[("cert.pem", &made.certificate), ("key.pem", &made.key)]);
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(base.join("key.pem"), private).expect("chmod");
}

const TLS: &str = "server:\n  tls:\n    certificate: cert.pem\n    key: key.pem\n";

async fn server(made: &Made) -> (Server, PathBuf) {
    let builder = ServerBuilder::new(User::Myself);
    let base = base(&builder);
    put(&base, made);
    let server = builder.config(TLS).start().await;
    assert!(server.url.starts_with("https://"), "{}", server.url);
    (server, base)
}

/// A client that trusts this certificate and no other.
fn http(made: &Made) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(made.certificate.as_bytes()).expect("a certificate");
    let builder = antimony_host::client::http_builder().tls_certs_only([certificate]).cookie_store(true);
    builder.redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}

async fn connect(
    server: &Server,
    made: &Made,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(made.der.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.url.trim_start_matches("https://")).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    within("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

#[tokio::test(flavor = "multi_thread")]
async fn rest_and_sockets_are_served_over_tls_and_cookies_are_for_tls_only() {
    let made = made(2050);
    let (server, _) = server(&made).await;
    let http = http(&made);
    let url = server.url.replace("127.0.0.1", "localhost");
    let login = http.post(format!("{url}/users/login/native")).json(&json!({"username": "admin", "password": "admin"}));
    let answer = within("an answer", login.send()).await.expect("an answer");
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    let cookies: Vec<_> =
        answer.headers().get_all("set-cookie").iter().map(|c| c.to_str().expect("text").to_owned()).collect();
    assert!(cookies.len() >= 2 && cookies.iter().all(|cookie| cookie.contains("; Secure")), "{cookies:?}");
    let token = answer.cookies().find(|cookie| cookie.name() == "accessToken").expect("a token").value().to_owned();
    let labs = http.get(format!("{url}/api/labs")).send().await.expect("an answer");
    assert_eq!(labs.status(), 200, "by the cookie");

    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let stream = connect(&server, &made, versions).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(stream.get_ref().1.protocol_version(), Some(versions[0].version));
        let request = "wss://localhost/socket.io/?EIO=4&transport=websocket";
        let (mut socket, _) =
            within("a web socket", tokio_tungstenite::client_async(request, stream)).await.expect("a web socket");
        socket.send(Message::text(format!("40/lab-updates,{}", json!({ "token": token })))).await.expect("sent");
        loop {
            let frame = within("a packet", socket.next()).await.expect("it is open").expect("a packet");
            let text = frame.into_text().expect("text");
            assert!(!text.starts_with("44"), "{text}");
            if text.starts_with("40/lab-updates,") {
                break;
            }
        }
    }
    let ready: Value = http.get(format!("{url}/readyz")).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&ready["tls"]["notAfter"], &ready["tls"]["lastError"]), (&json!("2050-01-01T00:00:00Z"), &Value::Null));
    assert!(ready["tls"]["daysLeft"].as_i64().expect("a number") > 1000, "{ready}");
    let metrics = http.get(format!("{url}/metrics")).send().await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains("\nantimony_tls_certificate_days_left "), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_never_finished_is_ended_and_nobody_waits_for_it() {
    let made = made(2050);
    let (server, _) = server(&made).await;
    let url = server.url.replace("127.0.0.1", "localhost");
    let mut silent = Vec::new();
    for number in 0..100 {
        let mut wire = Wire::open(&server.url).await;
        // Nothing, the beginning of a handshake, and what no client of TLS says.
        match number % 3 {
            0 => {}
            1 => _ = wire.send([0x16, 3, 1, 2, 0, 1]).await,
            _ => _ = wire.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await,
        }
        silent.push(wire);
    }
    let answer = within("an answer", http(&made).get(format!("{url}/healthz")).send()).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let began = std::time::Instant::now();
    for wire in &mut silent {
        let _ = wire.rest().await;
    }
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_certificate_counts_without_a_restart_and_a_bad_one_changes_nothing() {
    let (first, second, third) = (made(2050), made(2051), made(2052));
    let (mut server, base) = server(&first).await;
    let url = server.url.replace("127.0.0.1", "localhost");
    let mut kept = connect(&server, &first, BOTH).await.expect("a handshake");
    let ready = async |made: &Made| -> Result<Value, String> {
        let answer = http(made).get(format!("{url}/readyz")).send().await.map_err(|error| format!("{error:?}"))?;
        answer.json().await.map_err(|error| error.to_string())
    };

    put(&base, &second);
    eventually(async || ready(&second).await.map(drop)).await;
    ready(&first).await.expect_err("the old one isn't shown any more");

    // A key that isn't the certificate's.
    write(&base, &[("cert.pem", &third.certificate)]);
    eventually(async || match ready(&second).await?["tls"]["lastError"].as_str() {
        Some(said) if said.contains("log") && !said.contains("cert.pem") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let metrics =
        http(&second).get(format!("{url}/metrics")).send().await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains("antimony_tls_certificate_reload_failed 1"), "{metrics}");
    assert!(metrics.contains("antimony_tls_certificate_reloads_total 1"), "{metrics}");
    // What the server has written may still be on its way here.
    eventually(async || match server.log() {
        log if log.contains("is not that of the first certificate") && log.contains("key.pem") => Ok(()),
        log => Err(log.to_owned()),
    })
    .await;

    // SIGHUP reads it at once; the rest of the configuration has no plugins to be wrong.
    put(&base, &third);
    kill(Pid::from_raw(i32::try_from(server.id()).expect("an id")), Signal::SIGHUP).expect("it is there");
    eventually(async || match ready(&third).await? {
        ready if ready["tls"]["lastError"].is_null() && ready["ready"] == true => Ok(()),
        ready => Err(ready.to_string()),
    })
    .await;

    // Who was connected is still.
    let mut answer = [0; 12];
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    within("an answer", kept.read_exact(&mut answer)).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_cannot_be_used_is_named_when_the_server_starts() {
    let (one, other) = (made(2050), made(2050));
    let mixed = Made { key: other.key.clone(), certificate: one.certificate.clone(), der: one.der.clone() };
    let empty = Made { key: String::new(), certificate: one.certificate.clone(), der: one.der.clone() };
    for (made, config, words) in [
        (&mixed, TLS, &["key.pem", "cert.pem", "is not that of"][..]),
        (&empty, TLS, &["key.pem", "empty", "PKCS#8"]),
        (&one, "server:\n  tls:\n    certificate: gone.pem\n    key: key.pem\n", &["gone.pem", "No such file"]),
        (&one, "server:\n  tls:\n    certificate: cert.pem\n", &["server.tls", "key"]),
    ] {
        let builder = ServerBuilder::new(User::Myself);
        put(&base(&builder), made);
        match builder.config(config).try_start().await {
            Ok(server) => panic!("it started at {}", server.url),
            Err(NotStarted { status, output }) => {
                assert_eq!(status.code(), Some(1), "{output}");
                for word in words {
                    assert!(output.contains(word), "{word} is missing in: {output}");
                }
                assert!(!output.contains("BEGIN"), "{output}");
            }
        }
    }
    // It works, but somebody should know.
    let builder = ServerBuilder::new(User::Myself);
    let base = base(&builder);
    put(&base, &one);
    std::fs::set_permissions(base.join("key.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
    let mut server = builder.config(TLS).start().await;
    assert!(server.log().contains("may read the key"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_without_tls_is_sent_to_where_it_is_spoken() {
    let made = made(2050);
    let builder = ServerBuilder::new(User::Myself);
    put(&base(&builder), &made);
    // A port that is free now; nobody else on this machine is likely to take it within the moment.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let server = builder.config(&format!("{TLS}    redirectFrom: {free}\n")).start().await;
    let port = server.url.rsplit(':').next().expect("a port");
    let plain =
        antimony_host::client::http_builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let request = plain.get(format!("http://{free}/labs?a=b")).header("host", "labs.example:80");
    let answer = within("an answer", request.send()).await.expect("an answer");
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.headers()["location"], format!("https://labs.example:{port}/labs?a=b"));
}
