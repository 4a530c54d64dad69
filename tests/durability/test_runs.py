"""A guest that is started anew in the middle of a warm move: what befell its images while it was off no bitmap tells, so all of it is compared."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from tests.durability.killing import says
from tests.durability.processes import carry
from tests.durability.test_cold import arrived
from tests.durability.test_warm import ask, left_waiting, nothing_remembered
from tests.durability.test_windows import pass_time
from tests.durability.world import World, change

COMPARED = "no bitmap tells for certain: all of it is compared"


def started_anew(directory: Path, **changes: Any) -> None:
    """It was shut off, its image changed, and it was started again: live metadata went, bitmaps and checkpoints are there."""
    with World(directory / "world.json").opened() as content:
        content["a"].pop("run", None)
        content["a"].update(changes)


def since(state: Path) -> list[str]:
    """The number of the pass since which each of them took what was written; empty: it compared everything."""
    records = open_records(state)
    found = [one["since"].rpartition("-")[2] for one in records.facts(records.requests()[0].id)["passes"]]
    records.engine.dispose()
    return found


def waited(state: Path) -> None:
    pass_time(state, at=(datetime.now(UTC) - timedelta(seconds=1)).isoformat(timespec="seconds"))


@pytest.mark.parametrize("token", [{}, {"run": "of a backup since"}])
def test_while_its_window_is_waited_for(tmp_path: Path, token: dict[str, str]) -> None:
    left_waiting(tmp_path)
    started_anew(tmp_path, **token)
    waited(tmp_path)
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    assert since(tmp_path) == ["", ""]
    assert says(tmp_path, COMPARED)


def test_one_that_runs_on_is_believed(tmp_path: Path) -> None:
    left_waiting(tmp_path)
    waited(tmp_path)
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    assert since(tmp_path) == ["", "1"]
    assert not says(tmp_path, COMPARED)


@pytest.mark.parametrize("moment", ["watch:inside", "tell-before-stop:after"])
def test_between_the_last_pass_and_the_stop_one_more_pass_is_made(tmp_path: Path, moment: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(), moment)
    started_anew(tmp_path)
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    assert since(tmp_path) == ["", ""]


def test_after_it_was_asked_to_stop_all_is_compared_while_it_stands_still(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(), "stop:inside")
    started_anew(tmp_path, state="running")
    change(tmp_path, other_run=True)
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    assert says(tmp_path, COMPARED)


def test_one_whose_images_are_held_long_after_it_was_seen_may_have_run_once_more(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(), "hold:before")
    records = open_records(tmp_path)
    request = records.requests()[0].id
    records.keep_facts(request, {"last_run_at": records.facts(request)["last_run_at"] - 3600.0})
    records.engine.dispose()
    change(tmp_path, other_run=True)
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    assert says(tmp_path, "whether the guest was started again")
