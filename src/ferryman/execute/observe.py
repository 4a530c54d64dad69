"""Observing the site for one request: the guest, both hosts, and what is between them."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ferryman.errors import DriverError
from ferryman.execute import rates
from ferryman.execute.mark import is_over
from ferryman.model.guest import Disk, Guest
from ferryman.model.phase import Phase
from ferryman.model.plan import Method, Plan
from ferryman.model.request import Options
from ferryman.model.site import KeptMove, Site
from ferryman.plain import from_plain
from ferryman.plan.ahead import scratch_directory
from ferryman.plan.disks import COPYABLE
from ferryman.ports import Hypervisor, Ports


def observe(ports: Ports, guest: str, source: str, destination: str, options: Options) -> Site:
    """Look at the guest, both hosts and what is between them. Changes nothing that stays.

    One that will be stopped counts as it is defined: that is what starts at the destination.
    """
    here, there = ports.hypervisor(source), ports.hypervisor(destination)
    found = here.guest(guest, as_defined=options.stops)
    if options.warm:
        found = with_versions(here, found)
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
        scratch_beside=_scratch_beside(ports, guest, source) if options.warm else {},
        read_again=rates.read_again(ports.records, source, destination) if options.warm else None,
        kept=_kept(ports, found.uuid, source, destination) if options.rollback_loses_writes else None,
    )


def with_versions(host: Hypervisor, guest: Guest) -> Guest:
    """The guest, with its qcow2 images known that are too old to remember what is written to them."""

    def seen(disk: Disk) -> Disk:
        if disk.format != "qcow2" or disk.read_only or disk.encrypted or disk.kind not in COPYABLE or not disk.source:
            return disk
        with suppress(DriverError):  # a host that lets nobody in, or an image that is away, is found by others
            return replace(disk, old=host.is_old(disk.source))
        return disk

    return replace(guest, disks=tuple(seen(disk) for disk in guest.disks))


def _scratch_directories(guest: Guest, options: Options) -> set[str]:
    if not options.warm or guest.off:
        return set()
    return {scratch_directory(disk, options) for disk in guest.disks if disk.source and not disk.read_only}


def _scratch_beside(ports: Ports, guest: str, source: str) -> dict[str, int]:
    """By directory: the data of other guests' disks that are copied at this moment, whose scratch files grow there too."""
    records, found = ports.records, dict[str, int]()
    for one in records.requests(limit=1000, open_only=True):
        if one.source != source or one.guest_uuid == guest or records.phase(one.id) is not Phase.COPYING_AHEAD:
            continue
        plan = from_plain(Plan, records.facts(one.id)["plan"])
        data = {disk.target: disk.allocation for disk in plan.new_disks}
        for disk in plan.ahead:
            found[disk.scratch] = found.get(disk.scratch, 0) + data[disk.target]
    return found


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
