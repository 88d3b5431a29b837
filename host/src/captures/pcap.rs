//! Packets as pcap files have them, with times in nanoseconds.

use bytes::{BufMut as _, BytesMut};

use crate::runtime::capture::{LinkType, Packet};

/// Says that times are in nanoseconds, and by its order of bytes what that of all numbers is.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Of the format: the only one that there has been since 1998.
const VERSION: (u16, u16) = (2, 4);
/// Bytes of the two addresses at the beginning of an Ethernet frame, behind which tags have their place.
const ADDRESSES: usize = 12;
/// Bytes of a tag.
const TAG: usize = 4;

/// Writes packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer {
    link_type: LinkType,
    snaplen: u32,
}

impl Writer {
    pub(super) fn new(link_type: LinkType, snaplen: u32) -> Self {
        Self { link_type, snaplen }
    }

    /// What the file begins with.
    pub(super) fn header(self, to: &mut BytesMut) {
        to.put_u32_le(MAGIC);
        to.put_u16_le(VERSION.0);
        to.put_u16_le(VERSION.1);
        // Two numbers that nobody uses: the time zone, and how exact times are.
        to.put_u64_le(0);
        to.put_u32_le(self.snaplen);
        to.put_u32_le(self.link_type as u32);
    }

    /// One packet.
    pub(super) fn packet(self, packet: &Packet<'_>, to: &mut BytesMut) {
        let tag = packet.tag.filter(|_| self.link_type == LinkType::Ethernet && packet.data.len() >= ADDRESSES);
        let more = if tag.is_some() { TAG } else { 0 };
        let most = usize::try_from(self.snaplen).unwrap_or(usize::MAX);
        let kept = (packet.data.len() + more).min(most);
        to.reserve(16 + kept);
        to.put_u32_le(packet.time.0);
        to.put_u32_le(packet.time.1);
        to.put_u32_le(u32::try_from(kept).unwrap_or(u32::MAX));
        to.put_u32_le(packet.length.saturating_add(u32::try_from(more).unwrap_or_default()));
        let Some((kind, content)) = tag else {
            to.put_slice(&packet.data[..kept]);
            return;
        };
        let (addresses, rest) = packet.data.split_at(ADDRESSES);
        let end = to.len() + kept;
        to.put_slice(addresses);
        to.put_u16(kind);
        to.put_u16(content);
        to.put_slice(&rest[..rest.len().min(kept.saturating_sub(ADDRESSES + TAG))]);
        // A snapshot that ends within the tag.
        to.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(writer: Writer, packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        writer.packet(packet, &mut bytes);
        bytes.to_vec()
    }

    #[test]
    fn a_file_begins_with_the_magic_of_nanoseconds() {
        let mut bytes = BytesMut::new();
        Writer::new(LinkType::Ethernet, 65535).header(&mut bytes);
        let expected = [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];
        assert_eq!(bytes[..], expected);
    }

    #[test]
    fn a_tag_is_put_behind_the_addresses_and_counted() {
        let data: Vec<u8> = (0..20).collect();
        let packet = Packet { time: (1, 2), length: 100, tag: Some((0x8100, 0x2007)), data: &data };
        let bytes = written(Writer::new(LinkType::Ethernet, 65535), &packet);
        assert_eq!(bytes[..16], [1, 0, 0, 0, 2, 0, 0, 0, 24, 0, 0, 0, 104, 0, 0, 0]);
        assert_eq!(bytes[16..28], data[..12]);
        assert_eq!(bytes[28..32], [0x81, 0x00, 0x20, 0x07]);
        assert_eq!(bytes[32..], data[12..]);
    }

    #[test]
    fn no_more_is_kept_than_the_snapshot_length_wherever_that_ends() {
        let data: Vec<u8> = (0..20).collect();
        let packet = Packet { time: (1, 2), length: 100, tag: Some((0x8100, 7)), data: &data };
        for snaplen in 1..30_u32 {
            let bytes = written(Writer::new(LinkType::Ethernet, snaplen), &packet);
            let kept = (snaplen as usize).min(24);
            assert_eq!(bytes.len(), 16 + kept);
            assert_eq!(bytes[8], u8::try_from(kept).expect("it is small"));
            assert_eq!(bytes[12], 104);
        }
    }
}
