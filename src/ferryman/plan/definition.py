"""The steps of moving a shut-off guest whose disks are shared: its definition goes over, and nothing else but its variable store.

The workflow in execute/definition.py carries out exactly these.
"""

from ferryman.model.plan import Method, Plan, Step
from ferryman.model.request import Handshake, Options
from ferryman.model.site import Site
from ferryman.plan import disks


def definition_plan(site: Site, options: Options) -> Plan:
    """What will be done. The point of no return is the removal of the source's definition."""
    guest, source, destination = site.guest, site.source.host.name, site.destination.host.name
    nvram = disks.local_nvram(site)
    steps = [
        Step("save-definition", f"keep the definition and autostart mark found at {source} in the records", ""),
        Step("mark", f"mark the definition at {source} as being moved, for other operators", "remove the mark"),
    ]
    if options.replace_definition:
        steps.append(
            Step(
                "replace-definition",
                f"save and remove the inactive definition of the same UUID at {destination}",
                f"define it again at {destination}",
            )
        )
    if guest.autostart:
        steps.append(
            Step("autostart-off", f"switch autostart off at {source}", f"switch autostart on again at {source}")
        )
    if nvram:
        steps.append(
            Step(
                "copy-nvram",
                f"copy the firmware's variables ({nvram}) to {destination}, and read them back",
                f"remove the copy, or put back what {destination} had there",
            )
        )
    steps += [
        Step("define-destination", f"define the guest at {destination}, shut off", f"remove that definition at {destination}"),
        Step("settle", "ask both hosts what they have of the guest, and let that pair decide: forward or back", ""),
        Step("undefine-source", f"remove the definition at {source}; disks and variables stay where they are", "", True),
    ]  # fmt: skip
    if guest.autostart:
        steps.append(Step("autostart-on", f"switch autostart on at {destination}", "", True))
    steps.append(Step("verify", f"look that {destination} has the guest and {source} has it no more", "", True))
    return Plan(
        method=Method.DEFINITION,
        guest=guest.name,
        source=source,
        destination=destination,
        steps=tuple(steps),
        peer_uri="",
        migration_uri="",
        encrypted=True,
        persistent=True,
        autostart=guest.autostart,
        handshake=Handshake.CARRIED,  # ferryman does it all itself
        networks=disks.networks(guest, options),
        nvram=nvram,
    )
