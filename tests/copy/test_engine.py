"""The engine's parts that need neither image nor network: the digest, the journal, the cut into pieces, the choice of compression."""

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman_copy import digest
from ferryman_copy.blocks import BLOCK, GROUP_BLOCKS, Extent, Piece, blocks_in, groups_in, pieces, ranges
from ferryman_copy.dirty import Dirty
from ferryman_copy.journal import Group, Journal
from ferryman_copy.passes import take_up
from ferryman_copy.trouble import Trouble
from lab.digest import documented_digest


def of_the_engine(data: bytes) -> str:
    """The digest by the engine's own functions."""
    groups = {}
    for number in range(groups_in(len(data))):
        part = data[number * GROUP_BLOCKS * BLOCK :][: GROUP_BLOCKS * BLOCK]
        groups[number] = digest.group_digest([digest.leaf(part[at : at + BLOCK]) for at in range(0, len(part), BLOCK)])
    return digest.root(len(data), groups)


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1, GROUP_BLOCKS * BLOCK, GROUP_BLOCKS * BLOCK + 5])
def test_the_digest_is_what_the_document_says(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size // 2) + bytes(size - size // 2)
    (tmp_path / "disk").write_bytes(data)
    assert documented_digest()(tmp_path / "disk") == of_the_engine(data)


def test_zeroes_cost_nothing_and_length_counts() -> None:
    assert hashlib.sha256(bytes(BLOCK)).digest() == digest.ZERO_LEAF
    assert digest.root(1 << 40, {}) != digest.root((1 << 40) + 1, {})
    assert digest.root(GROUP_BLOCKS * BLOCK, {}) == digest.root(GROUP_BLOCKS * BLOCK, {0: digest.ZERO_GROUP})


@given(
    st.lists(st.tuples(st.integers(1, 3 * BLOCK), st.booleans()), max_size=40),
    st.integers(1, 5),
    st.sets(st.integers(0, 3)),
)
def test_the_pieces_are_the_disk_in_order_and_no_data_is_taken_for_zero(
    runs: list[tuple[int, bool]], scale: int, skipped: set[int]
) -> None:
    extents, at = [], 0
    for length, zero in runs:
        extents.append(Extent(at, length * scale * 7, zero))
        at += length * scale * 7
    length = max(at, 1)
    found = list(pieces(extents, length, lambda group: group in skipped))
    told = [block for piece in found for block in range(piece.start, piece.start + piece.count)]
    assert told == [block for block in range(blocks_in(length)) if block // GROUP_BLOCKS not in skipped]
    zero_blocks = {block for piece in found if piece.zero for block in range(piece.start, piece.start + piece.count)}
    for extent in extents:
        if not extent.zero:
            assert not zero_blocks & set(range(extent.start // BLOCK, -(-(extent.start + extent.length) // BLOCK)))
    assert all(
        piece.zero or piece.start // GROUP_BLOCKS == (piece.start + piece.count - 1) // GROUP_BLOCKS for piece in found
    )
    assert sum(count for _, count in ranges(sorted(told))) == len(told)


@given(
    st.lists(st.tuples(st.integers(0, 5 * GROUP_BLOCKS * BLOCK), st.integers(1, 20 * BLOCK)), max_size=8),
    st.lists(st.tuples(st.integers(0, 5 * GROUP_BLOCKS - 1), st.integers(1, 400), st.booleans()), max_size=8),
    st.sets(st.integers(0, 4)),
)
def test_of_a_plan_exactly_what_is_not_dirty_of_groups_that_are_held_is_clean(
    parts: list[tuple[int, int]], plan: list[tuple[int, int, bool]], held: set[int]
) -> None:
    length = 5 * GROUP_BLOCKS * BLOCK
    whole = blocks_in(length)
    wanted = {at // BLOCK for start, count in parts for at in range(start // BLOCK * BLOCK, start + count, BLOCK)}
    dirty = Dirty(iter(parts), length)
    assert dirty.groups == ranges(sorted({block // GROUP_BLOCKS for block in wanted if block < whole}))
    pieces = [Piece(start, min(count, whole - start), zero) for start, count, zero in plan]
    for before in pieces:
        after = list(dirty.split([before], lambda group: group in held))
        blocks = [(block, piece) for piece in after for block in range(piece.start, piece.start + piece.count)]
        assert [block for block, _ in blocks] == list(range(before.start, before.start + before.count))
        for block, piece in blocks:
            assert piece.clean is (block // GROUP_BLOCKS in held and block not in wanted)
            assert piece.clean or piece.zero is before.zero
        for piece in after:
            assert not piece.clean or piece.start // GROUP_BLOCKS == (piece.start + piece.count - 1) // GROUP_BLOCKS


STEPS = st.sampled_from(("group", "zeroes", "doubt", "restore", "bad", "unchanged"))


@given(st.lists(st.tuples(STEPS, st.integers(0, 9), st.integers(0, 200)), max_size=30))
def test_a_journal_that_is_opened_again_knows_what_it_knew(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    made = Journal(str(tmp_path_factory.mktemp("journal")), "one")
    leaves: dict[int, tuple[bytes, ...]] = {}
    for step, number, seed in steps:
        match step:
            case "group":
                leaves[number] = tuple(hashlib.sha256(b"%d" % (seed * block)).digest() if seed % (block + 2) else digest.ZERO_LEAF
                                       for block in range(GROUP_BLOCKS))  # fmt: skip
                made.note_groups([Group(number, digest.group_digest(leaves[number]), seed, leaves[number])])
            case "zeroes":
                leaves[number] = (digest.ZERO_LEAF,) * GROUP_BLOCKS
                made.note_zeroes([number])
            case "bad":
                leaves.pop(number, None)
                made.note_bad(number)
            case "unchanged" if number in made.known:
                made.note_groups([Group(number, made.known[number], 0, leaves[number])])
            case "doubt":
                made.doubt(one for one in sorted(made.done) if one >= number)
            case "restore":
                made.restore(one for one in sorted(made.known) if one >= number)
        assert {one: made.leaves(one) for one in range(10)} == {one: leaves.get(one) for one in range(10)}
    made.sync()
    made.close()
    again = Journal(str(Path(made.path).parent), "one")
    assert (again.done, again.known) == (made.done, made.known)
    assert not set(again.done) & set(again.known)
    assert {one: again.leaves(one) for one in range(10)} == {one: leaves.get(one) for one in range(10)}
    other = Journal(str(Path(made.path).parent), "two")
    other.take_over(again, 7)
    assert other.known == {one: found for one, found in again.done.items() if one < 7}
    assert {one: other.leaves(one) for one in other.known} == {one: leaves[one] for one in other.known}
    for journal in (again, other):
        journal.remove()


def group(number: int) -> Group:
    """A group of which two blocks were written."""
    return Group(
        number,
        bytes([number]) * 32,
        0b101,
        (b"a" * 32, digest.ZERO_LEAF, b"b" * 32) + (digest.ZERO_LEAF,) * (GROUP_BLOCKS - 3),
    )


@given(st.integers(0, 400), st.binary(max_size=20))
def test_a_torn_or_overwritten_end_of_the_journal_counts_for_nothing(
    tmp_path_factory: pytest.TempPathFactory, torn: int, rubbish: bytes
) -> None:
    directory = str(tmp_path_factory.mktemp("journal"))
    made = Journal(directory, "one")
    made.start_over(location="x")
    made.note_groups([group(1), group(2)])
    made.sync()
    made.close()
    path = Path(made.path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - torn] + rubbish)
    again = Journal(directory, "one")
    kept = list(again.groups())
    assert kept == [group(number) for number in (1, 2)][: len(kept)]
    if torn == 0:
        assert len(kept) == 2
    assert again.done == {one.number: one.digest for one in kept}
    again.note_groups([group(3)])
    again.note_bad(1)
    again.sync()
    again.close()
    once_more = Journal(directory, "one")
    assert [one.number for one in once_more.groups()] == [one.number for one in kept if one.number != 1] + [3]
    once_more.remove()


def test_only_what_a_dead_pass_may_have_written_to_is_in_doubt(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "one")
    journal.note(fingerprint="one")
    journal.note_groups([group(1), group(2), group(3)])
    take_up(journal, "one")
    assert set(journal.done) == {1, 2, 3}
    take_up(journal, "two")
    assert (set(journal.done), set(journal.known)) == (set(), {1, 2, 3})
    take_up(journal, "two")
    assert set(journal.known) == {1, 2, 3}, "it had written nothing"
    journal.note(horizon=2)
    take_up(journal, "three")
    assert set(journal.known) == {3}
    take_up(journal, "four")
    assert set(journal.known) == {3}
    journal.remove()


def test_a_journal_has_one_owner_and_a_plain_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferryman_copy.journal.LOCK_WITHIN", 0.1)
    first = Journal(str(tmp_path), "one")
    with pytest.raises(Trouble, match="another endpoint carries"):
        Journal(str(tmp_path), "one")
    first.close()
    Journal(str(tmp_path), "one").close()
    for name in ("", "../one", "a/b", ".one", "x" * 200):
        with pytest.raises(Trouble, match="no plain name"):
            Journal(str(tmp_path), name)
