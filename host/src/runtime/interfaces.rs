//! The interfaces of a network namespace and their counters, asked of the kernel by rtnetlink, or read from
//! `/proc/…/net/dev` where the namespace can't be entered.
//!
//! Both runtimes use it: the embedded one in a lab's helper, which comes back to its own namespace, the containerlab one in
//! a thread of its own, which ends there. Answers are taken apart here rather than by the library, which fails as a whole
//! on what it doesn't know: nodes may make interfaces of any kind.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::stats::{Counters, Interface, MOST_INTERFACES};

/// How long the kernel may take to answer, in seconds: it does so at once.
const PATIENCE: i64 = 2;

const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;

/// The interfaces of a network namespace, which the calling thread enters. It goes back to `home`, or stays where that is
/// `None`.
pub(super) fn of_namespace(namespace: impl AsFd, home: Option<&File>) -> io::Result<Vec<Interface>> {
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    // It stays in the namespace that it was opened in.
    let socket = Socket::new(NETLINK_ROUTE);
    if let Some(home) = home {
        setns(home, CloneFlags::CLONE_NEWNET)?;
    }
    ask(socket?)
}

/// The interfaces of a container whose first process has the id `pid`, if that is so on this machine: the engine may be
/// elsewhere, or in another PID namespace, and then that id is somebody else's.
///
/// # Errors
/// When it is not, or has ended.
pub(super) async fn of_container(pid: i32, id: &str) -> io::Result<Vec<Interface>> {
    let (answer, interfaces) = tokio::sync::oneshot::channel();
    let id = id.to_owned();
    // A thread of its own, that no other work is ever done on: it doesn't come back from the container's namespace.
    std::thread::Builder::new().name("interfaces".to_owned()).spawn(move || {
        // Whoever asked may have gone.
        let _ = answer.send(of_container_here(pid, &id));
    })?;
    interfaces.await.map_err(io::Error::other)?
}

fn of_container_here(pid: i32, id: &str) -> io::Result<Vec<Interface>> {
    let folder = File::open(format!("/proc/{pid}"))?;
    // Below the open folder: once the process has ended, that leads nowhere, whoever is given its id.
    let below = |name: &str| format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
    if !fs::read_to_string(below("cgroup"))?.contains(id) {
        return Err(io::Error::other("the process is not of this container"));
    }
    let text = fs::read_to_string(below("net/dev"))?;
    let entered = File::open(below("ns/net")).and_then(|namespace| of_namespace(namespace, None));
    Ok(entered.unwrap_or_else(|error| {
        tracing::debug!(%error, "the network of a container can't be entered, only its counters are known");
        parse_proc(&text)
    }))
}

/// The names in `/proc/…/net/dev`.
pub(super) fn names(devices: &str) -> impl Iterator<Item = &str> {
    devices.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()))
}

fn ask(mut socket: Socket) -> io::Result<Vec<Interface>> {
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
    socket.send(&request(), 0)?;
    let mut found = Vec::new();
    // What is left of the answer goes with the socket.
    while found.len() < MOST_INTERFACES {
        let (packet, _) = socket.recv_from_full()?;
        if take(&packet, &mut found)? {
            break;
        }
    }
    found.truncate(MOST_INTERFACES);
    Ok(found)
}

/// Asks for all interfaces.
fn request() -> [u8; HEADER + LINK_HEADER] {
    let mut bytes = [0; HEADER + LINK_HEADER];
    bytes[..4].copy_from_slice(&((HEADER + LINK_HEADER) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

/// Takes the interfaces out of a packet of the kernel's. True: it was the last.
fn take(packet: &[u8], found: &mut Vec<Interface>) -> io::Result<bool> {
    let mut rest = packet;
    while let (Some(length), Some(kind)) = (number32(rest, 0), number16(rest, 4)) {
        let length = length as usize;
        let message = rest.get(HEADER..length).ok_or_else(|| io::Error::other("an answer that ends too early"))?;
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let code = number32(message, 0).unwrap_or_default().cast_signed();
                return Err(io::Error::from_raw_os_error(-code));
            }
            libc::RTM_NEWLINK => found.extend(interface(message)),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// What a message says of an interface; `None`: it is loopback, or makes no sense.
fn interface(message: &[u8]) -> Option<Interface> {
    let flags = number32(message, 8)?.cast_signed();
    if flags & libc::IFF_LOOPBACK != 0 {
        return None;
    }
    let running = libc::IFF_UP | libc::IFF_RUNNING;
    let mut interface = Interface { up: Some(flags & running == running), ..Interface::default() };
    let mut rest = message.get(LINK_HEADER..)?;
    while let (Some(length), Some(kind)) = (number16(rest, 0), number16(rest, 2)) {
        let length = usize::from(length);
        let value = rest.get(4..length)?;
        match kind {
            libc::IFLA_IFNAME => {
                interface.name = String::from_utf8_lossy(value.split(|byte| *byte == 0).next()?).into_owned();
            }
            libc::IFLA_MTU => interface.mtu = number32(value, 0),
            libc::IFLA_ADDRESS if value.len() == 6 => {
                interface.mac = Some(value.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"));
            }
            libc::IFLA_STATS64 => {
                // Received and sent packets, then bytes, errors and what was dropped, in turn.
                let counters = |of: usize| {
                    let at = |place: usize| {
                        let bytes = value.get(8 * (2 * place + of)..)?.first_chunk()?;
                        Some(u64::from_ne_bytes(*bytes))
                    };
                    Some(Counters { packets: at(0)?, bytes: at(1)?, errors: at(2)?, dropped: at(3)? })
                };
                (interface.received, interface.sent) = (counters(0)?, counters(1)?);
            }
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    (!interface.name.is_empty()).then_some(interface)
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads `/proc/…/net/dev`, which knows names and counters only.
pub(super) fn parse_proc(text: &str) -> Vec<Interface> {
    let interface = |line: &str| {
        let (name, figures) = line.split_once(':')?;
        let figures: Vec<u64> = figures.split_whitespace().map_while(|figure| figure.parse().ok()).collect();
        let counters = |from: usize| match figures.get(from..from + 4)? {
            &[bytes, packets, errors, dropped] => Some(Counters { bytes, packets, errors, dropped }),
            _ => None,
        };
        let (name, received, sent) = (name.trim().to_owned(), counters(0)?, counters(8)?);
        Some(Interface { name, received, sent, ..Interface::default() })
    };
    let all = text.lines().skip(2).filter_map(interface);
    all.filter(|interface| interface.name != "lo").take(MOST_INTERFACES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_what_the_kernel_lists() {
        let devices = "Inter-|   Receive                |  Transmit\n face |bytes    packets |bytes packets\n    lo:       0       0\n  \
            eth0:     306       3\neth1.10:1 2\n";
        assert_eq!(names(devices).collect::<Vec<_>>(), ["lo", "eth0", "eth1.10"]);
    }

    #[test]
    fn counters_are_read_from_what_the_kernel_lists() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo:    1000      10    0    0    0     0          0         0     1000      10    0    0    0     0       0          0\n  \
            eth1:     306       3    1    2    0     0          0         0     486       5    7    8    0     0       0          0\n\
            eth1.10:1 2 3\n";
        let found = parse_proc(text);
        let received = Counters { bytes: 306, packets: 3, errors: 1, dropped: 2 };
        let sent = Counters { bytes: 486, packets: 5, errors: 7, dropped: 8 };
        assert_eq!(found, [Interface { name: "eth1".to_owned(), received, sent, ..Interface::default() }]);
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes
    }

    fn link(flags: i32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0; 8];
        body.extend(flags.to_ne_bytes());
        body.resize(LINK_HEADER, 0);
        body.extend(attributes.concat());
        message(libc::RTM_NEWLINK, &body)
    }

    #[test]
    fn an_interface_is_read_from_the_kernel_s_message_whatever_else_is_in_it() {
        let counters: Vec<u8> = (1..=8_u64).flat_map(u64::to_ne_bytes).collect();
        let attributes = [
            attribute(libc::IFLA_IFNAME, b"eth1\0"),
            attribute(999, b"nobody knows"),
            attribute(libc::IFLA_MTU, &1400_u32.to_ne_bytes()),
            attribute(libc::IFLA_ADDRESS, &[2, 0, 0, 0xab, 0, 1]),
            attribute(libc::IFLA_STATS64, &counters),
        ];
        let up = libc::IFF_UP | libc::IFF_RUNNING;
        let packet = [
            link(up | libc::IFF_LOOPBACK, &[attribute(libc::IFLA_IFNAME, b"lo\0")]),
            link(up, &attributes),
            link(libc::IFF_UP, &[attribute(libc::IFLA_IFNAME, b"eth2\0")]),
            message(DONE, &[0; 4]),
        ];
        let mut found = Vec::new();
        assert!(take(&packet.concat(), &mut found).unwrap());
        let expected = Interface {
            name: "eth1".to_owned(),
            up: Some(true),
            mtu: Some(1400),
            mac: Some("02:00:00:ab:00:01".to_owned()),
            received: Counters { packets: 1, bytes: 3, errors: 5, dropped: 7 },
            sent: Counters { packets: 2, bytes: 4, errors: 6, dropped: 8 },
        };
        let dead = Interface { name: "eth2".to_owned(), up: Some(false), ..Interface::default() };
        assert_eq!(found, [expected, dead]);
    }

    #[test]
    fn answers_that_make_no_sense_are_errors_or_nothing() {
        let refused = message(ERROR, &(-libc::EPERM).to_ne_bytes());
        let error = take(&refused, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert!(take(&link(0, &[])[..20], &mut Vec::new()).is_err(), "cut off");
        let mut found = Vec::new();
        for zero in [vec![0; 64], link(0, &[vec![0; 8]])] {
            // A length of 0 leads nowhere, and not in circles.
            let _ = take(&zero, &mut found);
        }
        assert_eq!(found, []);
    }

    /// This machine's own, which every process may look at.
    #[test]
    fn the_kernel_answers_for_the_own_namespace() {
        let found = ask(Socket::new(NETLINK_ROUTE).unwrap()).unwrap();
        let listed = parse_proc(&fs::read_to_string("/proc/self/net/dev").unwrap());
        let names = |interfaces: &[Interface]| {
            let mut names: Vec<_> = interfaces.iter().map(|interface| interface.name.clone()).collect();
            names.sort();
            names
        };
        // Others make and remove interfaces meanwhile; those of the machine itself stay.
        assert!(listed.is_empty() || names(&listed).iter().any(|name| names(&found).contains(name)), "{found:?}");
    }
}
