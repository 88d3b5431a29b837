//! Links in both notations: which nodes and interfaces they join, and whether that can be.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_saphyr::Spanned;

use super::place::Places;
use super::raw::{Body, EndpointDef, ExtendedEndpoint, LinkDef, Text};
use super::{Endpoint, HostDemand, Link, Node, TopologyError, shown};

/// Link types of containerlab that join a node with something that isn't one, such as an interface of the host.
const OTHER_TYPES: &[&str] = &["host", "mgmt-net", "macvlan", "vxlan", "vxlan-stitch", "dummy"];

/// Those that stand where the name of a node would.
const NO_NODES: &[&str] = &["host", "mgmt-net", "macvlan"];

/// Longest name of an interface in Linux, in bytes.
const MAX_INTERFACE: usize = 15;

/// A link that leads out of the topology: the node that it begins at, and what it asks of the host.
pub(super) type Outward = (String, HostDemand);

/// The links of a topology whose nodes are `nodes`: those between nodes, and those that lead out.
pub(super) fn read(
    body: &Body,
    nodes: &[Node],
    places: &Places<'_>,
) -> Result<(Vec<Link>, Vec<Outward>), TopologyError> {
    let mut outward = Vec::new();
    let kinds: HashMap<&str, &str> = nodes.iter().map(|node| (node.name.as_str(), node.kind.as_str())).collect();
    let mut taken: HashMap<(String, String), usize> = HashMap::new();
    let mut links = Vec::with_capacity(body.links.len());
    for (index, def) in body.links.iter().enumerate() {
        let reader = Reader { index, def, kinds: &kinds, places };
        let found = match reader.outward()? {
            Some((end, at, what)) => {
                outward.push((end.node.clone(), HostDemand::NetworkMode(format!("link {what}"))));
                (None, vec![(end, at)])
            }
            None => {
                let (link, ends) = reader.link()?;
                let ends = link.ends.iter().cloned().zip(ends).collect();
                (Some(link), ends)
            }
        };
        let (link, ends) = found;
        for (end, at) in ends {
            let interface = (end.node.clone(), end.interface.clone());
            if let Some(other) = taken.insert(interface, index) {
                let elsewhere = if other == index { "the other end of this link" } else { &format!("links[{other}]") };
                let problem = format!("{}:{} is already taken by {elsewhere}", end.node, end.interface);
                return Err(places.invalid(at, problem));
            }
        }
        links.extend(link);
    }
    Ok((links, outward))
}

/// The end of a link that leads out: the endpoint, where it stands, and what the link leads to.
type OutwardEnd<'a> = (Endpoint, &'a Spanned<EndpointDef>, String);

struct Reader<'a> {
    index: usize,
    def: &'a Spanned<LinkDef>,
    kinds: &'a HashMap<&'a str, &'a str>,
    places: &'a Places<'a>,
}

impl<'a> Reader<'a> {
    /// A link that leads out: its end at a node, where that stands, and what it leads to. `None`: it joins two nodes.
    fn outward(&self) -> Result<Option<OutwardEnd<'a>>, TopologyError> {
        let def = &self.def.value;
        if let Some(kind) = &def.kind {
            let name = kind.value.trim().to_ascii_lowercase();
            if !OTHER_TYPES.contains(&name.as_str()) {
                return Ok(None);
            }
            let Some(at) = &def.endpoint else {
                let problem =
                    format!("a link of type `{name}` has one end: write `endpoint: {{node: r1, interface: eth1}}`");
                return Err(self.places.invalid(kind, problem));
            };
            let what = def.host_interface.as_ref().or(def.remote.as_ref()).map(|what| shown(&what.value));
            return Ok(Some((self.end(at)?, at, what.map_or(name.clone(), |what| format!("{name}:{what}")))));
        }
        let Some([left, right]) = def.endpoints.as_ref().map(|ends| &ends.value[..]) else { return Ok(None) };
        for (inside, outside) in [(left, right), (right, left)] {
            if let EndpointDef::Brief(text) = &outside.value
                && let Some((kind, _)) = text.split_once(':')
                && NO_NODES.contains(&kind)
            {
                // Containerlab means the host, and whoever has a node of this name may not.
                if self.kinds.contains_key(kind) {
                    return Err(self.places.invalid(outside, not_veth(kind)));
                }
                return Ok(Some((self.end(inside)?, inside, shown(text))));
            }
        }
        Ok(None)
    }

    /// The link, and where its ends stand.
    fn link(&self) -> Result<(Link, [&'a Spanned<EndpointDef>; 2]), TopologyError> {
        let def = &self.def.value;
        if let Some(kind) = &def.kind {
            match kind.value.trim().to_ascii_lowercase().as_str() {
                "" | "veth" | "brief" => {}
                other => {
                    let problem = format!("`{}` is not a link type; leave it out or write `veth`", shown(other));
                    return Err(self.places.invalid(kind, problem));
                }
            }
        }
        let path = format!("topology.links[{}]", self.index);
        let Some(ends) = &def.endpoints else {
            let problem = "the link has no endpoints; write `endpoints: [\"r1:eth1\", \"r2:eth1\"]`";
            return Err(self.places.invalid_whole(self.def, path, problem));
        };
        let [left, right] = &ends.value[..] else {
            let problem = format!("a link joins two endpoints, and this one has {}", ends.value.len());
            return Err(self.places.invalid_whole(ends, format!("{path}.endpoints"), problem));
        };
        let mut link = Link { ends: [self.end(left)?, self.end(right)?], mtu: self.mtu()? };
        self.addresses(&def.ipv4, &mut link, ipv4, |end| &mut end.ipv4)?;
        self.addresses(&def.ipv6, &mut link, ipv6, |end| &mut end.ipv6)?;
        Ok((link, [left, right]))
    }

    fn end(&self, at: &Spanned<EndpointDef>) -> Result<Endpoint, TopologyError> {
        match &at.value {
            EndpointDef::Brief(text) => {
                let Some((node, interface)) = text.split_once(':') else {
                    let problem = format!("`{}` is not an endpoint; write `node:interface`", shown(text));
                    return Err(self.places.invalid(at, problem));
                };
                self.check_end(at, node, interface)?;
                Ok(Endpoint {
                    node: node.to_owned(),
                    interface: interface.to_owned(),
                    mac: None,
                    ipv4: None,
                    ipv6: None,
                })
            }
            EndpointDef::Extended(end) => self.extended(at, end),
        }
    }

    fn extended(&self, at: &Spanned<EndpointDef>, end: &ExtendedEndpoint) -> Result<Endpoint, TopologyError> {
        let missing = |key: &str| {
            let problem = format!("the endpoint has no `{key}`; write `{{node: r1, interface: eth1}}`");
            self.places.invalid_whole(at, format!("topology.links[{}].endpoints", self.index), problem)
        };
        let node = end.node.as_ref().ok_or_else(|| missing("node"))?;
        let interface = end.interface.as_ref().ok_or_else(|| missing("interface"))?;
        self.check_node(node, &node.value)?;
        self.check_interface(interface, &node.value, &interface.value)?;
        let checked = |text: &Option<Text>, check: fn(&str) -> Result<(), String>| match text {
            Some(text) if !text.value.trim().is_empty() => {
                check(text.value.trim()).map_err(|problem| self.places.invalid(text, problem))?;
                Ok(Some(text.value.trim().to_owned()))
            }
            _ => Ok(None),
        };
        Ok(Endpoint {
            node: node.value.clone(),
            interface: interface.value.clone(),
            mac: checked(&end.mac, mac)?.map(|mac| mac.replace('-', ":").to_ascii_lowercase()),
            ipv4: checked(&end.ipv4, ipv4)?,
            ipv6: checked(&end.ipv6, ipv6)?,
        })
    }

    fn check_end<T>(&self, at: &Spanned<T>, node: &str, interface: &str) -> Result<(), TopologyError> {
        self.check_node(at, node)?;
        self.check_interface(at, node, interface)
    }

    fn check_node<T>(&self, at: &Spanned<T>, node: &str) -> Result<(), TopologyError> {
        // Also where a node has this name: containerlab means the host itself all the same.
        if NO_NODES.contains(&node) {
            return Err(self.places.invalid(at, not_veth(node)));
        }
        if self.kinds.contains_key(node) {
            return Ok(());
        }
        let mut names: Vec<&str> = self.kinds.keys().copied().collect();
        names.sort_unstable();
        let more = if names.len() > 8 { ", …" } else { "" };
        names.truncate(8);
        let problem = format!("there is no node `{}`; the nodes are {}{more}", shown(node), names.join(", "));
        Err(self.places.invalid(at, problem))
    }

    /// Interfaces of `linux` nodes have the names that the kernel takes. Those of other kinds may have the names that
    /// the device itself uses, such as `GigabitEthernet0/0/0`, which containerlab translates.
    fn check_interface<T>(&self, at: &Spanned<T>, node: &str, name: &str) -> Result<(), TopologyError> {
        let linux = self.kinds.get(node) == Some(&"linux");
        let problem = if name.is_empty() {
            "the endpoint names no interface; write `node:interface`".to_owned()
        } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            format!("`{}` is not an interface name: it contains white space", shown(name))
        } else if linux && name.len() > MAX_INTERFACE {
            let len = name.len();
            format!("`{}` has {len} characters; names of interfaces have at most {MAX_INTERFACE}", shown(name))
        } else if linux && (name.contains(['/', ':']) || name == "." || name == "..") {
            format!("`{}` is not an interface name: `/`, `:`, `.` and `..` are not possible", shown(name))
        } else if linux && name == "lo" {
            "`lo` is the loopback interface that every node has; name another, such as `eth1`".to_owned()
        } else if !linux && name.len() > 64 {
            format!("`{}` is too long for the name of an interface", shown(name))
        } else {
            return Ok(());
        };
        Err(self.places.invalid(at, problem))
    }

    fn mtu(&self) -> Result<Option<u32>, TopologyError> {
        match &self.def.value.mtu {
            None => Ok(None),
            Some(mtu) if mtu.value == 0 => Ok(None),
            Some(mtu) if (68..=65_535).contains(&mtu.value) => Ok(Some(mtu.value)),
            Some(mtu) => {
                let problem = format!("an MTU of {} is not possible; it lies between 68 and 65535 bytes", mtu.value);
                Err(self.places.invalid(mtu, problem))
            }
        }
    }

    /// Addresses that the link lists for its ends, in their order; an empty one leaves its end without.
    fn addresses(
        &self,
        listed: &[Text],
        link: &mut Link,
        check: fn(&str) -> Result<(), String>,
        of: fn(&mut Endpoint) -> &mut Option<String>,
    ) -> Result<(), TopologyError> {
        if let Some(third) = listed.get(2) {
            return Err(self.places.invalid(third, "a link has two ends, so it takes no third address"));
        }
        for (text, end) in listed.iter().zip(&mut link.ends) {
            let address = text.value.trim();
            if address.is_empty() {
                continue;
            }
            check(address).map_err(|problem| self.places.invalid(text, problem))?;
            of(end).get_or_insert_with(|| address.to_owned());
        }
        Ok(())
    }
}

fn not_veth(kind: &str) -> String {
    format!(
        "`{kind}` stands for the host and can't be a node here; write `{kind}:interface` at one end of a link, and a node at the other"
    )
}

fn ipv4(text: &str) -> Result<(), String> {
    if prefixed::<Ipv4Addr>(text, 32) {
        return Ok(());
    }
    Err(format!("`{}` is not an IPv4 address with a prefix length, such as `10.0.0.1/30`", shown(text)))
}

fn ipv6(text: &str) -> Result<(), String> {
    if prefixed::<Ipv6Addr>(text, 128) {
        return Ok(());
    }
    Err(format!("`{}` is not an IPv6 address with a prefix length, such as `2001:db8::1/64`", shown(text)))
}

fn prefixed<A: std::str::FromStr + Into<IpAddr>>(text: &str, longest: u8) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    address.parse::<A>().is_ok() && digits && length.parse::<u8>().is_ok_and(|length| length <= longest)
}

fn mac(text: &str) -> Result<(), String> {
    let octets: Vec<_> = text.split([':', '-']).collect();
    let is_octet = |octet: &&str| octet.len() == 2 && octet.bytes().all(|byte| byte.is_ascii_hexdigit());
    if octets.len() != 6 || !octets.iter().all(is_octet) {
        return Err(format!("`{}` is not a MAC address, such as `02:00:00:00:00:01`", shown(text)));
    }
    if u8::from_str_radix(octets[0], 16).is_ok_and(|first| first & 1 == 1) {
        return Err(format!("`{}` is a multicast address; the first octet of an interface's is even", shown(text)));
    }
    Ok(())
}
