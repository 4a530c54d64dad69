"""May the guest be moved stopped? What speaks against it, what it risks, and what cannot be held or proved."""

from collections.abc import Iterable, Iterator

from ferryman.assess import copies
from ferryman.assess.definition import ALSO, bound_to_the_source
from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.guest import Disk, State
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
        "copy-impossible",
        "disk-copied",
        "format-changed",
        "not-converted",
        "chain-flattened",
        "chain-kept",
        "copied-shareable",
        "copied-sliced",
        "disk-not-shared",
        "medium-ejected",
        "being-moved",
        "mark-stale",
        "mark-left",
        "tpm-missing",
        "tpm",
    )
)
# Saved memory is a migration that waits: what a live move needs of the two hosts, it needs too.
_OF_MEMORY = frozenset(("version-pair", "version-backwards", "cpu-incompatible", "cpu-passthrough", "cpu-not-compared"))
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
    asleep = site.guest.off and site.guest.managed_save
    wanted = (
        ALSO
        | also
        | (frozenset() if site.guest.off else _AND_WHERE_IT_STARTS)
        | (_OF_MEMORY if asleep else frozenset())
    )
    changed = adaption(site, options)
    yield from (finding for finding in found if finding.code in wanted - _mended(changed))
    yield from _adaptions(site, changed)
    if (
        site.guest.cpu_mode == "custom" and not options.cpu and not asleep
    ):  # another mode is made anew where the guest starts
        yield from (finding for finding in found if finding.code == "cpu-incompatible")
    yield from _state(site, options)
    yield from _unlike(site)
    yield from _disks(site, options)
    yield from copies.findings(site, options)
    if options.checks and site.guest.off:
        yield warning("checks-not-asked", f"checks of guest {site.guest.name}", "it is off and stays off, so what was named is not asked", "start it there, then ask")  # fmt: skip
    if options.rollback_loses_writes:
        yield from _way_back(site)
        yield from _snapshots_stay(site)
        return
    yield from _left_behind(site, options, changed)
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
    if changed.watchdog:
        yield note("watchdog-left", f"watchdog {changed.watchdog} of guest {guest.name}", f"libvirt gave it one by itself, and {name}'s libvirt does not know that model: the definition there has none",
                   f"if its system feeds it (ls -l /dev/watchdog, in the guest), give it one that both hosts know before: <watchdog model='i6300esb' action='reset'/> by virsh edit {guest.name}")  # fmt: skip


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


def _unlike(site: Site) -> Iterator[Finding]:
    """What starts at the destination is the definition: what was plugged in or changed live ends with the stop, there and here."""
    guest, at = site.guest, site.source.host.name
    for one in guest.unlike:
        what = f"{one.kind} {one.name} of guest {guest.name}"
        match one.kind, one.live, one.defined:
            case "disk", live, "":
                yield warning("live-only", what, f"{live} was plugged in live only: it is not copied and stays at {at}, and the guest is without it from the stop on, also if it is put back",
                              f"to take it along: virsh attach-disk {guest.name} {live} {one.name} --config, with the options of virsh dumpxml {guest.name}")  # fmt: skip
            case "disk", live, defined if live:
                yield blocker("defined-otherwise", what, f"it runs on {live}, and its definition names {defined}: it would start with that, without what was written to {live}",
                              f"make the definition name what it runs on (virsh edit {guest.name}); or, if {defined} is the right one, shut the guest down and start it")  # fmt: skip
            case "medium", live, defined if live:
                yield note(
                    "live-only", what, f"{live} was put in live only: at its next start it has {defined or 'none'}"
                )
            case _, _, "":
                yield warning("live-only", what, f"it was plugged in live only ({one.live}): it does not come along, and the guest is without it from the stop on, also if it is put back",
                              f"to take it along: virsh attach-device {guest.name} FILE --config, FILE being its element in virsh dumpxml {guest.name}")  # fmt: skip
            case _:
                yield note(
                    "defined-only",
                    what,
                    f"it is in the definition only ({one.defined}), and comes along: the guest has it from its next start on",
                )


def _disks(site: Site, options: Options) -> Iterator[Finding]:
    for disk in site.guest.disks:
        if not disk.source or disk.read_only:
            continue
        what = f"disk {disk.target} ({disk.source}) of guest {site.guest.name}"
        if not can_be_held(disk):
            yield warning("not-held", what, f"it cannot be held at {site.source.host.name} ({'shareable' if disk.shareable else disk.kind}): nothing but its definition keeps the guest from being started there while it moves",
                          "start nothing by hand until the move has ended")  # fmt: skip
    for disk in disks.to_copy(site, options):
        if not disk.capacity:
            yield blocker("size-unknown", f"disk {disk.target} ({disk.source}) of guest {site.guest.name}", f"libvirt at {site.source.host.name} does not find it, or does not say how large it is, and it is to be copied",
                          "look whether it is there; a device is seen in a pool of its kind (virsh pool-define-as); or take the disk out of the definition: virsh edit")  # fmt: skip
        if disk.encrypted:
            yield from _encrypted(site, disk)


def _encrypted(site: Site, disk: Disk) -> Iterator[Finding]:
    what = f"disk {disk.target} ({disk.source}) of guest {site.guest.name}"
    if disk.backing:
        yield blocker("encrypted-layers", what, "it is encrypted and has layers below: its file alone is not all of it, and without its secret nobody can join them",
                      f"flatten it: virsh blockpull {site.guest.name} {disk.target} --wait, while the guest runs")  # fmt: skip
    else:
        yield note("encrypted-copied", what, "it is encrypted: its file is copied as it is, byte for byte and without conversion, and nobody opens it",
                   f"{site.destination.host.name} needs the same secret under the same name (secret-named)")  # fmt: skip


def _snapshots_stay(site: Site) -> Iterator[Finding]:
    """On the way back it gets its old definition and disks: what was made since belongs to the newer ones."""
    guest, what = site.guest, f"guest {site.guest.name}"
    if guest.snapshots:
        yield blocker("snapshots-stay", what, f"its snapshots ({', '.join(guest.snapshots)}) are of the disks that it has now, and it gets older ones",
                      f"virsh snapshot-delete {guest.name} NAME, or leave --rollback-loses-writes away: they come along then")  # fmt: skip
    if guest.managed_save and guest.off:
        yield blocker("state-stays", what, "its saved memory is of the disks that it has now, and it gets older ones", f"virsh managedsave-remove {guest.name}, or leave --rollback-loses-writes away")  # fmt: skip


def _woken_elsewhere(site: Site, changed: Adaption) -> Iterator[Finding]:
    if changed != Adaption():
        yield blocker("saved-memory-adapted", f"guest {site.guest.name}", "its memory was saved on another machine than the one that it would get (emulator, machine type, watchdog or --cpu)",
                      f"wake it up and shut it down first, or give the memory up: virsh managedsave-remove {site.guest.name}")  # fmt: skip


def _left_behind(site: Site, options: Options, changed: Adaption) -> Iterator[Finding]:
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
        yield from _woken_elsewhere(site, changed)
        yield note("saved-memory", what, "it was put to sleep with its memory saved: that moves along, and it wakes up at the destination when it is started",
                   "it stays asleep in the move: start it when you are ready")  # fmt: skip
    yield from bound_to_the_source(site)


def _links(site: Site) -> Iterator[Finding]:
    if site.guest.off:
        return
    for interface in site.guest.interfaces:
        if (
            interface.network_mode == "hostdev"
        ):  # one that is passed through by its own definition is a host device, which stays
            yield warning("link-without-switch", f"interface {interface.mac} of guest {site.guest.name}", f"its network passes a device through, whose link cannot be taken down: it is seen as soon as the guest starts at {site.destination.host.name}",
                          "a move that fails after that may have been seen by clients")  # fmt: skip
