"""May a shut-off guest's definition move alone? Its disks must be the same storage at both hosts, and nothing may be lost."""

from collections.abc import Iterable, Iterator

from ferryman.model.backup import CHECKPOINT
from ferryman.model.finding import Finding, blocker, note
from ferryman.model.request import CopyStorage, Options
from ferryman.model.site import Reach, Site

# What a live move finds and that speaks here in the same way. The others are about memory on its way, or about QEMUs that
# meet: nothing of the guest runs.
ALSO = frozenset(
    (
        "same-host",
        "job-running",
        "being-moved",
        "mark-stale",
        "mark-left",
        "active-at-destination",
        "defined-at-destination",
        "definition-replaced",
        "name-taken",
        "mac-taken",
        "maintenance",
        "architecture",
        "emulator-missing",
        "machine-type",
        "boot-file-missing",
        "boot-files-not-checked",
        "tpm-device",
        "secret-missing",
        "secret-named",
        "vcpus",
        "vcpu-limit",
        "pinned-cpus",
        "numa-nodes",
        "disk-unproved",
        "disk-network",
        "pool-missing",
        "bridge-missing",
        "bridge-not-checked",
        "network-missing",
        "network-inactive",
        "portgroup-missing",
        "filter-missing",
        "filter-not-checked",
        "listen-missing",
        "listen-not-checked",
        "seclabel-missing",
        "private-network",
        "other-segment",
        "segment-not-checked",
        "direct-interface",
        "interface-kind",
    )
)


def findings(site: Site, options: Options, live: Iterable[Finding]) -> Iterator[Finding]:
    """Of what a live move would find, what holds here too; and what only matters to a guest that is shut off."""
    yield from (finding for finding in live if finding.code in ALSO)
    yield from _disks(site, options)
    yield from _left_behind(site)
    if any(finding.code == "cpu-incompatible" for finding in live) and site.guest.cpu_mode == "custom":
        yield from (finding for finding in live if finding.code == "cpu-incompatible")


def _disks(site: Site, options: Options) -> Iterator[Finding]:
    guest, destination = site.guest, site.destination.host.name
    reach = {one.target: one for one in site.ground.disks}
    for disk in guest.disks:
        one = reach.get(disk.target)
        if one is None:
            continue
        what = f"disk {disk.target} ({disk.source}) of guest {guest.name}"
        if one.reach is Reach.DIFFERENT and disk.device in ("cdrom", "floppy"):
            yield blocker("disk-stays", what, f"{destination} does not have it ({one.how}), and media are not copied when a definition moves",
                          f"--cold copies it; or take it out: virsh change-media {guest.name} {disk.target} --eject --config")  # fmt: skip
        elif one.reach is Reach.DIFFERENT:
            yield blocker("disk-stays", what, f"{destination} has other storage there ({one.how}), and disks are not copied when a definition moves",
                          "--cold copies it while the guest stays off; or put the disk on storage that both hosts share")  # fmt: skip
        elif options.copy_storage is CopyStorage.ALL and not disk.read_only:
            yield blocker("disk-stays", what, "--copy-storage all asks for a copy, and disks are not copied when a definition moves",
                          "add --cold, or leave --copy-storage away")  # fmt: skip


def _left_behind(site: Site) -> Iterator[Finding]:
    """What libvirt keeps beside the definition, at the source only. Its own undefine refuses for most of it."""
    guest, what = site.guest, f"guest {site.guest.name}"
    if guest.snapshots:
        yield blocker("snapshots-stay", what, f"it has snapshots ({', '.join(guest.snapshots)}): what libvirt knows of them does not travel",
                      f"--cold takes them along; or virsh snapshot-delete {guest.name} NAME, with --metadata to keep their data in the image")  # fmt: skip
    if guest.checkpoints and all(one.startswith(CHECKPOINT) for one in guest.checkpoints):
        yield note("checkpoints-left", what, f"the checkpoint of its last backup by ferryman ({', '.join(guest.checkpoints)}) stays behind: the next one compares everything")  # fmt: skip
    elif guest.checkpoints:
        yield blocker("checkpoints-stay", what, f"it has checkpoints ({', '.join(guest.checkpoints)}): what libvirt knows of them does not travel",
                      f"virsh checkpoint-delete {guest.name} NAME; the next backup is a full one")  # fmt: skip
    if guest.managed_save:
        yield blocker("managed-save-stays", what, "it was put to sleep with its memory saved at the source: that does not travel",
                      f"--cold takes it along; or virsh managedsave-remove {guest.name} if its memory may be lost")  # fmt: skip
    if guest.tpm == "emulator":
        yield blocker("tpm-state-stays", f"TPM of guest {guest.name}", "its state is a directory of the source, which is not copied",
                      "--cold copies it too; or start the guest and move it live: then the state travels")  # fmt: skip
    yield from bound_to_the_source(site)


def bound_to_the_source(site: Site) -> Iterator[Finding]:
    """What no way of moving a guest that stands still takes along."""
    guest = site.guest
    for device in guest.host_devices:
        yield blocker("device-stays", f"{device.kind} {device.name} of guest {guest.name}", "it belongs to the source host; the guest would not start without it",
                      f"virsh detach-device {guest.name} FILE --config before the move")  # fmt: skip
    for path in guest.state_files:
        yield blocker("state-stays", f"{path} of guest {guest.name}", "it holds what the guest keeps in its memory device or TPM, and is not copied: the destination would begin with an empty one",
                      "start the guest and move it live: then it travels")  # fmt: skip
    yield from _variables(site)


def _variables(site: Site) -> Iterator[Finding]:
    """Firmware variables: a file is copied, a device or network storage must be there already."""
    guest, found, there = site.guest, site.ground.nvram, site.destination.host.name
    if found is None:
        return
    what = f"firmware variables {guest.nvram or guest.nvram_store} of guest {guest.name}"
    if found.reach is Reach.UNPROVED and not guest.nvram_store:
        yield blocker("nvram-unproved", what, found.how, f"make sure that {there} has the directory, so that they can be copied there")  # fmt: skip
    elif guest.nvram_store and found.reach in (Reach.UNPROVED, Reach.DIFFERENT):
        yield blocker("nvram-stays", what, f"they are no file, so they are not copied, and {there} is not proved to have the same ones ({found.how})",
                      f"put them on storage that both hosts share; or, while the guest is off, make them a file: qemu-img convert -O raw {guest.nvram_store} FILE, and <nvram>FILE</nvram> by virsh edit {guest.name}")  # fmt: skip
    elif found.reach is Reach.NETWORK:
        yield note("nvram-network", what, "taken for the same at both hosts because of its name; not tried from the destination",
                   f"check that {there} may reach it (addresses, secrets)")  # fmt: skip
