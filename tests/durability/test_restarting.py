"""A libvirtd that restarts at any moment of a warm move before the stop: it is waited for, and what was copied is not lost for it."""

from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from tests.durability.killing import says, told
from tests.durability.processes import Carrying, carry
from tests.durability.test_cold import arrived, at_home
from tests.durability.test_warm import ask, left_waiting, nothing_remembered
from tests.durability.test_windows import in_seconds, pass_time, until
from tests.durability.world import World, change

SOURCE, DESTINATION = {"silent": ["a"]}, {"silent": ["b"]}
LOOKS = {"deaf_to_looks": ["a"]}  # it answers a call, and not the look that follows


def waited_for(state: Path, restarting: dict[str, Any]) -> Carrying:
    """A process that goes on, and waits."""
    change(state, **restarting)
    process = Carrying(state, "recover")
    until(lambda: says(state, "it is waited for"), "nobody waits")
    return process


def goes_on(state: Path, process: Carrying, restarting: dict[str, Any]) -> None:
    change(state, **{name: [] for name in restarting})
    assert process.ended().returncode == 0
    arrived(state)
    nothing_remembered(state)


def test_as_its_window_opens(tmp_path: Path) -> None:
    """The guest's mark is to be set again."""
    left_waiting(tmp_path)
    pass_time(tmp_path, at=in_seconds(-1.0))
    goes_on(tmp_path, waited_for(tmp_path, SOURCE), SOURCE)


def test_as_a_pass_is_to_begin(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(), "copy-ahead:before")
    goes_on(tmp_path, waited_for(tmp_path, LOOKS), LOOKS)


@pytest.mark.parametrize(
    ("step", "restarting"),
    [
        ("free-to-stop", SOURCE),
        ("eject-media", SOURCE),
        ("autostart-off", SOURCE),
        ("stop", SOURCE),
        ("stop", LOOKS),
        ("stop", DESTINATION),
    ],
)
def test_as_the_guest_is_to_be_stopped(tmp_path: Path, step: str, restarting: dict[str, Any]) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(), f"{step}:before")
    goes_on(tmp_path, waited_for(tmp_path, restarting), restarting)


def test_whoever_cancels_meanwhile_is_heard_and_the_guest_is_not_stopped(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(), "stop:before")
    process = waited_for(tmp_path, SOURCE)
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    change(tmp_path, silent=[])
    assert process.ended().returncode == 0
    at_home(tmp_path, "cancelled")
    nothing_remembered(tmp_path)


def test_one_that_stays_away_before_the_stop_has_the_guest_not_stopped(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(), "stop:before")
    assert waited_for(tmp_path, SOURCE).ended().returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "needs attention"
    assert "stopping" not in [entry.phase for entry in report.phases]
    change(tmp_path, silent=[])
    assert carry(tmp_path, "recover").returncode == 0
    at_home(tmp_path, "failed")
