"""A guest that is moved stopped: killed at every step, failed at every step, and never two that can run, never none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from ferryman.execute import undo
from ferryman.model.outcome import Report
from tests.durability.killing import MOMENTS, every_moment, killed_and_recovered, told
from tests.durability.processes import carry
from tests.durability.world import World, change, world

STEPS = ("admit", "plan", "watch", "save-definition", "save-snapshots", "mark", "make-volumes", "try-definition", "eject-media", "autostart-off", "tell-before-stop", "stop", "hold", "copy-disks",
         "arrive", "leave", "start", "health", "settle", "enter-completing", "open", "autostart-on", "release", "note-left",
         "drop-undo", "verify", "retire", "tell-end", "report")  # fmt: skip
BEFORE_OPEN = STEPS[STEPS.index("stop") : STEPS.index("settle")]
AT_HOME = {"state": "running", "autostart": True}
ARRIVED = {"state": "running", "autostart": True}


def arrived(state: Path) -> None:
    now = world(state)
    assert "ferryman retire" in now["labels"]["a/srv/shared/web.qcow2"]
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
    assert {entry.act for entry in report.undo if entry.state == "done"} <= {"release-images"}
    assert {entry.state for entry in report.undo} <= {"dropped", "done"}


def at_home(state: Path, status: str) -> Report:
    now = world(state)
    now["a"].pop("run", "")  # of the run that it never left
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


def test_a_guest_goes_over_stopped(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carried = carry(tmp_path, "ask-cold")
    assert carried.returncode == 0, carried.stderr
    arrived(tmp_path)


@pytest.mark.parametrize(("step", "moment"), every_moment(STEPS))
def test_killed_at_each_step(tmp_path: Path, step: str, moment: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    killed_and_recovered(tmp_path, "ask-cold", f"{step}:{moment}")
    arrived(tmp_path)


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


def test_a_cancel_that_comes_after_the_hosts_were_asked_still_counts(tmp_path: Path) -> None:
    """Until the phase is entered that refuses it: what was decided then is a note."""
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, "ask-cold", "settle:after")
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    assert carry(tmp_path, "recover").returncode == 0
    at_home(tmp_path, "cancelled")


def test_a_destination_that_dies_under_the_copy_gives_the_guest_back_at_once_and_the_rest_when_it_is_there_again(
    tmp_path: Path,
) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, dies_under_the_copy=True)
    assert carry(tmp_path, "ask-cold").returncode == 0
    now = world(tmp_path)
    assert (now["a"], now["b"], now["medium"]) == (AT_HOME, None, "/srv/shared/iso")
    assert not any(now["held"].values())
    report = told(tmp_path)
    assert report.outcome is not None
    assert (report.outcome.status, report.outcome.running_at) == ("needs attention", "a")
    for words in ("b does not answer", "volume web-2.qcow2 in pool shared", "copied to /srv/shared/web-2.qcow2"):
        assert words in report.outcome.reason
    assert "started web again at a" in report.decisions
    change(tmp_path, silent=[])
    assert carry(tmp_path, "recover").returncode == 0
    at_home(tmp_path, "failed")


@pytest.mark.parametrize("looks", [28, 40])
def test_one_that_shuts_down_after_it_was_given_up_is_started_again(tmp_path: Path, looks: int) -> None:
    """It was asked, and nobody can take that back: it is watched for a while, and the report says what it did."""
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, obeys_late=looks)  # the move itself looks 26 times in the 5 s that it gives
    assert carry(tmp_path, "ask-cold").returncode == 0
    report = at_home(tmp_path, "failed")
    told = " ".join(report.decisions)
    assert "web has shut down after all" in told
    assert "started web again at a" in told


def test_one_that_stood_still_stands_still_again_when_it_is_put_back(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, a={"state": "halted", "autostart": True}, befalls="it crashed")
    assert carry(tmp_path, "ask-forced").returncode == 0
    assert world(tmp_path)["a"] == {"state": "halted", "autostart": True}
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "failed", report.outcome
    assert "started web again at a, paused" in " ".join(report.decisions)


def test_a_hold_that_cannot_be_let_go_is_said_and_let_go_by_recover(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, no_ssh=["a"])
    assert carry(tmp_path, "ask-cold").returncode == 0
    now = world(tmp_path)
    assert (now["a"], now["b"], now["held"]) == (None, ARRIVED, {"a": ["vda"]})
    assert "a/srv/shared/web.qcow2" in now["volumes"]  # --retire waits for that
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "needs attention"
    assert "the guest runs at b; its images at a are still held" in report.outcome.reason
    assert [entry.act for entry in report.undo if entry.state == "failed"] == ["release-images"]
    assert carry(tmp_path, "recover").returncode == 0  # in vain
    assert world(tmp_path)["held"] == {"a": ["vda"]}
    change(tmp_path, no_ssh=[])
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)


@pytest.mark.parametrize("state", ["running", "off"])
def test_while_it_stands_still_its_definition_bears_the_mark(tmp_path: Path, state: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    if state == "off":
        change(tmp_path, a={"state": "off", "autostart": True}, files={"a": {}, "b": {}}, local=False)
    carry(tmp_path, "ask-cold", "arrive:before")
    assert world(tmp_path)["a"]["state"] == "off"
    records = open_records(tmp_path)
    assert world(tmp_path)["a"]["mark"]["request"] == records.requests()[0].id
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    assert carry(tmp_path, "recover").returncode == 0
    assert world(tmp_path)["a"] == {"state": state, "autostart": True}


@pytest.mark.parametrize("step", ["enter-rolling-back", "undo"])
@pytest.mark.parametrize("moment", mostly_whole(MOMENTS, "inside"))
def test_killed_while_it_is_put_back(tmp_path: Path, step: str, moment: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, befalls="it crashed")
    killed_and_recovered(tmp_path, "ask-cold", f"{step}:{moment}")
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
