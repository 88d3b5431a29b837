//! Opening files below a folder and nowhere else, whatever a path or a link says.
//!
//! The kernel sees to it (`openat2` with `RESOLVE_BENEATH`): a link out of the folder isn't followed, nor one that says `/`,
//! even if it is exchanged while the path is being walked. Names that begin with a dot are not for the world. The folder
//! itself is looked up anew each time, so that it can be a link that is pointed at another release.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File as Opened};

/// The one folder of that kind that is meant for others (RFC 8615).
const WELL_KNOWN: &str = ".well-known";
/// How often a path is walked again when something in it has been renamed meanwhile.
const TRIES: usize = 8;

/// A folder that files are opened below. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Confined(Arc<Path>);

impl Confined {
    pub(super) fn new(root: PathBuf) -> Self {
        Self(root.into())
    }

    /// Opens a file for reading. Takes a relative path; to be called where waiting is allowed.
    ///
    /// # Errors
    /// `NotFound` also where there is something that isn't for the world, or isn't a file.
    pub(super) fn open_now(&self, path: &Path) -> io::Result<File> {
        let hidden = |component: Component<'_>| match component {
            Component::Normal(name) => name != WELL_KNOWN && name.as_encoded_bytes().starts_with(b"."),
            Component::CurDir => false,
            _ => true,
        };
        if path.components().any(hidden) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let root = open(&*self.0, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        // Opening a pipe would otherwise wait for somebody at its other end.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags).resolve(resolve);
        let mut tries = 0;
        let file: OwnedFd = loop {
            match openat2(&root, path, how) {
                Err(Errno::EAGAIN) if tries < TRIES => tries += 1,
                Err(Errno::EXDEV | Errno::ELOOP | Errno::ENAMETOOLONG | Errno::EINVAL | Errno::ENOTDIR) => {
                    return Err(io::ErrorKind::NotFound.into());
                }
                opened => break opened?,
            }
        };
        let file = File::from(file);
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// The same, where nothing may wait.
    pub(super) async fn open(&self, path: PathBuf) -> io::Result<File> {
        let this = self.clone();
        let opened = tokio::task::spawn_blocking(move || this.open_now(&path)).await;
        opened.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

type Later<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

impl Backend for Confined {
    type File = Reader;
    type Metadata = std::fs::Metadata;
    type OpenFuture = Later<'static, Reader>;
    type MetadataFuture = Later<'static, std::fs::Metadata>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let this = self.clone();
        Box::pin(async move { Ok(Reader(tokio::fs::File::from_std(this.open(path).await?))) })
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let this = self.clone();
        Box::pin(async move { this.open(path).await?.metadata() })
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct Reader(tokio::fs::File);

impl Opened for Reader {
    type Metadata = std::fs::Metadata;
    type MetadataFuture<'a> = Later<'a, std::fs::Metadata>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(self.0.metadata())
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncSeek for Reader {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(context)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_files_below_the_folder_are_opened() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("ui");
        fs::create_dir_all(root.join("assets/.git")).expect("made");
        fs::create_dir_all(root.join(".well-known")).expect("made");
        for path in
            ["ui/index.html", "ui/assets/a.js", "ui/.env", "ui/assets/.git/config", "ui/.well-known/x", "secret"]
        {
            fs::write(dir.path().join(path), path).expect("written");
        }
        symlink("assets/a.js", root.join("inside.js")).expect("linked");
        symlink("../secret", root.join("out")).expect("linked");
        symlink(dir.path().join("secret"), root.join("absolute")).expect("linked");
        symlink("/", root.join("slash")).expect("linked");
        symlink("loop", root.join("loop")).expect("linked");
        symlink("../ui/index.html", root.join("out-and-in")).expect("linked");
        nix::unistd::mkfifo(&root.join("pipe"), Mode::S_IRWXU).expect("made");
        let confined = Confined::new(root);
        let open = |path: &str| confined.open_now(Path::new(path)).map(drop).map_err(|error| error.kind());
        for path in ["index.html", "./index.html", "assets/a.js", "inside.js", ".well-known/x"] {
            assert_eq!(open(path), Ok(()), "{path}");
        }
        for path in [
            ".env",
            "assets/.git/config",
            "../secret",
            "assets/../../secret",
            "out",
            "absolute",
            "slash/etc/passwd",
            "loop",
            "out-and-in",
            "pipe",
            "/etc/passwd",
            "index.html/x",
            &"x".repeat(5000),
        ] {
            assert_eq!(open(path), Err(io::ErrorKind::NotFound), "{path}");
        }
        assert_eq!(open("assets"), Err(io::ErrorKind::IsADirectory));
    }
}
