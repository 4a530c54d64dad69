"""What travels between sender and receiver, and the decoder that believes nothing: every length is bounded before it is read.

A frame is a head of 32 bytes with a checksum of its own, then a body whose length follows from the head:

    DATA    digests of `count` blocks from block `start`, then `length` bytes: those blocks, as `coding` says
    ZERO    no body: `count` blocks from block `start` are zero
    SAME    no body: `count` blocks from block `start` are what the receiver said it has
    GROUP   the digest of group `start`
    LEAVES  towards the sender: beginnings of the digests of the `count` blocks of group `start`, compressed
    HELD    towards the sender: the digests of the `count` blocks of group `start`, compressed: it does not read them all
    DONE    towards the sender: the digest of group `start`, which is at the destination and needs nothing
    END     no body: nothing follows on this connection
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import zstandard

from ferryman_copy.blocks import GROUP_BLOCKS, PIECE_BLOCKS, blocks_in, blocks_of, bytes_of, groups_in
from ferryman_copy.digest import SIZE
from ferryman_copy.trouble import Trouble

HEAD = struct.Struct("!4sBBxxQQII")
MAGIC = b"fcp1"
SHORT = 16  # bytes of a digest that are enough to compare blocks: the digest of the whole is compared at the end
LARGEST = 1 << 21


class Kind(IntEnum):
    """What a frame is."""

    DATA = 1
    ZERO = 2
    SAME = 3
    GROUP = 4
    LEAVES = 5
    DONE = 6
    END = 7
    HELD = 8


class Coding(IntEnum):
    """How a body is packed."""

    PLAIN = 0
    ZSTD = 1


TOWARDS_RECEIVER = frozenset((Kind.DATA, Kind.ZERO, Kind.SAME, Kind.GROUP, Kind.END))
DIGITS = {Kind.LEAVES: SHORT, Kind.HELD: SIZE}  # bytes of each digest
TOWARDS_SENDER = frozenset((*DIGITS, Kind.DONE, Kind.END))


@dataclass(frozen=True)
class Frame:
    """A frame's head, checked against the disk's length."""

    kind: Kind
    coding: Coding
    start: int
    count: int
    length: int  # bytes of the body that follow the digests

    @property
    def digests(self) -> int:
        """How many whole digests the body begins with."""
        return self.count if self.kind is Kind.DATA else int(self.kind in (Kind.GROUP, Kind.DONE))


def pack(kind: Kind, start: int = 0, count: int = 0, length: int = 0, coding: Coding = Coding.PLAIN) -> bytes:
    """The head of a frame."""
    head = HEAD.pack(MAGIC, kind, coding, start, count, length, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "big")


def unpack(head: bytes | memoryview, disk: int, allowed: frozenset[Kind]) -> Frame:
    """The head of a frame on a disk of so many bytes. Raises Trouble "damaged" for whatever no sender would send."""
    if len(head) != HEAD.size:
        raise damaged("it ends within a head")
    magic, kind, coding, start, count, length, checksum = HEAD.unpack(head)
    if magic != MAGIC or zlib.crc32(head[:-4]) != checksum:
        raise damaged("a head does not bear its checksum")
    try:
        frame = Frame(Kind(kind), Coding(coding), start, count, length)
    except ValueError:
        raise damaged(f"a frame of kind {kind}, coding {coding}") from None
    if frame.kind not in allowed:
        raise damaged(f"a frame of kind {frame.kind.name} in the wrong direction")
    _check(frame, disk)
    return frame


def _check(frame: Frame, disk: int) -> None:
    kind, start, count, length = frame.kind, frame.start, frame.count, frame.length
    if kind is Kind.END:
        right = start == count == length == 0
    elif kind in (Kind.GROUP, Kind.DONE):
        right = start < groups_in(disk) and count == length == 0
    elif kind in DIGITS:
        most = DIGITS[kind] * GROUP_BLOCKS + 256
        right = start < groups_in(disk) and count == blocks_of(start, disk) and 0 < length <= most
    else:
        right = count > 0 and start + count <= blocks_in(disk)
        if kind is Kind.SAME or kind is Kind.DATA:
            right = right and start // GROUP_BLOCKS == (start + count - 1) // GROUP_BLOCKS
        if kind is Kind.DATA:
            whole = bytes_of(start, count, disk)
            right = right and count <= PIECE_BLOCKS
            right = right and (length == whole if frame.coding is Coding.PLAIN else 0 < length <= whole)
        else:
            right = right and length == 0
    if not right:
        raise damaged(f"{kind.name} of {count} from {start} with {length} bytes does not fit a disk of {disk} bytes")


def expand(
    packed: bytes | bytearray | memoryview, size: int, unpacker: zstandard.ZstdDecompressor | None = None
) -> bytes:
    """What a zstd frame holds, which must be exactly so many bytes. Raises Trouble "damaged"."""
    try:
        if zstandard.get_frame_parameters(packed).content_size != size:
            raise damaged("packed data of another size than its head says")
        found: bytes = (unpacker or zstandard.ZstdDecompressor()).decompress(packed, max_output_size=size)
    except zstandard.ZstdError as error:
        raise damaged(f"packed data that cannot be unpacked: {error}") from error
    if len(found) != size:
        raise damaged("packed data of another size than it says")
    return found


def read(take: Callable[[int], bytes], disk: int, allowed: frozenset[Kind]) -> tuple[Frame, list[bytes], bytes]:
    """One whole frame: (head, digests, the rest of the body as it lies). `take` gives exactly so many bytes or raises Trouble."""
    frame = unpack(take(HEAD.size), disk, allowed)
    digests = take(SIZE * frame.digests) if frame.digests else b""
    body = take(frame.length) if frame.length else b""
    return frame, [digests[at : at + SIZE] for at in range(0, len(digests), SIZE)], body


def damaged(why: str) -> Trouble:
    """The stream is not what a sender sends."""
    return Trouble("damaged", "copy stream", why, "ask for the copy again: it goes on where it was")
