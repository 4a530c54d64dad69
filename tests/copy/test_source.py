"""The sign by which one sees that somebody wrote to a source: every file that holds a part of its data counts."""

import os
from pathlib import Path

import pytest

from ferryman_copy.source import fingerprint
from tests.copy.conftest import run


@pytest.mark.parametrize(
    ("kind", "options", "apart"),
    [("qcow2", "data_file=disk.data,data_file_raw=on", "disk.data"), ("vmdk", "subformat=monolithicFlat", "disk-flat.vmdk")],
)  # fmt: skip
@pytest.mark.parametrize("below", [False, True], ids=["image", "backing image"])
def test_data_that_lies_in_a_file_of_its_own_is_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: str, apart: str, below: bool
) -> None:
    monkeypatch.chdir(tmp_path)  # where the names in the options lie
    image = tmp_path / f"disk.{kind}"
    run("qemu-img", "create", "-f", kind, "-o", options, image, "1M")
    monkeypatch.chdir("/")
    if below:
        run("qemu-img", "create", "-f", "qcow2", "-b", image, "-F", kind, tmp_path / "over.qcow2")
        image, kind = tmp_path / "over.qcow2", "qcow2"
    before = fingerprint(str(image), kind)
    assert before
    assert fingerprint(str(image), kind) == before
    with open(tmp_path / apart, "r+b") as file:
        file.write(b"a guest was here")
    assert fingerprint(str(image), kind) != before


def test_a_time_that_is_set_back_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(100))
    before, times = fingerprint(str(tmp_path / "disk"), "raw"), (tmp_path / "disk").stat()
    (tmp_path / "disk").write_bytes(b"x" * 100)
    os.utime(tmp_path / "disk", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (tmp_path / "disk").stat().st_mtime_ns == times.st_mtime_ns
    assert fingerprint(str(tmp_path / "disk"), "raw") != before
