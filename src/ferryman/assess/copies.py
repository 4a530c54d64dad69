"""Can its disks be copied and held: the programs for it at both hosts, the way in by ssh, and the way of the bytes."""

from collections.abc import Iterator

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.plan import disks
from ferryman.plan.way import Way, way_of_disks


def findings(site: Site, options: Options) -> Iterator[Finding]:
    """What a cold move would otherwise learn once the guest is stopped."""
    copied = bool(disks.to_copy(site, options)) and not options.rollback_loses_writes
    ends = zip((site.source.host.name, site.destination.host.name), site.ground.copy_packages or (), strict=False)
    for number, (name, tools) in enumerate(ends):
        if tools.unreached:
            yield blocker("no-ssh", f"host {name}", f"what a cold move does there goes by ssh, and that fails: {tools.unreached}",
                          f"make ssh to {name} work without a password, or register it with another: ferryman host add … --ssh USER@ADDRESS")  # fmt: skip
        elif tools.lacks and (copied or number == 0):  # the source needs some of them to hold the images
            yield blocker("copy-tools-missing", f"host {name}", f"it lacks {', '.join(tools.lacks)}, which copying and holding disks needs there",
                          f"at {name}: apt install {' '.join(tools.lacks)}")  # fmt: skip
    if not copied:
        return
    what = f"way of the disks of guest {site.guest.name}"
    way, why = way_of_disks(site, options)
    if way is Way.SSH:
        yield note("disks-by-ssh", what, f"they go through ssh, by way of this machine: {why}",
                   f"faster is the direct way: ferryman host prepare {site.source.host.name} {site.destination.host.name}, and open TCP 49152-49215 between them")  # fmt: skip
    elif way is Way.PLAIN:
        yield warning("not-encrypted", what, "they travel readable to everybody on the migration network (--insecure)",
                      f"ferryman host prepare {site.source.host.name} {site.destination.host.name}, then leave --insecure away")  # fmt: skip
