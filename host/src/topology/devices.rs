//! Kinds of nodes that containerlab knows, and how their interfaces are called: what people who draw topologies are offered.
//! After containerlab 0.79; where a kind has several names for its interfaces, the one that links of topologies are written
//! with most.

/// What people are offered for a kind of node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `kind` as topologies write it.
    pub kind: String,
    /// Name to show.
    pub name: String,
    /// Name of an interface, with `$` in place of its number.
    pub interface_pattern: String,
    /// Number of the first interface that a link can have.
    pub interface_start: u32,
}

/// The kinds with these names, the present one first; what to show; pattern and first number of interfaces.
type Known = (&'static [&'static str], &'static str, &'static str, u32);

const KNOWN: &[Known] = &[
    (&["linux"], "Linux container", "eth$", 1),
    (&["nokia_srlinux", "srl"], "Nokia SR Linux", "e1-$", 1),
    (&["nokia_srsim"], "Nokia SR-SIM", "1/1/c$/1", 1),
    (&["nokia_sros", "vr-sros", "vr-nokia_sros"], "Nokia SR OS", "1/1/$", 1),
    (&["arista_ceos", "ceos"], "Arista cEOS", "eth$", 1),
    (&["arista_veos", "vr-veos", "vr-arista_veos"], "Arista vEOS", "Et1/$", 1),
    (&["cisco_xrd", "xrd"], "Cisco XRd", "Gi0-0-0-$", 0),
    (&["cisco_xrd_vrouter"], "Cisco XRd vRouter", "Te0/0/0/$", 0),
    (&["cisco_xrv", "vr-xrv", "vr-cisco_xrv"], "Cisco XRv", "Gi0/0/0/$", 0),
    (&["cisco_xrv9k", "vr-xrv9k", "vr-cisco_xrv9k"], "Cisco XRv9k", "Gi0/0/0/$", 0),
    (&["cisco_csr1000v", "vr-csr", "vr-cisco_csr1000v"], "Cisco CSR 1000v", "Gi$", 2),
    (&["cisco_c8000v"], "Cisco Catalyst 8000v", "Gi$", 2),
    (&["cisco_c8000", "c8000"], "Cisco 8000", "Hu0_0_0_$", 0),
    (&["cisco_cat9kv"], "Cisco Catalyst 9000v", "Gi1/0/$", 1),
    (&["cisco_n9kv", "vr-n9kv", "vr-cisco_n9kv"], "Cisco Nexus 9000v", "Et1/$", 1),
    (&["cisco_iol"], "Cisco IOL", "eth$", 1),
    (&["cisco_vios"], "Cisco vIOS", "Gi$", 0),
    (&["cisco_asav"], "Cisco ASAv", "Gi0/$", 0),
    (&["cisco_ftdv"], "Cisco FTDv", "Gi0/$", 0),
    (&["cisco_sdwan"], "Cisco SD-WAN controller", "eth$", 1),
    (&["juniper_crpd", "crpd"], "Juniper cRPD", "eth$", 1),
    (&["juniper_csrx"], "Juniper cSRX", "eth$", 1),
    (&["juniper_cjunosevolved", "cjunosevolved"], "Juniper cJunosEvolved", "et-0/0/$", 0),
    (&["juniper_vmx", "vr-vmx", "vr-juniper_vmx"], "Juniper vMX", "ge-0/0/$", 0),
    (&["juniper_vqfx", "vr-vqfx", "vr-juniper_vqfx"], "Juniper vQFX", "ge-0/0/$", 0),
    (&["juniper_vsrx", "vr-vsrx", "vr-juniper_vsrx"], "Juniper vSRX", "ge-0/0/$", 0),
    (&["juniper_vjunosrouter"], "Juniper vJunos-router", "ge-0/0/$", 0),
    (&["juniper_vjunosswitch"], "Juniper vJunos-switch", "ge-0/0/$", 0),
    (&["juniper_vjunosevolved"], "Juniper vJunosEvolved", "et-0/0/$", 0),
    (&["6wind_vsr"], "6WIND VSR", "eth$", 1),
    (&["arrcus_arcos"], "Arrcus ArcOS", "swp$", 1),
    (&["aruba_aoscx", "vr-aoscx", "vr-aruba_aoscx"], "Aruba AOS-CX", "1/1/$", 1),
    (&["checkpoint_cloudguard"], "Check Point CloudGuard", "eth$", 1),
    (&["ciena_saos", "vr-ciena_saos"], "Ciena SAOS 10", "$", 1),
    (&["cumulus_cvx", "cvx"], "Cumulus VX in a container", "swp$", 1),
    (&["nvidia_cumulusvx"], "NVIDIA Cumulus VX", "swp$", 1),
    (&["dell_ftosv", "vr-ftosv", "vr-dell_ftosv"], "Dell FTOS10v", "eth$", 1),
    (&["dell_sonic"], "Dell Enterprise SONiC", "eth$", 1),
    (&["sonic-vs"], "SONiC in a container", "eth$", 1),
    (&["sonic-vm"], "SONiC as a virtual machine", "eth$", 1),
    (&["plvision_sonic"], "PLVision Enterprise SONiC", "eth$", 1),
    (&["f5_bigip-ve"], "F5 BIG-IP VE", "1.$", 1),
    (&["fdio_vpp"], "FD.io VPP", "eth$", 1),
    (&["fortinet_fortigate"], "Fortinet FortiGate", "port$", 2),
    (&["freebsd"], "FreeBSD", "vtnet$", 1),
    (&["openbsd"], "OpenBSD", "vio$", 1),
    (&["openwrt"], "OpenWrt", "eth$", 1),
    (&["generic_vm"], "Virtual machine", "eth$", 1),
    (&["huawei_vrp"], "Huawei VRP", "eth$", 1),
    (&["ipinfusion_ocnos"], "IP Infusion OcNOS", "eth$", 1),
    (&["keysight_ixia-c-one"], "Keysight Ixia-c One", "eth$", 1),
    (&["spirent_stc"], "Spirent TestCenter", "port$", 1),
    (&["mikrotik_ros", "vr-ros", "vr-mikrotik_ros"], "MikroTik RouterOS", "ether$", 2),
    (&["paloalto_panos", "vr-pan", "vr-paloalto_panos"], "Palo Alto PAN-OS", "Ethernet1/$", 1),
    (&["rare"], "RARE/freeRtr", "eth$", 1),
    (&["veesix_osvbng"], "Veesix osvbng", "eth$", 1),
    (&["vyosnetworks_vyos"], "VyOS", "eth$", 1),
    (&["bridge"], "Linux bridge of the host", "eth$", 1),
    (&["ovs-bridge"], "Open vSwitch bridge of the host", "eth$", 1),
    (&["ext-container"], "Container that is there already", "eth$", 1),
    (&["k8s-kind"], "Kubernetes cluster (kind)", "eth$", 1),
    (&["host"], "The host itself", "eth$", 1),
];

/// All kinds, those first that people use most.
pub fn known() -> Vec<Device> {
    let of_row = |&(kinds, name, pattern, start): &Known| {
        kinds.iter().map(move |kind| Device {
            kind: (*kind).to_owned(),
            name: name.to_owned(),
            interface_pattern: pattern.to_owned(),
            interface_start: start,
        })
    };
    KNOWN.iter().flat_map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::topology::Topology;

    #[test]
    fn every_kind_is_there_once_and_its_first_interface_can_be_linked() {
        let mut seen = HashSet::new();
        for device in known() {
            let Device { kind, interface_pattern, interface_start, name } = &device;
            assert!(seen.insert(kind.clone()), "{kind}");
            assert_eq!(interface_pattern.matches('$').count(), 1, "{kind}");
            assert!(!name.is_empty());
            let interface = interface_pattern.replace('$', &interface_start.to_string());
            let text = format!(
                "name: x\ntopology:\n  nodes: {{a: {{kind: {kind}}}, b: {{kind: linux}}}}\n  links:\n    - endpoints: ['a:{interface}', 'b:eth1']\n"
            );
            assert_eq!(Topology::parse(&text).unwrap_or_else(|error| panic!("{kind}: {error}")).links.len(), 1);
        }
    }

    #[test]
    fn the_kinds_that_clients_are_promised_are_as_promised() {
        let of = |kind: &str| {
            let device = known().into_iter().find(|device| device.kind == kind).expect(kind);
            (device.interface_pattern, device.interface_start)
        };
        assert_eq!(of("linux"), ("eth$".to_owned(), 1));
        assert_eq!(of("nokia_srlinux"), ("e1-$".to_owned(), 1));
        assert_eq!(of("ceos"), ("eth$".to_owned(), 1));
    }
}
