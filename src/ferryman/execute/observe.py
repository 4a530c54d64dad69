"""Observing the site for one request: the guest, both hosts, and what is between them."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ferryman.execute.mark import is_over
from ferryman.model.guest import Guest
from ferryman.model.plan import Method
from ferryman.model.request import Options
from ferryman.model.site import KeptMove, Site
from ferryman.plan.ahead import scratch_directory
from ferryman.ports import Ports


def observe(ports: Ports, guest: str, source: str, destination: str, options: Options) -> Site:
    """Look at the guest, both hosts and what is between them. Changes nothing that stays.

    One that will be stopped counts as it is defined: that is what starts at the destination.
    """
    here, there = ports.hypervisor(source), ports.hypervisor(destination)
    found = here.guest(guest, as_defined=options.stops)
    with ThreadPoolExecutor() as pool:  # each look waits for a network, none for another
        looks: dict[str, Future[Any]] = {
            "source": pool.submit(here.facts),
            "destination": pool.submit(there.facts),
            "machine": pool.submit(there.machine, found),
            "cpu": pool.submit(there.compare_cpu, found),
            "ground": pool.submit(ports.between.look, found, here, there),
        }
        seen: dict[str, Any] = {name: look.result() for name, look in looks.items()}
    return Site(
        guest=found,
        **seen,
        observed_at=ports.clock.now(),
        mark_is_over=is_over(ports.records, found.mark),
        scratch={one: here.room(one) for one in _scratch_directories(found, options)},
        kept=_kept(ports, found.uuid, source, destination) if options.rollback_loses_writes else None,
    )


def _scratch_directories(guest: Guest, options: Options) -> set[str]:
    if not options.warm or guest.off:
        return set()
    return {scratch_directory(disk, options) for disk in guest.disks if disk.source and not disk.read_only}


def _kept(ports: Ports, uuid: str, source: str, destination: str) -> KeptMove | None:
    """The guest's last move that came past its point of no return, if it was a cold one from there to here."""
    records = ports.records
    last = next(
        (
            one
            for one in records.requests(limit=10_000)
            if one.guest_uuid == uuid and records.asked_at(one.id) is not None
        ),
        None,
    )
    if last is None or (last.source, last.destination) != (destination, source):
        return None
    facts = records.facts(last.id)
    if not Method(facts["plan"]["method"]).stops or facts["plan"].get("take_back"):
        return None
    there = ports.hypervisor(destination)
    images = [disk["source"] for disk in facts["plan"]["new_disks"]]
    since = facts.get("opened_at") or records.asked_at(last.id) or last.asked_at
    return KeptMove(last.id, since, tuple(path for path in images if there.allocation(path) is None))
