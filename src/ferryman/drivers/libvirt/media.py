"""A medium in a drive: taken out, or put back, in the running guest and in its definition."""

from xml.etree import ElementTree

import libvirt

from ferryman.drivers.libvirt.xml import source_of


def put(domain: libvirt.virDomain, target: str, path: str) -> None:
    """Put the medium at `path` into an empty drive, or (path empty) take out what is in it. Done already: nothing happens."""
    flags = 0
    if domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    if domain.isPersistent():
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    for disk in ElementTree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)).findall("devices/disk"):
        drive = disk.find("target")
        if drive is None or drive.get("dev") != target or bool(path) == bool(source_of(disk.find("source"))):
            continue
        for name in ("source", "backingStore"):
            for element in disk.findall(name):
                disk.remove(element)
        if path:
            disk.set("type", "file")
            ElementTree.SubElement(disk, "source", {"file": path})
        domain.updateDeviceFlags(ElementTree.tostring(disk, encoding="unicode"), flags)
