"""A medium in a drive: taken out, or put back, in the running guest and in its definition, which may have another one."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt

from ferryman.drivers.libvirt.xml import source_of

_LIVE, _CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG


def read(domain: libvirt.virDomain, target: str) -> tuple[str, str]:
    """The drive as the running guest has it and as its definition has it (XML); empty where no medium is in it."""
    return _text(_drive(domain, target, _LIVE)), _text(_drive(domain, target, _CONFIG))


def eject(domain: libvirt.virDomain, target: str) -> None:
    """Take out what is in the drive. Another medium, which the definition has for the next start, stays there.

    The definition goes first: while the drive has the medium still, this can be done again from the beginning.
    """
    live, config = _drive(domain, target, _LIVE), _drive(domain, target, _CONFIG)
    if domain.isActive():
        if live is None:
            return
        if config is not None and source_of(config.find("source")) != source_of(live.find("source")):
            config = None
    if config is not None:
        domain.updateDeviceFlags(_text(_emptied(config)), _CONFIG)
    if live is not None:
        domain.updateDeviceFlags(_text(_emptied(live)), _LIVE)


def insert(domain: libvirt.virDomain, target: str, live: str, config: str) -> None:
    """Put back what `read` told, unless something is in the drive."""
    for text, flag in ((config, _CONFIG), (live, _LIVE)):
        if text and _has(domain, flag) and _drive(domain, target, flag) is None:
            domain.updateDeviceFlags(text, flag)


def _has(domain: libvirt.virDomain, flag: int) -> bool:
    return bool(domain.isActive() if flag == _LIVE else domain.isPersistent())


def _drive(domain: libvirt.virDomain, target: str, flag: int) -> Element | None:
    """The drive with its medium; None when there is none in it, or no such drive."""
    if not _has(domain, flag):
        return None
    text = domain.XMLDesc(0 if flag == _LIVE else libvirt.VIR_DOMAIN_XML_INACTIVE)
    for disk in ElementTree.fromstring(text).findall("devices/disk"):
        drive, source = disk.find("target"), disk.find("source")
        if drive is None or drive.get("dev") != target or source is None or not source_of(source):
            continue
        source.attrib.pop("index", None)  # libvirt numbers the images of a running guest itself
        for layer in disk.findall("backingStore"):
            disk.remove(layer)
        return disk
    return None


def _emptied(disk: Element) -> Element:
    for source in disk.findall("source"):
        disk.remove(source)
    disk.set("type", "file")  # of an empty drive; a volume without a pool is none
    return disk


def _text(disk: Element | None) -> str:
    return "" if disk is None else ElementTree.tostring(disk, encoding="unicode").strip()
