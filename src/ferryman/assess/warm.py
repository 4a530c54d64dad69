"""May most of the guest's disks be copied while it runs? Beside what holds for every guest that is stopped and copied."""

from collections.abc import Iterator

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.guest import Disk
from ferryman.model.plan import Travel
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.model.units import MIB, format_size
from ferryman.plan import disks
from ferryman.plan.ahead import copied_ahead, read_again

LEAST_ROOM = 256 * MIB  # bytes in a scratch directory
TIGHT = 0.1  # of the disks' data: a guest that overwrites more than this during a pass is a busy one
LIBVIRT, QEMU = (
    (7, 2, 0),
    (4, 2, 0),
)  # from these on backups in pull mode with checkpoints are on by themselves: their release notes


def findings(site: Site, options: Options) -> Iterator[Finding]:
    """What speaks against copying ahead, and what it costs."""
    guest, source = site.guest, site.source
    what, name = f"guest {guest.name}", source.host.name
    if guest.off:
        yield blocker(
            "warm-off", what, "it is off: there is nothing to be copied while it runs", "--cold instead of --warm"
        )
        return
    if source.libvirt_version < LIBVIRT or source.qemu_version < QEMU:
        yield blocker("warm-unknown", f"host {name}", "its libvirt or QEMU is too old to offer the disks of a running guest", "--cold instead of --warm")  # fmt: skip
    ahead = copied_ahead(site, options)
    if not ahead:
        yield blocker("warm-nothing", what, "none of its disks can be copied while it runs: they are shared, or travel as the files that they are", "--cold instead of --warm")  # fmt: skip
    yield from _after_the_stop(site, options)
    for disk in ahead:
        if not disk.remembers:
            why, remedy = _forgets(next(one for one in guest.disks if one.target == disk.target))
            yield warning("warm-reads-all", f"disk {disk.target} ({disk.source}) of guest {guest.name}", f"{why}: each pass reads all of it, and once more while the guest is stopped ({read_again(site, [disk.target])}); only what differs is sent",
                          f"{remedy}, or take the longer stop into account")  # fmt: skip
    yield from _scratch(site, options)


def _forgets(disk: Disk) -> tuple[str, str]:
    """(why its image does not keep what was written, what helps)."""
    if disk.old:
        return (
            "its qcow2 image is of the old version (compat 0.10), which cannot keep what was written",
            f"once, while the guest is off: qemu-img amend -f qcow2 -o compat=1.1 {disk.source}",
        )
    return "it is no qcow2 image, which could keep what was written", "convert it to qcow2 once"


def _after_the_stop(site: Site, options: Options) -> Iterator[Finding]:
    for new in disks.new_disks(site, options):
        if new.travel is Travel.FILE:
            yield warning("warm-after-the-stop", f"disk {new.target} ({new.source}) of guest {site.guest.name}", f"it travels as the file that it is (snapshots, layers below or encryption): all of it ({format_size(new.allocation)}) is copied after the stop",
                          "merge its snapshots first, or plan for that time")  # fmt: skip


def _scratch(site: Site, options: Options) -> Iterator[Finding]:
    name = site.source.host.name
    data = {disk.target: disk.allocation for disk in site.guest.disks}
    needed: dict[str, int] = {}
    for disk in copied_ahead(site, options):
        needed[disk.scratch] = needed.get(disk.scratch, 0) + data[disk.target]
    for directory, size in needed.items():
        what, room = f"directory {directory} at {name}", site.scratch.get(directory)
        beside = site.scratch_beside.get(directory, 0)
        least = LEAST_ROOM * (2 if beside else 1)
        others = f", and {format_size(beside)} of other guests," if beside else ""
        if room is None:
            yield blocker("scratch-missing", what, "it is not there: what the guest overwrites during a pass is kept there", "name another: --scratch DIRECTORY")  # fmt: skip
        elif room < least:
            yield blocker("scratch-room", what, f"{format_size(room)} are free; what the guest overwrites during a pass is kept there, and {format_size(least)} is the least{' while other guests are copied ahead' if beside else ''}", "make room, or name another: --scratch DIRECTORY")  # fmt: skip
        elif room < TIGHT * (size + beside):
            yield warning("scratch-tight", what, f"{format_size(room)} are free for what the guest overwrites while {format_size(size)}{others} are copied; a pass that fills it is given up before the guest notices",
                          "make room, or name another: --scratch DIRECTORY")  # fmt: skip
        else:
            yield note(
                "scratch", what, f"what the guest overwrites during a pass is kept there ({format_size(room)} are free)"
            )
