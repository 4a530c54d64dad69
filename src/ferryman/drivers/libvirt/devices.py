"""What a host has that libvirt shows only in places: bridges, and which disk is which LUN."""

import libvirt

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.drivers.libvirt import xml
from ferryman.model.host import Host


def bridges(link: libvirt.virConnect, host: Host) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """(names of the host's bridges, what was not looked at): by libvirt's interface driver, else over ssh."""
    try:
        interfaces = link.listAllInterfaces(libvirt.VIR_CONNECT_LIST_INTERFACES_ACTIVE)
        return tuple(sorted(one.name() for one in interfaces if 'type="bridge"' in one.XMLDesc().replace("'", '"'))), ()
    except libvirt.libvirtError:
        pass  # the interface driver is a package of its own and often absent
    try:
        answer = ssh.run(host, ["sh", "-c", "ls -d /sys/class/net/*/bridge"])
    except errors.DriverError as error:
        return None, (f"bridges, because libvirt has no interface driver there and ssh failed: {error.why}",)
    return tuple(sorted(line.split("/")[4] for line in answer.out.split() if line.count("/") > 4)), ()


def wwn(link: libvirt.virConnect, device: str) -> str:
    """The WWN (or serial) of the LUN behind a block device path; empty when libvirt does not know it."""
    for node in link.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_STORAGE):
        path, name = xml.block_device_wwns(node.XMLDesc())
        if path == device:
            return name
    return ""
