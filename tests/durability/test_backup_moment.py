"""A backup is of one moment, of all the guest's disks, and says no more of that moment than is known."""

from pathlib import Path
from typing import Any

import pytest

from ferryman.errors import RecordsUnusable
from tests.durability.processes import carry
from tests.durability.test_backup import made, manifest, newest, nothing_left, succeeded, untouched
from tests.durability.world import change, world


@pytest.mark.parametrize(
    ("guest", "why"),
    [({}, "vda was not held all the time at a"), ({"state": "running"}, "it is running by now")],
    ids=["off again", "it runs"],
)
def test_one_whose_images_were_not_held_all_the_time_is_no_backup(
    tmp_path: Path, guest: dict[str, Any], why: str
) -> None:
    made(tmp_path, "off")
    carry(tmp_path, "backup", "copy-to-backup:inside")  # its disk is copied
    change(tmp_path, held={}, a=world(tmp_path)["a"] | guest)  # its host restarted, and somebody started it
    assert carry(tmp_path, "recover").returncode == 0
    report = nothing_left(tmp_path, "failed")
    assert report.outcome is not None
    assert why in report.outcome.reason
    assert report.outcome.remedy == "ask for the backup again"


@pytest.mark.parametrize("last", ["vda", "vdb"])
def test_a_host_that_restarts_under_the_copy_makes_no_backup_of_two_moments(tmp_path: Path, last: str) -> None:
    made(tmp_path, "off", disks=["vdb"], restarts=last)
    assert carry(tmp_path, "backup").returncode == 0
    report = nothing_left(tmp_path, "failed")
    assert report.outcome is not None
    assert "vda, vdb was not held all the time at a" in report.outcome.reason


def test_one_of_two_disks_that_were_held_all_the_time_has_both(tmp_path: Path) -> None:
    made(tmp_path, "off", disks=["vdb"])
    assert carry(tmp_path, "backup").returncode == 0
    untouched(tmp_path)
    assert [disk["target"] for disk in manifest(tmp_path)["disks"]] == ["vda", "vdb"]


@pytest.mark.parametrize(("guest", "moment"), [("running", "make-folder:after"), ("off", "hold-images:before"), ("off", "hold-images:after")])  # fmt: skip
def test_one_that_got_other_disks_since_it_was_planned_is_not_backed_up_by_those(
    tmp_path: Path, guest: str, moment: str
) -> None:
    made(tmp_path, guest)
    carry(tmp_path, "backup", moment)
    change(tmp_path, overlay="/srv/shared/web.snap")
    assert carry(tmp_path, "recover").returncode == 0
    report = nothing_left(tmp_path, "failed")
    assert report.outcome is not None
    assert "vda is /srv/shared/web.snap, and was /srv/shared/web.qcow2" in report.outcome.reason


def test_one_that_thawed_before_qemu_offered_it_is_not_called_frozen(tmp_path: Path) -> None:
    made(tmp_path, thaws_itself=True)
    assert carry(tmp_path, "backup").returncode == 0
    succeeded(tmp_path)
    assert manifest(tmp_path)["consistency"] == "crash-consistent"
    assert any("does not say that its file systems were still frozen" in one for one in newest(tmp_path).decisions)


def test_nor_is_one_that_thawed_while_nobody_carried_it_out(tmp_path: Path) -> None:
    made(tmp_path, dies="offered")
    carry(tmp_path, "backup")
    guest = world(tmp_path)["a"]
    assert guest.pop("frozen")
    change(tmp_path, a=guest)
    assert carry(tmp_path, "recover").returncode == 0
    succeeded(tmp_path)
    assert manifest(tmp_path)["consistency"] == "crash-consistent"


def test_a_guest_is_thawed_also_when_the_records_cannot_be_written(tmp_path: Path) -> None:
    made(tmp_path)
    ended = carry(tmp_path, "backup", "unusable:keep_decision")  # the first one is told when it is frozen
    assert ended.returncode == RecordsUnusable.exit_code, ended.stderr
    assert not world(tmp_path)["a"].get("frozen")
    assert carry(tmp_path, "recover").returncode == 0
    succeeded(tmp_path)


@pytest.mark.parametrize("write", ["keep_facts", "keep_decision"])
def test_also_when_they_become_so_while_it_is_frozen(tmp_path: Path, write: str) -> None:
    made(tmp_path)
    ended = carry(tmp_path, "backup", f"unusable-frozen:{write}")
    assert ended.returncode == RecordsUnusable.exit_code, ended.stderr
    assert not world(tmp_path)["a"].get("frozen")
    assert carry(tmp_path, "recover").returncode == 0
    succeeded(tmp_path)


def test_also_when_an_earlier_process_froze_it(tmp_path: Path) -> None:
    made(tmp_path, dies="offered")
    carry(tmp_path, "backup")
    assert world(tmp_path)["a"]["frozen"]
    assert carry(tmp_path, "recover", "unusable-frozen:keep_facts").returncode == RecordsUnusable.exit_code
    assert not world(tmp_path)["a"].get("frozen")


@pytest.mark.parametrize(("thaws", "is_called"), [(False, "frozen"), (True, "crash-consistent")])
@pytest.mark.parametrize("meanwhile", [{}, {"frozen": "by another"}], ids=["thawed", "frozen by another"])
def test_what_was_seen_of_that_moment_counts_whatever_is_frozen_later(
    tmp_path: Path, thaws: bool, is_called: str, meanwhile: dict[str, Any]
) -> None:
    made(tmp_path, thaws_itself=thaws)
    carry(tmp_path, "backup", "begin-backup:inside")
    change(tmp_path, a=world(tmp_path)["a"] | meanwhile)
    assert carry(tmp_path, "recover").returncode == 0
    assert manifest(tmp_path)["consistency"] == is_called
    assert any("does not say" in one for one in newest(tmp_path).decisions) is thaws


def test_an_agent_that_says_only_when_it_thaws_that_its_freeze_did_not_last(tmp_path: Path) -> None:
    made(tmp_path, freeze_lapsed="couldn't hold writes: fsfreeze is limited up to 10 seconds")
    assert carry(tmp_path, "backup").returncode == 0
    succeeded(tmp_path)
    assert manifest(tmp_path)["consistency"] == "crash-consistent"
    assert any("couldn't hold writes" in one for one in newest(tmp_path).decisions)


@pytest.mark.parametrize("state", ["off", "running"])
def test_what_a_qemu_that_crashed_after_the_last_read_leaves_is_removed(tmp_path: Path, state: str) -> None:
    made(tmp_path)
    carry(tmp_path, "backup", "end-backup:before")
    assert world(tmp_path)["scratch"]
    guest = world(tmp_path)["a"]
    del guest["backup"]
    change(tmp_path, a=guest | {"state": state})  # it may have been started anew
    assert carry(tmp_path, "recover").returncode == 0
    assert not world(tmp_path)["scratch"]
    assert newest(tmp_path).outcome.status == "succeeded"  # type: ignore[union-attr]
