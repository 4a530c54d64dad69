"""The steps of a live migration, in order, each with its undo; the workflow in execute/live.py carries out exactly these."""

from ferryman.model.plan import Plan, Step
from ferryman.model.request import Options
from ferryman.model.site import Site


def live_plan(site: Site, options: Options) -> Plan:
    """What will be done to move this guest live between these two hosts."""
    guest, source, destination = site.guest, site.source.host.name, site.destination.host.name
    autostart = guest.persistent and guest.autostart
    steps = [
        Step("save-definition", f"keep the definition and autostart mark found at {source} in the records", ""),
    ]
    if options.replace_definition:
        steps.append(
            Step(
                "replace-definition",
                f"save and remove the inactive definition of the same UUID at {destination}",
                f"define it again at {destination}",
            )
        )
    if autostart:
        steps.append(
            Step("autostart-off", f"switch autostart off at {source}", f"switch autostart on again at {source}")
        )
    steps += [
        Step(
            "transfer",
            f"send memory and device state from {source} to {destination}; the hypervisor switches over",
            f"abort: the guest goes on at {source}, what was made at {destination} is removed",
        ),
        Step("settle", "ask both hosts who runs the guest, and let that pair decide: forward or back", "", True),
    ]
    if guest.persistent:
        steps.append(Step("undefine-source", f"remove the definition at {source} if one is left", "", True))
    if autostart:
        steps.append(Step("autostart-on", f"switch autostart on at {destination}", "", True))
    steps += [
        Step("announce", "make the network learn the guest's new place", "", True),
        Step("verify", "look from outside whether the guest answers from the destination", "", True),
    ]
    return Plan(
        method="live",
        guest=guest.name,
        source=source,
        destination=destination,
        steps=tuple(steps),
        peer_uri=site.destination.host.effective_peer_uri,
        migration_uri=migration_uri(site),
        encrypted=not options.insecure,
        persistent=guest.persistent,
        autostart=autostart,
    )


def migration_uri(site: Site) -> str:
    """Where QEMU connects: the destination's migration address, by default the address of its peer URI."""
    address = site.ground.transport.migration_address
    return f"tcp://[{address}]" if ":" in address else f"tcp://{address}"


# The durable steps of the workflow in the order they may run, by their stored names. Tests kill ferryman at each of them,
# and hold this list against what execute/ really runs.
WORKFLOW_STEPS = (
    "admit",
    "plan",
    "watch",
    "save-definition",
    "replace-definition",
    "autostart-off",
    "transfer",
    "settle",
    "enter-completing",
    "destroy-husk",
    "undefine-source",
    "keep-definition",
    "autostart-on",
    "drop-undo",
    "verify",
    "enter-rolling-back",
    "resume-source",
    "undo",
    "undo-refused",
    "read-facts",
    "report",
)
