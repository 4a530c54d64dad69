"""Passes over a disk in use: of each frozen view only what changed is read and sent, and what arrives is that view, byte for byte."""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman import errors
from ferryman.model.copy import CopyResult, CopyTask, Image
from ferryman_copy.journal import Journal
from tests.copy.conftest import DESTINATION, SOURCE, Copies, fill, run
from tests.copy.moving import BITMAP, BLOCK, MIB, Disk, content_of

SIZE = 80 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A disk with something in it."""
    return Disk(tmp_path, SIZE)


def to(path: Path, kind: str = "raw", **more: object) -> CopyTask:
    """A pass to there; of what, `over` says."""
    return CopyTask("pass", Image(""), Image(str(path), kind), **more)  # type: ignore[arg-type]


def over(copies: Copies, disk: Disk, task: CopyTask, moment: str, bitmap: str = "") -> CopyResult:
    """A pass over what is in the disk now."""
    with disk.view() as uri:
        return copies.copy(replace(task, source=Image(uri), moment=moment, bitmap=bitmap))


@pytest.mark.parametrize(
    ("kind", "verify"),
    [
        ("raw", "full"),
        ("qcow2", "written"),
        *(pytest.param(*one, marks=pytest.mark.whole) for one in (("raw", "written"), ("qcow2", "full"))),
    ],
)
def test_of_a_view_with_a_bitmap_only_what_is_dirty_is_read_and_sent(
    copies: Copies, tmp_path: Path, disk: Disk, kind: str, verify: str
) -> None:
    task = to(tmp_path / "target", kind, verify=verify, compress="off")
    first = over(copies, disk, task, "one")
    assert first.destination_digest == disk.digest()
    disk.begin_anew()
    disk.write("write -P 7 1M 64k", "write -P 8 50M 200k", "write -z 20M 1M")
    second = over(copies, disk, task, "two", BITMAP)
    assert content_of(tmp_path / "target", kind) == disk.content()
    assert second.source_digest == second.destination_digest == disk.digest()
    assert second.written == second.read == 5 * BLOCK
    assert second.wire < 5 * BLOCK + 50_000
    disk.begin_anew()
    third = over(copies, disk, task, "three", BITMAP)
    assert (third.read, third.written) == (0, 0)
    assert third.wire < 2000
    assert third.destination_digest == second.destination_digest


def test_the_last_pass_is_over_the_image_of_a_guest_that_is_off(copies: Copies, tmp_path: Path, disk: Disk) -> None:
    task = to(tmp_path / "target", "qcow2", compress="off")
    over(copies, disk, task, "one")
    disk.begin_anew()
    disk.write("write -P 7 1M 64k")
    last = copies.copy(replace(task, source=Image(str(disk.path), "qcow2"), bitmap=BITMAP))
    assert content_of(tmp_path / "target", "qcow2") == disk.content()
    assert last.read == BLOCK
    assert last.destination_digest == disk.digest()


def test_without_a_bitmap_all_is_read_at_the_source_and_nothing_at_the_destination(
    copies: Copies, tmp_path: Path, disk: Disk
) -> None:
    task = to(tmp_path / "target", compress="off", verify="written")
    first = over(copies, disk, task, "one")
    content = disk.content()
    data = next(at for at in range(0, SIZE, BLOCK) if any(content[at : at + BLOCK]))
    with open(tmp_path / "target", "r+b") as file:
        file.seek(data)
        file.write(b"rot")
    disk.write("write -P 7 79M 64k")
    second = over(copies, disk, task, "two")
    assert second.read >= first.read
    assert second.written == BLOCK
    assert second.wire < 2 * BLOCK
    with open(tmp_path / "target", "rb") as file:
        file.seek(data)
        assert file.read(3) == b"rot", "it was read and found to differ"
    with pytest.raises(errors.Mismatch, match="read back"):
        over(copies, disk, replace(task, verify="full"), "three")
    over(copies, disk, replace(task, verify="full"), "three")
    assert (tmp_path / "target").read_bytes() == disk.content()


def test_a_raw_disk_that_is_off_is_compared_with_what_the_passes_brought(copies: Copies, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(40 * MIB))
    task = replace(to(tmp_path / "target", compress="off", verify="written"), source=Image(str(source)))
    copies.copy(replace(task, moment="one"))
    with open(source, "r+b") as file:
        file.seek(5 * MIB)
        file.write(b"changed")
    second = copies.copy(replace(task, moment="two"))
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert (second.read, second.written) == (40 * MIB, BLOCK)


def test_passes_over_a_raw_file_of_an_odd_size_are_of_one_length(copies: Copies, tmp_path: Path) -> None:
    """QEMU shows a guest whole sectors, and the file has fewer bytes."""
    source = tmp_path / "source"
    fill(source, 3 * MIB + 100, seed=3)
    task = to(tmp_path / "target")
    server = subprocess.Popen(["qemu-nbd", "--persistent", "--read-only", "--shared=0", "-f", "raw", "-x", "vda",
                               "-k", tmp_path / "view", source])  # fmt: skip
    try:
        while not (tmp_path / "view").exists():
            time.sleep(0.01)
        copies.copy(replace(task, source=Image(f"nbd+unix:///vda?socket={tmp_path}/view"), moment="one"))
    finally:
        server.terminate()
        server.wait()
    identity = (tmp_path / "target").stat().st_ino
    assert copies.copy(replace(task, source=Image(str(source)), moment="two")).written == 0
    assert (tmp_path / "target").stat().st_ino == identity
    assert (tmp_path / "target").read_bytes() == source.read_bytes() + bytes(412)
    copies.copy(
        replace(
            task,
            id="file",
            source=Image(str(source)),
            destination=Image(f"{tmp_path}/file"),
            as_file=True,
            moment="two",
        )
    )
    assert (tmp_path / "file").read_bytes() == source.read_bytes(), "a file is its bytes, not a guest's disk"


def test_asked_for_again_with_its_moment_a_complete_pass_answers_what_it_answered(
    copies: Copies, tmp_path: Path, disk: Disk
) -> None:
    task = to(tmp_path / "target")
    over(copies, disk, task, "one")
    disk.begin_anew()
    disk.write("write -P 7 1M 64k")
    second = over(copies, disk, task, "two", BITMAP)
    again = over(copies, disk, task, "two", BITMAP)
    assert (again.read, again.wire) == (0, 0)
    assert again.destination_digest == second.destination_digest


def inconsistent(disk: Disk) -> None:
    """A program that had it open for writing died."""
    server = subprocess.Popen(["qemu-nbd", "--persistent", "-f", "qcow2", "-k", f"{disk.path}.socket", disk.path])
    while not os.path.exists(f"{disk.path}.socket"):
        time.sleep(0.01)
    run("qemu-io", "-f", "raw", "-c", "write -P 9 3M 64k", f"nbd+unix:///?socket={disk.path}.socket")
    server.send_signal(signal.SIGKILL)
    server.wait()
    assert "in-use" in run("qemu-img", "info", disk.path)


@pytest.mark.parametrize("case", ["none in the view", "none in the file", "inconsistent", "a raw file", "below", "off"])
def test_a_bitmap_that_cannot_be_relied_on_is_an_error_of_its_own_and_without_it_all_is_well(
    copies: Copies, tmp_path: Path, disk: Disk, case: str
) -> None:
    task = to(tmp_path / "target", compress="off")
    over(copies, disk, task, "one")
    disk.write("write -P 7 1M 64k")
    source = Image(str(disk.path), "qcow2")
    if case == "inconsistent":
        inconsistent(disk)
    if case == "a raw file":
        (tmp_path / "raw").write_bytes(disk.content())
        source = Image(str(tmp_path / "raw"))
    if case == "below":  # what was written since then is in the overlay, and the bitmap does not know of it
        run("qemu-img", "create", "-f", "qcow2", "-b", disk.path, "-F", "qcow2", tmp_path / "over")
        disk.path = tmp_path / "over"
        disk.write("write -P 9 9M 64k")
        source = Image(str(disk.path), "qcow2")
    if case == "off":
        run("qemu-img", "bitmap", "--disable", disk.path, BITMAP)
        disk.write("write -P 9 9M 64k")
    name = BITMAP if case in ("inconsistent", "below", "off") else "another"
    with disk.view() if case == "none in the view" else contextlib.nullcontext() as uri:
        wanted = replace(task, source=Image(uri) if uri else source, bitmap=name, moment="two")
        with pytest.raises(errors.NoBitmap, match=name):
            copies.copy(wanted)
    result = copies.copy(replace(task, source=source, moment="two"))
    assert (tmp_path / "target").read_bytes() == disk.content()
    assert result.written <= 2 * BLOCK


def test_a_bitmap_counts_for_nothing_before_a_pass_was_complete(copies: Copies, tmp_path: Path, disk: Disk) -> None:
    disk.write("write -P 7 1M 64k")
    result = over(copies, disk, to(tmp_path / "target"), "one", BITMAP)
    assert (tmp_path / "target").read_bytes() == disk.content()
    assert result.destination_digest == disk.digest()


def test_zeroes_that_were_read_once_are_not_read_again(copies: Copies, tmp_path: Path) -> None:
    """A fresh image's zeroes need no writing; the journal knows them all the same, and those that nobody told of."""
    disk = Disk(tmp_path, SIZE, parts=0)
    disk.write("write -P 0 16M 40M")
    task = to(tmp_path / "target")
    assert over(copies, disk, task, "one").read >= 40 * MIB
    journal = Journal(str(tmp_path / "journals"), "pass")
    assert set(journal.done) == set(range(5))
    journal.close()
    disk.begin_anew()
    disk.write("write -P 7 0 64k")
    assert over(copies, disk, task, "two", BITMAP).read == BLOCK


def test_what_became_zero_is_zeroed_and_what_was_is_left_alone(copies: Copies, tmp_path: Path) -> None:
    disk = Disk(tmp_path, SIZE, parts=0)
    disk.write("write -P 1 0 32M")
    task = to(tmp_path / "target", verify="written")
    over(copies, disk, task, "one")
    disk.begin_anew()
    disk.write("write -z 4M 20M", "discard 25M 1M")
    over(copies, disk, task, "two", BITMAP)
    assert (tmp_path / "target").read_bytes() == disk.content()
    disk.write("write -z 0 32M")
    result = over(copies, disk, task, "three")
    assert (tmp_path / "target").read_bytes() == bytes(SIZE)
    assert result.destination_digest == disk.digest()


def test_a_view_that_ends_under_way_is_named_and_with_the_same_moment_the_pass_goes_on(
    copies: Copies, tmp_path: Path
) -> None:
    disk = Disk(tmp_path, SIZE, parts=0)
    disk.write("write -P 1 0 20M")
    task = to(tmp_path / "target", compress="off")
    over(copies, disk, task, "one")
    disk.begin_anew()
    disk.write("write -P 2 0 20M")
    with disk.view() as uri:
        slow = replace(task, source=Image(uri), moment="two", bitmap=BITMAP, bandwidth=10 * MIB)
        with pytest.raises(errors.DriverError, match=r"vda\?socket"):
            copies.copier().copy(
                slow, SOURCE, DESTINATION, progress=lambda _: disk.server.kill(), cancelled=lambda: False
            )
    over(copies, disk, task, "two", BITMAP)
    assert (tmp_path / "target").read_bytes() == disk.content()
