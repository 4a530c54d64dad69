"""Executor slots: one locked file for each process that executes. No DBOS here, so that looking costs nothing."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = "serve"  # the lock of the one `ferryman serve`; beside it that holds a slot like any executor


class Slots:
    """The flock'd slot files of one state directory. A lock ends with its process, however that ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._held: dict[str, int] = {}

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Held while an executor starts: the others wait."""
        with open(self.directory / "starting", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def take(self, name: str) -> bool:
        """Take the lock of that slot if nobody holds it."""
        descriptor = os.open(self.directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._held[name] = descriptor
        return True

    def take_lowest(self) -> str:
        """Take the lowest slot that nobody holds."""
        number = 0
        while not self.take(f"slot{number}"):
            number += 1
        return f"slot{number}"

    def holder(self, name: str) -> int | None:
        """The process that holds the slot, or None when nobody does."""
        if name in self._held:
            return os.getpid()
        if not (self.directory / name).exists():
            return None
        if self.take(name):
            self.release(name)
            return None
        return int((self.directory / name).read_text().strip() or 0)

    def of_server(self) -> tuple[int, str] | None:
        """(process, slot) of the `ferryman serve` that runs here, or None."""
        process = self.holder(SERVER)
        names = (path.name for path in sorted(self.directory.glob("slot*")))
        slot = next((name for name in names if process is not None and self.holder(name) == process), "")
        return (process, slot) if process is not None and slot else None

    def release(self, name: str) -> None:
        """Give the slot back."""
        os.close(self._held.pop(name))

    def release_all(self) -> None:
        """Give every slot back."""
        for name in tuple(self._held):
            self.release(name)
