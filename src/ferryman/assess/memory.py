"""Is there memory for the guest at the destination, now and when every guest there uses what it may?"""

from collections.abc import Iterator

from ferryman.model.finding import Finding, blocker, warning
from ferryman.model.guest import State
from ferryman.model.site import Site
from ferryman.model.units import MIB, format_size

# What QEMU needs beside the guest's memory: its own code and buffers, video, device state. An allowance, not a measurement.
OVERHEAD = 256 * MIB
TIGHT = 1.1  # a destination with less than this many times the need is called tight


def findings(site: Site) -> Iterator[Finding]:
    """Huge pages for a guest that needs them, plain memory otherwise, and overcommitment."""
    guest, destination = site.guest, site.destination
    name = destination.host.name
    if guest.hugepage_size:
        yield from _hugepages(site)
        return
    if destination.memory_free < guest.memory_used + OVERHEAD:
        yield blocker("memory-room", f"memory of {name}", f"{format_size(destination.memory_free)} free; the guest uses {format_size(guest.memory_used)} now, plus {format_size(OVERHEAD)} for QEMU",
                      "free memory there, or choose another host")  # fmt: skip
        return
    if destination.memory_free < (guest.memory + OVERHEAD) * TIGHT:
        yield warning("memory-tight", f"memory of {name}", f"{format_size(destination.memory_free)} free for a guest that may grow to {format_size(guest.memory)}",
                      "free memory there, or watch it")  # fmt: skip
    running = [other for other in destination.guests if other.state not in (State.SHUT_OFF, State.CRASHED)]
    promised = guest.memory + sum(other.memory_configured for other in running)
    if promised > destination.memory_total:
        yield warning("memory-overcommitted", f"memory of {name}", f"its {len(running)} active guests and this one may use {format_size(promised)}, it has {format_size(destination.memory_total)}",
                      "if all use what they may, the host swaps or kills one: choose another host")  # fmt: skip


def _hugepages(site: Site) -> Iterator[Finding]:
    guest, destination = site.guest, site.destination
    name, free = destination.host.name, destination.hugepages_free
    size = guest.hugepage_size if guest.hugepage_size > 1 else min(free, default=0)
    if size not in free:
        yield warning("hugepages-unknown", f"huge pages of {name}", "not checked, because the host does not say how many are free",
                      f"look at {name}: grep Huge /proc/meminfo")  # fmt: skip
        return
    needed = -(-guest.memory // size)
    if free[size] < needed:
        yield blocker("hugepages-room", f"huge pages of {name}", f"{free[size]} of {format_size(size)} are free, the guest needs {needed}",
                      f"raise vm.nr_hugepages there by {needed - free[size]}")  # fmt: skip
