"""Which disks ferryman vouches for: proved to be shared, where the source's libvirt has no setting to be told so."""

from ferryman.model.guest import Disk
from ferryman.model.request import Options
from ferryman.model.site import DiskReach, Reach, Site
from ferryman.plan import disks


def vouched(site: Site, options: Options) -> tuple[Disk, ...]:
    """The disks that libvirt at the source would call unsafe, and that are not."""
    reach = {one.target: one for one in site.ground.disks}
    copied = disks.to_copy(site, options)
    return tuple(
        disk
        for disk in site.guest.disks
        if disk.target in reach and disk not in copied and vouches(disk, reach[disk.target])
    )


def vouches(disk: Disk, reach: DiskReach) -> bool:
    """A proof, never a name, of the image and all layers below it; no page cache in between; no other way to make libvirt see it."""
    return (
        all(one.reach is Reach.SAME for one in (reach, *reach.layers))
        and reach.declared_shared is False
        and reach.declarable is False
        and disk.bypasses_cache
        and not disk.read_only  # libvirt does not ask about those
    )
