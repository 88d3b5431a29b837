//! Captures of packets at an interface of a node, as both runtimes give them.
//!
//! A driver opens a packet socket where the interface is, and knows when the node stops; the rest is the same everywhere
//! and in here. `captures` reads what it is given. Nothing is kept but the ring that the kernel fills: whoever doesn't read
//! loses packets and is told how many, and dropping a [`Capture`] ends it.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::SocketError;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::RuntimeError;
use super::sys::packet_ring::PacketRing;
use super::sys::{self, packet_ring};

/// Most bytes of a packet that can be kept. Larger than what any interface passes on.
pub const MAX_SNAPLEN: u32 = 262_144;
/// Milliseconds for which a packet waits for others at most before it is handed over.
const PATIENCE: u32 = 25;
/// How often it is looked whether an interface that is down is still there, which nothing tells.
const LOOK: Duration = Duration::from_millis(250);
/// Interfaces of a node that are looked at. Its user may make any number.
const MOST_INTERFACES: usize = 4096;
/// Names of interfaces that are told to somebody who has asked for another one.
const NAMES: usize = 64;

/// How packets are captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Most bytes that are kept of a packet, up to [`MAX_SNAPLEN`].
    pub snaplen: u32,
    /// Whether the interface shall take packets that are not for it, too. That changes it for as long as the capture goes on.
    pub promiscuous: bool,
    /// Bytes of packets that may wait for whoever reads them; at least 1 MiB is taken.
    pub buffer: usize,
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When the kernel saw it: seconds since 1970, and nanoseconds.
    pub time: (u32, u32),
    /// Its length on the wire, in bytes.
    pub length: u32,
    /// A VLAN tag that the kernel keeps beside it, and that belongs behind its two addresses: type and content. Its four
    /// bytes are not counted in `length`.
    pub tag: Option<(u16, u16)>,
    /// What was kept of it, without the tag.
    pub data: &'a [u8],
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The node has stopped.
    NodeStopped,
    /// Its interface is not there any more.
    InterfaceGone,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeStopped => "the node has stopped",
            Self::InterfaceGone => "the interface is gone",
        })
    }
}

/// What packets begin with, in the numbers of pcap files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkType {
    /// The header of an Ethernet frame.
    Ethernet = 1,
    /// That of an IP packet.
    RawIp = 101,
}

impl LinkType {
    /// That of hardware as the kernel numbers it. `None`: its packets begin with something else.
    fn of(hardware: u16) -> Option<Self> {
        use libc::{ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE, ARPHRD_SIT, ARPHRD_TUNNEL, ARPHRD_TUNNEL6};
        // Of modems; the library has no name for it.
        const ARPHRD_RAWIP: u16 = 519;
        match hardware {
            // The loopback interface has Ethernet headers, too, of zeros.
            ARPHRD_ETHER | ARPHRD_LOOPBACK => Some(Self::Ethernet),
            ARPHRD_NONE | ARPHRD_RAWIP | ARPHRD_TUNNEL | ARPHRD_TUNNEL6 | ARPHRD_SIT => Some(Self::RawIp),
            _ => None,
        }
    }
}

/// A capture that goes on. Dropping it ends it.
pub struct Capture {
    ring: PacketRing,
    socket: AsyncFd<OwnedFd>,
    link_type: LinkType,
    /// Ready when the node has stopped.
    stopped: BoxFuture<'static, ()>,
    /// Whether the interface was down when it was looked at last.
    down: bool,
    dropped: u64,
}

impl Capture {
    /// Begins to capture with a socket that was opened where the interface is. `stopped` is ready when the node has stopped.
    ///
    /// # Errors
    /// [`RuntimeError::NoInterface`], [`RuntimeError::Failed`]; [`RuntimeError::Unsupported`] where the packets of the
    /// interface can't be written down.
    pub(super) fn begin(
        opened: Opened,
        interface: &str,
        options: &CaptureOptions,
        stopped: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, RuntimeError> {
        let Opened { socket, interfaces } = opened;
        let failed = |error: io::Error| RuntimeError::Failed(format!("capturing at {interface}: {error}"));
        let snaplen = options.snaplen.clamp(1, MAX_SNAPLEN);
        let ring = PacketRing::new(&socket, options.buffer, PATIENCE, snaplen).map_err(failed)?;
        let index = interfaces.iter().find(|(name, _)| name == interface).map(|(_, index)| *index);
        let hardware = match index.map(|index| packet_ring::bind(&socket, index, options.promiscuous)) {
            Some(Err(error)) if error.raw_os_error() != Some(libc::ENODEV) => return Err(failed(error)),
            Some(Ok(hardware)) => hardware,
            // There is none of the name, or it has gone meanwhile.
            _ => {
                let interfaces = interfaces.into_iter().map(|(name, _)| name).take(NAMES).collect();
                return Err(RuntimeError::NoInterface { interface: interface.to_owned(), interfaces });
            }
        };
        let link_type = LinkType::of(hardware).ok_or_else(|| {
            RuntimeError::Unsupported(format!(
                "{interface} is no Ethernet interface, nor one of IP packets (its hardware type is {hardware}): what it \
                 passes on can't be captured"
            ))
        })?;
        let socket = sys::watch(socket).map_err(failed)?;
        Ok(Self { ring, socket, link_type, stopped: stopped.boxed(), down: false, dropped: 0 })
    }

    /// What its packets begin with.
    pub fn link_type(&self) -> LinkType {
        self.link_type
    }

    /// Waits for packets and hands some over. Nothing is lost where this is given up half-way.
    ///
    /// # Errors
    /// Why nothing more comes; what came before is in [`Self::drain`].
    pub async fn read(&mut self, mut take: impl FnMut(Packet<'_>)) -> Result<(), Over> {
        loop {
            if self.take_block(&mut take) {
                self.down = false;
                return Ok(());
            }
            tokio::select! {
                biased;
                () = &mut self.stopped => return Err(Over::NodeStopped),
                ready = self.socket.ready(Interest::READABLE | Interest::ERROR) => match ready {
                    // What comes from now on is told anew.
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => return Err(Over::InterfaceGone),
                },
                () = tokio::time::sleep(LOOK), if self.down => {}
            }
            // An interface that goes down tells so by an error. It may come up again, and the kernel goes on by itself then.
            self.down |= getsockopt(self.socket.get_ref(), SocketError) != Ok(0);
            if self.down && !packet_ring::is_bound(self.socket.get_ref()) {
                // A node that ends takes its interfaces along, and that may be heard of a little later.
                let stopped = tokio::time::timeout(LOOK, &mut self.stopped).await;
                return Err(if stopped.is_ok() { Over::NodeStopped } else { Over::InterfaceGone });
            }
        }
    }

    /// Lets nothing more in, and hands over what has come.
    pub async fn drain(&mut self, mut take: impl FnMut(Packet<'_>)) {
        let _ = packet_ring::take_up_to(self.socket.get_ref(), 0);
        // The kernel hands over a block that isn't full when its time is over, and not before.
        tokio::time::sleep(Duration::from_millis(2 * u64::from(PATIENCE))).await;
        while self.take_block(&mut take) {}
    }

    /// How many packets were dropped so far, because too many waited to be read.
    pub fn dropped(&mut self) -> u64 {
        self.dropped += packet_ring::dropped(self.socket.get_ref()).unwrap_or_default();
        self.dropped
    }

    fn take_block(&mut self, take: &mut impl FnMut(Packet<'_>)) -> bool {
        self.ring.read(|packet| {
            let packet_ring::Packet { time, length, tag, data } = packet;
            take(Packet { time, length, tag, data });
        })
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").field("link_type", &self.link_type).finish_non_exhaustive()
    }
}

/// What somebody has brought along who was where the interface is.
#[derive(Debug)]
pub(super) struct Opened {
    /// A packet socket, which takes nothing yet.
    pub(super) socket: OwnedFd,
    /// Names of the interfaces that there are, and the numbers by which the kernel knows them.
    pub(super) interfaces: Vec<(String, u32)>,
}

/// Opens a socket in the network namespace that this thread is in, and looks up its interfaces.
///
/// They are listed, and no name that a client sends ever gets to the kernel: asked for the number of a name that it doesn't
/// know, it would load a module of that name, for the server's root, and it takes `eth1:x` and other names for `eth1`.
pub(super) fn open_here() -> io::Result<Opened> {
    let socket = packet_ring::open()?;
    let listed = nix::net::if_::if_nameindex()?;
    let interfaces = listed.iter().take(MOST_INTERFACES);
    let interfaces = interfaces.filter_map(|one| Some((one.name().to_str().ok()?.to_owned(), one.index())));
    Ok(Opened { socket, interfaces: interfaces.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_found_by_their_whole_name_alone() {
        // In a network without anybody else's interfaces, if this may make one.
        let opened = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).ok()?;
            open_here().ok()
        });
        let Some(opened) = opened.join().unwrap() else { return };
        assert_eq!(opened.interfaces, [("lo".to_owned(), 1)]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let options = CaptureOptions { snaplen: 96, buffer: 1 << 20, promiscuous: false };
        let begun = Capture::begin(opened, "lo:x", &options, std::future::pending());
        assert!(matches!(begun.err(), Some(RuntimeError::NoInterface { interfaces, .. }) if interfaces == ["lo"]));
    }

    #[test]
    fn what_is_no_ethernet_nor_ip_has_no_link_type() {
        assert_eq!(LinkType::of(libc::ARPHRD_ETHER), Some(LinkType::Ethernet));
        assert_eq!(LinkType::of(libc::ARPHRD_LOOPBACK), Some(LinkType::Ethernet));
        assert_eq!(LinkType::of(libc::ARPHRD_NONE), Some(LinkType::RawIp));
        assert_eq!(LinkType::of(801), None, "802.11");
    }
}
