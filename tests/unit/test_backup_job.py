"""A backup job that cannot begin: which of libvirt's words mean that another's job is in the way, and which that a bitmap is of no use."""

import libvirt
import pytest

from ferryman.drivers.libvirt import backup
from ferryman.errors import AlreadyRunning, NoBitmap
from ferryman.model.backup_job import BackupDisk, BackupJob
from tests.unit.test_libvirt_errors import Provoked

JOB = BackupJob("r1", (BackupDisk("vda", "/srv/.scratch", "", True),), "ferryman-r1-1")


class Domain:
    """As much of one as is asked before and in the call. A job may begin during it."""

    def __init__(self, error: libvirt.libvirtError, *, runs: bool = False, begins: bool = False) -> None:
        self._error, self._runs, self._begins = error, runs, begins

    def name(self) -> str:
        return "web"

    def ID(self) -> int:  # noqa: N802 (libvirt's)
        return 1

    def XMLDesc(self) -> str:  # noqa: N802 (libvirt's)
        return "<domain><devices><disk><target dev='vda'/></disk></devices></domain>"

    def jobStats(self) -> dict[str, int]:  # noqa: N802 (libvirt's)
        kind = libvirt.VIR_DOMAIN_JOB_UNBOUNDED if self._runs else libvirt.VIR_DOMAIN_JOB_NONE
        return {"type": kind, "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP}

    def backupBegin(self, backup_xml: str, checkpoint_xml: str, flags: int) -> None:  # noqa: N802 (libvirt's)
        assert not self._runs, "it would wait for 30 s"
        self._runs = self._begins
        raise self._error


STUCK = Provoked(
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
    "Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatchDomainBackupBegin)",
)
MIRRORED = Provoked(libvirt.VIR_ERR_INTERNAL_ERROR, "internal error: disk 'vda' has a blockjob assigned")
LOST = Provoked(libvirt.VIR_ERR_CHECKPOINT_INCONSISTENT, "missing or broken bitmap 'one' for disk 'vda'")


@pytest.mark.parametrize(
    ("domain", "job"),
    [
        (Domain(STUCK, runs=True), "dump"),
        (Domain(STUCK, begins=True), "dump"),
        (Domain(MIRRORED), "block job"),
    ],
)
def test_another_job_is_told_as_that(domain: Domain, job: str) -> None:
    with pytest.raises(AlreadyRunning, match=rf"a job \({job}\) runs on it"):
        backup.begin(domain, JOB)


def test_what_is_stuck_without_a_job_is_no_job_of_another() -> None:
    with pytest.raises(libvirt.libvirtError, match="state change lock"):
        backup.begin(Domain(STUCK), JOB)


def test_a_bitmap_that_is_of_no_use_is_told_as_that() -> None:
    with pytest.raises(NoBitmap):
        backup.begin(Domain(LOST), JOB)
