"""The guests of a lab: their volumes, their definition, and starting them."""

import json
import time
import uuid as uuids
from dataclasses import dataclass
from pathlib import Path

from lab import netns
from lab.host import Host, Lab
from lab.topology import SUITES

COUNT_PORT, HEALTH_PORT = 7000, 7001
NEWEST_MACHINE = {"bookworm": "pc-q35-7.2", "trixie": "q35"}  # of each suite's QEMU; a newer one knows the older ones
QUICK = "cryptomgr.notests noreplace-smp"  # a third less to do for an emulated CPU until the workload runs
POOL_PATHS = {"shared": "/srv/shared", "local": "/var/lib/libvirt/images"}


@dataclass(frozen=True)
class GuestSpec:
    """What a guest is and does. A disk is "shared" or "local"; with ":raw" raw (else qcow2); with ":qcow2:volume" named by its pool."""

    name: str = "web"
    address: str = "10.77.0.101"
    memory_mib: int = 192
    vcpus: int = 1
    disks: tuple[str, ...] = ("shared",)
    disk_mib: int = 256
    filled_mib: int = 0  # so much of the first disk is random bytes, behind the blocks that the guest writes
    count_every_ms: int = 5
    dirty: str = ""  # SIZE_MIB:RATE_MIB_S:CLASS,… with class zero, text or random
    writes_per_s: int = 20
    autostart: bool = False
    transient: bool = False
    machine: str = ""  # empty: the newest that every host of the lab knows
    nvram: bool = False
    tpm: bool = False
    mark: str = ""  # 16 letters that the guest writes into a UEFI variable and into its TPM (firmware.py reads them)
    title: str = ""
    description: str = ""
    cache: str = "none"
    cdrom: str = ""  # path of an image at the host
    agent: bool = False  # a guest agent that answers pings and shuts it down
    power: str = ""  # what its power button does: empty (it goes down), ignore, late (after 8 s) or reboot
    console: str = ""  # linked: its console is silent where its network links are down when it starts


@dataclass(frozen=True)
class Guest:
    """A guest that was made."""

    spec: GuestSpec
    uuid: str
    mac: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.spec.name

    @property
    def address(self) -> str:
        """Its IP address, on the control network."""
        return self.spec.address

    def disk_path(self, number: int = 0) -> str:
        """Where a disk's image is, as the hosts see it."""
        pool, kind, _ = parts(self.spec.disks[number])
        return f"{POOL_PATHS[pool]}/{self.name}-{number}.{kind}"


def parts(disk: str) -> tuple[str, str, bool]:
    """(pool, format, whether the definition names it as a volume) of a disk as a GuestSpec writes it."""
    pool, kind, named = (*disk.split(":"), "", "")[:3]
    return pool, kind or "qcow2", named == "volume"


def start(lab: Lab, host_name: str, spec: GuestSpec, *, within: float = 60) -> Guest:
    """Make the guest's disks, define it (or create it, when transient), start it, and wait until its health port answers."""
    guest = define(lab, host_name, spec)
    host = lab.host(host_name)
    if not spec.transient:
        host.run(["virsh", "start", spec.name])
    # Clients may remember the MAC of an earlier guest of that address, for up to 45 s.
    netns.ip("neighbour", "flush", "to", spec.address, namespace=lab.topology.namespace("controller"))
    wait_healthy(lab, guest, within=within)
    return guest


def define(lab: Lab, host_name: str, spec: GuestSpec) -> Guest:
    """Make the guest's disks and define it; a transient guest is created, and so runs."""
    identity = uuids.uuid4()
    guest = Guest(spec, str(identity), "52:54:00:" + ":".join(identity.hex[at : at + 2] for at in (0, 2, 4)))
    host = lab.host(host_name)
    for number, disk in enumerate(spec.disks):
        host.run(["qemu-img", "create", "-q", "-f", parts(disk)[1], guest.disk_path(number), f"{spec.disk_mib}M"])
    if spec.filled_mib:
        _fill(host, guest)
    for pool in {parts(disk)[0] for disk in spec.disks}:
        host.run(["virsh", "pool-refresh", pool], check=False)  # a host that was made bare has other pools, or none
    host.run(["virsh", "create" if spec.transient else "define", "/dev/stdin"], text_in=definition(lab, guest))
    if spec.autostart:
        host.run(["virsh", "autostart", spec.name])
    return guest


def _fill(host: Host, guest: Guest) -> None:
    path, kind, size = guest.disk_path(), parts(guest.spec.disks[0])[1], guest.spec.disk_mib
    words = (
        f'head -c {guest.spec.filled_mib}M /dev/urandom | dd of="$1.raw" bs=1M seek=16 iflag=fullblock status=none'
        f' && truncate -s {size}M "$1.raw" && qemu-img convert -O {kind} "$1.raw" "$1" && rm "$1.raw"'
    )
    host.run(["sh", "-c", words, "sh", path], timeout=30 + guest.spec.filled_mib / 20)


def remove(lab: Lab, guest: Guest) -> None:
    """Take the guest away everywhere it is, with its images."""
    for host in lab.hosts:
        if not host.up:
            continue
        host.run(["virsh", "destroy", guest.name], check=False)
        host.run(
            [
                "virsh",
                "undefine",
                guest.name,
                "--nvram",
                "--managed-save",
                "--snapshots-metadata",
                "--checkpoints-metadata",
            ],
            check=False,
        )
        # libvirt leaves the variable store where a guest moved away, and would give it to the next guest of that name.
        files = [guest.disk_path(number) for number in range(len(guest.spec.disks))]
        host.run(["rm", "-f", nvram_path(guest), *files])


def nvram_path(guest: Guest) -> str:
    """Where libvirt keeps a guest's UEFI variables, as a host sees it."""
    return f"/var/lib/libvirt/qemu/nvram/{guest.name}_VARS.fd"


def health(lab: Lab, guest: Guest, *, timeout: float = 10) -> dict[str, int]:
    """What the guest says of itself: count, acknowledged, wrong, rewritten. Raises RuntimeError when it does not answer."""
    ask = f"import urllib.request as u; print(u.urlopen('http://{guest.address}:{HEALTH_PORT}/', timeout={timeout}).read().decode())"
    answer = lab.controller.run(["/usr/bin/python3", "-c", ask], timeout=timeout + 10).stdout
    result: dict[str, int] = json.loads(answer)
    return result


def wait_healthy(lab: Lab, guest: Guest, *, within: float = 60) -> None:
    """Wait until the health port answers. Raises RuntimeError with the end of its console when it never does."""
    deadline = time.monotonic() + within
    while True:
        try:
            health(lab, guest, timeout=2)
        except RuntimeError:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"guest {guest.name} does not answer after {within} s; {console(lab, guest)}"
                ) from None
            time.sleep(0.2)
        else:
            return


def console(lab: Lab, guest: Guest) -> str:
    """The end of the guest's console at each host that has one."""
    path = f"/var/log/libvirt/qemu/{guest.name}-console.log"
    ends = [(host.name, host.run(["tail", "-5", path], check=False).stdout) for host in lab.hosts if host.up]
    return "; ".join(f"console at {name}: {text.strip()}" for name, text in ends if text)


def definition(lab: Lab, guest: Guest) -> str:
    """The guest's libvirt XML."""
    spec, kvm = guest.spec, lab.accelerator == "kvm"
    command_line = (
        f"console=ttyS0 quiet panic=1 {QUICK} lab.address={spec.address} lab.count_ms={spec.count_every_ms} "
        f"lab.writes={spec.writes_per_s if spec.disks else 0} lab.dirty={spec.dirty} lab.mark={spec.mark} lab.power={spec.power} lab.console={spec.console}"
    )
    kernel = "vmlinuz" if spec.nvram or spec.tpm else "vmlinux"  # firmware of its own starts the packed one only
    machine = spec.machine or NEWEST_MACHINE[min(lab.topology.suites, key=SUITES.index)]
    cpu = (
        "<cpu mode='host-model'/>"
        if kvm
        else "<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>"
    )
    firmware = (
        "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"
        "<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'/>"
        if spec.nvram
        else ""
    )
    return f"""<domain type='{"kvm" if kvm else "qemu"}'>
  <name>{spec.name}</name><uuid>{guest.uuid}</uuid>
  {f"<title>{spec.title}</title>" if spec.title else ""}{f"<description>{spec.description}</description>" if spec.description else ""}
  <memory unit='MiB'>{spec.memory_mib}</memory><vcpu>{spec.vcpus}</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type>{firmware}
    <kernel>/lab/boot/{kernel}</kernel><initrd>/lab/boot/initrd</initrd><cmdline>{command_line}</cmdline></os>
  <features><acpi/><apic/></features>{cpu}
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    {"".join(_disk(guest, number) for number in range(len(spec.disks)))}
    {_cdrom(spec.cdrom) if spec.cdrom else ""}
    <interface type='bridge'><mac address='{guest.mac}'/><source bridge='br0'/><model type='virtio'/></interface>
    <serial type='pty'><log file='/var/log/libvirt/qemu/{spec.name}-console.log' append='on'/></serial>
    {"<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>" if spec.tpm else ""}
    {"<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>" if spec.agent else ""}
    <memballoon model='none'/>
  </devices>
</domain>
"""


def _disk(guest: Guest, number: int) -> str:
    pool, kind, named = parts(guest.spec.disks[number])
    path = guest.disk_path(number)
    source = f"pool='{pool}' volume='{Path(path).name}'" if named else f"file='{path}'"
    return (
        f"<disk type='{'volume' if named else 'file'}' device='disk'>"
        f"<driver name='qemu' type='{kind}' cache='{guest.spec.cache}' discard='unmap'/>"
        f"<source {source}/><target dev='vd{'abcdefgh'[number]}' bus='virtio'/></disk>"
    )


def _cdrom(path: str) -> str:
    return (
        f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{path}'/>"
        "<target dev='sda' bus='sata'/><readonly/></disk>"
    )


def host_path(host: Host, path: str) -> Path:
    """A path inside a host, as the machine reaches it."""
    return host.root / path.lstrip("/")
