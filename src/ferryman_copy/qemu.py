"""Disk images by way of qemu-nbd and libnbd: any format and storage that QEMU knows. One qemu-nbd serves one image on a private
socket for as long as it is open here."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

import nbd

from ferryman_copy.blocks import Extent
from ferryman_copy.trouble import Trouble

START_WITHIN = 20.0  # seconds; opening an image on network storage takes its time
EXTENTS_AT_ONCE = 1 << 30
READS_AS_ZERO = 2  # NBD_STATE_ZERO of base:allocation
IS_DIRTY = 1  # of qemu:dirty-bitmap
LONGEST_ZERO = 1 << 30
# What Debian's QEMU opens with modules of a package of their own.
IN_BLOCK_EXTRA = ("rbd", "nfs", "iscsi", "ssh", "http", "https", "ftp", "ftps", "gluster")

PREFIX = "ferryman-copy-"
# A qemu-nbd ends with its last connection; one whose endpoint is killed before the first would hold the image's lock for ever. So the
# kernel ends it with the thread that started it (one that lives as long as the image is open), and it does not begin if that is gone.
# SIGKILL, as qemu-nbd forgets a SIGTERM that comes while it opens the image. What was flushed is safe, and nothing else is counted on.
BOUND = ("setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')


def _place() -> str:
    return "/run" if os.access("/run", os.W_OK) else tempfile.gettempdir()


def clear_up() -> None:
    """Remove the sockets' directories of endpoints that were killed."""
    for name in os.listdir(_place()):
        pid = name.removeprefix(PREFIX).split("-")[0]
        if name.startswith(PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(f"{_place()}/{name}", ignore_errors=True)


class QemuChannel:
    """One NBD connection to an open image; for one thread."""

    def __init__(self, uri: str, location: str, context: str = nbd.CONTEXT_BASE_ALLOCATION) -> None:
        self._location = location
        self._nbd = nbd.NBD()
        self._nbd.add_meta_context(context)
        try:
            self._nbd.connect_uri(uri)
        except nbd.Error as error:
            raise translated(error.string or str(error), location) from error
        self.size = int(self._nbd.get_size())
        self.has_statuses = bool(self._nbd.can_meta_context(context))
        self._can_zero = bool(self._nbd.can_zero())
        self._can_flush = bool(self._nbd.can_flush())
        self._most = min(int(self._nbd.get_block_size(nbd.SIZE_MAXIMUM)) or (32 << 20), 32 << 20)

    def read(self, start: int, count: int) -> bytearray:
        """So many bytes from there; what lies past the end reads as zeroes."""
        there = max(0, min(count, self.size - start))
        try:
            found: bytearray = self._nbd.pread(there, start) if there else bytearray()
        except nbd.Error as error:
            raise translated(error.string or str(error), self._location, error.errno) from error
        if there < count:
            found = bytearray(found) + bytes(count - there)
        return found

    def write(self, data: bytes | bytearray | memoryview, start: int) -> None:
        """Write there."""
        try:
            self._nbd.pwrite(data, start)
        except nbd.Error as error:
            raise translated(error.string or str(error), self._location, error.errno) from error

    def zero(self, start: int, count: int, *, holes: bool) -> None:
        """Make a range read as zeroes; `holes`: storage may be given back."""
        flags = 0 if holes else nbd.CMD_FLAG_NO_HOLE
        while count > 0:
            here = min(count, LONGEST_ZERO)
            try:
                if self._can_zero:
                    self._nbd.zero(here, start, flags)
                else:
                    here = min(here, 1 << 20)
                    self._nbd.pwrite(bytes(here), start)
            except nbd.Error as error:
                raise translated(error.string or str(error), self._location, error.errno) from error
            start, count = start + here, count - here

    def flush(self) -> None:
        """All that was written, on any channel of the image, is on storage when this returns."""
        try:
            if self._can_flush:
                self._nbd.flush()
        except nbd.Error as error:
            raise translated(error.string or str(error), self._location, error.errno) from error

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """What may hold data and what reads as zeroes, in order and without gaps."""
        there = min(end, self.size)
        if start < there and not self.has_statuses:
            yield Extent(start, there - start, False)
        elif start < there:
            for at, length, flags in self.statuses(start, there):
                yield Extent(at, length, bool(flags & READS_AS_ZERO))
        if end > max(start, there):
            yield Extent(max(start, there), end - max(start, there), True)

    def statuses(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(start, length, flags) of its context, in order and without gaps."""
        while start < end:
            found: list[int] = []

            def keep(_context: str, _offset: int, entries: list[int], _error: object, found: list[int] = found) -> None:
                found.extend(entries)

            try:
                self._nbd.block_status(min(EXTENTS_AT_ONCE, end - start), start, keep)
            except nbd.Error as error:
                raise translated(error.string or str(error), self._location, error.errno) from error
            for length, flags in zip(found[::2], found[1::2], strict=True):
                here = min(length, end - start)
                yield start, here, flags
                start += here
                if start >= end:
                    break

    def close(self) -> None:
        """Let go."""
        with contextlib.suppress(nbd.Error):
            self._nbd.shutdown()


class NbdImage:
    """What an NBD server offers to several clients, as it is. Raises Trouble when it cannot be opened."""

    def __init__(self, location: str, kind: str) -> None:
        self.location, self.kind, self._uri = location, kind, location
        self._first = QemuChannel(self._uri, location)
        self.size = self._first.size

    def channel(self) -> QemuChannel:
        """One more connection, for another thread."""
        return QemuChannel(self._uri, self.location)

    @property
    def first(self) -> QemuChannel:
        """The connection that was made on opening."""
        return self._first

    def written(self, bitmap: str) -> Iterator[tuple[int, int]]:
        """(start, length) of what was written, as a dirty bitmap of the image says. Raises Trouble "bitmap" when there is none."""
        with contextlib.closing(QemuChannel(self._uri, self.location, f"qemu:dirty-bitmap:{bitmap}")) as channel:
            if not channel.has_statuses:
                raise no_bitmap(self.location, bitmap, "the server offers none of that name")
            for start, length, flags in channel.statuses(0, self.size):
                if flags & IS_DIRTY:
                    yield start, length

    def close(self) -> None:
        """Let go."""
        self._first.close()


class QemuImage(NbdImage):
    """An image that is open for as long as this lives. Raises Trouble when it cannot be opened."""

    def __init__(
        self, location: str, kind: str, *, writable: bool = False, direct: bool = False, bitmap: str = ""
    ) -> None:
        self.location, self.kind = location, kind
        self._server: subprocess.Popen[bytes] | None = None
        self._directory = ""
        self._serve(writable, direct, bitmap)
        self.size = self._first.size

    def _serve(self, writable: bool, direct: bool, bitmap: str) -> None:
        for program, package in (("qemu-nbd", "qemu-utils"), (BOUND[0], "util-linux")):
            if not shutil.which(program):
                raise Trouble("missing", program, "this host has no such program", f"apt install {package}")
        self._directory = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_place())
        socket = f"{self._directory}/nbd"
        command = [*BOUND, str(os.getpid()), "qemu-nbd", f"--socket={socket}", "--shared=64", f"--cache={'none' if direct else 'writeback'}",
                   "--discard=unmap", *([] if writable else ["--read-only"]), *([f"--bitmap={bitmap}"] if bitmap else []),
                   *named_for_qemu(self.location, self.kind)]  # fmt: skip
        with open(f"{self._directory}/words", "wb") as words:
            self._server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True
            )
        self._uri = f"nbd+unix:///?socket={socket}"
        deadline = time.monotonic() + START_WITHIN
        while True:
            if os.path.exists(socket):
                with contextlib.suppress(Trouble):
                    self._first = QemuChannel(self._uri, self.location)
                    return
            if self._server.poll() is not None or time.monotonic() > deadline:
                with open(f"{self._directory}/words", encoding="utf-8", errors="replace") as file:
                    said = file.read().strip()
                self.close()
                raise translated(said or "qemu-nbd did not start", self.location)
            time.sleep(0.005)

    def close(self) -> None:
        """Close the image: qemu-nbd ends when its last connection does, and is ended if it does not."""
        if hasattr(self, "_first"):
            self._first.close()
        if self._server is not None:
            self._server.terminate()  # flushes and closes the image
            try:
                self._server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""


def no_bitmap(location: str, bitmap: str, why: str) -> Trouble:
    """What was written to an image cannot be learned from that bitmap."""
    return Trouble(
        "bitmap", f"bitmap {bitmap} of image {location}", why, "copy without it: everything is compared then"
    )


def named_for_qemu(location: str, kind: str) -> list[str]:
    """An image's name and format as arguments of qemu-nbd and qemu-img: a path is a path whatever characters it has, any other name
    QEMU reads itself, which it does not do inside of --image-opts."""
    if not location.startswith("/"):
        return ["-f", kind, "--", location]
    driver = "host_device" if os.path.exists(location) and not os.path.isfile(location) else "file"
    name = location.replace(",", ",,")
    return ["--image-opts", f"driver={kind},file.driver={driver},file.filename={name}"]


def translated(said: str, location: str, number: object = None) -> Trouble:
    """What QEMU and libnbd say, as one of ours."""
    words = said.splitlines()[-1] if said else "it failed without a word"
    lower = said.lower()
    what = f"image {location}"
    if "no space left" in lower or number == "ENOSPC" or "disk quota" in lower:
        return Trouble(
            "no-space",
            what,
            f"its storage is full: {words}",
            "make room and ask for the copy again: it goes on where it was",
        )
    if "lock" in lower and ("failed to get" in lower or "is another process" in lower):
        return Trouble(
            "locked", what, f"another process has it open: {words}", "stop the guest, or whatever uses the image"
        )
    if (
        "permission denied" in lower
        or "operation not permitted" in lower
        or "read-only file" in lower
        or number in ("EPERM", "EROFS", "EACCES")
    ):
        return Trouble("permission", what, words, "run the copy as root of that host, on storage that may be written")
    if "key-secret" in lower:
        return Trouble("refused", what, "what is in it is encrypted, and only its passphrase opens it",
                       "copy the bytes of its file: ferryman copy … --as-file")  # fmt: skip
    if match := re.search(r"unknown (?:protocol|driver) '(\w+)'", lower):
        package = "apt install qemu-block-extra" if match[1] in IN_BLOCK_EXTRA else "look at the name: PROTOCOL://…"
        return Trouble("missing", what, f"QEMU at this host cannot open {match[1]}", package)
    if "no such file" in lower or ("could not open" in lower and "not exist" in lower):
        return Trouble("missing", what, "there is no such image", "look at the path, from that host")
    if "not in" in lower and "format" in lower:
        return Trouble("refused", what, words, "name the format that it has")
    return Trouble("storage", what, words, "look at the host's log; ask for the copy again: it goes on where it was")
