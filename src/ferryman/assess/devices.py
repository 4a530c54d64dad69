"""Can the guest's devices travel: what belongs to the source's hardware, the TPM, a medium in a drive?"""

from collections.abc import Iterator

from ferryman.model.finding import Finding, blocker, note
from ferryman.model.site import Reach, Site


def findings(site: Site) -> Iterator[Finding]:
    """Host devices, TPM, media."""
    guest = site.guest
    for device in guest.host_devices:
        yield blocker("host-device", f"{device.kind} {device.name} of guest {guest.name}", "it belongs to the source host and cannot travel with a running guest",
                      f"virsh detach-device {guest.name} FILE before the move")  # fmt: skip
    yield from _tpm(site)
    yield from _secrets(site)
    shared = {one.target for one in site.ground.disks if one.reach in (Reach.SAME, Reach.NETWORK)}
    for disk in guest.disks:
        if disk.device in ("cdrom", "floppy") and disk.source and disk.target in shared:
            yield note("medium-present", f"drive {disk.target} of guest {guest.name}", f"{disk.source} is in it, and stays in it at the destination",
                       f"when it is not needed: virsh change-media {guest.name} {disk.target} --eject")  # fmt: skip


def _secrets(site: Site) -> Iterator[Finding]:
    """The definition names them; what they are stays in each host's own libvirt."""
    name, there = site.destination.host.name, site.destination.secrets
    for secret in site.guest.secrets:
        what = f"secret {secret} of guest {site.guest.name}"
        if there is not None and secret not in there:
            yield blocker("secret-missing", what, f"the guest's definition names it, and libvirt at {name} does not have it: the guest could not start there",
                          f"define it there under the same UUID and usage: virsh secret-define FILE, then virsh secret-set-value {secret} BASE64")  # fmt: skip
        else:
            seen = (
                "is there, whether with the same value was not looked at"
                if there is not None
                else "could not be looked at"
            )
            yield note("secret-named", what, f"the guest's definition names it; at {name} it {seen}", f"compare it: virsh secret-get-value {secret} at both hosts")  # fmt: skip


def _tpm(site: Site) -> Iterator[Finding]:
    guest, backends, name = site.guest, site.machine.tpm_backends, site.destination.host.name
    what = f"TPM of guest {guest.name}"
    if not guest.tpm:
        return
    if guest.tpm != "emulator":
        yield blocker("tpm-device", what, f"its backend is {guest.tpm}: the chip stays with the source host",
                      f"give the guest an emulated one: virsh edit {site.guest.name}, <backend type='emulator'/>")  # fmt: skip
    elif site.machine.available and backends is not None and "emulator" not in backends:
        yield blocker("tpm-missing", what, f"{name} has no TPM emulator", f"at {name}: apt install swtpm swtpm-tools, then restart libvirtd")  # fmt: skip
    else:
        yield note("tpm", what, "its state travels with the guest")
