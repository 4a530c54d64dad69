"""A disk that is written to between passes over it: a qcow2 with a bitmap, and the frozen view that an NBD server gives of it."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.digest import documented_digest
from tests.copy.conftest import fill, run

MIB = 1 << 20
BLOCK = 65536
BITMAP = "since"


class Disk:
    """The image with its bitmap, which begins anew when a test says so."""

    def __init__(self, directory: Path, size: int, *, seed: int = 1, parts: int = 12) -> None:
        self.path, self.size, self._directory = directory / "disk", size, directory
        fill(directory / "first", size, seed, parts=parts, largest=8 * MIB)
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", directory / "first", self.path)
        run("qemu-img", "bitmap", "--add", self.path, BITMAP)

    def write(self, *commands: str) -> None:
        """qemu-io's commands, such as `write -P 7 1M 64k`."""
        run("qemu-io", "-f", "qcow2", *[word for one in commands for word in ("-c", one)], self.path)

    def begin_anew(self) -> None:
        """The bitmap counts from here on."""
        run("qemu-img", "bitmap", "--clear", self.path, BITMAP)

    @contextmanager
    def view(self, bitmap: str = BITMAP) -> Iterator[str]:
        """The URI of a server of several clients that shows what is in it now."""
        socket = self._directory / "view"
        self.server = server = subprocess.Popen(
            ["qemu-nbd", "--persistent", "--read-only", "--shared=0", "--export-name=vda", "-f", "qcow2", "-k", socket,
             *([f"--bitmap={bitmap}"] if bitmap else []), self.path]
        )  # fmt: skip
        try:
            while not socket.exists():
                assert server.poll() is None
                time.sleep(0.01)
            yield f"nbd+unix:///vda?socket={socket}"
        finally:
            server.terminate()
            server.wait()

    def content(self) -> bytes:
        """All of it, read by qemu-img."""
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.path, self._directory / "content")
        return (self._directory / "content").read_bytes()

    def digest(self) -> str:
        """By the program of the document."""
        self.content()
        return documented_digest()(self._directory / "content")


def content_of(path: Path, kind: str) -> bytes:
    """What an image shows, read by qemu-img."""
    run("qemu-img", "convert", "-f", kind, "-O", "raw", path, path.with_suffix(".raw"))
    return path.with_suffix(".raw").read_bytes()
