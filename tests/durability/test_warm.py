"""A guest most of which is copied while it runs: killed at every step, failed at every step, and nothing of the passes stays in it."""

import json
import signal
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.database.records import open_records
from ferryman.model.request import Options
from ferryman.model.units import GIB
from ferryman.plain import to_plain
from tests.durability.killing import every_moment, killed_and_recovered, says, told
from tests.durability.processes import Carrying, carry
from tests.durability.test_cold import AT_HOME, arrived, at_home, mostly_whole
from tests.durability.test_windows import pass_time, until, waiting
from tests.durability.world import World, change, world

WARM = Options(warm=True, eject=True, retire=True, stop_timeout=5.0)
STEPS = ("admit", "plan", "save-definition", "save-snapshots", "mark", "make-volumes", "try-definition", "free-to-copy", "copy-ahead", "watch", "free-to-stop", "eject-media", "autostart-off", "tell-before-stop",
         "stop", "hold", "copy-disks", "arrive", "leave", "start", "health", "settle", "enter-completing", "open", "autostart-on", "release", "forget-passes", "note-left",
         "drop-undo", "verify", "retire", "tell-end", "report")  # fmt: skip
BEFORE_OPEN = STEPS[STEPS.index("copy-ahead") : STEPS.index("settle")]


def ask(**changes: Any) -> str:
    return f"ask:{json.dumps(to_plain(WARM) | changes)}"


def in_a_pass(directory: Path, *, state: str = "running", **options: Any) -> Carrying:
    """A process that copies a guest in that state ahead, until `copy_lasts` is over or it is asked to end."""
    World.with_local_disks(directory / "world.json")
    change(directory, copy_lasts=True, a=world(directory)["a"] | {"state": state})
    process = Carrying(directory, ask(**options))
    until(lambda: "frozen" in world(directory), "no pass begins")
    return process


def nothing_remembered(state: Path) -> None:
    assert not world(state).get("bitmaps")


def test_a_guest_goes_over_and_only_the_rest_is_copied_while_it_stands_still(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    assert carry(tmp_path, ask()).returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)
    phases = [entry.phase for entry in told(tmp_path).phases]
    assert phases.index("copying ahead") < phases.index("stopping") < phases.index("transferring")
    assert any("once the guest is off, what is left needs about" in text for text in told(tmp_path).decisions)


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


def test_an_image_that_is_too_old_to_remember_is_read_in_each_pass(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, old=True)
    assert carry(tmp_path, ask()).returncode == 0
    arrived(tmp_path)
    assert "bitmaps" not in world(tmp_path)
    assert "warm-reads-all" in {one.code for one in told(tmp_path).findings_before}


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


GROWN, LARGER = {"capacity": 2 * GIB}, "vda holds 2 GiB, and held 1 GiB"
OVERLAY, OTHER = {"overlay": "/srv/shared/web.snap"}, "vda is /srv/shared/web.snap, and was /srv/shared/web.qcow2"


@pytest.mark.parametrize(
    ("step", "changes", "why", "stopped"),
    [
        ("wait", OVERLAY, OTHER, False),
        ("hold", OVERLAY, OTHER, True),
        ("wait", GROWN, LARGER, False),
        ("watch", GROWN, LARGER, False),
        ("hold", GROWN, LARGER, True),
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
    if step == "wait":
        assert world(tmp_path)["brought"] == [f"ferryman-{report.request.id}-1"], "another pass was copied in vain"


def test_it_is_copied_before_its_moment_and_stopped_then(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    assert carry(tmp_path, ask(at=_soon(7.0))).returncode == 0
    arrived(tmp_path)
    report = told(tmp_path)
    names = [entry.phase for entry in report.phases]
    first, waited, again = names.index("copying ahead"), names.index("waiting"), len(names) - 1 - names[::-1].index("copying ahead")  # fmt: skip
    assert first < waited < again < names.index("stopping")
    assert any("it begins at" in one for one in report.decisions)


def test_its_medium_stays_in_its_drive_until_right_before_the_stop(tmp_path: Path) -> None:
    left_waiting(tmp_path)
    assert world(tmp_path)["medium"]
    pass_time(tmp_path, at=_soon(-1.0))
    carry(tmp_path, "recover", "stop:before")
    assert not world(tmp_path)["medium"]
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)


def test_a_pass_that_was_interrupted_is_followed_by_another(tmp_path: Path) -> None:
    """The guest wrote all the while, and the seconds that were left of it tell nothing of that."""
    process = in_a_pass(tmp_path)
    process.signal(signal.SIGKILL)
    process.ended()
    change(tmp_path, copy_lasts=False)
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    assert [text.partition(":")[0] for text in told(tmp_path).decisions if text.startswith("pass ") and "read" in text] == ["pass 1", "pass 2"]  # fmt: skip


def test_a_pass_begins_anew_though_a_qemu_that_was_killed_left_its_scratch_file(tmp_path: Path) -> None:
    """The source's host went down in it, and with it this ferryman; the guest runs again."""
    process = in_a_pass(tmp_path)
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


@pytest.mark.parametrize("before", ["running", "halted"])
def test_a_guest_that_stands_still_during_a_pass_though_there_is_room_by_now_goes_on(
    tmp_path: Path, before: str
) -> None:
    """Its scratch file was full between two looks. Somebody may have let one that was suspended go on meanwhile."""
    process = in_a_pass(tmp_path, state=before)
    change(tmp_path, a=world(tmp_path)["a"] | {"state": "halted", "storage_failed": True})
    assert process.ended().returncode == 0
    report = at_home(tmp_path, "failed")
    assert report.outcome is not None
    assert "the guest stands still" in report.outcome.reason
    assert any("it goes on now" in one for one in report.decisions)
    nothing_remembered(tmp_path)


def test_a_libvirtd_that_is_restarted_during_a_pass_is_waited_for_and_the_pass_goes_on(tmp_path: Path) -> None:
    process = in_a_pass(tmp_path)
    change(tmp_path, copy_lasts=False, silent=["a"])
    until(lambda: says(tmp_path, "it is waited for"), "nobody waits")
    change(tmp_path, silent=[])
    assert process.ended().returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)


def test_one_that_stays_away_ends_the_move_and_what_is_left_there_is_taken_back_once_it_answers(tmp_path: Path) -> None:
    process = in_a_pass(tmp_path)
    change(tmp_path, copy_lasts=False, silent=["a"])
    assert process.ended().returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "needs attention"
    assert world(tmp_path)["a"]["backup"]
    change(tmp_path, silent=[])
    assert carry(tmp_path, "recover").returncode == 0
    at_home(tmp_path, "failed")
    nothing_remembered(tmp_path)


def test_whoever_cancels_while_it_is_away_is_heard_at_once(tmp_path: Path) -> None:
    process = in_a_pass(tmp_path, retry=2)
    change(tmp_path, copy_lasts=False, silent=["a"])
    until(lambda: says(tmp_path, "it is waited for"), "nobody waits")
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    time.sleep(0.5)
    change(tmp_path, silent=[])
    assert process.ended().returncode == 0
    at_home(tmp_path, "cancelled")
    nothing_remembered(tmp_path)


@pytest.mark.parametrize("ends", [False, True])
def test_a_guest_that_found_no_room_while_nobody_looked_goes_on(tmp_path: Path, ends: bool) -> None:
    """Its own write had no place for what it overwrites, and it stands still. The pass is given up, or comes to its end before that is seen."""
    process = in_a_pass(tmp_path)
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
    passed = {name: facts[name] - 9000.0 for name in ("at_work_since", "at_work_at", "at_work_until")}
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


def test_what_the_images_remember_is_taken_out_of_them_once_they_can_be_let_go(tmp_path: Path) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, no_ssh=["a"])
    assert carry(tmp_path, ask()).returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "needs attention"
    assert world(tmp_path)["bitmaps"]
    change(tmp_path, no_ssh=[])
    assert carry(tmp_path, "recover").returncode == 0
    arrived(tmp_path)
    nothing_remembered(tmp_path)


def test_a_stop_that_would_not_fit_does_not_happen(tmp_path: Path) -> None:
    """Less is left of the time than it takes to see whether the guest is well."""
    World.with_local_disks(tmp_path / "world.json")
    assert carry(tmp_path, ask(give_up_at=_soon(4.0))).returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert "it was not stopped" in report.outcome.reason
    now = world(tmp_path)
    now["a"].pop("run")
    assert (now["a"], now["b"]) == (AT_HOME, None)
    nothing_remembered(tmp_path)


def _soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
