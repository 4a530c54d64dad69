"""What libvirt and QEMU say when they refuse or lose a migration, translated: the thing, the reason, the remedy.

Most of these have a finding in assess that says the same beforehand. They come anyway when something changed between the
look and the act, or could not be looked at. The words of both hosts come through the source's libvirtd.
"""

import re
from dataclasses import dataclass

import libvirt

from ferryman import errors
from ferryman.drivers.libvirt.errors import translate


@dataclass(frozen=True)
class Refusal:
    """Words and their meaning; both texts may name the pattern's groups."""

    pattern: re.Pattern[str]
    why: str
    remedy: str
    error: type[errors.DriverError] = errors.DriverError


def _refusal(pattern: str, why: str, remedy: str, error: type[errors.DriverError] = errors.DriverError) -> Refusal:
    return Refusal(re.compile(pattern, re.IGNORECASE | re.DOTALL), why, remedy, error)


# The first that matches counts. tests/unit/test_libvirt_errors.py holds the words of each as they were heard.
REFUSALS = (
    _refusal(
        r"cannot migrate domain with (?P<count>\d+) snapshots",
        "libvirt moves no guest that has snapshots ({count})",
        "virsh snapshot-delete GUEST NAME; with --metadata their data stay in the image",
    ),
    _refusal(
        r"domain has (?:an )?active block job|block (?:copy|job).*(?:active|running|in use)",
        "a block job works on one of its disks",
        "wait for its end or stop it: virsh blockjob GUEST DISK",
    ),
    _refusal(
        r"Failed to get \"(?P<kind>[^\"]*)\" lock",
        "another QEMU holds the image ({kind} lock): a copy of the guest, or another guest with the same disk",
        "look at every host with virsh list --all for who uses the image; start nothing by hand",
    ),
    _refusal(
        r"Unsafe migration.*(?:cache|corruption)",
        "a disk's cache mode goes through the source's page cache",
        "set cache='none' (virsh edit) and restart the guest",
    ),
    _refusal(
        r"Unsafe migration",
        "libvirt does not know the disks' storage as shared",
        "put the disks on storage that libvirt knows as shared: in /etc/libvirt/qemu.conf of both hosts list its directory in shared_filesystems",
    ),
    _refusal(
        r"does not support machine type '(?P<machine>[^']*)'|unsupported machine type",
        "the destination's QEMU does not know the guest's machine type",
        "choose a host with the same or a newer QEMU, or give the guest an older machine type and restart it",
    ),
    _refusal(
        r"Cannot check QEMU binary (?P<path>[^:]*)",
        "the destination has no emulator {path}",
        "make that path work there, or change <emulator> (virsh edit) and restart the guest",
    ),
    _refusal(
        r"Maximum CPUs greater than specified machine type limit (?P<limit>\d+)",
        "the destination gives this machine type at most {limit} vCPUs",
        "choose another host, or give the guest fewer vCPUs and restart it",
    ),
    _refusal(
        r"Cannot (?:get interface \w+ on|get interface index for|add port to|find bridge) '?(?P<bridge>[\w.-]+)'?",
        "the destination has no bridge {bridge}",
        "make a bridge of that name there, on the same network segment",
    ),
    _refusal(
        r"Network not found: no network with matching name '(?P<network>[^']*)'",
        "the destination has no network {network}",
        "virsh net-define it there",
    ),
    _refusal(
        r"network '(?P<network>[^']*)' is not active",
        "network {network} at the destination is not active",
        "virsh net-start {network}; virsh net-autostart {network}",
    ),
    _refusal(
        r"Cannot access storage file '(?P<path>[^']*)'",
        "the destination cannot open the disk {path}",
        "put it on storage that both hosts share, and look at the rights of the file there",
    ),
    _refusal(
        r"domain '(?P<guest>[^']*)' (?:already exists|is already defined|is already active) ?(?:with uuid (?P<uuid>\S+))?|domain is already active as '(?P<other>[^']*)'",
        "the destination has a guest of that name or UUID",
        "look there with virsh list --all; decide which is right, then rename or undefine the other",
    ),
    _refusal(
        r"Source host lock driver (?P<ours>\S+) different from target (?P<theirs>\S+)|lock state for migration cookie",
        "libvirt's lock manager is not the same at both hosts",
        "set the same lock_manager in /etc/libvirt/qemu.conf of both, then restart libvirtd",
    ),
    _refusal(
        r"(?:could not open|could not load|failed to load).*(?:kernel|initrd|firmware|bios|\.fd)|could not open kernel",
        "the destination's QEMU cannot open the guest's kernel or firmware",
        "put the same file there: virsh dumpxml GUEST names it",
    ),
)
