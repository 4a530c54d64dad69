"""Which images are removed, and which never are: the last copy, what a running guest uses, what is not known to be empty."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import libvirt
import pytest

from ferryman.drivers.clock import SteadyClock
from ferryman.drivers.database.records import DatabaseRecords, open_records
from ferryman.drivers.libvirt import inventory, storage
from ferryman.errors import DriverError, Refused
from ferryman.execute import undo
from ferryman.execute.live import keep_definition
from ferryman.execute.retire import retire
from ferryman.execute.storage import note_left, remove_unused
from ferryman.model.guest import Disk, Guest
from ferryman.model.host import GuestOnHost, Host, ImageUsers
from ferryman.model.outcome import Retired
from ferryman.model.place import ABSENT, Place, Where
from ferryman.model.plan import Changes, NewDisk, Travel, Volume
from ferryman.model.request import Options, Request
from ferryman.model.site import DiskReach, Ground, Reach
from ferryman.model.units import GIB
from ferryman.plan.steps import live_plan
from ferryman.ports import NO_CHANGES, Ports
from tests.unit.sites import UUID, good_guest, good_site

THERE = Request("there0000", UUID, "web", "a", "b")
OLD, NEW = "/images/web.qcow2", "/images/new.qcow2"


class FakeHost:
    """A host with images and perhaps the guest."""

    def __init__(self, name: str, images: set[str], *disks: Disk) -> None:
        self.host = Host(name, f"qemu+tls://{name}/system")
        self.images, self.disks = images, disks

    def place(self, uuid: str) -> Place:
        return Place(Where.RUNNING, persistent=True) if self.disks else ABSENT

    def guest(self, uuid: str) -> Guest:
        return replace(good_guest(), host=self.host.name, disks=self.disks)

    def guests(self) -> tuple[GuestOnHost, ...]:
        return ()

    def users_of(self, path: str) -> ImageUsers:
        return ImageUsers()

    def allocation(self, path: str) -> int | None:
        return 4096 if path in self.images else None

    def volume_path(self, pool: str, name: str) -> str:
        return path if (path := f"/{pool}/{name}") in self.images else ""

    def remove_volume(self, path: str) -> bool:
        there = path in self.images
        self.images -= {path}
        return there


def vda(source: str, *layers: str) -> Disk:
    return Disk("vda", "disk", "file", source, "qcow2", "none", False, False, backing=layers)


@pytest.fixture
def records(tmp_path: Path) -> Iterator[DatabaseRecords]:
    opened = open_records(tmp_path)
    opened.add_request(THERE, "slot0")
    yield opened
    opened.engine.dispose()


def ports(records: DatabaseRecords, a: FakeHost, b: FakeHost, reach: Reach = Reach.DIFFERENT) -> Ports:
    class Between:
        def look(self, guest: Guest, *_: Any) -> Ground:
            return replace(good_site().ground, disks=tuple(DiskReach(one.target, reach, "") for one in guest.disks))

    hosts = {"a": a, "b": b}
    parts = {"records": records, "hypervisor": hosts.__getitem__, "between": Between(), "clock": SteadyClock()}
    return cast("Ports", type("Ports", (), parts))


def made(records: DatabaseRecords, path: str, *, left: str = OLD, request: Request = THERE) -> None:
    volume = {"target": "vda", "pool": "images", "name": path.rpartition("/")[2], "path": path}
    records.keep_facts(request.id, {"volumes": {"vda": volume}})
    kept = {"host": request.source, "path": left, "size": 4096, "target": "vda"}
    records.keep_facts(request.id, {"left_to_retire": [kept]})


@pytest.mark.parametrize("layers", [(), (NEW,)], ids=["the image that was made", "a later snapshot upon it"])
def test_a_kept_copy_goes_once_the_guest_runs_on_what_was_made_of_it(
    records: DatabaseRecords, layers: tuple[str, ...]
) -> None:
    made(records, NEW)
    a, b = FakeHost("a", {OLD}), FakeHost("b", {NEW, "/images/top"}, vda("/images/top" if layers else NEW, *layers))
    assert retire(ports(records, a, b), THERE) == [Retired("a", OLD, removed=True)]
    assert a.images == set()


def test_an_image_that_is_gone_already_is_not_called_removed(records: DatabaseRecords) -> None:
    made(records, NEW)
    a, b = FakeHost("a", set()), FakeHost("b", {NEW}, vda(NEW))
    assert retire(ports(records, a, b), THERE) == [Retired("a", OLD, removed=False)]
    assert records.decisions(THERE.id) == (f"gone already: {OLD} at a",)
    assert records.facts(THERE.id)["left_to_retire"] == []


def test_an_image_that_is_not_found_after_the_move_is_said(records: DatabaseRecords) -> None:
    made(records, NEW)
    plan = replace(
        live_plan(good_site(), Options()),
        new_disks=(NewDisk("vda", OLD, "images", "new.qcow2", "qcow2", GIB, 0, Travel.MIRROR),),
    )
    note_left(ports(records, FakeHost("a", set()), FakeHost("b", {NEW}, vda(NEW))), THERE, plan)
    assert records.facts(THERE.id)["left_to_retire"] == []
    (told,) = records.decisions(THERE.id)
    assert told.startswith(f"not found: {OLD} at a")


def test_a_disk_that_was_changed_for_another_since_is_no_copy(records: DatabaseRecords) -> None:
    made(records, NEW)
    a, b = FakeHost("a", {OLD}), FakeHost("b", {"/images/empty"}, vda("/images/empty"))
    with pytest.raises(Refused, match="no move in these records made of it: this may be the last copy"):
        retire(ports(records, a, b), THERE)
    assert a.images == {OLD}


@pytest.mark.parametrize(("reach", "goes"), [(Reach.DIFFERENT, True), (Reach.SAME, False), (Reach.UNPROVED, False)])
def test_one_path_at_both_hosts_goes_only_where_it_is_proved_to_be_two(
    records: DatabaseRecords, reach: Reach, goes: bool
) -> None:
    made(records, OLD)
    a, b = FakeHost("a", {OLD}), FakeHost("b", {OLD}, vda(OLD))
    if goes:
        assert retire(ports(records, a, b, reach), THERE) == [Retired("a", OLD, removed=True)]
    else:
        with pytest.raises(Refused, match="not proved"):
            retire(ports(records, a, b, reach), THERE)
        assert a.images == {OLD}


def test_a_copy_that_lies_on_shared_storage_and_is_used_again_stays(records: DatabaseRecords) -> None:
    """Copied with --copy-storage all, then somebody went back to the old image at the destination."""
    made(records, NEW)
    a, b = FakeHost("a", {OLD}), FakeHost("b", {OLD, NEW}, vda(NEW), replace(vda(OLD), target="vdb"))
    with pytest.raises(Refused, match="not proved"):
        retire(ports(records, a, b, Reach.SAME), THERE)
    assert a.images == {OLD}


def test_after_the_way_back_the_first_copy_may_go_too(records: DatabaseRecords) -> None:
    made(records, NEW)
    back = replace(THERE, id="back0000", source="b", destination="a")
    records.add_request(back, "slot0")
    made(records, "/images/web-2.qcow2", left=NEW, request=back)
    a, b = FakeHost("a", {OLD, "/images/web-2.qcow2"}, vda("/images/web-2.qcow2")), FakeHost("b", {NEW})
    assert retire(ports(records, a, b), THERE) == [Retired("a", OLD, removed=True)]
    assert retire(ports(records, a, b), back) == [Retired("b", NEW, removed=True)]


def test_volumes_for_a_guest_that_came_without_them_go_while_they_are_surely_empty(records: DatabaseRecords) -> None:
    made(records, NEW)
    b = FakeHost("b", {NEW, OLD}, vda(OLD))
    remove_unused(ports(records, FakeHost("a", set()), b), THERE)
    assert b.images == {OLD}
    assert "the guest does not use it" in records.decisions(THERE.id)[-1]


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("disks", [(vda("pool/web.qcow2"),), (replace(vda(OLD), target="vdb"),), (vda(OLD),)])
def test_what_may_hold_the_newest_data_stays_and_is_named(
    records: DatabaseRecords, disks: tuple[Disk, ...], asked: bool
) -> None:
    """After a transfer, or where the guest's disk has no path to compare or is gone: detached by somebody since, perhaps."""
    if not asked and disks == (vda(OLD),):
        return  # the case above
    made(records, NEW)
    if asked:
        records.mark_asked(THERE.id)
    b = FakeHost("b", {NEW, OLD}, *disks)
    remove_unused(ports(records, FakeHost("a", set()), b), THERE)
    assert b.images == {NEW, OLD}
    assert records.decisions(THERE.id)[-1].startswith(f"left as it is: {NEW} at b")


@pytest.mark.parametrize("noted", [True, False])
def test_putting_back_removes_a_noted_volume_alone(records: DatabaseRecords, noted: bool) -> None:
    """One of that name may be somebody else's who took the name at the same moment."""
    if noted:
        made(records, NEW)
    arguments = {"host": "b", "pool": "images", "name": "new.qcow2", "target": "vda"}
    records.register_undo(THERE.id, undo.REMOVE_VOLUME, arguments)
    a, b = FakeHost("a", {OLD}, vda(OLD)), FakeHost("b", {NEW})
    assert undo.undo_all(ports(records, a, b), THERE) == []
    assert b.images == (set() if noted else {NEW})
    assert any("left as it is: volume new.qcow2" in text for text in records.decisions(THERE.id)) is not noted


def test_a_volume_that_was_made_and_never_noted_is_named_after_a_good_end_too(records: DatabaseRecords) -> None:
    made(records, NEW)
    for name in ("web.qcow2", "new.qcow2", "gone.qcow2"):
        arguments = {"host": "b", "pool": "images", "name": name, "target": "vda"}
        records.register_undo(THERE.id, undo.REMOVE_VOLUME, arguments)
    b = FakeHost("b", {NEW, OLD}, vda(NEW))
    note_left(ports(records, FakeHost("a", set()), b), THERE, replace(live_plan(good_site(), Options()), new_disks=()))
    (named,) = records.decisions(THERE.id)
    assert named.startswith("left as it is: volume web.qcow2 in pool images at b")


class Transient(FakeHost):
    """The guest runs there, and no definition is kept."""

    def __init__(self, name: str, *disks: Disk) -> None:
        super().__init__(name, set(), *disks)
        self.kept: list[tuple[str, tuple[Volume, ...]]] = []

    def place(self, uuid: str) -> Place:
        return Place(Where.RUNNING, persistent=False)

    def definition(self, uuid: str) -> str:
        return f"<domain on {self.disks[0].source}/>"

    def define(self, definition: str, changes: Changes = NO_CHANGES) -> None:
        self.kept.append((definition, changes.volumes))


@pytest.mark.parametrize("asked", [True, False])
def test_a_guest_that_somebody_else_moved_keeps_the_disks_it_runs_on(records: DatabaseRecords, asked: bool) -> None:
    """By hand, without --persistent: the volumes that were made for it are empty."""
    made(records, NEW)
    records.take_lease(UUID, THERE.id)
    records.keep_definition(THERE.id, "a", "<saved/>")
    if asked:
        records.mark_asked(THERE.id)
    b = Transient("b", vda(OLD))
    keep_definition(ports(records, FakeHost("a", set()), b), THERE, live_plan(good_site(), Options()))
    volume = Volume("vda", "images", "new.qcow2", NEW)
    assert b.kept == [("<saved/>", (volume,)) if asked else (f"<domain on {OLD}/>", ())]


# Against libvirt's own test driver, which has pools, volumes and domains in memory

_DOMAIN = """<domain type='test'><name>web</name><uuid>{uuid}</uuid><memory>1000</memory><os><type>hvm</type></os><devices>
  <disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='default-pool' volume='{volume}'/><target dev='vda'/></disk>
</devices></domain>"""


@pytest.fixture
def link() -> Iterator[libvirt.virConnect]:
    opened = libvirt.open("test:///default")
    yield opened
    for pool in opened.listAllStoragePools():
        for volume in pool.listAllVolumes():
            volume.delete(0)
    opened.close()


def volume(link: libvirt.virConnect, name: str, below: str = "") -> str:
    layer = f"<backingStore><path>{below}</path><format type='qcow2'/></backingStore>" if below else ""
    xml = f"<volume><name>{name}</name><capacity>1048576</capacity><target><format type='qcow2'/></target>{layer}</volume>"
    return str(link.storagePoolLookupByName("default-pool").createXML(xml, 0).path())


def test_a_volume_of_a_pool_is_known_by_its_path(link: libvirt.virConnect) -> None:
    path = volume(link, "web.qcow2")
    domain = link.defineXML(_DOMAIN.format(uuid=UUID, volume="web.qcow2"))
    try:
        found = inventory.guest(link, "a", UUID)
        assert found is not None
        assert [(disk.kind, disk.source, disk.pool) for disk in found.disks] == [("file", path, "default-pool")]
        assert next(one.disks for one in inventory.guests(link) if one.uuid == UUID) == (path,)
    finally:
        domain.undefine()


@pytest.mark.parametrize(("kind", "allocation"), [("dir", 0), ("logical", 1048576)])
def test_a_logical_volume_is_made_whole_and_others_are_sparse(
    link: libvirt.virConnect, kind: str, allocation: int
) -> None:
    xml = f"<pool type='{kind}'><name>new</name><source><name>vg</name></source><target><path>/dev/vg</path></target></pool>"
    pool = link.storagePoolCreateXML(xml, 0)
    try:
        storage.make(link, NewDisk("vda", OLD, "new", "web", "raw", 1048576, 4096, Travel.MIRROR), "web")
        assert pool.storageVolLookupByName("web").info()[1:] == [1048576, allocation]
    finally:
        pool.storageVolLookupByName("web").delete(0)
        pool.destroy()


def test_a_volume_that_is_not_found_stays_a_volume(link: libvirt.virConnect) -> None:
    disk = Disk("vda", "disk", "volume", "default-pool/none", "raw", "", False, False, pool="default-pool")
    assert storage.located(link, disk) == disk


def test_an_image_in_use_is_never_removed(link: libvirt.virConnect) -> None:
    path = volume(link, "web.qcow2")
    domain = link.createXML(_DOMAIN.format(uuid=UUID, volume="web.qcow2"), 0)
    with pytest.raises(DriverError, match="in use by web"):
        storage.remove(link, path)
    domain.destroy()
    assert storage.remove(link, path) is True
    assert storage.allocation(link, path) is None
    assert storage.remove(link, path) is False


def test_an_image_that_another_lies_upon_is_never_removed(link: libvirt.virConnect) -> None:
    path = volume(link, "base.qcow2")
    top = volume(link, "top.qcow2", below=path)
    with pytest.raises(DriverError, match=r"top\.qcow2 is an overlay upon it"):
        storage.remove(link, path)
    storage.remove(link, top)
    storage.remove(link, path)


def test_nor_is_one_that_an_image_of_another_pool_lies_upon(link: libvirt.virConnect) -> None:
    path = volume(link, "base.qcow2")
    pool = link.storagePoolCreateXML(
        "<pool type='dir'><name>clones</name><target><path>/clones</path></target></pool>", 0
    )
    xml = f"<volume><name>clone.qcow2</name><capacity>1048576</capacity><target><format type='qcow2'/></target><backingStore><path>{path}</path></backingStore></volume>"
    clone = pool.createXML(xml, 0)
    try:
        with pytest.raises(DriverError, match=r"clone\.qcow2 is an overlay upon it"):
            storage.remove(link, path)
    finally:
        clone.delete(0)
        pool.destroy()
    assert storage.remove(link, path) is True
