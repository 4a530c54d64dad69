"""Can the destination's CPU be the guest's CPU? libvirt's own comparison decides."""

from collections.abc import Iterator, Mapping

from ferryman.model.cpu import Cpu, HostLoss
from ferryman.model.finding import Finding, blocker, warning
from ferryman.model.site import CpuMatch, Site


def findings(site: Site) -> Iterator[Finding]:
    """Missing features, and CPUs that cannot be compared."""
    guest, destination = site.guest, site.destination.host.name
    what = f"CPU of guest {guest.name}"
    if site.cpu.match is CpuMatch.INCOMPATIBLE:
        lacking = ", ".join(site.cpu.missing) or site.cpu.detail
        yield blocker("cpu-incompatible", what, f"{destination} lacks: {lacking}",
                      f"give the guest a CPU model that both hosts have (ferryman cpu baseline {site.source.host.name} {destination}): virsh edit {guest.name}, shut it down and start it")  # fmt: skip
    elif guest.cpu_mode in ("host-passthrough", "maximum"):
        yield warning("cpu-passthrough", what, f"it is {guest.cpu_mode}: it sees all of the source's CPU, and libvirt cannot compare that",
                      "move only between equal CPUs and microcode, or use a named CPU model")  # fmt: skip
    elif site.cpu.match is CpuMatch.UNKNOWN and guest.cpu_xml:
        yield warning("cpu-not-compared", what, f"not compared with {destination}'s, because {site.cpu.detail}",
                      f"compare the hosts yourself: ferryman cpu baseline {site.source.host.name} {destination}")  # fmt: skip


def losses(offers: Mapping[str, Cpu], common: Cpu) -> tuple[HostLoss, ...]:
    """What each host (by name) would not show to a guest that has the common CPU."""
    return tuple(
        HostLoss(host, offer.model, tuple(sorted(set(offer.features) - set(common.features))))
        for host, offer in offers.items()
    )
