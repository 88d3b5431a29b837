//! Messages between the lab's first process and the children that it makes on behalf of nodes, with descriptors.
//!
//! One socket pair per child. The end of the stream means success: the child's end is closed by the exec that it was
//! made for, so that nothing has to be said after the last moment at which something can go wrong.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::runtime::sys;

/// What a child reports, and what it is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Note {
    /// The process that was asked for has this id, as the lab's first process sees it.
    Pid(i32),
    /// Id maps are written: go on.
    Go,
    /// Descriptors of a node's namespaces come with this.
    Namespaces,
    /// The descriptor of a node's PID namespace comes with this.
    PidNamespace,
    /// It didn't work.
    Failed(String),
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Two connected ends, both closed on exec.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (near, far) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(near), Self(far)))
    }

    /// Says something, with descriptors.
    pub(super) fn send(&self, note: &Note, descriptors: &[RawFd]) -> io::Result<()> {
        let bytes = serde_json::to_vec(note)?;
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&bytes)], rights, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// What the other end says next; `None`: it has closed.
    pub(super) fn receive(&self) -> io::Result<Option<(Note, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; 4096];
        let (length, descriptors) = receive(self.0.as_raw_fd(), &mut bytes)?;
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&bytes[..length])?, descriptors)))
    }

    /// The same, for at most `patience`.
    pub(super) fn receive_within(&self, patience: Duration) -> io::Result<Option<(Note, Vec<OwnedFd>)>> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        loop {
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::TimedOut)),
                Ok(_) => return self.receive(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sends a descriptor, with a byte that says nothing.
pub(super) fn send_descriptor(socket: &OwnedFd, descriptor: &OwnedFd) -> io::Result<()> {
    let rights = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&rights)];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[0])], &rights, flags, None)?;
    Ok(())
}

/// Reads once from a Unix socket, with the descriptors that come along. Those are closed on exec.
pub(in crate::runtime::embedded) fn receive(socket: RawFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; 16]);
    let mut parts = [IoSliceMut::new(bytes)];
    let message = recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            descriptors.extend(received.into_iter().map(sys::adopt));
        }
    }
    Ok((message.bytes, descriptors))
}
