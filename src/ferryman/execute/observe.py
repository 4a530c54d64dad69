"""Observing the site for one request: the guest, both hosts, and what is between them."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ferryman.execute.mark import is_over
from ferryman.model.site import Site
from ferryman.ports import Ports


def observe(ports: Ports, guest: str, source: str, destination: str) -> Site:
    """Look at the guest, both hosts and what is between them. Changes nothing that stays."""
    here, there = ports.hypervisor(source), ports.hypervisor(destination)
    found = here.guest(guest)
    with ThreadPoolExecutor() as pool:  # each look waits for a network, none for another
        looks: dict[str, Future[Any]] = {
            "source": pool.submit(here.facts),
            "destination": pool.submit(there.facts),
            "machine": pool.submit(there.machine, found),
            "cpu": pool.submit(there.compare_cpu, found),
            "ground": pool.submit(ports.between.look, found, here, there),
        }
        seen: dict[str, Any] = {name: look.result() for name, look in looks.items()}
    return Site(guest=found, **seen, observed_at=ports.clock.now(), mark_is_over=is_over(ports.records, found.mark))
