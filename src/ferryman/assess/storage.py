"""Is each disk at the destination the same storage, proved, and safe to use from two hosts one after the other?"""

from collections.abc import Iterator

from ferryman.assess import volumes
from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.guest import Disk
from ferryman.model.request import Options
from ferryman.model.site import DiskReach, Reach, Site
from ferryman.plan import disks
from ferryman.plan.vouching import vouches

# A disk that goes through the host's page cache is safe for a live move only where the storage keeps the hosts' caches
# coherent (shared directories that libvirt knows as such, RBD, iSCSI by QEMU itself).
_COHERENT_KINDS = ("network", "nvme")


def findings(site: Site, options: Options) -> Iterator[Finding]:
    """One look at each disk with a source; equal paths prove nothing."""
    reach = {one.target: one for one in site.ground.disks}
    copied, ejected = disks.to_copy(site, options), disks.ejected(site, options)
    for disk in site.guest.disks:
        if disk in ejected:
            yield note(
                "medium-ejected",
                _what(site, disk),
                "it will be taken out of its drive (--eject); put back if the move is",
            )
        elif disk.source and disk not in copied:
            yield from _disk(site, disk, reach.get(disk.target))
    yield from volumes.findings(site, options)
    if not any(disk.source and not disk.read_only for disk in site.guest.disks):
        yield warning("no-image-lock", f"guest {site.guest.name}", "it has no disk that it writes to, so no image lock stands between two running copies if a libvirtd dies in the switchover",
                      "do not restart libvirtd at either host during the move")  # fmt: skip


def _disk(site: Site, disk: Disk, reach: DiskReach | None) -> Iterator[Finding]:
    what = _what(site, disk)
    destination = site.destination.host.name
    if reach is None or reach.reach is Reach.UNPROVED:
        how = reach.how if reach else "it was not looked at"
        yield blocker("disk-unproved", what, f"not proved to be the same storage at {destination}: {how}",
                      _remedy_for_unproved(disk))  # fmt: skip
        return
    if reach.reach is Reach.DIFFERENT:
        yield blocker(
            "disk-not-shared", what, f"{destination} has other storage there: {reach.how}", _remedy_for_local(disk)
        )
        return
    if reach.reach is Reach.NETWORK:
        yield note("disk-network", what, "taken for the same storage because both hosts use one network name; not tried from the destination",
                   f"check that {destination} may reach it (addresses, secrets)")  # fmt: skip
        if not disk.read_only:  # nfs:// and iscsi:// have no locks over hosts, rbd's are cooperative: no guard
            yield _no_lock(what)
    if disk.kind == "block" and not disk.read_only:
        yield _no_lock(what)
    if reach.declared_shared is False and reach.declarable is not False and not disk.read_only:
        directory = disk.source.rsplit("/", 1)[0]
        yield blocker("shared-not-declared", what, "libvirt does not know that directory as shared and would call the move unsafe",
                      f"ferryman host prepare {site.source.host.name} {destination} --shared-directory {directory}")  # fmt: skip
    elif not disk.bypasses_cache and reach.declared_shared is None and disk.kind == "file":
        yield note("shared-not-checked", what, f"its cache mode {disk.cache or 'default'} is safe only where libvirt knows the directory as shared, which could not be looked at",
                   "if it does not, libvirt refuses and nothing is changed; set cache='none' to be sure")  # fmt: skip
    elif not disk.bypasses_cache and not _coherent(disk, reach) and not disk.read_only:
        yield blocker("disk-cache", what, f"cache mode {disk.cache or 'default'} goes through {site.source.host.name}'s page cache, which {destination} does not see",
                      f"set cache='none' for it (virsh edit {site.guest.name}), shut the guest down and start it")  # fmt: skip
    elif vouches(disk, reach):
        yield warning("shared-vouched", what, f"libvirt at {site.source.host.name} has no setting to be told that this directory is shared, and would refuse; ferryman proved it ({reach.how}) and tells it to go ahead (its flag UNSAFE). With dynamic_ownership on, it gives the image back to its earlier owner once the guest has left",
                      f"where QEMU at {destination} does not run as root, chown the image to its user after the move; a libvirt with the setting shared_filesystems at {site.source.host.name} needs neither")  # fmt: skip
    yield from _pool(site, disk)
    for layer in reach.layers:
        if layer.reach is not Reach.SAME:
            yield blocker("layer-not-shared", what, f"its backing layer {layer.target} is not proved to be the same at {destination}: {layer.how}",
                          f"--copy-storage all; or flatten it: virsh blockpull {site.guest.name} {disk.target} --wait")  # fmt: skip
    if disk.shareable:
        yield note("disk-shareable", what, "it is marked shareable: other guests may be using it at the same time")


def _pool(site: Site, disk: Disk) -> Iterator[Finding]:
    """A disk that the definition names as a volume of a pool is looked for in the destination's pool of that name."""
    if not disk.pool:
        return
    what, at = f"pool {disk.pool} of {_what(site, disk)}", site.destination.host.name
    here, there = (
        next((one for one in host.pools if one.name == disk.pool), None) for host in (site.source, site.destination)
    )
    if there is None:
        yield blocker("pool-missing", what, f"{at} has no pool of that name, and the definition names the disk by it",
                      f"make it there, upon the same storage: virsh pool-dumpxml {disk.pool} at {site.source.host.name} tells how it is defined")  # fmt: skip
    elif not there.active:
        yield blocker(
            "pool-missing",
            what,
            f"it is not active at {at}",
            f"virsh pool-start {disk.pool}; virsh pool-autostart {disk.pool}",
        )
    elif here is not None and here.path != there.path:
        yield blocker("pool-missing", what, f"the pool of that name at {at} is {there.path}, here it is {here.path}: the guest would get another disk, or none",
                      f"make both pools of one path; or name the disk by its file: virsh edit {site.guest.name}")  # fmt: skip


def _what(site: Site, disk: Disk) -> str:
    return f"disk {disk.target} ({disk.source}) of guest {site.guest.name}"


def _coherent(disk: Disk, reach: DiskReach) -> bool:
    return disk.kind in _COHERENT_KINDS or reach.declared_shared is True


def _no_lock(what: str) -> Finding:
    return warning("no-image-lock", what, "QEMU takes no lock there that the other host would see: if a libvirtd dies in the switchover, nothing but libvirt stands between two running copies",
                   "do not restart libvirtd at either host during the move")  # fmt: skip


def _remedy_for_unproved(disk: Disk) -> str:
    copied = "--copy-storage all copies it (of a guest that is off: with --cold)"
    if disk.kind == "block":
        return f"{copied}; one device of both hosts is known by a WWN that both tell: virsh nodedev-dumpxml"
    pool = "make a storage pool of its directory at both hosts, active, so that ferryman can try it"
    return f"{pool}; or {copied}" if disk.kind in disks.COPYABLE else pool


def _remedy_for_local(disk: Disk) -> str:
    if disk.device in ("cdrom", "floppy"):
        return "--eject takes it out; --copy-storage auto copies it"
    return "--copy-storage auto copies it to the destination, or put the disk on storage that both hosts share"
