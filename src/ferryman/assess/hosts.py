"""Is the destination meant to take guests, and are the two hosts alike in what a move rests on: clocks, lock managers?"""

from collections.abc import Iterator

from ferryman.model.finding import Finding, blocker, warning
from ferryman.model.site import Site

SKEW = (
    1.0  # seconds; logs of two hosts cannot be read side by side beyond it, and guests that read the host's clock jump
)


def findings(site: Site) -> Iterator[Finding]:
    """Maintenance, clocks, lock managers."""
    source, destination = site.source.host.name, site.destination.host
    if destination.maintenance:
        reason = f": {destination.maintenance_reason}" if destination.maintenance_reason else ""
        yield blocker("maintenance", f"host {destination.name}", f"it is in maintenance{reason}",
                      f"choose another host, or ferryman host maintenance {destination.name} off")  # fmt: skip
    clocks = site.ground.clocks
    if clocks is not None and abs(clocks.skew) > SKEW + clocks.uncertainty:
        ahead, behind = (destination.name, source) if clocks.skew > 0 else (source, destination.name)
        yield warning("clock-skew", f"clocks of {source} and {destination.name}", f"{ahead}'s is {abs(clocks.skew):.1f} s ahead of {behind}'s: the guest's time may jump, certificates may seem not yet valid",
                      "run chrony at both")  # fmt: skip
    if site.ground.lock_managers is not None:
        ours, theirs = site.ground.lock_managers
        if ours != theirs:
            yield blocker("lock-manager", f"lock managers of {source} and {destination.name}", f"{source} uses {ours or 'none'}, {destination.name} {theirs or 'none'}: a lock of one is none to the other, and libvirt refuses",
                          "set the same lock_manager in /etc/libvirt/qemu.conf of both, then restart libvirtd")  # fmt: skip
