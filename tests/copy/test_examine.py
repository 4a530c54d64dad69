"""An image is read with all that it stands upon, and its digest told: what damage is noticed by."""

import subprocess
from pathlib import Path

import pytest

from ferryman import errors
from ferryman.drivers.copy import SshCopier
from ferryman.model.copy import CopyTask, Digest, Image
from ferryman.model.host import THIS_MACHINE
from lab.digest import documented_digest

MIB = 1 << 20


def digest(path: Path, kind: str = "qcow2") -> Digest:
    return SshCopier().digest(Image(str(path), kind), THIS_MACHINE, progress=lambda _: None, cancelled=lambda: False)


def made(directory: Path, name: str, size: int, *writes: str, base: str = "") -> Path:
    path = directory / name
    below = ["-b", base, "-F", "qcow2"] if base else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *below, path, str(size)], check=True)
    for write in writes:
        subprocess.run(["qemu-io", "-c", write, path], check=True, capture_output=True)
    return path


def as_documented(path: Path) -> str:
    raw = path.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
    return str(documented_digest()(str(raw)))


@pytest.mark.parametrize("size", [0, 512, 40 * MIB, 40 * MIB + 512])
def test_the_digest_is_the_documented_one(tmp_path: Path, size: int) -> None:
    writes = ["write -P 7 17M 3M", "write -P 8 0 64k", "write -z 18M 64k"] if size > MIB else []
    image = made(tmp_path, "one.qcow2", size, *writes)
    assert digest(image) == Digest(size, as_documented(image))


def test_an_overlay_is_read_with_what_it_stands_upon_and_its_zeroes_are_its_own(tmp_path: Path) -> None:
    made(tmp_path, "below.qcow2", 40 * MIB, "write -P 7 0 20M")
    image = made(tmp_path, "above.qcow2", 40 * MIB, "write -P 8 30M 1M", "write -z 1M 2M", base="below.qcow2")
    assert digest(image).digest == as_documented(image)


def test_a_byte_that_was_flipped_below_is_noticed(tmp_path: Path) -> None:
    below = made(tmp_path, "below.qcow2", 40 * MIB, "write -P 7 0 20M")
    image = made(tmp_path, "above.qcow2", 40 * MIB, "write -P 8 30M 1M", base="below.qcow2")
    before = digest(image)
    with open(below, "r+b") as file:
        file.seek(10 * MIB)
        file.write(b"\xff")
    assert digest(image).digest != before.digest


def test_what_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(errors.DriverError, match=r"nothing\.qcow2"):
        digest(tmp_path / "nothing.qcow2")


def test_it_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    image = made(tmp_path, "one.qcow2", 40 * MIB, "write -P 7 0 20M")
    with pytest.raises(errors.Stopped):
        SshCopier().digest(Image(str(image), "qcow2"), THIS_MACHINE, progress=lambda _: None, cancelled=lambda: True)


def test_a_copy_whose_base_is_not_known_any_more_says_so_in_a_way_of_its_own(tmp_path: Path) -> None:
    below = made(tmp_path, "below.qcow2", MIB)
    task = CopyTask("second", Image(str(below), "qcow2"), Image(str(tmp_path / "above.qcow2"), "qcow2"), base="forgotten", backing="below.qcow2")  # fmt: skip
    with pytest.raises(errors.NoBase):
        SshCopier(journals=str(tmp_path / "journals")).copy(task, THIS_MACHINE, THIS_MACHINE, progress=lambda _: None, cancelled=lambda: False)  # fmt: skip
