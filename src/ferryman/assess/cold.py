"""May the guest be moved stopped? What speaks against it, what it risks, and what cannot be held or proved."""

from collections.abc import Iterable, Iterator

from ferryman.assess.definition import ALSO, bound_to_the_source
from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.guest import State
from ferryman.model.plan import Adaption
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.model.units import format_moment
from ferryman.plan import disks, snapshots
from ferryman.plan.adaption import adaption
from ferryman.plan.cold import can_be_held

# Beside what holds for every guest that starts anew at the destination (assess/definition.py).
_AND = frozenset(
    (
        "no-pool",
        "no-room",
        "room-tight",
        "disk-copied",
        "chain-flattened",
        "chain-kept",
        "copied-shareable",
        "disk-not-shared",
        "medium-ejected",
        "being-moved",
        "mark-stale",
        "mark-left",
        "tpm-missing",
        "tpm",
    )
)
_AND_WHERE_IT_STARTS = frozenset(
    (
        "memory-room",
        "memory-tight",
        "memory-overcommitted",
        "hugepages-room",
        "hugepages-unknown",
        "vcpus-crowded",
        "vcpus-overcommitted",
    )
)


def findings(site: Site, options: Options, live: Iterable[Finding]) -> Iterator[Finding]:
    """Of what a live move would find, what holds here too; then what only matters to a guest that is stopped and copied."""
    found = tuple(live)
    also = _AND - {"disk-not-shared"} if options.rollback_loses_writes else _AND
    wanted = ALSO | also | (frozenset() if site.guest.off else _AND_WHERE_IT_STARTS)
    changed = adaption(site, options)
    yield from (finding for finding in found if finding.code in wanted - _mended(changed))
    yield from _adaptions(site, changed)
    if site.guest.cpu_mode == "custom" and not options.cpu:  # another mode is made anew where the guest starts
        yield from (finding for finding in found if finding.code == "cpu-incompatible")
    yield from _state(site, options)
    yield from _disks(site, options)
    if options.rollback_loses_writes:
        yield from _way_back(site)
        return
    yield from _left_behind(site, options)
    yield from _links(site)


def _way_back(site: Site) -> Iterator[Finding]:
    guest, kept, there = site.guest, site.kept, site.destination.host.name
    what = f"way back of guest {guest.name} to {there}"
    if kept is None:
        yield blocker("nothing-kept", what, f"its last move was not a cold one from {there} to {site.source.host.name}, as far as the records of this machine tell",
                      "leave --rollback-loses-writes away: its disks are copied then")  # fmt: skip
    elif kept.lacking:
        yield blocker("nothing-kept", what, f"{', '.join(kept.lacking)} is not at {there} any more", "leave --rollback-loses-writes away: its disks are copied then")  # fmt: skip
    else:
        yield warning("loses-writes", what, f"it gets its definition and disks of {format_moment(kept.since)}: what it has written since is not in them",
                      f"the disks at {site.source.host.name} are kept until ferryman retire: what is needed of them can be fetched")  # fmt: skip


def _mended(changed: Adaption) -> frozenset[str]:
    """Obstacles that an adaption takes away."""
    pairs = (("emulator-missing", changed.emulator), ("machine-type", changed.machine))
    return frozenset(code for code, mended in pairs if mended)


def _adaptions(site: Site, changed: Adaption) -> Iterator[Finding]:
    guest, name = site.guest, site.destination.host.name
    if changed.emulator:
        yield note("emulator-adapted", f"emulator {guest.emulator} of guest {guest.name}", f"{name} does not have it: the definition there gets {changed.emulator}")  # fmt: skip
    if changed.machine:
        yield warning("machine-adapted", f"machine type {guest.machine} of guest {guest.name}", f"{name} does not have it: the definition there gets {changed.machine}, a slightly different virtual hardware",
                      "most systems do not mind; one that does (licences, device names) needs a host with that type: the way back is open until the links are up")  # fmt: skip
    if changed.cpu:
        yield warning("cpu-adapted", f"CPU of guest {guest.name}", f"it gets {changed.cpu} instead of its own (--cpu)",
                      "a CPU that the destination cannot give is noticed at the start, and the move is put back")  # fmt: skip


def _state(site: Site, options: Options) -> Iterator[Finding]:
    guest, what = site.guest, f"guest {site.guest.name}"
    if not guest.persistent:
        yield blocker("transient-cold", what, "it is transient: once it is stopped, its host knows nothing of it any more",
                      f"keep its definition first: virsh dumpxml {guest.name} >guest.xml; virsh define guest.xml; or move it live")  # fmt: skip
    if guest.state in (State.PAUSED, State.SUSPENDED) and not options.force_off:
        yield blocker("cannot-answer", what, f"it is {guest.state}, so it cannot shut down when it is asked to",
                      f"virsh resume {guest.name} (virsh dompmwakeup, if it sleeps); or --force-off switches it off as it stands")  # fmt: skip
    if guest.state in (State.CRASHED, State.SHUTTING_DOWN, State.UNKNOWN):
        yield blocker("cannot-answer", what, f"it is {guest.state}", f"virsh destroy {guest.name} once you know why, then move it shut off")  # fmt: skip
    if options.force_off and not guest.off:
        yield warning("may-be-forced-off", what, "if it does not shut down in time it is switched off (--force-off): what it has not written yet is lost, and its file systems are not clean",
                      f"a longer --stop-timeout makes that less likely; afterwards they are looked through if {site.source.host.name} has guestfish (apt install libguestfs-tools)")  # fmt: skip


def _disks(site: Site, options: Options) -> Iterator[Finding]:
    for disk in site.guest.disks:
        if not disk.source or disk.read_only:
            continue
        what = f"disk {disk.target} ({disk.source}) of guest {site.guest.name}"
        if not can_be_held(disk):
            yield warning("not-held", what, f"it cannot be held at {site.source.host.name} ({'shareable' if disk.shareable else disk.kind}): nothing but its definition keeps the guest from being started there while it moves",
                          "start nothing by hand until the move has ended")  # fmt: skip


def _left_behind(site: Site, options: Options) -> Iterator[Finding]:
    """What libvirt keeps beside the definition, at the source only."""
    guest, what = site.guest, f"guest {site.guest.name}"
    for file, why in snapshots.obstacles(site, options):
        yield blocker("snapshots-stay", f"{file.source} of snapshot {file.snapshot} of guest {guest.name}", why,
                      f"virsh snapshot-delete {guest.name} {file.snapshot} merges it; with --metadata its files stay, and libvirt forgets it")  # fmt: skip
    if guest.snapshots:
        beside = f", {len(files)} files beside them too" if (files := snapshots.along(site, options)) else ""
        yield note("snapshots-along", what, f"its snapshots ({', '.join(guest.snapshots)}) move along: the files of its qcow2 images are copied as they are, without conversion{beside}")  # fmt: skip
        for disk in disks.to_copy(site, options):
            if disk.backing and not disks.keeps_chain(guest, options):
                yield blocker("snapshots-stay", f"disk {disk.target} ({disk.source}) of guest {guest.name}", "it has snapshots inside and layers below: neither its content nor its file alone is all of it",
                              f"--chain keep copies all of its files; or flatten it: virsh blockpull {guest.name} {disk.target} --wait")  # fmt: skip
    if guest.checkpoints:
        yield note("checkpoints-left", what, f"its checkpoints ({', '.join(guest.checkpoints)}) stay behind: the next backup at the destination is a full one",
                   "make the incremental backup that is due before the move")  # fmt: skip
    if guest.managed_save and guest.off:
        yield note("saved-memory", what, "it was put to sleep with its memory saved: that moves along, and it wakes up at the destination when it is started",
                   "it stays asleep in the move: start it when you are ready")  # fmt: skip
    yield from bound_to_the_source(site)


def _links(site: Site) -> Iterator[Finding]:
    if site.guest.off:
        return
    for interface in site.guest.interfaces:
        if interface.kind in ("hostdev", "vdpa", "vhostuser"):
            yield warning("link-without-switch", f"interface {interface.mac} of guest {site.guest.name}", f"it is of kind {interface.kind}, whose link cannot be taken down: it is seen as soon as the guest starts at {site.destination.host.name}",
                          "a move that fails after that may have been seen by clients")  # fmt: skip
