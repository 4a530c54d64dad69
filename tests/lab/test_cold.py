"""A guest is stopped, its disks are copied with proof, and it starts at the other host; put back at every point before its links are up."""

from collections.abc import Iterator

import pytest

from lab import guests
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab

IMAGES = "/var/lib/libvirt/images"
SPEC = GuestSpec(
    name="stood", address="10.77.0.141", memory_mib=128, disks=("local", "shared", "local:raw"), disk_mib=64, writes_per_s=200, autostart=True
)  # fmt: skip


@pytest.fixture
def local(whole: Lab) -> Iterator[Guest]:
    """A guest at host a with a local disk, a shared one and a local raw one."""
    clean(whole)
    guest = guests.start(whole, "a", SPEC)
    yield guest
    guests.remove(whole, guest)
    clean(whole)


def clean(lab: Lab) -> None:
    for host in lab.hosts:
        host.run(["sh", "-c", f"rm -f {IMAGES}/stood-* /srv/shared/stood-*; virsh pool-refresh local"])


def image_of(lab: Lab, host: str, target: str) -> str:
    rows = lab.host(host).run(["virsh", "domblklist", SPEC.name]).stdout.splitlines()
    return next(row.split()[1] for row in rows if row.split()[:1] == [target])


def nothing_is_held(lab: Lab) -> None:
    for host in lab.hosts:
        assert "qemu-nbd" not in host.run(["ps", "ax", "-o", "args"]).stdout
        assert host.run(["ls", "/run/ferryman/holds"], check=False).stdout.split() == []


def test_a_running_guest_goes_over_with_its_disks_and_their_digests(
    whole: Lab, local: Guest, operator: Operator
) -> None:
    there = operator.migrate(local, "b", "--cold")
    assert there.returncode == SUCCEEDED, there.stdout + there.stderr
    judge(whole, local, at="b", operator=operator, image=image_of(whole, "b", "vda"))
    nothing_is_held(whole)
    print(there.stdout)
