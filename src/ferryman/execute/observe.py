"""Observing the site for one request: the guest, both hosts, and what is between them."""

from ferryman.model.site import Site
from ferryman.ports import Ports


def observe(ports: Ports, guest: str, source: str, destination: str) -> Site:
    """Look at the guest, both hosts and what is between them. Changes nothing that stays."""
    here, there = ports.hypervisor(source), ports.hypervisor(destination)
    found = here.guest(guest)
    return Site(
        guest=found,
        source=here.facts(),
        destination=there.facts(),
        machine=there.machine(found),
        cpu=there.compare_cpu(found),
        disks=ports.between.disks(found, here, there),
        transport=ports.between.transport(here, there),
        observed_at=ports.clock.now(),
    )
