// Topologies to begin with. They need nothing but what every server has: nodes of the kind `linux`, without an image.

export interface Example {
  title: string;
  text: string;
  definition: string;
}

export const examples: readonly Example[] = [
  {
    title: "Two routers",
    text: "One link with addresses: ping 10.0.0.2 from r1.",
    definition: `name: two-routers
topology:
  defaults:
    kind: linux
  nodes:
    r1:
      exec:
        - sh -c 'echo "$(hostname) is up"'
    r2:
      exec:
        - sh -c 'echo "$(hostname) is up"'
  links:
    - type: veth
      endpoints:
        - node: r1
          interface: eth1
          ipv4: 10.0.0.1/30
        - node: r2
          interface: eth1
          ipv4: 10.0.0.2/30
`,
  },
  {
    title: "Ring of four",
    text: "Four nodes, four links, with a way around whichever fails.",
    definition: `name: ring
topology:
  defaults:
    kind: linux
  nodes:
    north:
    east:
    south:
    west:
  links:
    - type: veth
      endpoints:
        - { node: north, interface: eth1, ipv4: 10.1.0.1/30 }
        - { node: east, interface: eth1, ipv4: 10.1.0.2/30 }
    - type: veth
      endpoints:
        - { node: east, interface: eth2, ipv4: 10.1.1.1/30 }
        - { node: south, interface: eth1, ipv4: 10.1.1.2/30 }
    - type: veth
      endpoints:
        - { node: south, interface: eth2, ipv4: 10.1.2.1/30 }
        - { node: west, interface: eth1, ipv4: 10.1.2.2/30 }
    - type: veth
      endpoints:
        - { node: west, interface: eth2, ipv4: 10.1.3.1/30 }
        - { node: north, interface: eth2, ipv4: 10.1.3.2/30 }
`,
  },
  {
    title: "Leaves and spines",
    text: "Two spines, four leaves, a host at each of two leaves.",
    definition: `name: leaf-spine
topology:
  defaults:
    kind: linux
  nodes:
    spine1:
    spine2:
    leaf1:
    leaf2:
    leaf3:
    leaf4:
    host1:
    host2:
  links:
    - endpoints: ["leaf1:eth1", "spine1:eth1"]
    - endpoints: ["leaf2:eth1", "spine1:eth2"]
    - endpoints: ["leaf3:eth1", "spine1:eth3"]
    - endpoints: ["leaf4:eth1", "spine1:eth4"]
    - endpoints: ["leaf1:eth2", "spine2:eth1"]
    - endpoints: ["leaf2:eth2", "spine2:eth2"]
    - endpoints: ["leaf3:eth2", "spine2:eth3"]
    - endpoints: ["leaf4:eth2", "spine2:eth4"]
    - endpoints: ["host1:eth1", "leaf1:eth3"]
    - endpoints: ["host2:eth1", "leaf4:eth3"]
`,
  },
];
