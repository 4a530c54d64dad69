"""What a copy has on its destination's storage, written only after the data was flushed. One file for each copy, records with checksums;
a torn end is cut off and counts for nothing.

A group is *done* in the present pass, or *known*: an earlier pass left it so, and the present one has not dealt with it. The records: L a group
with its digests, Z groups that are zero as a whole, S groups that are known only from here on, R known ones that are done as they are,
B one of which nothing is known any more, F facts."""

import contextlib
import fcntl
import json
import os
import re
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ferryman_copy.blocks import GROUP_BLOCKS, ranges
from ferryman_copy.digest import SIZE, ZERO_GROUP, ZERO_LEAF
from ferryman_copy.places import sync_directory
from ferryman_copy.trouble import Trouble

MAGIC = b"ferryman copy journal 1\n"
LONGEST = 1 << 20
LOCK_WITHIN = 3.0  # seconds; an endpoint whose controller is gone may need longer to end: the controller asks again
BITMAP = GROUP_BLOCKS // 8


def default_directory() -> str:
    """Where journals lie unless it is said."""
    if os.geteuid() == 0:
        return "/var/lib/ferryman/copies"
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "ferryman/copies")


def journal_path(directory: str, copy: str) -> str:
    """Where the journal of that copy lies. Raises Trouble for an id that is no plain name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", copy):
        raise Trouble(
            "refused", f"copy '{copy}'", "its id is no plain name", "use letters, digits, dot, dash and underscore"
        )
    return f"{directory or default_directory()}/{copy}.journal"


@dataclass(frozen=True)
class Group:
    """A group that is at the destination: its digest, which of its blocks this pass wrote, and the digests of all of its blocks."""

    number: int
    digest: bytes
    written: int  # bit i: block i of the group
    leaves: tuple[bytes, ...]

    def packed(self) -> bytes:
        """As it is stored: zeroes take no room."""
        data = [leaf for leaf in self.leaves if leaf != ZERO_LEAF]
        with_data = sum(1 << number for number, leaf in enumerate(self.leaves) if leaf != ZERO_LEAF)
        bits = self.written.to_bytes(BITMAP, "little") + with_data.to_bytes(BITMAP, "little")
        return b"L" + self.number.to_bytes(8, "big") + self.digest + bits + b"".join(data)

    @staticmethod
    def unpacked(data: bytes) -> "Group":
        """From what is stored; blocks past the end of the disk count as zero."""
        number, found, at = int.from_bytes(data[1:9], "big"), data[9 : 9 + SIZE], 9 + SIZE + 2 * BITMAP
        written, with_data = (int.from_bytes(data[end - BITMAP : end], "little") for end in (at - BITMAP, at))
        stored = iter([data[begin : begin + SIZE] for begin in range(at, len(data), SIZE)])
        leaves = tuple(next(stored) if with_data >> block & 1 else ZERO_LEAF for block in range(GROUP_BLOCKS))
        return Group(number, found, written, leaves)

    @property
    def data(self) -> int:
        """How many blocks with data were written."""
        return sum(self.written >> number & 1 for number, leaf in enumerate(self.leaves) if leaf != ZERO_LEAF)


class Journal:
    """The open journal of one copy; nobody else can open it meanwhile."""

    def __init__(self, directory: str, copy: str) -> None:
        self.path = journal_path(directory, copy)
        self.facts: dict[str, Any] = {}
        self._empty()
        self._writing = threading.RLock()
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            self._open()
            while not self._still_there():  # whoever had it has removed it meanwhile: a lock on that keeps nobody out
                self._file.close()
                self._open()
        except OSError as error:
            raise Trouble(
                "permission", f"journal {self.path}", str(error), "run the copy as root of that host"
            ) from error
        self._load()

    def _empty(self) -> None:
        self.done: dict[int, bytes] = {}
        self.known: dict[int, bytes] = {}
        self._places: dict[int, int] = {}  # of the records of groups with data
        self._zeroed: dict[int, int] = {}  # of those of groups without

    def _open(self) -> None:
        self._file = open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")  # noqa: SIM115
        self._lock()

    def _still_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def _lock(self) -> None:
        deadline = time.monotonic() + LOCK_WITHIN
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() > deadline:
                    self._file.close()
                    raise Trouble(
                        "busy", f"journal {self.path}", "another endpoint carries this copy out",
                        "wait for it, or end the ferryman that started it",
                    ) from None  # fmt: skip
                time.sleep(0.05)

    def _load(self) -> None:
        end = len(MAGIC)
        if self._file.read(end) != MAGIC:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(MAGIC)
        for place, data in self._records(end):
            end = place + 8 + len(data)
            first, count = int.from_bytes(data[1:9], "big"), int.from_bytes(data[9:17], "big")
            match data[:1]:
                case b"L":
                    self._be_done(first, data[9 : 9 + SIZE], place)
                case b"Z":
                    self._be_zero(first, count, place)
                case b"S" | b"R":
                    self._change(first, count, done=data[:1] == b"R")
                case b"B":
                    self._forget(first)
                case b"F":
                    self.facts.update(json.loads(data[1:]))
        self._file.seek(end)
        self._file.truncate()

    def _records(self, place: int) -> Iterator[tuple[int, bytes]]:
        """(place, content) of each whole record from there on; ends at the first that is torn."""
        self._file.seek(place)
        while True:
            head = self._file.read(8)
            length, checksum = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
            if len(head) < 8 or not 0 < length <= LONGEST:
                return
            data = self._file.read(length)
            if len(data) < length or zlib.crc32(data) != checksum:
                return
            yield place, data
            place += 8 + length

    def _forget(self, number: int) -> None:
        for where in (self.done, self.known, self._places, self._zeroed):
            where.pop(number, None)

    def _be_done(self, number: int, found: bytes, place: int) -> None:
        self._forget(number)
        self.done[number], self._places[number] = found, place

    def _be_zero(self, first: int, count: int, place: int) -> None:
        for number in range(first, first + count):
            self._forget(number)
            self.done[number], self._zeroed[number] = ZERO_GROUP, place

    def _change(self, first: int, count: int, *, done: bool) -> None:
        one, other = (self.known, self.done) if done else (self.done, self.known)
        for number in range(first, first + count):
            if number in one:
                other[number] = one.pop(number)

    def _append(self, data: bytes) -> int:
        place = self._file.tell()
        self._file.write(len(data).to_bytes(4, "big") + zlib.crc32(data).to_bytes(4, "big") + data)
        return place

    def _append_range(self, kind: bytes, first: int, count: int) -> int:
        return self._append(kind + first.to_bytes(8, "big") + count.to_bytes(8, "big"))

    @property
    def end(self) -> int:
        """The place of the next record."""
        return self._file.tell()

    def sync(self) -> None:
        """What was noted is on storage when this returns."""
        try:
            with self._writing:
                self._file.flush()
            os.fdatasync(self._file.fileno())
        except OSError as error:
            raise Trouble(
                "no-space",
                f"journal {self.path}",
                str(error),
                "make room and ask for the copy again: it goes on where it was",
            ) from error

    def note_groups(self, groups: Iterable[Group]) -> None:
        """These groups are on storage: their data was flushed before. Those that were zeroed as a whole, or are as they were, take a few
        bytes for many."""
        zeroed, unchanged = [], []
        with self._writing:
            for group in groups:
                if not group.written and self.known.get(group.number) == group.digest:
                    unchanged.append(group.number)
                elif group.digest == ZERO_GROUP and not group.written:
                    zeroed.append(group.number)
                else:
                    self._be_done(group.number, group.digest, self._append(group.packed()))
            self.note_zeroes(sorted(zeroed))
            self.restore(sorted(unchanged))

    def note_zeroes(self, numbers: Iterable[int]) -> None:
        """These groups, in ascending order, are zero as a whole."""
        with self._writing:
            for first, count in ranges(numbers):
                self._be_zero(first, count, self._append_range(b"Z", first, count))

    def restore(self, numbers: Iterable[int]) -> None:
        """These groups, known and in ascending order, are done as they are."""
        self._change_noted(b"R", numbers)

    def doubt(self, numbers: Iterable[int]) -> None:
        """These groups, done and in ascending order, are known only: a pass begins."""
        self._change_noted(b"S", numbers)

    def _change_noted(self, kind: bytes, numbers: Iterable[int]) -> None:
        with self._writing:
            for first, count in ranges(numbers):
                self._append_range(kind, first, count)
                self._change(first, count, done=kind == b"R")

    def note_bad(self, number: int) -> None:
        """That group is not what it should be; it has to be copied again."""
        with self._writing:
            self._append(b"B" + number.to_bytes(8, "big"))
            self._forget(number)

    def note(self, **facts: object) -> None:
        """Plain facts; later ones win."""
        with self._writing:
            self._append(b"F" + json.dumps(facts).encode())
            self.facts.update(facts)
        self.sync()

    def groups(self, since: int = 0) -> Iterator[Group]:
        """All groups that are done by a record from that place on, with what was written of them; but for those that were zeroed as a whole."""
        self._file.flush()
        end = self._file.tell()
        for place, data in self._records(max(since, len(MAGIC))):
            number = int.from_bytes(data[1:9], "big")
            if data[:1] == b"L" and number in self.done and self._places.get(number) == place:
                yield Group.unpacked(data)
        self._file.seek(end)

    def zeroed(self, since: int = 0) -> list[int]:
        """The groups that were zeroed as a whole, by a record from that place on."""
        return [number for number, place in self._zeroed.items() if place >= since and number in self.done]

    def leaves(self, number: int) -> tuple[bytes, ...] | None:
        """The digests of the blocks of a group that is done or known; None for any other. Read from the file: there may be many."""
        with self._writing:
            if number not in self.done and number not in self.known:
                return None
            place = self._places.get(number)
            if place is None:
                return (ZERO_LEAF,) * GROUP_BLOCKS
            self._file.flush()
            head = os.pread(self._file.fileno(), 8, place)
            data = os.pread(self._file.fileno(), int.from_bytes(head[:4], "big"), place + 8)
        if zlib.crc32(data) != int.from_bytes(head[4:], "big"):
            raise Trouble("storage", f"journal {self.path}", f"what was noted at {place} cannot be read any more",
                          "look at this storage, and discard the copy")  # fmt: skip
        return Group.unpacked(data).leaves

    def take_over(self, other: "Journal", below: int) -> None:
        """What another journal knows of the groups below that number is known here too."""
        self.note_groups(replace(group, written=0) for group in other.groups() if group.number < below)
        self.note_zeroes(number for number in sorted(other.zeroed()) if number < below)
        self.doubt(sorted(self.done))

    def start_over(self, **facts: object) -> None:
        """Forget everything."""
        self._file.seek(len(MAGIC))
        self._file.truncate()
        self.facts = {}
        self._empty()
        self.note(**facts)
        sync_directory(os.path.dirname(self.path))

    def close(self) -> None:
        """Let go of it; others may open it."""
        self._file.close()

    def remove(self) -> None:
        """Remove it for good."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.close()
