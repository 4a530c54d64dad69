"""Where copied disks go, by which name, and how the definition and the bandwidth follow."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ferryman.assess import assess, volumes
from ferryman.drivers.libvirt.adapt import adapted
from ferryman.model.finding import Severity
from ferryman.model.guest import Disk, State
from ferryman.model.host import Pool
from ferryman.model.plan import Changes, Travel, Volume
from ferryman.model.request import Chain, CopyStorage, Format, Options
from ferryman.model.site import DiskReach, Reach, Site
from ferryman.model.units import GIB, MIB
from ferryman.plan import disks
from ferryman.plan.bandwidth import Stage, shares
from ferryman.plan.steps import live_plan
from tests.unit.sites import good_site, host_facts

DATA = Path(__file__).resolve().parent.parent / "data"
SHARED = Disk("vda", "disk", "file", "/srv/shared/web.qcow2", "qcow2", "none", False, False, 10 * GIB, GIB)
LOCAL = Disk("vdb", "disk", "file", "/var/images/data.raw", "raw", "none", False, False, 20 * GIB, 5 * GIB)
ISO = Disk("sda", "cdrom", "file", "/var/images/debian.iso", "raw", "", True, False, GIB, GIB)


def pools(name: str) -> tuple[Pool, ...]:
    return (
        *host_facts(name).pools,
        Pool("default", "dir", True, True, "/var/images", 100 * GIB),
        Pool("fast", "dir", True, True, "/srv/fast", 100 * GIB),
        Pool("volumes", "logical", True, True, "/dev/vg", 100 * GIB),
        Pool("asleep", "dir", False, True, "/srv/asleep", 0),
    )


def site(**volumes: tuple[str, ...]) -> Site:
    good = good_site()
    reach = (
        DiskReach("vda", Reach.SAME, "seen", True),
        DiskReach("vdb", Reach.DIFFERENT, "not seen", False),
        DiskReach("sda", Reach.DIFFERENT, "not seen", False),
    )
    return replace(
        good,
        guest=replace(good.guest, disks=(SHARED, LOCAL, ISO)),
        source=replace(good.source, pools=pools("a")),
        destination=replace(good.destination, pools=pools("b")),
        ground=replace(good.ground, disks=reach, volumes=volumes),
    )


def test_only_what_is_not_shared_is_copied() -> None:
    assert [disk.target for disk in disks.to_copy(site(), Options())] == ["vdb", "sda"]
    assert [disk.target for disk in disks.to_copy(site(), Options(eject=True))] == ["vdb"]
    assert disks.to_copy(site(), Options(copy_storage=CopyStorage.NEVER)) == ()
    assert [disk.target for disk in disks.to_copy(site(), Options(copy_storage=CopyStorage.ALL))] == [
        "vda",
        "vdb",
        "sda",
    ]


@pytest.mark.parametrize("kind", ["network", "nvme", "volume"])
def test_what_all_disks_should_mean_and_cannot_be_copied_refuses(kind: str) -> None:
    there = site()
    there = replace(
        there, guest=replace(there.guest, disks=(replace(SHARED, kind=kind, source="rbd:pool/web@ceph"), LOCAL))
    )
    for cold in (True, False):
        told = {one.code: one for one in assess(there, Options(copy_storage=CopyStorage.ALL, cold=cold))}
        assert told["copy-impossible"].severity is Severity.BLOCKER
        assert "vda" in told["copy-impossible"].what
        assert "copy-impossible" not in {one.code for one in assess(there, Options(cold=cold))}


def test_a_device_that_nothing_proves_may_be_copied_and_that_is_the_remedy() -> None:
    unproved = DiskReach("vda", Reach.UNPROVED, "libvirt knows no WWN of /dev/vg/web at the source")
    there = replace(
        site(), guest=replace(site().guest, disks=(replace(SHARED, kind="block", source="/dev/vg/web", format="raw"),))
    )
    there = replace(there, ground=replace(there.ground, disks=(unproved,)))
    (told,) = [one for one in assess(there, Options()) if one.code == "disk-unproved"]
    assert "--copy-storage all" in told.remedy
    assert "pool" not in told.remedy
    options = Options(cold=True, copy_storage=CopyStorage.ALL, map_pool={"/dev/vg": "fast"})
    assert not [one.code for one in assess(there, options) if one.severity is Severity.BLOCKER]
    assert [one.pool for one in disks.new_disks(there, options)] == ["fast"]


def test_room_is_what_was_seen_now_not_what_libvirt_remembers() -> None:
    full = site()
    full = replace(full, ground=replace(full.ground, room={"default": MIB}))
    assert "no-room" in {finding.code for finding in volumes.findings(full, Options())}
    freed = replace(full, ground=replace(full.ground, room={"default": 500 * GIB}))
    assert not {"no-room", "room-tight"} & {finding.code for finding in volumes.findings(freed, Options())}


def test_a_logical_volume_needs_all_its_room() -> None:
    options = Options(map_pool={"default": "volumes"}, eject=True)
    there = replace(site(), ground=replace(site().ground, room={"volumes": 10 * GIB}))
    there = replace(
        there, destination=replace(there.destination, qemu_version=(10, 2, 0))
    )  # which leaves raw files sparse
    assert {"no-room", "raw-allocated"} <= {finding.code for finding in volumes.findings(there, options)}


def test_a_copy_has_the_originals_size_format_pool_and_name() -> None:
    data, iso = disks.new_disks(site(), Options())
    assert (data.pool, data.name, data.format, data.capacity, data.travel) == (
        "default",
        "data.raw",
        "raw",
        20 * GIB,
        Travel.MIRROR,
    )
    assert (iso.pool, iso.name, iso.travel) == ("default", "debian.iso", Travel.MEDIUM)


@pytest.mark.parametrize(
    ("mapped", "pool", "lacking"),
    [
        ({"default": "fast"}, "fast", ""),
        ({"/var/images": "fast"}, "fast", ""),
        ({"default": "nowhere"}, None, "no pool nowhere"),
        ({"default": "asleep"}, None, "not active"),
        ({"default": "volumes"}, "volumes", ""),
    ],
)
def test_a_pool_is_mapped_by_name_or_directory(mapped: dict[str, str], pool: str | None, lacking: str) -> None:
    placed = disks.placement(LOCAL, site(), Options(map_pool=mapped))
    assert (placed.pool.name if placed.pool else None) == pool
    assert lacking in placed.lacking


def test_a_format_that_a_pool_cannot_hold_is_said() -> None:
    placed = disks.placement(replace(LOCAL, format="qcow2"), site(), Options(map_pool={"default": "volumes"}))
    assert placed.pool is None
    assert "raw volumes, not qcow2" in placed.lacking


@pytest.mark.parametrize(
    ("name", "taken", "free"),
    [
        ("web.qcow2", (), "web.qcow2"),
        ("web.qcow2", ("web.qcow2",), "web-2.qcow2"),
        ("web.qcow2", ("web.qcow2", "web-2.qcow2"), "web-3.qcow2"),
        ("web-2.qcow2", ("web.qcow2", "web-2.qcow2"), "web-3.qcow2"),
        ("web-2.qcow2", ("web-2.qcow2",), "web-2-2.qcow2"),
        ("disk", ("disk",), "disk-2"),
    ],
)
def test_names_are_free_and_do_not_grow(name: str, taken: tuple[str, ...], free: str) -> None:
    assert disks.free_name(name, taken) == free


def test_two_disks_of_one_name_get_two_names() -> None:
    twins = replace(LOCAL, target="vdc", source="/srv/other/data.raw", pool="default")
    there = site(default=("data.raw",))
    there = replace(
        there,
        guest=replace(there.guest, disks=(LOCAL, twins)),
        ground=replace(
            there.ground, disks=(DiskReach("vdb", Reach.DIFFERENT, ""), DiskReach("vdc", Reach.DIFFERENT, ""))
        ),
    )
    assert [disk.name for disk in disks.new_disks(there, Options())] == ["data-2.raw", "data-3.raw"]


def test_the_plan_names_what_is_made_and_how_it_is_taken_back() -> None:
    plan = live_plan(site(), Options(retire=True))
    made = [step for step in plan.steps if step.name == "make-volumes"]
    assert [("data.raw" in step.does, step.undo) for step in made] == [
        (True, "remove it again"),
        (False, "remove it again"),
    ]
    assert [step.name for step in plan.steps][-1] == "retire"
    assert plan.steps[-1].past_return


def test_a_definition_follows_its_disks_and_networks_and_else_stays_as_it_is() -> None:
    before = (DATA / "guest-with-everything.xml").read_text()
    volumes = (
        Volume("vda", "default", "top-2.qcow2", "/var/images/top-2.qcow2"),
        Volume("vdc", "fast", "data.raw", "/srv/fast/data.raw"),
        Volume("sda", "volumes", "lun", "/dev/vg/lun"),
    )
    old, new = ElementTree.fromstring(before), ElementTree.fromstring(adapted(before, Changes(volumes, {"br0": "br7"})))
    disk = {one.find("target").get("dev"): one for one in new.findall("devices/disk")}  # type: ignore[union-attr]
    assert disk["vda"].find("source").attrib == {"file": "/var/images/top-2.qcow2"}  # type: ignore[union-attr]
    assert disk["vda"].find("backingStore") is None
    assert disk["vdc"].find("source").attrib == {"pool": "fast", "volume": "data.raw"}  # type: ignore[union-attr]
    assert (disk["sda"].get("type"), disk["sda"].find("source").attrib) == ("block", {"dev": "/dev/vg/lun"})  # type: ignore[union-attr]
    disk = {volume.target: disk[volume.target] for volume in volumes}
    for tree in (old, new):
        devices = tree.find("devices")
        assert devices is not None
        for kind in ("disk", "interface"):
            for element in tree.findall(f"devices/{kind}"):
                if kind == "interface" or str(element.find("target").get("dev")) in disk:  # type: ignore[union-attr]
                    devices.remove(element)
    assert ElementTree.canonicalize(ElementTree.tostring(old)) == ElementTree.canonicalize(ElementTree.tostring(new))


def test_without_changes_a_definition_is_not_touched() -> None:
    assert adapted("<domain  />", Changes()) == "<domain  />"


@pytest.mark.parametrize("mirrors", [1, 2, 5])
def test_shares_stay_below_the_cap(mirrors: int) -> None:
    first = shares(100 * MIB, mirrors, Stage.DISKS)
    assert first.each_mirror * mirrors <= 100 * MIB
    later = shares(100 * MIB, mirrors, Stage.MEMORY)
    assert later.each_mirror * mirrors + later.memory <= 100 * MIB
    assert later.each_mirror > 0


@pytest.mark.parametrize(
    ("pool", "why", "remedy"),
    [
        (None, "has no pool of that name", "pool-dumpxml shared"),
        (Pool("shared", "dir", False, True, "/srv/shared", 0), "not active at b", "pool-start shared"),
        (Pool("shared", "dir", True, True, "/srv/other", 0), "is /srv/other, here it is /srv/shared", "of one path"),
    ],
)
@pytest.mark.parametrize("state", [State.RUNNING, State.SHUT_OFF])
def test_a_shared_disk_that_is_named_by_its_pool_needs_that_pool(
    pool: Pool | None, why: str, remedy: str, state: State
) -> None:
    good = good_site()
    assert assess(good, Options()) == ()
    disk = replace(good.guest.disks[0], pool="shared")
    here = replace(good, guest=replace(good.guest, disks=(disk,), state=state))
    assert assess(here, Options()) == ()
    (found,) = assess(replace(here, destination=replace(here.destination, pools=(pool,) if pool else ())), Options())
    assert (found.code, found.severity) == ("pool-missing", Severity.BLOCKER)
    assert why in found.why
    assert remedy in found.remedy


def test_a_copied_disk_needs_no_pool_of_its_own_name() -> None:
    """Its definition is changed for the pool that it is copied to."""
    here = site()
    named = replace(LOCAL, pool="nowhere")
    here = replace(here, guest=replace(here.guest, disks=(SHARED, named)))
    assert "pool-missing" not in {finding.code for finding in assess(here, Options(map_pool={"nowhere": "fast"}))}


def in_qcow2(**changes: object) -> Site:
    """Its local disk is a qcow2 of 20 GiB, of which 5 are in use."""
    there = site()
    disk = replace(LOCAL, source="/var/images/data.qcow2", format="qcow2", **changes)  # type: ignore[arg-type]
    return replace(there, guest=replace(there.guest, disks=(SHARED, disk, ISO)))


def test_a_cold_move_makes_raw_of_what_goes_where_nothing_else_is_held() -> None:
    options = Options(cold=True, map_pool={"default": "volumes"}, eject=True)
    disk, *_ = disks.new_disks(in_qcow2(), options)
    assert (disk.pool, disk.name, disk.format, disk.converted_from) == ("volumes", "data.raw", "raw", "qcow2")
    found = {one.code: one for one in volumes.findings(in_qcow2(), options)}
    assert set(found) == {"disk-copied", "format-changed", "raw-allocated"}
    assert "holds nothing else" in found["format-changed"].why
    little = replace(in_qcow2(), ground=replace(in_qcow2().ground, room={"volumes": 10 * GIB}))
    assert "no-room" in {one.code for one in volumes.findings(little, options)}, "all of it, not what is in use"


@pytest.mark.parametrize("wanted", [Format.RAW, Format.QCOW2])
def test_a_cold_move_makes_the_format_that_was_asked_for_but_not_of_media(wanted: Format) -> None:
    there = in_qcow2() if wanted is Format.RAW else site()
    disk, iso = disks.new_disks(there, Options(cold=True, format=wanted))
    assert (disk.name, disk.format) == (f"data.{wanted}", wanted.value)
    assert (iso.name, iso.format, iso.converted_from) == ("debian.iso", "raw", "")
    same, _ = disks.new_disks(there, Options(cold=True))
    assert same.converted_from == ""


@pytest.mark.parametrize("why", ["snapshots", "chain", "encryption"])
@pytest.mark.parametrize("pool", ["default", "volumes"])
def test_what_travels_as_a_file_is_not_converted_and_that_refuses(why: str, pool: str) -> None:
    there = in_qcow2(encrypted=why == "encryption")
    there = replace(there, guest=replace(there.guest, snapshots=("one",) if why == "snapshots" else ()))
    chain = Chain.KEEP if why == "chain" else Chain.FLATTEN
    options = Options(cold=True, format=Format.RAW, chain=chain, eject=True, map_pool={"default": pool})
    refused = [one for one in volumes.findings(there, options) if one.severity is Severity.BLOCKER]
    assert [one.code for one in refused] == ["not-converted" if pool == "default" else "no-pool"]
    asked = replace(options, format=Format.SAME)
    refused = [one for one in volumes.findings(there, asked) if one.severity is Severity.BLOCKER]
    assert [one.code for one in refused] == ([] if pool == "default" else ["no-pool"])


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_the_file_of_an_encrypted_disk_needs_a_pool_of_files(kind: str) -> None:
    there = in_qcow2(encrypted=True)
    there = replace(there, guest=replace(there.guest, disks=(replace(there.guest.disks[1], format=kind),)))
    placed = disks.placement(there.guest.disks[0], there, Options(cold=True, map_pool={"default": "volumes"}))
    assert "holds no files" in placed.lacking


@pytest.mark.parametrize("driver", ["", "<driver name='qemu' type='qcow2' cache='none'/>"])
def test_a_definition_names_the_format_that_its_disk_has_now(driver: str) -> None:
    before = (
        f"<domain><devices><disk type='file'>{driver}<source file='/a'/><target dev='vda'/></disk></devices></domain>"
    )
    volume = Volume("vda", "fast", "a", "/b")
    for kind in ("raw", "qcow2"):
        root = ElementTree.fromstring(adapted(before, Changes((replace(volume, format=kind),))))
        seen = root.find("devices/disk/driver")
        assert seen is not None
        assert seen.attrib == {"name": "qemu", "type": kind, **({"cache": "none"} if driver else {})}
    assert ("type='qcow2'" in adapted(before, Changes((volume,))).replace('"', "'")) is bool(driver)
