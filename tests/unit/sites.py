"""A site where everything is right, to be changed in one respect by each test."""

from dataclasses import replace
from typing import Any

from ferryman.model.guest import Disk, Guest, Interface, State
from ferryman.model.host import Host, HostFacts, Machine, Network, Pool
from ferryman.model.site import (
    Clocks,
    CpuComparison,
    CpuMatch,
    DiskReach,
    EndTools,
    Ground,
    Reach,
    Segment,
    Site,
    TransportFacts,
)
from ferryman.model.units import GIB, MIB

UUID = "6a1f0f3e-0000-4000-8000-000000000001"
MAC = "52:54:00:00:00:01"
FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd"


def host_facts(name: str) -> HostFacts:
    return HostFacts(
        host=Host(name, f"qemu+tls://{name}/system"),
        hostname=name,
        uuid=f"uuid-of-{name}",
        libvirt_version=(11, 3, 0),
        qemu_version=(10, 0, 2),
        architecture="x86_64",
        cpus=8,
        memory_total=64 * GIB,
        memory_free=32 * GIB,
        cpu_ids=tuple(range(8)),
        numa_nodes=(0,),
        hugepages_free={2 * MIB: 1024},
        pools=(Pool("shared", "dir", True, True, "/srv/shared", 100 * GIB),),
        networks=(Network("lan", True, "br0", True, "bridge"),),
    )


def good_guest() -> Guest:
    return Guest(
        uuid=UUID,
        name="web",
        host="a",
        state=State.RUNNING,
        persistent=True,
        autostart=True,
        xml="<domain/>",
        inactive_xml="<domain/>",
        architecture="x86_64",
        virtualization="kvm",
        machine="pc-q35-10.0",
        emulator="/usr/bin/qemu-system-x86_64",
        vcpus=2,
        memory=4 * GIB,
        memory_used=3 * GIB,
        cpu_mode="custom",
        cpu_xml="<cpu mode='custom'><model>Skylake-Client</model></cpu>",
        disks=(Disk("vda", "disk", "file", "/srv/shared/web.qcow2", "qcow2", "none", False, False),),
        interfaces=(Interface(MAC, "bridge", "br0", "virtio", device="br0"),),
    )


def good_site() -> Site:
    return Site(
        guest=good_guest(),
        source=host_facts("a"),
        destination=host_facts("b"),
        machine=Machine(
            "/usr/bin/qemu-system-x86_64",
            "pc-q35-10.0",
            True,
            max_vcpus=288,
            loaders=(FIRMWARE,),
            tpm_backends=("emulator",),
        ),
        cpu=CpuComparison(CpuMatch.SUPERSET),
        ground=Ground(
            disks=(DiskReach("vda", Reach.SAME, "a marker was seen", True),),
            transport=TransportFacts("qemu+tls://b/system", True, "", "b-migration", True, "", True, True),
            bridges=("br0",),
            segments=(Segment("br0", ("br0",)),),
            lock_managers=("", ""),
            clocks=Clocks(0.1, 0.2),
            lacking=(),
            copy_packages=(EndTools(), EndTools()),
        ),
        observed_at=0.0,
    )


def with_guest(**changes: Any) -> Site:
    site = good_site()
    return replace(site, guest=replace(site.guest, **changes))


def with_disk(reach: DiskReach | None = None, **changes: Any) -> Site:
    site = good_site()
    disk = replace(site.guest.disks[0], **changes)
    ground = site.ground if reach is None else replace(site.ground, disks=(reach,))
    return replace(site, guest=replace(site.guest, disks=(disk,)), ground=ground)


def with_interface(**changes: Any) -> Site:
    site = good_site()
    return replace(site, guest=replace(site.guest, interfaces=(replace(site.guest.interfaces[0], **changes),)))


def with_destination(**changes: Any) -> Site:
    site = good_site()
    return replace(site, destination=replace(site.destination, **changes))


def with_transport(**changes: Any) -> Site:
    return with_ground(transport=replace(good_site().ground.transport, **changes))


def with_ground(**changes: Any) -> Site:
    site = good_site()
    return replace(site, ground=replace(site.ground, **changes))


def with_machine(**changes: Any) -> Site:
    site = good_site()
    return replace(site, machine=replace(site.machine, **changes))


def with_versions(source: tuple[int, int, int], destination: tuple[int, int, int], **guest: Any) -> Site:
    """Of QEMU."""
    site = with_guest(**guest)
    return replace(
        site,
        source=replace(site.source, qemu_version=source),
        destination=replace(site.destination, qemu_version=destination),
    )
