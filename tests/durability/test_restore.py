"""A guest is brought back: killed at every step, damaged backups, and never two of one guest, never a half one."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ferryman.model.backup import MANIFEST
from ferryman.model.outcome import Report
from tests.durability.fakes import records_of_both
from tests.durability.killing import MOMENTS, every_moment
from tests.durability.processes import carry
from tests.durability.test_backup import HERE, folders, made, newest
from tests.durability.world import World, change, world
from tests.unit.sites import UUID

STEPS = ("plan-restore", "make-volumes", "try-definition", "restore-files", "copy-from-backup", "define-restored", "finish-restore", "report")  # fmt: skip
VOLUME = "b/srv/shared/web.qcow2"


def gone(state: Path, guest: str = "off", **changes: Any) -> None:
    """A backup is there, and its guest is not any more."""
    made(state, guest)
    change(state, **changes)
    assert carry(state, "backup").returncode == 0
    assert folders(state)
    change(state, a=None, copied=[], journals={}, files={"a": {}, "b": {}})


def ended(state: Path, status: str) -> Report:
    report = newest(state)
    assert report.outcome is not None
    assert report.outcome.status == status, report.outcome
    return report


def back(state: Path) -> None:
    now = world(state)
    assert (now["a"], now["b"]) == (None, {"state": "off", "autostart": False})
    assert now["restored"] == {"/srv/shared/web.qcow2": "c0"}
    assert (now["volumes"], now["journals"]) == ([VOLUME], {})
    report = ended(state, "succeeded")
    assert {entry.state for entry in report.undo} <= {"dropped"}


def nothing_made(state: Path, status: str) -> Report:
    now = world(state)
    assert (now["b"], now["volumes"]) == (None, [])
    assert not now.get("journals")
    assert len(folders(state)) == 1
    return ended(state, status)


def test_a_guest_is_brought_back_and_stays_off(tmp_path: Path) -> None:
    gone(tmp_path)
    carried = carry(tmp_path, "restore")
    assert carried.returncode == 0, carried.stderr
    back(tmp_path)
    assert newest(tmp_path).request.guest_uuid == UUID


@pytest.mark.parametrize(("step", "moment"), every_moment(STEPS))
def test_killed_at_each_step_it_is_brought_back_by_the_next_process(tmp_path: Path, step: str, moment: str) -> None:
    gone(tmp_path)
    carry(tmp_path, "restore", f"{step}:{moment}")
    assert carry(tmp_path, "recover").returncode == 0
    back(tmp_path)


def test_asked_for_it_is_started(tmp_path: Path) -> None:
    gone(tmp_path)
    carry(tmp_path, "restore-start", "start-restored:inside")
    assert carry(tmp_path, "recover").returncode == 0
    assert world(tmp_path)["b"]["state"] == "running"
    assert ended(tmp_path, "succeeded").outcome.running_at == "b"  # type: ignore[union-attr]


def test_one_that_does_not_start_is_there_all_the_same_and_needs_attention(tmp_path: Path) -> None:
    gone(tmp_path)
    change(tmp_path, befalls="it crashed")
    assert carry(tmp_path, "restore-start").returncode == 0
    assert "does not run: it crashed" in ended(tmp_path, "needs attention").outcome.reason  # type: ignore[union-attr]
    assert world(tmp_path)["volumes"] == [VOLUME]
    change(tmp_path, b={"state": "running", "autostart": False})  # as it was told to
    assert carry(tmp_path, "recover").returncode == 0
    assert ended(tmp_path, "succeeded").outcome.running_at == "b"  # type: ignore[union-attr]


def damage(state: Path, name: str, content: str) -> None:
    (state / HERE / folders(state)[0] / name).write_text(content)


def test_a_disk_that_is_not_what_its_manifest_says_brings_back_nothing(tmp_path: Path) -> None:
    gone(tmp_path)
    damage(tmp_path, "vda.qcow2", json.dumps({"content": "cX", "upon": ""}))
    assert carry(tmp_path, "restore").returncode == 0
    report = nothing_made(tmp_path, "failed")
    assert "it is damaged: its digest is d-cX" in report.outcome.reason  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("definition.xml", "<domain>", "definition.xml"),
        ("vda.qcow2", json.dumps({"content": "longer than it was", "upon": ""}), "bytes, and its manifest says"),
        ("nvram", "x", "nvram"),
    ],
)
def test_what_can_be_seen_at_once_is_refused_before_anything_is_made(
    tmp_path: Path, name: str, content: str, why: str
) -> None:
    gone(tmp_path)
    if name == "nvram":
        found = json.loads((tmp_path / HERE / folders(tmp_path)[0] / MANIFEST).read_text())
        found["files"].append({"name": "nvram", "sha256": "0" * 64, "bytes": 1, "path": "/x"})
        damage(tmp_path, MANIFEST, json.dumps(found))
    damage(tmp_path, name, content)
    assert carry(tmp_path, "restore").returncode == 0
    assert why in nothing_made(tmp_path, "refused").outcome.reason  # type: ignore[union-attr]


def test_an_image_that_stands_upon_another_than_its_manifest_says_is_refused(tmp_path: Path) -> None:
    gone(tmp_path)
    first = tmp_path / HERE / folders(tmp_path)[0]
    (first.parent / "other").mkdir()
    (first.parent / "other" / "secret").write_text(json.dumps({"content": "c0", "upon": ""}))
    text = json.dumps({"content": "c0", "upon": "../other/secret"})
    found = json.loads((first / MANIFEST).read_text())
    found["disks"][0]["bytes"] = len(text)
    damage(tmp_path, MANIFEST, json.dumps(found))
    damage(tmp_path, "vda.qcow2", text)
    assert carry(tmp_path, "restore").returncode == 0
    assert "stands upon" in ended(tmp_path, "refused").outcome.reason  # type: ignore[union-attr]
    assert world(tmp_path)["volumes"] == []


@pytest.mark.parametrize("silent", [False, True])
def test_a_guest_that_is_somewhere_or_may_be_is_not_brought_back_as_itself(tmp_path: Path, silent: bool) -> None:
    made(tmp_path, "off")
    carry(tmp_path, "backup")
    change(tmp_path, **({"a": None, "silent": ["a"]} if silent else {}), journals={})
    assert carry(tmp_path, "restore").returncode == 0
    reason = ended(tmp_path, "refused").outcome.reason  # type: ignore[union-attr]
    assert ("is not known" if silent else "a: it is shut off there") in reason
    assert world(tmp_path)["volumes"] == []


def test_a_second_guest_of_it_may_stand_beside_it(tmp_path: Path) -> None:
    made(tmp_path, "running")
    carry(tmp_path, "backup")
    change(tmp_path, journals={})
    assert carry(tmp_path, "restore-second").returncode == 0
    report = ended(tmp_path, "succeeded")
    assert report.request.guest == "second"
    assert report.request.guest_uuid != UUID
    assert world(tmp_path)["volumes"] == ["b/srv/shared/second-vda.qcow2"]
    assert world(tmp_path)["a"]["state"] == "running"


def test_one_that_comes_up_elsewhere_under_the_copy_is_not_brought_back(tmp_path: Path) -> None:
    gone(tmp_path)
    carry(tmp_path, "restore", "copy-from-backup:after")
    change(tmp_path, a={"state": "running", "autostart": False})
    assert carry(tmp_path, "recover").returncode == 0
    assert "somebody brought it meanwhile" in nothing_made(tmp_path, "failed").outcome.reason  # type: ignore[union-attr]


def of_yesterday(state: Path) -> None:
    """What was left is settled, not replayed."""
    with closing(sqlite3.connect(state / "dbos.sqlite")) as database, database:
        database.execute("UPDATE workflow_status SET application_version = 'of yesterday'")


def theirs(state: Path) -> Report:
    """Somebody's definition of the same UUID is as they made it; of ours nothing stays."""
    now = world(state)
    assert now["b"] == {"state": "off", "autostart": True}
    assert (now["volumes"], now.get("journals")) == ([], {})
    report = ended(state, "failed")
    assert {entry.state for entry in report.undo} <= {"done"}
    return report


def test_a_definition_that_somebody_makes_in_the_last_moment_is_theirs(tmp_path: Path) -> None:
    gone(tmp_path)
    change(tmp_path, somebody_defines=True)
    assert carry(tmp_path, "restore").returncode == 0
    assert "already defined" in theirs(tmp_path).outcome.reason  # type: ignore[union-attr]


@pytest.mark.parametrize("again", ["recover", "recover-of-yesterday"])
def test_a_definition_that_somebody_makes_while_we_are_gone_is_theirs(tmp_path: Path, again: str) -> None:
    """Between the note that it is to be undone and the act."""
    gone(tmp_path)
    change(tmp_path, dies="asked")
    carry(tmp_path, "restore")
    change(tmp_path, b={"state": "off", "autostart": True})
    if again == "recover-of-yesterday":
        of_yesterday(tmp_path)
    assert carry(tmp_path, "recover").returncode == 0
    theirs(tmp_path)


def test_killed_right_after_it_was_defined_it_is_ours(tmp_path: Path) -> None:
    gone(tmp_path)
    change(tmp_path, dies="defined")
    carry(tmp_path, "restore")
    assert world(tmp_path)["b"]["mark"]["request"]
    assert carry(tmp_path, "recover").returncode == 0
    back(tmp_path)


@pytest.mark.parametrize("settled", [False, True])
def test_a_host_that_does_not_answer_once_does_not_cost_the_guest(tmp_path: Path, settled: bool) -> None:
    """It may have been started, used and shut off by then."""
    gone(tmp_path)
    carry(tmp_path, "restore", "define-restored:inside")
    if settled:
        of_yesterday(tmp_path)
    change(tmp_path, looks_fail=1)
    assert carry(tmp_path, "recover").returncode == 0
    assert "is not known: it is being started" in ended(tmp_path, "needs attention").outcome.reason  # type: ignore[union-attr]
    assert world(tmp_path)["b"]["mark"]
    assert world(tmp_path)["volumes"] == [VOLUME]
    assert carry(tmp_path, "recover").returncode == 0
    back(tmp_path)


def test_cancelled_once_it_is_defined_it_stays(tmp_path: Path) -> None:
    gone(tmp_path)
    carry(tmp_path, "restore", "define-restored:inside")
    records_of_both(tmp_path).ask_cancel(newest(tmp_path).request.id, "somebody")
    assert carry(tmp_path, "recover").returncode == 0
    back(tmp_path)


@pytest.mark.parametrize("settled", [False, True])
def test_killed_between_its_definition_and_its_name_it_gets_that(tmp_path: Path, settled: bool) -> None:
    gone(tmp_path)
    change(tmp_path, dies="unnamed")
    carry(tmp_path, "restore")
    assert world(tmp_path)["b"]["name"].startswith("ferryman-restore-")
    if settled:
        of_yesterday(tmp_path)
    assert carry(tmp_path, "recover").returncode == 0
    back(tmp_path)


@pytest.mark.parametrize("settled", [False, True])
def test_without_its_name_it_is_neither_called_brought_back_nor_taken_back(tmp_path: Path, settled: bool) -> None:
    gone(tmp_path)
    change(tmp_path, dies="unnamed")
    carry(tmp_path, "restore")
    if settled:
        of_yesterday(tmp_path)
    away = (tmp_path / HERE).rename(tmp_path / "unmounted")
    assert carry(tmp_path, "recover").returncode == 0
    assert "has not got its name" in ended(tmp_path, "needs attention").outcome.reason  # type: ignore[union-attr]
    away.rename(tmp_path / HERE)
    assert carry(tmp_path, "recover").returncode == 0
    back(tmp_path)


@pytest.mark.parametrize("moment", ["", "finish-restore:inside"])
def test_what_fails_once_it_is_brought_back_takes_nothing_back(tmp_path: Path, moment: str) -> None:
    gone(tmp_path, tpm={"a": "c3RhdGU="})
    change(tmp_path, no_ssh=["b"])
    carry(tmp_path, "restore", moment)
    if moment:
        of_yesterday(tmp_path)
        carry(tmp_path, "recover")
    back(tmp_path)
    assert "says whose TPM state it was until now: connection refused" in " ".join(newest(tmp_path).decisions)


def test_one_that_is_removed_before_its_restore_was_settled_is_not_called_brought_back(tmp_path: Path) -> None:
    gone(tmp_path)
    carry(tmp_path, "restore", "finish-restore:inside")
    of_yesterday(tmp_path)
    change(tmp_path, b=None)
    assert carry(tmp_path, "recover").returncode == 0
    assert "its definition was removed since" in ended(tmp_path, "failed").outcome.reason  # type: ignore[union-attr]
    assert world(tmp_path)["volumes"] == [VOLUME]


def test_a_volume_that_was_made_in_the_moment_of_a_crash_is_named(tmp_path: Path) -> None:
    gone(tmp_path)
    change(tmp_path, dies="made")
    carry(tmp_path, "restore")
    assert carry(tmp_path, "recover").returncode == 0
    assert world(tmp_path)["volumes"] == [VOLUME, "b/srv/shared/web-2.qcow2"]
    decisions = ended(tmp_path, "succeeded").decisions
    assert [one for one in decisions if "left as it is: volume web.qcow2 in pool shared at b" in one]


def test_as_long_as_its_definition_cannot_be_taken_back_its_disks_stay(tmp_path: Path) -> None:
    gone(tmp_path)
    change(tmp_path, answer_lost=True, undefine_fails="it is busy")
    assert carry(tmp_path, "restore").returncode == 0
    assert "it is busy" in ended(tmp_path, "needs attention").outcome.reason  # type: ignore[union-attr]
    assert world(tmp_path)["volumes"] == [VOLUME]
    assert carry(tmp_path, "recover").returncode == 0
    back(tmp_path)


@pytest.mark.parametrize("again", ["recover", "recover-of-yesterday"])
@pytest.mark.parametrize("first", [{"dies": "defined"}, {"answer_lost": True, "undefine_fails": "it does not answer"}], ids=["killed", "silent"])  # fmt: skip
def test_what_a_guest_runs_on_that_somebody_has_moved_on_is_not_taken_back(
    tmp_path: Path, first: dict[str, Any], again: str
) -> None:
    gone(tmp_path, **first)
    carry(tmp_path, "restore")
    change(tmp_path, b=None, a={"state": "running", "autostart": False}, undefine_fails="")
    if again == "recover-of-yesterday":
        of_yesterday(tmp_path)
    carry(tmp_path, "recover")
    report = ended(tmp_path, "needs attention")
    assert "a: it is running there" in report.outcome.reason  # type: ignore[union-attr]
    assert world(tmp_path)["volumes"] == [VOLUME]
    change(tmp_path, a=None)  # it was removed there: now nobody needs them
    carry(tmp_path, "recover")
    nothing_made(tmp_path, "failed")


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_it_is_put_back(tmp_path: Path, moment: str) -> None:
    gone(tmp_path)
    damage(tmp_path, "vda.qcow2", json.dumps({"content": "cX", "upon": ""}))
    carry(tmp_path, "restore", f"undo-restore:{moment}")
    assert carry(tmp_path, "recover").returncode == 0
    nothing_made(tmp_path, "failed")


def test_firmware_variables_come_back_and_what_was_there_is_kept_beside(tmp_path: Path) -> None:
    path = "/var/lib/libvirt/qemu/nvram/web_VARS.fd"
    World.made(tmp_path / "world.json", "off", files={"a": {path: "of the guest"}, "b": {path: "left by another"}})
    carry(tmp_path, "backup")
    change(tmp_path, a=None, journals={})
    assert carry(tmp_path, "restore").returncode == 0
    report = ended(tmp_path, "succeeded")
    files: dict[str, Any] = world(tmp_path)["files"]["b"]
    assert files == {path: "of the guest", f"{path}.before-{report.request.id}": "left by another"}


def test_firmware_variables_that_were_damaged_since_it_was_planned_bring_back_nothing(tmp_path: Path) -> None:
    path = "/var/lib/libvirt/qemu/nvram/web_VARS.fd"
    World.made(tmp_path / "world.json", "off", files={"a": {path: "of the guest"}, "b": {}})
    carry(tmp_path, "backup")
    change(tmp_path, a=None, journals={})
    carry(tmp_path, "restore", "make-volumes:after")
    damage(tmp_path, "nvram", "DAMAGED.....")
    carry(tmp_path, "recover")
    assert "its nvram was changed meanwhile" in nothing_made(tmp_path, "failed").outcome.reason  # type: ignore[union-attr]
    assert world(tmp_path)["files"]["b"] == {}
