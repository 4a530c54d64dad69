"""The files that come along beside the disks' images: found, placed, copied once, and joined again, whatever came between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferryman.errors import Refused
from ferryman.execute import copying, layers, storage
from ferryman.model.copy import CopyResult, CopyTask
from ferryman.model.guest import Snapshot, SnapshotFile
from ferryman.model.plan import ImageFile, Method, NewDisk, Plan, Travel, Volume
from ferryman.model.request import Handshake, Options, Request
from ferryman.model.units import GIB
from ferryman.plain import to_plain
from ferryman.ports import Ports
from tests.durability.fake_hypervisor import FakeHypervisor
from tests.durability.fakes import FakeCopier, FakeSite, records_of_both
from tests.durability.world import World
from tests.unit.sites import UUID

REQUEST = Request("there0000", UUID, "web", "a", "b", Options(cold=True), "somebody@here", 0.0)
HERE, THERE = "/here", "/srv/shared"
DISK = NewDisk("vda", f"{HERE}/top.qcow2", "shared", "top.qcow2", "qcow2", GIB, GIB, Travel.FILE, THERE)
RAW = NewDisk("vdb", f"{HERE}/data.raw", "shared", "data.raw", "raw", GIB, GIB, Travel.COPY, THERE)
# top upon middle upon base; beside them side upon base, and gone, which libvirt has removed; other stands upon the raw disk.
CHAINS = {
    "top.qcow2": ("top.qcow2", "middle.qcow2", "base.raw"), "side.qcow2": ("side.qcow2", "base.raw"), "gone.qcow2": (),
    "base.raw": ("base.raw",), "two.mem": ("two.mem",), "other.qcow2": ("other.qcow2", "data.raw"), "old/middle.qcow2": ("old/middle.qcow2",),
}  # fmt: skip


def named(name: str, target: str = "vda") -> SnapshotFile:
    return SnapshotFile("two", target, "file", f"{HERE}/{name}", "raw" if name.endswith(("raw", "mem")) else "qcow2")


PLAN = Plan(
    Method.COLD, "web", "a", "b", (), Handshake.CARRIED, "", "", encrypted=True, persistent=True, autostart=True, new_disks=(DISK, RAW),
    starts=True, snapshots=True,
    snapshot_files=(named("side.qcow2"), named("gone.qcow2"), named("base.raw"), named("two.mem", ""), named("other.qcow2", "vdb"), named("old/middle.qcow2")),
)  # fmt: skip


def chain_of(_: FakeHypervisor, path: str, kind: str) -> tuple[ImageFile, ...]:
    names = CHAINS[path.removeprefix(f"{HERE}/")]
    assert not names or names[0].endswith((kind, "mem")), "its format would be guessed"
    return tuple(ImageFile(f"{HERE}/{name}", "qcow2" if name.endswith("qcow2") else "raw", GIB) for name in names)


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    records = records_of_both(tmp_path)
    records.add_request(REQUEST, "slot1")
    made = {disk.target: to_plain(Volume(disk.target, "shared", disk.name, f"{THERE}/{disk.name}")) for disk in (DISK, RAW)}  # fmt: skip
    records.keep_facts(REQUEST.id, {"volumes": made, "snapshots": []})
    monkeypatch.setattr(FakeHypervisor, "image_chain", chain_of)
    world = World.made(tmp_path / "world.json", "off", volumes=["b/srv/shared/base.raw"], held={"a": ["vda"]})
    yield FakeSite(records, world).ports
    records.engine.dispose()


def test_every_file_has_one_place_and_knows_what_it_stands_upon(ports: Ports) -> None:
    found = {one.source.removeprefix(f"{HERE}/"): one for one in layers.noted(ports, REQUEST, PLAN)}
    assert {name: one.path.removeprefix(f"{THERE}/") for name, one in found.items()} == {
        "top.qcow2": "top.qcow2", "data.raw": "data.raw", "middle.qcow2": "middle.qcow2", "base.raw": "base-2.raw",  # the name is taken
        "side.qcow2": "side.qcow2", "gone.qcow2": "gone.qcow2", "two.mem": "two.mem", "other.qcow2": "other.qcow2", "old/middle.qcow2": "middle-2.qcow2",  # and that one is ours
    }  # fmt: skip
    below = {name: one.below.removeprefix(f"{HERE}/") for name, one in found.items() if one.below}
    assert below == {"top.qcow2": "middle.qcow2", "middle.qcow2": "base.raw", "side.qcow2": "base.raw", "other.qcow2": "data.raw"}  # fmt: skip
    assert [name for name, one in found.items() if not one.found] == ["gone.qcow2"]
    assert layers.noted(ports, REQUEST, PLAN) == tuple(found.values())  # asked again after a crash: from the records
    paths = storage.changes(ports, REQUEST, PLAN).paths
    assert paths[f"{HERE}/gone.qcow2"] == f"{THERE}/gone.qcow2"  # never a stranger's file of that name
    assert paths[f"{HERE}/top.qcow2"] == f"{THERE}/top.qcow2"


def test_each_is_copied_once_and_joined_to_what_is_below_it(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[CopyTask] = []
    joined: list[tuple[str, ...]] = []

    def copy(_: FakeCopier, task: CopyTask, *__: Any, **___: Any) -> CopyResult:
        copied.append(task)
        return CopyResult(1, 1, 1, 1, 0, 1.0, 1.0, "d", "d", "tls")

    monkeypatch.setattr(FakeCopier, "copy", copy)
    monkeypatch.setattr(FakeHypervisor, "rebase", lambda _, *names: joined.append(names))
    assert copying.copy_disks(ports, REQUEST, PLAN).reason == ""
    assert sorted((task.source.location, task.as_file) for task in copied) == [
        (f"{HERE}/base.raw", True), (f"{HERE}/data.raw", False), (f"{HERE}/middle.qcow2", True), (f"{HERE}/old/middle.qcow2", True), (f"{HERE}/other.qcow2", True),
        (f"{HERE}/side.qcow2", True), (f"{HERE}/top.qcow2", True), (f"{HERE}/two.mem", True),
    ]  # fmt: skip
    assert len({task.id for task in copied}) == len(copied)
    assert sorted(joined) == [
        (f"{THERE}/middle.qcow2", f"{THERE}/base-2.raw", "raw"), (f"{THERE}/other.qcow2", f"{THERE}/data.raw", "raw"),
        (f"{THERE}/side.qcow2", f"{THERE}/base-2.raw", "raw"), (f"{THERE}/top.qcow2", f"{THERE}/middle.qcow2", "qcow2"),
    ]  # fmt: skip
    copied.clear()
    assert copying.copy_disks(ports, REQUEST, PLAN).reason == ""
    assert copied == []  # run again: all is there


def test_a_layer_that_is_no_file_refuses_before_anything_is_stopped(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = lambda _, path, kind: (ImageFile(path, kind, 1), ImageFile("nbd://c/base", "raw", 1))  # noqa: E731
    monkeypatch.setattr(FakeHypervisor, "image_chain", remote)
    with pytest.raises(Refused, match="nbd://c/base"):
        layers.look(ports, REQUEST, PLAN)


def test_no_room_for_all_layers_refuses_before_anything_is_stopped(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers.look(ports, REQUEST, PLAN)
    large = lambda _, path, kind: (ImageFile(path, kind, GIB), ImageFile(f"{HERE}/base.raw", "raw", 1024 * GIB))  # noqa: E731
    monkeypatch.setattr(FakeHypervisor, "image_chain", large)
    with pytest.raises(Refused, match="room in pool shared at b"):
        layers.look(ports, REQUEST, PLAN)


def test_snapshots_that_somebody_changed_meanwhile_bring_the_guest_back(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going back to one makes a new overlay and removes the present one: what was copied is not what the guest has."""
    assert copying.still_untouched(ports, REQUEST, PLAN).reason == ""
    changed = (Snapshot("two", "<domainsnapshot/>", current=True),)
    monkeypatch.setattr(FakeHypervisor, "snapshots", lambda *_: changed)
    assert "went back to one" in copying.still_untouched(ports, REQUEST, PLAN).reason
