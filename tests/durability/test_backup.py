"""A guest is backed up: killed at every step, failed at every step, and never half a backup that looks whole, never a guest left frozen."""

import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from ferryman.drivers.database import schema
from ferryman.drivers.database.records import open_records
from ferryman.model.backup import MANIFEST
from ferryman.model.outcome import Report
from ferryman.plain import from_json, to_json
from tests.durability.killing import every_moment, killed_and_recovered, told
from tests.durability.processes import carry
from tests.durability.world import World, change, world

STEPS = ("admit", "plan-backup", "make-folder", "begin-backup", "save-guest", "copy-to-backup", "end-backup", "write-manifest",
         "finish-backup", "tell-end", "report")  # fmt: skip
OF_ONE_THAT_IS_OFF = ("hold-images", "copy-to-backup", "write-manifest", "finish-backup")
HERE = "places/this machine/backups/web-6a1f0f3e"


def made(state: Path, guest: str = "running", **changes: Any) -> None:
    World.made(state / "world.json", guest, files={"a": {}, "b": {}}, agent=True, **changes)


def folders(state: Path) -> list[str]:
    """All that lies where the guest's backups are."""
    place = state / HERE
    return sorted(one.name for one in place.iterdir()) if place.exists() else []


def manifest(state: Path, number: int = -1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((state / HERE / folders(state)[number] / MANIFEST).read_text())
    return found


def newest(state: Path) -> Report:
    records = open_records(state)
    report = records.report(records.requests()[0].id)
    records.engine.dispose()
    return report


def untouched(state: Path) -> None:
    """The guest is as before: nothing offers its disks, nothing is frozen, nothing is held."""
    now = world(state)
    assert not {"backup", "frozen"} & set(now["a"])
    assert not any(now.get("held", {}).values())


def succeeded(state: Path) -> None:
    untouched(state)
    report = told(state)
    assert report.outcome is not None
    assert report.outcome.status == "succeeded", report.outcome
    (folder,) = folders(state)
    assert not folder.startswith(".")
    assert sorted(one.name for one in (state / HERE / folder).iterdir()) == ["definition.xml", MANIFEST, "vda.qcow2"]
    found = manifest(state)
    assert (found["guest"], found["disks"][0]["digest"]) == ("web", "d-c0")
    assert {entry.state for entry in report.undo} <= {"dropped", "done"}


def nothing_left(state: Path, status: str) -> Report:
    untouched(state)
    now = world(state)
    assert folders(state) == []
    assert not now.get("journals")
    assert not now["a"].get("checkpoints")
    report = told(state)
    assert report.outcome is not None
    assert report.outcome.status == status, report.outcome
    assert {entry.state for entry in report.undo} <= {"done"}
    return report


def test_a_running_guest_is_frozen_for_a_moment_and_backed_up(tmp_path: Path) -> None:
    made(tmp_path)
    carried = carry(tmp_path, "backup")
    assert carried.returncode == 0, carried.stderr
    succeeded(tmp_path)
    assert manifest(tmp_path)["consistency"] == "frozen"
    assert world(tmp_path)["a"]["checkpoints"] == [manifest(tmp_path)["checkpoint"]]
    report = told(tmp_path)
    assert report.backup is not None
    assert (report.backup.chain, report.backup.upon) == (1, ())
    assert "froze 2 file systems" in " ".join(report.decisions)


@pytest.mark.parametrize(("step", "moment"), every_moment(STEPS))
def test_killed_at_each_step_it_is_finished_by_the_next_process(tmp_path: Path, step: str, moment: str) -> None:
    made(tmp_path)
    killed_and_recovered(tmp_path, "backup", f"{step}:{moment}")
    succeeded(tmp_path)
    assert len(world(tmp_path)["a"]["checkpoints"]) == 1


@pytest.mark.parametrize("dies", ["asked", "offered"])
def test_killed_while_it_is_frozen_it_is_thawed_first_of_all(tmp_path: Path, dies: str) -> None:
    made(tmp_path, dies=dies)
    carry(tmp_path, "backup")
    assert world(tmp_path)["a"]["frozen"]
    assert carry(tmp_path, "recover", "save-guest:before").returncode == -signal.SIGKILL
    assert not world(tmp_path)["a"].get("frozen")
    assert carry(tmp_path, "recover").returncode == 0
    succeeded(tmp_path)
    assert manifest(tmp_path)["consistency"] == "frozen"
    assert len(world(tmp_path)["a"]["checkpoints"]) == 1


@pytest.mark.parametrize(("step", "moment"), every_moment(OF_ONE_THAT_IS_OFF, turn=1))
def test_killed_while_the_guest_is_off(tmp_path: Path, step: str, moment: str) -> None:
    made(tmp_path, "off")
    killed_and_recovered(tmp_path, "backup", f"{step}:{moment}")
    succeeded(tmp_path)
    assert manifest(tmp_path)["consistency"] == "shut off"
    assert "checkpoints" not in world(tmp_path)["a"]


@pytest.mark.parametrize("step", ["make-folder", "begin-backup", "save-guest", "copy-to-backup", "end-backup"])
def test_cancelled_after_any_step_before_the_manifest_nothing_of_it_stays(tmp_path: Path, step: str) -> None:
    made(tmp_path)
    carry(tmp_path, "backup", f"{step}:inside")
    records = open_records(tmp_path)
    records.ask_cancel(records.requests()[0].id, "somebody")
    records.engine.dispose()
    assert carry(tmp_path, "recover").returncode == 0
    nothing_left(tmp_path, "cancelled")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"copy_fails": "no space left"}, "no space left"),
        ({"offers_nothing": "unsupported by this QEMU"}, "unsupported by this QEMU"),
        ({"scratch_fills": True, "copy_lasts": True}, "has no room left"),
    ],
)
def test_what_fails_leaves_nothing_behind_and_is_named(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    made(tmp_path, **changes)
    assert carry(tmp_path, "backup").returncode == 0
    report = nothing_left(tmp_path, "failed")
    assert report.outcome is not None
    assert why in report.outcome.reason


def test_killed_while_it_is_put_back(tmp_path: Path) -> None:
    made(tmp_path, copy_fails="no space left")
    killed_and_recovered(tmp_path, "backup", "undo-backup:inside")
    nothing_left(tmp_path, "failed")


def test_an_agent_that_hangs_makes_it_crash_consistent_and_the_guest_is_thawed_all_the_same(tmp_path: Path) -> None:
    made(tmp_path, agent_hangs=True)
    assert carry(tmp_path, "backup").returncode == 0
    succeeded(tmp_path)
    assert manifest(tmp_path)["consistency"] == "crash-consistent"
    assert "not frozen" in " ".join(told(tmp_path).decisions)


@pytest.mark.parametrize(
    "moment", ["make-folder:before", "begin-backup:before", "begin-backup:inside", "begin-backup:after"]
)
def test_what_another_froze_stays_frozen_and_counts_if_it_was_when_the_backup_was_begun(
    tmp_path: Path, moment: str
) -> None:
    made(tmp_path)
    carry(tmp_path, "backup", moment)
    change(tmp_path, a=world(tmp_path)["a"] | {"frozen": "by another"})
    assert carry(tmp_path, "recover").returncode == 0
    guest = world(tmp_path)["a"]
    assert guest.pop("frozen") == "by another"
    change(tmp_path, a=guest)
    succeeded(tmp_path)
    begun = moment in ("begin-backup:inside", "begin-backup:after")
    assert manifest(tmp_path)["consistency"] == ("frozen" if begun else "frozen by another")
    assert ("neither freezes nor thaws" in " ".join(told(tmp_path).decisions)) is not begun


def test_one_that_another_had_frozen_before_is_backed_up_and_that_is_said(tmp_path: Path) -> None:
    made(tmp_path)
    change(tmp_path, a=world(tmp_path)["a"] | {"frozen": "by another"})
    assert carry(tmp_path, "backup").returncode == 0
    assert world(tmp_path)["a"]["frozen"] == "by another"
    assert (manifest(tmp_path)["consistency"], told(tmp_path).outcome.status) == ("frozen by another", "succeeded")  # type: ignore[union-attr]
    assert "backup-frozen-already" in [one.code for one in told(tmp_path).findings_before]


def test_a_guest_that_does_not_thaw_needs_attention_until_it_does(tmp_path: Path) -> None:
    made(tmp_path, agent_gone=True)
    assert carry(tmp_path, "backup").returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "needs attention"
    assert "thaw at a" in report.outcome.reason
    assert world(tmp_path)["a"]["frozen"]
    change(tmp_path, agent_gone=False)
    assert carry(tmp_path, "recover").returncode == 0
    nothing_left(tmp_path, "failed")


@pytest.mark.parametrize(("lasts", "status"), [(True, "failed"), (False, "succeeded")])
def test_a_guest_that_found_no_room_goes_on_also_when_there_is_room_again(
    tmp_path: Path, lasts: bool, status: str
) -> None:
    made(tmp_path, finds_no_room=True, copy_lasts=lasts)
    assert carry(tmp_path, "backup").returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == status, report.outcome
    assert world(tmp_path)["a"]["state"] == "running"
    assert "it goes on now" in " ".join(report.decisions)
    untouched(tmp_path)


def test_a_guest_that_stood_still_before_stands_still_after(tmp_path: Path) -> None:
    made(tmp_path, "halted")
    change(tmp_path, a=world(tmp_path)["a"] | {"storage_failed": True})
    assert carry(tmp_path, "backup").returncode == 0
    assert world(tmp_path)["a"]["state"] == "halted"


def test_a_backup_whose_guests_host_falls_silent_is_one_all_the_same(tmp_path: Path) -> None:
    made(tmp_path)
    carry(tmp_path, "backup", "write-manifest:after")
    change(tmp_path, silent=["a"])
    assert carry(tmp_path, "recover").returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert (report.outcome.status, "it is backed up" in report.outcome.reason) == ("needs attention", True)
    assert world(tmp_path)["journals"]  # the next one goes by it
    change(tmp_path, silent=[])
    assert carry(tmp_path, "recover").returncode == 0
    succeeded(tmp_path)


def second(state: Path, what: str = "backup", **changes: Any) -> Report:
    """Another backup, of a guest that has written since."""
    change(state, **changes)
    carried = carry(state, what)
    assert carried.returncode == 0, carried.stderr
    report = newest(state)
    assert report.outcome is not None
    assert report.outcome.status == "succeeded", report.outcome
    return report


def test_the_next_one_reads_what_was_written_since_and_keeps_one_checkpoint(tmp_path: Path) -> None:
    made(tmp_path)
    carry(tmp_path, "backup")
    before = manifest(tmp_path)
    report = second(tmp_path)
    now = world(tmp_path)
    first = folders(tmp_path)[0]
    assert now["copied"][-1] == {
        "bitmap": "backup-vda", "base": before["disks"][0]["copy"], "backing": f"../{first}/vda.qcow2", "verify": "written",
    }  # fmt: skip
    assert now["a"]["checkpoints"] == [manifest(tmp_path)["checkpoint"]] != [before["checkpoint"]]
    assert list(now["journals"]) == [manifest(tmp_path)["disks"][0]["copy"]]
    assert manifest(tmp_path)["disks"][0]["reading"] == "bitmap"
    assert report.backup is not None
    assert (report.backup.chain, report.backup.upon) == (2, (first,))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"forgets": True}, "QEMU cannot tell"),
        ({"bitmap_lost": True}, "inconsistent"),
        ({"base_lost": True}, "no journal"),
    ],
)
def test_where_it_cannot_be_told_what_was_written_everything_is_compared_and_that_is_said(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    made(tmp_path)
    carry(tmp_path, "backup")
    report = second(tmp_path, **changes)
    copied = world(tmp_path)["copied"][-1]
    assert (copied["bitmap"], bool(copied["base"]), bool(copied["backing"])) == ("", "base_lost" not in changes, True)
    assert manifest(tmp_path)["disks"][0]["reading"] == "digests"
    assert said in " ".join(report.decisions)


def test_one_that_was_off_meanwhile_is_compared_and_that_is_said(tmp_path: Path) -> None:
    made(tmp_path)
    carry(tmp_path, "backup")
    guest = world(tmp_path)["a"]
    guest.pop("run")  # live metadata
    report = second(tmp_path, a=guest | {"state": "off"})
    assert world(tmp_path)["copied"][-1]["bitmap"] == ""
    assert (manifest(tmp_path)["disks"][0]["reading"], manifest(tmp_path)["checkpoint"]) == ("digests", "")
    assert "was off since" in " ".join(one.why for one in report.findings_before)
    report = second(tmp_path, a=guest)
    assert manifest(tmp_path)["disks"][0]["reading"] == "digests"
    second(tmp_path)
    assert manifest(tmp_path)["disks"][0]["reading"] == "bitmap"  # of one run again
    assert len(world(tmp_path)["a"]["checkpoints"]) == 1


def test_one_that_is_started_anew_between_the_look_and_the_backup_is_compared(tmp_path: Path) -> None:
    made(tmp_path)
    carry(tmp_path, "backup")
    carry(tmp_path, "backup", "make-folder:inside")
    guest = world(tmp_path)["a"]
    guest.pop("run")
    change(tmp_path, a=guest)
    assert carry(tmp_path, "recover").returncode == 0
    assert world(tmp_path)["copied"][-1]["bitmap"] == ""
    assert manifest(tmp_path)["disks"][0]["reading"] == "digests"
    assert "started anew" in " ".join(newest(tmp_path).decisions)


def test_a_full_one_stands_by_itself(tmp_path: Path) -> None:
    made(tmp_path)
    carry(tmp_path, "backup")
    report = second(tmp_path, "backup-full")
    assert world(tmp_path)["copied"][-1] | {"verify": ""} == {"bitmap": "", "base": "", "backing": "", "verify": ""}
    assert report.backup is not None
    assert report.backup.chain == 1
    assert list(world(tmp_path)["journals"]) == [manifest(tmp_path)["disks"][0]["copy"]]  # the next one stands upon it


def test_an_earlier_one_that_is_damaged_is_not_stood_upon(tmp_path: Path) -> None:
    made(tmp_path)
    carry(tmp_path, "backup")
    (tmp_path / HERE / folders(tmp_path)[0] / "vda.qcow2").unlink()
    report = second(tmp_path)
    assert report.backup is not None
    assert report.backup.upon == ()


def test_a_place_that_falls_silent_needs_attention_until_it_answers(tmp_path: Path) -> None:
    made(tmp_path, copy_fails="connection lost")
    carry(tmp_path, "backup-b", "copy-to-backup:before")
    change(tmp_path, silent=["b"])
    assert carry(tmp_path, "recover").returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "needs attention"
    assert "b does not answer" in report.outcome.reason
    untouched(tmp_path)
    change(tmp_path, silent=[], copy_fails="")
    assert carry(tmp_path, "recover").returncode == 0
    assert told(tmp_path).outcome.status == "failed"  # type: ignore[union-attr]
    assert not list((tmp_path / "places/b/backups").glob("*/.partial-*"))


@pytest.mark.parametrize("guest", ["running", "off"])
def test_one_that_may_have_its_name_already_is_not_taken_back_while_its_place_does_not_answer(
    tmp_path: Path, guest: str
) -> None:
    made(tmp_path, guest)
    carry(tmp_path, "backup-b", "write-manifest:inside")
    change(tmp_path, no_ssh=["b"])
    assert carry(tmp_path, "recover").returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert (report.outcome.status, "connection refused" in report.outcome.reason) == ("needs attention", True)
    assert len(world(tmp_path)["a"].get("checkpoints", ())) == (guest == "running")
    untouched(tmp_path)  # nothing is held any more
    change(tmp_path, no_ssh=[])
    assert carry(tmp_path, "recover").returncode == 0
    assert told(tmp_path).outcome.status == "succeeded"  # type: ignore[union-attr]
    assert len(list((tmp_path / "places/b/backups").glob(f"*/2*/{MANIFEST}"))) == 1


@pytest.mark.parametrize(
    ("moment", "status"), [("save-guest:after", "failed"), ("write-manifest:inside", "succeeded")]
)  # fmt: skip
def test_a_place_that_is_not_mounted_has_lost_nothing(tmp_path: Path, moment: str, status: str) -> None:
    made(tmp_path)
    carry(tmp_path, "backup", moment)
    place = tmp_path / "places/this machine/backups"
    place.rename(tmp_path / "not mounted")
    for _ in range(2):
        assert carry(tmp_path, "recover").returncode == 0
        report = told(tmp_path)
        assert report.outcome is not None
        assert report.outcome.status == "needs attention", report.outcome
        assert "mount" in report.outcome.reason
    (tmp_path / "not mounted").rename(place)
    assert carry(tmp_path, "recover").returncode == 0
    if status == "succeeded":
        succeeded(tmp_path)
    else:
        nothing_left(tmp_path, status)


def test_one_of_a_guest_that_is_off_tells_when_its_disks_were_like_that_not_when_it_was_asked_for(
    tmp_path: Path,
) -> None:
    made(tmp_path, "off")
    carry(tmp_path, "backup", "make-folder:before")
    twenty_minutes_pass(tmp_path)
    assert carry(tmp_path, "recover").returncode == 0
    made_at = datetime.strptime(folders(tmp_path)[-1], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC)
    assert abs(manifest(tmp_path)["at"] - made_at.timestamp()) < 60


# Before a move


def test_a_move_backs_its_guest_up_first(tmp_path: Path) -> None:
    made(tmp_path)
    carried = carry(tmp_path, 'ask:{"backup_to": "/backups"}')
    assert carried.returncode == 0, carried.stderr
    assert world(tmp_path)["b"]["state"] == "running"
    assert manifest(tmp_path)["consistency"] == "frozen"
    phases = [entry.phase for entry in told(tmp_path).phases]
    assert phases[:5] == ["queued", "preparing", "backing up", "preparing", "transferring"]


@pytest.mark.parametrize("options", ['{"backup_to": "/backups"}', '{"backup_to": "/backups", "cold": true}'])
def test_a_backup_that_fails_refuses_the_move_and_nothing_was_touched(tmp_path: Path, options: str) -> None:
    made(tmp_path, copy_fails="no space left")
    assert carry(tmp_path, f"ask:{options}").returncode == 0
    report = nothing_left(tmp_path, "refused")
    assert report.outcome is not None
    assert "no space left" in report.outcome.reason
    assert world(tmp_path)["a"] == {"state": "running", "autostart": True}
    assert (world(tmp_path)["b"], world(tmp_path)["calls"]) == (None, 0)


@pytest.mark.parametrize(
    ("step", "moment"), every_moment(("look-ahead", "copy-to-backup", "finish-backup", "move-on"), turn=2)
)
def test_killed_while_it_is_backed_up_before_its_move(tmp_path: Path, step: str, moment: str) -> None:
    made(tmp_path)
    killed_and_recovered(tmp_path, 'ask:{"backup_to": "/backups"}', f"{step}:{moment}")
    assert world(tmp_path)["b"]["state"] == "running"
    assert told(tmp_path).outcome.status == "succeeded"  # type: ignore[union-attr]
    assert len(folders(tmp_path)) == 1


def test_beside_the_job_of_another_it_is_refused_at_once(tmp_path: Path) -> None:
    made(tmp_path)
    change(tmp_path, a=world(tmp_path)["a"] | {"backup": "another"})
    assert carry(tmp_path, "backup").returncode == 0
    report = newest(tmp_path)
    assert report.outcome is not None
    assert (report.outcome.status, folders(tmp_path)) == ("refused", [])
    assert "another job runs on it (backup)" in report.outcome.reason
    assert report.outcome.remedy == "wait for its end: virsh domjobinfo web"


def test_a_job_that_another_begins_right_before_is_left_alone_and_nothing_of_the_backup_stays(tmp_path: Path) -> None:
    made(tmp_path)
    assert carry(tmp_path, "backup", "make-folder:after").returncode == -signal.SIGKILL
    change(tmp_path, a=world(tmp_path)["a"] | {"backup": "another"})
    assert carry(tmp_path, "recover").returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert (report.outcome.status, report.outcome.error, folders(tmp_path)) == ("failed", "AlreadyRunning", [])
    assert (world(tmp_path)["a"]["backup"], "frozen" in world(tmp_path)["a"]) == ("another", False)


def twenty_minutes_pass(state: Path) -> None:
    """The request was asked for so long ago."""
    records = open_records(state)
    (request,) = records.requests()
    content = from_json(to_json(request))
    content["asked_at"] -= 1200.0
    with records.engine.begin() as connection:
        connection.execute(update(schema.requests).values(json=to_json(content)))
    records.engine.dispose()


@pytest.mark.parametrize("way", [{}, {"cold": True, "stop_timeout": 5.0}, {"warm": True, "stop_timeout": 5.0}])
@pytest.mark.parametrize("moment", ["copy-to-backup:inside", "move-on:after", "save-definition:after"])
def test_killed_after_a_backup_that_took_long_the_move_goes_on_all_the_same(
    tmp_path: Path, moment: str, way: dict[str, Any]
) -> None:
    World.with_local_disks(tmp_path / "world.json")
    change(tmp_path, files={"a": {}, "b": {}})
    options = {"backup_to": "/backups", "eject": True, **way}
    assert carry(tmp_path, f"ask:{json.dumps(options)}", moment).returncode == -signal.SIGKILL
    twenty_minutes_pass(tmp_path)
    assert carry(tmp_path, "recover").returncode == 0
    report = told(tmp_path)
    assert report.outcome is not None
    assert report.outcome.status == "succeeded", report.outcome
    assert (world(tmp_path)["a"], world(tmp_path)["b"]["state"]) == (None, "running")
    assert len(folders(tmp_path)) == 1
