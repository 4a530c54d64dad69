"""Block devices, with sectors of 512 and of 4096 bytes: as destinations whatever was on them, and as sources that are watched."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ferryman import errors
from ferryman.model.copy import CopyProgress
from tests.copy.conftest import DESTINATION, SOURCE, Copies, run

MIB = 1 << 20


def loops() -> bool:
    """Whether this machine has loop devices for us."""
    return os.geteuid() == 0 and subprocess.run(["losetup", "--find"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not loops(), reason="no loop devices here")


@contextmanager
def device(path: Path, content: bytes, sector: int) -> Iterator[Path]:
    """A block device with that content."""
    path.write_bytes(content)
    found = Path(run("losetup", "--find", "--show", "--sector-size", sector, path).strip())
    try:
        yield found
    finally:
        run("losetup", "--detach", found)


@pytest.fixture(params=[512, 4096])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A device of 24 MiB full of something else."""
    with device(tmp_path / "lun", os.urandom(24 * MIB), request.param) as found:
        yield found


@pytest.mark.parametrize("existing", ["update", "overwrite"])
def test_a_device_becomes_the_source_and_zeroes_up_to_its_end(
    copies: Copies, tmp_path: Path, target: Path, existing: str
) -> None:
    content = os.urandom(3 * MIB) + bytes(9 * MIB) + os.urandom(5 * MIB + 777)
    (tmp_path / "source").write_bytes(content)
    with pytest.raises(errors.DriverError, match="not this copy's own"):
        copies.copy(copies.task(tmp_path / "source", target))
    result = copies.copy(copies.task(tmp_path / "source", target, existing=existing))
    assert result.source_digest == result.destination_digest
    assert target.read_bytes() == content + bytes(24 * MIB - len(content))


def test_a_device_that_is_too_small_is_refused(copies: Copies, tmp_path: Path, target: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(25 * MIB))
    before = target.read_bytes()
    with pytest.raises(errors.DriverError, match="it has 25165824 bytes"):
        copies.copy(copies.task(tmp_path / "source", target, existing="update"))
    assert target.read_bytes() == before


def test_a_device_that_is_written_to_while_it_is_copied_is_noticed(copies: Copies, tmp_path: Path) -> None:
    with device(tmp_path / "lun", os.urandom(24 * MIB), 512) as source:
        written: list[bool] = []

        def meddle(one: CopyProgress) -> None:
            if one.phase == "copying" and one.done > 4 * MIB and not written:
                with open(source, "r+b") as file:
                    file.write(b"somebody else")
                written.append(True)

        task = copies.task(source, tmp_path / "target", ("raw", "qcow2"), bandwidth=16 * MIB)
        with pytest.raises(errors.SourceChanged):
            copies.copier().copy(task, SOURCE, DESTINATION, progress=meddle, cancelled=lambda: False)
        assert written
        result = copies.copy(task)
        assert result.wire < 3 * MIB


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_device_arrives_whole_with_what_lies_across_its_sectors(copies: Copies, tmp_path: Path, sector: int) -> None:
    content = bytes(3 * MIB - 5) + os.urandom(2 * MIB + 5) + bytes(2 * MIB) + os.urandom(MIB)
    with device(tmp_path / "lun", content, sector) as source:
        result = copies.copy(copies.task(source, tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == content
    assert result.sent_again == 0


def test_a_device_of_another_time_is_another_though_its_numbers_and_counters_are_the_same(tmp_path: Path) -> None:
    from ferryman_copy.source import fingerprint

    signs = []
    for content in (bytes(MIB), os.urandom(MIB)):
        with device(tmp_path / "lun", content, 512) as source:
            signs.append((source, fingerprint(str(source), "raw")))
    if signs[0][0] != signs[1][0]:
        pytest.skip("somebody else took the loop device meanwhile")
    assert all(sign for _, sign in signs)
    assert signs[0][1] != signs[1][1]


def test_a_device_that_is_mounted_is_left_alone(copies: Copies, tmp_path: Path, target: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(MIB))
    (tmp_path / "mount").mkdir()
    run("mkfs.ext4", "-q", target)
    run("mount", "-o", "ro", target, tmp_path / "mount")  # or the file system writes by itself
    try:
        before = target.read_bytes()
        with pytest.raises(errors.DriverError, match="this device is in use: it is mounted"):
            copies.copy(copies.task(tmp_path / "source", target, existing="update"))
        assert target.read_bytes() == before
    finally:
        run("umount", tmp_path / "mount")
    copies.copy(copies.task(tmp_path / "source", target, existing="update"))
