"""What of a guest's definition is another than in an earlier text: not what a move does to it itself."""

import pytest

from ferryman.drivers.libvirt.likeness import differing

KEPT = """<domain type='kvm'><name>web</name><memory unit='KiB'>1048576</memory><os><type>hvm</type><boot dev='hd'/></os>
  <devices>
    <disk type='file' device='disk'><source file='/srv/web.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><source file='/srv/iso'/><target dev='sda' bus='sata'/><readonly/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/></interface>
  </devices></domain>"""
MARK = "<metadata><ferryman:mark xmlns:ferryman='urn:ferryman:mark' request='r' until='1'/><ferryman:run xmlns:ferryman='urn:ferryman:run' token='r'/></metadata>"
MEDIUM = "<source file='/srv/iso'/>"


def marked(text: str) -> str:
    return text.replace("<name>web</name>", f"<name>web</name>{MARK}")


@pytest.mark.parametrize(
    "now",
    [
        KEPT,
        marked(KEPT),
        marked(KEPT).replace(MEDIUM, ""),
        KEPT.replace("\n", "").replace("  ", ""),
        KEPT.replace("type='file' device='disk'", "device='disk' type='file'"),
    ],
)
def test_what_the_move_does_and_how_it_is_written_makes_no_other_definition(now: str) -> None:
    assert differing(KEPT, now, ("sda",)) == ()


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("1048576", "2097152", ("memory",)),
        ("<boot dev='hd'/>", "<boot dev='network'/>", ("os",)),
        ("br0", "br1", ("interface",)),
        ("</devices>", "<rng model='virtio'/></devices>", ("rng",)),
        ("bus='virtio'", "bus='scsi'", ("disk",)),
        ("type='kvm'", "type='qemu'", ("domain",)),
        ("<name>web</name>", "<name>web</name><metadata><x xmlns='urn:x'>owner</x></metadata>", ("metadata",)),
        ("<name>web</name>", "<name>web</name><vcpu>4</vcpu><title>t</title>", ("title", "vcpu")),
    ],
)
def test_what_somebody_changed_is_named(before: str, after: str, names: tuple[str, ...]) -> None:
    assert differing(KEPT, marked(KEPT).replace(before, after, 1), ("sda",)) == names


def test_a_medium_that_stays_in_its_drive_counts() -> None:
    assert differing(KEPT, KEPT.replace(MEDIUM, "")) == ("disk",)
