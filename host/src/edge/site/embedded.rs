//! The page that the program carries, which is at `/` when no folder of a web client is configured: what has been built into
//! `host/page/dist`.
//!
//! `files` serves it as it serves a folder; this keeps the files in memory, tells which version of each is there by a hash of
//! it, and compresses each once, when somebody asks for it that way.

use std::collections::HashMap;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use rust_embed::Embed;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File as Opened, Metadata};

use super::super::compress;
use super::super::headers::Page;
use super::cache;
use super::files::{Files, INDEX_PATH};

/// As small as it gets, within a fraction of a second: it is done once.
const BROTLI_QUALITY: u32 = 9;
/// The window that brotli looks back in, as a power of two in bytes: larger than the files.
const BROTLI_WINDOW: u32 = 22;

/// Where everything has a hash of its content in its name, even where nobody would take it for one.
const HASHED: &str = "/assets/";

#[derive(Embed)]
#[folder = "page/dist"]
struct Built;

/// The program's own page.
#[derive(Debug)]
pub(super) struct Embedded(Files<Carried>);

impl Embedded {
    pub(super) fn open() -> Self {
        Self(Files::new(Carried::all()))
    }

    /// The file at a path; `None`: there is none.
    pub(super) async fn file(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
        let path = if path == "/" { INDEX_PATH } else { path };
        let is_page = path == INDEX_PATH;
        // A file within the program has a tag, and no time: what tower-http takes for one is where the tag comes from.
        let mut asked = headers.clone();
        asked.remove(header::IF_MODIFIED_SINCE);
        asked.remove(header::IF_UNMODIFIED_SINCE);
        let mut answer = self.0.file(method, path, &asked).await?;
        answer.headers_mut().remove(header::LAST_MODIFIED);
        if path.starts_with(HASHED) {
            answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache::FOR_EVER));
        }
        if is_page {
            answer.extensions_mut().insert(Page::Own);
            // Programs get something else there.
            answer.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
        }
        Some(answer)
    }
}

/// What programs get at `/`: where everything is.
pub(super) fn about() -> Response {
    let about = json!({ "payload": {
        "name": "antimony-host",
        "api": "/api",
        "sockets": "/socket.io",
        "contract": "/asyncapi.yaml",
        "ready": "/readyz",
    }});
    ([(header::VARY, "accept")], axum::Json(about)).into_response()
}

/// How a file may be encoded.
#[derive(Debug, Clone, Copy)]
enum Encoding {
    Brotli,
    Gzip,
}

impl Encoding {
    /// Whether it is asked for by the name of a file, and of which.
    fn of(path: &Path) -> Option<(Self, PathBuf)> {
        let encoding = match path.extension()?.to_str()? {
            "br" => Self::Brotli,
            "gz" => Self::Gzip,
            _ => return None,
        };
        Some((encoding, path.with_extension("")))
    }

    fn encode(self, plain: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Brotli => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, BROTLI_QUALITY, BROTLI_WINDOW);
                encoder.write_all(plain)?;
                Ok(encoder.into_inner())
            }
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                encoder.write_all(plain)?;
                encoder.finish()
            }
        }
    }
}

/// A file and its compressed forms, each made when it is first asked for. `None` there: it wouldn't get shorter.
#[derive(Debug)]
struct Carry {
    plain: Version,
    brotli: OnceLock<Option<Version>>,
    gzip: OnceLock<Option<Version>>,
}

impl Carry {
    fn encoded(&self, encoding: Encoding) -> Option<Version> {
        let place = match encoding {
            Encoding::Brotli => &self.brotli,
            Encoding::Gzip => &self.gzip,
        };
        let encode = || {
            let content = encoding.encode(&self.plain.content).ok()?;
            (content.len() < self.plain.content.len())
                .then(|| Version { content: content.into(), hash: self.plain.hash })
        };
        place.get_or_init(encode).clone()
    }
}

/// The bytes of a file as they are sent. Cheap to clone.
#[derive(Debug, Clone)]
struct Version {
    content: Bytes,
    /// The beginning of the hash of what they stand for.
    hash: u64,
}

/// All files, by their path. Cheap to clone.
#[derive(Debug, Clone)]
struct Carried(Arc<HashMap<PathBuf, Carry>>);

impl Carried {
    fn all() -> Self {
        let carry = |path: std::borrow::Cow<'static, str>| {
            let file = Built::get(&path)?;
            let content = match file.data {
                std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                std::borrow::Cow::Owned(bytes) => bytes.into(),
            };
            let hash = file.metadata.sha256_hash().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
            let plain = Version { content, hash };
            Some((PathBuf::from(&*path), Carry { plain, brotli: OnceLock::new(), gzip: OnceLock::new() }))
        };
        Self(Arc::new(Built::iter().filter_map(carry).collect()))
    }

    /// To be called where waiting is allowed: it may compress the file.
    fn find(&self, path: &Path) -> Option<Version> {
        // What is asked for begins in "the folder", as that service has it.
        let path = path.strip_prefix(".").unwrap_or(path);
        if let Some(file) = self.0.get(path) {
            return Some(file.plain.clone());
        }
        let (encoding, path) = Encoding::of(path)?;
        let file = self.0.get(&path)?;
        let is_worth_it = compress::is_worthwhile(file.plain.content.len(), &path);
        is_worth_it.then(|| file.encoded(encoding)).flatten()
    }

    async fn version(self, path: PathBuf) -> io::Result<Version> {
        let found = tokio::task::spawn_blocking(move || self.find(&path)).await;
        found.map_err(io::Error::other)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

type Later<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

impl Backend for Carried {
    type File = Reader;
    type Metadata = Version;
    type OpenFuture = Later<'static, Reader>;
    type MetadataFuture = Later<'static, Version>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let this = self.clone();
        Box::pin(async move {
            let version = this.version(path).await?;
            Ok(Reader { content: Cursor::new(version.content.clone()), version })
        })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        Box::pin(self.clone().version(path))
    }
}

impl Metadata for Version {
    fn is_dir(&self) -> bool {
        false
    }

    /// No time at all, but different for what is different: tower-http makes the tag of a file from this and its length.
    fn modified(&self) -> io::Result<SystemTime> {
        let [seconds, nanos] = [self.hash >> 32, self.hash & u64::from(u32::MAX)];
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanos % 1_000_000_000))
    }

    fn len(&self) -> u64 {
        self.content.len() as u64
    }
}

/// A file that is being read.
#[derive(Debug)]
struct Reader {
    content: Cursor<Bytes>,
    version: Version,
}

impl Opened for Reader {
    type Metadata = Version;
    type MetadataFuture<'a> = std::future::Ready<io::Result<Version>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        std::future::ready(Ok(self.version.clone()))
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.content).poll_read(context, buffer)
    }
}

impl AsyncSeek for Reader {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.content).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.content).poll_complete(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::files::INDEX;
    use super::*;

    #[test]
    fn a_file_is_compressed_once_and_only_if_it_gets_shorter() {
        let text = Carry {
            plain: Version { content: "a line of text\n".repeat(1000).into(), hash: 7 },
            brotli: OnceLock::new(),
            gzip: OnceLock::new(),
        };
        let mut plain = Vec::new();
        let gzip = text.encoded(Encoding::Gzip).expect("it is shorter");
        flate2::read::GzDecoder::new(&*gzip.content).read_to_end(&mut plain).expect("it is gzip");
        assert_eq!(plain, text.plain.content);
        plain.clear();
        let br = text.encoded(Encoding::Brotli).expect("it is shorter");
        brotli::Decompressor::new(&*br.content, 4096).read_to_end(&mut plain).expect("it is brotli");
        assert_eq!(plain, text.plain.content);
        assert_eq!(
            text.encoded(Encoding::Gzip).expect("still").content.as_ptr(),
            gzip.content.as_ptr(),
            "the same bytes"
        );
        let short =
            Carry { plain: Version { content: "x".into(), hash: 7 }, brotli: OnceLock::new(), gzip: OnceLock::new() };
        assert!(short.encoded(Encoding::Gzip).is_none() && short.encoded(Encoding::Brotli).is_none());
    }

    #[test]
    fn the_page_is_there_with_all_that_it_names() {
        let all = Carried::all();
        let page = all.find(Path::new(INDEX)).expect("there is one");
        let page = String::from_utf8(page.content.to_vec()).expect("text");
        let named: Vec<_> = page.split("=\"./").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(named.iter().any(|path| path.ends_with(".js")), "{page}");
        for path in named {
            assert!(all.find(Path::new(path)).is_some(), "{path}");
        }
    }
}
