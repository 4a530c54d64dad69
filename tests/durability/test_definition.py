"""A shut-off guest moves by its definition: killed at every step, in every odd pair, and never two definitions at the end."""

from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from tests.durability.fake_hypervisor import NVRAM
from tests.durability.killing import every_moment, killed_and_recovered, succeeded, told
from tests.durability.processes import carry
from tests.durability.world import World, change

STEPS = ("admit", "plan", "save-definition", "mark", "autostart-off", "copy-nvram", "define-destination", "settle", "enter-completing",
         "undefine-source", "autostart-on", "drop-undo", "verify", "report")  # fmt: skip
FILES = {"a": {NVRAM: "variables"}, "b": {}}
OFF = {"state": "off", "autostart": False}
MARKED = {"state": "off", "autostart": True}
RUNS = {"state": "running", "autostart": False}


def made(state: Path, there: str = "") -> None:
    World.made(state / "world.json", "off", files={"a": {NVRAM: "variables"}, "b": {NVRAM: there} if there else {}})


def ends_right(state: Path) -> None:
    world = World(state / "world.json").read()
    assert (world["a"], world["b"], world["calls"]) == (None, MARKED, 0)
    assert world["files"]["b"] == world["files"]["a"] == {NVRAM: "variables"}
    succeeded(state)


def test_a_definition_goes_over_with_autostart_and_variables(tmp_path: Path) -> None:
    made(tmp_path)
    carried = carry(tmp_path, "ask")
    assert carried.returncode == 0, carried.stderr
    ends_right(tmp_path)


@pytest.mark.parametrize(("step", "moment"), every_moment(STEPS, turn=1))
def test_killed_at_each_step(tmp_path: Path, step: str, moment: str) -> None:
    made(tmp_path)
    killed_and_recovered(tmp_path, "ask", f"{step}:{moment}")
    ends_right(tmp_path)


def test_a_store_that_the_destination_has_from_earlier_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    made(tmp_path, there="older variables")
    carry(tmp_path, "ask", "copy-nvram:inside")
    assert carry(tmp_path, "recover").returncode == 0
    files = World(tmp_path / "world.json").read()["files"]["b"]
    (beside,) = set(files) - {NVRAM}
    assert files == {NVRAM: "variables", beside: "older variables"}
    assert any(beside in text for text in told(tmp_path).decisions)


def test_a_cancel_puts_back_the_store_and_the_autostart_mark(tmp_path: Path) -> None:
    made(tmp_path, there="older variables")
    carry(tmp_path, "ask", "define-destination:inside")
    assert World(tmp_path / "world.json").read()["b"] == OFF
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    assert carry(tmp_path, "recover").returncode == 0
    world = World(tmp_path / "world.json").read()
    assert (world["a"], world["b"]) == (MARKED, None)
    assert world["files"]["b"] == {NVRAM: "older variables"}
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "cancelled", report.outcome


@pytest.mark.parametrize(
    ("source", "destination", "status", "expected_source", "expected_destination"),
    [
        pytest.param(RUNS, OFF, "failed", {**RUNS, "autostart": True}, None, id="started at the source: the new definition goes"),
        pytest.param(OFF, RUNS, "succeeded", None, {**RUNS, "autostart": True}, id="started at the destination: the old one goes"),
        pytest.param(None, OFF, "needs attention", None, OFF, id="removed at the source by another, who may have it elsewhere"),
        pytest.param(OFF, None, "failed", MARKED, None, id="removed at the destination"),
        pytest.param(RUNS, RUNS, "needs attention", RUNS, RUNS, id="running twice: nothing is touched"),
        pytest.param(None, None, "needs attention", None, None, id="gone: nothing is touched"),
    ],
)  # fmt: skip
def test_each_odd_pair_after_the_definition_was_made_has_one_right_end(
    tmp_path: Path,
    source: dict[str, Any] | None,
    destination: dict[str, Any] | None,
    status: str,
    expected_source: dict[str, Any] | None,
    expected_destination: dict[str, Any] | None,
) -> None:
    made(tmp_path)
    carry(tmp_path, "ask", "define-destination:after")
    change(tmp_path, a=source, b=destination)
    recovered = carry(tmp_path, "recover")
    assert recovered.returncode == 0, recovered.stderr
    world = World(tmp_path / "world.json").read()
    assert (world["a"], world["b"]) == (expected_source, expected_destination)
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == status, report.outcome
    if status == "needs attention":
        assert report.outcome.remedy
