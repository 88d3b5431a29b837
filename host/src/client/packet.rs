//! Socket.IO packets as text: what is inside an Engine.IO message.
//!
//! Owns the packet syntax of Socket.IO protocol 5 (`<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`) and
//! nothing else: what packets mean is for [`super::connection`], the only caller. Never does IO.

use serde_json::Value;

/// What a packet does. The discriminant is its digit on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Asks to join a namespace, or says that it has been joined.
    Connect = 0,
    /// Leaves a namespace, or says that it has ended.
    Disconnect = 1,
    /// An event.
    Event = 2,
    /// The acknowledgement of an event.
    Ack = 3,
    /// Says that a namespace isn't joined, and why.
    ConnectError = 4,
    /// An event with attachments.
    BinaryEvent = 5,
    /// An acknowledgement with attachments.
    BinaryAck = 6,
}

impl Kind {
    fn from_digit(digit: u8) -> Option<Self> {
        Some(match digit {
            b'0' => Self::Connect,
            b'1' => Self::Disconnect,
            b'2' => Self::Event,
            b'3' => Self::Ack,
            b'4' => Self::ConnectError,
            b'5' => Self::BinaryEvent,
            b'6' => Self::BinaryAck,
            _ => return None,
        })
    }

    fn is_binary(self) -> bool {
        matches!(self, Self::BinaryEvent | Self::BinaryAck)
    }
}

/// One Socket.IO packet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    /// With its leading slash; `/` for the main namespace.
    pub(super) namespace: String,
    /// How many binary frames follow; 0 unless the kind is a binary one.
    pub(super) attachments: usize,
    /// Id of the acknowledgement that is asked for, or that this is.
    pub(super) id: Option<u64>,
    pub(super) data: Option<Value>,
}

/// Why a text is no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PacketError {
    #[error("a packet must begin with a type from 0 to 6")]
    Type,
    #[error("a binary packet must say how many attachments follow")]
    Attachments,
    #[error("the acknowledgement id is too large")]
    Id,
    #[error("the payload is not JSON: {0}")]
    Payload(String),
}

impl Packet {
    /// A packet without attachments and acknowledgement.
    pub(super) fn new(kind: Kind, namespace: &str, data: Option<Value>) -> Self {
        Self { kind, namespace: namespace.to_owned(), attachments: 0, id: None, data }
    }

    /// The packet as it is written.
    pub(super) fn encode(&self) -> String {
        let mut text = String::new();
        text.push(char::from(b'0' + self.kind as u8));
        if self.kind.is_binary() {
            text.push_str(&format!("{}-", self.attachments));
        }
        if self.namespace != "/" {
            text.push_str(&self.namespace);
            text.push(',');
        }
        if let Some(id) = self.id {
            text.push_str(&id.to_string());
        }
        if let Some(data) = &self.data {
            text.push_str(&data.to_string());
        }
        text
    }

    /// Reads a packet.
    pub(super) fn decode(text: &str) -> Result<Self, PacketError> {
        let kind = text.bytes().next().and_then(Kind::from_digit).ok_or(PacketError::Type)?;
        let mut rest = &text[1..];
        let mut attachments = 0;
        if kind.is_binary() {
            let (count, after) = rest.split_once('-').ok_or(PacketError::Attachments)?;
            attachments = count.parse().map_err(|_| PacketError::Attachments)?;
            rest = after;
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            // A namespace that ends the packet may do without its comma.
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let id = match &rest[..digits] {
            "" => None,
            id => Some(id.parse().map_err(|_| PacketError::Id)?),
        };
        let data = match &rest[digits..] {
            "" => None,
            json => Some(serde_json::from_str(json).map_err(|error| PacketError::Payload(error.to_string()))?),
        };
        Ok(Self { kind, namespace: namespace.to_owned(), attachments, id, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn packets_are_written_as_the_protocol_shows_them() {
        let mut event = Packet::new(Kind::Event, "/lab-commands", Some(json!(["data", {"labId": "x"}])));
        assert_eq!(event.encode(), r#"2/lab-commands,["data",{"labId":"x"}]"#);
        event.id = Some(12);
        assert_eq!(event.encode(), r#"2/lab-commands,12["data",{"labId":"x"}]"#);
        assert_eq!(Packet::new(Kind::Connect, "/", None).encode(), "0");
        assert_eq!(Packet::new(Kind::Disconnect, "/logs/a", None).encode(), "1/logs/a,");
    }

    #[test]
    fn packets_are_read_as_the_protocol_shows_them() {
        let refused = Packet::decode(r#"4/logs/a,{"message":"No Access"}"#).unwrap();
        assert_eq!(refused, Packet::new(Kind::ConnectError, "/logs/a", Some(json!({"message": "No Access"}))));
        let ack = Packet::decode(r#"3/lab-commands,7[{"payload":null}]"#).unwrap();
        assert_eq!((ack.kind, ack.id, ack.data), (Kind::Ack, Some(7), Some(json!([{"payload": null}]))));
        let event = Packet::decode(r#"2["data","a,b"]"#).unwrap();
        assert_eq!((event.namespace.as_str(), event.data), ("/", Some(json!(["data", "a,b"]))));
        let binary = Packet::decode(r#"51-/shells/s,["data",{"_placeholder":true,"num":0}]"#).unwrap();
        assert_eq!((binary.kind, binary.attachments, binary.namespace.as_str()), (Kind::BinaryEvent, 1, "/shells/s"));
        assert_eq!(Packet::decode("1/logs/a").unwrap(), Packet::new(Kind::Disconnect, "/logs/a", None));
    }

    #[test]
    fn what_is_no_packet_is_an_error_that_says_why() {
        assert_eq!(Packet::decode(""), Err(PacketError::Type));
        assert_eq!(Packet::decode("9"), Err(PacketError::Type));
        assert_eq!(Packet::decode("é"), Err(PacketError::Type));
        assert_eq!(Packet::decode("5[]"), Err(PacketError::Attachments));
        assert_eq!(Packet::decode("399999999999999999999[]"), Err(PacketError::Id));
        assert!(matches!(Packet::decode("2[\"data\""), Err(PacketError::Payload(_))));
    }

    fn packets() -> impl Strategy<Value = Packet> {
        let kind = prop_oneof![
            Just(Kind::Connect),
            Just(Kind::Disconnect),
            Just(Kind::Event),
            Just(Kind::Ack),
            Just(Kind::ConnectError),
            Just(Kind::BinaryEvent),
            Just(Kind::BinaryAck),
        ];
        let namespace = prop_oneof![Just("/".to_owned()), "(/[^,\\pC]{1,12}){1,3}"];
        // As in the protocol: payloads are arrays or objects, never a bare number, which would run into the id.
        let data = prop::option::of(prop::collection::vec(any::<String>(), 0..3).prop_map(|texts| json!(texts)));
        (kind, namespace, 0..9usize, prop::option::of(any::<u64>()), data).prop_map(
            |(kind, namespace, attachments, id, data)| {
                let attachments = if kind.is_binary() { attachments } else { 0 };
                Packet { kind, namespace, attachments, id, data }
            },
        )
    }

    proptest! {
        #[test]
        fn every_packet_is_read_back_as_it_was_written(packet in packets()) {
            prop_assert_eq!(Packet::decode(&packet.encode()).unwrap(), packet);
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in any::<String>()) {
            let _ = Packet::decode(&text);
        }

        #[test]
        fn no_text_that_looks_like_a_packet_makes_the_decoder_panic(text in "[0-9]{0,3}-?(/[a-zé,]{0,4}){0,2}[0-9]{0,25}[\\[{\"]?") {
            let _ = Packet::decode(&text);
        }
    }
}
