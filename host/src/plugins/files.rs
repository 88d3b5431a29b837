//! Writing a file so that a reader, or a crash, never meets half of it.

use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` by a file with this `content`, in one step. Its folder is made if it isn't there.
///
/// # Errors
/// When it can't be written; what was there before is untouched then.
pub(super) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(dir)?;
    file.write_all(content)?;
    #[cfg(unix)]
    {
        // Temporary files are private; what they become is as readable as any other file.
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
