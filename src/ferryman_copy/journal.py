"""What a copy has on its destination's storage, written only after the data was flushed. One file for each copy, records with checksums;
a torn end is cut off and counts for nothing."""

import contextlib
import fcntl
import json
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ferryman_copy.blocks import GROUP_BLOCKS, ranges
from ferryman_copy.digest import SIZE, ZERO_GROUP
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


@dataclass(frozen=True)
class Group:
    """A group that is at the destination: its digest, which of its blocks this copy wrote, and the digests of those."""

    number: int
    digest: bytes
    written: int  # bit i: block i of the group
    leaves: tuple[bytes, ...]  # of the written blocks, in order

    def packed(self) -> bytes:
        """As it is stored."""
        return (
            b"G"
            + self.number.to_bytes(8, "big")
            + self.digest
            + self.written.to_bytes(BITMAP, "little")
            + b"".join(self.leaves)
        )

    @staticmethod
    def unpacked(data: bytes) -> "Group":
        """From what is stored."""
        at = 9 + SIZE + BITMAP
        leaves = tuple(data[begin : begin + SIZE] for begin in range(at, len(data), SIZE))
        return Group(
            int.from_bytes(data[1:9], "big"), data[9 : 9 + SIZE], int.from_bytes(data[9 + SIZE : at], "little"), leaves
        )


class Journal:
    """The open journal of one copy; nobody else can open it meanwhile."""

    def __init__(self, directory: str, copy: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", copy):
            raise Trouble(
                "refused", f"copy '{copy}'", "its id is no plain name", "use letters, digits, dot, dash and underscore"
            )
        directory = directory or default_directory()
        self.path = f"{directory}/{copy}.journal"
        self.facts: dict[str, Any] = {}
        self.done: dict[int, bytes] = {}
        self._places: dict[int, int] = {}
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self._open()
            while not self._still_there():  # whoever had it has removed it meanwhile: a lock on that keeps nobody out
                self._file.close()
                self._open()
        except OSError as error:
            raise Trouble(
                "permission", f"journal {self.path}", str(error), "run the copy as root of that host"
            ) from error
        self._load()

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
        for place, data in self._records():
            end = place + 8 + len(data)
            if data[:1] == b"G":
                number = int.from_bytes(data[1:9], "big")
                self.done[number] = data[9 : 9 + SIZE]
                self._places[number] = place
            elif data[:1] == b"Z":
                self._zeroed(int.from_bytes(data[1:9], "big"), int.from_bytes(data[9:17], "big"))
            elif data[:1] == b"B":
                self._forget(int.from_bytes(data[1:9], "big"))
            elif data[:1] == b"F":
                self.facts.update(json.loads(data[1:]))
        self._file.seek(end)
        self._file.truncate()

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """(place, content) of each whole record; ends at the first that is torn."""
        place = len(MAGIC)
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
        self.done.pop(number, None)
        self._places.pop(number, None)

    def _zeroed(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.done[number] = ZERO_GROUP
            self._places.pop(number, None)

    def _append(self, data: bytes) -> int:
        place = self._file.tell()
        self._file.write(len(data).to_bytes(4, "big") + zlib.crc32(data).to_bytes(4, "big") + data)
        return place

    def sync(self) -> None:
        """What was noted is on storage when this returns."""
        try:
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
        """These groups are on storage: their data was flushed before. Those that were zeroed as a whole take a few bytes for many."""
        zeroed = []
        for group in groups:
            if group.digest == ZERO_GROUP and not group.written:
                zeroed.append(group.number)
                continue
            self._places[group.number] = self._append(group.packed())
            self.done[group.number] = group.digest
        for first, count in ranges(sorted(zeroed)):
            self._append(b"Z" + first.to_bytes(8, "big") + count.to_bytes(8, "big"))
            self._zeroed(first, count)

    def note_bad(self, number: int) -> None:
        """That group is not what it should be; it has to be copied again."""
        self._append(b"B" + number.to_bytes(8, "big"))
        self._forget(number)

    def note(self, **facts: object) -> None:
        """Plain facts; later ones win."""
        self._append(b"F" + json.dumps(facts).encode())
        self.facts.update(facts)
        self.sync()

    def groups(self) -> Iterator[Group]:
        """All groups that are done, with what was written of them; but for those that were zeroed as a whole."""
        self._file.flush()
        end = self._file.tell()
        for place, data in self._records():
            if data[:1] == b"G" and self._places.get(int.from_bytes(data[1:9], "big")) == place:
                yield Group.unpacked(data)
        self._file.seek(end)

    def zeroed(self) -> list[int]:
        """The groups that were zeroed as a whole."""
        return [number for number in self.done if number not in self._places]

    def start_over(self, **facts: object) -> None:
        """Forget everything."""
        self._file.seek(len(MAGIC))
        self._file.truncate()
        self.facts, self.done, self._places = {}, {}, {}
        self.note(**facts)
        _sync_directory(os.path.dirname(self.path))

    def close(self) -> None:
        """Let go of it; others may open it."""
        self._file.close()

    def remove(self) -> None:
        """Remove it for good."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.close()


def _sync_directory(path: str) -> None:
    handle = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
