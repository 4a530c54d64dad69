"""What is on storage when the receiver says that all of it is."""

import os
from pathlib import Path

import pytest

from ferryman_copy.blocks import GROUP, blocks_in
from ferryman_copy.frames import Kind, pack
from ferryman_copy.journal import Journal
from ferryman_copy.rawfile import RawFile
from ferryman_copy.receiver import Receiver
from tests.copy.fuzz import Bytes


def test_zeroes_over_an_older_copy_are_flushed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    length = 2 * GROUP
    (tmp_path / "older").write_bytes(b"old" * (length // 3 + 1))
    os.truncate(tmp_path / "older", length)
    image, journal = RawFile(str(tmp_path / "older"), writable=True), Journal(str(tmp_path), "zeroes")
    flushed: list[bytes] = []
    sync = os.fdatasync

    def noted(handle: int) -> None:
        sync(handle)
        if handle == image._handle:
            flushed.append((tmp_path / "older").read_bytes())

    monkeypatch.setattr(os, "fdatasync", noted)
    receiver = Receiver(image, journal, length, compare=lambda _: False, zeroed=False, holes=True, suspect=False)
    receiver.run([Bytes(pack(Kind.ZERO, 0, blocks_in(length)) + pack(Kind.END))], None)  # type: ignore[list-item]
    image.close()
    journal.close()
    assert flushed
    assert flushed[-1] == bytes(length)
