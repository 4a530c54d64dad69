"""The steps of moving a shut-off guest whose disks are shared: its definition goes over, and nothing else but its variable store.

The workflow in execute/definition.py carries out exactly these.
"""

from ferryman.model.plan import Method, Plan, Step
from ferryman.model.request import Handshake, Options
from ferryman.model.site import Site
from ferryman.plan import disks, parts


def definition_plan(site: Site, options: Options) -> Plan:
    """What will be done. The point of no return is the removal of the source's definition."""
    guest, source, destination = site.guest, site.source.host.name, site.destination.host.name
    nvram = disks.local_nvram(site)
    steps = parts.first_steps(site, options, mark=f"the definition at {source}")
    steps += parts.replace_definition(destination, options)
    if guest.autostart:
        steps.append(parts.autostart_off(source))
    if nvram:
        steps.append(parts.copy_nvram(nvram, destination))
    steps += [
        Step("define-destination", f"define the guest at {destination}, shut off", f"remove that definition at {destination}"),
        Step("settle", "ask both hosts what they have of the guest, and let that pair decide: forward or back", ""),
        Step("undefine-source", f"remove the definition at {source}; disks and variables stay where they are", "", True),
    ]  # fmt: skip
    if guest.autostart:
        steps.append(parts.autostart_on(destination))
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
