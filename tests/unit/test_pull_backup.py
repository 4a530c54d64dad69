"""A backup job is begun over all disks that are asked for, or not at all. By libvirt's own test driver, whose guests have no jobs."""

from collections.abc import Iterator

import libvirt
import pytest

from ferryman.drivers.libvirt import backup
from ferryman.errors import DriverError
from ferryman.model.backup_job import BackupDisk, BackupJob
from tests.unit.sites import UUID

DOMAIN = f"""<domain type='test'><name>web</name><uuid>{UUID}</uuid><memory>1000</memory><os><type>hvm</type></os><devices>
  <disk type='file' device='disk'><source file='/srv/web.qcow2'/><target dev='vda'/></disk>
</devices></domain>"""


@pytest.fixture
def domain() -> Iterator[libvirt.virDomain]:
    link = libvirt.open("test:///default")
    yield link.createXML(DOMAIN)
    link.close()


def test_a_disk_that_was_unplugged_is_named_and_not_left_out(
    domain: libvirt.virDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "job_of", lambda _: "")
    job = BackupJob("r1", (BackupDisk("vda", "/s/a", "", True), BackupDisk("vdb", "/s/b", "", True)), "moment")
    with pytest.raises(DriverError, match="vdb is not attached to it any more"):
        backup.begin(domain, job)
