"""The steps of a live migration, in order, each with its undo; the workflow in execute/live.py carries out exactly these."""

from ferryman.model.plan import Method, Plan, Step, Travel
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.plan import disks, parts
from ferryman.plan.handshake import leader
from ferryman.plan.vouching import vouched


def live_plan(site: Site, options: Options) -> Plan:
    """What will be done to move this guest live between these two hosts."""
    guest, source, destination = site.guest, site.source.host.name, site.destination.host.name
    autostart = guest.persistent and guest.autostart
    media, new = disks.ejected(site, options), disks.new_disks(site, options)
    steps = [
        *parts.first_steps(site, options, mark="the guest in its own metadata"),
        *parts.replace_definition(destination, options),
        *parts.eject_media(media),
    ]
    for disk in new:
        how = "carry its content over" if disk.travel is Travel.MEDIUM else "QEMU copies it along"
        steps.append(parts.volume(disk, destination, how))
    if autostart:
        steps.append(parts.autostart_off(source))
    steps += [
        Step(
            "transfer",
            f"send {'disks, ' if new else ''}memory and device state from {source} to {destination}; the hypervisor switches over",
            f"abort: the guest goes on at {source}, what was made at {destination} is removed",
        ),
        Step("settle", "ask both hosts who runs the guest, and let that pair decide: forward or back", "", True),
    ]
    if guest.persistent:
        steps.append(Step("undefine-source", f"remove the definition at {source} if one is left", "", True))
    if autostart:
        steps.append(parts.autostart_on(destination))
    nvram = disks.local_nvram(site)
    if new or nvram:
        steps.append(parts.note_left(source))
    steps += [
        Step("unmark", "remove the mark from the guest's metadata", "", True),
        Step("announce", "make the network learn the guest's new place", "", True),
        Step("verify", "look from outside whether the guest answers from the destination", "", True),
    ]
    if new and options.retire:
        steps.append(
            Step("retire", f"remove the disks that stay at {source}, once both hosts say who runs the guest", "", True)
        )
    return Plan(
        method=Method.LIVE,
        guest=guest.name,
        source=source,
        destination=destination,
        steps=tuple(steps),
        handshake=leader(site.ground.transport, options.handshake),
        peer_uri=site.ground.transport.peer_uri,
        migration_uri=migration_uri(site),
        encrypted=not options.insecure,
        persistent=guest.persistent,
        autostart=autostart,
        new_disks=new,
        nvram=nvram,
        ejected=tuple(disk.target for disk in media),
        networks=disks.networks(guest, options),
        vouched=tuple(disk.target for disk in vouched(site, options)),
    )


def migration_uri(site: Site) -> str:
    """Where QEMU connects: the destination's migration address, by default the address of its peer URI."""
    address = site.ground.transport.migration_address
    return f"tcp://[{address}]" if ":" in address else f"tcp://{address}"


# The durable steps of the workflow in the order they may run, by their stored names. Tests kill ferryman at each of them,
# and hold this list against what execute/ really runs.
WORKFLOW_STEPS = (
    "wait-to-retry",
    "admit",
    "look-ahead",
    "wait",
    "begin",
    "plan",
    "foresee",
    "watch",
    "save-definition",
    "save-snapshots",
    "mark",
    "replace-definition",
    "eject-media",
    "make-volumes",
    "carry-media",
    "try-definition",
    "free-to-copy",
    "copy-ahead",
    "catch-up",
    "free-to-stop",
    "autostart-off",
    "tell-before-stop",
    "stop",
    "hold",
    "copy-nvram",
    "copy-tpm",
    "copy-saved",
    "copy-disks",
    "define-destination",
    "arrive",
    "leave",
    "start",
    "health",
    "transfer",
    "end-passes",
    "settle",
    "enter-completing",
    "destroy-husk",
    "undefine-source",
    "keep-definition",
    "open",
    "autostart-on",
    "release",
    "forget-passes",
    "note-left",
    "unmark",
    "drop-undo",
    "verify",
    "retire",
    "enter-rolling-back",
    "resume-source",
    "undo",
    "undo-refused",
    "read-facts",
    "retry",
    "tell-end",
    "report",
)
