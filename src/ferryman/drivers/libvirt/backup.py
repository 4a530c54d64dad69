"""Backup jobs in pull mode; the checkpoints that make them incremental: checkpoints.py.

QEMU offers the frozen content over NBD on a socket of the host, in the directory that libvirt keeps for the running guest: nobody but
root and QEMU itself gets there, and it goes with the guest. Scratch files go with the job.
"""

import re
import time
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import libvirt

from ferryman import errors
from ferryman.drivers.libvirt.errors import code
from ferryman.drivers.libvirt.jobs import job_of
from ferryman.model.backup_job import BackupJob

DIRECTORY = "/var/lib/libvirt/qemu"
_NOT_TO_BE_TOLD = (libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT, libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT)
_BLOCK_JOB = re.compile(r"has a blockjob assigned|active block job", re.IGNORECASE)
ENDED_WITHIN = 20.0  # seconds
SOCKET = "ferryman-{owner}.sock"  # whose job it is stands in its name
_NO_DIRECTORY = re.compile(r"failed to bind socket|no such file", re.IGNORECASE)
_SHORT = 20  # of a guest's name, in what libvirt calls its directory


def begin(domain: libvirt.virDomain, job: BackupJob) -> str:
    """Begin it; returns the socket. Raises errors.AlreadyRunning when another job runs, NoBitmap when it cannot tell what was written since,
    DriverError when the guest has not all of these disks."""
    if found := job_of(domain):
        raise _another(domain, found)
    if gone := {disk.target for disk in job.disks} - set(_targets(domain)):
        raise errors.DriverError(f"guest {domain.name()}", f"{', '.join(sorted(gone))} is not attached to it any more", "ask again: what it has then is planned anew")  # fmt: skip
    for socket in sockets_of(domain, job.owner):
        if _began(domain, job, socket):
            return socket
    raise errors.DriverError(f"guest {domain.name()}", f"QEMU finds none of {', '.join(sockets_of(domain, job.owner))}, where its disks would be offered",
                             f"ls -d {DIRECTORY}/domain-{domain.ID()}-* at its host shows how libvirt names the directory; please report it")  # fmt: skip


def _began(domain: libvirt.virDomain, job: BackupJob, socket: str) -> bool:
    """False: the socket's directory is not there."""
    checkpoint = _checkpoint_xml(domain, job) if job.checkpoint else None
    try:
        domain.backupBegin(_backup_xml(domain, job, socket), checkpoint, 0)
    except libvirt.libvirtError as error:
        words = error.get_error_message() or ""
        if _NO_DIRECTORY.search(words) and f"domain-{domain.ID()}-" in words:
            return False
        if code(error) in _NOT_TO_BE_TOLD or "bitmap" in words:
            raise errors.NoBitmap(
                f"guest {domain.name()}", words, "without the bitmap everything is compared"
            ) from error
        if _BLOCK_JOB.search(words):
            raise _another(domain, "block job") from error
        if code(error) == libvirt.VIR_ERR_OPERATION_TIMEOUT and (found := job_of(domain)):  # it began right before
            raise _another(domain, found) from error
        raise
    return True


def _another(domain: libvirt.virDomain, job: str) -> errors.AlreadyRunning:
    return errors.AlreadyRunning(f"guest {domain.name()}", f"a job ({job}) runs on it, so no backup can begin", f"wait for its end: virsh domjobinfo {domain.name()}")  # fmt: skip


def sockets_of(domain: libvirt.virDomain, owner: str) -> tuple[str, ...]:
    """Where that request's job may listen. The directory is named as libvirt's virDomainDefGetShortName does: so many characters of the guest's name
    where libvirtd's locale is one of UTF-8, so many bytes elsewhere."""
    name = domain.name()
    shorts = dict.fromkeys((name[:_SHORT], name.encode()[:_SHORT].decode(errors="ignore")))
    return tuple(f"{DIRECTORY}/domain-{domain.ID()}-{short}/{SOCKET.format(owner=owner)}" for short in shorts)


def running(domain: libvirt.virDomain, owner: str) -> str:
    """The socket of that request's backup job, if it runs now; empty when none does, or another's."""
    try:
        root = ElementTree.fromstring(domain.backupGetXMLDesc())
    except libvirt.libvirtError as error:
        if code(error) in (libvirt.VIR_ERR_NO_DOMAIN_BACKUP, libvirt.VIR_ERR_OPERATION_INVALID):
            return ""
        raise
    server = root.find("server")
    socket = "" if server is None else server.get("socket", "")
    return socket if socket.endswith(f"/{SOCKET.format(owner=owner)}") else ""


def end(domain: libvirt.virDomain, owner: str) -> None:
    """End that request's job, if it runs, and wait until it has; libvirt removes its scratch files."""
    if not running(domain, owner):
        return
    domain.abortJob()
    deadline = time.monotonic() + ENDED_WITHIN
    while running(domain, owner):
        if time.monotonic() > deadline:
            raise errors.Timeout(f"backup of guest {domain.name()}", f"it did not end within {ENDED_WITHIN:.0f} s", f"look at it: virsh domjobinfo {domain.name()}")  # fmt: skip
        time.sleep(0.05)


def _backup_xml(domain: libvirt.virDomain, job: BackupJob, socket: str) -> str:
    root = Element("domainbackup", mode="pull")
    SubElement(root, "server", transport="unix", socket=socket)
    disks = SubElement(root, "disks")
    wanted = {disk.target: disk for disk in job.disks}
    for target in _targets(domain):
        if target not in wanted:
            SubElement(disks, "disk", name=target, backup="no")
            continue
        one = wanted[target]
        disk = SubElement(disks, "disk", name=target, backup="yes", type="file", exportname=target)
        if one.since:
            disk.set("backupmode", "incremental")
            disk.set("incremental", one.since)
            disk.set("exportbitmap", one.bitmap)
        else:
            disk.set("backupmode", "full")
        SubElement(disk, "scratch", file=one.scratch)
    return ElementTree.tostring(root, encoding="unicode")


def _checkpoint_xml(domain: libvirt.virDomain, job: BackupJob) -> str | None:
    remembered = {disk.target for disk in job.disks if disk.remembers}
    if not remembered:
        return None
    root = Element("domaincheckpoint")
    SubElement(root, "name").text = job.checkpoint
    disks = SubElement(root, "disks")
    for target in _targets(domain):
        SubElement(disks, "disk", name=target, checkpoint="bitmap" if target in remembered else "no")
    return ElementTree.tostring(root, encoding="unicode")


def _targets(domain: libvirt.virDomain) -> list[str]:
    """All disks that the running guest has: what is not named libvirt would include by itself."""
    root = ElementTree.fromstring(domain.XMLDesc())
    found = (target.get("dev", "") for target in root.findall("devices/disk/target"))
    return [target for target in found if target]
