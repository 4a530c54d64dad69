"""Zeroes over what was there before: written bit by bit, noted as they are on storage, and proved like all else."""

import os
from pathlib import Path

import pytest

import tests.copy.conftest  # noqa: F401
from ferryman_copy import readback
from ferryman_copy.blocks import BLOCK, GROUP, blocks_in
from ferryman_copy.comparison import Own
from ferryman_copy.destination import ZEROED_AT_ONCE, Destination, Wanted
from ferryman_copy.digest import ZERO_GROUP, ZERO_LEAF, group_digest, leaf
from ferryman_copy.frames import Kind, pack
from ferryman_copy.journal import Group, Journal
from ferryman_copy.rawfile import RawChannel, RawFile
from ferryman_copy.receiver import ZEROED_BLOCKS, Receiver
from ferryman_copy.trouble import Trouble
from tests.copy.fuzz import Bytes

CHUNK = ZEROED_BLOCKS * BLOCK
LENGTH = 3 * CHUNK + GROUP + 5


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A file with room for all of it and something at odd places."""
    path = tmp_path / "older"
    with open(path, "wb") as file:
        for at in (0, CHUNK - 3, 2 * CHUNK + 7, LENGTH - 3):
            file.seek(at)
            file.write(b"old")
    return path


def zero_all(image: RawFile, journal: Journal) -> None:
    """All of it is told to be zero in one frame."""
    receiver = Receiver(image, journal, LENGTH, compare=lambda _: False, zeroed=False, holes=True, suspect=False)
    whole = [number for number in range(-(-LENGTH // GROUP)) if number not in journal.done]
    frames = b"".join(
        pack(Kind.ZERO, first * (GROUP // BLOCK), min(GROUP // BLOCK, blocks_in(LENGTH) - first * (GROUP // BLOCK)))
        for first in whole
    )
    if len(whole) == -(-LENGTH // GROUP):
        frames = pack(Kind.ZERO, 0, blocks_in(LENGTH))
    receiver.run([Bytes(frames + pack(Kind.END))], None)  # type: ignore[list-item]


def test_a_large_range_is_zeroed_bit_by_bit_and_what_is_done_is_not_done_again(
    tmp_path: Path, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeroed: list[tuple[int, int]] = []
    really = RawChannel.zero

    def zero(channel: RawChannel, start: int, count: int, *, holes: bool) -> None:
        if len(zeroed) == 2:
            zeroed.append((-1, 0))
            raise Trouble("storage", "image", "it broke", "")
        zeroed.append((start, count))
        really(channel, start, count, holes=holes)

    monkeypatch.setattr(RawChannel, "zero", zero)
    image = RawFile(str(older), writable=True)
    image.first._device = True  # which cannot tell where it is zero
    journal = Journal(str(tmp_path), "zeroes")
    with pytest.raises(Trouble, match="it broke"):
        zero_all(image, journal)
    assert zeroed[:2] == [(0, CHUNK), (CHUNK, CHUNK)]
    journal.close()
    journal = Journal(str(tmp_path), "zeroes")
    assert journal.done == dict.fromkeys(range(2 * CHUNK // GROUP), ZERO_GROUP)
    zero_all(image, journal)
    assert min(start for start, _ in zeroed[3:]) == 2 * CHUNK
    assert older.read_bytes() == bytes(LENGTH)
    image.close()
    journal.close()


def test_a_journal_of_zeroes_stays_small_and_can_be_taken_back(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "zeroes")
    journal.note_groups([Group(number, ZERO_GROUP, 0, ()) for number in range(65536)])
    journal.note_bad(7)
    journal.sync()
    journal.close()
    assert os.path.getsize(journal.path) < 200
    again = Journal(str(tmp_path), "zeroes")
    assert set(again.done) == set(range(65536)) - {7}
    assert again.zeroed() == sorted(again.done)
    assert not list(again.groups())
    again.close()


@pytest.mark.parametrize("how", ["written", "full"])
@pytest.mark.parametrize("at", [CHUNK + 9, LENGTH - 2], ids=["a whole group", "the last, short one"])
def test_zeroes_that_did_not_get_to_the_storage_are_found_out(tmp_path: Path, older: Path, how: str, at: int) -> None:
    image, journal = RawFile(str(older), writable=True), Journal(str(tmp_path), "zeroes")
    zero_all(image, journal)
    assert readback.read_back(image, journal, LENGTH, how, lambda _: None) in (
        {},
        dict.fromkeys(journal.done, ZERO_GROUP),
    )
    with open(older, "r+b") as file:
        file.seek(at)
        file.write(b"x")
    with pytest.raises(Trouble, match="not what was sent"):
        readback.read_back(image, journal, LENGTH, how, lambda _: None)
    assert at // GROUP not in journal.done
    image.close()
    journal.close()


@pytest.mark.parametrize("how", ["written", "full"])
def test_zeroes_beside_data_are_read_back_too(tmp_path: Path, how: str) -> None:
    data = os.urandom(BLOCK)
    (tmp_path / "older").write_bytes(b"old" * BLOCK)
    image, journal = RawFile(str(tmp_path / "older"), writable=True), Journal(str(tmp_path), "beside")
    receiver = Receiver(image, journal, 3 * BLOCK, compare=lambda _: False, zeroed=False, holes=True, suspect=False)
    frames = [
        pack(Kind.DATA, 0, 1, BLOCK) + leaf(data) + data, pack(Kind.ZERO, 1, 2),
        pack(Kind.GROUP, 0) + group_digest([leaf(data), ZERO_LEAF, ZERO_LEAF]), pack(Kind.END),
    ]  # fmt: skip
    receiver.run([Bytes(b"".join(frames))], None)  # type: ignore[list-item]
    readback.read_back(image, journal, 3 * BLOCK, how, lambda _: None)
    with open(tmp_path / "older", "r+b") as file:
        file.seek(2 * BLOCK)
        file.write(b"x")
    with pytest.raises(Trouble, match="not what was sent"):
        readback.read_back(image, journal, 3 * BLOCK, how, lambda _: None)
    image.close()
    journal.close()


@pytest.mark.parametrize("how", ["written", "full"])
def test_a_longer_destination_is_read_back_to_its_end(tmp_path: Path, how: str) -> None:
    (tmp_path / "longer").write_bytes(bytes(BLOCK) + b"x")
    image, journal = RawFile(str(tmp_path / "longer"), writable=True), Journal(str(tmp_path), "longer")
    with pytest.raises(Trouble, match="past the source's 65536 bytes it is not zero"):
        readback.read_back(image, journal, BLOCK, how, lambda _: None)
    image.close()
    journal.close()


def test_the_tail_of_a_longer_destination_is_zeroed_bit_by_bit_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "longer").touch()
    os.truncate(tmp_path / "longer", 3 * ZEROED_AT_ONCE)
    wanted = Wanted("tail", str(tmp_path / "longer"), "raw", BLOCK + 1, "sign", existing="update")
    found = Destination(wanted, str(tmp_path / "journals"))
    found.image.first._device = True  # type: ignore[attr-defined]
    zeroed: list[tuple[int, int]] = []
    monkeypatch.setattr(RawChannel, "zero", lambda _, start, count, holes: zeroed.append((start, start + count)))
    told: list[int] = []
    found.clear_tail(told.append)
    found.close()
    assert [start for start, _ in zeroed] == [BLOCK + 1, *(end for _, end in zeroed[:-1])]
    assert zeroed[-1][1] == 3 * ZEROED_AT_ONCE
    assert len(zeroed) == len(told) == 3
    assert told[-1] == 3 * ZEROED_AT_ONCE - BLOCK - 1


def test_what_the_journal_knows_to_be_zero_is_not_zeroed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device cannot tell where it is zero."""
    data, zeroed = os.urandom(BLOCK), list[tuple[int, int]]()
    leaves = (leaf(data), *[ZERO_LEAF] * 255)
    (tmp_path / "disk").write_bytes(bytes(GROUP) + data + bytes(GROUP - BLOCK))
    image, journal = RawFile(str(tmp_path / "disk"), writable=True), Journal(str(tmp_path), "known")
    image.first._device = True
    monkeypatch.setattr(RawChannel, "zero", lambda _, start, count, holes: zeroed.append((start, count)))
    journal.note_zeroes([0])
    journal.note_groups([Group(1, group_digest(leaves), 1, leaves)])
    journal.doubt([0, 1])
    begun = journal.end
    receiver = Receiver(image, journal, 2 * GROUP, compare=lambda _: True, zeroed=False, holes=True, suspect=True)
    receiver.compared(1, Own(leaves, noted=True))
    frames = [pack(Kind.ZERO, 0, 256), pack(Kind.SAME, 256, 1), pack(Kind.ZERO, 257, 255), pack(Kind.GROUP, 1) + group_digest(leaves),
              pack(Kind.END)]  # fmt: skip
    receiver.run([Bytes(b"".join(frames))], None)  # type: ignore[list-item]
    assert zeroed == []
    assert journal.done == {0: ZERO_GROUP, 1: group_digest(leaves)}
    assert (list(journal.groups(begun)), journal.zeroed(begun)) == ([], []), "this pass wrote nothing"
    image.close()
    journal.close()
