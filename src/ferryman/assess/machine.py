"""Can the destination be the guest's machine: architecture, emulator, machine type, firmware, files it boots from, vCPUs?"""

from collections.abc import Iterator

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.guest import State
from ferryman.model.site import Site

CROWDED = 4.0  # vCPUs for each CPU above which guests are known to wait for each other; an allowance, not a measurement


def findings(site: Site) -> Iterator[Finding]:
    """Architecture, emulator, machine type, files, vCPUs and their pinning."""
    yield from _machine(site)
    yield from _files(site)
    yield from _vcpus(site)
    yield from _pinning(site)
    for model in site.guest.security_models:
        if site.destination.security_models and model not in site.destination.security_models:
            there = ", ".join(site.destination.security_models)
            yield blocker("seclabel-missing", f"security label of guest {site.guest.name}", f"its definition names {model}, by which {site.destination.host.name} does not label (it has: {there}): it could not start there",
                          f"take that <seclabel> out, and each host uses its own: virsh edit {site.guest.name}; then shut it down and start it")  # fmt: skip


def _machine(site: Site) -> Iterator[Finding]:
    guest, destination = site.guest, site.destination
    name = destination.host.name
    if guest.architecture != destination.architecture and guest.virtualization == "kvm":
        yield blocker("architecture", f"guest {guest.name}", f"it is {guest.architecture}, {name} is {destination.architecture}",
                      "choose a host of the guest's architecture")  # fmt: skip
    elif not site.machine.has_emulator:
        yield blocker("emulator-missing", f"emulator {guest.emulator} of guest {guest.name}", f"{name} does not have it (it has {site.machine.emulator})",
                      f"make that path work at {name}, or change <emulator> (virsh edit {guest.name}), shut the guest down and start it")  # fmt: skip
    elif not site.machine.available:
        yield blocker("machine-type", f"machine type {guest.machine} at {name}", site.machine.why_not or "its emulator does not know it",
                      "choose a host with the same or a newer QEMU, or give the guest an older machine type (virsh edit), shut it down and start it")  # fmt: skip


def _files(site: Site) -> Iterator[Finding]:
    """The firmware and the kernel are opened by the destination's QEMU from its own files."""
    guest, name = site.guest, site.destination.host.name
    lacking = site.ground.lacking
    wanted = [("firmware", guest.loader)] if guest.loader and guest.loader not in site.machine.loaders else []
    wanted += [("boot file", path) for path in guest.boot_files]
    for what, path in wanted:
        if lacking is None:
            yield note("boot-files-not-checked", f"{what} {path} of guest {guest.name}", f"{name} was not visited, or not as somebody who may see it",
                       f"look at {name}: ls -l {path}")  # fmt: skip
        elif path in lacking:
            yield blocker("boot-file-missing", f"{what} {path} of guest {guest.name}", f"{name} does not have it, and its QEMU would not start",
                          f"put the same file there (firmware: apt install ovmf), or copy it from {site.source.host.name}")  # fmt: skip


def _vcpus(site: Site) -> Iterator[Finding]:
    guest, destination = site.guest, site.destination
    name, what = destination.host.name, f"vCPUs of guest {guest.name}"
    if site.machine.max_vcpus and guest.vcpus > site.machine.max_vcpus:
        yield blocker("vcpu-limit", what, f"it has {guest.vcpus}; {name}'s emulator gives {guest.machine} at most {site.machine.max_vcpus}",
                      "choose another host, or give the guest fewer vCPUs, shut it down and start it")  # fmt: skip
        return
    if guest.vcpus > destination.cpus:
        yield warning("vcpus", what, f"it has {guest.vcpus}, {name} has {destination.cpus} CPUs",
                      "expect it to be slower there, or choose a larger host")  # fmt: skip
    running = sum(other.vcpus for other in destination.guests if other.state in (State.RUNNING, State.BLOCKED))
    total = running + guest.vcpus
    if total > CROWDED * destination.cpus:
        yield warning("vcpus-crowded", f"CPUs of {name}", f"its running guests and this one have {total} vCPUs for {destination.cpus} CPUs",
                      "expect them to wait for each other; choose another host")  # fmt: skip
    elif total > destination.cpus >= guest.vcpus:
        yield note("vcpus-overcommitted", f"CPUs of {name}", f"its running guests and this one have {total} vCPUs for {destination.cpus} CPUs")  # fmt: skip


def _pinning(site: Site) -> Iterator[Finding]:
    """Numbers of CPUs and NUMA nodes mean the host: they travel as they are."""
    guest, destination = site.guest, site.destination
    name = destination.host.name
    if destination.cpu_ids and (absent := sorted(set(guest.pinned_cpus) - set(destination.cpu_ids))):
        yield blocker("pinned-cpus", f"pinning of guest {guest.name}", f"it names CPU {_numbers(absent)}, which {name} does not have",
                      f"pin it to CPUs that both hosts have ({_numbers(destination.cpu_ids)}): virsh vcpupin {guest.name} VCPU CPUS --live --config; virsh emulatorpin {guest.name} CPUS --live --config")  # fmt: skip
    if destination.numa_nodes and (absent := sorted(set(guest.numa_nodes) - set(destination.numa_nodes))):
        yield blocker("numa-nodes", f"NUMA binding of guest {guest.name}", f"it names node {_numbers(absent)}, which {name} does not have",
                      f"bind it to nodes that both hosts have ({_numbers(destination.numa_nodes)}): virsh numatune {guest.name} --nodeset NODES --live --config")  # fmt: skip


def _numbers(numbers: list[int] | tuple[int, ...]) -> str:
    """0-3,7 for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
