"""Copies into an image that lies on an older one: only what differs is written there, and with that copy's journal nothing is read to find out."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman import errors
from ferryman.model.copy import CopyResult, CopyTask, Image
from tests.copy.conftest import DESTINATION, Copies, run
from tests.copy.moving import BITMAP, BLOCK, MIB, Disk, content_of

SIZE = 80 * MIB


class Increments:
    """A disk, a full copy of it, and what changed since."""

    def __init__(self, copies: Copies, directory: Path, kind: str) -> None:
        self.disk, self._copies, self.kind, self.full = Disk(directory, SIZE), copies, kind, directory / "full"
        self.next = directory / "next"
        self.copy(CopyTask("full", Image(""), Image(str(self.full), kind)), "")
        self.disk.begin_anew()
        self.disk.write("write -P 7 1M 64k", "write -P 8 50M 200k", f"write -z {self.data} 64k")
        self.task = CopyTask("next", Image(""), Image(str(self.next), "qcow2"), base="full", backing="full",
                             backing_format=kind, verify="written")  # fmt: skip

    @property
    def data(self) -> int:
        """Where a block of data is that none of those writes touches."""
        content = self.disk.content()
        return next(at for at in range(2 * MIB, SIZE, BLOCK) if any(content[at : at + BLOCK]))

    def copy(self, task: CopyTask, bitmap: str = BITMAP) -> CopyResult:
        """A pass over what is there now."""
        with self.disk.view() as uri:
            return self._copies.copy(replace(task, source=Image(uri), bitmap=bitmap, moment=task.id))

    def made(self) -> None:
        """An overlay that its caller made."""
        run("qemu-img", "create", "-f", "qcow2", "-b", "full", "-F", self.kind, self.next)

    @property
    def right(self) -> bool:
        """Whether the new image shows what the disk does."""
        return content_of(self.next, "qcow2") == self.disk.content()


@pytest.fixture
def increments(copies: Copies, tmp_path: Path, request: pytest.FixtureRequest) -> Increments:
    """Over a full copy of that format."""
    return Increments(copies, tmp_path, getattr(request, "param", "raw"))


each = pytest.mark.parametrize("increments", ["raw", "qcow2"], indirect=True)


@each
@pytest.mark.parametrize("maker", ["the engine", "the caller"])
def test_with_a_base_and_a_bitmap_the_new_file_holds_what_changed_and_only_that_was_read(
    increments: Increments, maker: str
) -> None:
    task = increments.task
    if maker == "the caller":
        increments.made()
        task = replace(task, existing="update", backing="")
    result = increments.copy(task)
    assert increments.right
    assert result.read == result.written == 5 * BLOCK
    assert result.destination_digest == increments.disk.digest()
    assert increments.next.stat().st_size < 2 * MIB
    assert "backing file: full" in run("qemu-img", "info", increments.next)


def test_nothing_is_read_of_what_lies_below_when_its_journal_knows_it(increments: Increments) -> None:
    """Rot there stays unseen."""
    content = increments.disk.content()
    data = next(at for at in range(SIZE - BLOCK, 0, -BLOCK) if any(content[at : at + BLOCK]))
    with open(increments.full, "r+b") as file:
        file.seek(data)
        file.write(b"rot")
    for bitmap in ("", BITMAP):
        increments.copy(
            replace(increments.task, id=f"next{bitmap}", destination=Image(f"{increments.next}{bitmap}", "qcow2")),
            bitmap,
        )
        assert Path(f"{increments.next}{bitmap}").stat().st_size < 2 * MIB


@each
def test_without_a_base_what_the_overlay_shows_is_compared_and_what_differs_is_written(increments: Increments) -> None:
    for made in (True, False):
        if made:
            increments.made()
        task = replace(increments.task, id=f"made {made}".replace(" ", "-"), base="", backing="" if made else "full",
                       existing="update" if made else "refuse")  # fmt: skip
        result = increments.copy(task, "")
        assert increments.right
        assert result.written == 5 * BLOCK
        assert result.destination_digest == increments.disk.digest()
        assert increments.next.stat().st_size < 2 * MIB
        increments.next.unlink()


def test_increments_lie_on_increments(copies: Copies, tmp_path: Path, increments: Increments) -> None:
    increments.copy(increments.task)
    increments.disk.begin_anew()
    increments.disk.write("write -P 3 60M 64k", "write -P 4 1M 4k")
    task = CopyTask("third", Image(""), Image(str(tmp_path / "third"), "qcow2"), base="next", backing="next")
    result = increments.copy(task)
    assert content_of(tmp_path / "third", "qcow2") == increments.disk.content()
    assert result.read == 2 * BLOCK
    assert result.destination_digest == increments.disk.digest()


@pytest.mark.parametrize("case", ["never made", "incomplete", "of another image", "nothing shows it"])
def test_a_base_that_does_not_say_what_lies_below_is_refused(
    copies: Copies, tmp_path: Path, increments: Increments, case: str
) -> None:
    task = increments.task
    if case == "never made":
        copies.copier().forget(CopyTask("full", Image(""), Image("")), DESTINATION)
    if case == "incomplete":
        copies.seen.clear()
        later = CopyTask("full", Image(str(increments.disk.path), "qcow2"), Image(str(increments.full)), moment="later",
                         bandwidth=100_000, compress="off")  # fmt: skip
        with pytest.raises(errors.Stopped):
            copies.copy(later, cancelled=lambda: bool(copies.seen))
    if case == "of another image":
        (tmp_path / "other").write_bytes(increments.full.read_bytes())
        task = replace(task, backing="other")
    if case == "nothing shows it":
        task = replace(task, backing="")
    with pytest.raises(errors.DriverError, match=r"no journal|not complete|nothing shows"):
        increments.copy(task)
    assert not increments.next.exists()
    assert [name for name in os.listdir(tmp_path / "journals") if name.startswith("next")] == []


def test_only_a_qcow2_is_made_over_a_backing_file(increments: Increments) -> None:
    with pytest.raises(errors.DriverError, match="only a qcow2"):
        increments.copy(replace(increments.task, destination=Image(str(increments.next), "raw")))
