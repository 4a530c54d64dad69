"""What libvirt knows of a host's devices, where it has the drivers for it: bridges, and which disk is which LUN."""

import libvirt

from ferryman.drivers.libvirt import xml


def bridges_of(link: libvirt.virConnect) -> tuple[str, ...]:
    """Names of the active bridges, by libvirt's interface driver (a package of its own, often absent: then it raises)."""
    interfaces = link.listAllInterfaces(libvirt.VIR_CONNECT_LIST_INTERFACES_ACTIVE)
    return tuple(sorted(one.name() for one in interfaces if xml.interface_kind(one.XMLDesc()) == "bridge"))


def wwn(link: libvirt.virConnect, device: str) -> str:
    """The WWN (or serial) of the LUN behind a block device path; empty when libvirt does not know it."""
    for node in link.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_STORAGE):
        path, name = xml.block_device_wwns(node.XMLDesc())
        if path == device:
            return name
    return ""
