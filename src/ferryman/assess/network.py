"""Does the destination have what the guest's interfaces and consoles are on: bridges, networks, filters, addresses; the same segment?"""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.guest import Interface
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.plan import disks

# A libvirt network of these modes ends at the host: equal names at two hosts are two networks.
PRIVATE = {
    "nat": "a NAT network",
    "route": "a routed network",
    "open": "a network without libvirt's rules",
    "isolated": "an isolated network",
}


def findings(site: Site, options: Options) -> Iterator[Finding]:
    """Each interface: by name, and by whether a frame sent at the source was heard at the destination."""
    new_names = disks.networks(site.guest, options)
    for interface in site.guest.interfaces:
        yield from _interface(site, replace(interface, source=new_names.get(interface.source, interface.source)))
        yield from _filter(site, interface)
    yield from _listens(site)


def _filter(site: Site, interface: Interface) -> Iterator[Finding]:
    """A guest on an interface whose filter is not there does not start."""
    source, name, there = site.source.host, site.destination.host, site.destination.filters
    what = f"network filter {interface.filter} of interface {interface.mac} of guest {site.guest.name}"
    if interface.filter and there is None:
        yield note("filter-not-checked", what, f"libvirt at {name.name} does not say which filters it has", f"look at {name.name}: virsh nwfilter-list")  # fmt: skip
    elif interface.filter and there is not None and interface.filter not in there:
        yield blocker("filter-missing", what, f"libvirt at {name.name} does not have it: the guest could not start there",
                      f"virsh -c {source.uri} nwfilter-dumpxml {interface.filter} >filter.xml; virsh -c {name.uri} nwfilter-define filter.xml; those that it refers to first")  # fmt: skip


_EVERYWHERE = frozenset(("0.0.0.0", "::", "::1", "localhost", "any"))


def _listens(site: Site) -> Iterator[Finding]:
    """Of an address that a host does not have no program can listen, and then no QEMU starts."""
    guest, name, addresses = site.guest, site.destination.host.name, site.ground.addresses
    remedy = f"let it listen on an address of each host's own: <listen type='address' address='0.0.0.0'/>, or '127.0.0.1': virsh edit {guest.name}; then shut it down and start it"
    for address in guest.listens:
        what = f"listen address {address} of guest {guest.name}"
        if address in _EVERYWHERE or address.startswith("127.") or "any" in (addresses or ()):
            continue
        if addresses is None or not _is_address(address):
            yield note(
                "listen-not-checked", what, f"whether {name} has it was not found out", f"look at {name}: ip address"
            )
        elif address not in addresses:
            yield blocker("listen-missing", what, f"{name} does not have it: the guest's QEMU could not listen there, and would not start", remedy)  # fmt: skip
    for network in guest.listen_networks:
        if network not in {one.name for one in site.destination.networks if one.active}:
            yield blocker("listen-missing", f"network {network}, on whose address guest {guest.name} listens", f"{name} does not have it, or not active: the guest could not start there", remedy)  # fmt: skip


def _is_address(text: str) -> bool:
    """Not a name, which may mean another address at each host."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _interface(site: Site, interface: Interface) -> Iterator[Finding]:
    what = f"interface {interface.mac} of guest {site.guest.name}"
    name = site.destination.host.name
    match interface.kind:
        case "bridge":
            if site.ground.bridges is None:
                yield note("bridge-not-checked", what, f"bridge {interface.source} at {name} not checked, because {site.ground.bridges_detail}",
                           f"look at {name}: ip link show type bridge")  # fmt: skip
            elif interface.source not in site.ground.bridges:
                has = ", ".join(site.ground.bridges) or "none"
                yield blocker("bridge-missing", what, f"{name} has no bridge {interface.source} (it has: {has})",
                              f"make a bridge {interface.source} at {name}, on the same network segment; or --map-network {interface.source}=THERE names another")  # fmt: skip
            else:
                yield from _segment(site, interface, interface.source)
        case "network":
            yield from _network(site, interface, what)
        case "direct":
            heard = next((one.heard for one in site.ground.segments if one.device == interface.device), None)
            if heard is None:
                yield warning("direct-interface", what, f"it sits on the host device {interface.source} (macvtap): not checked at {name}",
                              f"make sure {name} has a device {interface.source} on the same segment")  # fmt: skip
            else:
                yield from _segment(site, interface, interface.source)
        case "user":
            yield blocker(
                "user-network",
                what,
                "user-mode networking lives in the source's QEMU: its connections break",
                f"put the interface on a bridge (virsh edit {site.guest.name}), shut the guest down and start it",
            )
        case "hostdev" | "vhostuser" | "vdpa":
            pass  # a device of the host: devices.py
        case _:
            yield warning(
                "interface-kind",
                what,
                f"its kind ({interface.kind or 'none'}) is not checked",
                "try with a guest that may fail",
            )


def _network(site: Site, interface: Interface, what: str) -> Iterator[Finding]:
    destination = site.destination
    name = destination.host.name
    network = next((one for one in destination.networks if one.name == interface.source), None)
    if network is None:
        yield blocker(
            "network-missing",
            what,
            f"{name} has no network {interface.source}",
            f"--map-network {interface.source}=THERE names another; or virsh net-define and net-start it there",
        )
    elif not network.active:
        yield blocker("network-inactive", what, f"network {interface.source} at {name} is not active",
                      f"at {name}: virsh net-start {interface.source}; virsh net-autostart {interface.source}")  # fmt: skip
    elif interface.portgroup and interface.portgroup not in network.portgroups:
        yield blocker("portgroup-missing", what, f"network {network.name} at {name} has no port group {interface.portgroup}: the interface would be without what that one says of VLANs and bandwidth",
                      f"add the <portgroup> that the network has at {site.source.host.name}: virsh net-edit {network.name} at {name}")  # fmt: skip
    elif interface.network_mode in PRIVATE or network.mode in PRIVATE:
        kind = PRIVATE.get(interface.network_mode) or PRIVATE[network.mode]
        yield warning("private-network", what, f"{interface.source} is {kind}, which ends at its host: the guest keeps its address, its connections break",
                      "put the guest on a bridge that both hosts have on one segment")  # fmt: skip
    else:
        yield from _segment(site, interface, network.bridge)


def _segment(site: Site, interface: Interface, expected: str) -> Iterator[Finding]:
    """Equal names prove nothing; a frame that crossed does."""
    source, destination = site.source.host.name, site.destination.host.name
    what = f"segment of interface {interface.mac} of guest {site.guest.name}"
    probe = next((one for one in site.ground.segments if one.device == interface.device), None)
    if probe is None or probe.heard is None:
        why = probe.detail if probe is not None else "no frame was sent"
        yield note("segment-not-checked", what, f"whether {expected} at {destination} is on the segment of {interface.device} at {source} was not looked at, because {why}",
                   "make root's ssh and python3 work at both hosts, or look yourself whether both uplinks are in one network")  # fmt: skip
    elif not probe.heard:
        yield warning("other-segment", what, f"a frame sent from {interface.device} at {source} was not heard at {destination} within a second: another segment, or something filters it",
                      f"look whether {expected} at {destination} has its uplink in the same network (VLAN, cable, switch)")  # fmt: skip
    elif expected not in probe.heard:
        yield warning("other-segment", what, f"a frame sent from {interface.device} at {source} was heard at {destination} on {', '.join(probe.heard)}, not on {expected}",
                      f"put the uplink of that segment into {expected} at {destination}")  # fmt: skip
