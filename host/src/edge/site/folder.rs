//! The web client's built files, from a folder.
//!
//! `confined` opens them and `files` serves them; what is added here is the policy that fits the page.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::super::headers::Page;
use super::confined::Confined;
use super::files::{Files, INDEX, INDEX_PATH};
use super::policy;

/// Longest page that is looked through for scripts, in bytes.
const LONGEST_PAGE: u64 = 1 << 20;

/// Why the folder can't be served.
#[derive(Debug, thiserror::Error)]
pub enum UiError {
    /// There is no such folder, or no way into it.
    #[error("ui.dir: {path} can't be used: {error}; it should be the folder with the built files of the web client")]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It has no page to begin with.
    #[error(
        "ui.dir: {path} has no {INDEX} that can be read ({error}): it should be the folder that the web client was \
             built into, such as its build or dist, not that of its sources"
    )]
    NoIndex {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// A folder with the files of a web client.
#[derive(Debug)]
pub(super) struct Folder {
    confined: Confined,
    files: Files<Confined>,
}

impl Folder {
    /// Looks whether the folder is one that can be served.
    pub(super) fn open(path: PathBuf) -> Result<Self, UiError> {
        if let Err(error) = std::fs::read_dir(&path) {
            return Err(UiError::Unusable { path, error });
        }
        let confined = Confined::new(path.clone());
        if let Err(error) = confined.open_now(Path::new(INDEX)) {
            return Err(UiError::NoIndex { path, error });
        }
        let files = Files::new(confined.clone());
        Ok(Self { confined, files })
    }

    /// The page that everything begins with, also for paths that only the client's router knows.
    pub(super) async fn index(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        self.file(method, INDEX_PATH, headers).await
    }

    /// The file at a path; `None`: there is none.
    pub(super) async fn file(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
        let mut answer = self.files.file(method, path, headers).await?;
        if path.trim_start_matches('/') == INDEX {
            answer.extensions_mut().insert(Page::Client { inline_scripts: self.scripts().await });
        }
        Some(answer)
    }

    /// What the page has in place, read anew each time: it may have been exchanged.
    async fn scripts(&self) -> Vec<String> {
        let confined = self.confined.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut page = String::new();
            confined.open_now(Path::new(INDEX))?.take(LONGEST_PAGE).read_to_string(&mut page)?;
            io::Result::Ok(policy::inline_scripts(&page))
        });
        read.await.ok().and_then(Result::ok).unwrap_or_default()
    }
}
