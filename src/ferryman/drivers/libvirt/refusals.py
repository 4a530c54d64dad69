"""What libvirt and QEMU say when they refuse or lose a migration, translated: the thing, the reason, the remedy.

Most have a finding in assess that says the same beforehand. They come anyway when something changed between the look and
the act, or could not be looked at. The words of both hosts come out of the source's libvirtd.
"""

import re
from dataclasses import dataclass

import libvirt

from ferryman import errors
from ferryman.drivers.libvirt.errors import translate


@dataclass(frozen=True)
class Refusal:
    """Words and their meaning; reason and remedy may name the pattern's groups."""

    pattern: re.Pattern[str]
    why: str
    remedy: str
    error: type[errors.DriverError]
    finding: str  # the finding of assess that says it beforehand; empty: none can


def _says(
    pattern: str, why: str, remedy: str, finding: str = "", error: type[errors.DriverError] = errors.DriverError
) -> Refusal:
    return Refusal(re.compile(pattern, re.IGNORECASE | re.DOTALL), why, remedy, error, finding)


_LOOK = "look there with virsh list --all; decide which is right, then rename or undefine the other"

# The first that matches counts. tests/unit/test_libvirt_errors.py holds the words of each.
REFUSALS = (
    # The guest as it is
    _says(r"cannot migrate domain with (?P<count>\d+) snapshots", "libvirt moves no guest that has snapshots ({count})",
          "virsh snapshot-delete GUEST NAME; with --metadata their data stay in the image", "snapshots"),
    _says(r"domain has active block job", "a block job works on one of its disks",
          "wait for its end: virsh blockjob GUEST DISK --info; or stop it: virsh blockjob GUEST DISK --abort", "job-running"),
    _says(r"Attempt to migrate guest to the same host", "source and destination are one host", "name another host with --to", "same-host"),
    # Storage
    _says(r"Unsafe migration.*cache", "a disk's cache mode goes through the source's page cache",
          "set cache='none' for the disk (virsh edit GUEST), shut the guest down and start it", "disk-cache"),
    _says(r"Unsafe migration", "libvirt does not know the disks' storage as shared",
          "ferryman host prepare HOST HOST --shared-directory DIRECTORY lists it in libvirt's shared_filesystems (libvirt 11 or later)",
          "shared-not-declared"),
    _says(r"Cannot access storage file '(?P<path>[^']*)'", "the destination cannot open the disk {path}",
          "put it on storage that both hosts share, and look at the file's owner and mode there", "disk-not-shared"),
    _says(r"Failed to get \"(?P<kind>[^\"]*)\" lock.*using the image \[(?P<path>[^\]]*)\]", "another QEMU holds {path} (its {kind} lock): a copy of the guest, or another guest with the same disk",
          "look at every host with virsh list --all for who uses the image; start nothing by hand"),
    _says(r"no storage pool with matching name '(?P<pool>[^']*)'", "the destination has no storage pool {pool}, by which the guest's definition names a disk",
          "make it there, upon the same storage: virsh pool-dumpxml {pool} at the source tells how it is defined", "pool-missing"),
    _says(r"storage pool '(?P<pool>[^']*)' containing volume '(?P<volume>[^']*)' is not active", "storage pool {pool} with volume {volume} is not active at the destination",
          "virsh pool-start {pool}; virsh pool-autostart {pool}", "pool-missing"),
    _says(r"Source host lock driver|lock state for migration cookie", "libvirt's lock manager is not the same at both hosts",
          "set the same lock_manager in /etc/libvirt/qemu.conf of both, then restart libvirtd", "lock-manager"),
    # The destination as a machine
    _says(r"does not support machine type '(?P<machine>[^']*)'", "the destination's QEMU does not know machine type {machine}",
          "choose a host with the same or a newer QEMU, or give the guest an older machine type (virsh edit), shut it down and start it", "machine-type"),
    _says(r"Cannot check QEMU binary (?P<path>[^:\s]*)", "the destination has no emulator {path}",
          "make that path work there, or change <emulator> (virsh edit GUEST), shut the guest down and start it", "emulator-missing"),
    _says(r"Maximum CPUs greater than specified machine type limit (?P<limit>\d+)", "the destination gives this machine type at most {limit} vCPUs",
          "choose another host, or give the guest fewer vCPUs, shut it down and start it", "vcpu-limit"),
    _says(r"could not open kernel file '(?P<path>[^']*)'", "the destination's QEMU cannot open the kernel {path}",
          "put the same file there, readable for QEMU's user", "boot-file-missing"),
    _says(r"Unable to open file: (?P<path>[^:]*)", "the destination cannot write {path} (a console's log)",
          "make its directory there, or take the log out of the definition"),
    _says(r"cannot set CPU affinity", "the guest is pinned to CPUs that the destination lacks",
          "virsh vcpupin GUEST VCPU CPUS --live --config for each vCPU, and virsh emulatorpin GUEST CPUS --live --config, with CPUs that both hosts have", "pinned-cpus"),
    _says(r"NUMA node (?P<node>\d+) is unavailable", "the guest's memory is bound to NUMA node {node}, which the destination lacks",
          "virsh numatune GUEST --nodeset NODES --live --config with nodes that both hosts have", "numa-nodes"),
    _says(r"hugetlbfs filesystem is not mounted", "the guest wants huge pages, and the destination has none mounted",
          "at the destination: mount -t hugetlbfs none /dev/hugepages, set vm.nr_hugepages, restart libvirtd", "hugepages-room"),
    _says(r"domain '(?P<guest>[^']*)' already exists with uuid (?P<uuid>[\w-]+)", "another guest (UUID {uuid}) has the name {guest} at the destination", _LOOK, "name-taken"),
    _says(r"domain is already active as '(?P<guest>[^']*)'|domain '(?P<same>[^']*)' is already active", "a guest of the same UUID is active at the destination", _LOOK, "active-at-destination"),
    # Networks
    _says(r"Cannot get interface MTU on '(?P<bridge>[^']*)'", "the destination has no bridge {bridge}",
          "make a bridge of that name there, on the same network segment; or --map-network {bridge}=THERE names another", "bridge-missing"),
    _says(r"no network with matching name '(?P<network>[^']*)'", "the destination has no network {network}", "--map-network {network}=THERE names another; or virsh net-define and net-start it there", "network-missing"),
    _says(r"network '(?P<network>[^']*)' is not active", "network {network} at the destination is not active",
          "virsh net-start {network}; virsh net-autostart {network}", "network-inactive"),
    # The ways
    _says(r"Unable to access credentials (?P<path>[^:\s]*)", "QEMU's certificate {path} is missing at the destination",
          "ferryman host prepare HOST HOST makes them; or accept --insecure", "no-certificates", errors.Insecure),
    _says(r"TLS channel", "the two QEMUs did not come to an agreement by TLS: a certificate is missing, or not trusted, at one end",
          "ferryman host check names what lacks, ferryman host prepare HOST HOST mends it; or accept --insecure", "no-certificates", errors.Insecure),
    _says(r"unable to connect to server at '(?P<address>[^']*)': (?P<cause>.*)", "the source does not reach {address}: {cause}",
          "open that port at the destination for the source, or set another address with ferryman host add … --migration-address or --peer-uri",
          "migration-unreachable", errors.Unreachable),
    _says(r"Unable to resolve address '(?P<address>[^']*)'", "the source does not know the name {address}",
          "put it into DNS or into /etc/hosts of the source, or set another address with ferryman host add … --migration-address or --peer-uri",
          "migration-unreachable", errors.Unreachable),
    # QEMU itself
    _says(r"error while loading state.*device '(?P<device>[^']*)'", "the destination's QEMU cannot read the state of device {device}",
          "these two versions of QEMU do not go together for this guest: choose a host with the source's QEMU; on shared storage it can be moved shut off", "version-pair"),
    _says(r"unexpectedly closed the monitor|process exited while connecting to monitor|Unable to (?:read from|write to) monitor", "one of the two QEMUs ended",
          "its last words are in /var/log/libvirt/qemu/GUEST.log at each host"),
)  # fmt: skip


def translate_refusal(error: libvirt.libvirtError, what: str, uri: str) -> errors.DriverError:
    """Our error for what ended a migration call at `uri`."""
    words = str(error).strip()
    general = translate(error, what, uri)
    if isinstance(general, errors.AlreadyRunning):
        return general
    for refusal in REFUSALS:
        if (match := refusal.pattern.search(words)) is not None:
            names = {name: text or "" for name, text in match.groupdict().items()}
            return refusal.error(what, f"{refusal.why.format(**names)}: {words}", refusal.remedy.format(**names))
    return general
