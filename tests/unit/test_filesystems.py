"""File systems in images looked through at a host: by a stand-in for guestfish, and what is told where there is none."""

import os
from pathlib import Path

import pytest

from ferryman.drivers import filesystems
from ferryman.errors import DriverError
from ferryman.model.filesystem import Condition, FileSystem
from ferryman.model.finding import Severity
from ferryman.model.host import Host
from ferryman.model.plan import Held
from ferryman.verify.filesystems import Looked, by_hand, stop_findings

HERE = Host("here", "qemu:///system")
IMAGES = (Held("vda", "/images/web.qcow2", "qcow2", shared=False), Held("vdb", "/images/da ta.raw", "raw", shared=False))  # fmt: skip

# As guestfish speaks: --listen prints the process to talk to, --remote carries one command to it.
STAND_IN = r"""#!/bin/sh
echo "$*" >>"$0.log"
case "$1" in --listen) sleep 300 >/dev/null 2>&1 & echo "GUESTFISH_PID=$!; export GUESTFISH_PID"; exit;; esac
shift
[ "$1" != -- ] || { shift; command=${1#-}; shift; set -- "$command" "$@"; }
case "$*" in
    run) exec sh -c "${RUN:-true}";;
    list-filesystems) printf '%s: %s\n' /dev/sda1 vfat /dev/sda2 ext4 /dev/sdb ext4 /dev/sda3 swap /dev/group/volume xfs /dev/sdc btrfs /dev/sda4 ntfs /dev/sda5 zfs_member;;
    "fsck vfat /dev/sda1") echo 1;;
    "e2fsck /dev/sda2 correct:true") exit 0;;
    "e2fsck /dev/sdb correct:true") echo "libguestfs: error: e2fsck: /dev/sdb: UNEXPECTED INCONSISTENCY" >&2;;
    "mount /dev/group/volume /" | "umount /") exit 0;;
    "xfs-repair /dev/group/volume nomodify:true") echo 1;;
    "btrfs-fsck /dev/sdc") echo "libguestfs: error: feature 'btrfs' is not available in this build of libguestfs." >&2;;
    "ntfsfix /dev/sda4") sleep 30;;
    exit) kill "$GUESTFISH_PID";;
esac
"""


@pytest.fixture
def guestfish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "guestfish"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return program


def test_each_file_system_is_looked_through_by_its_own_program_under_the_guests_own_name(guestfish: Path) -> None:
    assert filesystems.look(HERE, IMAGES, 3.0) == (
        FileSystem("vda1", "vfat", Condition.SOUND),  # 1: it was mended without a question
        FileSystem("vda2", "ext4", Condition.SOUND),
        FileSystem("vdb", "ext4", Condition.DAMAGED, "e2fsck: /dev/sdb: UNEXPECTED INCONSISTENCY"),
        FileSystem("/dev/group/volume", "xfs", Condition.DAMAGED),
        FileSystem("/dev/sdc", "btrfs", Condition.UNKNOWN, "there is no check for it"),
        FileSystem("vda4", "ntfs", Condition.UNKNOWN, "there was no time left"),
        FileSystem("vda5", "zfs_member", Condition.UNKNOWN, "there is no check for it"),
    )
    asked = guestfish.with_name("guestfish.log").read_text().splitlines()
    assert asked[0] == "--listen --ro --format=qcow2 -a /images/web.qcow2 --format=raw -a /images/da ta.raw"
    assert asked[-1] == "--remote exit"


def test_where_it_is_not_installed_that_is_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sh", "date", "mktemp"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert filesystems.look(HERE, IMAGES, 3.0) is None


@pytest.mark.parametrize(
    ("run", "within", "why"),
    [
        ("echo 'libguestfs: error: no kernel' >&2; exit 1", 30.0, "no kernel"),
        ("sleep 30", 1.0, "not ready within 1 s"),
    ],
)
def test_one_that_does_not_get_ready_is_told(
    guestfish: Path, monkeypatch: pytest.MonkeyPatch, run: str, within: float, why: str
) -> None:
    monkeypatch.setenv("RUN", run)
    with pytest.raises(DriverError, match=why):
        filesystems.look(HERE, IMAGES, within)


def told(looked: Looked | None, *, retired: bool = False) -> dict[str, tuple[Severity, str, str]]:
    found = stop_findings("web", "a", looked, retired=retired)
    return {one.code: (one.severity, one.why, one.remedy) for one in found}


def test_what_was_found_is_in_the_report() -> None:
    assert told(None) == {}
    sound, damaged = FileSystem("vda2", "ext4", Condition.SOUND), FileSystem("vdb", "xfs", Condition.DAMAGED, "bad magic")  # fmt: skip
    unknown = FileSystem("vdc", "zfs_member", Condition.UNKNOWN, "there is no check for it")
    found = told(Looked((sound, damaged, unknown)))
    assert set(found) == {"forced-off", "file-system-damaged", "file-systems-not-checked", "file-systems-sound"}
    assert found["file-system-damaged"][0] is Severity.WARNING
    assert "bad magic" in found["file-system-damaged"][1]
    assert "kept at a" in found["file-system-damaged"][2]
    assert "kept at a" not in told(Looked((damaged,)), retired=True)["file-system-damaged"][2]
    assert "vda2 (ext4)" in found["file-systems-sound"][1]
    assert "vdc (zfs_member: there is no check for it)" in found["file-systems-not-checked"][1]


def test_what_nobody_has_looked_at_comes_with_the_commands_to_type() -> None:
    looked = Looked(why_not="a has no guestfish to look with", by_hand=by_hand(IMAGES))
    found = told(looked)
    assert set(found) == {"forced-off", "file-systems-not-checked"}
    why, remedy = found["file-systems-not-checked"][1:]
    assert "no guestfish" in why
    assert "guestfish --ro --format=qcow2 -a /images/web.qcow2 --format=raw -a '/images/da ta.raw' run : list-filesystems" in remedy  # fmt: skip
    assert (
        "guestfish" not in told(looked, retired=True)["file-systems-not-checked"][2]
    )  # there is nothing left to look at
