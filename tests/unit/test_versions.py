"""The version matrix: each row as it was seen, and what no row speaks of."""

from dataclasses import replace

import pytest

from ferryman.assess.versions import PAIRS, POST_COPY, TROUBLES, findings
from ferryman.model.finding import Severity
from ferryman.model.guest import Disk
from tests.unit.sites import good_site, with_versions

BOOKWORM, TRIXIE, FORKY = (7, 2, 22), (10, 0, 3), (11, 1, 0)  # QEMU in Debian 12, 13 and its successor
VIRTIO = (Disk("vda", "disk", "file", "/srv/shared/web.qcow2", "qcow2", "none", False, False, bus="virtio"),)
SCSI = (replace(VIRTIO[0], target="sda", bus="scsi"),)


@pytest.mark.parametrize(
    ("source", "destination", "disks", "expected"),
    [
        (TRIXIE, TRIXIE, VIRTIO, []),
        (BOOKWORM, TRIXIE, VIRTIO, []),
        (TRIXIE, BOOKWORM, VIRTIO, [("version-backwards", Severity.WARNING)]),
        (TRIXIE, FORKY, VIRTIO, [("version-pair", Severity.BLOCKER)]),
        (TRIXIE, FORKY, SCSI, [("version-untried", Severity.NOTE)]),
        (BOOKWORM, FORKY, VIRTIO, [("version-untried", Severity.NOTE)]),
        (TRIXIE, (2, 8, 0), VIRTIO, [("version-pair", Severity.BLOCKER)]),
        (FORKY, (10, 2, 0), VIRTIO, [("version-backwards", Severity.WARNING)]),
    ],
)
def test_each_pair(
    source: tuple[int, int, int],
    destination: tuple[int, int, int],
    disks: tuple[Disk, ...],
    expected: list[tuple[str, Severity]],
) -> None:
    found = list(findings(with_versions(source, destination, disks=disks)))
    assert [(one.code, one.severity) for one in found] == expected


def test_a_refused_pair_names_what_was_refused() -> None:
    (finding,) = findings(with_versions(TRIXIE, FORKY, disks=VIRTIO))
    assert "1024 > 256" in finding.why
    assert finding.remedy


def test_a_pair_that_was_tried_backwards_says_so() -> None:
    (finding,) = findings(with_versions(TRIXIE, BOOKWORM))
    assert "tried: Debian 13 to Debian 12" in finding.why


def test_post_copy_to_a_libvirt_whose_recovery_crashes_is_known_and_only_when_it_is_used() -> None:
    site = good_site()  # libvirt 11.3
    assert not list(findings(site))
    assert [one.code for one in findings(site, frozenset({POST_COPY}))] == ["version-trouble"]
    newer = replace(site, destination=replace(site.destination, libvirt_version=(11, 4, 0)))
    assert not list(findings(newer, frozenset({POST_COPY})))


def test_every_row_says_where_it_was_seen() -> None:
    assert all(row.seen and row.why for row in (*PAIRS, *TROUBLES))
