"""A copy that is discarded takes its own image along, and nobody else's."""

from pathlib import Path

import pytest

from tests.copy.conftest import DESTINATION, Copies


@pytest.mark.parametrize("other", [False, True], ids=["its own", "somebody else's"])
def test_only_its_own_image_goes(copies: Copies, tmp_path: Path, other: bool) -> None:
    (tmp_path / "source").write_bytes(b"mine")
    target = tmp_path / "target"
    task = copies.task(tmp_path / "source", target)
    copies.copy(task)
    inode = target.stat().st_ino
    if other:
        target.unlink()
        target.write_text("somebody else's")
        if target.stat().st_ino != inode:
            pytest.skip("this file system gives an inode to nobody else so soon")
    copies.copier().discard(task, DESTINATION)
    assert target.exists() is other
