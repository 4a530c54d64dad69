"""The steps of a live migration, in order, each with its undo; the workflow in execute/live.py carries out exactly these."""

from ferryman.model.plan import Method, Plan, Step, Travel
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.model.units import format_size
from ferryman.plan import disks
from ferryman.plan.handshake import leader
from ferryman.plan.vouching import vouched


def live_plan(site: Site, options: Options) -> Plan:
    """What will be done to move this guest live between these two hosts."""
    guest, source, destination = site.guest, site.source.host.name, site.destination.host.name
    autostart = guest.persistent and guest.autostart
    steps = [
        Step("save-definition", f"keep the definition and autostart mark found at {source} in the records", ""),
        Step("mark", "mark the guest in its own metadata as being moved, for other operators", "remove the mark"),
    ]
    if options.replace_definition:
        steps.append(
            Step(
                "replace-definition",
                f"save and remove the inactive definition of the same UUID at {destination}",
                f"define it again at {destination}",
            )
        )
    media, new = disks.ejected(site, options), disks.new_disks(site, options)
    if media:
        drives = ", ".join(disk.target for disk in media)
        steps.append(Step("eject-media", f"take the media out of {drives}", f"put them back into {drives}"))
    for disk in new:
        how = "carry its content over" if disk.travel is Travel.MEDIUM else "QEMU copies it along"
        steps.append(
            Step(
                "make-volumes",
                f"make a volume {disk.name} in pool {disk.pool} at {destination} for {disk.target} ({disk.format}, {format_size(disk.capacity)}); {how}",
                "remove it again",
            )
        )
    if autostart:
        steps.append(
            Step("autostart-off", f"switch autostart off at {source}", f"switch autostart on again at {source}")
        )
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
        steps.append(Step("autostart-on", f"switch autostart on at {destination}", "", True))
    nvram = disks.local_nvram(site)
    if new or nvram:
        steps.append(Step("note-left", f"name the files that stay at {source}; disks until: ferryman retire", "", True))
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
    "autostart-off",
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
    "settle",
    "enter-completing",
    "destroy-husk",
    "undefine-source",
    "keep-definition",
    "open",
    "autostart-on",
    "release",
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
    "report",
)
