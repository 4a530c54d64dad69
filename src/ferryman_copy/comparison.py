"""What the destination has, told to the sender: digests from the journal, or of what lies on storage where the journal does not know."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import zstandard

from ferryman_copy import digest
from ferryman_copy.blocks import BLOCK, GROUP_BLOCKS, PIECE, ZERO_BLOCK, Piece, blocks_of
from ferryman_copy.digest import ZERO_LEAF
from ferryman_copy.frames import DIGITS, Kind, pack
from ferryman_copy.image import Channel, Image
from ferryman_copy.journal import Journal
from ferryman_copy.wire import Connection


@dataclass(frozen=True)
class Own:
    """The digests of a group's blocks; `noted`: by the journal, so that they are on storage."""

    leaves: Sequence[bytes]
    noted: bool = False


class Comparison:
    """Digests of what the destination holds, sent in ascending order; two threads read ahead."""

    def __init__(self, image: Image, journal: Journal, length: int, held: Callable[[int], bool]) -> None:
        """`held`: groups of which the sender needs whole digests, as it does not read all of their blocks."""
        self._image, self._journal, self._length, self._held = image, journal, length, held
        self._packer = zstandard.ZstdCompressor(level=1)

    def run(self, groups: Sequence[int], replies: Connection, keep: Callable[[int, Own], bool]) -> None:
        """Send those of all these groups; `keep` hears of each before, and says whether it is still wanted."""
        local = threading.local()
        channels: list[Channel] = []

        def own(group: int) -> Own:
            if (noted := self._journal.leaves(group)) is not None:
                return Own(noted[: blocks_of(group, self._length)], noted=True)
            if not hasattr(local, "channel"):
                local.channel = self._image.channel()
                channels.append(local.channel)
            return Own(leaves_of(local.channel, group, self._length))

        with ThreadPoolExecutor(2) as pool:
            ahead: list[Future[Own]] = []
            for number, group in enumerate(groups):
                while len(ahead) + number < len(groups) and len(ahead) < 4:
                    ahead.append(pool.submit(own, groups[number + len(ahead)]))
                found = ahead.pop(0).result()
                if keep(group, found):
                    self._tell(replies, group, found.leaves)
        for channel in channels:
            channel.close()

    def _tell(self, replies: Connection, group: int, leaves: Sequence[bytes]) -> None:
        kind = Kind.HELD if self._held(group) else Kind.LEAVES
        body = self._packer.compress(b"".join(one[: DIGITS[kind]] for one in leaves))
        replies.send(pack(kind, group, len(leaves), len(body)), body)


def leaves_of(channel: Channel, group: int, length: int) -> list[bytes]:
    """The digests of the blocks of one group, as it lies on storage."""
    start, count = group * GROUP_BLOCKS, blocks_of(group, length)
    found = [ZERO_LEAF] * count
    begin, end = start * BLOCK, min((start + count) * BLOCK, length)
    for piece in _within(channel.extents(begin, end), begin, end):
        data = channel.read(piece.start, piece.count)
        view = memoryview(data)
        for at in range(0, piece.count, BLOCK):
            if not (piece.count - at >= BLOCK and data.startswith(ZERO_BLOCK, at)):
                found[(piece.start + at) // BLOCK - start] = digest.leaf(view[at : at + BLOCK])
    return found


def _within(extents: Iterable[Any], begin: int, end: int) -> Iterable[Piece]:
    """The parts with data, widened to whole blocks, in bytes, at most a piece each."""
    covered = begin
    for extent in extents:
        if extent.zero:
            continue
        start = max(covered, extent.start // BLOCK * BLOCK)
        last = min(end, -(-(extent.start + extent.length) // BLOCK) * BLOCK)
        while start < last:
            here = min(PIECE, last - start)
            yield Piece(start, here, False)
            start += here
        covered = max(covered, last)
