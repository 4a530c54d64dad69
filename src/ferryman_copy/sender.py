"""The sending end: reads the source, leaves zeroes away, digests, leaves away what the receiver has, packs, sends.

`Sender.run` is the whole of it: workers take pieces of the disk in order, each on a connection of its own."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ferryman_copy import digest, frames
from ferryman_copy.blocks import BLOCK, GROUP_BLOCKS, ZERO_BLOCK, Piece, blocks_of, bytes_of, groups_in, pieces
from ferryman_copy.compression import Compression
from ferryman_copy.digest import ZERO_GROUP, ZERO_LEAF
from ferryman_copy.frames import DIGITS, TOWARDS_SENDER, Coding, Kind, damaged, expand, pack
from ferryman_copy.image import Channel
from ferryman_copy.pace import Pace
from ferryman_copy.parallel import Crew
from ferryman_copy.source import dirty_blocks, exact_length, fingerprint, in_sectors, open_source
from ferryman_copy.trouble import Trouble
from ferryman_copy.wire import Connection

DIGESTS_AHEAD = 1024  # groups of which the receiver's digests may lie here unused


@dataclass
class _Open:
    """A group under way."""

    leaves: list[bytes]
    missing: int


@dataclass
class Counts:
    """What was done so far."""

    read: int = 0  # bytes of data read from the source
    sent: int = 0  # bytes of data that crossed the wire, before packing
    covered: int = 0  # bytes of the disk dealt with
    groups: dict[int, bytes] = field(default_factory=dict)


class Sender:
    """One source, open for one copy."""

    def __init__(self, location: str, kind: str, *, as_file: bool = False, compress: str = "auto", bandwidth: int = 0,
                 bitmap: str = "", moment: str = "") -> None:  # fmt: skip
        """`as_file`: its bytes, whatever its format; `bitmap`: names what was written since the last complete pass; `moment`: when this view of the source was frozen."""
        kind = "raw" if as_file else kind
        self._sign, self._moment = fingerprint(location, kind), moment
        self.image = open_source(location, kind, bitmap=bitmap, moment=moment)
        self.length = in_sectors(self.image) if moment and not as_file else exact_length(self.image)
        try:
            self._dirty = dirty_blocks(self.image, bitmap, self.length)
        except Trouble:
            self.image.close()
            raise
        self.counts = Counts()
        self.crew = Crew()
        self.pace = Pace(bandwidth)
        self._compress = compress
        self._compression = Compression("off", 1, lambda: (0.0, 0.0))
        self._lock = threading.Lock()
        self._open: dict[int, _Open] = {}
        self._arrived = self.crew.wakes(threading.Condition())
        self._theirs: dict[int, list[bytes]] = {}
        self._passed = bytearray(groups_in(self.length))  # 1: dealt with, no digests are needed any more
        self._plan: Iterator[Piece] = iter(())
        self._done: Callable[[int], bool] = lambda group: False
        self._compare: Callable[[int], bool] = lambda group: False
        self._held: Callable[[int], bool] = lambda group: False
        self._connections: list[Connection] = []

    @property
    def plain(self) -> dict[str, Any]:
        """What the destination must know of the source."""
        sign = f"{self._sign} at {self._moment}" if self._moment else self._sign
        return {"length": self.length, "fingerprint": sign, "dirty": self._dirty.groups if self._dirty else None}

    @property
    def wire(self) -> int:
        """Bytes that crossed the data connections."""
        return sum(connection.passed for connection in self._connections)

    def run(self, connections: Sequence[Connection], replies: Connection | None, done: Callable[[int], bool],
            compare: Callable[[int], bool], held: Callable[[int], bool] = lambda group: False) -> dict[str, Any]:  # fmt: skip
        """Send everything that is not done, of groups that are held only what is dirty. Returns what was sent, with the digest of the
        source. Raises Trouble."""
        self._connections = [*connections, *([replies] if replies else [])]
        self._done, self._compare, self._held = done, compare, held
        self.crew.closes(*self._connections)
        channels = [self.image.channel() for _ in connections]
        self._compression = Compression(self._compress, len(connections), self._waits)
        self._plan = pieces(self.image.first.extents(0, self.length), self.length, done)
        if self._dirty:
            self._plan = self._dirty.split(self._plan, held)
        for group in range(groups_in(self.length)):
            if done(group):
                self.counts.covered += bytes_of(group * GROUP_BLOCKS, GROUP_BLOCKS, self.length)
        if replies:
            self.crew.start(self._listen, replies)
        for connection, channel in zip(connections, channels, strict=True):
            self.crew.start(self._work, connection, channel)
        self.crew.join()
        if self._sign and fingerprint(self.image.location, self.image.kind) != self._sign:
            raise Trouble("changed", f"image {self.image.location}", "somebody wrote to it while it was copied",
                          "stop what writes to it, then ask for the copy again")  # fmt: skip
        return {
            "digest": digest.root(self.length, self.counts.groups),
            "read": self.counts.read, "sent": self.counts.sent, "wire": self.wire, "watched": bool(self._sign or self._moment),
        }  # fmt: skip

    def close(self) -> None:
        """End it early."""
        self.crew.fail(Trouble("cut", "copy", "it was ended"))

    def _next(self) -> Piece | None:
        with self._lock:
            return next(self._plan, None)

    def _waits(self) -> tuple[float, float]:
        found = [connection.waits for connection in self._connections]
        return sum(busy for busy, _ in found), sum(no_room for _, no_room in found)

    def _work(self, connection: Connection, channel: Channel) -> None:
        while (piece := self._next()) is not None:
            self.crew.check()
            if piece.zero:
                connection.send(pack(Kind.ZERO, piece.start, piece.count))
                self._tell(connection, self._note_zero(piece))
            elif piece.clean:
                self._leave(connection, piece)
            else:
                self._send(connection, channel, piece)
        connection.send(pack(Kind.END), last=True)

    def _leave(self, connection: Connection, piece: Piece) -> None:
        """What is clean is not read: it is what the receiver says."""
        group, first = divmod(piece.start, GROUP_BLOCKS)
        leaves = self._their_leaves(group)[first : first + piece.count]
        connection.send(pack(Kind.SAME, piece.start, piece.count))
        self._tell(connection, self._note(piece.start, leaves))

    def _send(self, connection: Connection, channel: Channel, piece: Piece) -> None:
        size = bytes_of(piece.start, piece.count, self.length)
        data = channel.read(piece.start * BLOCK, size)
        view = memoryview(data)
        leaves, what = [], []
        for at in range(0, size, BLOCK):
            if size - at >= BLOCK and data.startswith(ZERO_BLOCK, at):
                leaves.append(ZERO_LEAF)
                what.append(Kind.ZERO)
            else:
                found = digest.leaf(view[at : at + BLOCK])
                leaves.append(found)
                what.append(Kind.DATA if found != ZERO_LEAF else Kind.ZERO)
        group = piece.start // GROUP_BLOCKS
        if self._compare(group):
            theirs = self._their_leaves(group)
            first = piece.start % GROUP_BLOCKS
            for number, found in enumerate(leaves):
                if found.startswith(theirs[first + number]):
                    what[number] = Kind.SAME
        for kind, begin, end in _runs(what):
            if kind is not Kind.DATA:
                connection.send(pack(kind, piece.start + begin, end - begin))
                continue
            body = view[begin * BLOCK : min(end * BLOCK, size)]
            packed = self._compression.pack(body)
            coding = Coding.PLAIN if packed is None else Coding.ZSTD
            payload = body if packed is None else packed
            head = pack(kind, piece.start + begin, end - begin, len(payload), coding)
            began = time.monotonic()
            self.pace.wait(len(payload), self.crew.stopped)  # a cap is a narrow link
            connection.send(head + b"".join(leaves[begin:end]), payload)
            self._compression.note(len(body), time.monotonic() - began)
            with self._lock:
                self.counts.sent += len(body)
        with self._lock:
            self.counts.read += size
        self._tell(connection, self._note(piece.start, leaves))

    def _tell(self, connection: Connection, complete: list[tuple[int, bytes]]) -> None:
        for group, found in complete:
            connection.send(pack(Kind.GROUP, group), found)

    def _note(self, start: int, leaves: Sequence[bytes]) -> list[tuple[int, bytes]]:
        """Put the digests of blocks of one group in their place; returns the group with its digest when it is complete."""
        number, first = divmod(start, GROUP_BLOCKS)
        with self._lock:
            self.counts.covered += bytes_of(start, len(leaves), self.length)
            if number not in self._open:
                whole = blocks_of(number, self.length)
                self._open[number] = _Open([ZERO_LEAF] * whole, whole)
            under_way = self._open[number]
            under_way.leaves[first : first + len(leaves)] = leaves
            under_way.missing -= len(leaves)
            if under_way.missing:
                return []
            del self._open[number]
        self._forget(number)
        found = digest.group_digest(under_way.leaves)
        if found != ZERO_GROUP:
            with self._lock:
                self.counts.groups[number] = found
        return [(number, found)]

    def _note_zero(self, piece: Piece) -> list[tuple[int, bytes]]:
        """The same for zeroes that may span groups; groups that are zero as a whole are not told of."""
        complete: list[tuple[int, bytes]] = []
        start, end = piece.start, piece.start + piece.count
        while start < end:
            group, first = divmod(start, GROUP_BLOCKS)
            here = min(end - start, GROUP_BLOCKS - first)
            if here == blocks_of(group, self.length):
                with self._lock:
                    self.counts.covered += bytes_of(start, here, self.length)
                self._forget(group)
            else:
                complete += self._note(start, [ZERO_LEAF] * here)
            start += here
        return complete

    def _listen(self, replies: Connection) -> None:
        """What the receiver says it has."""
        while True:
            frame, digests, body = frames.read(replies.take, self.length, TOWARDS_SENDER)
            if frame.kind is Kind.END:
                return
            if frame.kind is Kind.DONE:
                if not self._done(frame.start):
                    raise damaged(f"group {frame.start} is told to be done, and was not before")
                self.counts.groups[frame.start] = digests[0]
                continue
            if (frame.kind is Kind.HELD) is not self._held(frame.start):
                raise damaged(f"digests of group {frame.start} of another length than was said")
            if self._passed[frame.start]:
                continue
            digits = DIGITS[frame.kind]
            told = expand(body, digits * frame.count)
            with self._arrived:
                while len(self._theirs) >= DIGESTS_AHEAD and not self.crew.stopped.is_set():
                    self._arrived.wait(1.0)
                if self._passed[frame.start]:
                    continue
                self._theirs[frame.start] = [told[at : at + digits] for at in range(0, len(told), digits)]
                self._arrived.notify_all()

    def _their_leaves(self, group: int) -> list[bytes]:
        with self._arrived:
            while group not in self._theirs:
                self.crew.check()
                self._arrived.wait(1.0)
            return self._theirs[group]

    def _forget(self, group: int) -> None:
        if self._compare(group):
            with self._arrived:
                self._passed[group] = 1
                self._theirs.pop(group, None)
                self._arrived.notify_all()


def _runs(what: Sequence[Kind]) -> Iterator[tuple[Kind, int, int]]:
    """(kind, begin, end) of neighbours of one kind."""
    begin = 0
    for at in range(1, len(what) + 1):
        if at == len(what) or what[at] is not what[begin]:
            yield what[begin], begin, at
            begin = at
