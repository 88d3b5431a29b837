//! The folder of an instance, which the runtime works in: made with the files of the topology before the runtime begins, and
//! removed after it has ended. Called by the lab's task; it knows nothing of runtimes.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::model::BindFile;

/// Bytes of a file that are read back: a node may have written to it. None that the API takes is larger.
const MOST_BYTES: u64 = crate::store::MAX_FILE as u64;

/// Makes the folder with the files in it, all of it or nothing: it gets its name when everything is there. Blocks.
///
/// Nodes read the files as whoever they are, and so may everybody who gets into the folder, whatever the server's umask is.
/// That is nobody else on the host: the folder that it lies in, in the data folder or where the configuration says, is open
/// to the server's own user only. A file that begins with `#!` is a program.
///
/// # Errors
/// As the file system reports them; nothing is left.
pub(super) fn make(dir: &Path, files: &[BindFile]) -> io::Result<()> {
    let unfinished = unfinished(dir);
    // Of a server that was killed.
    remove_now(&unfinished)?;
    let made = fill(&unfinished, files).and_then(|()| fs::rename(&unfinished, dir));
    if made.is_err() {
        // The first error is the one to tell.
        let _ = remove_now(&unfinished);
    }
    made
}

fn fill(dir: &Path, files: &[BindFile]) -> io::Result<()> {
    if let Some(parent) = dir.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    make_open(dir)?;
    for file in files {
        let path = dir.join(&file.path);
        make_folders(dir, &file.path)?;
        // What is there already is never written to: the paths of a topology are different files.
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        target.write_all(file.content.as_bytes())?;
        let mode = if file.content.starts_with("#!") { 0o755 } else { 0o644 };
        target.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// The same files as they are in the folder of an instance; those that aren't there are left out. Links are not followed.
/// Blocks.
///
/// # Errors
/// As the file system reports them, also of a file that is no text.
pub(super) fn read(dir: &Path, files: Vec<BindFile>) -> io::Result<Vec<BindFile>> {
    let mut found = Vec::new();
    for file in files {
        let opened =
            OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(dir.join(&file.path));
        let opened = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        if !opened.metadata()?.is_file() {
            return Err(io::Error::other(format!("{} is no file any more", file.path)));
        }
        let mut content = String::new();
        opened.take(MOST_BYTES + 1).read_to_string(&mut content)?;
        if content.len() as u64 > MOST_BYTES {
            return Err(io::Error::other(format!("{} has grown", file.path)));
        }
        found.push(BindFile { content, ..file });
    }
    Ok(found)
}

/// Makes the folders below `dir` that lead to a file.
fn make_folders(dir: &Path, file: &str) -> io::Result<()> {
    let Some(folders) = Path::new(file).parent() else { return Ok(()) };
    let mut folder = dir.to_owned();
    for name in folders {
        folder.push(name);
        match make_open(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
            made => made?,
        }
    }
    Ok(())
}

/// Makes a folder that everybody may look into. The umask takes bits away from what a folder is made with, so they are set
/// afterwards.
fn make_open(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

/// Removes the folder. The runtime has taken everything down; a folder that can't be removed is no reason to call that a
/// failure.
pub(super) async fn remove(dir: &Path) {
    for dir in [dir.to_owned(), unfinished(dir)] {
        match tokio::fs::remove_dir_all(&dir).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(dir = %dir.display(), %error, "the run folder could not be removed"),
        }
    }
}

fn remove_now(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where the folder is until everything is in it. No instance has such a name.
fn unfinished(dir: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(dir.file_name().unwrap_or_default());
    name.push(".unfinished");
    dir.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &str) -> BindFile {
        BindFile { id: path.into(), topology_id: "t".into(), path: path.to_owned(), content: content.to_owned() }
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn all_files_are_there_with_their_folders_and_all_are_taken_away() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("run/lab-1");
        make(&dir, &[file("frr/daemons", "bgpd=yes\n"), file("up.sh", "#!/bin/sh\n"), file("empty", "")]).unwrap();
        assert_eq!(fs::read_to_string(dir.join("frr/daemons")).unwrap(), "bgpd=yes\n");
        let mode = |name: &str| fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("frr/daemons"), mode("up.sh"), mode("empty")), (0o644, 0o755, 0o644));
        assert_eq!((mode(""), mode("frr")), (0o755, 0o755));
        assert_eq!(names(&place.path().join("run")), ["lab-1"]);
        fs::create_dir(unfinished(&dir)).unwrap();
        remove(&dir).await;
        assert!(names(&place.path().join("run")).is_empty());
    }

    #[test]
    fn files_are_read_back_as_they_are_there_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("lab-1");
        make(&dir, &[file("conf/a", "one"), file("b", "two")]).unwrap();
        let read_back = read(&dir, vec![file("conf/a", "changed since"), file("new", "new")]).unwrap();
        assert_eq!(read_back, [file("conf/a", "one")]);
        fs::remove_file(dir.join("b")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.join("b")).unwrap();
        read(&dir, vec![file("b", "two")]).unwrap_err();
    }

    #[test]
    fn of_a_folder_that_cannot_be_filled_nothing_is_left() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("lab-1");
        make(&dir, &[file("a", "x"), file("a/b", "y")]).unwrap_err();
        assert!(names(place.path()).is_empty());
        // What a killed server has left is in nobody's way.
        fs::create_dir(unfinished(&dir)).unwrap();
        make(&dir, &[]).unwrap();
        assert_eq!(names(place.path()), ["lab-1"]);
    }
}
