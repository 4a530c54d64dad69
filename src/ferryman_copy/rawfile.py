"""Raw files and block devices, read and written as they are: no program between, and the exact length. They are locked as QEMU locks them,
so that neither a guest nor another copy uses them meanwhile."""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import struct
import threading
from collections.abc import Iterator

from ferryman_copy.blocks import Extent
from ferryman_copy.trouble import Trouble, of_system

# QEMU's block/file-posix.c: a shared lock on byte 100 + n says "I do n", on 200 + n "nobody else may do n".
DOES, FORBIDS = 100, 200
READ, WRITE = 0, 1
OFD_GETLK, OFD_SETLK = 36, 37
PUNCH, ZERO, KEEP_SIZE = 0x02, 0x10, 0x01
_libc = ctypes.CDLL(None, use_errno=True)


class RawChannel:
    """An open raw file; any number of threads may use it at once."""

    def __init__(self, handle: int, location: str, size: int, device: bool) -> None:
        self._handle, self._location, self.size, self._device = handle, location, size, device
        # A file system lets one writer into a file at a time, and those that wait spin for it.
        self._one_writer = contextlib.nullcontext() if device else threading.Lock()

    def read(self, start: int, count: int) -> bytes:
        """So many bytes from there; what lies past the end reads as zeroes."""
        try:
            found = os.pread(self._handle, count, start)
            while len(found) < count:
                if not (more := os.pread(self._handle, count - len(found), start + len(found))):
                    return found + bytes(count - len(found))
                found += more
        except OSError as error:
            raise of_system(error, f"image {self._location}") from error
        return found

    def write(self, data: bytes | bytearray | memoryview, start: int) -> None:
        """Write there."""
        view, at = memoryview(data), 0
        try:
            with self._one_writer:
                while at < len(view):
                    at += os.pwrite(self._handle, view[at:], start + at)
        except OSError as error:
            raise of_system(error, f"image {self._location}") from error

    def zero(self, start: int, count: int, *, holes: bool) -> None:
        """Make a range read as zeroes; `holes`: storage may be given back."""
        for mode in (PUNCH, ZERO) if holes else (ZERO,):
            if _libc.fallocate(self._handle, mode | KEEP_SIZE, ctypes.c_longlong(start), ctypes.c_longlong(count)) == 0:
                return
        nothing = bytes(1 << 20)
        while count > 0:
            here = min(count, len(nothing))
            self.write(nothing[:here], start)
            start, count = start + here, count - here

    def flush(self) -> None:
        """All that was written is on storage when this returns."""
        try:
            os.fdatasync(self._handle)
        except OSError as error:
            raise of_system(error, f"image {self._location}") from error

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """What may hold data and what reads as zeroes, in order and without gaps."""
        while start < end:
            data, hole = self._next_data(start, end), end
            if start < data:
                yield Extent(start, data - start, True)
            if data < end:
                hole = min(end, self._next_hole(data))
                yield Extent(data, hole - data, False)
            start = hole if data < end else end

    def _next_data(self, start: int, end: int) -> int:
        if self._device:
            return start if start < self.size else end
        try:
            return min(end, os.lseek(self._handle, start, os.SEEK_DATA))
        except OSError as error:
            if error.errno == errno.ENXIO:
                return end
            return min(start, end)  # a file system that cannot tell: all may be data

    def _next_hole(self, start: int) -> int:
        if self._device:
            return self.size
        try:
            return os.lseek(self._handle, start, os.SEEK_HOLE)
        except OSError:
            return self.size

    def close(self) -> None:
        """Nothing: the file is the image's."""


class RawFile:
    """A raw file or block device that is open for as long as this lives."""

    def __init__(self, location: str, *, writable: bool = False) -> None:
        self.location, self.kind = location, "raw"
        try:
            self._handle = os.open(location, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
            device = stat.S_ISBLK(os.fstat(self._handle).st_mode)
            self.size = os.lseek(self._handle, 0, os.SEEK_END)
        except OSError as error:
            raise of_system(error, f"image {location}") from error
        self.first = RawChannel(self._handle, location, self.size, device)
        try:
            lock(self._handle, location, writable=writable)
        except Trouble:
            self.close()
            raise

    def channel(self) -> RawChannel:
        """For another thread."""
        return self.first

    def close(self) -> None:
        """Close it; its locks end with it."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def is_raw(location: str, kind: str) -> bool:
    """Whether it can be opened without QEMU."""
    if kind != "raw" or not location.startswith("/"):
        return False
    try:
        mode = os.stat(location).st_mode
    except OSError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode)


def lock(handle: int, location: str, *, writable: bool) -> None:
    """Say to every QEMU what is done here, and look whether one forbids it. File systems without locks are taken as they are."""
    does = (READ, WRITE) if writable else (READ,)
    forbids = (WRITE,) if writable else ()
    with contextlib.suppress(OSError):
        for byte in (*(DOES + one for one in does), *(FORBIDS + one for one in forbids)):
            _flock(handle, OFD_SETLK, fcntl.F_RDLCK, byte)
    for byte in (*(FORBIDS + one for one in does), *(DOES + one for one in forbids)):
        try:
            held = _flock(handle, OFD_GETLK, fcntl.F_WRLCK, byte) != fcntl.F_UNLCK
        except OSError:
            return
        if held:
            raise Trouble(
                "locked",
                f"image {location}",
                "another process has it open",
                "stop the guest, or whatever uses the image",
            )


def _flock(handle: int, command: int, kind: int, byte: int) -> int:
    """The lock call on one byte; returns the kind that it answered."""
    layout = "hhqqi4x"
    answer = fcntl.fcntl(handle, command, struct.pack(layout, kind, os.SEEK_SET, byte, 1, 0))
    return int(struct.unpack(layout, answer)[0])
