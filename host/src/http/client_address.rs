//! From which address a request came: that of the connection, or what a proxy that is trusted says.
//!
//! Anybody can send `X-Forwarded-For`. It is read from its end, where the nearest proxy has written, and for as long as
//! each who has written is trusted.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Once;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Api;

/// Networks of proxies that are trusted to say for whom they ask, such as `10.0.0.0/8`; a single address is one, too.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>")]
#[schemars(with = "Vec<String>")]
pub struct TrustedProxies(Vec<Network>);

/// Those on this machine.
impl Default for TrustedProxies {
    fn default() -> Self {
        let texts = ["127.0.0.0/8", "::1"].map(str::to_owned);
        Vec::from(texts).try_into().expect("these are networks")
    }
}

impl TryFrom<Vec<String>> for TrustedProxies {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        let networks = texts.iter().map(|text| {
            Network::parse(text).ok_or_else(|| format!("{text:?} is no address or network such as 10.0.0.0/8 or ::1"))
        });
        networks.collect::<Result<_, _>>().map(Self)
    }
}

impl TrustedProxies {
    /// All of them, as they are written.
    pub fn texts(&self) -> Vec<String> {
        let text = |Network { address, length }: &Network| match (address, *length) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => address.to_string(),
            (address, length) => format!("{address}/{length}"),
        };
        self.0.iter().map(text).collect()
    }

    /// Whether a proxy at this address is trusted.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// The address of the client whose request came from `peer` with these headers.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let values = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let said: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
        let mut client = peer.to_canonical();
        for text in said.into_iter().rev() {
            if !self.contains(client) {
                hint(client);
                return client;
            }
            // Whatever else stands there, whoever wrote it has said no address.
            let Some(address) = parse(text) else { return client };
            client = address;
        }
        client
    }
}

/// Says once what many operators would otherwise wonder about.
fn hint(proxy: IpAddr) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::warn!(
            %proxy,
            "a request says for whom it was forwarded, but its sender is not in server.trustedProxies: if it is your proxy, \
             add its address, or else failed logins of all its clients count as those of one"
        );
    });
}

/// An address as proxies write it: with a port or without, in brackets or not.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(most);
        (length <= most).then_some(Self { address, length })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differ = ours.to_bits() ^ theirs.to_bits();
                differ.checked_shr(32 - self.length).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differ = ours.to_bits() ^ theirs.to_bits();
                differ.checked_shr(128 - self.length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The other end of the connection that a request came by. `server` notes it in each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// From where a request came.
pub(super) struct ClientAddress(pub(super) IpAddr);

impl FromRequestParts<Api> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        // Without a connection there is none to tell from others: all of these count as one.
        let peer = parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
        Ok(Self(api.trusted_proxies.client(peer, &parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn proxies(texts: &[&str]) -> Result<TrustedProxies, String> {
        texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>().try_into()
    }

    fn client(proxies: &TrustedProxies, peer: &str, said: &[&str]) -> String {
        let header = |value: &&str| ("x-forwarded-for".parse().expect("a name"), HeaderValue::from_str(value).unwrap());
        let headers: HeaderMap = said.iter().map(header).collect();
        proxies.client(peer.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn a_proxy_is_believed_only_if_it_is_trusted() {
        let trusted = proxies(&["10.0.0.0/8", "::1"]).expect("networks");
        for (peer, said, address) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            ("192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            ("10.1.2.3", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.1.2.3", &["198.51.100.7"], "198.51.100.7"),
            ("::1", &["2001:db8::5"], "2001:db8::5"),
            ("::1", &["[2001:db8::5]:443"], "2001:db8::5"),
            ("::1", &["198.51.100.7:5000"], "198.51.100.7"),
            // What a client claims stands before what the proxy has seen.
            ("10.1.2.3", &["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            ("10.1.2.3", &["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
            ("10.1.2.3", &["1.1.1.1, 198.51.100.7, 10.9.9.9"], "198.51.100.7"),
            ("10.1.2.3", &["10.9.9.9"], "10.9.9.9"),
            ("10.1.2.3", &["unknown"], "10.1.2.3"),
            ("10.1.2.3", &["1.1.1.1, "], "10.1.2.3"),
        ] {
            assert_eq!(client(&trusted, peer, said), address, "{peer} {said:?}");
        }
        assert_eq!(client(&TrustedProxies::default(), "127.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(&proxies(&[]).expect("none"), "127.0.0.1", &["198.51.100.7"]), "127.0.0.1");
    }

    #[test]
    fn networks_are_read_and_compared_bit_by_bit() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.168.1.128/25", "192.168.1.200", "192.168.1.100"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
        ] {
            let networks = proxies(&[network]).expect(network);
            assert!(networks.contains(inside.parse().expect(inside)), "{network}");
            assert!(!networks.contains(outside.parse().expect(outside)), "{network}");
        }
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0/8", "proxy.example", "10.0.0.0/8/8"] {
            let refused = proxies(&[wrong]).expect_err(wrong);
            assert!(refused.contains("10.0.0.0/8"), "{refused}");
        }
    }
}
