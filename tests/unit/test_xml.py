"""libvirt's XML as real daemons (11.3) wrote it, and the facts that are read from it."""

from pathlib import Path

import pytest

from ferryman.drivers.libvirt import xml
from ferryman.model.guest import HostDevice
from ferryman.model.mark import Mark
from ferryman.model.units import GIB, MIB

DATA = Path(__file__).resolve().parent.parent / "data"


@pytest.fixture(scope="module")
def running() -> xml.Definition:
    return xml.definition((DATA / "running-guest.xml").read_text())


@pytest.fixture(scope="module")
def everything() -> xml.Definition:
    return xml.definition((DATA / "guest-with-everything.xml").read_text())


def test_a_running_guest(running: xml.Definition) -> None:
    assert (running.name, running.uuid) == ("web", "b207adc8-b1f3-42f7-883d-2bf4d308566c")
    assert (running.virtualization, running.architecture, running.machine) == ("qemu", "x86_64", "pc-q35-10.0")
    assert (running.vcpus, running.memory) == (1, 192 * MIB)
    assert running.cpu_mode == "custom"
    assert "lahf_lm" in running.cpu_xml
    assert running.emulator == "/usr/bin/qemu-system-x86_64"
    assert (running.host_devices, running.hugepage_size, running.nvram, running.tpm) == ((), 0, "", "")
    (disk,) = running.disks
    assert (disk.target, disk.kind, disk.source, disk.format, disk.cache) == ("vda", "file", "/srv/shared/web-0.qcow2", "qcow2", "none")  # fmt: skip
    assert disk.backing == ()
    (interface,) = running.interfaces
    assert (interface.kind, interface.source, interface.model, interface.link_up) == ("bridge", "br0", "virtio", True)


def test_memory_firmware_and_tpm(everything: xml.Definition) -> None:
    assert everything.memory == 4 * GIB
    assert everything.hugepage_size == 2 * MIB
    assert everything.nvram.endswith("rich_VARS.fd")
    assert everything.tpm == "emulator"
    assert everything.cpu_mode == "maximum"
    assert everything.title == "everything at once"


def test_every_kind_of_disk(everything: xml.Definition) -> None:
    seen = {disk.target: (disk.device, disk.kind, disk.source) for disk in everything.disks}
    assert seen == {
        "vda": ("disk", "file", "/srv/images/top.qcow2"),
        "vdb": ("disk", "network", "rbd:pool/image@mon1:6789,mon2"),
        "sda": ("lun", "block", "/dev/disk/by-id/wwn-0x5000"),
        "vdc": ("disk", "volume", "shared/data.raw"),
        "sdb": ("cdrom", "file", "/srv/iso/debian.iso"),
        "sdc": ("cdrom", "file", ""),
    }
    disks = {disk.target: disk for disk in everything.disks}
    assert disks["vda"].backing == ("/srv/images/base.qcow2",)
    assert disks["vda"].cache == "writeback"
    assert disks["sda"].shareable
    assert disks["sdb"].read_only
    assert disks["vdc"].pool == "shared"


def test_every_kind_of_interface(everything: xml.Definition) -> None:
    seen = [(one.mac[-2:], one.kind, one.source, one.link_up) for one in everything.interfaces]
    assert seen == [
        ("01", "bridge", "br0", False),
        ("02", "network", "default", True),
        ("03", "direct", "eno1", True),
        ("04", "vhostuser", "/run/vhost.sock", True),
        ("05", "user", "", True),
    ]


def test_every_device_that_cannot_travel(everything: xml.Definition) -> None:
    assert set(everything.host_devices) == {
        HostDevice("pci", "0x0000:0x3b:0x00:0x1"),
        HostDevice("usb", "0x1234:0xbeef"),
        HostDevice("mdev", "c2177883-f1bb-47f0-914d-32a22e3a8804"),
        HostDevice("virtiofs", "/srv/share"),
        HostDevice("vhost-user", "52:54:00:aa:00:04"),
        HostDevice("shmem", "ivshmem0"),
    }


def test_files_of_the_host_that_hold_a_guests_state() -> None:
    text = (
        "<domain><devices><memory model='nvdimm'><source><path>/srv/pmem/web</path></source></memory><memory model='dimm'><target/></memory>"
        "<tpm><backend type='emulator'><source type='dir' path='/srv/tpm/web'/></backend></tpm></devices></domain>"
    )
    assert xml.definition(text).state_files == ("/srv/pmem/web", "/srv/tpm/web")
    assert xml.definition("<domain><devices><tpm><backend type='emulator'/></tpm></devices></domain>").state_files == ()


def test_every_secret_that_the_definition_names() -> None:
    text = (
        "<domain><devices><disk><source><auth><secret type='ceph' usage='ceph-web'/></auth></source><encryption format='luks'>"
        "<secret type='passphrase' uuid='11111111-0000-4000-8000-000000000001'/></encryption></disk><tpm model='tpm-crb'>"
        "<backend type='emulator' version='2.0'><encryption secret='11111111-0000-4000-8000-000000000002'/></backend></tpm></devices></domain>"
    )
    assert xml.definition(text).secrets == (
        "11111111-0000-4000-8000-000000000001",
        "11111111-0000-4000-8000-000000000002",
        "ceph-web",
    )


def test_what_the_destination_must_have_beside_disks_and_networks() -> None:
    text = """<domain><devices>
      <interface type='network'><source network='lan' portgroup='vlan7'/><filterref filter='clean-traffic'><parameter name='IP' value='1'/></filterref></interface>
      <graphics type='vnc' port='-1' listen='192.0.2.1'/>
      <graphics type='spice' listen='192.0.2.2'><listen type='address' address='192.0.2.2'/></graphics>
      <graphics type='vnc' listen='192.168.122.1'><listen type='network' address='192.168.122.1' network='default'/></graphics>
      <graphics type='vnc'><listen type='socket' socket='/run/vnc'/></graphics><graphics type='vnc'><listen type='none'/></graphics>
      <serial type='tcp'><source mode='bind' host='192.0.2.3' service='7777'/></serial>
      <serial type='tcp'><source mode='connect' host='192.0.2.4' service='7777'/></serial>
      <channel type='unix'><source mode='bind' path='/run/agent'/></channel>
      <disk type='file'><source file='/a'><seclabel model='selinux' relabel='no'/></source><target dev='vda'/></disk>
    </devices>
    <seclabel type='dynamic' model='apparmor' relabel='yes'><label>libvirt-1</label><imagelabel>libvirt-1</imagelabel></seclabel>
    <seclabel type='static' model='dac' relabel='yes'><label>+0:+0</label></seclabel><seclabel type='none' model='none'/></domain>"""
    found = xml.definition(text)
    assert (found.interfaces[0].portgroup, found.interfaces[0].filter) == ("vlan7", "clean-traffic")
    assert found.listens == ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    assert found.listen_networks == ("default",)
    assert found.security_models == ("dac", "selinux")
    network = "<network><portgroup name='b'/><portgroup name='a' default='yes'/></network>"
    assert xml.portgroups(network) == ("a", "b")


def test_the_watchdogs_that_do_what_libvirts_own_do(everything: xml.Definition) -> None:
    assert everything.watchdogs == ("itco",)
    text = "<domain><devices><watchdog model='itco' action='pause'/><watchdog model='ib700' action='reset'/></devices></domain>"
    assert xml.definition(text).watchdogs == ("ib700",)


def test_a_disk_that_is_a_part_of_an_image() -> None:
    text = "<domain><devices><disk type='file'><source file='/a'>{}</source>{}<target dev='vda'/></disk></devices></domain>"
    part = "<slices><slice type='storage' offset='0' size='1024'/></slices>"
    below = f"<backingStore type='file'><source file='/b'>{part}</source></backingStore>"
    for source, store, sliced in (("", "", False), (part, "", True), ("", below, True)):
        assert xml.definition(text.format(source, store)).disks[0].sliced is sliced


def test_where_an_interface_leads_out(everything: xml.Definition) -> None:
    assert [one.device for one in everything.interfaces] == [
        "br0",
        "",
        "eno1",
        "",
        "",
    ]  # a network's bridge is in the live XML only
    live = (DATA / "guest-with-everything.xml").read_text().replace("<source network='default'/>", "<source network='default' bridge='virbr0'/>")  # fmt: skip
    assert xml.definition(live).interfaces[1].device == "virbr0"
    assert xml.definition(live).interfaces[1].source == "default"


def test_files_that_the_emulator_opens(running: xml.Definition, everything: xml.Definition) -> None:
    assert (everything.loader, everything.boot_files) == ("/usr/share/OVMF/OVMF_CODE_4M.fd", ())
    assert (running.loader, running.boot_files) == ("", ("/lab/boot/vmlinuz", "/lab/boot/initrd"))


def test_pinning_and_numa_binding() -> None:
    text = (DATA / "guest-with-everything.xml").read_text()
    assert (xml.definition(text).pinned_cpus, xml.definition(text).numa_nodes) == ((), ())
    pinned = text.replace(
        "<vcpu placement='static'>3</vcpu>",
        "<vcpu placement='static' cpuset='0-3,^2'>3</vcpu><cputune><vcpupin vcpu='0' cpuset='7'/><emulatorpin cpuset='9-10'/>"
        "<iothreadpin iothread='1' cpuset='12'/></cputune><numatune><memory mode='strict' nodeset='0-1'/>"
        "<memnode cellid='0' mode='strict' nodeset='3'/></numatune>",
    )
    found = xml.definition(pinned)
    assert (found.vcpus, found.pinned_cpus, found.numa_nodes) == (3, (0, 1, 3, 7, 9, 10, 12), (0, 1, 3))


def test_a_mark_is_read_as_it_was_written_and_another_tools_metadata_are_left_alone(running: xml.Definition) -> None:
    assert running.mark is None
    mark = Mark("1234abcd", 'some "body"@<elsewhere>', 1_000_000.0, 1_002_400.0)
    assert xml.read_mark(xml.mark_text(mark)) == mark
    written = xml.mark_text(mark).replace("<mark", "<ferryman:mark xmlns:ferryman='urn:ferryman:mark'")
    text = (DATA / "running-guest.xml").read_text()
    for metadata, expected in (
        (f"<metadata>{written}</metadata>", mark),
        ("<metadata><other:mark xmlns:other='urn:other' request='1'/></metadata>", None),
        ("<metadata><f:mark xmlns:f='urn:ferryman:mark' since='yesterday'/></metadata>", None),
    ):
        assert xml.definition(text.replace("<os>", f"{metadata}<os>")).mark == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<network><bridge name='virbr0'/><forward mode='nat'/></network>", ("virbr0", "nat")),
        ("<network><bridge name='br0'/><forward mode='bridge'/></network>", ("br0", "bridge")),
        ("<network><bridge name='virbr1'/></network>", ("virbr1", "isolated")),
        ("<network><forward/></network>", ("", "nat")),
    ],
)
def test_a_network_has_a_bridge_and_a_mode(text: str, expected: tuple[str, str]) -> None:
    assert xml.network_bridge(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("<m unit='MiB'>3</m>", 3 * MIB), ("<m>2</m>", 2048), ("<m unit='GB'>1</m>", 10**9), ("<m unit='bytes'>7</m>", 7), ("<m/>", 0)],
)  # fmt: skip
def test_sizes_bear_units(text: str, expected: int) -> None:
    from xml.etree import ElementTree

    assert xml.size(ElementTree.fromstring(text)) == expected


def test_a_lun_is_known_by_its_wwn() -> None:
    device = """<device><name>block_sdb</name><capability type='storage'><block>/dev/sdb</block>
      <serial>3600140</serial><wwn>0x6001405</wwn></capability></device>"""
    assert xml.block_device_wwns(device) == ("/dev/sdb", "0x6001405")
    assert xml.block_device_wwns(device.replace("<wwn>0x6001405</wwn>", "")) == ("/dev/sdb", "3600140")


@pytest.mark.parametrize(
    ("inside", "encrypted"),
    [
        ("<source file='/x'/>", False),
        (
            "<source file='/x'><encryption format='luks'><secret type='passphrase' uuid='u'/></encryption></source>",
            True,
        ),
        ("<source file='/x'/><encryption format='luks'><secret type='passphrase' uuid='u'/></encryption>", True),
    ],
)
def test_an_encrypted_disk_is_known_wherever_libvirt_says_so(inside: str, encrypted: bool) -> None:
    text = f"<domain><devices><disk type='file'>{inside}<target dev='vda'/></disk></devices></domain>"
    assert xml.definition(text).disks[0].encrypted is encrypted
