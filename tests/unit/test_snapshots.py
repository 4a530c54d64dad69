"""External snapshots: the files that they name, which of these come along and which cannot, and their definitions at the new places."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from ferryman.assess import assess
from ferryman.drivers.libvirt import snapshots as driver
from ferryman.model.finding import Severity
from ferryman.model.guest import Snapshot, SnapshotFile
from ferryman.model.host import Pool
from ferryman.model.plan import Adaption, Changes, Travel, Volume
from ferryman.model.request import Options
from ferryman.model.site import DiskReach, Reach, Site
from ferryman.model.units import GIB
from ferryman.plan import snapshots
from ferryman.plan.method import plan_for
from tests.unit.sites import with_disk

COLD = Options(cold=True)

DISK = "<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='{file}'/><target dev='{target}' bus='virtio'/></disk>"
MEDIUM = (
    "<disk type='file' device='cdrom'><source file='/iso/old.iso'/><target dev='sda' bus='sata'/><readonly/></disk>"
)


def machine(tag: str, *disks: str) -> str:
    return f"<{tag} type='qemu'><name>web</name><uuid>u</uuid><os><type machine='pc-q35-10.0'>hvm</type></os><devices>{''.join(disks)}</devices></{tag}>"


VDA, VDB = DISK.format(kind="raw", file="/images/web.raw", target="vda"), DISK.format(kind="qcow2", file="/images/data.qcow2", target="vdb")  # fmt: skip
# vda was a raw image when "before" was made; somebody went back to it later, and since then writes to web.again.
BEFORE = f"""<domainsnapshot><name>before</name><state>running</state><memory snapshot='external' file='/saved/before.mem'/>
  <disks>
    <disk name='vda' snapshot='external' type='file'><driver type='qcow2'/><source file='/images/web.before'/></disk>
    <disk name='vdb' snapshot='no'/>
  </disks>
  <revertDisks><disk name='vda' snapshot='external' type='file'><driver type='qcow2'/><source file='/images/web.again'/></disk></revertDisks>
  {machine("domain", VDA, VDB, MEDIUM)}{machine("inactiveDomain", VDA, VDB, MEDIUM)}
</domainsnapshot>"""


def test_the_files_that_a_snapshot_names_are_read_without_media() -> None:
    found = {
        (one.target, one.kind, one.source, one.format) for one in driver.files(Snapshot("before", BEFORE, current=True))
    }
    assert found == {
        ("vda", "file", "/images/web.raw", "raw"),
        ("vdb", "file", "/images/data.qcow2", "qcow2"),
        ("vda", "file", "/images/web.before", "qcow2"),
        ("vda", "file", "/images/web.again", "qcow2"),
        ("", "file", "/saved/before.mem", "raw"),
    }


def test_a_snapshot_names_every_file_by_its_new_place_and_nothing_else_of_it_changes() -> None:
    changes = Changes(
        volumes=(Volume("vda", "p", "web-2.again", "/new/web-2.again"), Volume("vdb", "p", "data.qcow2", "/new/data.qcow2")),
        adaption=Adaption(machine="pc-q35-7.2"),
        paths={"/images/web.raw": "/new/web-2.raw", "/images/web.before": "/new/web-2.before", "/images/web.again": "/new/web-2.again",
               "/images/data.qcow2": "/new/data.qcow2", "/saved/before.mem": "/new/before.mem"},
    )  # fmt: skip
    text = driver.moved(BEFORE, changes)
    wanted = BEFORE
    for old, new in changes.paths.items():
        wanted = wanted.replace(f"'{old}'", f"'{new}'")
    wanted = wanted.replace("pc-q35-10.0", "pc-q35-7.2")
    assert ElementTree.canonicalize(text, strip_text=True) == ElementTree.canonicalize(wanted, strip_text=True)


def test_a_disk_that_had_another_image_back_then_gets_the_copy_of_that_one() -> None:
    """By its target alone it would get the image that it has now, which knows nothing of that snapshot."""
    changes = Changes(volumes=(Volume("vda", "p", "now", "/new/now"),), paths={"/images/web.raw": "/new/web.raw"})
    root = ElementTree.fromstring(driver.moved(BEFORE, changes))
    for name in ("domain", "inactiveDomain"):
        sources = [disk.get("file") for disk in root.findall(f"{name}/devices/disk/source")]
        assert sources == ["/new/web.raw", "/images/data.qcow2", "/iso/old.iso"]


def test_an_internal_one_follows_its_image() -> None:
    xml = f"<domainsnapshot><name>in</name><disks><disk name='vda' snapshot='internal'/></disks>{machine('domain', VDA)}</domainsnapshot>"
    text = driver.moved(xml, Changes(volumes=(Volume("vda", "p", "web-2.raw", "/new/web-2.raw"),)))
    assert "/new/web-2.raw" in text
    assert "/images/" not in text


# Of a site whose disk vda is at the source alone, with a chain of snapshots.

BASE, SIDE, MEMORY = (
    SnapshotFile("one", "vda", "file", "/srv/shared/base.raw", "raw"), SnapshotFile("two", "vda", "file", "/srv/shared/side.qcow2", "qcow2"),
    SnapshotFile("two", "", "file", "/srv/memory/two.mem"),
)  # fmt: skip
NOW = SnapshotFile("two", "vda", "file", "/srv/shared/web.qcow2", "qcow2")


def site(*files: SnapshotFile, reach: Reach = Reach.DIFFERENT, external: tuple[str, ...] = ("one", "two")) -> Site:
    found = with_disk(DiskReach("vda", reach, "looked"), capacity=GIB, allocation=GIB, source=NOW.source, backing=(BASE.source,))  # fmt: skip
    return replace(
        found,
        guest=replace(found.guest, snapshots=("one", "two"), external_snapshots=external, snapshot_files=files),
    )


def codes(where: Site, options: Options = COLD) -> list[str]:
    return sorted(one.code for one in assess(where, options) if one.severity is Severity.BLOCKER)


def test_what_snapshots_keep_comes_along_each_file_once_with_the_whole_chain() -> None:
    there = site(NOW, BASE, BASE, SIDE, NOW, MEMORY)
    assert codes(there) == []
    plan = plan_for(there, COLD)
    assert [one.source for one in plan.snapshot_files] == [BASE.source, SIDE.source, MEMORY.source]
    assert [one.travel for one in plan.new_disks] == [Travel.FILE]
    found = {one.code: one for one in assess(there, COLD)}
    assert "3 files beside them" in found["snapshots-along"].why
    assert "its snapshots are made of them" in found["chain-kept"].why  # without --chain keep


def test_internal_ones_alone_need_no_files_of_their_own() -> None:
    there = site(NOW, BASE, external=())
    assert plan_for(there, COLD).snapshot_files == ()
    assert codes(there) == ["snapshots-stay"]  # its chain would be flattened


def test_snapshots_of_a_disk_that_both_hosts_share_stay_where_they_are_on_the_same_storage() -> None:
    there = site(NOW, BASE, SIDE, replace(MEMORY, source="/srv/shared/two.mem"), reach=Reach.SAME)
    assert codes(there) == []
    assert plan_for(there, COLD).snapshot_files == ()


OBSTACLES = {
    "a file apart from a shared disk": site(replace(SIDE, source="/other/side.qcow2"), reach=Reach.SAME),
    "memory apart from all shared disks": site(MEMORY, reach=Reach.SAME),
    "a device": site(replace(SIDE, kind="block", source="/dev/vg/side")),
    "network storage": site(replace(SIDE, kind="network", source="rbd:pool/side")),
    "a disk that the guest has no more": site(replace(SIDE, target="vdx")),
}


@pytest.mark.parametrize("case", OBSTACLES)
def test_what_could_not_come_along_refuses_with_thing_reason_and_remedy(case: str) -> None:
    (found,) = [one for one in assess(OBSTACLES[case], COLD) if one.severity is Severity.BLOCKER]
    assert found.code == "snapshots-stay"
    (file,) = OBSTACLES[case].guest.snapshot_files
    assert file.source in found.what
    assert file.snapshot in found.what
    assert found.why
    assert "virsh snapshot-delete web" in found.remedy


def test_a_pool_of_logical_volumes_has_no_place_for_files() -> None:
    there = site(replace(NOW, source="/srv/shared/now.raw"), SIDE)
    raw = replace(there.guest.disks[0], format="raw", source="/srv/shared/now.raw")
    logical = Pool("shared", "logical", True, True, "/srv/shared", 100 * GIB)
    there = replace(there, guest=replace(there.guest, disks=(raw,)), destination=replace(there.destination, pools=(logical,)))  # fmt: skip
    assert [why for _, why in snapshots.obstacles(there, COLD)] == ["pool shared at b is of kind logical, which has no files"]  # fmt: skip
