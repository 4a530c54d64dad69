"""A transfer was asked for, ferryman died, and the hosts were left in an odd pair of places: each pair has one right end."""

import json
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from tests.durability.fakes import World
from tests.durability.test_killed_at_every_step import carry
from tests.unit.sites import UUID

RUNNING, PAUSED, OFF = ({"state": state, "autostart": False} for state in ("running", "paused", "off"))
AT_HOME = {"state": "running", "autostart": True}
ARRIVED = {"state": "running", "autostart": True}


@pytest.mark.parametrize(
    ("source", "destination", "status", "expected_source", "expected_destination"),
    [
        pytest.param(PAUSED, RUNNING, "succeeded", None, ARRIVED, id="a husk is destroyed and undefined"),
        pytest.param(OFF, RUNNING, "succeeded", None, ARRIVED, id="a definition left at the source goes"),
        pytest.param(None, RUNNING, "succeeded", None, ARRIVED, id="it had arrived"),
        pytest.param(PAUSED, None, "failed", AT_HOME, None, id="the only copy is resumed"),
        pytest.param(PAUSED, OFF, "failed", AT_HOME, None, id="the only copy is resumed, a new definition goes"),
        pytest.param(RUNNING, OFF, "failed", AT_HOME, None, id="a new definition at the destination goes"),
        pytest.param(RUNNING, None, "failed", AT_HOME, None, id="it had never left"),
        pytest.param(OFF, None, "needs attention", {"state": "off", "autostart": True}, None, id="it stopped at the source"),
        pytest.param(None, OFF, "needs attention", None, {"state": "off", "autostart": True}, id="it stopped at the destination"),
        pytest.param(RUNNING, RUNNING, "needs attention", RUNNING, RUNNING, id="running twice: nothing is touched"),
        pytest.param(RUNNING, PAUSED, "needs attention", RUNNING, PAUSED, id="an incoming copy nobody works on: nothing is touched"),
        pytest.param(PAUSED, PAUSED, "needs attention", PAUSED, PAUSED, id="paused twice: nothing is touched"),
        pytest.param(None, None, "needs attention", None, None, id="gone: nothing is touched"),
    ],
)  # fmt: skip
def test_each_odd_pair_has_one_right_end(
    tmp_path: Path,
    source: dict[str, Any] | None,
    destination: dict[str, Any] | None,
    status: str,
    expected_source: dict[str, Any] | None,
    expected_destination: dict[str, Any] | None,
) -> None:
    World.made(tmp_path / "world.json")
    carry(tmp_path, "ask", "transfer:inside")
    left = {"a": source, "b": destination, "job": None, "calls": 1}
    (tmp_path / "world.json").write_text(json.dumps(left))
    recovered = carry(tmp_path, "recover")
    assert recovered.returncode == 0, recovered.stderr
    world = World(tmp_path / "world.json").read()
    assert (world["a"], world["b"], world["calls"]) == (expected_source, expected_destination, 1)
    records = open_records(tmp_path)
    (request,) = records.requests()
    outcome = records.report(request.id).outcome
    assert outcome is not None
    assert outcome.status == status, outcome
    assert (records.lease(UUID) == request.id) is (status == "needs attention")
    if status == "needs attention":
        assert outcome.remedy
    records.engine.dispose()
