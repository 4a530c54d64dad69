"""Can the destination be the guest's machine: type, versions, devices, memory, vCPUs?"""

from collections.abc import Iterator
from dataclasses import dataclass

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.site import Site
from ferryman.model.units import MIB, format_size

# What QEMU needs beside the guest's memory: its own code and buffers, video, device state. An allowance, not a measurement.
OVERHEAD = 256 * MIB
TIGHT = 1.1  # a destination with less than this many times the need is called tight


@dataclass(frozen=True)
class KnownBadPair:
    """A pair of versions whose live migration is known to fail, seen by us or said by the project."""

    source_qemu: tuple[int, int]  # at least
    destination_qemu_below: tuple[int, int]
    why: str


VERSIONS = (KnownBadPair((10, 0), (2, 12), "QEMU before 2.12 cannot read the device state of today's machine types"),)


def findings(site: Site) -> Iterator[Finding]:
    """Machine type, version direction, devices, memory, vCPUs."""
    yield from _machine(site)
    yield from _versions(site)
    yield from _devices(site)
    yield from _memory(site)


def _machine(site: Site) -> Iterator[Finding]:
    guest, destination = site.guest, site.destination
    name = destination.host.name
    if guest.architecture != destination.architecture and guest.virtualization == "kvm":
        yield blocker("architecture", f"guest {guest.name}", f"it is {guest.architecture}, {name} is {destination.architecture}",
                      "choose a host of the guest's architecture")  # fmt: skip
    elif not site.machine.available:
        yield blocker("machine-type", f"machine type {guest.machine} at {name}", site.machine.why_not or "its emulator does not know it",
                      "choose a host with the same or a newer QEMU, or give the guest an older machine type and restart it")  # fmt: skip


def _versions(site: Site) -> Iterator[Finding]:
    ours, theirs = site.source.qemu_version, site.destination.qemu_version
    text = f"QEMU {_dotted(ours)} to {_dotted(theirs)}"
    for pair in VERSIONS:
        if ours[:2] >= pair.source_qemu and theirs[:2] < pair.destination_qemu_below:
            yield blocker("version-pair", text, pair.why, "upgrade the destination")
            return
    if theirs[:2] < ours[:2]:
        yield warning("version-backwards", text, "from newer to older: works when the machine type is known to both and no newer device state is in use; QEMU does not promise it",
                      "upgrade the destination, or try with a guest that may fail")  # fmt: skip


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


def _devices(site: Site) -> Iterator[Finding]:
    guest = site.guest
    for device in guest.host_devices:
        yield blocker("host-device", f"{device.kind} {device.name} of guest {guest.name}", "it belongs to the source host and cannot travel with a running guest",
                      f"virsh detach-device {guest.name} FILE before the move, or move the guest cold")  # fmt: skip
    if guest.tpm and guest.tpm != "emulator":
        yield blocker("tpm-device", f"TPM of guest {guest.name}", f"its backend is {guest.tpm}: the chip stays with the source host",
                      "use an emulated TPM")  # fmt: skip
    elif guest.tpm:
        yield note("tpm", f"TPM of guest {guest.name}", "its state travels with the guest", "")


def _memory(site: Site) -> Iterator[Finding]:
    guest, destination = site.guest, site.destination
    name = destination.host.name
    if guest.hugepage_size:
        yield from _hugepages(site)
    else:
        need = guest.memory + OVERHEAD
        if destination.memory_free < guest.memory_used + OVERHEAD:
            yield blocker("memory-room", f"memory of {name}", f"{format_size(destination.memory_free)} free; the guest uses {format_size(guest.memory_used)} now, plus {format_size(OVERHEAD)} for QEMU",
                          "free memory there, or choose another host")  # fmt: skip
        elif destination.memory_free < need * TIGHT:
            yield warning("memory-tight", f"memory of {name}", f"{format_size(destination.memory_free)} free for a guest that may grow to {format_size(guest.memory)}",
                          "free memory there, or watch it")  # fmt: skip
    if guest.vcpus > destination.cpus:
        yield warning("vcpus", f"vCPUs of guest {guest.name}", f"it has {guest.vcpus}, {name} has {destination.cpus} CPUs",
                      "expect it to be slower there, or choose a larger host")  # fmt: skip


def _hugepages(site: Site) -> Iterator[Finding]:
    guest, destination = site.guest, site.destination
    name, free = destination.host.name, destination.hugepages_free
    size = guest.hugepage_size if guest.hugepage_size > 1 else min(free, default=0)
    if size not in free:
        yield warning("hugepages-unknown", f"huge pages of {name}", "not checked, because the host does not say how many are free",
                      "look at /proc/meminfo there")  # fmt: skip
        return
    needed = -(-guest.memory // size)
    if free[size] < needed:
        yield blocker("hugepages-room", f"huge pages of {name}", f"{free[size]} of {format_size(size)} are free, the guest needs {needed}",
                      f"raise vm.nr_hugepages there by {needed - free[size]}")  # fmt: skip
