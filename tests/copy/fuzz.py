"""A seeded mutator of whole streams: `python -m tests.copy.fuzz [COUNT [SEED]]`. Each is given to a real receiver over an image in memory; it ends
in a Trouble, in a digest that is not the source's, or the image is exactly what the source sent. Heads are bent with their checksums made right again, too.
As many streams of replies are given to a real sender: it ends in a Trouble, or has of each group as many digests as it has blocks, each of its length."""

import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator

import tests.copy.conftest  # noqa: F401  (where libnbd and zstandard are)
from ferryman_copy import digest, frames
from ferryman_copy.blocks import BLOCK, GROUP_BLOCKS, Extent, blocks_of
from ferryman_copy.comparison import Own
from ferryman_copy.frames import DIGITS, HEAD, Coding, Kind, pack
from ferryman_copy.journal import Group
from ferryman_copy.receiver import Receiver
from ferryman_copy.sender import Sender
from ferryman_copy.trouble import Trouble

LENGTH = 2 * BLOCK + 1000
REPLIED = (
    3 * GROUP_BLOCKS * BLOCK - 5 * BLOCK
)  # bytes of the disk that replies speak of: its first group is done, of the second all digests are wanted whole


class Memory:
    """An image in memory, as far as a receiver needs one."""

    def __init__(self, length: int) -> None:
        self.data = bytearray(length)
        self.location, self.kind, self.size, self.first = "memory", "raw", length, self

    def channel(self) -> "Memory":
        return self

    def read(self, start: int, count: int) -> bytes:
        return bytes(self.data[start : start + count])

    def write(self, data: bytes | bytearray | memoryview, start: int) -> None:
        assert start >= 0
        assert start + len(data) <= self.size, "outside the disk"
        self.data[start : start + len(data)] = data

    def zero(self, start: int, count: int, *, holes: bool) -> None:
        self.write(bytes(count), start)

    def flush(self) -> None:
        pass

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        yield Extent(start, end - start, False)

    def close(self) -> None:
        pass


class Notes:
    """A journal in memory."""

    def __init__(self) -> None:
        self.done: dict[int, bytes] = {}
        self.known: dict[int, bytes] = {}
        self.facts: dict[str, int] = {}

    def note_groups(self, groups: list[Group]) -> None:
        self.done.update((one.number, one.digest) for one in groups)

    def note(self, **facts: int) -> None:
        self.facts.update(facts)


class Bytes:
    """A connection that holds what will arrive."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self.passed = data, 0, 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise Trouble("cut", "stream", "it ends", "")
        self._at += count
        return self._data[self._at - count : self._at]

    def fill(self, view: memoryview) -> None:
        view[:] = self.take(len(view))

    def close(self) -> None:
        pass


def content(chance: random.Random) -> bytes:
    """A small disk: data, a zero block, data that packs."""
    blocks = [
        chance.choice((bytes(BLOCK), bytes([chance.randrange(256)]) * BLOCK, chance.randbytes(64) * (BLOCK // 64)))
        for _ in range(2)
    ]
    return b"".join(blocks) + chance.randbytes(1000)


def leaves_of(data: bytes) -> list[bytes]:
    """The digests of its blocks."""
    return [digest.leaf(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)]


def stream(data: bytes, there: bytes = b"") -> list[bytes]:
    """The frames that a sender would send to a receiver that has `there`, each as its parts' bytes."""
    import zstandard

    leaves, theirs = leaves_of(data), leaves_of(there)
    found = []
    for number, leaf in enumerate(leaves):
        block = data[number * BLOCK : (number + 1) * BLOCK]
        if leaf == digest.ZERO_LEAF or theirs[number : number + 1] == [leaf]:
            found.append(pack(Kind.ZERO if leaf == digest.ZERO_LEAF else Kind.SAME, number, 1))
            continue
        packed = zstandard.compress(block, 1)
        coding = Coding.ZSTD if number % 2 and len(packed) < len(block) else Coding.PLAIN
        body = packed if coding is Coding.ZSTD else block
        found.append(pack(Kind.DATA, number, 1, len(body), coding) + leaf + body)
    return [*found, pack(Kind.GROUP, 0) + digest.group_digest(leaves), pack(Kind.END)]


def bent(parts: list[bytes], chance: random.Random) -> bytes:
    """The stream with some harm done to it."""
    parts = list(parts)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        number = chance.randrange(len(parts))
        match chance.randrange(8):
            case 0:
                parts[number] = b""
            case 1:
                parts.insert(chance.randrange(len(parts)), parts[number])
            case 2:
                other = chance.randrange(len(parts))
                parts[number], parts[other] = parts[other], parts[number]
            case 3:
                parts[number] = parts[number][: chance.randrange(len(parts[number]) + 1)]
            case 4 | 5 if len(parts[number]) >= HEAD.size:
                parts[number] = _other_head(parts[number], chance)
            case _ if parts[number]:
                harmed = bytearray(parts[number])
                near = min(len(harmed), chance.choice((HEAD.size, HEAD.size + 40, len(harmed))))
                harmed[chance.randrange(near)] ^= 1 << chance.randrange(8)
                parts[number] = bytes(harmed)
    return b"".join(parts)


def _other_head(part: bytes, chance: random.Random) -> bytes:
    """One field is another, and the checksum is right."""
    _, kind, coding, start, count, length, _ = HEAD.unpack(part[: HEAD.size])
    odd = chance.choice((0, 1, 2, 3, 5, 6, 7, 15, 16, 17, 255, 256, 1 << 16, (1 << 32) - 1, (1 << 63), (1 << 64) - 1))
    match chance.randrange(5):
        case 0:
            kind = odd % 256
        case 1:
            coding = odd % 256
        case 2:
            start = odd
        case 3:
            count = odd
        case _:
            length = odd % (1 << 32)
    return pack(kind, start, count, length, coding) + part[HEAD.size :]


def of(data: bytes) -> str:
    """The digest that the source tells."""
    return digest.root(LENGTH, {0: digest.group_digest(leaves_of(data))})


def receive(data: bytes, wanted: bytes, there: bytes = b"") -> str:
    """What a receiver makes of a stream over what is there: how it ended. Raises AssertionError when it took a wrong disk for a right one."""
    image, notes = Memory(LENGTH), Notes()
    receiver = Receiver(image, notes, LENGTH, compare=lambda group: bool(there), zeroed=not there, holes=True,  # type: ignore[arg-type]
                        suspect=False)  # fmt: skip
    if there:
        image.data[:] = there
        receiver.compared(0, Own(leaves_of(there), noted=True))
    connection = Bytes(data)
    try:
        receiver._work(connection, image)  # type: ignore[arg-type]
    except Trouble as error:
        return error.kind
    if receiver._missing:
        return "incomplete"
    if digest.root(LENGTH, {one.number: one.digest for one in receiver._complete}) != of(wanted):
        return (
            "another disk"  # a sender may say that all is zero: the controller holds its digest against the receiver's
        )
    assert bytes(image.data) == wanted
    return "complete"


def fuzz(count: int, seed: int) -> dict[str, int]:
    """So many streams; how many ended how."""
    chance = random.Random(seed)
    ends: dict[str, int] = {}
    data, there, parts = b"", b"", list[bytes]()
    for number in range(count):
        if number % 500 == 0:
            data = content(chance)
            there = chance.choice((b"", data[:BLOCK] + content(chance)[BLOCK:]))  # nothing, or an older copy
            parts = stream(data, there)
        end = receive(bent(parts, chance), data, there)
        ends[end] = ends.get(end, 0) + 1
    return ends


def replies(chance: random.Random) -> list[bytes]:
    """The frames that a receiver would reply with."""
    import zstandard

    found = [pack(Kind.DONE, 0) + chance.randbytes(32)]
    for group, kind in ((1, Kind.HELD), (2, Kind.LEAVES)):
        count = blocks_of(group, REPLIED)
        body = zstandard.compress(chance.randbytes(DIGITS[kind] * count), 1)
        found.append(pack(kind, group, count, len(body)) + body)
    return [*found, pack(Kind.END)]


def fuzz_replies(count: int, seed: int) -> dict[str, int]:
    """So many streams of replies; how many ended how."""
    chance = random.Random(seed)
    ends: dict[str, int] = {}
    with tempfile.NamedTemporaryFile() as file, contextlib.ExitStack() as stack:
        file.truncate(REPLIED)
        sender = Sender(file.name, "raw")
        stack.callback(sender.image.close)
        sender._done, sender._held, sender._compare = (
            (lambda group: group == 0),
            (lambda group: group == 1),
            (lambda group: group > 0),
        )
        for _ in range(count):
            sender._theirs.clear()
            try:
                sender._listen(Bytes(bent(replies(chance), chance)))  # type: ignore[arg-type]
                end = "complete" if len(sender._theirs) == 2 else "incomplete"
            except Trouble as error:
                end = error.kind
            for group, theirs in sender._theirs.items():
                assert len(theirs) == blocks_of(group, REPLIED)
                assert {len(one) for one in theirs} == {DIGITS[Kind.HELD if group == 1 else Kind.LEAVES]}
            ends[end] = ends.get(end, 0) + 1
    return ends


def main() -> None:
    """From the command line."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began = time.monotonic()
    print(fuzz(count, seed), fuzz_replies(count, seed), f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()


__all__ = ["frames", "fuzz", "fuzz_replies", "receive", "stream"]
