"""Who stands upon an image, asked of libvirt's own test driver: guests that are off, what lies below their images, and snapshots."""

from collections.abc import Iterator
from pathlib import PurePosixPath

import libvirt
import pytest

from ferryman.drivers.libvirt.users import users_of
from ferryman.model.host import ImageUsers

BASE = "/images/base.qcow2"
_DOMAIN = """<domain type='test'><name>{name}</name><memory>1000</memory><os><type>hvm</type></os><devices>
  <disk type='file' device='{device}'><driver name='qemu' type='{kind}'/><source file='{image}'/><target dev='vda'/></disk>
</devices></domain>"""


@pytest.fixture
def link() -> Iterator[libvirt.virConnect]:
    opened = libvirt.open("test:///default")
    for directory in ("images", "clones"):
        xml = f"<pool type='dir'><name>{directory}</name><target><path>/{directory}</path></target></pool>"
        opened.storagePoolCreateXML(xml, 0)
    yield opened
    for domain in opened.listAllDomains():
        for snapshot in domain.listAllSnapshots():
            snapshot.delete()
        if domain.name() != "test":
            domain.undefine()
    for name in ("images", "clones"):
        opened.storagePoolLookupByName(name).destroy()
    opened.close()


def image(link: libvirt.virConnect, path: str, below: str = "") -> str:
    layer = f"<backingStore><path>{below}</path></backingStore>" if below else ""
    place = PurePosixPath(path)
    xml = f"<volume><name>{place.name}</name><capacity>1048576</capacity>{layer}</volume>"
    return str(link.storagePoolLookupByName(place.parent.name).createXML(xml, 0).path())


def guest(link: libvirt.virConnect, name: str, on: str, kind: str = "qcow2", device: str = "disk") -> libvirt.virDomain:
    return link.defineXML(_DOMAIN.format(name=name, image=on, kind=kind, device=device))


def test_nobody_stands_upon_what_nobody_names(link: libvirt.virConnect) -> None:
    guest(link, "web", image(link, "/images/other.qcow2"))
    guest(link, "old", "/gone/raw.img", kind="raw")  # a raw image and a medium have nothing below
    guest(link, "live", "/gone/cd.iso", device="cdrom")
    assert users_of(link, image(link, BASE)) == ImageUsers()


def test_a_guest_that_is_off_stands_upon_its_image_and_upon_every_layer_below(link: libvirt.virConnect) -> None:
    base = image(link, BASE)
    middle = image(link, "/clones/middle.qcow2", base)
    guest(link, "web", image(link, "/clones/top.qcow2", middle))
    guest(link, "mail", middle)
    assert users_of(link, base) == ImageUsers(("guest mail", "guest web")) or users_of(link, base) == ImageUsers(("guest web", "guest mail"))  # fmt: skip
    assert "guest web" in users_of(link, middle).named


def test_a_snapshot_stands_upon_the_image_that_its_guest_had_then(link: libvirt.virConnect) -> None:
    base = image(link, BASE)
    domain = guest(link, "web", base)
    domain.snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>", 0)
    guest_now = _DOMAIN.format(name="web", image=image(link, "/images/new.qcow2"), kind="qcow2", device="disk")
    link.defineXML(guest_now.replace("<name>", f"<uuid>{domain.UUIDString()}</uuid><name>", 1))
    assert users_of(link, base) == ImageUsers(("snapshot one of guest web",))


def test_an_image_that_cannot_be_looked_at_is_a_doubt(link: libvirt.virConnect) -> None:
    guest(link, "web", "/images/away.qcow2")
    (unknown,) = users_of(link, image(link, BASE)).unknown
    assert unknown.startswith("/images/away.qcow2 of guest web (")
