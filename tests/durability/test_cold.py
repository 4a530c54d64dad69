"""A guest that is moved stopped: killed at every step, failed at every step, and never two that can run, never none."""

import itertools
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from ferryman.execute import undo
from ferryman.model.outcome import Report
from ferryman.model.phase import Phase, may_follow
from tests.durability.fakes import World
from tests.durability.processes import carry
from tests.durability.test_killed_at_every_step import MOMENTS
from tests.unit.sites import UUID

STEPS = ("admit", "plan", "watch", "save-definition", "save-snapshots", "mark", "eject-media", "make-volumes", "try-definition", "autostart-off", "stop", "hold", "copy-disks",
         "arrive", "leave", "start", "health", "settle", "enter-completing", "open", "autostart-on", "release", "note-left",
         "drop-undo", "verify", "retire", "report")  # fmt: skip
ONCE = [(step, MOMENTS[number % 3]) for number, step in enumerate(STEPS)]
WHOLE = [(step, moment) for step in STEPS for moment in MOMENTS if (step, moment) not in ONCE]
BEFORE_OPEN = STEPS[STEPS.index("stop") : STEPS.index("settle")]
AT_HOME = {"state": "running", "autostart": True}
ARRIVED = {"state": "running", "autostart": True}


def told(state: Path) -> Report:
    records = open_records(state)
    (request,) = records.requests()
    report = records.report(request.id)
    held = records.lease(UUID)
    records.engine.dispose()
    assert report.outcome is not None
    assert bool(held) is (report.outcome.status == "needs attention"), report.outcome
    phases = [Phase(entry.phase) for entry in report.phases]
    for earlier, later in itertools.pairwise(phases):
        assert may_follow(earlier, later), phases
    return report


def world(state: Path) -> dict[str, Any]:
    return World(state / "world.json").read()


def change(state: Path, **changes: Any) -> None:
    content = json.loads((state / "world.json").read_text()) | changes
    (state / "world.json").write_text(json.dumps(content))


def arrived(state: Path) -> None:
    now = world(state)
    assert (now["a"], now["b"]) == (None, ARRIVED)
    assert not any(now["held"].values())
    assert now["journals"] == {}
    assert now["volumes"] == [
        "b/srv/shared/web.qcow2",
        "b/srv/shared/web-2.qcow2",
    ]  # somebody's, and ours; the old one is retired
    report = told(state)
    assert report.outcome is not None
    assert report.outcome.status == "succeeded", report.outcome
    assert {entry.state for entry in report.undo} <= {"dropped"}


def at_home(state: Path, status: str) -> Report:
    now = world(state)
    assert (now["a"], now["b"]) == (AT_HOME, None)
    assert not any(now.get("held", {}).values())
    assert not now.get("journals")
    assert now["volumes"] == ["a/srv/shared/web.qcow2", "b/srv/shared/web.qcow2"]
    assert now["medium"] == "/srv/shared/iso"
    report = told(state)
    assert report.outcome is not None
    assert report.outcome.status == status, report.outcome
    assert {entry.state for entry in report.undo} <= {"done"}
    return report


def killed_and_recovered(state: Path, moment: str) -> None:
    World.with_local_disks(state / "world.json")
    died = carry(state, "ask-cold", moment)
    assert died.returncode == -signal.SIGKILL, (died.returncode, died.stderr)
    recovered = carry(state, "recover")
    assert recovered.returncode == 0, recovered.stderr
    arrived(state)


def test_a_guest_goes_over_stopped(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carried = carry(tmp_path, "ask-cold")
    assert carried.returncode == 0, carried.stderr
    arrived(tmp_path)


@pytest.mark.parametrize(("step", "moment"), ONCE)
def test_killed_once_at_each_step(tmp_path: Path, step: str, moment: str) -> None:
    killed_and_recovered(tmp_path, f"{step}:{moment}")


@pytest.mark.whole
@pytest.mark.parametrize(("step", "moment"), WHOLE)
def test_killed_at_each_step_at_every_moment(tmp_path: Path, step: str, moment: str) -> None:
    killed_and_recovered(tmp_path, f"{step}:{moment}")


def mostly_whole(steps: Sequence[str], *always: str) -> list[Any]:
    """Those named in each run, the others in the whole product."""
    return [step if step in always else pytest.param(step, marks=pytest.mark.whole) for step in steps]


@pytest.mark.parametrize("step", mostly_whole(BEFORE_OPEN, "copy-disks", "start"))
def test_cancelled_after_any_step_before_the_links_are_up_it_runs_at_home_again(tmp_path: Path, step: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, "ask-cold", f"{step}:inside")
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    assert carry(tmp_path, "recover").returncode == 0
    at_home(tmp_path, "cancelled")


@pytest.mark.parametrize("step", ["enter-rolling-back", "undo"])
@pytest.mark.parametrize("moment", mostly_whole(MOMENTS, "inside"))
def test_killed_while_it_is_put_back(tmp_path: Path, step: str, moment: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, befalls="it crashed")
    died = carry(tmp_path, "ask-cold", f"{step}:{moment}")
    assert died.returncode == -signal.SIGKILL, (died.returncode, died.stderr)
    assert carry(tmp_path, "recover").returncode == 0
    at_home(tmp_path, "failed")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"deaf": True}, "did not shut down"),
        ({"copy_fails": "no space left"}, "no space left"),
        ({"befalls": "it rebooted"}, "it rebooted"),
        ({"fault": "a prefix that nobody expected"}, "a fault in ferryman: ValueError: a prefix that nobody expected"),
    ],
)
def test_what_fails_is_put_back_and_named(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, **changes)
    assert carry(tmp_path, "ask-cold").returncode == 0
    report = at_home(tmp_path, "failed")
    assert report.outcome is not None
    assert why in report.outcome.reason


def test_what_the_destination_would_not_take_is_refused_before_the_guest_is_stopped(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, refuses="unsupported configuration: no such device")
    assert carry(tmp_path, "ask-cold").returncode == 0
    report = at_home(tmp_path, "refused")
    assert report.outcome is not None
    assert "no such device" in report.outcome.reason
    acts = {entry.act for entry in report.undo}
    assert undo.REMOVE_VOLUME in acts
    assert not acts & {undo.START_SOURCE, undo.RESTORE_AUTOSTART}


def test_a_guest_that_was_off_stays_off(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, a={"state": "off", "autostart": True}, files={"a": {}, "b": {}}, local=False)
    assert carry(tmp_path, "ask-cold").returncode == 0
    now = world(tmp_path)
    assert (now["a"], now["b"]) == (None, {"state": "off", "autostart": True})
    assert told(tmp_path).outcome.status == "succeeded"  # type: ignore[union-attr]
