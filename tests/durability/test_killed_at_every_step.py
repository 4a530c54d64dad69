"""Killed at every step boundary, the next process leads the move to its end: one job, one owner, legal phases, no lease left."""

import signal
from pathlib import Path

import pytest

from ferryman.drivers.database.records import open_records
from tests.durability.killing import every_moment, killed_and_recovered, succeeded
from tests.durability.processes import carry
from tests.durability.world import World, change
from tests.unit.sites import UUID

LOCAL_STEPS = ("eject-media", "make-volumes", "carry-media", "transfer", "note-left", "drop-undo", "retire")
STEPS = ("admit", "plan", "watch", "save-definition", "mark", "autostart-off", "tell-before-stop", "transfer", "settle", "enter-completing", "undefine-source",
         "keep-definition", "autostart-on", "unmark", "drop-undo", "verify", "tell-end", "report")  # fmt: skip


def ends_right(state: Path) -> None:
    world = World(state / "world.json").read()
    assert (world["a"], world["b"]) == (None, {"state": "running", "autostart": True})
    assert (world["job"], world["calls"]) == (None, 1)
    succeeded(state)


def test_a_move_without_a_fault(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    carried = carry(tmp_path, "ask")
    assert carried.returncode == 0, carried.stderr
    ends_right(tmp_path)


@pytest.mark.parametrize(("step", "moment"), every_moment(STEPS))
def test_killed_at_each_step(tmp_path: Path, step: str, moment: str) -> None:
    World.made(tmp_path / "world.json")
    killed_and_recovered(tmp_path, "ask", f"{step}:{moment}")
    ends_right(tmp_path)


@pytest.mark.parametrize(("step", "moment"), every_moment(LOCAL_STEPS))
def test_killed_at_each_step_of_a_move_with_local_disks(tmp_path: Path, step: str, moment: str) -> None:
    """One new volume whatever the moment, somebody's of the same name untouched, the old one retired as asked."""
    World.with_local_disks(tmp_path / "world.json")
    killed_and_recovered(tmp_path, "ask-everything", f"{step}:{moment}")
    ends_right(tmp_path)
    world = World(tmp_path / "world.json").read()
    assert world["volumes"] == ["b/srv/shared/web.qcow2", "b/srv/shared/web-2.qcow2"]
    assert world["medium"] == ""


def test_killed_between_asked_and_the_call_it_is_asked_for_again_once(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    killed_and_recovered(tmp_path, "ask", "asked")
    ends_right(tmp_path)


def test_killed_twice(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    carry(tmp_path, "ask", "transfer:before")
    assert carry(tmp_path, "recover", "settle:inside").returncode == -signal.SIGKILL
    assert carry(tmp_path, "recover").returncode == 0
    ends_right(tmp_path)


def test_a_guest_that_vanished_needs_attention_and_keeps_lease_and_undo(tmp_path: Path) -> None:
    World.made(tmp_path / "world.json")
    carry(tmp_path, "ask", "transfer:before")
    change(tmp_path, a=None)
    assert carry(tmp_path, "recover").returncode == 0
    records = open_records(tmp_path)
    (request,) = records.requests()
    report = records.report(request.id)
    assert report.outcome is not None
    assert report.outcome.status == "needs attention"
    assert records.lease(UUID) == request.id
    assert {entry.state for entry in report.undo} == {"registered"}
    assert records.definition(request.id, "a") == "<domain/>"
    records.engine.dispose()
