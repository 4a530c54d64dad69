"""A backup job that cannot begin: which of libvirt's words mean that another's job is in the way, and which that a bitmap is of no use."""

from xml.etree import ElementTree

import libvirt
import pytest

from ferryman.drivers.libvirt import backup
from ferryman.errors import AlreadyRunning, NoBitmap
from ferryman.model.backup_job import BackupDisk, BackupJob, offered
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


class Named(Domain):
    """One whose job begins where its directory is."""

    def __init__(self, name: str, directory: str) -> None:
        super().__init__(LOST)
        self._name, self._directory = name, directory
        self.asked = ""

    def name(self) -> str:
        return self._name

    def backupBegin(self, backup_xml: str, checkpoint_xml: str, flags: int) -> None:  # noqa: N802 (libvirt's)
        self.asked = backup_xml
        path = ElementTree.fromstring(backup_xml).find("server").attrib["socket"]  # type: ignore[union-attr]
        if path.rpartition("/")[0] != self._directory:
            raise Provoked(libvirt.VIR_ERR_INTERNAL_ERROR, f"internal error: unable to execute QEMU command 'nbd-server-start': Failed to bind socket to {path}: No such file or directory")  # fmt: skip


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


@pytest.mark.parametrize(("there", "name"), [("数据库主服务器一号", "数据库主服务器一号"), ("数据库主服务", "数据库主服务器一号"), ("windows 2022 standard"[:20], "windows 2022 standard")])  # fmt: skip
def test_the_socket_lies_where_libvirt_keeps_the_guests_things_whatever_its_locale(there: str, name: str) -> None:
    """Of one of UTF-8, twenty characters of a name; else so many bytes."""
    directory = f"{backup.DIRECTORY}/domain-1-{there}"
    domain = Named(name, directory)
    socket = backup.begin(domain, JOB)
    assert socket.rpartition("/")[0] == directory
    assert "%" not in domain.asked
    assert " " not in offered("vda", socket).location


def test_a_bitmap_that_is_of_no_use_is_told_as_that() -> None:
    with pytest.raises(NoBitmap):
        backup.begin(Domain(LOST), JOB)
