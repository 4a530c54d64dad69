"""May a guest be brought back from a backup at that host? What is damaged, what is missing there, and who has it already."""

from collections.abc import Iterator
from dataclasses import replace

from ferryman.assess import machine, network
from ferryman.model.finding import Finding, Severity, blocker, by_weight, note, warning
from ferryman.model.host import Host
from ferryman.model.request import Options
from ferryman.model.restore import RestorePlan
from ferryman.model.site import CpuComparison, CpuMatch, Site
from ferryman.model.units import format_size
from ferryman.plan.cold import tpm_state
from ferryman.plan.restore import Found, belonging, berth, taken

# What a move to that host would find, and what keeps a guest that is brought back from starting there too. Until somebody starts it, that can be mended.
_KEEPS_IT_OFF = frozenset(
    (
        "boot-file-missing",
        "boot-files-not-checked",
        "vcpu-limit",
        "pinned-cpus",
        "numa-nodes",
        "seclabel-missing",
        "bridge-missing",
        "bridge-not-checked",
        "network-inactive",
        "portgroup-missing",
        "direct-interface",
        "filter-missing",
        "filter-not-checked",
        "listen-missing",
        "listen-not-checked",
    )
)


def findings(found: Found, plan: RestorePlan, options: Options) -> tuple[Finding, ...]:
    """The weightiest first."""
    return by_weight(
        (
            *_backup(found),
            *_who(found, plan),
            *_host(found, plan),
            *_start(found, plan, options),
            *_disks(found, plan, options),
            *_notes(found, plan),
        )
    )


def _backup(found: Found) -> Iterator[Finding]:
    for why in found.lacking:
        yield blocker("restore-damaged", f"backup {found.backup.words}", why,
                      f"take another one: ferryman backups {found.backup.words.rpartition('/')[0]} lists those of this guest")  # fmt: skip


def _who(found: Found, plan: RestorePlan) -> Iterator[Finding]:
    guest, at = found.guest, plan.destination
    if plan.identity is None:
        for host, why in found.elsewhere.items():
            yield blocker("restore-exists", f"guest {guest.name} ({plan.uuid})", f"{host}: {why}",
                          "remove it there first, if it is to be replaced; or bring the backup back as a second guest: --name NEW")  # fmt: skip
    taken = [one for one in found.there.guests if one.name == plan.guest and one.uuid != plan.uuid]
    if taken:
        yield blocker("restore-name-taken", f"name {plan.guest} at {at}", f"guest {taken[0].uuid} has it", "--name NEW gives it another")  # fmt: skip
    for one in found.there.guests:
        if plan.nvram and one.nvram == plan.nvram and one.uuid != plan.uuid:
            yield blocker("restore-name-taken", f"firmware variables {plan.nvram} at {at}", f"they are those of guest {one.name}", "--name NEW gives it others")  # fmt: skip
    if plan.identity is None:
        macs = {interface.mac for interface in guest.interfaces}
        for one in found.there.guests:
            if same := macs & set(one.macs):
                yield warning("restore-mac-taken", f"interface {min(same)} of guest {guest.name}", f"guest {one.name} at {at} has the same MAC address",
                              "do not run both; --name NEW gives it others")  # fmt: skip
    else:
        yield note("restore-second", f"guest {plan.guest}", f"it is a guest of its own, with another UUID and MAC addresses; inside it is what {guest.name} was, with its IP addresses and keys",
                   "start it where it does not meet the other, or change that first")  # fmt: skip


def _host(found: Found, plan: RestorePlan) -> Iterator[Finding]:
    guest, machine, there = found.guest, found.machine, found.there
    at = plan.destination
    if there.host.maintenance:
        yield blocker("restore-maintenance", f"host {at}", "it is in maintenance", f"name another host; or: ferryman host maintenance {at} off")  # fmt: skip
    if guest.architecture != there.architecture and guest.virtualization == "kvm":
        yield blocker("restore-machine", f"guest {guest.name}", f"it is of architecture {guest.architecture}, and {at} is {there.architecture}", "name a host of that architecture")  # fmt: skip
    elif not machine.available and not machine.instead:
        yield blocker("restore-machine", f"machine type {guest.machine} of guest {guest.name}", f"{at} does not have it: {machine.why_not}", "name another host")  # fmt: skip
    elif plan.adaption.machine or plan.adaption.emulator or plan.adaption.watchdog:
        without = f"no watchdog {plan.adaption.watchdog}" if plan.adaption.watchdog else ""
        changed = ", ".join(one for one in (plan.adaption.machine, plan.adaption.emulator, without) if one)
        yield note("restore-adapted", f"guest {guest.name}", f"{at} does not have all of its machine; it gets {changed}", "see whether it starts as before")  # fmt: skip
    networks = {network.name for network in there.networks}
    for interface in guest.interfaces:
        name = plan.networks.get(interface.source, interface.source)
        if interface.kind == "network" and name not in networks:
            yield blocker("restore-network", f"interface {interface.mac} of guest {guest.name}", f"{at} has no network {name} (there are: {', '.join(sorted(networks)) or 'none'})",
                          f"--map-network {interface.source}=OTHER")  # fmt: skip
    for device in guest.host_devices:
        yield warning("restore-device", f"{device.kind} {device.name} of guest {guest.name}", f"it was a device of {found.manifest.host}: whether {at} has it is not looked at",
                      "take it out of the definition before you start the guest: virsh edit")  # fmt: skip
    if guest.secrets and there.secrets is not None:
        for secret in guest.secrets:
            if secret not in there.secrets:
                yield warning("restore-secret", f"secret {secret} of guest {guest.name}", f"{at} does not have it", "define it before you start the guest: virsh secret-define, virsh secret-set-value")  # fmt: skip


def _start(found: Found, plan: RestorePlan, options: Options) -> Iterator[Finding]:
    """What keeps it from starting there. It stands in the way of being brought back only where it is to be started."""
    site = Site(
        guest=replace(found.guest, name=plan.guest),
        source=replace(found.there, host=Host(found.manifest.host, f"URI-OF-{found.manifest.host}")),  # it may be gone
        destination=found.there,
        machine=found.machine,
        cpu=CpuComparison(CpuMatch.UNKNOWN),
        ground=found.ground,
        observed_at=0.0,
    )
    for one in (*machine.findings(site), *network.findings(site, options)):
        if one.code in _KEEPS_IT_OFF:
            lighter = one.severity is Severity.BLOCKER and not plan.starts
            yield replace(one, severity=Severity.WARNING) if lighter else one


def _disks(found: Found, plan: RestorePlan, options: Options) -> Iterator[Finding]:
    needed: dict[str, int] = {}
    for disk in belonging(found):
        where = berth(disk, found.there, options)
        if where.pool is None:
            here = disk.pool or disk.source.rpartition("/")[0]
            yield blocker("restore-no-pool", f"disk {disk.target} of guest {found.guest.name}", where.lacking, f"--map-pool {here}=THERE; virsh pool-list --all, at {plan.destination}")  # fmt: skip
        else:
            needed[where.pool.name] = needed.get(where.pool.name, 0) + taken(disk, where.pool, found)
    for pool in found.there.pools:
        if pool.available < needed.get(pool.name, 0):
            yield blocker("restore-room", f"pool {pool.name} at {plan.destination}", f"{format_size(pool.available)} are free there, and the disks hold {format_size(needed[pool.name])} at least",
                          "make room, or name another pool: --map-pool HERE=THERE")  # fmt: skip


def _notes(found: Found, plan: RestorePlan) -> Iterator[Finding]:
    if plan.emptied:
        yield note("restore-media", f"guest {plan.guest}", f"its drives {', '.join(plan.emptied)} are empty: their media were not backed up", "insert them: virsh change-media")  # fmt: skip
    for disk in (one for one in found.manifest.disks if one not in belonging(found)):
        yield warning("restore-disk", f"disk {disk.target} of guest {plan.guest}", "it was attached to the guest while it ran, and its definition does not have it: it is not brought back",
                      f"its content is {found.backup.below(disk.file).words}: qemu-img convert it, and virsh attach-disk --config")  # fmt: skip
    for target in plan.missing:
        yield warning("restore-disk", f"disk {target} of guest {plan.guest}", "its definition has it from the next start on, and the guest that was backed up ran without it: it comes back without it",
                      "attach one of its own: virsh attach-disk --config")  # fmt: skip
    if found.guest.nvram and not plan.nvram:
        yield warning("restore-state", f"guest {plan.guest}", "its firmware variables are not in the backup: the firmware makes new ones", "look at its boot order when it starts")  # fmt: skip
    if tpm_state(found.guest) and not plan.tpm:
        yield warning("restore-state", f"guest {plan.guest}", "the state of its TPM is not in the backup: it begins with an empty one", "have the recovery keys at hand of what it has sealed, such as encrypted disks")  # fmt: skip
