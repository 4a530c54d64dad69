"""Is the guest in a state to be moved, and is there a place for its name, UUID and addresses at the destination?"""

from collections.abc import Iterator

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.guest import State
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.model.units import format_moment

# What each state that is not "running" means for a live move, and what to do.
_NOT_RUNNING: dict[State, tuple[str, str]] = {
    State.PAUSED: ("it is paused: a live move keeps a running guest running", "virsh resume {guest}"),
    State.SHUTTING_DOWN: ("it is shutting down", "wait until it is shut off, then start it again or move it shut off"),
    State.CRASHED: ("it has crashed", "virsh start {guest} once you know why"),
    State.SUSPENDED: ("it sleeps (suspended by its own power management)", "virsh dompmwakeup {guest}"),
    State.UNKNOWN: ("libvirt does not say what it is doing", "virsh domstate {guest} --reason"),
}


def findings(site: Site, options: Options) -> Iterator[Finding]:
    """State, jobs, snapshots, another's mark, and clashes at the destination."""
    yield from _of_the_guest(site)
    yield from _mark(site)
    yield from _at_the_destination(site, options)


def _of_the_guest(site: Site) -> Iterator[Finding]:
    guest = site.guest
    what = f"guest {guest.name}"
    if site.source.host.name == site.destination.host.name or site.source.uuid == site.destination.uuid != "":
        yield blocker("same-host", what, f"source and destination are one host ({site.source.hostname})",
                      "name another host with --to")  # fmt: skip
    if guest.state in _NOT_RUNNING:
        why, remedy = _NOT_RUNNING[guest.state]
        yield blocker("not-running", what, why, remedy.format(guest=guest.name))
    for job in guest.jobs:
        yield blocker("job-running", what, f"a job runs on it: {job.kind} {job.detail}".rstrip(),
                      f"wait for its end: virsh domjobinfo {guest.name}")  # fmt: skip
    if guest.snapshots:
        yield blocker("snapshots", what, f"it has snapshots ({', '.join(guest.snapshots)}): libvirt refuses to move such a guest live",
                      f"--cold takes them along; or virsh snapshot-delete {guest.name} NAME, with --metadata to keep their data in the image")  # fmt: skip
    if guest.checkpoints:
        yield warning("checkpoints", what, f"its checkpoints ({', '.join(guest.checkpoints)}) vanish with the move: the next backup at the destination is a full one",
                      "make the incremental backup that is due before the move")  # fmt: skip
    if guest.managed_save:
        yield note("managed-save", what, "a managed-save image of an earlier state exists at the source; it does not travel",
                   f"virsh managedsave-remove {guest.name}")  # fmt: skip
    if not guest.persistent:
        yield note(
            "transient",
            what,
            "it is transient, and will be at the destination",
            "to keep it, define it there after the move: virsh dumpxml GUEST >guest.xml; virsh define guest.xml",
        )


def _mark(site: Site) -> Iterator[Finding]:
    """In the guest's own metadata, because another operator's ferryman has other records."""
    guest, mark = site.guest, site.guest.mark
    if mark is None:
        return
    what, told = f"guest {guest.name}", f"request {mark.request} of {mark.by} since {format_moment(mark.since)}"
    if site.mark_is_over:
        yield note("mark-left", what, f"it still bears the mark of {told}, which has ended: it is replaced")
    elif site.observed_at > mark.until and not guest.jobs:
        yield blocker("mark-stale", what, f"it is marked as being moved by {told}: that should have ended by {format_moment(mark.until)}",
                      f"if that move is over: ferryman unmark {guest.name}; otherwise ferryman recover, where it was asked for")  # fmt: skip
    else:
        yield blocker("being-moved", what, f"it is being moved by {told}",
                      f"wait, or speak to {mark.by}; if their ferryman is gone for good: ferryman unmark {guest.name} --force")  # fmt: skip


def _at_the_destination(site: Site, options: Options) -> Iterator[Finding]:
    guest, destination = site.guest, site.destination
    name = destination.host.name
    for other in destination.guests:
        active = other.state not in (State.SHUT_OFF, State.CRASHED)
        if other.uuid == guest.uuid:
            if active:
                yield blocker("active-at-destination", f"guest {guest.name} at {name}", f"a guest of the same UUID is {other.state} there",
                              f"find out which copy is right, and destroy the other at its host: virsh destroy {guest.name}")  # fmt: skip
            elif not options.replace_definition:
                yield blocker("defined-at-destination", f"guest {guest.name} at {name}", "an inactive definition of the same UUID is there",
                              "add --replace-definition: it is saved in the records and replaced; or virsh undefine it there")  # fmt: skip
            else:
                yield note(
                    "definition-replaced",
                    f"guest {guest.name} at {name}",
                    "an inactive definition of the same UUID will be saved and replaced",
                )
            continue
        if other.name == guest.name:
            yield blocker("name-taken", f"name {guest.name} at {name}", f"another guest (UUID {other.uuid}) has it there",
                          f"rename one of them while it is shut off: virsh domrename {guest.name} NEW-NAME")  # fmt: skip
        shared = sorted(set(other.macs) & {interface.mac for interface in guest.interfaces if interface.mac})
        if shared:
            yield blocker("mac-taken", f"MAC {', '.join(shared)} at {name}", f"guest {other.name} has it there",
                          f"give one of them another MAC: virsh edit {other.name}")  # fmt: skip
