"""What libvirt knows of a guest's snapshots: read with everything in it, and made known again where the guest arrives."""

from xml.etree import ElementTree

import libvirt

from ferryman.drivers.libvirt import verbatim
from ferryman.drivers.libvirt.adapt import adapt
from ferryman.model.guest import Snapshot
from ferryman.model.plan import Changes


def read(domain: libvirt.virDomain) -> tuple[Snapshot, ...]:
    """All of them, each after the one it was made upon."""
    found = domain.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL)
    return tuple(
        Snapshot(one.getName(), one.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE), bool(one.isCurrent()))
        for one in found
    )


def is_external(xml: str) -> bool:
    """Whether a part of it lies in files of its own."""
    root = ElementTree.fromstring(xml)
    memory = root.find("memory")
    kinds = [disk.get("snapshot") for disk in root.findall("disks/disk")]
    return "external" in kinds or (memory is not None and memory.get("snapshot") == "external")


def make_known(domain: libvirt.virDomain, snapshots: tuple[Snapshot, ...], changes: Changes) -> None:
    """Tell libvirt of snapshots whose data are in the images already. Those that it knows are left alone."""
    known = set(domain.snapshotListNames())
    for one in snapshots:
        if one.name in known:
            continue
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
        if one.current:
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
        domain.snapshotCreateXML(_moved(one.xml, changes), flags)


def _moved(xml: str, changes: Changes) -> str:
    """The guest's definition inside of it names disks too."""
    document = verbatim.read(xml)
    for name in ("domain", "inactiveDomain"):
        inner = document.root.find(name)
        if inner is not None:
            adapt(inner, changes)
    return verbatim.write(document)
