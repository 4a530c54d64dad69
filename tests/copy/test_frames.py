"""The decoder believes nothing: whatever arrives, it ends in a Trouble or in exactly what was sent."""

import random
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.copy.conftest  # noqa: F401
from ferryman_copy import digest, frames
from ferryman_copy.blocks import BLOCK, GROUP_BLOCKS, Piece
from ferryman_copy.frames import SHORT, TOWARDS_RECEIVER, TOWARDS_SENDER, Kind, pack, unpack
from ferryman_copy.sender import DIGESTS_AHEAD, Sender
from ferryman_copy.trouble import Trouble
from tests.copy.fuzz import LENGTH, Bytes, content, fuzz, fuzz_replies, receive, stream


def test_an_unharmed_stream_is_the_disk() -> None:
    data = content(random.Random(1))
    assert receive(b"".join(stream(data)), data) == "complete"


def test_an_unharmed_stream_over_an_older_copy_is_the_disk() -> None:
    data, older = content(random.Random(1)), content(random.Random(2))
    older = older[:BLOCK] + data[BLOCK:]
    frames = stream(data, older)
    assert any(frame == pack(Kind.SAME, 2, 1) for frame in frames)
    assert receive(b"".join(frames), data, older) == "complete"


def test_of_a_thousand_bent_replies_none_is_taken_for_digests_of_another_length_or_number() -> None:
    ends = fuzz_replies(1000, seed=7)
    assert set(ends) <= {"damaged", "cut", "incomplete", "complete"}, ends
    assert ends["damaged"] > 300


def test_of_a_thousand_bent_streams_none_is_taken_for_a_right_one() -> None:
    ends = fuzz(1000, seed=7)
    assert set(ends) <= {"damaged", "cut", "incomplete", "another disk", "complete"}, ends
    assert ends["damaged"] > 300


@given(st.binary(max_size=200), st.integers(1, 1 << 60), st.sampled_from((TOWARDS_RECEIVER, TOWARDS_SENDER)))
def test_bytes_of_any_kind_end_in_trouble(data: bytes, disk: int, allowed: frozenset[Kind]) -> None:
    connection = Bytes(data)

    def all_of_it() -> None:
        while True:
            frames.read(connection.take, disk, allowed)

    with pytest.raises(Trouble):
        all_of_it()


@given(
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 32) - 1),
)
def test_a_head_with_a_right_checksum_fits_the_disk_or_is_refused(
    kind: int, coding: int, start: int, count: int, length: int
) -> None:
    head = pack(kind, start, count, length, coding)  # type: ignore[arg-type]
    try:
        frame = unpack(head, LENGTH, TOWARDS_RECEIVER)
    except Trouble:
        return
    assert frame.length <= 1 << 20
    assert frame.digests <= 16
    assert frame.kind in (Kind.GROUP, Kind.END) or frame.start + frame.count <= 3


def test_a_packed_body_that_claims_to_be_huge_is_refused_before_it_is_unpacked() -> None:
    import zstandard

    bomb = zstandard.compress(bytes(1 << 28), 1)
    assert len(bomb) < 1 << 16
    with pytest.raises(Trouble, match="another size"):
        frames.expand(bomb, 65536)
    with pytest.raises(Trouble):
        frames.expand(b"\x28\xb5\x2f\xfd" + bytes(40), 65536)


@pytest.mark.parametrize("kind", list(Kind))
def test_frames_in_the_wrong_direction_are_refused(kind: Kind) -> None:
    for allowed in (TOWARDS_RECEIVER, TOWARDS_SENDER):
        if kind not in allowed:
            with pytest.raises(Trouble, match="wrong direction"):
                unpack(pack(kind, 0, 1, 0), LENGTH, allowed)


def test_digests_of_groups_that_are_done_with_do_not_jam_the_sender(tmp_path: Path) -> None:
    """A receiver may tell of far more empty groups than may wait at the sender, which needs none of them."""
    import zstandard

    count = 2 * DIGESTS_AHEAD
    with open(tmp_path / "empty", "wb") as file:
        file.truncate(count * GROUP_BLOCKS * BLOCK)
    sender = Sender(str(tmp_path / "empty"), "raw")
    sender._compare = lambda group: True
    sender._note_zero(Piece(0, count * GROUP_BLOCKS, True))
    body = zstandard.compress(digest.ZERO_LEAF[:SHORT] * GROUP_BLOCKS)
    told = b"".join(pack(Kind.LEAVES, group, GROUP_BLOCKS, len(body)) + body for group in range(count)) + pack(Kind.END)
    listening = threading.Thread(target=sender._listen, args=(Bytes(told),), daemon=True)
    listening.start()
    listening.join(20)
    assert not listening.is_alive()
    sender.image.close()
