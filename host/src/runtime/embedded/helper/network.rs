//! Links between nodes, made with rtnetlink in the nodes' own network namespaces.
//!
//! Both ends of a pair are made where they belong in one request, so that they never show up anywhere else. The
//! helper's first process calls this; it keeps one socket per node, which stays in the namespace that it was opened in.
//!
//! A node that stops takes its interfaces down, as a machine without power does, and gets them back as they were when
//! it starts: addresses stay by themselves, routes are read before and put back after.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::runtime::capture::{self, Opened};
use crate::runtime::embedded::protocol::{EndPlan, LinkPlan};
use crate::runtime::interfaces;
use crate::runtime::stats::Interface;

/// Most answers to one request that are kept. A node's user makes routes, and may make very many.
const ANSWERS: usize = 4096;

/// The network of one node.
pub(super) struct Network {
    namespace: File,
    socket: Socket,
    sequence: u32,
    /// Routes to put back at the next start.
    routes: Vec<RouteMessage>,
}

impl Network {
    /// Opens a socket in `namespace`, and comes back to the helper's own, which is `home`.
    pub(super) fn open(namespace: File, home: BorrowedFd<'_>) -> io::Result<Self> {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        let socket = Socket::new(NETLINK_ROUTE);
        setns(home, CloneFlags::CLONE_NEWNET)?;
        let mut socket = socket?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel answers at once; should it ever not, the lab fails instead of hanging.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(10, 0))?;
        let mut network = Self { namespace, socket, sequence: 0, routes: Vec::new() };
        network.set_up("lo", true)?;
        Ok(network)
    }

    /// Opens a packet socket in the node's network, and says which interfaces there are.
    pub(super) fn open_capture(&self, home: BorrowedFd<'_>) -> io::Result<Opened> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET)?;
        let opened = capture::open_here();
        setns(home, CloneFlags::CLONE_NEWNET)?;
        opened
    }

    /// Makes a link from this node to that of `peer`, which is this one if `None`, and brings both ends up.
    pub(super) fn connect(&mut self, link: &LinkPlan, peer: Option<&mut Self>) -> io::Result<()> {
        let [near, far] = &link.ends;
        let mut there = end_message(far, link.mtu);
        let namespace = peer.as_ref().map_or(&self.namespace, |peer| &peer.namespace);
        there.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
        let mut here = end_message(near, link.mtu);
        here.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(there))),
        ]));
        self.ask(RouteNetlinkMessage::NewLink(here), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)?;
        self.set_up(&near.interface, true)?;
        self.add_addresses(near)?;
        let other = peer.unwrap_or(self);
        other.set_up(&far.interface, true)?;
        other.add_addresses(far)
    }

    /// Removes an interface and with it the other end of its pair. One that is gone already is no error.
    pub(super) fn remove(&mut self, interface: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(interface.to_owned()));
        match self.ask(RouteNetlinkMessage::DelLink(message), NLM_F_ACK) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Takes interfaces down because their node has stopped. False: it has more routes than will be put back.
    pub(super) fn park<'a>(&mut self, interfaces: impl Iterator<Item = &'a str>) -> io::Result<bool> {
        let all;
        (self.routes, all) = self.made_routes()?;
        for interface in interfaces {
            self.set_up(interface, false)?;
        }
        Ok(all)
    }

    /// Brings them up again, with the routes that there were.
    pub(super) fn unpark<'a>(&mut self, interfaces: impl Iterator<Item = &'a str>) -> io::Result<()> {
        for interface in interfaces {
            self.set_up(interface, true)?;
        }
        for route in std::mem::take(&mut self.routes) {
            // One may have become impossible, if the node took away what it went over. That is no reason not to start.
            let _ = self.ask(RouteNetlinkMessage::NewRoute(route), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
        }
        Ok(())
    }

    /// The interfaces of this node, whoever made them, and what went over each. Comes back to the helper's own namespace, which
    /// is `home`.
    pub(super) fn interfaces(&self, home: &File) -> io::Result<Vec<Interface>> {
        interfaces::of_namespace(&self.namespace, Some(home))
    }

    fn set_up(&mut self, interface: &str, up: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::IfName(interface.to_owned()));
        match self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK) {
            // Its user renamed or removed it.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other.map(drop),
        }
    }

    fn add_addresses(&mut self, end: &EndPlan) -> io::Result<()> {
        if end.addresses.is_empty() {
            return Ok(());
        }
        let index = self.index(&end.interface)?;
        for (address, prefix) in &end.addresses {
            let mut message = AddressMessage::default();
            message.header.family = family(*address);
            message.header.prefix_len = *prefix;
            message.header.index = index;
            message.attributes.push(AddressAttribute::Local(*address));
            message.attributes.push(AddressAttribute::Address(*address));
            // Nobody else can have it: the lab's author gave it out. So it is usable at once.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)?;
        }
        Ok(())
    }

    fn index(&mut self, interface: &str) -> io::Result<u32> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(interface.to_owned()));
        let answers = self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_ACK)?;
        let found = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
            _ => None,
        });
        found.ok_or_else(|| io::Error::other(format!("there is no interface {interface}")))
    }

    /// Routes that somebody made, as opposed to those that come with addresses, and whether these are all.
    fn made_routes(&mut self) -> io::Result<(Vec<RouteMessage>, bool)> {
        let mut routes = Vec::new();
        let mut all = true;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let answers = match self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP) {
                // A kernel without IPv6 has no routes of it.
                Err(_) if family == AddressFamily::Inet6 => continue,
                answers => answers?,
            };
            all &= answers.len() < ANSWERS;
            for answer in answers {
                if let RouteNetlinkMessage::NewRoute(route) = answer
                    && !matches!(route.header.protocol, RouteProtocol::Kernel | RouteProtocol::Ra)
                {
                    routes.push(route);
                }
            }
        }
        all &= routes.len() <= ANSWERS;
        routes.truncate(ANSWERS);
        Ok((routes, all))
    }

    /// Sends a request and reads until its acknowledgement or the end of the dump. Keeps [`ANSWERS`] answers at most.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        loop {
            let (packet, _) = self.socket.recv_from_full()?;
            let mut rest = packet.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = usize::try_from(answer.header.length).expect("32 bits fit").next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(message) if answers.len() < ANSWERS => answers.push(message),
                    _ => {}
                }
            }
        }
    }
}

fn end_message(end: &EndPlan, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(end.interface.clone()));
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message.attributes.push(LinkAttribute::Address(end.mac.to_vec()));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
