"""How a disk is cut: blocks of 64 KiB (what is compared and digested), groups of 256 blocks (what is journalled), pieces of up to 16
blocks (what is read and sent at once)."""

import bisect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

BLOCK = 64 * 1024
GROUP_BLOCKS = 256
GROUP = BLOCK * GROUP_BLOCKS
PIECE_BLOCKS = 16
PIECE = BLOCK * PIECE_BLOCKS
ZERO_BLOCK = bytes(BLOCK)


@dataclass(frozen=True)
class Extent:
    """A part of a disk, in bytes, that reads as zeroes or may hold data."""

    start: int
    length: int
    zero: bool


@dataclass(frozen=True)
class Piece:
    """Blocks of one group that shall be read, or that are known to be zero (then they may span many groups)."""

    start: int  # number of the first block
    count: int
    zero: bool
    clean: bool = False  # what the destination is known to have


def blocks_in(length: int) -> int:
    """How many blocks a disk of so many bytes has; the last may be short."""
    return -(-length // BLOCK)


def groups_in(length: int) -> int:
    """How many groups a disk of so many bytes has."""
    return -(-length // GROUP)


def blocks_of(group: int, length: int) -> int:
    """How many blocks that group has: the last one of a disk may have fewer."""
    return min(GROUP_BLOCKS, blocks_in(length) - group * GROUP_BLOCKS)


def bytes_of(start: int, count: int, length: int) -> int:
    """How many bytes of the disk those blocks hold."""
    return max(0, min((start + count) * BLOCK, length) - start * BLOCK)


def pieces(extents: Iterable[Extent], length: int, skip: Callable[[int], bool]) -> Iterator[Piece]:
    """The disk in ascending order, without the groups to be skipped. A block is zero when no extent of data touches it.

    The extents come in order and without gaps; what they do not reach is zero.
    """
    for start, count, zero in _runs(extents, length):
        for begin, end in _kept(start, start + count, skip, zero):
            if zero:
                yield Piece(begin, end - begin, True)
                continue
            at = begin
            while at < end:
                here = min(PIECE_BLOCKS - at % PIECE_BLOCKS, end - at)
                yield Piece(at, here, False)
                at += here


def _runs(extents: Iterable[Extent], length: int) -> Iterator[tuple[int, int, bool]]:
    """(first block, count, zero), merged."""
    done = 0  # blocks told of; everything below is decided
    zero_since = 0
    for extent in extents:
        if extent.zero or not extent.length:
            continue
        first = max(extent.start // BLOCK, done)
        last = min(-(-(extent.start + extent.length) // BLOCK), blocks_in(length))
        if last <= first:
            continue
        if first > zero_since:
            yield zero_since, first - zero_since, True
        yield first, last - first, False
        done = zero_since = last
    if blocks_in(length) > zero_since:
        yield zero_since, blocks_in(length) - zero_since, True


def _kept(begin: int, end: int, skip: Callable[[int], bool], zero: bool) -> Iterator[tuple[int, int]]:
    """The parts of a run of blocks that lie in groups not to be skipped; zeroes are merged over groups."""
    since = begin
    while begin < end:
        edge = min(end, (begin // GROUP_BLOCKS + 1) * GROUP_BLOCKS)
        if skip(begin // GROUP_BLOCKS):
            if since < begin:
                yield since, begin
            since = edge
        elif not zero:
            yield since, edge
            since = edge
        begin = edge
    if since < end:
        yield since, end


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Ascending numbers as [first, count] ranges."""
    found: list[list[int]] = []
    for number in numbers:
        if found and sum(found[-1]) == number:
            found[-1][1] += 1
        else:
            found.append([number, 1])
    return found


def within(found: list[list[int]]) -> Callable[[int], bool]:
    """Whether a number lies in one of these [first, count] ranges."""
    starts = [first for first, _ in found]

    def within(number: int) -> bool:
        at = bisect.bisect_right(starts, number) - 1
        return at >= 0 and number < found[at][0] + found[at][1]

    return within
