"""A guest most of which is copied while it runs: killed at every step, failed at every step, and nothing of the passes stays in it."""

import json
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from ferryman.model.request import Options
from ferryman.model.units import GIB
from ferryman.plain import to_plain
from tests.durability.fakes import World
from tests.durability.killing import every_moment, killed_and_recovered, told
from tests.durability.processes import Carrying, carry
from tests.durability.test_cold import AT_HOME, arrived, at_home, change, mostly_whole, world
from tests.durability.test_windows import pass_time, until, waiting

WARM = Options(warm=True, eject=True, retire=True, stop_timeout=5.0)
STEPS = ("admit", "plan", "save-definition", "save-snapshots", "mark", "eject-media", "make-volumes", "try-definition", "copy-ahead", "watch", "autostart-off", "tell-before-stop",
         "stop", "hold", "copy-disks", "arrive", "leave", "start", "health", "settle", "enter-completing", "open", "autostart-on", "release", "forget-passes", "note-left",
         "drop-undo", "verify", "retire", "tell-end", "report")  # fmt: skip
BEFORE_OPEN = STEPS[STEPS.index("copy-ahead") : STEPS.index("settle")]


def ask(**changes: Any) -> str:
    return f"ask:{json.dumps(to_plain(WARM) | changes)}"


def nothing_remembered(state: Path) -> None:
    assert not world(state).get("bitmaps")


def test_a_guest_goes_over_and_only_the_rest_is_copied_while_it_stands_still(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    assert carry(tmp_path, ask()).returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    phases = [entry.phase for entry in told(tmp_path).phases]
    assert phases.index("copying ahead") < phases.index("stopping") < phases.index("transferring")


@pytest.mark.parametrize(("step", "moment"), every_moment(STEPS, turn=1))
def test_killed_at_each_step(tmp_path: Path, step: str, moment: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    killed_and_recovered(tmp_path, ask(), f"{step}:{moment}")
    arrived(tmp_path)
    nothing_remembered(tmp_path)


@pytest.mark.parametrize("step", mostly_whole(BEFORE_OPEN, "copy-ahead", "copy-disks", "leave"))
def test_cancelled_after_any_step_before_the_links_are_up_it_runs_at_home_and_remembers_nothing(
    tmp_path: Path, step: str
) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(), f"{step}:inside")
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    assert carry(tmp_path, "recover").returncode == 0
    at_home(tmp_path, "cancelled")
    nothing_remembered(tmp_path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"copy_fails": "no space left"}, "no space left"),
        ({"deaf": True}, "did not shut down"),
        ({"befalls": "it rebooted"}, "it rebooted"),
    ],
)
def test_what_fails_is_put_back_and_named(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, **changes)
    assert carry(tmp_path, ask()).returncode == 0
    report = at_home(tmp_path, "failed")
    assert report.outcome is not None
    assert why in report.outcome.reason
    nothing_remembered(tmp_path)


def test_a_job_that_somebody_else_began_meanwhile_is_not_ended(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(), "copy-ahead:before")
    change(tmp_path, a=world(tmp_path)["a"] | {"backup": "another"})
    carry(tmp_path, "recover")
    now = world(tmp_path)
    assert (now["a"]["state"], now["a"]["backup"]) == ("running", "another")
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "needs attention"
    change(tmp_path, a={key: value for key, value in now["a"].items() if key != "backup"})
    assert carry(tmp_path, "recover").returncode == 0
    at_home(tmp_path, "failed")


def test_without_room_for_what_it_overwrites_nothing_begins(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, room=GIB // 100)
    assert carry(tmp_path, ask()).returncode == 0
    report = at_home(tmp_path, "refused")
    assert report.outcome is not None
    assert "/srv/shared" in report.outcome.reason


def test_what_was_written_and_is_not_known_any_more_is_compared_as_a_whole(tmp_path: Path) -> None:
    """A QEMU that crashed leaves an inconsistent bitmap: said, and nothing relied upon."""
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(at=_soon(4.0)), "wait:inside")
    change(tmp_path, forgets=True)
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    assert any("all of it is compared" in one for one in told(tmp_path).decisions)


OVERLAY, OTHER = {"overlay": "/srv/shared/web.snap"}, "vda is /srv/shared/web.snap, and was /srv/shared/web.qcow2"


@pytest.mark.parametrize(
    ("step", "changes", "why", "stopped"),
    [
        ("wait", OVERLAY, OTHER, False),
        ("hold", OVERLAY, OTHER, True),
        ("wait", {"snapshots": ["before"]}, "it has snapshots at the source by now: before", False),
    ],
)
def test_a_guest_whose_storage_is_another_by_then_stays_where_it_is(
    tmp_path: Path, step: str, changes: dict[str, Any], why: str, stopped: bool
) -> None:
    """After a snapshot to a file of its own, what it writes is not in the image that was copied."""
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(at=_soon(4.0)), f"{step}:inside")
    change(tmp_path, **changes)
    assert carry(tmp_path, "recover").returncode == 0
    report = at_home(tmp_path, "failed")
    assert report.outcome is not None
    assert why in report.outcome.reason
    assert ("stopping" in [entry.phase for entry in report.phases]) is stopped
    nothing_remembered(tmp_path)


def test_it_is_copied_before_its_moment_and_stopped_then(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    assert carry(tmp_path, ask(at=_soon(7.0))).returncode == 0
    arrived(tmp_path)
    report = told(tmp_path)
    names = [entry.phase for entry in report.phases]
    first, waited, again = names.index("copying ahead"), names.index("waiting"), len(names) - 1 - names[::-1].index("copying ahead")  # fmt: skip
    assert first < waited < again < names.index("stopping")
    assert any("it begins at" in one for one in report.decisions)


def test_a_pass_that_was_interrupted_is_followed_by_another(tmp_path: Path) -> None:
    """The guest wrote all the while, and the seconds that were left of it tell nothing of that."""
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, copy_lasts=True)
    process = Carrying(tmp_path, ask())
    until(lambda: "frozen" in world(tmp_path), "no pass begins")
    process.signal(signal.SIGKILL)
    process.ended()
    change(tmp_path, copy_lasts=False)
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    assert [text.partition(":")[0] for text in told(tmp_path).decisions if text.startswith("pass ") and "read" in text] == ["pass 1", "pass 2"]  # fmt: skip


def test_a_pass_begins_anew_though_a_qemu_that_was_killed_left_its_scratch_file(tmp_path: Path) -> None:
    """The source's host went down in it, and with it this ferryman; the guest runs again."""
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, copy_lasts=True)
    process = Carrying(tmp_path, ask())
    until(lambda: "frozen" in world(tmp_path), "no pass begins")
    process.signal(signal.SIGKILL)
    process.ended()
    restarted = {name: value for name, value in world(tmp_path)["a"].items() if name != "backup"}
    change(tmp_path, copy_lasts=False, a=restarted)
    assert world(tmp_path)["scratch"]
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    assert not world(tmp_path)["scratch"]


def test_after_a_pass_that_was_given_up_the_next_brings_what_was_written_since_the_last_complete_one(
    tmp_path: Path,
) -> None:
    """The source's host went down in the second pass, whose checkpoint stays: since then is not enough."""
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(at=_soon(4.0)), "wait:inside")
    change(tmp_path, copy_lasts=True)
    process = Carrying(tmp_path, "recover")
    until(lambda: world(tmp_path)["frozen"].endswith("-2"), "no second pass begins")
    process.signal(signal.SIGKILL)
    process.ended()
    change(tmp_path, copy_lasts=False, a={name: value for name, value in world(tmp_path)["a"].items() if name != "backup"})  # fmt: skip
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    records = open_records(tmp_path)
    request = records.requests()[0].id
    found = [(one["since"], one["complete"]) for one in records.facts(request)["passes"]]
    records.engine.dispose()
    first = f"ferryman-{request}-1"
    assert found == [("", True), (first, False), (first, True)]


@pytest.mark.parametrize("ends", [False, True])
def test_a_guest_that_found_no_room_while_nobody_looked_goes_on(tmp_path: Path, ends: bool) -> None:
    """Its own write had no place for what it overwrites, and it stands still. The pass is given up, or comes to its end before that is seen."""
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, copy_lasts=True)
    process = Carrying(tmp_path, ask())
    until(lambda: "frozen" in world(tmp_path), "no pass begins")
    process.signal(signal.SIGKILL)
    process.ended()
    change(
        tmp_path,
        copy_lasts=not ends,
        scratch_fills=True,
        a=world(tmp_path)["a"] | {"state": "halted", "storage_failed": True},
    )
    assert carry(tmp_path, "recover").returncode == 0
    if ends:
        arrived(tmp_path)
    else:
        at_home(tmp_path, "failed")
    nothing_remembered(tmp_path)
    assert any("it goes on now" in one for one in told(tmp_path).decisions)


def test_a_guest_that_was_started_anew_while_the_move_waited_bears_its_mark_again(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    carry(tmp_path, ask(at=_soon(4.0)), "wait:inside")
    change(tmp_path, a={name: value for name, value in world(tmp_path)["a"].items() if name != "mark"})
    carry(tmp_path, "recover", "watch:inside")
    assert "mark" in world(tmp_path)["a"]
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)


def left_waiting(state: Path) -> None:
    """Copied ahead, and killed while it waited for its moment."""
    World.with_local_disks(state / "world.json")
    process = waiting(state, ask(at=_soon(100_000.0)))
    process.signal(signal.SIGKILL)
    process.ended()


def test_a_moment_that_nobody_waited_for_is_missed_though_it_was_copied_ahead(tmp_path: Path) -> None:
    left_waiting(tmp_path)
    pass_time(tmp_path, at=_soon(-3600.0))
    records = open_records(tmp_path)
    facts = records.facts(records.requests()[0].id)
    passed = {name: facts[name] - 9000.0 for name in ("at_work_since", "at_work_at")}
    records.keep_facts(records.requests()[0].id, passed)
    records.engine.dispose()
    assert carry(tmp_path, "recover").returncode == 0
    report = at_home(tmp_path, "refused")
    assert report.outcome is not None
    assert "nobody carried it out then" in report.outcome.reason
    assert "stopping" not in [entry.phase for entry in report.phases]
    nothing_remembered(tmp_path)


def test_what_another_version_left_waiting_is_put_back_and_named(tmp_path: Path) -> None:
    left_waiting(tmp_path)
    with closing(sqlite3.connect(tmp_path / "dbos.sqlite")) as database, database:
        database.execute("UPDATE workflow_status SET application_version = 'of yesterday'")
    assert carry(tmp_path, "recover").returncode == 0
    report = at_home(tmp_path, "failed")
    assert report.outcome is not None
    assert "left by an earlier process" in report.outcome.reason
    nothing_remembered(tmp_path)


def test_a_stop_that_would_not_fit_does_not_happen(tmp_path: Path) -> None:
    """Less is left of the time than it takes to see whether the guest is well."""
    World.with_local_disks(tmp_path / "world.json")
    assert carry(tmp_path, ask(give_up_at=_soon(4.0))).returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert "it was not stopped" in report.outcome.reason
    now = world(tmp_path)
    assert (now["a"], now["b"]) == (AT_HOME, None)
    nothing_remembered(tmp_path)


def _soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
