"""A guest that is moved stopped is looked at as it is defined: what was plugged in live ends with the stop. By libvirt's test driver."""

from collections.abc import Iterator

import libvirt
import pytest

from ferryman.drivers.libvirt import inventory, xml
from ferryman.model.guest import Guest, Unlike
from tests.unit.sites import UUID

DOMAIN = f"""<domain type='test'><name>web</name><uuid>{UUID}</uuid><memory>{{memory}}</memory><os><type>hvm</type></os><devices>
  {{devices}}
</devices></domain>"""
BOTH = """<disk type='file' device='disk'><source file='/srv/a.raw'/><target dev='vda'/></disk>
  <interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:01'/></interface>
  <disk type='file' device='cdrom'><target dev='hdc'/></disk>"""
LIVE = """<disk type='file' device='disk'><source file='/srv/live.raw'/><target dev='vdb'/></disk>
  <interface type='bridge'><source bridge='br1'/><mac address='52:54:00:00:00:02'/></interface>"""
DEFINED = """<disk type='volume' device='disk'><source pool='default-pool' volume='later'/><target dev='vdc'/></disk>
  <interface type='network'><source network='default'/><mac address='52:54:00:00:00:03'/></interface>"""


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[libvirt.virConnect]:
    """A guest that runs with one disk and one interface more than it is defined with, and is defined with another of each."""
    monkeypatch.setattr(inventory, "job_of", lambda _: "")  # the test driver has no jobs
    monkeypatch.setattr(inventory, "_block_jobs", lambda *_: ())
    opened = libvirt.open("test:///default")
    pool = opened.storagePoolLookupByName("default-pool")
    volume = pool.createXML("<volume><name>later</name><capacity>1048576</capacity></volume>", 0)
    domain = opened.defineXML(DOMAIN.format(memory=2000, devices=BOTH + LIVE))
    domain.create()
    opened.defineXML(DOMAIN.format(memory=1000, devices=BOTH + DEFINED))
    yield opened
    domain.destroy()
    domain.undefine()
    volume.delete(0)
    opened.close()


def looked_at(link: libvirt.virConnect, *, as_defined: bool) -> Guest:
    found = inventory.guest(link, "a", UUID, as_defined=as_defined)
    assert found is not None
    return found


def test_what_starts_elsewhere_is_the_definition(link: libvirt.virConnect) -> None:
    guest = looked_at(link, as_defined=True)
    assert [one.source for one in guest.disks] == ["/srv/a.raw", "", "/default-pool/later"]
    assert [one.mac[-2:] for one in guest.interfaces] == ["01", "03"]
    assert guest.disks[2].capacity == 1048576  # no running guest has it open: it is looked at by itself
    assert guest.runs
    assert guest.memory == 1000 * 1024
    assert set(guest.unlike) == {
        Unlike("disk", "vdb", "/srv/live.raw", ""),
        Unlike("disk", "vdc", "", "default-pool/later"),
        Unlike("interface", "52:54:00:00:00:02", "bridge br1", ""),
        Unlike("interface", "52:54:00:00:00:03", "", "network default"),
    }


def test_a_guest_that_moves_while_it_runs_is_what_runs(link: libvirt.virConnect) -> None:
    guest = looked_at(link, as_defined=False)
    assert [one.source for one in guest.disks] == ["/srv/a.raw", "/srv/live.raw", ""]
    assert (guest.unlike, guest.memory) == ((), 2000 * 1024)


def test_host_devices_are_told_apart_by_how_many_there_are_of_a_kind() -> None:
    """A USB device that is defined by its product has an address while it runs."""
    usb = "<hostdev type='usb'><source><vendor id='0x1'/><product id='0x2'/>{}</source></hostdev>"
    running = DOMAIN.format(memory=1, devices=usb.format("<address bus='1' device='5'/>"))
    defined = DOMAIN.format(memory=1, devices=usb.format(""))
    assert xml.unlike(xml.definition(running), xml.definition(defined)) == ()
    none = DOMAIN.format(memory=1, devices="")
    assert xml.unlike(xml.definition(running), xml.definition(none)) == (Unlike("usb", "1:5", "1:5", ""),)
    assert xml.unlike(xml.definition(none), xml.definition(defined)) == (Unlike("usb", "0x1:0x2", "", "0x1:0x2"),)


def test_a_disk_that_was_copied_live_to_another_image_is_unlike_its_definition() -> None:
    one, other = (DOMAIN.format(memory=1, devices=BOTH.replace("/srv/a.raw", path)) for path in ("/new", "/old"))
    assert xml.unlike(xml.definition(one), xml.definition(other)) == (Unlike("disk", "vda", "/new", "/old"),)


def test_a_definition_alone_tells_what_its_host_must_have() -> None:
    devices = "<graphics type='vnc'><listen type='address' address='192.0.2.7'/></graphics><graphics type='vnc'><listen type='network' network='lan'/></graphics>"
    text = DOMAIN.format(memory=1, devices=devices).replace("<os>", "<vcpu cpuset='3'>1</vcpu><os><kernel>/boot/vmlinuz</kernel><loader>/code.fd</loader>")  # fmt: skip
    found = inventory.described("a", text)
    assert (found.boot_files, found.loader, found.pinned_cpus) == (("/boot/vmlinuz",), "/code.fd", (3,))
    assert (found.listens, found.listen_networks) == (("192.0.2.7",), ("lan",))
