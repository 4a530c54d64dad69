"""What libvirt knows of a guest's snapshots: read with everything in it, and made known again where the guest arrives."""

from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt

from ferryman import errors
from ferryman.drivers.libvirt import verbatim
from ferryman.drivers.libvirt.adapt import adapt
from ferryman.drivers.libvirt.xml import definition, source_of
from ferryman.model.guest import Snapshot, SnapshotFile
from ferryman.model.plan import Changes, Volume

_DEFINITIONS = ("domain", "inactiveDomain")  # as the guest was: what it had live, and what it was defined as
_OVERLAYS = ("disks/disk", "revertDisks/disk")  # what was written from then on, and since somebody went back to it
_SECURE = libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE


def read(domain: libvirt.virDomain) -> tuple[Snapshot, ...]:
    """All of them, each after the one it was made upon."""
    found = domain.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL)
    return tuple(Snapshot(one.getName(), one.getXMLDesc(_SECURE), bool(one.isCurrent())) for one in found)


def is_external(xml: str) -> bool:
    """Whether a part of it lies in files of its own."""
    root = ElementTree.fromstring(xml)
    memory = root.find("memory")
    kinds = [disk.get("snapshot") for disk in root.findall("disks/disk")]
    return "external" in kinds or (memory is not None and memory.get("snapshot") == "external")


def files(snapshot: Snapshot) -> Iterator[SnapshotFile]:
    """The images that it names, those of its own definitions among them, and its saved memory. Media are not of it."""
    root = ElementTree.fromstring(snapshot.xml)
    for text in _definitions(root):
        for disk in definition(text).disks:
            if disk.source and disk.device in ("disk", "lun"):
                yield SnapshotFile(snapshot.name, disk.target, disk.kind, disk.source, disk.format)
    for overlay in _overlays(root):
        if source := source_of(overlay.find("source")):
            driver, kind = overlay.find("driver"), overlay.get("type", "file")
            form = (
                "qcow2" if driver is None else driver.get("type", "qcow2")
            )  # libvirt's own choice where none is named
            yield SnapshotFile(snapshot.name, overlay.get("name", ""), kind, source, form)
    if path := _memory_file(root):
        yield SnapshotFile(snapshot.name, "", "file", path)


def make_known(domain: libvirt.virDomain, snapshots: tuple[Snapshot, ...], changes: Changes) -> None:
    """Tell libvirt of snapshots whose data are in the images already. Those that it knows are left alone.

    Raises errors.DriverError when it keeps less than it was told: going back to one would then remove the wrong files.
    """
    known = set(domain.snapshotListNames())
    for one in snapshots:
        if one.name in known:
            continue
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
        if one.current:
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
        text = moved(one.xml, changes)
        kept = domain.snapshotCreateXML(text, flags).getXMLDesc(_SECURE)
        if lost := sorted(_paths(text) - _paths(kept)):
            raise errors.DriverError(f"snapshot {one.name} of guest {domain.name()}", f"libvirt there does not keep that {', '.join(lost)} belongs to it",
                                     f"it is too old for that snapshot: virsh snapshot-delete {domain.name()} {one.name} at the source, or a newer libvirt")  # fmt: skip


def moved(xml: str, changes: Changes) -> str:
    """A snapshot with its files at their new places, and the guest's definitions inside of it adapted."""
    document = verbatim.read(xml)
    root = document.root
    for name in _DEFINITIONS:
        inner = root.find(name)
        if inner is not None:
            adapt(inner, replace(changes, volumes=_volumes(inner, changes)))
    for overlay in _overlays(root):
        source = overlay.find("source")
        if source is not None and source.get("file") in changes.paths:
            source.set("file", changes.paths[source.get("file", "")])
    memory = root.find("memory")
    if memory is not None and memory.get("file") in changes.paths:
        memory.set("file", changes.paths[memory.get("file", "")])
    return verbatim.write(document)


def _volumes(inner: Element, changes: Changes) -> tuple[Volume, ...]:
    """A disk of back then may have had another image than now: the copy of that one, where one was made."""
    volumes = {volume.target: volume for volume in changes.volumes}
    for disk in inner.findall("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        if source is not None and target is not None and source.get("file") in changes.paths:
            name, path = target.get("dev", ""), changes.paths[source.get("file", "")]
            if name not in volumes or volumes[name].path != path:
                volumes[name] = Volume(name, "", "", path)
    return tuple(volumes.values())


def _definitions(root: Element) -> Iterator[str]:
    for name in _DEFINITIONS:
        inner = root.find(name)
        if inner is not None and inner.find("devices") is not None:  # of a very old one there is a UUID alone
            inner.tag = "domain"
            yield ElementTree.tostring(inner, encoding="unicode")
            inner.tag = name


def _overlays(root: Element) -> list[Element]:
    return [overlay for path in _OVERLAYS for overlay in root.findall(path) if overlay.get("snapshot") == "external"]


def _memory_file(root: Element) -> str:
    memory = root.find("memory")
    return "" if memory is None else memory.get("file", "")


def _paths(xml: str) -> set[str]:
    root = ElementTree.fromstring(xml)
    named = {source_of(overlay.find("source")) for overlay in _overlays(root)}
    inside = {disk.source for text in _definitions(root) for disk in definition(text).disks}
    return {*named, *inside, _memory_file(root)} - {""}
