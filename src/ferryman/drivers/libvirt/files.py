"""Small files of a host by libvirt's storage streams: read, written, removed."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from xml.sax.saxutils import escape

import libvirt

from ferryman import errors
from ferryman.drivers.libvirt.storage import pool_for

LARGEST = 128 * 1024**2  # bytes: the variable stores of aarch64 have 64 MiB
_VOLUME = (
    "<volume><name>{name}</name><capacity unit='bytes'>{size}</capacity><target><format type='raw'/>"
    "<permissions><mode>0600</mode></permissions></target></volume>"
)


@contextmanager
def _directory(link: libvirt.virConnect, path: str) -> Iterator[libvirt.virStoragePool]:
    """The pool of the file's directory, seen anew; one for the moment when there is none."""
    pool, made = pool_for(link, str(PurePosixPath(path).parent), f"ferryman-{secrets.token_hex(8)}")
    try:
        if not made:
            pool.refresh(0)
        yield pool
    finally:
        if made:
            pool.destroy()


def _file(pool: libvirt.virStoragePool, path: str) -> libvirt.virStorageVol | None:
    name = PurePosixPath(path).name
    return pool.storageVolLookupByName(name) if name in pool.listVolumes() else None


def read(link: libvirt.virConnect, path: str) -> bytes | None:
    """The whole content; None when there is no such file."""
    with _directory(link, path) as pool:
        volume = _file(pool, path)
        if volume is None:
            return None
        content = bytearray()
        stream = link.newStream(0)
        volume.download(stream, 0, 0, 0)
        while data := stream.recv(1 << 18):
            content += data
            if len(content) > LARGEST:
                stream.abort()
                raise errors.DriverError(
                    f"file {path}",
                    f"it is larger than {LARGEST} bytes: firmware variables are not",
                    "look whether the guest's <nvram> names the right file: virsh dumpxml GUEST",
                )
        stream.finish()
        return bytes(content)


def write(link: libvirt.virConnect, path: str, content: bytes) -> None:
    """Make the file anew with this content."""
    with _directory(link, path) as pool:
        if (old := _file(pool, path)) is not None:
            old.delete(0)
        volume = pool.createXML(_VOLUME.format(name=escape(PurePosixPath(path).name), size=len(content)), 0)
        stream = link.newStream(0)
        volume.upload(stream, 0, len(content), 0)
        sent = 0
        while sent < len(content):
            sent += stream.send(content[sent : sent + (1 << 18)])
        stream.finish()


def remove(link: libvirt.virConnect, path: str) -> None:
    """Remove the file; nothing happens when there is none."""
    with _directory(link, path) as pool:
        if (volume := _file(pool, path)) is not None:
            volume.delete(0)
