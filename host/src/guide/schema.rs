//! The JSON schema of topology files: fetched from where the operator says, now and then again; until that has worked, and
//! whenever it doesn't, the one that was fetched last, or the operator's file, or the server's own.
//!
//! One task fetches, and owns what is offered; everybody else looks at it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::runtime::containerlab::ContainerlabConfig;

/// How long fetching may take, and how many bytes the schema may have. containerlab's has about a hundred thousand.
const FETCH_LIMIT: Duration = Duration::from_secs(10);
const MAX_BYTES: usize = 4 << 20;
/// After how long it is fetched again, if that worked and if it didn't.
const REFRESH: Duration = Duration::from_secs(24 * 3600);
const RETRY: Duration = Duration::from_secs(300);
/// How long somebody who asks waits for the first attempt.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// File in the data folder with what was fetched last.
const CACHE: &str = "clab-schema.json";

/// What is offered at the moment.
#[derive(Clone)]
struct Offered {
    schema: Arc<Value>,
    /// Nothing better is to be expected soon.
    settled: bool,
}

/// A schema as it is kept over a restart.
#[derive(Serialize, Deserialize)]
struct Cached {
    url: String,
    schema: Value,
}

/// Handle to what is offered. Cheap to clone.
#[derive(Clone)]
pub(super) struct Schemas {
    offered: watch::Receiver<Offered>,
}

impl Schemas {
    pub(super) fn open(config: &ContainerlabConfig, config_dir: &Path, data: &Path, stop: CancellationToken) -> Self {
        let url = config.schema_url.as_deref().map(str::trim).filter(|url| !url.is_empty());
        let url = url.filter(|url| is_fetched(url));
        let cache = data.join(CACHE);
        let file = config.schema_fallback.as_deref().filter(|path| !path.as_os_str().is_empty());
        // Why one can't be used has been said.
        let fallback = || file.and_then(|file| from_file(&config_dir.join(file)).ok());
        let schema = url.and_then(|url| from_cache(&cache, url)).or_else(fallback);
        let schema = Arc::new(schema.unwrap_or_else(crate::topology::schema::schema));
        let (sender, offered) = watch::channel(Offered { schema, settled: url.is_none() });
        if let Some(url) = url {
            let fetcher = Fetcher { url: url.to_owned(), cache, offered: sender };
            tokio::spawn(async move { stop.run_until_cancelled(fetcher.run()).await });
        }
        Self { offered }
    }

    pub(super) async fn current(&self) -> Arc<Value> {
        let mut offered = self.offered.clone();
        // Whether it was settled, took too long or the server ends: there is always something.
        let _ = tokio::time::timeout(FIRST_WAIT, offered.wait_for(|offered| offered.settled)).await;
        Arc::clone(&offered.borrow().schema)
    }
}

/// Whether a schema can be fetched from there.
pub(super) fn is_fetched(url: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
}

/// The schema in the operator's file; or why it can't be used.
pub(super) fn from_file(file: &Path) -> Result<Value, String> {
    let read = std::fs::read(file).map_err(|error| format!("it can't be read: {error}"));
    read.and_then(|bytes| parse(&bytes))
}

fn from_cache(file: &Path, url: &str) -> Option<Value> {
    let cached: Cached = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    // The operator may have changed their mind about where it comes from.
    (cached.url == url).then_some(cached.schema)
}

/// A schema, which is an object that says something.
fn parse(bytes: &[u8]) -> Result<Value, String> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(schema)) if !schema.is_empty() => Ok(Value::Object(schema)),
        Ok(_) => Err("it is not a JSON schema".to_owned()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    }
}

struct Fetcher {
    url: String,
    cache: PathBuf,
    offered: watch::Sender<Offered>,
}

impl Fetcher {
    async fn run(self) {
        loop {
            let pause = match self.fetch().await {
                Ok(schema) => {
                    tracing::info!(url = self.url, "the schema of topology files has been fetched");
                    self.keep(&schema).await;
                    self.offered.send_replace(Offered { schema: Arc::new(schema), settled: true });
                    REFRESH
                }
                Err(problem) => {
                    tracing::warn!(
                        url = self.url,
                        problem,
                        "the schema of topology files can't be fetched; another one is offered meanwhile"
                    );
                    self.offered.send_modify(|offered| offered.settled = true);
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn fetch(&self) -> Result<Value, String> {
        let fetch = async {
            crate::crypto::ready();
            // Errors of it name the address, which the log has anyway.
            let sentence = |error: reqwest::Error| causes(&error.without_url());
            let client = reqwest::Client::builder().build().map_err(sentence)?;
            let mut response = client.get(&self.url).send().await.map_err(sentence)?;
            if !response.status().is_success() {
                return Err(format!("the answer is {}", response.status()));
            }
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(sentence)? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > MAX_BYTES {
                    return Err(format!("it has more than {MAX_BYTES} bytes"));
                }
            }
            parse(&bytes)
        };
        tokio::time::timeout(FETCH_LIMIT, fetch)
            .await
            .unwrap_or_else(|_| Err(format!("it takes more than {FETCH_LIMIT:?}")))
    }

    /// Keeps it for the next server, which may find nobody to ask.
    async fn keep(&self, schema: &Value) {
        let cached = Cached { url: self.url.clone(), schema: schema.clone() };
        let unfinished = self.cache.with_extension("json.unfinished");
        let bytes = serde_json::to_vec(&cached).expect("a JSON value is JSON");
        let kept = match tokio::fs::write(&unfinished, bytes).await {
            Ok(()) => tokio::fs::rename(&unfinished, &self.cache).await,
            error => error,
        };
        if let Err(error) = kept {
            tracing::warn!(file = %self.cache.display(), %error, "the schema can't be kept for the next start");
        }
    }
}

/// An error with what lies behind it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
