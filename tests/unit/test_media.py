"""A medium is taken out and put back as it was: the running guest's and the definition's, which may be another one."""

from typing import cast
from xml.etree import ElementTree

import libvirt
import pytest

from ferryman.drivers.libvirt import media
from ferryman.drivers.libvirt.xml import source_of

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
DRIVER, TARGET = "<driver name='qemu' type='raw'/>", "<target dev='sda' bus='scsi'/><readonly/>"
TOOLS = f"<disk type='file' device='cdrom'>{DRIVER}<source file='/iso/tools.iso' startupPolicy='optional'{{index}}/>{{layers}}{TARGET}</disk>"
NOW = TOOLS.format(index=" index='3'", layers="<backingStore/>")
SAME = TOOLS.format(index="", layers="")
NEXT = f"<disk type='volume' device='cdrom'>{DRIVER}<source pool='isos' volume='rescue.iso' startupPolicy='requisite'/>{TARGET}</disk>"
EMPTY = f"<disk type='file' device='cdrom'>{DRIVER}{TARGET}</disk>"


class Drive:
    """A domain with one drive; it takes another element for it as libvirt does, live or in its definition."""

    def __init__(self, live: str, config: str) -> None:
        self.drives = {LIVE: live, CONFIG: config}
        self.calls: list[int] = []
        self.dies_after = 99

    def isActive(self) -> int:  # noqa: N802 (libvirt's)
        return int(bool(self.drives[LIVE]))

    def isPersistent(self) -> int:  # noqa: N802 (libvirt's)
        return int(bool(self.drives[CONFIG]))

    def XMLDesc(self, flags: int) -> str:  # noqa: N802 (libvirt's)
        kind = CONFIG if flags & libvirt.VIR_DOMAIN_XML_INACTIVE or not self.drives[LIVE] else LIVE
        return f"<domain><devices>{self.drives[kind]}</devices></domain>"

    def updateDeviceFlags(self, xml: str, flags: int) -> None:  # noqa: N802 (libvirt's)
        if len(self.calls) >= self.dies_after:
            raise KeyboardInterrupt
        self.calls.append(flags)
        self.drives[flags] = xml

    def told(self, kind: int) -> tuple[str, str, str]:
        """The disk's type, what is in it, and its startup policy."""
        disk = ElementTree.fromstring(self.drives[kind])
        source = disk.find("source")
        return disk.get("type", ""), source_of(source), "" if source is None else source.get("startupPolicy", "")


def domain(drive: Drive) -> libvirt.virDomain:
    return cast("libvirt.virDomain", drive)


IN_TOOLS, IN_NEXT, NOTHING = (
    ("file", "/iso/tools.iso", "optional"),
    ("volume", "isos/rescue.iso", "requisite"),
    ("file", "", ""),
)


@pytest.mark.parametrize(
    ("config", "before", "ejected"),
    [(SAME, IN_TOOLS, NOTHING), (NEXT, IN_NEXT, IN_NEXT), (EMPTY, NOTHING, NOTHING)],
    ids=["the same one", "another one for the next start", "none"],
)
def test_taken_out_and_put_back_as_it_was(
    config: str, before: tuple[str, str, str], ejected: tuple[str, str, str]
) -> None:
    drive = Drive(NOW, config)
    live, kept = media.read(domain(drive), "sda")
    media.eject(domain(drive), "sda")
    assert (drive.told(LIVE), drive.told(CONFIG)) == (NOTHING, ejected)
    media.insert(domain(drive), "sda", live, kept)
    assert (drive.told(LIVE), drive.told(CONFIG)) == (IN_TOOLS, before)
    assert "index=" not in drive.drives[LIVE]
    calls = len(drive.calls)
    media.insert(domain(drive), "sda", live, kept)  # run again after a crash
    assert len(drive.calls) == calls


def test_a_crash_between_the_two_is_mended_by_doing_it_again() -> None:
    drive = Drive(NOW, SAME)
    drive.dies_after = 1
    with pytest.raises(KeyboardInterrupt):
        media.eject(domain(drive), "sda")
    drive.dies_after = 99
    media.eject(domain(drive), "sda")
    media.eject(domain(drive), "sda")
    assert (drive.told(LIVE), drive.told(CONFIG)) == (NOTHING, NOTHING)
    assert drive.calls == [CONFIG, LIVE]


def test_a_volume_leaves_an_empty_drive_of_a_guest_that_is_off() -> None:
    drive = Drive("", NEXT)
    live, kept = media.read(domain(drive), "sda")
    assert live == ""
    media.eject(domain(drive), "sda")
    assert drive.told(CONFIG) == NOTHING
    media.insert(domain(drive), "sda", live, kept)
    assert drive.told(CONFIG) == IN_NEXT


def test_what_somebody_put_in_meanwhile_stays() -> None:
    drive = Drive(NOW, SAME)
    live, kept = media.read(domain(drive), "sda")
    media.eject(domain(drive), "sda")
    drive.drives[LIVE] = NEXT
    media.insert(domain(drive), "sda", live, kept)
    assert (drive.told(LIVE), drive.told(CONFIG)) == (IN_NEXT, IN_TOOLS)
