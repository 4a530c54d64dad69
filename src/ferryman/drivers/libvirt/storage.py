"""Volumes of one host: made, looked at, filled, removed; and whether two hosts see one storage, proved by a marker."""

import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from xml.sax.saxutils import escape

import libvirt

from ferryman import errors
from ferryman.drivers.libvirt.errors import code
from ferryman.drivers.libvirt.xml import backing_of, definition, pool_path
from ferryman.model.guest import Disk
from ferryman.model.plan import NewDisk, Volume
from ferryman.model.site import Reach

_VOLUME = (
    "<volume><name>{name}</name><capacity unit='bytes'>{capacity}</capacity><allocation unit='bytes'>{allocation}</allocation>"
    "<target><format type='{format}'/></target></volume>"
)
_POOL = "<pool type='dir'><name>{name}</name><target><path>{path}</path></target></pool>"

MARKER = "ferryman-marker-"  # followed by the time it was made (seconds since the epoch) and something random
SWEEP_AFTER = 3600.0  # seconds


_LIES_IN = {libvirt.VIR_STORAGE_VOL_FILE: "file", libvirt.VIR_STORAGE_VOL_BLOCK: "block"}


def located(link: libvirt.virConnect, disk: Disk) -> Disk:
    """A disk that is named as a volume of a pool, as the file or device that this is at the host; any other as it is.

    One image must have one name: whether it is in use is decided by comparing them. A volume that is not found stays one.
    """
    if disk.kind != "volume":
        return disk
    pool, _, name = disk.source.partition("/")
    try:
        volume = link.storagePoolLookupByName(pool).storageVolLookupByName(name)
        kind, path = _LIES_IN.get(volume.info()[0]), volume.path()
    except libvirt.libvirtError:
        return disk
    return replace(disk, kind=kind, source=path) if kind else disk


def names(link: libvirt.virConnect) -> dict[str, tuple[str, ...]]:
    """The names of the volumes in each active pool."""
    pools = link.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    return {pool.name(): tuple(sorted(pool.listVolumes())) for pool in pools}


def room(link: libvirt.virConnect) -> dict[str, int]:
    """Bytes free in each active pool, looked at now: libvirt remembers what was free when it last looked itself."""
    pools = link.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    found = {}
    for pool in pools:
        try:
            pool.refresh(0)
        except libvirt.libvirtError:
            continue  # a job of the pool, or storage that does not answer: what libvirt remembers is all there is
        found[pool.name()] = int(pool.info()[3])
    return found


def names_now(link: libvirt.virConnect, pool: str) -> tuple[str, ...]:
    """The names in one pool, also of files that came there without libvirt's knowledge."""
    found = link.storagePoolLookupByName(pool)
    found.refresh(0)
    return tuple(found.listVolumes())


def make(link: libvirt.virConnect, disk: NewDisk, name: str) -> Volume:
    """A new, empty volume of the disk's size and format, sparse where the format can be. Fails when the name is taken.

    A logical volume is whole from the beginning: a sparse one is an LVM snapshot, which breaks with all that is on it once it is full.
    """
    pool = link.storagePoolLookupByName(disk.pool)
    allocation = disk.capacity if pool_path(pool.XMLDesc())[0] == "logical" else 0
    xml = _VOLUME.format(name=escape(name), capacity=disk.capacity, allocation=allocation, format=disk.format)
    volume = pool.createXML(xml, 0)
    return Volume(disk.target, disk.pool, name, volume.path())


def path_of(link: libvirt.virConnect, pool: str, name: str) -> str:
    """Where a volume is; empty when the pool has none of that name."""
    found = link.storagePoolLookupByName(pool)
    found.refresh(0)
    try:
        return str(found.storageVolLookupByName(name).path())
    except libvirt.libvirtError as error:
        if code(error) == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return ""
        raise


def remove(link: libvirt.virConnect, path: str) -> bool:
    """Remove the volume at that path; False: there was none. Refuses, whoever asks, while it is in use."""
    if users := _users(link, path):
        raise errors.DriverError(f"image {path}", f"it is in use by {', '.join(users)}, which runs there", "it was not removed: look with virsh domblklist which disk it is")  # fmt: skip
    directory = str(PurePosixPath(path).parent)
    pool, made = pool_for(link, directory, f"ferryman-{secrets.token_hex(8)}")
    try:
        pool.refresh(0)
        volumes = pool.listAllVolumes()
        if upon := [one.name() for one in (*volumes, *_elsewhere(link, pool.name())) if _lies_upon(one, path)]:
            raise errors.DriverError(f"image {path}", f"{', '.join(upon)} is an overlay upon it", "it was not removed: qemu-img rebase, or remove the overlay first")  # fmt: skip
        for volume in volumes:
            if volume.path() == path:
                volume.delete(0)
                return True
        return False
    finally:
        if made:
            pool.destroy()


def _elsewhere(link: libvirt.virConnect, without: str) -> Iterator[libvirt.virStorageVol]:
    """The volumes of all other active pools: an overlay need not lie beside what it lies upon."""
    for pool in link.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        if pool.name() != without:
            with suppress(
                libvirt.libvirtError
            ):  # a job of the pool, or storage that does not answer: what libvirt remembers
                pool.refresh(0)
            with suppress(libvirt.libvirtError):  # it ended meanwhile
                yield from pool.listAllVolumes()


def _lies_upon(volume: libvirt.virStorageVol, path: str) -> bool:
    try:
        return backing_of(volume.XMLDesc()) == path
    except libvirt.libvirtError as error:
        if code(error) == libvirt.VIR_ERR_NO_STORAGE_VOL:  # removed meanwhile
            return False
        raise


def _users(link: libvirt.virConnect, path: str) -> list[str]:
    """The guests that run at the host upon that image, or upon layers that lie on it."""
    users = []
    for domain in link.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        with suppress(libvirt.libvirtError):  # it ended meanwhile
            disks = definition(domain.XMLDesc(0)).disks
            if any(path in (located(link, disk).source, *disk.backing) for disk in disks):
                users.append(domain.name())
    return users


def allocation(link: libvirt.virConnect, path: str) -> int | None:
    """Bytes that the volume at that path takes; None when there is none."""
    found = sizes(link, path)
    return None if found is None else found[1]


def sizes(link: libvirt.virConnect, path: str) -> tuple[int, int] | None:
    """(capacity, allocation) of the volume at that path, in bytes; None when there is none."""
    directory = str(PurePosixPath(path).parent)
    pool, made = pool_for(link, directory, f"ferryman-{secrets.token_hex(8)}")
    try:
        pool.refresh(0)
        info = next((volume.info() for volume in pool.listAllVolumes() if volume.path() == path), None)
        return None if info is None else (int(info[1]), int(info[2]))
    finally:
        if made:
            pool.destroy()


def carry(source: libvirt.virConnect, path: str, destination: libvirt.virConnect, volume: Volume) -> int:
    """Carry a read-only image's bytes to a volume that was made for them, by way of this machine; returns how many."""
    directory = str(PurePosixPath(path).parent)
    pool, made = pool_for(source, directory, f"ferryman-{secrets.token_hex(8)}")
    try:
        pool.refresh(0)
        found = next((one for one in pool.listAllVolumes() if one.path() == path), None)
        if found is None:
            raise errors.DriverError(
                f"image {path}",
                "it is not at the source any more",
                "look which image the drive has: virsh domblklist GUEST; then try again",
            )
        return _pour(source, found, destination, destination.storageVolLookupByPath(volume.path))
    finally:
        if made:
            pool.destroy()


def _pour(
    source: libvirt.virConnect,
    ours: libvirt.virStorageVol,
    destination: libvirt.virConnect,
    theirs: libvirt.virStorageVol,
) -> int:
    length = int(ours.info()[1])
    reading, writing = source.newStream(0), destination.newStream(0)
    ours.download(reading, 0, 0, 0)
    theirs.upload(writing, 0, length, 0)
    poured = 0
    while data := reading.recv(1 << 18):
        sent = 0
        while sent < len(data):
            sent += writing.send(data[sent:])
        poured += len(data)
    reading.finish()
    writing.finish()
    return poured


def pool_for(link: libvirt.virConnect, directory: str, name: str) -> tuple[libvirt.virStoragePool, bool]:
    """An active pool whose target is that directory; one for the moment when there is none (then True)."""
    for pool in link.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        if pool_path(pool.XMLDesc())[1].rstrip("/") == directory.rstrip("/"):
            return pool, False
    return link.storagePoolCreateXML(_POOL.format(name=name, path=escape(directory)), 0), True


def _sweep(pool: libvirt.virStoragePool) -> None:
    """Markers of commands that were killed in the middle of a proof."""
    for name in pool.listVolumes():
        made = name.removeprefix(MARKER).partition("-")[0]
        if name.startswith(MARKER) and made.isdigit() and time.time() - int(made) > SWEEP_AFTER:
            with suppress(libvirt.libvirtError):  # somebody else sweeps at the same moment
                pool.storageVolLookupByName(name).delete(0)


def prove_shared(a: libvirt.virConnect, b: libvirt.virConnect, directory: str) -> tuple[Reach, str]:
    """Make a marker in the directory at one host and look for it at the other. Nothing is left behind.

    Equal paths prove nothing: /var/lib/libvirt/images exists everywhere.
    """
    name = f"{MARKER}{int(time.time())}-{secrets.token_hex(6)}"
    pool_a, made_a = pool_for(a, directory, name)
    try:
        _sweep(pool_a)
        marker = pool_a.createXML(_VOLUME.format(name=name, capacity=0, allocation=0, format="raw"), 0)
        try:
            try:
                pool_b, made_b = pool_for(b, directory, name)
            except libvirt.libvirtError as error:
                return Reach.DIFFERENT, f"the destination has no directory {directory}: {error}"
            try:
                pool_b.refresh(0)
                seen = name in pool_b.listVolumes()
            finally:
                if made_b:
                    pool_b.destroy()
        finally:
            marker.delete(0)
    finally:
        if made_a:
            pool_a.destroy()
    if seen:
        return Reach.SAME, f"a marker made in {directory} at the source was seen at the destination"
    return Reach.DIFFERENT, f"a marker made in {directory} at the source was not seen at the destination"
