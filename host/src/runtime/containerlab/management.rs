//! The management network that labs share, and the networks of this machine: whether one hides the other. `doctor` asks.
//!
//! Containerlab makes a network with the same addresses everywhere. Docker refuses that where a network of its own has some of
//! them; where it is the machine's surroundings that have, the network is made, and what was there can't be reached any more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::version::FoundEngine;
use crate::runtime::docker::Docker;

/// Name of the network.
const NAME: &str = "clab";
/// Its addresses, as containerlab chooses them.
const SUBNETS: [Subnet; 2] = [
    Subnet { address: IpAddr::V4(Ipv4Addr::new(172, 20, 20, 0)), length: 24 },
    Subnet { address: IpAddr::V6(Ipv6Addr::new(0x3fff, 0x172, 0x20, 0x20, 0, 0, 0, 0)), length: 64 },
];

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subnet {
    address: IpAddr,
    length: u8,
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Subnet {
    fn overlaps(self, other: Self) -> bool {
        let common = self.length.min(other.length);
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let ((one, width), (two, other_width)) = (bits(self.address), bits(other.address));
        let differing = (one ^ two).checked_shr(128 - u32::from(common)).unwrap_or(0);
        width == other_width && differing == 0
    }
}

/// A network that this machine reaches by an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    to: Subnet,
    interface: String,
}

/// A sentence for the operator if this machine has a route to some of the addresses that labs are going to have. Nothing is
/// said where the network is there already, or where the engine is on another machine.
pub async fn overlap(engine: &FoundEngine) -> Option<String> {
    if !engine.address.starts_with("unix://") {
        return None;
    }
    let docker = Docker::connect(Some(&engine.address)).await.ok()?;
    if docker.has_network(NAME).await.ok()? {
        return None;
    }
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut routes = ipv4_routes(&read("/proc/net/route"));
    routes.extend(ipv6_routes(&read("/proc/net/ipv6_route")));
    let (subnet, route) = first_overlap(&routes)?;
    Some(format!(
        "labs get addresses of {subnet}, which this machine has a route to already ({} by {}): choose others for each \
         topology, such as `mgmt: {{network: mine, ipv4-subnet: 10.99.0.0/24, ipv6-subnet: \"fd99::/64\"}}`, or give that \
         network others",
        route.to, route.interface
    ))
}

fn first_overlap(routes: &[Route]) -> Option<(Subnet, &Route)> {
    let all = SUBNETS.into_iter().flat_map(|subnet| routes.iter().map(move |route| (subnet, route)));
    // What is reached by way of a gateway that knows better is everything else.
    all.into_iter().find(|(subnet, route)| route.to.length > 0 && route.interface != "lo" && subnet.overlaps(route.to))
}

/// Reads `/proc/net/route`, whose numbers are hexadecimal and in the machine's own order.
fn ipv4_routes(table: &str) -> Vec<Route> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let number = |column: usize| Some(u32::from_be(u32::from_str_radix(columns.get(column)?, 16).ok()?));
        let (address, mask) = (number(1)?, number(7)?);
        let to = Subnet { address: IpAddr::V4(address.into()), length: u8::try_from(mask.leading_ones()).ok()? };
        Some(Route { to, interface: (*columns.first()?).to_owned() })
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// Reads `/proc/net/ipv6_route`, whose addresses are 32 hexadecimal digits.
fn ipv6_routes(table: &str) -> Vec<Route> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let address = u128::from_str_radix(columns.first()?, 16).ok()?;
        let length = u8::from_str_radix(columns.get(1)?, 16).ok()?;
        let to = Subnet { address: IpAddr::V6(address.into()), length };
        Some(Route { to, interface: (*columns.last()?).to_owned() })
    };
    table.lines().filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        let (address, length) = text.split_once('/').unwrap();
        Subnet { address: address.parse().unwrap(), length: length.parse().unwrap() }
    }

    #[test]
    fn networks_overlap_where_one_is_within_the_other() {
        let labs = SUBNETS[0];
        for other in ["172.20.20.0/24", "172.20.0.0/16", "172.16.0.0/12", "172.20.20.7/32", "0.0.0.0/0"] {
            assert!(labs.overlaps(subnet(other)) && subnet(other).overlaps(labs), "{other}");
        }
        for other in ["172.20.21.0/24", "172.17.0.0/16", "10.0.0.0/8", "::/0", "3fff:172:20:20::/64"] {
            assert!(!labs.overlaps(subnet(other)), "{other}");
        }
        assert!(SUBNETS[1].overlaps(subnet("3fff::/20")) && !SUBNETS[1].overlaps(subnet("fe80::/64")));
    }

    #[test]
    fn routes_are_read_as_the_kernel_writes_them_and_the_default_is_none() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            br-ab12\t000014AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let routes = ipv4_routes(table);
        let found = Route { to: subnet("172.20.0.0/16"), interface: "br-ab12".into() };
        assert_eq!(routes, [Route { to: subnet("0.0.0.0/0"), interface: "eth0".into() }, found.clone()]);
        assert_eq!(first_overlap(&routes), Some((SUBNETS[0], &found)));
        assert_eq!(first_overlap(&routes[..1]), None);
        let table = "3fff0172002000200000000000000000 40 00000000000000000000000000000000 00 \
            00000000000000000000000000000000 00000100 00000001 00000000 00000001     vpn0\n";
        let routes = ipv6_routes(table);
        assert_eq!(routes, [Route { to: subnet("3fff:172:20:20::/64"), interface: "vpn0".into() }]);
        assert_eq!(first_overlap(&routes).unwrap().0, SUBNETS[1]);
    }
}
