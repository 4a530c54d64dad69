"""Opening disk images: raw files and block devices as they are, everything else by QEMU."""

from collections.abc import Iterator
from typing import Protocol

from ferryman_copy.blocks import Extent
from ferryman_copy.qemu import QemuImage
from ferryman_copy.rawfile import RawFile, is_raw


class Channel(Protocol):
    """Reads and writes an open image; for one thread."""

    size: int

    def read(self, start: int, count: int) -> bytes | bytearray:
        """So many bytes from there; what lies past the end reads as zeroes."""
        ...

    def write(self, data: bytes | bytearray | memoryview, start: int) -> None:
        """Write there."""
        ...

    def zero(self, start: int, count: int, *, holes: bool) -> None:
        """Make a range read as zeroes; `holes`: storage may be given back."""
        ...

    def flush(self) -> None:
        """All that was written, on any channel of the image, is on storage when this returns."""
        ...

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """What may hold data and what reads as zeroes, in order and without gaps."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class Image(Protocol):
    """An image that is open for as long as this lives."""

    location: str
    kind: str
    size: int

    @property
    def first(self) -> Channel:
        """The channel that was made on opening."""
        ...

    def channel(self) -> Channel:
        """One more, for another thread."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def open_image(location: str, kind: str, *, writable: bool = False) -> Image:
    """Open it. Raises Trouble."""
    return (
        RawFile(location, writable=writable) if is_raw(location, kind) else QemuImage(location, kind, writable=writable)
    )
