"""What libvirt knows of a guest's checkpoints is there again after a move that was put back, and the next backup is as small as it would have been."""

from dataclasses import replace

import pytest

from lab import guests
from lab.guests import Guest
from lab.host import Lab
from tests.lab.operators import PUT_BACK, SUCCEEDED, Operator
from tests.lab.test_cold import SPEC, judged, started

pytestmark = [pytest.mark.lab, pytest.mark.whole]

FILLED = 40  # MiB, behind the 16 that the guest writes to
BACKUP = "/var/lib/libvirt/images/stood-increment.qcow2"


def virsh(lab: Lab, *words: str, text: str | None = None) -> str:
    return lab.host("a").run(["virsh", *words], text_in=text, timeout=120).stdout


def described(lab: Lab, guest: Guest) -> list[str]:
    """Every checkpoint, each after the one it was made upon, as libvirt keeps it."""
    names = virsh(lab, "checkpoint-list", guest.name, "--name", "--topological").split()
    return [virsh(lab, "checkpoint-dumpxml", guest.name, name, "--security-info") for name in names]


def increment(lab: Lab, operator: Operator, guest: Guest, since: str) -> int:
    """The bytes that a backup of what was written since a checkpoint takes."""
    wanted = f"<domainbackup><incremental>{since}</incremental><disks><disk name='vda' type='file'><target file='{BACKUP}'/></disk></disks></domainbackup>"
    virsh(lab, "backup-begin", guest.name, "/dev/stdin", text=wanted)
    operator.wait_for(lambda: "None" in virsh(lab, "domjobinfo", guest.name), "the end of the backup")
    return int(lab.host("a").run(["stat", "-c", "%s", BACKUP]).stdout)


def test_a_guest_that_is_put_back_after_its_definition_left_has_its_checkpoints(whole: Lab, operator: Operator) -> None:
    with started(whole, replace(SPEC, disks=("local",), filled_mib=FILLED)) as guest:
        for name in ("one", "two"):
            virsh(whole, "checkpoint-create-as", guest.name, name)
        before = described(whole, guest)
        assert len(before) == 2
        moving = operator.start("migrate", guest.name, "--to", "b", "--yes", "--cold", crash="hold=leave:after")
        operator.wait_until_held(moving)
        assert guest.name not in virsh(whole, "list", "--all", "--name").split()
        assert operator.run("cancel", operator.request_id()).returncode == SUCCEEDED
        operator.let_go()
        assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
        judged(whole, guest, operator, "a")
        assert described(whole, guest) == before
        acknowledged = guests.health(whole, guest)["acknowledged"]
        assert 0 < increment(whole, operator, guest, "one") < FILLED << 20  # a full one takes more
        assert guests.health(whole, guest)["acknowledged"] >= acknowledged
