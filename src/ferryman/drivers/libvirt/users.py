"""Who stands upon an image: every guest of a host, also those that are off, their snapshots, and the layers below their images.

Layers are looked up as libvirt's storage sees them, in any directory, whether it is a pool or not.
"""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import libvirt

from ferryman.drivers.libvirt.errors import code
from ferryman.drivers.libvirt.storage import pool_for
from ferryman.drivers.libvirt.xml import backing_of, source_of
from ferryman.model.host import ImageUsers


def users_of(link: libvirt.virConnect, path: str) -> ImageUsers:
    """Those that stand upon the image at that path; and what could not be looked at, so that it may be one of them."""
    named: dict[str, None] = {}
    unknown: dict[str, None] = {}
    with ExitStack() as pools:
        layers = _Layers(link, pools)
        for who, disk in _disks(link):
            images = [layers.place_of(source) for source in disk.iter("source")]  # its own first, then layers it names
            try:
                if path in images or (_may_be_an_overlay(disk) and path in layers.below(images[0])):
                    named[who] = None
            except libvirt.libvirtError as error:
                unknown[f"{images[0]} of {who} ({error})"] = None
    return ImageUsers(tuple(named), tuple(unknown))


def _disks(link: libvirt.virConnect) -> Iterator[tuple[str, Element]]:
    """Each disk that a definition or a snapshot names, with whose it is."""
    for domain in link.listAllDomains():
        who = f"guest {domain.name()}"
        try:
            texts = [(who, domain.XMLDesc(flags)) for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE)]
            texts += [(f"snapshot {one.getName()} of {who}", one.getXMLDesc()) for one in domain.listAllSnapshots()]
        except libvirt.libvirtError as error:
            if code(error) != libvirt.VIR_ERR_NO_DOMAIN:  # gone meanwhile
                raise
            continue
        for whose, text in texts:
            yield from ((whose, disk) for disk in ElementTree.fromstring(text).iter("disk"))


def _may_be_an_overlay(disk: Element) -> bool:
    """Not a raw image, which is libvirt's choice where none is named, a medium, or what lies in no file or device of the host."""
    driver, source = disk.find("driver"), disk.find("source")
    if source is None or source.get("protocol") or disk.get("device") in ("cdrom", "floppy"):
        return False
    return driver is not None and driver.get("type", "raw") != "raw"


class _Layers:
    """Looks up what lies below an image; each directory is read once."""

    def __init__(self, link: libvirt.virConnect, pools: ExitStack) -> None:
        self._link, self._pools = link, pools
        self._read: dict[str, libvirt.virStoragePool] = {}

    def place_of(self, source: Element) -> str:
        """Its path; of a volume of a pool that is not there, and of what is no file or device, its name."""
        if source.get("volume"):
            with suppress(libvirt.libvirtError):
                pool = self._link.storagePoolLookupByName(source.get("pool", ""))
                return str(pool.storageVolLookupByName(source.get("volume", "")).path())
        return source_of(source)

    def below(self, image: str) -> list[str]:
        """The layers below an image. Raises libvirtError where one cannot be looked at."""
        found = [image]
        while (layer := backing_of(self._volume(found[-1]).XMLDesc())) and layer not in found:
            found.append(layer)
            if not layer.startswith("/"):  # network storage
                break
        return found[1:]

    def _volume(self, path: str) -> libvirt.virStorageVol:
        directory = str(PurePosixPath(path).parent)
        if not path.startswith("/") or directory.startswith("/dev"):  # no directory that may be looked through
            return self._link.storageVolLookupByPath(path)
        if directory not in self._read:
            pool, made = pool_for(self._link, directory, f"ferryman-{secrets.token_hex(8)}")
            if made:
                self._pools.callback(pool.destroy)
            pool.refresh(0)
            self._read[directory] = pool
        return self._read[directory].storageVolLookupByName(PurePosixPath(path).name)
