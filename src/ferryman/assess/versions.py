"""Which versions work together: data, each row with where it was seen. What no row speaks of was not tried by us."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from ferryman.model.finding import Finding, blocker, note, warning
from ferryman.model.site import Site

Range = tuple[tuple[int, int], tuple[int, int]]  # (major, minor) from and to, both included


class Verdict(StrEnum):
    """What is known of a pair."""

    GOOD = "good"
    REFUSED = "refused"  # each try failed: a blocker


@dataclass(frozen=True)
class Pair:
    """A pair of QEMU versions whose live migration was tried, or that the project speaks of."""

    source: Range
    destination: Range
    verdict: Verdict
    why: str
    seen: str  # by whom, with what, how often
    disk_bus: str = ""  # only guests with a disk on this bus; empty: all
    remedy: str = "upgrade the destination"


# The first row that fits counts.
PAIRS = (
    Pair(((7, 2), (7, 2)), ((10, 0), (10, 0)), Verdict.GOOD, "Debian 12 to Debian 13", "moved with machine type pc-q35-7.2"),
    Pair(((10, 0), (10, 0)), ((7, 2), (7, 2)), Verdict.GOOD, "Debian 13 to Debian 12", "moved with machine type pc-q35-7.2, which both know"),
    Pair(
        ((10, 0), (10, 0)), ((11, 0), (11, 99)), Verdict.REFUSED,
        "QEMU 11 refuses the state of virtio-blk disks from QEMU 10.0: vring size 1024 > 256",
        "Debian 13 to Debian forky's QEMU 11: failed each time, naming virtio-blk's vring.num; all releases of 11 are taken to be alike",
        disk_bus="virtio",
        remedy="choose a destination with QEMU 10; on shared storage the guest can be moved shut off",
    ),
    Pair(
        ((10, 0), (9999, 0)), ((0, 0), (2, 11)), Verdict.REFUSED,
        "QEMU before 2.12 cannot read the device state of today's machine types", "QEMU's changelog; not tried",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Trouble:
    """A feature of a move that a version of libvirt at the destination cannot be trusted with."""

    feature: str
    destination_libvirt: Range
    why: str
    seen: str


POST_COPY = "post-copy"
TROUBLES = (
    Trouble(POST_COPY, ((11, 2), (11, 3)), "recovering a broken post-copy kills its libvirtd (fixed in libvirt 11.4)",
            "a segmentation fault each time with 11.2 and 11.3 (Debian 13); works with 9.0 and 12.8"),
)  # fmt: skip


def findings(site: Site, features: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """What is known of the two QEMUs, and of what the move would use (`features`; today's live moves use none of them)."""
    ours, theirs = site.source.qemu_version, site.destination.qemu_version
    text = f"QEMU {_dotted(ours)} to {_dotted(theirs)}"
    pair = known(site)
    if pair is not None and pair.verdict is Verdict.REFUSED:
        yield blocker("version-pair", text, pair.why, pair.remedy)
    elif theirs[:2] < ours[:2]:
        tried = f"; tried: {pair.why}, {pair.seen}" if pair is not None else "; not tried by us"
        yield warning("version-backwards", text, f"from newer to older: works when the machine type is known to both and no newer device state is in use; QEMU does not promise it{tried}",
                      "upgrade the destination, or try with a guest that may fail")  # fmt: skip
    elif theirs[:2] > ours[:2] and pair is None:
        yield note("version-untried", text, "from older to newer: QEMU promises it, we have not tried this pair",
                   "try with a guest that may fail")  # fmt: skip
    for trouble in TROUBLES:
        if trouble.feature in features and _within(site.destination.libvirt_version, trouble.destination_libvirt):
            yield note("version-trouble", f"{trouble.feature} to libvirt {_dotted(site.destination.libvirt_version)}", trouble.why,
                       "upgrade libvirt at the destination")  # fmt: skip


def known(site: Site) -> Pair | None:
    """The row that speaks of this pair and this guest."""
    buses = {disk.bus for disk in site.guest.disks}
    return next(
        (
            pair
            for pair in PAIRS
            if _within(site.source.qemu_version, pair.source)
            and _within(site.destination.qemu_version, pair.destination)
            and (not pair.disk_bus or pair.disk_bus in buses)
        ),
        None,
    )


def _within(version: tuple[int, int, int], span: Range) -> bool:
    return span[0] <= version[:2] <= span[1]


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
