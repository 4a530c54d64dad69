"""What can only be looked at from both hosts at once: whether a disk is the same storage, and the ways between them."""

import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import libvirt

from ferryman import errors
from ferryman.drivers.libvirt import host_check
from ferryman.drivers.libvirt.connection import Connection
from ferryman.drivers.libvirt.devices import bridges_of, wwn
from ferryman.drivers.libvirt.visit import Visit, visit
from ferryman.drivers.libvirt.xml import pool_path
from ferryman.model.guest import Disk, Guest
from ferryman.model.host import Check, Host
from ferryman.model.site import DiskReach, Ground, Reach, TransportFacts
from ferryman.ports import Hypervisor

_MARKER = "<volume><name>{name}</name><capacity unit='bytes'>0</capacity><target><format type='raw'/></target></volume>"
_POOL = "<pool type='dir'><name>{name}</name><target><path>{path}</path></target></pool>"


class LibvirtBetween:
    """Implements ports.Between."""

    def look(self, guest: Guest, source: Hypervisor, destination: Hypervisor) -> Ground:
        directories = {
            str(PurePosixPath(disk.source).parent) for disk in guest.disks if disk.kind == "file" and disk.source
        }
        peer, address = destination.host.effective_peer_uri, destination.host.effective_migration_address
        with ThreadPoolExecutor(3) as pool:
            here = pool.submit(visit, source.host, directories=directories, peer_uri=peer, address=address)
            there = pool.submit(visit, destination.host, directories=directories)
            reached = pool.submit(_disks, guest, source.host, destination.host)
        visits = (here.result(), there.result())
        bridges, why_not = _bridges(destination.host, visits[1])
        return Ground(
            disks=tuple(
                DiskReach(disk.target, reach, how, _taken_as_shared(disk, visits))
                for disk, reach, how in reached.result()
            ),
            transport=_transport(peer, address, visits),
            bridges=bridges,
            bridges_detail=why_not,
        )

    def check(self, host: Hypervisor, others: Sequence[Hypervisor]) -> tuple[Check, ...]:
        return host_check.check(host, others)


def _transport(peer: str, address: str, visits: tuple[Visit, Visit]) -> TransportFacts:
    """The ways as the source tried them, and the certificates at both ends."""
    source, destination = visits
    ours, theirs = source.certificates("qemu"), destination.certificates("qemu")
    return TransportFacts(
        peer_uri=peer,
        peer_reachable=source.peer.good,
        peer_detail=source.peer.detail,
        migration_address=address,
        migration_reachable=source.address.good,
        migration_detail=source.address.detail,
        source_tls=ours.good,
        destination_tls=theirs.good,
        tls_detail="; ".join(way.detail for way in (ours, theirs) if way.detail),
    )


def _bridges(host: Host, seen: Visit) -> tuple[tuple[str, ...] | None, str]:
    """The bridges of a host; where it could not be visited, those that libvirt's interface driver knows."""
    if not seen.failed:
        return seen.bridges, ""
    try:
        return Connection(host.uri).look("bridges", bridges_of), ""
    except errors.DriverError as error:
        return None, f"{seen.failed}, and libvirt says: {error.why}"


def _taken_as_shared(disk: Disk, visits: Sequence[Visit]) -> bool | None:
    """Whether libvirt at both hosts takes the disk's directory as shared; None when one could not be looked at."""
    if disk.kind != "file":
        return None
    answers = [seen.takes_as_shared(disk.source) for seen in visits]
    return None if None in answers else all(answers)


def _disks(guest: Guest, source: Host, destination: Host) -> list[tuple[Disk, Reach, str]]:
    """Each disk that has a source, with its reach and how that was found."""
    proved: dict[str, tuple[Reach, str]] = {}  # one marker serves all disks of a directory
    here, there = Connection(source.uri), Connection(destination.uri)
    return [(disk, *_reach(disk, here, there, proved)) for disk in guest.disks if disk.source]


def _reach(disk: Disk, here: Connection, there: Connection, proved: dict[str, tuple[Reach, str]]) -> tuple[Reach, str]:
    if disk.kind == "network":
        return Reach.NETWORK, f"network storage {disk.source}"
    try:
        if disk.kind == "block":
            return here.look("LUNs", lambda a: there.look("LUNs", lambda b: _same_lun(a, b, disk.source)))
        if disk.kind == "volume":
            path = here.look("volume", lambda a: _volume_path(a, disk.source))
        else:
            path = disk.source
        directory = str(PurePosixPath(path).parent)
        if directory not in proved:
            proved[directory] = here.look(
                "marker", lambda a: there.look("marker", lambda b: prove_shared(a, b, directory))
            )
        return proved[directory]
    except errors.DriverError as error:
        return Reach.UNPROVED, f"could not be tried: {error.why}"


def _same_lun(a: libvirt.virConnect, b: libvirt.virConnect, device: str) -> tuple[Reach, str]:
    ours, theirs = wwn(a, device), wwn(b, device)
    if not ours or not theirs:
        return Reach.UNPROVED, f"libvirt knows no WWN of {device} at {'the source' if not ours else 'the destination'}"
    if ours == theirs:
        return Reach.SAME, f"WWN {ours} at both hosts"
    return Reach.DIFFERENT, f"WWN {ours} at the source, {theirs} at the destination"


def _volume_path(link: libvirt.virConnect, name: str) -> str:
    pool, _, volume = name.partition("/")
    return str(link.storagePoolLookupByName(pool).storageVolLookupByName(volume).path())


def prove_shared(a: libvirt.virConnect, b: libvirt.virConnect, directory: str) -> tuple[Reach, str]:
    """Make a marker in the directory at one host and look for it at the other. Nothing is left behind.

    Equal paths prove nothing: /var/lib/libvirt/images exists everywhere.
    """
    name = f"ferryman-marker-{secrets.token_hex(8)}"
    pool_a, made_a = _pool_for(a, directory, name)
    try:
        marker = pool_a.createXML(_MARKER.format(name=name), 0)
        try:
            try:
                pool_b, made_b = _pool_for(b, directory, name)
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


def _pool_for(link: libvirt.virConnect, directory: str, name: str) -> tuple[libvirt.virStoragePool, bool]:
    """An active pool whose target is that directory; one for the moment when there is none (then True)."""
    for pool in link.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        if pool_path(pool.XMLDesc())[1].rstrip("/") == directory.rstrip("/"):
            return pool, False
    return link.storagePoolCreateXML(_POOL.format(name=name, path=directory), 0), True
