"""Backups that are looked through: an image that cannot be read is told as damage, and is no end of the looking."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ferryman.app.backups import Backups, Listed
from ferryman.drivers.folder import HostFolder
from ferryman.errors import DriverError, Stopped
from ferryman.model.copy import Digest
from ferryman.plain import to_json, to_plain
from tests.unit.test_backup import disk, manifest

GOOD = "fd1:0"


class Copier:
    """Reads each image as it is told."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def folder(self, host: Any, path: str) -> HostFolder:
        return HostFolder(host, path)

    def digest(self, image: Any, host: Any, **told: Any) -> Digest:
        if isinstance(self._answer, Exception):
            raise self._answer
        return Digest(1, self._answer)


def looked_through(place: Path, answer: Any) -> Listed:
    folder = place / "1"
    folder.mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", folder / "vda.qcow2", "1M"], check=True)
    made = manifest(disk(bytes=(folder / "vda.qcow2").stat().st_size), files=())
    (folder / "manifest.json").write_text(to_json(to_plain(made)))
    site: Any = SimpleNamespace(ports=SimpleNamespace(copier=Copier(answer)))
    backups = Backups(site, None)  # type: ignore[arg-type]
    (one,) = backups.found(str(place))
    assert one.lacking == ()
    return backups.looked_through(one, progress=lambda _: None, cancelled=lambda: False)


@pytest.mark.parametrize(
    ("answer", "why"),
    [(GOOD, ""), ("fd1:9", "is damaged"), (DriverError("image", "its tables are corrupt"), "cannot be read: its tables are corrupt")],
)  # fmt: skip
def test_what_is_wrong_with_a_disk_is_told(tmp_path: Path, answer: Any, why: str) -> None:
    found = looked_through(tmp_path, answer)
    assert found.looked_through
    assert (why in found.lacking[0]) if why else not found.lacking


def test_who_stops_it_is_not_told_of_damage(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        looked_through(tmp_path, Stopped("image", "it was asked to end"))
