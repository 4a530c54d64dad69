"""Which blocks of a source were written since a moment, as a bitmap of QEMU's says, and what need not be read for that."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ferryman_copy.blocks import BLOCK, GROUP_BLOCKS, Piece, blocks_in, ranges


class Dirty:
    """The blocks that were written: a byte for each, 16 MiB for a disk of 1 TiB."""

    def __init__(self, parts: Iterable[tuple[int, int]], length: int) -> None:
        """`parts`: (start, length) of what was written, in bytes."""
        self._marks = bytearray(blocks_in(length))
        for start, count in parts:
            first, last = start // BLOCK, min(-(-(start + count) // BLOCK), len(self._marks))
            self._marks[first:last] = b"\1" * (last - first)

    @property
    def groups(self) -> list[list[int]]:
        """Ranges [first, count] of groups with a dirty block."""
        return ranges(self._groups())

    def _groups(self) -> Iterator[int]:
        at = self._marks.find(1)
        while at >= 0:
            yield at // GROUP_BLOCKS
            at = self._marks.find(1, (at // GROUP_BLOCKS + 1) * GROUP_BLOCKS)

    def split(self, plan: Iterable[Piece], held: Callable[[int], bool]) -> Iterator[Piece]:
        """The pieces of a plan, with what is not dirty of the groups that are held as pieces of their own, which are clean."""
        for piece in plan:
            since, end = piece.start, piece.start + piece.count
            for first, last in self._clean(since, end, held):
                if since < first:
                    yield replace(piece, start=since, count=first - since)
                yield Piece(first, last - first, zero=False, clean=True)
                since = last
            if since < end:
                yield replace(piece, start=since, count=end - since)

    def _clean(self, start: int, end: int, held: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
        """(first block, end) of what is clean in held groups; each within one group."""
        while start < end:
            edge = min(end, (start // GROUP_BLOCKS + 1) * GROUP_BLOCKS)
            if held(start // GROUP_BLOCKS):
                first = self._next(0, start, edge)
                while first < edge:
                    last = self._next(1, first, edge)
                    yield first, last
                    first = self._next(0, last, edge)
            start = edge

    def _next(self, mark: int, start: int, end: int) -> int:
        found = self._marks.find(mark, start, end)
        return end if found < 0 else found
