"""What can only be looked at from both hosts at once: whether a disk is the same storage, and the ways between them."""

import secrets
from collections.abc import Sequence
from pathlib import PurePosixPath

import libvirt

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.drivers.libvirt import host_check
from ferryman.drivers.libvirt.connection import Connection
from ferryman.drivers.libvirt.devices import wwn
from ferryman.drivers.libvirt.xml import pool_path
from ferryman.model.guest import Disk, Guest
from ferryman.model.host import Check, Host
from ferryman.model.site import DiskReach, Reach, TransportFacts
from ferryman.ports import Hypervisor

_MARKER = "<volume><name>{name}</name><capacity unit='bytes'>0</capacity><target><format type='raw'/></target></volume>"
_POOL = "<pool type='dir'><name>{name}</name><target><path>{path}</path></target></pool>"
_LOOK_WITHIN = 10.0


class LibvirtBetween:
    """Implements ports.Between."""

    def disks(self, guest: Guest, source: Hypervisor, destination: Hypervisor) -> tuple[DiskReach, ...]:
        proved: dict[str, tuple[Reach, str]] = {}  # one marker serves all disks of a directory
        result = []
        for disk in guest.disks:
            if disk.source:
                reach, how = _reach(guest, disk, source.host, destination.host, proved)
                result.append(DiskReach(disk.target, reach, how, _declared(disk, (source.host, destination.host))))
        return tuple(result)

    def transport(self, source: Hypervisor, destination: Hypervisor) -> TransportFacts:
        return host_check.transport(source.host, destination.host)

    def check(self, host: Hypervisor, others: Sequence[Hypervisor]) -> tuple[Check, ...]:
        return host_check.check(host, others)


def _reach(
    guest: Guest, disk: Disk, source: Host, destination: Host, proved: dict[str, tuple[Reach, str]]
) -> tuple[Reach, str]:
    if disk.kind == "network":
        return Reach.NETWORK, f"network storage {disk.source}"
    here, there = Connection(source.uri), Connection(destination.uri)
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


def _declared(disk: Disk, hosts: Sequence[Host]) -> bool | None:
    """Whether libvirt at every host will take the disk's directory as shared: a file system it knows, or the setting."""
    if disk.kind != "file":
        return None
    answers = []
    for host in hosts:
        try:
            answers.append(_declared_at(host, disk.source))
        except errors.DriverError:
            return None
    return all(answers)


_SHARED_FILE_SYSTEMS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb2",
    "ceph",
    "gfs",
    "gfs2",
    "ocfs2",
    "afs",
    "fuseblk",
    "fuse.glusterfs",
    "gpfs",
)


def _declared_at(host: Host, path: str) -> bool:
    directory = str(PurePosixPath(path).parent)
    kind = ssh.run(host, ["stat", "--file-system", "--format=%T", directory], timeout=_LOOK_WITHIN).out.strip()
    if kind in _SHARED_FILE_SYSTEMS:
        return True
    settings = ssh.run(host, ["sed", "-n", r"/^[[:space:]]*shared_filesystems/,/\]/p", "/etc/libvirt/qemu.conf"]).out
    listed = [part for part in settings.replace("[", '"').replace("]", '"').split('"') if part.startswith("/")]
    return any(PurePosixPath(directory).is_relative_to(entry.rstrip("/") or "/") for entry in listed)
