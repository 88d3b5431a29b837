//! A capture of packets as its client sees it: a pcap file, read as it comes.

use antimony_host::client::{Answered, ApiError};

use super::{Client, within};

/// A packet of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Nanoseconds since 1970.
    pub(crate) time: u128,
    /// Its length on the wire.
    pub(crate) length: usize,
    /// What was kept of it.
    pub(crate) data: Vec<u8>,
}

/// Type of an ICMP message that is an echo request, or the reply to one.
const REQUEST: u8 = 8;
const REPLY: u8 = 0;

impl Packet {
    fn field(&self, at: usize) -> u16 {
        self.data.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Its Ethernet type.
    pub(crate) fn kind(&self) -> u16 {
        self.field(12)
    }

    /// Of an echo over IPv4: whether it is the reply, and its number.
    pub(crate) fn echo(&self) -> Option<(bool, u16)> {
        let is_icmp = self.kind() == 0x0800 && self.data.get(23) == Some(&1);
        match self.data.get(34) {
            Some(&REQUEST) if is_icmp => Some((false, self.field(40))),
            Some(&REPLY) if is_icmp => Some((true, self.field(40))),
            _ => None,
        }
    }
}

/// A capture that goes on, and what has come of it.
pub(crate) struct Capture {
    answer: Answered,
    /// All that has come.
    pub(crate) bytes: Vec<u8>,
    read: usize,
    /// Most bytes of each packet, as the header says.
    pub(crate) snaplen: u32,
    pub(crate) packets: Vec<Packet>,
}

impl Capture {
    /// Begins one; it has when the header is there.
    pub(crate) async fn begin(client: &Client, lab: &str, place: &str, query: &str) -> Self {
        Self::try_begin(client, lab, place, query).await.unwrap_or_else(|error| panic!("capture at {place}: {error}"))
    }

    /// The same where the server may refuse it. A place is `r1:eth1`.
    pub(crate) async fn try_begin(client: &Client, lab: &str, place: &str, query: &str) -> Result<Self, ApiError> {
        let answer = within("a capture", client.api.open(&path(lab, place, query))).await?;
        let mut capture = Self { answer, bytes: Vec::new(), read: 0, snaplen: 0, packets: Vec::new() };
        while capture.bytes.len() < 24 {
            assert!(capture.more().await, "it ended without a header: {:?}", capture.bytes);
        }
        let number = |at: usize| u32::from_le_bytes(capture.bytes[at..at + 4].try_into().unwrap());
        assert_eq!((number(0), number(4), number(20)), (0xa1b2_3c4d, 0x0004_0002, 1), "nanoseconds, 2.4, Ethernet");
        capture.snaplen = number(16);
        capture.read = 24;
        capture.parse();
        Ok(capture)
    }

    /// Waits for more bytes; false: that was all.
    pub(crate) async fn more(&mut self) -> bool {
        let Some(bytes) = within("packets", self.answer.next()).await.expect("the connection holds") else {
            assert!(self.read == self.bytes.len() || self.read == 0, "it ended within a packet");
            return false;
        };
        self.bytes.extend_from_slice(&bytes);
        if self.read > 0 {
            self.parse();
        }
        true
    }

    fn parse(&mut self) {
        loop {
            let rest = &self.bytes[self.read..];
            let number = |at: usize| rest.get(at..at + 4).map(|four| u32::from_le_bytes(four.try_into().unwrap()));
            let (Some(seconds), Some(nanos), Some(kept), Some(length)) = (number(0), number(4), number(8), number(12))
            else {
                return;
            };
            let Some(data) = rest.get(16..16 + kept as usize) else { return };
            let time = u128::from(seconds) * 1_000_000_000 + u128::from(nanos);
            self.packets.push(Packet { time, length: length as usize, data: data.to_vec() });
            self.read += 16 + kept as usize;
        }
    }

    /// Waits until what has come is as `enough` wants it.
    pub(crate) async fn until(&mut self, what: &str, enough: impl Fn(&[Packet]) -> bool) {
        while !enough(&self.packets) {
            assert!(self.more().await, "it ended without {what}: {:#?}", self.packets);
        }
    }

    /// Waits until it has ended; answers why, and how many packets were dropped.
    pub(crate) async fn ending(&mut self) -> (String, u64) {
        while self.more().await {}
        let trailer = |name| self.answer.trailers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        (trailer("x-capture-ended").to_owned(), trailer("x-capture-dropped").parse().expect("a number"))
    }

    /// The echoes among the packets: whether each is a reply, and its number.
    pub(crate) fn echoes(&self) -> Vec<(bool, u16)> {
        self.packets.iter().filter_map(Packet::echo).collect()
    }
}

/// The path of a capture at a place such as `r1:eth1`.
pub(crate) fn path(lab: &str, place: &str, query: &str) -> String {
    let (node, interface) = place.split_once(':').expect("node and interface");
    format!("/labs/{lab}/nodes/{node}/interfaces/{interface}/capture?{query}")
}
