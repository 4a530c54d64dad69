"""The receiving end: verifies every block that arrives, writes it, and journals what is on storage.

`Receiver.run` is the whole of it. Who may write what where was settled before, by destination.py."""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import zstandard

from ferryman_copy import digest
from ferryman_copy.blocks import BLOCK, GROUP_BLOCKS, PIECE, blocks_of, bytes_of, groups_in
from ferryman_copy.comparison import Comparison, Own
from ferryman_copy.digest import SIZE, ZERO_GROUP, ZERO_LEAF
from ferryman_copy.frames import HEAD, TOWARDS_RECEIVER, Coding, Frame, Kind, damaged, expand, pack, unpack
from ferryman_copy.image import Channel, Image
from ferryman_copy.journal import Group, Journal
from ferryman_copy.parallel import Crew
from ferryman_copy.passes import HORIZON
from ferryman_copy.trouble import Trouble
from ferryman_copy.wire import Connection

UNFLUSHED = 24 << 20  # bytes that may be written and not yet be safe: what a crash can cost
FLUSH_EVERY = 8 << 20
FLUSH_WITHIN = 1.0  # seconds
ZEROED_BLOCKS = 4 * GROUP_BLOCKS  # zeroed at once: what was zeroed is noted as it goes, and shows that something moves
COMPARED_AHEAD = 512  # groups whose digests were sent and that are not yet complete


@dataclass
class _Open:
    """A group under way."""

    leaves: list[bytes | None]
    missing: int
    expected: bytes = b""
    written: int = 0
    own: Own = field(default_factory=lambda: Own(()))  # what was there before, where that was compared


class Receiver:
    """One destination, open for one copy."""

    def __init__(self, image: Image, journal: Journal, length: int, *, compare: Callable[[int], bool], zeroed: bool,
                 holes: bool, suspect: bool, held: Callable[[int], bool] = lambda group: False) -> None:  # fmt: skip
        """`compare`: groups that may hold what is wanted; `zeroed`: what was not written reads as zeroes; `holes`: zeroes need
        no storage; `suspect`: blocks found as wanted may be an earlier attempt's, not yet on storage when it ended; `held`: groups of
        which the source reads only what changed."""
        self.image, self.journal, self.length = image, journal, length
        self.crew = Crew()
        self.received = 0  # bytes of data that arrived
        self.written = 0
        self._compare, self._zeroed, self._holes, self._suspect, self._held = compare, zeroed, holes, suspect, held
        self._known = sorted(journal.known)
        self._horizon = -1  # up to that group the journal does not vouch for what is known, should this end early
        self._announcing = threading.Lock()
        self._state = bytearray(groups_in(length))  # 1: complete
        for group in journal.done:
            self._state[group] = 1
        self._done_before = sorted(one for one in journal.done.items() if one[1] != ZERO_GROUP)
        self._missing = len(self._state) - sum(self._state)
        self.covered = sum(
            bytes_of(group * GROUP_BLOCKS, GROUP_BLOCKS, length) for group in journal.done
        )  # bytes of the disk
        self._open: dict[int, _Open] = {}
        self._lock = threading.Lock()
        self._flushing = self.crew.wakes(threading.Condition())
        self._complete: list[Group] = []
        self._unflushed = 0
        self._over = False
        self._ahead = self.crew.wakes(threading.Condition())
        self._compared: set[int] = set()

    def run(self, connections: Sequence[Connection], replies: Connection | None) -> None:
        """Take everything that arrives until each connection ended. Raises Trouble; returns when all is on storage."""
        self.crew.closes(*connections, *([replies] if replies else []))
        flusher = Crew()
        flusher.start(self._guarded_flushing)
        try:
            if replies:
                self.crew.start(self._reply, replies)
            for connection in connections:
                self.crew.start(self._work, connection, self.image.channel())
            self.crew.join()
            if self._missing:
                raise damaged(f"it ended, and {self._missing} groups are missing")
        finally:
            with self._flushing:
                self._over = True
                self._flushing.notify_all()
            flusher.join()
        self.crew.check()
        if replies:  # not earlier: by this connection the sender's kernel asks whether this host is still there
            replies.send(pack(Kind.END), last=True)

    def close(self) -> None:
        """End it early; what is complete is still flushed and noted."""
        self.crew.fail(Trouble("cut", "copy", "it was ended"))

    # What arrives

    def _work(self, connection: Connection, channel: Channel) -> None:
        buffer = bytearray(PIECE)
        head = memoryview(bytearray(HEAD.size))
        unpacker = zstandard.ZstdDecompressor()
        while True:
            connection.fill(head)
            frame = unpack(head, self.length, TOWARDS_RECEIVER)
            if frame.kind is Kind.END:
                return
            if frame.kind is Kind.DATA:
                self._data(frame, connection, channel, buffer, unpacker)
            elif frame.kind is Kind.ZERO:
                self._zero(frame, channel)
            elif frame.kind is Kind.SAME:
                self._same(frame)
            else:
                self._expect(frame.start, connection.take(SIZE))

    def _data(self, frame: Frame, connection: Connection, channel: Channel, buffer: bytearray,
              unpacker: zstandard.ZstdDecompressor) -> None:  # fmt: skip
        digests = connection.take(SIZE * frame.count)
        view = memoryview(buffer)[: frame.length]
        connection.fill(view)
        size = bytes_of(frame.start, frame.count, self.length)
        if frame.coding is Coding.ZSTD:
            view = memoryview(expand(view, size, unpacker))
        leaves = [digests[at : at + SIZE] for at in range(0, len(digests), SIZE)]
        for number, wanted in enumerate(leaves):
            if digest.leaf(view[number * BLOCK : (number + 1) * BLOCK]) != wanted:
                raise damaged(f"block {frame.start + number} is not what its digest says")
        self._await_room(size)
        self._announce(frame.start)
        channel.write(view, frame.start * BLOCK)
        with self._lock:
            self.received += size
            self.written += size
        self._note(frame.start, leaves, written=True)

    def _zero(self, frame: Frame, channel: Channel) -> None:
        start, end = frame.start, frame.start + frame.count
        while start < end:
            here = min(end, (start // ZEROED_BLOCKS + 1) * ZEROED_BLOCKS)
            for first, last, zero in self._parts(start, here):
                if not zero:
                    self.crew.check()
                    self._write_zeroes(channel, first, last)
                self._note_zeroes(first, last, written=not zero)
            start = here

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """(first block, end, whether it is known to be zero already), neighbours of one kind together."""
        if self._zeroed:
            yield start, end, True
            return
        since, before = start, False
        while start < end:
            group, first = divmod(start, GROUP_BLOCKS)
            here = min(end - start, GROUP_BLOCKS - first)
            leaves = self.journal.leaves(group) if group in self.journal.known else None
            zero = leaves is not None and leaves[first : first + here].count(ZERO_LEAF) == here
            if zero is not before and since < start:
                yield since, start, before
                since = start
            before = zero
            start += here
        yield since, end, before

    def _note_zeroes(self, start: int, end: int, *, written: bool) -> None:
        while start < end:
            group, first = divmod(start, GROUP_BLOCKS)
            here = min(end - start, GROUP_BLOCKS - first)
            if here == blocks_of(group, self.length):
                self._zero_group(group)
            else:
                self._note(start, [ZERO_LEAF] * here, written=written)
            start += here

    def _write_zeroes(self, channel: Channel, start: int, end: int) -> None:
        """Zero what is not zero already."""
        last = min(end * BLOCK, self.length)
        for extent in list(channel.extents(start * BLOCK, last)):
            if not extent.zero:
                self._announce((extent.start + extent.length - 1) // BLOCK)
                channel.zero(extent.start, extent.length, holes=self._holes)

    def _announce(self, block: int) -> None:
        """Before anything of a known group is written over the journal says that known groups up to there are in doubt."""
        group = block // GROUP_BLOCKS
        with self._announcing:
            if group > self._horizon and self._known and group >= self._known[0]:
                at = min(bisect_left(self._known, group) + HORIZON, len(self._known)) - 1
                self._horizon = max(group, self._known[at])
                self.journal.note(horizon=self._horizon)

    def _zero_group(self, group: int) -> None:
        with self._lock:
            if self._state[group] or (
                group in self._open and self._open[group].missing < len(self._open[group].leaves)
            ):
                raise damaged(f"group {group} came twice")
            self._open.pop(group, None)
            self._state[group] = 1
            self._missing -= 1
            self.covered += bytes_of(group * GROUP_BLOCKS, GROUP_BLOCKS, self.length)
        if not self._zeroed:
            with self._flushing:
                self._complete.append(Group(group, ZERO_GROUP, 0, ()))
        self._let_on(group)

    def _same(self, frame: Frame) -> None:
        group, first = divmod(frame.start, GROUP_BLOCKS)
        with self._lock:
            own = self._open[group].own if group in self._open else Own(())
        leaves = own.leaves[first : first + frame.count]
        if len(leaves) != frame.count:
            raise damaged(f"group {group} was not compared")
        suspect = self._suspect and not own.noted and any(one != ZERO_LEAF for one in leaves)
        self._note(frame.start, leaves, written=suspect)

    def _expect(self, group: int, wanted: bytes) -> None:
        with self._lock:
            under_way = self._opened(group)
            if under_way.expected:
                raise damaged(f"the digest of group {group} came twice")
            under_way.expected = wanted
        self._finish(group, under_way)

    def _opened(self, group: int) -> _Open:
        if self._state[group]:
            raise damaged(f"group {group} came twice")
        if group not in self._open:
            whole = blocks_of(group, self.length)
            self._open[group] = _Open([None] * whole, whole)
        return self._open[group]

    def _note(self, start: int, leaves: Sequence[bytes], *, written: bool) -> None:
        group, first = divmod(start, GROUP_BLOCKS)
        with self._lock:
            under_way = self._opened(group)
            if any(one is not None for one in under_way.leaves[first : first + len(leaves)]):
                raise damaged(f"blocks of group {group} came twice")
            under_way.leaves[first : first + len(leaves)] = leaves
            under_way.missing -= len(leaves)
            self.covered += bytes_of(start, len(leaves), self.length)
            if written:
                under_way.written |= ((1 << len(leaves)) - 1) << first
        self._finish(group, under_way)

    def _finish(self, group: int, under_way: _Open) -> None:
        """When all of a group is there: hold it against its digest and hand it to the journal."""
        with self._lock:
            if under_way.missing or not under_way.expected or self._state[group]:
                return
            self._state[group] = 1
            self._missing -= 1
            del self._open[group]
        leaves = tuple(one or ZERO_LEAF for one in under_way.leaves)
        if digest.group_digest(leaves) != under_way.expected:
            raise damaged(f"group {group} is not what its digest says")
        with self._flushing:
            self._complete.append(Group(group, under_way.expected, under_way.written, leaves))
            self._flushing.notify_all()
        self._let_on(group)

    # What is on storage

    def _await_room(self, size: int) -> None:
        with self._flushing:
            while self._unflushed > UNFLUSHED:
                self.crew.check()
                self._flushing.wait(1.0)
            self._unflushed += size
            if self._unflushed >= FLUSH_EVERY:
                self._flushing.notify_all()

    def _guarded_flushing(self) -> None:
        try:
            self._flush_now_and_then()
        except Exception as error:
            self.crew.fail(
                error if isinstance(error, Trouble) else Trouble("internal", "flushing", repr(error), "report it")
            )

    def _flush_now_and_then(self) -> None:
        last = time.monotonic()
        while True:
            with self._flushing:
                while not self._over and self._unflushed < FLUSH_EVERY:
                    if (self._complete or self._unflushed) and time.monotonic() - last > FLUSH_WITHIN:
                        break
                    self._flushing.wait(FLUSH_WITHIN / 4)
                over, complete, safe = self._over, self._complete, self._unflushed
                self._complete = []
            if over or safe or complete:
                self.image.first.flush()  # the last time in any case: zeroes are not counted
            if safe or complete:
                self.journal.note_groups(complete)
                self.journal.note(received=self.journal.facts.get("received", 0) + safe)
            last = time.monotonic()
            with self._flushing:
                self._unflushed -= safe
                self._flushing.notify_all()
            if over:
                return

    # What is there already

    def _reply(self, replies: Connection) -> None:
        """Tell the sender which groups are done, and what is in those that are to be compared."""
        for group, found in self._done_before:
            replies.send(pack(Kind.DONE, group), found)
        wanted = [group for group in range(groups_in(self.length)) if not self._state[group] and self._compare(group)]
        Comparison(self.image, self.journal, self.length, self._held).run(wanted, replies, self.compared)

    def compared(self, group: int, own: Own) -> bool:
        """Keep what a group held before; False when the sender has dealt with it meanwhile."""
        self.crew.check()
        with self._ahead:
            while len(self._compared) >= COMPARED_AHEAD:
                self.crew.check()
                self._ahead.wait(1.0)
            self._compared.add(group)  # before it can become complete, which takes it out again
        with self._lock:
            if not self._state[group]:
                self._opened(group).own = own
                return True
        self._let_on(group)
        return False

    def _let_on(self, group: int) -> None:
        with self._ahead:
            self._compared.discard(group)
            self._ahead.notify_all()
