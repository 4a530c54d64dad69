"""A backup is of one moment, of all the guest's disks, and says no more of that moment than is known."""

from pathlib import Path
from typing import Any

import pytest

from ferryman.errors import RecordsUnusable
from tests.durability.processes import carry
from tests.durability.test_backup import made, manifest, newest, nothing_left, succeeded
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


def test_what_a_qemu_that_crashed_after_the_last_read_leaves_is_removed(tmp_path: Path) -> None:
    made(tmp_path)
    carry(tmp_path, "backup", "end-backup:before")
    assert world(tmp_path)["scratch"]
    guest = world(tmp_path)["a"]
    del guest["backup"]
    change(tmp_path, a=guest | {"state": "off"})
    assert carry(tmp_path, "recover").returncode == 0
    assert not world(tmp_path)["scratch"]
    assert newest(tmp_path).outcome.status == "succeeded"  # type: ignore[union-attr]
