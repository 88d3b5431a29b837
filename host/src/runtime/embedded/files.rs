//! Saving the files of nodes, and giving fresh nodes those that were saved: the server's side. What goes through is an
//! archive in a pipe; at its other end is a process in the node's own namespaces, which sees nothing of the host.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write as _, pipe};

use tar::Builder;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::instance::Instance;
use super::protocol::{Op, Refusal};
use crate::runtime::RuntimeError;
use crate::runtime::saved::{ArchiveError, Copied, SaveLimits, SaveOutcome, SavedFiles, copy_node, keep_or_cut};

/// Saves a node into an archive, which is given back; of a node that fails nothing is in it.
///
/// # Errors
/// [`RuntimeError::Cancelled`], and [`RuntimeError::Failed`] when the archive can't be written.
pub(super) async fn save(
    instance: &Instance,
    (index, node): (usize, &str),
    mut archive: Builder<File>,
    limits: SaveLimits,
    cancel: &CancellationToken,
) -> Result<(SaveOutcome, Builder<File>), RuntimeError> {
    let failed = |error: io::Error| RuntimeError::Failed(format!("node {node}: {error}"));
    let length = io::Seek::stream_position(archive.get_mut()).map_err(failed)?;
    if let Some(full) = limits.full(length) {
        return Ok((full, archive));
    }
    let (reading, writing) = pipe().map_err(failed)?;
    let (id, reply) = match instance.begin_with(Op::Save { node: index, limits }, writing.into()).await {
        Ok(begun) => begun,
        Err(refusal) => return Ok((SaveOutcome::Failed(reason(refusal)), archive)),
    };
    let (name, token) = (node.to_owned(), cancel.clone());
    let copying = spawn_blocking(move || take_over(reading, &name, limits, archive, &token));
    let end = async {
        cancel.cancelled().await;
        // It may have ended by itself. What it writes into is closed afterwards.
        let _ = instance.ask(Op::EndSave(id)).await;
        std::future::pending::<()>().await;
    };
    let done = async { (reply.await.unwrap_or_else(|_| instance.lost()), copying.await) };
    let (reply, copied) = tokio::select! {
        done = done => done,
        () = end => unreachable!("it never ends"),
    };
    let (copied, mut archive, start) = copied.map_err(io::Error::other).flatten().map_err(failed)?;
    if cancel.is_cancelled() {
        return Err(RuntimeError::Cancelled);
    }
    let outcome = match (reply, copied) {
        // The other end has only seen that nobody reads any more.
        (_, Err(error @ (ArchiveError::Strange(_) | ArchiveError::TooMuch(_)))) => {
            SaveOutcome::Failed(error.to_string())
        }
        (Err(refusal), _) => SaveOutcome::Failed(reason(refusal)),
        (Ok(_), Err(error)) => SaveOutcome::Failed(error.to_string()),
        (Ok(_), Ok(Copied { files, bytes, .. })) => SaveOutcome::Saved { files, bytes },
    };
    keep_or_cut(&mut archive, start, &outcome).map_err(failed)?;
    Ok((outcome, archive))
}

type TakenOver = (Result<Copied, ArchiveError>, Builder<File>, u64);

/// Takes over what comes through the pipe until its end; answers also where in the archive it begins.
fn take_over(
    mut from: PipeReader,
    node: &str,
    limits: SaveLimits,
    mut archive: Builder<File>,
    cancel: &CancellationToken,
) -> io::Result<TakenOver> {
    let start = io::Seek::stream_position(archive.get_mut())?;
    let copied = copy_node(&mut Until { from: &mut from, cancel }, node, limits, &mut archive);
    // What is padded after the archive, and, where something is wrong with it, nothing more: whoever writes it ends.
    if copied.is_ok() {
        io::copy(&mut io::Read::take(&mut from, 1 << 20), &mut io::sink())?;
    }
    Ok((copied, archive, start))
}

/// Reads until somebody wants no more of it.
struct Until<'a> {
    from: &'a mut PipeReader,
    cancel: &'a CancellationToken,
}

impl io::Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.from.read(buffer)
    }
}

/// Gives a node that has been created, and not been started, what an archive has of it.
pub(super) async fn restore(
    instance: &Instance,
    (index, node): (usize, &str),
    saved: &SavedFiles,
) -> Result<(), RuntimeError> {
    let failed = |what: String| RuntimeError::Failed(format!("node {node}: its saved files: {what}"));
    let (reading, writing) = pipe().map_err(|error| failed(error.to_string()))?;
    let (_, reply) =
        instance.begin_with(Op::Restore(index), reading.into()).await.map_err(|refusal| failed(reason(refusal)))?;
    let (saved, name) = (saved.clone(), node.to_owned());
    let sending = spawn_blocking(move || send(&saved, &name, writing));
    let reply = reply.await.unwrap_or_else(|_| instance.lost());
    let sent = sending.await.map_err(io::Error::other).flatten();
    // What the other end says of it says more than that it was closed.
    reply.map_err(|refusal| failed(reason(refusal)))?;
    sent.map_err(|error| failed(error.to_string()))
}

fn send(saved: &SavedFiles, node: &str, to: PipeWriter) -> io::Result<()> {
    let mut archive = Builder::new(to);
    copy_node(saved.reader(), node, SaveLimits::NONE, &mut archive).map_err(io::Error::other)?;
    archive.into_inner()?.flush()
}

fn reason(refusal: Refusal) -> String {
    match refusal {
        Refusal::Failed(reason) => reason,
        Refusal::NotRunning => "the node does not run".to_owned(),
    }
}
