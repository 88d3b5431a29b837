//! Packet sockets and the ring of memory that the kernel puts packets into (TPACKET_V3).
//!
//! A ring costs one wake-up for many packets, needs no right beyond the socket itself, and is as large as it was made,
//! however much comes: what finds no room is dropped and counted. [`super::super::capture`] is the one caller, but for
//! [`open`], which is called where the packets are.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{check, descriptor};

/// Bytes of a block of the ring, the unit in which packets are handed over. A packet of the longest snapshot fits in.
const BLOCK: usize = 512 << 10;
/// Asked of a packet socket: all protocols, in the order of the network.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();
/// A filter's instruction: the packet is taken, up to so many bytes.
const TAKE: u16 = 0x06;
/// The tag's own type where the kernel doesn't tell another.
const VLAN: u16 = 0x8100;

/// A packet socket of the network namespace that this thread is in. It takes nothing until it is bound.
pub(in crate::runtime) fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes integers only; the kernel answers a new descriptor or an error.
    descriptor(i64::from(unsafe { libc::socket(libc::AF_PACKET, kind, 0) }))
}

/// A packet, as long as its block is not given back to the kernel.
#[derive(Debug, Clone, Copy)]
pub(in crate::runtime) struct Packet<'a> {
    /// When the kernel saw it: seconds since 1970, and nanoseconds.
    pub(in crate::runtime) time: (u32, u32),
    /// Its length, of which `data` may be the beginning only; without the tag.
    pub(in crate::runtime) length: u32,
    /// A VLAN tag that was taken out of it for the network card to put in: type and content.
    pub(in crate::runtime) tag: Option<(u16, u16)>,
    /// What was kept of it.
    pub(in crate::runtime) data: &'a [u8],
}

/// Memory that a packet socket's packets are put into.
#[derive(Debug)]
pub(in crate::runtime) struct PacketRing {
    memory: NonNull<u8>,
    blocks: usize,
    /// The block that is handed over next.
    next: usize,
}

// SAFETY: the memory belongs to this value alone, and is shared with nobody but the kernel.
unsafe impl Send for PacketRing {}
// SAFETY: nothing reads or writes it through a shared reference.
unsafe impl Sync for PacketRing {}

impl PacketRing {
    /// Gives a socket that isn't bound yet a ring of `bytes`, in which packets wait for `patience` milliseconds at most, and
    /// keeps no more than `snaplen` bytes of each.
    pub(in crate::runtime) fn new(socket: &OwnedFd, bytes: usize, patience: u32, snaplen: u32) -> io::Result<Self> {
        let integer = |bytes: usize| libc::c_uint::try_from(bytes).map_err(io::Error::other);
        let blocks = (bytes / BLOCK).max(2);
        set(socket, libc::SOL_PACKET, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V3 as libc::c_int))?;
        take_up_to(socket, snaplen)?;
        let request = libc::tpacket_req3 {
            tp_block_size: integer(BLOCK)?,
            tp_block_nr: integer(blocks)?,
            // Packets lie close to one another, whatever this says; it has to fit into the block evenly.
            tp_frame_size: 2048,
            tp_frame_nr: integer(blocks * BLOCK / 2048)?,
            tp_retire_blk_tov: patience,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the kernel has room; of the ring that the socket was just given.
        let memory = unsafe {
            libc::mmap(std::ptr::null_mut(), blocks * BLOCK, access, libc::MAP_SHARED, socket.as_raw_fd(), 0)
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("no place for the ring"))?;
        Ok(Self { memory, blocks, next: 0 })
    }

    /// Hands over the packets of the next block, if the kernel has one ready. False: it hasn't.
    pub(in crate::runtime) fn read(&mut self, mut take: impl FnMut(Packet<'_>)) -> bool {
        // SAFETY: within the mapping, since `next` is below `blocks`.
        let block = unsafe { self.memory.add(self.next * BLOCK) };
        let head: *mut libc::tpacket_block_desc = block.as_ptr().cast();
        // SAFETY: every block begins with this head, aligned to pages; all of its fields are integers. The status is the
        // kernel's and ours by turns, and is looked at as such.
        let status = unsafe { AtomicU32::from_ptr(&raw mut (*head).hdr.bh1.block_status) };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        // SAFETY: the block is ours until the status is given back, so that nobody writes to it meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), BLOCK) };
        // SAFETY: as above.
        let (count, first) = unsafe { ((*head).hdr.bh1.num_pkts, (*head).hdr.bh1.offset_to_first_pkt) };
        let mut at = first as usize;
        for _ in 0..count {
            let Some((packet, next)) = packet(bytes, at) else { break };
            take(packet);
            at += next;
        }
        status.store(0, Ordering::Release);
        self.next = (self.next + 1) % self.blocks;
        true
    }
}

impl Drop for PacketRing {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.blocks * BLOCK) };
    }
}

/// The packet whose head begins there, and how far the next is. Whatever lies outside of the block is none.
fn packet(block: &[u8], at: usize) -> Option<(Packet<'_>, usize)> {
    let head = block.get(at..)?.get(..size_of::<libc::tpacket3_hdr>())?;
    // SAFETY: there are as many bytes as it has, and integers can have any value.
    let head = unsafe { head.as_ptr().cast::<libc::tpacket3_hdr>().read_unaligned() };
    let data = block.get(at + usize::from(head.tp_mac)..)?.get(..head.tp_snaplen as usize)?;
    let has = |flag: u32| head.tp_status & flag != 0;
    let tag = has(libc::TP_STATUS_VLAN_VALID).then(|| {
        let kind = if has(libc::TP_STATUS_VLAN_TPID_VALID) { head.hv1.tp_vlan_tpid } else { VLAN };
        // Of 32 bits, 16 are used.
        (kind, (head.hv1.tp_vlan_tci & 0xffff) as u16)
    });
    let packet = Packet { time: (head.tp_sec, head.tp_nsec), length: head.tp_len, tag, data };
    Some((packet, head.tp_next_offset as usize))
}

/// Has a socket keep so many bytes of each packet; 0: nothing comes any more.
pub(in crate::runtime) fn take_up_to(socket: &OwnedFd, bytes: u32) -> io::Result<()> {
    let mut program = [libc::sock_filter { code: TAKE, jt: 0, jf: 0, k: bytes }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

/// Binds a socket to an interface of its namespace: from now on packets come. Answers what kind of hardware it is, as the
/// kernel numbers them (`ARPHRD_…`).
pub(in crate::runtime) fn bind(socket: &OwnedFd, index: u32, promiscuous: bool) -> io::Result<u16> {
    let index = libc::c_int::try_from(index).map_err(io::Error::other)?;
    let mut address = link_address();
    address.sll_protocol = ALL_PROTOCOLS;
    address.sll_ifindex = index;
    let length = libc::socklen_t::try_from(size_of_val(&address)).expect("a small structure");
    // The loopback interface would hand everything over twice, on its way out and on its way in.
    if hardware_of(index, socket)? == libc::ARPHRD_LOOPBACK {
        set(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    }
    if promiscuous {
        let kind = libc::c_ushort::try_from(libc::PACKET_MR_PROMISC).expect("a small number");
        let all = libc::packet_mreq { mr_ifindex: index, mr_type: kind, mr_alen: 0, mr_address: [0; 8] };
        set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &all)?;
    }
    // SAFETY: the address is valid for the call, and the length is its own.
    check(i64::from(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }))?;
    Ok(bound_to(socket)?.sll_hatype)
}

/// What hardware an interface is, before anything comes from it: the socket is bound to it for no protocol.
fn hardware_of(index: libc::c_int, socket: &OwnedFd) -> io::Result<u16> {
    let mut address = link_address();
    address.sll_ifindex = index;
    let length = libc::socklen_t::try_from(size_of_val(&address)).expect("a small structure");
    // SAFETY: the address is valid for the call, and the length is its own.
    check(i64::from(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }))?;
    Ok(bound_to(socket)?.sll_hatype)
}

/// Whether the interface that a socket is bound to is still there.
pub(in crate::runtime) fn is_bound(socket: &OwnedFd) -> bool {
    bound_to(socket).is_ok_and(|address| address.sll_ifindex > 0)
}

fn bound_to(socket: &OwnedFd) -> io::Result<libc::sockaddr_ll> {
    let mut address = link_address();
    let mut length = libc::socklen_t::try_from(size_of_val(&address)).expect("a small structure");
    // SAFETY: the kernel writes no more than `length` bytes of the structure, which can have any content.
    check(i64::from(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) }))?;
    Ok(address)
}

fn link_address() -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::sa_family_t::try_from(libc::AF_PACKET).expect("a small number"),
        sll_protocol: 0,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

/// How many packets found no room since this was asked last.
pub(in crate::runtime) fn dropped(socket: &OwnedFd) -> io::Result<u64> {
    let mut figures = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
    let mut length = libc::socklen_t::try_from(size_of_val(&figures)).expect("a small structure");
    let (socket, option) = (socket.as_raw_fd(), libc::PACKET_STATISTICS);
    // SAFETY: the kernel writes no more than `length` bytes of the structure, which can have any content.
    let answer =
        unsafe { libc::getsockopt(socket, libc::SOL_PACKET, option, (&raw mut figures).cast(), &raw mut length) };
    check(i64::from(answer))?;
    Ok(u64::from(figures.tp_drops))
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("a small structure");
    // SAFETY: the value is valid for the call, and the length is its own.
    let answer =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length) };
    check(i64::from(answer))
}
