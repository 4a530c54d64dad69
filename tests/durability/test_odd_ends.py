"""A transfer was asked for, ferryman died, and the hosts were left in an odd pair of places: each pair has one right end."""

import signal
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from tests.durability.processes import carry
from tests.durability.world import World
from tests.unit.sites import UUID

RUNNING, PAUSED, OFF = ({"state": state, "autostart": False} for state in ("running", "paused", "off"))
AT_HOME = {"state": "running", "autostart": True}
ARRIVED = {"state": "running", "autostart": True}


def _left_as(state: Path, source: dict[str, Any] | None, destination: dict[str, Any] | None) -> None:
    """A transfer was asked for; then its ferryman died, and the hosts came to this."""
    World.made(state / "world.json")
    carry(state, "ask", "transfer:inside")
    World.made(state / "world.json", a=source, b=destination, calls=1)


@pytest.mark.parametrize("moment", ["before", "inside", "after"])
@pytest.mark.parametrize(
    ("step", "source", "destination"),
    [
        ("destroy-husk", PAUSED, RUNNING),
        ("resume-source", PAUSED, None),
        ("enter-rolling-back", RUNNING, OFF),
        ("undo", RUNNING, OFF),
    ],
)
def test_killed_again_at_each_step_that_only_odd_ends_run(
    tmp_path: Path, step: str, source: dict[str, Any], destination: dict[str, Any] | None, moment: str
) -> None:
    _left_as(tmp_path, source, destination)
    died = carry(tmp_path, "recover", f"{step}:{moment}")
    assert died.returncode == -signal.SIGKILL, (died.returncode, died.stderr)
    assert carry(tmp_path, "recover").returncode == 0
    world = World(tmp_path / "world.json").read()
    expected = (None, ARRIVED) if step == "destroy-husk" else (AT_HOME, None)
    assert (world["a"], world["b"], world["calls"]) == (*expected, 1)
    records = open_records(tmp_path)
    assert records.lease(UUID) == ""
    assert not records.requests(open_only=True)
    records.engine.dispose()


@pytest.mark.parametrize("moment", ["before", "inside", "after"])
@pytest.mark.parametrize("step", ["undo-refused", "replace-definition"])
def test_killed_at_the_steps_of_a_refusal_and_of_a_replacement(tmp_path: Path, step: str, moment: str) -> None:
    """Refused because the destination became active meanwhile; or an inactive definition was in the way and is replaced."""
    World.made(tmp_path / "world.json", b=OFF)
    died = carry(tmp_path, "ask-everything" if step == "replace-definition" else "ask", f"{step}:{moment}")
    assert died.returncode == -signal.SIGKILL, (died.returncode, died.stderr)
    assert carry(tmp_path, "recover").returncode == 0
    world = World(tmp_path / "world.json").read()
    moved = step == "replace-definition"
    assert (world["a"], world["b"]) == ((None, ARRIVED) if moved else (AT_HOME, OFF))
    records = open_records(tmp_path)
    assert records.lease(UUID) == ""
    (request,) = records.requests()
    assert records.phase(request.id) == ("succeeded" if moved else "refused")
    records.engine.dispose()


@pytest.mark.parametrize(
    ("source", "destination", "status", "expected_source", "expected_destination"),
    [
        pytest.param(PAUSED, RUNNING, "succeeded", None, ARRIVED, id="a husk is destroyed and undefined"),
        pytest.param(OFF, RUNNING, "succeeded", None, ARRIVED, id="a definition left at the source goes"),
        pytest.param(None, RUNNING, "succeeded", None, ARRIVED, id="it had arrived"),
        pytest.param(PAUSED, None, "failed", AT_HOME, None, id="the only copy is resumed"),
        pytest.param(PAUSED, OFF, "needs attention", PAUSED, OFF, id="the destination had taken over and ended: nothing is touched"),
        pytest.param(RUNNING, OFF, "failed", AT_HOME, None, id="a new definition at the destination goes"),
        pytest.param(RUNNING, None, "failed", AT_HOME, None, id="it had never left"),
        pytest.param(OFF, OFF, "needs attention", OFF, OFF, id="off twice: which is newer is not known"),
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
    _left_as(tmp_path, source, destination)
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


def test_a_copied_disk_stays_while_the_guest_runs_nowhere(tmp_path: Path) -> None:
    """It may have run at the destination, whose libvirtd died before it wrote the definition: then that copy is the newer one."""
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, "ask", "transfer:inside")
    made = "b/srv/shared/web-2.qcow2"
    with World(tmp_path / "world.json").opened() as world:
        world["a"], world["b"], world["job"] = OFF, None, None
    assert carry(tmp_path, "recover").returncode == 0
    assert made in World(tmp_path / "world.json").read()["volumes"]
    records = open_records(tmp_path)
    (request,) = records.requests()
    outcome = records.report(request.id).outcome
    assert outcome is not None
    assert outcome.status == "needs attention"
    assert "its definition is at the source" in outcome.reason
    assert "volume /srv/shared/web-2.qcow2 at b: the guest runs nowhere, and may have run upon it" in outcome.reason
    with World(tmp_path / "world.json").opened() as world:
        world["a"]["state"] = "running"  # somebody has looked, and decided
    assert carry(tmp_path, "recover").returncode == 0
    assert made not in World(tmp_path / "world.json").read()["volumes"]
    assert records.lease(UUID) == ""
    records.engine.dispose()


def test_the_old_disks_of_a_guest_that_does_not_answer_are_not_retired(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    with World(tmp_path / "world.json").opened() as world:
        world["dark"] = True
    assert carry(tmp_path, "ask-everything").returncode == 0
    world = World(tmp_path / "world.json").read()
    assert (world["a"], world["b"]) == (None, ARRIVED)
    assert "a/srv/shared/web.qcow2" in world["volumes"]
    records = open_records(tmp_path)
    (request,) = records.requests()
    assert records.phase(request.id) == "needs attention"
    assert [kept["path"] for kept in records.facts(request.id)["left_to_retire"]] == ["/srv/shared/web.qcow2"]
    records.engine.dispose()


def _killed_in_the_transfer(state: Path, what: str) -> tuple[dict[str, Any], str, str]:
    """(the world, status, reason) after a recovery."""
    World.made(state / "world.json")
    assert carry(state, what, "sampled").returncode == -signal.SIGKILL
    assert carry(state, "recover").returncode == 0
    records = open_records(state)
    (request,) = records.requests()
    outcome = records.report(request.id).outcome
    assert outcome is not None
    assert records.lease(UUID) == ""
    records.engine.dispose()
    return World(state / "world.json").read(), outcome.status, outcome.reason


def test_a_peer_to_peer_transfer_outlives_ferryman(tmp_path: Path) -> None:
    world, status, _ = _killed_in_the_transfer(tmp_path, "ask")
    assert (world["a"], world["b"], world["calls"]) == (None, ARRIVED, 1)
    assert status == "succeeded"


def test_a_carried_one_ends_with_ferryman_and_is_put_back(tmp_path: Path) -> None:
    world, status, reason = _killed_in_the_transfer(tmp_path, "ask-carried")
    assert (world["a"], world["b"], world["calls"]) == (AT_HOME, None, 1)
    assert status == "failed"
    assert "ferryman carried the handshake" in reason
