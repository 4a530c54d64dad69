"""Does the destination have the bridges and networks that the guest's interfaces are on?"""

from collections.abc import Iterator
from dataclasses import replace

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.guest import Interface
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.plan import disks


def findings(site: Site, options: Options) -> Iterator[Finding]:
    """One look at each interface, by name; whether the names mean one segment, the probe after the move tells."""
    new_names = disks.networks(site.guest, options)
    for interface in site.guest.interfaces:
        yield from _interface(site, replace(interface, source=new_names.get(interface.source, interface.source)))


def _interface(site: Site, interface: Interface) -> Iterator[Finding]:
    what = f"interface {interface.mac} of guest {site.guest.name}"
    destination = site.destination
    name = destination.host.name
    match interface.kind:
        case "bridge":
            if site.ground.bridges is None:
                yield note("bridge-not-checked", what, f"bridge {interface.source} at {name} not checked, because {site.ground.bridges_detail}",
                           "look with: ip link show type bridge")  # fmt: skip
            elif interface.source not in site.ground.bridges:
                has = ", ".join(site.ground.bridges) or "none"
                yield blocker("bridge-missing", what, f"{name} has no bridge {interface.source} (it has: {has})",
                              f"make a bridge {interface.source} at {name}, on the same network segment")  # fmt: skip
        case "network":
            network = next((one for one in destination.networks if one.name == interface.source), None)
            if network is None:
                yield blocker(
                    "network-missing", what, f"{name} has no network {interface.source}", "virsh net-define it there"
                )
            elif not network.active:
                yield blocker("network-inactive", what, f"network {interface.source} at {name} is not active",
                              f"virsh net-start {interface.source}; virsh net-autostart {interface.source}")  # fmt: skip
        case "direct":
            yield warning("direct-interface", what, f"it sits on the host device {interface.source} (macvtap): not checked at {name}",
                          f"make sure {name} has a device {interface.source} on the same segment")  # fmt: skip
        case "user":
            yield blocker(
                "user-network",
                what,
                "user-mode networking lives in the source's QEMU: its connections break",
                "put the guest on a bridge",
            )
        case "hostdev" | "vhostuser" | "vdpa":
            pass  # a device of the host: machine.py
        case _:
            yield warning(
                "interface-kind",
                what,
                f"its kind ({interface.kind or 'none'}) is not checked",
                "try with a guest that may fail",
            )
