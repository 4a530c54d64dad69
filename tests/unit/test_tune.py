"""Limits asked for under way: when they are refused, what becomes of them, and that none is lost when a process dies."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ferryman.app import Moves, Site
from ferryman.drivers.database.records import DatabaseRecords, open_records
from ferryman.errors import BadInput, DriverError, Refused
from ferryman.execute.follow import _apply_wishes
from ferryman.execute.storage import Caps, note_speed
from ferryman.model.phase import Phase
from ferryman.model.plan import NewDisk, Travel
from ferryman.model.request import Options, Request
from ferryman.plan.steps import live_plan
from ferryman.ports import Ports
from tests.unit.sites import good_site

REQUEST = Request("r1", "uuid", "web", "a", "b")


@pytest.fixture
def records(tmp_path: Path) -> Any:
    opened = open_records(tmp_path)
    opened.add_request(REQUEST, "slot0")
    yield opened
    opened.engine.dispose()


class Limited:
    """A hypervisor that notes what was set."""

    def __init__(self, refuses: str = "") -> None:
        self.set: list[tuple[str, float]] = []
        self.refuses = refuses
        self.speed = 4096

    def memory_limit(self, uuid: str) -> int:
        return self.speed

    def limit_memory(self, uuid: str, rate: int) -> None:
        if self.refuses:
            raise DriverError("bandwidth", self.refuses)
        self.set.append(("bandwidth", rate))

    def limit_mirrors(self, uuid: str, targets: Sequence[str], rate: int) -> None:
        self.set.append((f"mirrors {','.join(targets)}", rate))

    def set_max_downtime(self, uuid: str, seconds: float) -> None:
        self.set.append(("downtime", seconds))


def ports(records: DatabaseRecords, hypervisor: Limited) -> Ports:
    return cast("Ports", type("Two", (), {"records": records, "hypervisor": lambda _self, _name: hypervisor})())


PLAN = replace(live_plan(good_site(), Options()), new_disks=())
DISK = NewDisk("vda", "/srv/web.raw", "local", "web.raw", "raw", 1, 1, Travel.MIRROR)


def apply(ports: Ports, applied: int, caps: Caps | None = None) -> int:
    return _apply_wishes(ports, REQUEST, caps or Caps(ports, REQUEST, PLAN), applied)


@pytest.mark.parametrize("phase", Phase)
def test_tune_is_accepted_until_the_switchover(records: DatabaseRecords, tmp_path: Path, phase: Phase) -> None:
    records.enter("r1", phase)
    moves = Moves(Site(records), tmp_path)
    early = (Phase.QUEUED, Phase.WAITING, Phase.PREPARING, Phase.BACKING_UP, Phase.COPYING_AHEAD, Phase.STOPPING)
    if phase in (*early, Phase.TRANSFERRING, Phase.STARTING):
        moves.tune("r1", bandwidth=7, max_downtime=None)
        assert [wish.bandwidth for wish in records.wishes("r1")] == [7]
    else:
        with pytest.raises(Refused, match=r"only forward|has ended|put back"):
            moves.tune("r1", bandwidth=7, max_downtime=None)
        assert not records.wishes("r1")


def test_tune_needs_a_limit_that_can_be_set(records: DatabaseRecords, tmp_path: Path) -> None:
    moves = Moves(Site(records), tmp_path)
    with pytest.raises(BadInput, match="no limit is named"):
        moves.tune("r1", bandwidth=None, max_downtime=None)
    with pytest.raises(BadInput, match="max-downtime"):
        moves.tune("r1", bandwidth=None, max_downtime=0.0)
    records.keep_facts("r1", {"plan": {"method": "definition"}})
    with pytest.raises(Refused, match="nothing is transferred"):
        moves.tune("r1", bandwidth=1, max_downtime=None)


def test_each_wish_is_set_once_in_order_and_noted(records: DatabaseRecords, tmp_path: Path) -> None:
    moves, hypervisor = Moves(Site(records), tmp_path), Limited()
    moves.tune("r1", bandwidth=1024, max_downtime=None)
    applied = apply(ports(records, hypervisor), 0)
    moves.tune("r1", bandwidth=0, max_downtime=0.5)
    applied = apply(ports(records, hypervisor), applied)
    assert apply(ports(records, hypervisor), applied) == 2
    assert hypervisor.set == [("bandwidth", 1024), ("bandwidth", 0), ("downtime", 0.5)]
    first, second = records.decisions("r1")
    assert "1 KiB/s" in first
    assert "without limit" in second
    assert "500 ms" in second
    assert all(wish.applied for wish in records.report("r1").wishes)


def test_a_process_that_took_over_sets_them_again_and_notes_nothing_twice(
    records: DatabaseRecords, tmp_path: Path
) -> None:
    Moves(Site(records), tmp_path).tune("r1", bandwidth=1024, max_downtime=None)
    apply(ports(records, Limited()), 0)
    other = Limited()
    apply(ports(records, other), 0)
    assert other.set == [("bandwidth", 1024)]
    assert len(records.decisions("r1")) == 1


def test_what_the_hypervisor_refuses_is_noted_and_not_called_set(records: DatabaseRecords, tmp_path: Path) -> None:
    Moves(Site(records), tmp_path).tune("r1", bandwidth=1024, max_downtime=None)
    assert apply(ports(records, Limited("no such thing")), 0) == 1
    (noted,) = records.decisions("r1")
    assert "no such thing" in noted
    assert not records.wishes("r1")[0].applied


def test_mirrors_and_memory_share_the_new_limit_and_are_both_freed_of_it(
    records: DatabaseRecords, tmp_path: Path
) -> None:
    moves, hypervisor = Moves(Site(records), tmp_path), Limited()
    world = ports(records, hypervisor)
    note_speed(world, REQUEST)
    hypervisor.speed = 500  # what libvirt answers while the transfer runs
    caps = Caps(world, REQUEST, replace(PLAN, new_disks=(DISK,)))
    caps.apply(mirroring=True)
    assert hypervisor.set == []  # nobody asked for a limit
    moves.tune("r1", bandwidth=1000, max_downtime=None)
    applied = apply(world, 0, caps)
    caps.apply(mirroring=True)
    caps.apply(mirroring=True)
    assert hypervisor.set == [("bandwidth", 750), ("mirrors vda", 1000)]
    moves.tune("r1", bandwidth=0, max_downtime=None)
    apply(world, applied, caps)
    caps.apply(mirroring=False)
    assert hypervisor.set[2:] == [("bandwidth", 0), ("mirrors vda", 0)]
    (undo,) = records.undo_acts("r1")  # libvirt would keep the speed for the guest's next migration
    assert undo[1:] == ("restore-speed", {"host": "a", "rate": 4096})
