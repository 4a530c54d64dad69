"""What a host is and has, and what a guest is: looked at in as few round trips as libvirt allows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import libvirt

from ferryman.drivers.libvirt import snapshots, storage, xml
from ferryman.drivers.libvirt.capabilities import cpu_features, emulator_capabilities, host_capabilities
from ferryman.drivers.libvirt.errors import code
from ferryman.drivers.libvirt.jobs import job_of
from ferryman.drivers.libvirt.power import agent_connected
from ferryman.model.cpu import Cpu
from ferryman.model.guest import Disk, Guest, Interface, Job, State
from ferryman.model.host import GuestOnHost, Host, HostFacts, Machine, Network, Pool
from ferryman.model.site import CpuComparison, CpuMatch

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: State.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: State.BLOCKED,
    libvirt.VIR_DOMAIN_PAUSED: State.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: State.SHUTTING_DOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: State.SHUT_OFF,
    libvirt.VIR_DOMAIN_CRASHED: State.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: State.SUSPENDED,
}


def version(number: int) -> tuple[int, int, int]:
    """libvirt writes 11.3.0 as 11003000."""
    return number // 1_000_000, number // 1_000 % 1_000, number % 1_000


def guests(link: libvirt.virConnect) -> tuple[GuestOnHost, ...]:
    """All guests of a host, active and defined, by name."""
    groups = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_BALLOON
    # Without NOWAIT an incoming guest holds the whole answer up until its migration has ended.
    statistics = link.getAllDomainStats(groups, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
    return tuple(
        sorted((_guest_on_host(domain, numbers) for domain, numbers in statistics), key=lambda found: found.name)
    )


def _guest_on_host(domain: libvirt.virDomain, numbers: dict[str, Any]) -> GuestOnHost:
    definition = xml.definition(domain.XMLDesc(0))
    persistent = bool(domain.isPersistent())
    return GuestOnHost(
        uuid=definition.uuid,
        name=definition.name,
        state=_STATES.get(numbers.get("state.state", -1), State.UNKNOWN),
        persistent=persistent,
        autostart=persistent and bool(domain.autostart()),
        macs=tuple(interface.mac for interface in definition.interfaces),
        vcpus=definition.vcpus,
        memory_used=int(numbers.get("balloon.rss", 0)) * 1024,
        memory_configured=definition.memory,
        disks=tuple(storage.located(domain.connect(), disk).source for disk in definition.disks),
        networks=tuple(interface.source for interface in definition.interfaces),
        nvram=definition.nvram,
    )


def host_facts(link: libvirt.virConnect, host: Host) -> HostFacts:
    """Everything observed of a host."""
    memory = link.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0)
    capabilities = host_capabilities(link.getCapabilities())
    return HostFacts(
        host=host,
        hostname=link.getHostname(),
        uuid=capabilities.uuid,
        libvirt_version=version(link.getLibVersion()),
        qemu_version=version(link.getVersion()),
        architecture=link.getInfo()[0],
        cpus=link.getInfo()[2],
        cpu_ids=capabilities.cpu_ids,
        numa_nodes=capabilities.numa_nodes,
        memory_total=memory.get("total", 0) * 1024,
        memory_free=sum(memory.get(kind, 0) for kind in ("free", "buffers", "cached")) * 1024,
        hugepages_free=_hugepages(link),
        pools=tuple(_pool(pool) for pool in link.listAllStoragePools()),
        networks=tuple(_network(network) for network in link.listAllNetworks()),
        guests=guests(link),
        filters=_filters(link),
        security_models=capabilities.security_models,
        secrets=_secrets(link),
    )


def _filters(link: libvirt.virConnect) -> tuple[str, ...] | None:
    try:
        return tuple(sorted(one.name() for one in link.listAllNWFilters()))
    except libvirt.libvirtError:
        return None  # a libvirt without the driver for them


def _secrets(link: libvirt.virConnect) -> tuple[str, ...] | None:
    """By UUID and by usage; the secrets themselves are not read."""
    try:
        found = link.listAllSecrets()
    except libvirt.libvirtError:
        return None  # a libvirt without the driver for them
    return tuple(sorted({name for one in found for name in (one.UUIDString(), one.usageID()) if name}))


def _network(network: libvirt.virNetwork) -> Network:
    text = network.XMLDesc()
    bridge, mode = xml.network_bridge(text)
    return Network(
        network.name(), bool(network.isActive()), bridge, bool(network.autostart()), mode, xml.portgroups(text)
    )


def _pool(pool: libvirt.virStoragePool) -> Pool:
    kind, path = xml.pool_path(pool.XMLDesc())
    active = bool(pool.isActive())
    return Pool(pool.name(), kind, active, bool(pool.autostart()), path, pool.info()[3] if active else 0)


def _hugepages(link: libvirt.virConnect) -> dict[int, int]:
    """Free huge pages by page size in bytes; empty where the host will not say."""
    free: dict[int, int] = {}
    for kib in (2048, 1048576):
        try:
            cells = link.getFreePages([kib], -1, 1, 0)
        except libvirt.libvirtError:
            continue
        free[kib * 1024] = sum(pages.get(kib, 0) for pages in cells.values())
    return free


def lookup(link: libvirt.virConnect, name_or_uuid: str) -> libvirt.virDomain | None:
    """A guest by UUID or by name; None when the host has none such."""
    for find in (link.lookupByUUIDString, link.lookupByName):
        try:
            return find(name_or_uuid)
        except libvirt.libvirtError as error:
            if code(error) not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_INVALID_ARG):
                raise
    return None


def guest(link: libvirt.virConnect, host: str, name_or_uuid: str, *, as_defined: bool = False) -> Guest | None:
    """Everything observed of one guest; None when the host has none such. `as_defined`: as it would start anew."""
    domain = lookup(link, name_or_uuid)
    if domain is None:
        return None
    live = domain.XMLDesc(0)
    persistent, active = bool(domain.isPersistent()), bool(domain.isActive())
    inactive = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE) if persistent else live
    running = definition = xml.definition(live)
    lasting = xml.definition(inactive)  # without what libvirt gave the running guest from its own settings
    disks = tuple(_sized(domain, storage.located(link, disk)) for disk in running.disks)
    if as_defined and active and persistent:
        definition = lasting
        disks = tuple(_as_defined(link, storage.located(link, disk), disks) for disk in definition.disks)
    job = job_of(domain) if active else ""
    known = snapshots.read(domain)
    rss = domain.memoryStats().get("rss", 0) * 1024 if active else 0
    return Guest(
        uuid=definition.uuid,
        name=definition.name,
        host=host,
        state=_STATES.get(domain.state()[0], State.UNKNOWN),
        persistent=persistent,
        autostart=persistent and bool(domain.autostart()),
        xml=live,
        inactive_xml=inactive,
        architecture=definition.architecture,
        virtualization=definition.virtualization,
        machine=definition.machine,
        emulator=definition.emulator,
        vcpus=definition.vcpus,
        memory=definition.memory,
        memory_used=rss,
        cpu_mode=definition.cpu_mode,
        cpu_xml=definition.cpu_xml,
        disks=disks,
        interfaces=tuple(_with_mode(link, interface) for interface in definition.interfaces),
        host_devices=definition.host_devices,
        hugepage_size=definition.hugepage_size,
        snapshots=tuple(one.name for one in known),
        external_snapshots=tuple(one.name for one in known if snapshots.is_external(one.xml)),
        snapshot_files=tuple(file for one in known for file in snapshots.files(one)),
        checkpoints=tuple(checkpoint.getName() for checkpoint in domain.listAllCheckpoints()),
        managed_save=bool(domain.hasManagedSaveImage()),
        nvram=definition.nvram,
        nvram_store=definition.nvram_store,
        loader=definition.loader,
        boot_files=definition.boot_files,
        state_files=definition.state_files,
        pinned_cpus=definition.pinned_cpus,
        numa_nodes=definition.numa_nodes,
        tpm=definition.tpm,
        listens=lasting.listens,
        listen_networks=lasting.listen_networks,
        watchdogs=lasting.watchdogs,
        security_models=lasting.security_models,
        secrets=definition.secrets,
        mark=running.mark,
        title=definition.title,
        unlike=xml.unlike(running, definition),
        agent=active and agent_connected(live),
        jobs=(*((Job(job),) if job else ()), *_block_jobs(domain, running, active)),
        addresses=_addresses(domain) if active else (),
    )


def described(host: str, text: str) -> Guest:
    """A guest that is off, as its definition alone describes it: nothing at the host is looked at."""
    found = xml.definition(text)
    return Guest(
        uuid=found.uuid,
        name=found.name,
        host=host,
        state=State.SHUT_OFF,
        persistent=True,
        autostart=False,
        xml=text,
        inactive_xml=text,
        architecture=found.architecture,
        virtualization=found.virtualization,
        machine=found.machine,
        emulator=found.emulator,
        vcpus=found.vcpus,
        memory=found.memory,
        memory_used=0,
        cpu_mode=found.cpu_mode,
        cpu_xml=found.cpu_xml,
        disks=found.disks,
        interfaces=found.interfaces,
        host_devices=found.host_devices,
        nvram=found.nvram,
        nvram_store=found.nvram_store,
        loader=found.loader,
        boot_files=found.boot_files,
        state_files=found.state_files,
        pinned_cpus=found.pinned_cpus,
        numa_nodes=found.numa_nodes,
        tpm=found.tpm,
        listens=found.listens,
        listen_networks=found.listen_networks,
        watchdogs=found.watchdogs,
        security_models=found.security_models,
        secrets=found.secrets,
        title=found.title,
    )


def _sized(domain: libvirt.virDomain, disk: Disk) -> Disk:
    """The disk with its sizes, where the host can look at it."""
    if not disk.source:
        return disk
    try:
        capacity, allocation, _ = domain.blockInfo(disk.target)
    except libvirt.libvirtError:
        return disk  # of an inactive guest whose storage is away
    return replace(disk, capacity=capacity, allocation=allocation)


def _as_defined(link: libvirt.virConnect, disk: Disk, running: tuple[Disk, ...]) -> Disk:
    """A disk of a running guest's definition: what is known of the image it runs on, or the image looked at by itself."""
    if not disk.source:
        return disk
    if (same := next((one for one in running if one.source == disk.source), None)) is not None:
        return replace(disk, capacity=same.capacity, allocation=same.allocation, backing=same.backing)
    if disk.kind not in ("file", "block"):
        return disk
    try:
        capacity, allocation = storage.sizes(link, disk.source) or (0, 0)
    except libvirt.libvirtError:
        return disk  # its storage is away
    return replace(disk, capacity=capacity, allocation=allocation)


def _with_mode(link: libvirt.virConnect, interface: Interface) -> Interface:
    """Of an interface on a libvirt network: whether that network ends at the host."""
    if interface.kind != "network":
        return interface
    try:
        bridge, mode = xml.network_bridge(link.networkLookupByName(interface.source).XMLDesc())
    except libvirt.libvirtError:  # undefined while the guest runs on it
        return interface
    return replace(interface, network_mode=mode, device=interface.device or bridge)


def _block_jobs(domain: libvirt.virDomain, definition: xml.Definition, active: bool) -> tuple[Job, ...]:
    if not active:
        return ()
    return tuple(
        Job("block job", f"on {disk.target}")
        for disk in definition.disks
        if disk.source and domain.blockJobInfo(disk.target)
    )


def _addresses(domain: libvirt.virDomain) -> tuple[str, ...]:
    """IPv4 first; from leases, then from the host's ARP table. The agent is not asked: one that hangs would hang us."""
    found: list[str] = []
    for source in (libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP):
        try:
            interfaces = domain.interfaceAddresses(source)
        except libvirt.libvirtError:
            continue  # this way of asking does not exist for this guest's interfaces
        for interface in interfaces.values():
            found += [address["addr"] for address in interface["addrs"] or ()]
    return tuple(dict.fromkeys(sorted(found, key=lambda address: ":" in address)))


def machine(link: libvirt.virConnect, wanted: Guest) -> Machine:
    """Whether this host's emulator can be the guest's machine: asked of its domain capabilities."""
    kind = (wanted.architecture, wanted.machine, wanted.virtualization)
    has_emulator = True
    try:
        answer = link.getDomainCapabilities(wanted.emulator or None, *kind)
    except libvirt.libvirtError:
        try:  # the host's own emulator: is it the path that is wrong, or the machine type?
            answer, has_emulator = link.getDomainCapabilities(None, *kind), False
        except libvirt.libvirtError as error:
            return _without(link, wanted, str(error))
    can = emulator_capabilities(answer)
    return Machine(
        emulator=can.emulator,
        machine=wanted.machine,
        available=True,
        has_emulator=has_emulator,
        max_vcpus=can.max_vcpus,
        loaders=can.loaders,
        tpm_backends=can.tpm_backends,
    )


_FAMILIES = ("q35", "i440fx", "virt", "s390-ccw-virtio", "pseries")  # the first that a machine type names is its own
_ALIASES = {"i440fx": "pc"}


def _without(link: libvirt.virConnect, wanted: Guest, why: str) -> Machine:
    """The host lacks the machine type: the newest one of its family that it has, if any."""
    family = next((one for one in _FAMILIES if one in wanted.machine), "")
    lacking = Machine(wanted.emulator, wanted.machine, False, why)
    if not family:
        return lacking
    kind = (wanted.architecture, _ALIASES.get(family, family), wanted.virtualization)
    for emulator in (wanted.emulator or None, None):
        try:
            answer = link.getDomainCapabilities(emulator, *kind)
        except libvirt.libvirtError:
            continue
        can = emulator_capabilities(answer)
        return replace(
            lacking,
            emulator=can.emulator,
            instead=ElementTree.fromstring(answer).findtext("machine") or "",
            has_emulator=emulator is not None or not wanted.emulator,
            max_vcpus=can.max_vcpus,
            loaders=can.loaders,
            tpm_backends=can.tpm_backends,
        )
    return lacking


def cpu_offer(link: libvirt.virConnect, virtualization: str) -> Cpu | None:
    """The best migratable CPU of this host's emulator, as libvirt's host model; None when it offers none."""
    can = emulator_capabilities(link.getDomainCapabilities(None, None, None, virtualization))
    return replace(cpu_baseline(link, virtualization, [can.host_model]), xml=can.host_model) if can.host_model else None


def cpu_baseline(link: libvirt.virConnect, virtualization: str, cpus: Sequence[str]) -> Cpu:
    """The CPU that fits all of those given as <cpu> elements."""
    flags = libvirt.VIR_CONNECT_BASELINE_CPU_MIGRATABLE
    arguments = (None, None, None, virtualization, list(cpus))
    plain = link.baselineHypervisorCPU(*arguments, flags)
    expanded = link.baselineHypervisorCPU(*arguments, flags | libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)
    return Cpu(plain, *cpu_features(expanded))


def virtualizations(link: libvirt.virConnect) -> tuple[str, ...]:
    """What this host's own emulator can do: kvm, qemu, both."""
    root = ElementTree.fromstring(link.getCapabilities())
    own = root.findtext("host/cpu/arch") or ""
    return tuple(one.get("type", "") for one in root.findall(f"guest/arch[@name='{own}']/domain"))


def compare_cpu(link: libvirt.virConnect, wanted: Guest) -> CpuComparison:
    """libvirt's own comparison of the guest's expanded CPU with what this host's emulator can give."""
    if not wanted.cpu_xml or wanted.cpu_mode in ("host-passthrough", "maximum"):
        return CpuComparison(CpuMatch.UNKNOWN, detail=f"the guest's CPU is {wanted.cpu_mode or 'not described'}")
    arguments = (None, wanted.architecture, wanted.machine, wanted.virtualization, wanted.cpu_xml)
    try:
        answer = link.compareHypervisorCPU(*arguments, libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE)
    except libvirt.libvirtError as error:
        if code(error) != libvirt.VIR_ERR_CPU_INCOMPATIBLE:
            return CpuComparison(CpuMatch.UNKNOWN, detail=str(error))
        return CpuComparison(CpuMatch.INCOMPATIBLE, missing_features(str(error)), str(error))
    match = {libvirt.VIR_CPU_COMPARE_IDENTICAL: CpuMatch.IDENTICAL, libvirt.VIR_CPU_COMPARE_SUPERSET: CpuMatch.SUPERSET}
    return CpuComparison(match.get(answer, CpuMatch.INCOMPATIBLE))


def missing_features(words: str) -> tuple[str, ...]:
    """The features in "…: Host CPU does not provide required features: vmx, x2apic"."""
    _, found, features = words.partition("required features: ")
    return tuple(feature.strip() for feature in features.split(",")) if found else ()
