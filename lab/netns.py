"""The network of a lab: one switch with a bridge for each network, one veth to each member, shaped at both ends."""

import subprocess

from lab.topology import CONTROL, MIGRATION, Topology

PORT = {CONTROL: "c", MIGRATION: "m"}  # the last letter of a port's name at the switch
DEVICE = {CONTROL: "eth0", MIGRATION: "eth1"}  # inside a host


def port(member: str, network: str) -> str:
    """The switch's port of a member."""
    return f"{member}-{PORT[network]}" if member != "controller" else "controller-c"


def ip(*arguments: str, namespace: str = "", check: bool = True) -> str:
    """Run ip, in a named network namespace when one is given."""
    return tool("ip", *arguments, namespace=namespace, check=check)


def tool(program: str, *arguments: str, namespace: str = "", check: bool = True, text: str | None = None) -> str:
    """Run a program of the machine in a network namespace."""
    prefix = ["nsenter", f"--net=/run/netns/{namespace}", "--"] if namespace else []
    result = subprocess.run([*prefix, program, *arguments], capture_output=True, text=True, input=text)
    if check and result.returncode != 0:
        raise RuntimeError(f"{program} {' '.join(arguments)} in {namespace or 'this machine'}: {result.stderr.strip()}")
    return result.stdout


def make_switch(topology: Topology) -> None:
    """The switch's namespace with its two bridges. They learn at once: no spanning tree, no forwarding delay."""
    switch = topology.namespace("switch")
    ip("netns", "add", switch)
    for bridge in (CONTROL, MIGRATION):
        ip("link", "add", bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0", namespace=switch)
        ip("link", "set", bridge, "up", namespace=switch)


def connect(topology: Topology, member: str) -> None:
    """The namespace of a host or the controller, joined to the switch."""
    inside, switch = topology.namespace(member), topology.namespace("switch")
    ip("netns", "add", inside)
    ip("link", "set", "lo", "up", namespace=inside)
    networks = (CONTROL,) if member == "controller" else (CONTROL, MIGRATION)
    for network in networks:
        device, at_switch = DEVICE[network], port(member, network)
        ip("link", "add", at_switch, "type", "veth", "peer", "name", device, "netns", inside, namespace=switch)
        ip("link", "set", at_switch, "master", network, "up", namespace=switch)
        ip("link", "set", device, "up", namespace=inside)
        if topology.link and member != "controller":
            shape(switch, at_switch, topology.link)
            shape(inside, device, topology.link)
    if member == "controller":
        ip("address", "add", f"{topology.address(member)}/24", "dev", "eth0", namespace=inside)
        return
    ip("link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0", namespace=inside)
    ip("link", "set", "eth0", "master", "br0", namespace=inside)
    ip("link", "set", "br0", "up", namespace=inside)
    ip("address", "add", f"{topology.address(member)}/24", "dev", "br0", namespace=inside)
    ip("address", "add", f"{topology.address(member, MIGRATION)}/24", "dev", "eth1", namespace=inside)


def shape(namespace: str, device: str, rate: str) -> None:
    """Hold what leaves a device to a rate (a token bucket; 256 KiB of burst lets GSO packets through)."""
    tool("tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms",
         namespace=namespace)  # fmt: skip


def remove(topology: Topology) -> None:
    """Every namespace of this lab; their devices go with them."""
    for member in ("switch", "controller", *topology.hosts):
        ip("netns", "delete", topology.namespace(member), check=False)
