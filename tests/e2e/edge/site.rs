//! The web client's files, as browsers and programs get them.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};

use super::{Wire, base, write};
use crate::harness::{Client, NotStarted, Server, ServerBuilder, User, within};

const INDEX: &str =
    "<!doctype html><title>client</title><script>let a = 1;</script><script src=/assets/index-DiwrgTda.js></script>";
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A built web client, and things that must not be served.
fn builder() -> ServerBuilder {
    let builder = ServerBuilder::new(User::Myself);
    let base = base(&builder);
    let script = format!("console.log('client');{}", " ".repeat(5000));
    write(
        &base,
        &[
            ("web/index.html", INDEX),
            ("web/assets/index-DiwrgTda.js", &script),
            ("web/assets/packed-B1x9ZqLw.js", "plain"),
            ("web/assets/packed-B1x9ZqLw.js.br", "brotli, as far as anybody knows"),
            ("web/assets/packed-B1x9ZqLw.js.gz", "gzip, as far as anybody knows"),
            ("web/icons/a.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
            ("web/labs", "a file named as a route is"),
            ("web/.env", "SECRET"),
            ("secret.txt", "SECRET"),
        ],
    );
    std::os::unix::fs::symlink("../secret.txt", base.join("web/out.txt")).expect("linked");
    std::os::unix::fs::symlink("../secret.txt", base.join("web/assets/index-DiwrgTda.js.br")).expect("linked");
    builder.config("ui:\n  dir: web\n")
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

async fn ask(server: &Server, method: Method, path: &str, fields: &[(&'static str, &str)]) -> Got {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
    }
    let request = antimony_host::client::http().request(method, format!("{}{path}", server.url)).headers(headers);
    let answer = within("an answer", request.send()).await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    Got { status, headers, body: answer.text().await.expect("text") }
}

async fn get(server: &Server, path: &str, fields: &[(&'static str, &str)]) -> Got {
    ask(server, Method::GET, path, fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_get_pages_and_programs_get_json_at_the_same_paths() {
    let server = builder().start().await;
    let navigation = [("accept", BROWSER), ("sec-fetch-mode", "navigate")];
    let plain_http = [("accept", BROWSER)];
    for path in ["/", "/editor", "/labs", "/labs/019a-b", "/topologies/7", "/collections", "/some/where/else"] {
        for fields in [&navigation[..], &plain_http] {
            let page = get(&server, path, fields).await;
            let expected = if path == "/labs" { "a file named as a route is" } else { INDEX };
            assert_eq!((page.status, page.body.as_str()), (StatusCode::OK, expected), "{path}");
        }
    }
    assert_eq!(get(&server, "/", &[("accept", "*/*")]).await.body, INDEX, "whoever asks");
    let fetch = [("accept", "application/json"), ("sec-fetch-mode", "cors")];
    let browser_fetch = [("accept", BROWSER), ("sec-fetch-mode", "cors")];
    for path in ["/labs", "/labs/019a-b", "/topologies", "/api/labs", "/api/topologies/7"] {
        for fields in [&fetch[..], &browser_fetch, &[("accept", "*/*")], &[]] {
            let json = get(&server, path, fields).await;
            assert!(json.body.starts_with("{\"code\":"), "{path} {fields:?}: {}", json.body);
        }
    }
    // What is for programs alone, or what browsers are sent to on purpose, stays so.
    for (path, part) in [
        ("/api/labs", "{\"code\":"),
        ("/api/nowhere", "there is nothing at /api/nowhere"),
        ("/api", "there is nothing at /api"),
        ("/users/login/config", "{\"payload\":"),
        ("/healthz", "{\"payload\":"),
        ("/asyncapi.yaml", "asyncapi:"),
        ("/metrics", "# HELP"),
        ("/socket.io/?EIO=4&transport=polling", "0{"),
    ] {
        let got = get(&server, path, &navigation).await;
        assert!(got.body.contains(part) && !got.body.contains("<title>"), "{path}: {}", got.body);
    }
    // What isn't there is not a page, unless somebody goes to a page.
    for (path, fields) in [
        ("/assets/x.js", &navigation[..]),
        ("/assets/x.js", &fetch),
        ("/editor", &fetch),
        ("/editor", &[("accept", "*/*")]),
    ] {
        let got = get(&server, path, fields).await;
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{path} {fields:?}");
        assert!(got.body.starts_with("{\"code\":"), "{path}: {}", got.body);
    }
    let posted = ask(&server, Method::POST, "/editor", &navigation).await;
    assert_eq!(posted.status, StatusCode::NOT_FOUND);
    server.admin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_kept_compressed_and_sent_in_parts_as_a_web_server_would() {
    let server = builder().start().await;
    let index = get(&server, "/", &[]).await;
    assert_eq!(index.header("cache-control"), "no-cache");
    assert_eq!(index.header("content-type"), "text/html; charset=utf-8");
    let policy = index.header("content-security-policy");
    assert!(policy.contains("script-src 'self' 'unsafe-hashes' 'sha256-"), "its script in place: {policy}");
    let script = get(&server, "/assets/index-DiwrgTda.js", &[]).await;
    assert_eq!(script.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!((script.header("accept-ranges"), script.header("content-encoding")), ("bytes", ""));
    assert_eq!(get(&server, "/icons/a.svg", &[]).await.header("cache-control"), "no-cache");

    // Conditions.
    let (tag, changed) = (script.header("etag"), script.header("last-modified"));
    for condition in [("if-none-match", tag), ("if-modified-since", changed)] {
        let same = get(&server, "/assets/index-DiwrgTda.js", &[condition]).await;
        assert_eq!((same.status, same.body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{condition:?}");
        assert_eq!(same.header("etag"), tag);
    }
    let other = get(&server, "/assets/index-DiwrgTda.js", &[("if-none-match", "\"other\"")]).await;
    assert_eq!(other.status, StatusCode::OK);

    // Parts.
    let range = ("range", "bytes=8-10");
    for fields in [&[range][..], &[range, ("if-range", tag)]] {
        let part = get(&server, "/assets/index-DiwrgTda.js", fields).await;
        assert_eq!((part.status, part.body.as_str()), (StatusCode::PARTIAL_CONTENT, "log"));
        assert!(part.header("content-range").starts_with("bytes 8-10/"), "{}", part.header("content-range"));
    }
    let stale = get(&server, "/assets/index-DiwrgTda.js", &[range, ("if-range", "\"other\"")]).await;
    assert_eq!((stale.status, stale.body.len()), (StatusCode::OK, script.body.len()));
    let beyond = get(&server, "/assets/index-DiwrgTda.js", &[("range", "bytes=900000-")]).await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);

    // Compressed on the way out, but never from what a link out of the folder has.
    let length: usize = script.header("content-length").parse().expect("a number");
    for encoding in ["br", "gzip"] {
        let packed = get(&server, "/assets/index-DiwrgTda.js", &[("accept-encoding", encoding)]).await;
        assert_eq!(packed.header("content-encoding"), encoding);
        assert!(packed.body.len() < length / 10 && !packed.body.contains("SECRET"), "{} bytes", packed.body.len());
        assert_eq!(packed.header("etag"), format!("W/{tag}"), "they are other bytes");
        assert!(packed.headers.get_all("vary").iter().any(|vary| vary == "accept-encoding"));
        let same = get(
            &server,
            "/assets/index-DiwrgTda.js",
            &[("accept-encoding", encoding), ("if-none-match", packed.header("etag"))],
        )
        .await;
        assert_eq!(same.status, StatusCode::NOT_MODIFIED);
    }
    // As it lies beside the file.
    for (encoding, expected) in
        [("br", "brotli, "), ("gzip", "gzip, "), ("gzip, br", "brotli, "), ("identity", "plain")]
    {
        let packed = get(&server, "/assets/packed-B1x9ZqLw.js", &[("accept-encoding", encoding)]).await;
        assert!(packed.body.starts_with(expected), "{encoding}: {}", packed.body);
        assert_eq!(packed.header("content-type"), "text/javascript; charset=utf-8");
    }

    let head = ask(&server, Method::HEAD, "/assets/index-DiwrgTda.js", &[]).await;
    assert_eq!(
        (head.status, head.body.as_str(), head.header("content-length")),
        (StatusCode::OK, "", length.to_string().as_str())
    );
    let head = ask(&server, Method::HEAD, "/editor", &[("accept", BROWSER)]).await;
    assert_eq!((head.status, head.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));

    // A new release counts at once.
    std::fs::write(server.place().data().parent().expect("a folder").join("web/index.html"), "<p>new")
        .expect("written");
    let new = get(&server, "/", &[("if-none-match", index.header("etag"))]).await;
    assert_eq!((new.status, new.body.as_str()), (StatusCode::OK, "<p>new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_the_folder_and_nothing_hidden_is_served() {
    let server = builder().start().await;
    for path in [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/assets/..%5c..%5csecret.txt",
        "//secret.txt",
        "/out.txt",
        "/.env",
        "/%2eenv",
        "/assets/%00",
        "/assets/",
        "/assets",
        "/etc/passwd",
        "//etc/passwd",
        "/web/../../secret.txt",
    ] {
        let mut wire = Wire::open(&server.url).await;
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await;
        let answer = wire.rest().await;
        assert!(answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
        assert!(!answer.contains("SECRET") && !answer.contains("root:"), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_served_is_named_when_the_server_starts() {
    for (files, dir, words) in [
        (&[][..], "nowhere", &["ui.dir", "nowhere", "No such file"][..]),
        (&[("web/src/main.ts", "x")], "web", &["ui.dir", "web", "index.html"]),
        (&[("web", "a file")], "web", &["ui.dir", "Not a directory"]),
        (&[("web/index.html/x", "x")], "web", &["index.html"]),
    ] {
        let builder = ServerBuilder::new(User::Myself);
        write(&base(&builder), files);
        match builder.config(&format!("ui:\n  dir: {dir}\n")).try_start().await {
            Ok(server) => panic!("it started at {}", server.url),
            Err(NotStarted { status, output }) => {
                assert_eq!(status.code(), Some(1), "{output}");
                for word in words {
                    assert!(output.contains(word), "{word} is missing in: {output}");
                }
            }
        }
    }
}

/// What the program's own page names: its scripts and styles.
fn named_files(page: &str) -> Vec<String> {
    page.split("=\"./").skip(1).filter_map(|rest| rest.split('"').next()).map(|path| format!("/{path}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_web_client_browsers_get_the_programs_own_page_and_programs_get_json() {
    let server = Server::start().await;
    let page = get(&server, "/", &[("accept", BROWSER)]).await;
    assert_eq!((page.status, page.header("content-type")), (StatusCode::OK, "text/html; charset=utf-8"));
    assert_eq!((page.header("cache-control"), page.header("last-modified")), ("no-cache", ""));
    assert!(page.headers.get_all("vary").iter().any(|vary| vary == "accept"), "{:?}", page.headers);
    let same = get(&server, "/", &[("accept", BROWSER), ("if-none-match", page.header("etag"))]).await;
    assert_eq!((same.status, same.body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    let later = [("accept", BROWSER), ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")];
    assert_eq!(get(&server, "/", &later).await.status, StatusCode::OK, "nobody knows when it was changed");
    assert_eq!(get(&server, "/index.html", &[]).await.body, page.body);

    // Nothing but what it needs; scripts neither in place nor made of text.
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
    assert!(policy.contains("require-trusted-types-for 'script'") && policy.contains("frame-ancestors 'none'"));
    assert!(!page.body.contains("<script>") && !page.body.contains(" on"), "{}", page.body);
    assert_eq!(page.header("x-content-type-options"), "nosniff");

    let json = get(&server, "/", &[]).await;
    assert!(json.headers.get_all("vary").iter().any(|vary| vary == "accept"), "{:?}", json.headers);
    let about: serde_json::Value = serde_json::from_str(&json.body).expect("JSON");
    assert_eq!(about["payload"]["sockets"], "/socket.io");
    // Its routes are in the fragment, so that it is at no other path.
    for path in ["/labs", "/nowhere", "/assets", "/assets/", "/assets/nothing.js", "/../Cargo.toml"] {
        let got = get(&server, path, &[("accept", BROWSER), ("sec-fetch-mode", "navigate")]).await;
        assert!(got.status.is_client_error() && got.body.starts_with("{\"code\":"), "{path}: {}", got.body);
    }
    let posted = ask(&server, Method::POST, "/", &[("accept", BROWSER)]).await;
    assert_eq!(posted.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_the_programs_own_page_are_kept_for_ever_and_compressed_once() {
    let server = Server::start().await;
    let page = get(&server, "/index.html", &[]).await;
    let script = named_files(&page.body).into_iter().find(|path| path.ends_with(".js")).expect("it has a script");
    for path in named_files(&page.body) {
        let file = get(&server, &path, &[]).await;
        assert_eq!(file.status, StatusCode::OK, "{path}");
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable", "{path}");
        let kinds =
            [("js", "text/javascript; charset=utf-8"), ("css", "text/css; charset=utf-8"), ("svg", "image/svg+xml")];
        let kind = kinds.iter().find(|(ending, _)| path.ends_with(ending)).expect("a known kind").1;
        assert_eq!(file.header("content-type"), kind, "{path}");
        let same = get(&server, &path, &[("if-none-match", file.header("etag"))]).await;
        assert_eq!((same.status, same.body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    }
    let plain = get(&server, &script, &[]).await;
    let mut tags = vec![plain.header("etag").to_owned()];
    for encoding in ["br", "gzip"] {
        let packed = get(&server, &script, &[("accept-encoding", encoding)]).await;
        assert_eq!((packed.status, packed.header("content-encoding")), (StatusCode::OK, encoding));
        assert_eq!(packed.header("content-type"), "text/javascript; charset=utf-8");
        assert!(packed.headers.get_all("vary").iter().any(|vary| vary == "accept-encoding"));
        // Its length is known, so that it was there before it was sent.
        let length: usize = packed.header("content-length").parse().expect("a length");
        assert!(length < plain.body.len() / 2, "{length} of {} bytes", plain.body.len());
        let same =
            get(&server, &script, &[("accept-encoding", encoding), ("if-none-match", packed.header("etag"))]).await;
        assert_eq!(same.status, StatusCode::NOT_MODIFIED);
        let head = ask(&server, Method::HEAD, &script, &[("accept-encoding", encoding)]).await;
        assert_eq!((head.header("content-length"), head.body.as_str()), (packed.header("content-length"), ""));
        tags.push(packed.header("etag").to_owned());
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3, "other bytes have other tags: {tags:?}");
    let part = get(&server, &script, &[("range", "bytes=0-9")]).await;
    assert_eq!((part.status, part.body.as_str()), (StatusCode::PARTIAL_CONTENT, &plain.body[..10]));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_are_compressed_and_those_with_tokens_are_not() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for number in 0..30 {
        admin.api.create_collection(&format!("collection {number}"), true, true).await.expect("made");
    }
    let token = format!("Bearer {}", admin.token);
    let all = get(&server, "/collections", &[("accept-encoding", "gzip"), ("authorization", &token)]).await;
    assert_eq!(all.header("content-encoding"), "gzip");
    let one = get(&server, "/healthz", &[("accept-encoding", "gzip, br")]).await;
    assert_eq!(one.header("content-encoding"), "", "it wouldn't get shorter");
    // Longer than what else is compressed, by a name that comes back in the token.
    let login = server.api().log_in("admin", "admin").await.expect("logged in");
    let long = format!("authToken={}; {}", login.refresh_token, "x=y; ".repeat(10));
    for path in ["/users/login/refresh", "/api/users/login/refresh"] {
        let refreshed = get(&server, path, &[("accept-encoding", "gzip, br"), ("cookie", &long)]).await;
        assert_eq!((refreshed.status, refreshed.header("content-encoding")), (StatusCode::OK, ""), "{path}");
    }
    // Sockets: polling answers are as the library makes them.
    let opened = get(&server, "/socket.io/?EIO=4&transport=polling", &[("accept-encoding", "gzip, br")]).await;
    assert_eq!(opened.header("content-encoding"), "");
    Client::connect(&server, &admin.token).await;
}
