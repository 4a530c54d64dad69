"""Another's backup job comes in the middle of a warm move: it is waited for, its checkpoint stays, and no write is lost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from lab import guests, witness
from lab.guests import Guest
from lab.host import Host, Lab
from tests.lab.operators import PUT_BACK, SUCCEEDED, Operator
from tests.lab.test_warm import IMAGES, QCOW2, image_of, judged, passes, proved, started

pytestmark = pytest.mark.lab

WRITING = replace(QCOW2, writes_per_s=1000)
LASTS = 15.0  # seconds
BACKUP = f"""<domainbackup mode="pull">
  <server transport="unix" socket="/var/lib/libvirt/qemu/nightly.sock"/>
  <disks><disk name="vda" backup="yes" type="file"><scratch file="{IMAGES}/nightly-passed"/></disk></disks>
</domainbackup>"""
CHECKPOINT = '<domaincheckpoint><name>nightly</name><disks><disk name="vda" checkpoint="bitmap"/></disks></domaincheckpoint>'  # fmt: skip


@contextmanager
def nightly(host: Host, guest: Guest) -> Iterator[None]:
    """A backup with a checkpoint of its own, as a tool of somebody else begins it with virsh, until it is left."""
    for name, text in (("backup", BACKUP), ("checkpoint", CHECKPOINT)):
        host.run(["sh", "-c", f"cat >/tmp/{name}.xml <<'X'\n{text}\nX"])
    host.run(["virsh", "backup-begin", guest.name, "/tmp/backup.xml", "/tmp/checkpoint.xml"])
    try:
        yield
        assert "Backup" in host.run(["virsh", "domjobinfo", guest.name]).stdout, "somebody ended it"
        assert "nightly" in host.run(["virsh", "checkpoint-list", "--name", guest.name]).stdout
    finally:
        host.run(["virsh", "domjobabort", guest.name], check=False)


def in_seconds(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + seconds))


def decided(operator: Operator, words: str) -> bool:
    return any(words in one for one in operator.records.decisions(operator.request_id()))


def test_a_backup_between_two_passes_is_waited_for_and_costs_no_write(whole: Lab, operator: Operator) -> None:
    with started(whole, WRITING) as guest:
        a = whole.host("a")
        image = image_of(whole, "a", "vda")
        moving = operator.start_migration(guest, "b", "--warm", "--at", in_seconds(35), crash="hold=wait:inside")
        operator.wait_until_held(moving)
        with nightly(a, guest):
            operator.let_go()
            operator.wait_for(lambda: decided(operator, "is waited for"), "the waiting", 30)
            time.sleep(LASTS)
            assert moving.poll() is None
        assert moving.wait(200) == SUCCEEDED, moving.communicate()[0]
        assert "nightly" in a.run(["qemu-img", "info", image]).stdout  # as that tool left it
        a.run(["qemu-img", "bitmap", "--remove", image, "nightly"])
        judged(whole, guest, operator, "b")
        proved(whole, operator)
        first, second, *_ = passes(operator)
        assert second["since"] == first["moment"], "the bulk was begun twice"


@pytest.mark.whole
def test_a_backup_that_outlasts_the_time_puts_the_move_back_beside_it(whole: Lab, operator: Operator) -> None:
    with started(whole, WRITING) as guest, witness.Counter(whole, guest) as counter:
        a = whole.host("a")
        moving = operator.start_migration(
            guest, "b", "--warm", "--give-up-at", in_seconds(60), crash="hold=copy-ahead:inside"
        )
        operator.wait_until_held(moving)
        with nightly(a, guest):
            operator.let_go()
            assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
            assert "urn:ferryman:mark" not in a.run(["virsh", "dumpxml", guest.name]).stdout
            assert a.run(["virsh", "checkpoint-list", "--name", guest.name]).stdout.split() == ["nightly"]
        outcome = operator.last()["outcome"]
        assert "a job (backup) that is not ours" in outcome["reason"]
        assert "virsh domjobinfo passed" in outcome["remedy"]
        a.run(["virsh", "checkpoint-delete", guest.name, "nightly"])
        guests.wait_healthy(whole, guest)
        judged(whole, guest, operator, "a")
        assert counter.report().lost == 0
