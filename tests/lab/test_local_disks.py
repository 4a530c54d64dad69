"""Disks that the hosts do not share are copied while the guest writes to them; none of its writes is lost, nothing is left unsaid."""

import hashlib
import json
import time
from collections.abc import Iterator

import pytest

from lab import faults, guests, witness
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import PUT_BACK, REFUSED, SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab

IMAGES = "/var/lib/libvirt/images"
ISO = f"{IMAGES}/seed.iso"
SPEC = GuestSpec(
    name="stays", address="10.77.0.121", disks=("local", "shared", "local:raw:volume"), writes_per_s=400, autostart=True, cdrom=ISO
)  # fmt: skip


@pytest.fixture
def local(whole: Lab) -> Iterator[Guest]:
    """A guest at host a that writes hard to a local disk, beside a shared one, a raw volume of a local pool and a local medium."""
    for host in whole.hosts:
        host.run(["sh", "-c", f"rm -f {IMAGES}/stays-* {ISO}"])
    whole.host("a").run(["sh", "-c", f"head -c 3M /dev/urandom >{ISO}"])
    guest = guests.start(whole, "a", SPEC)
    yield guest
    guests.remove(whole, guest)
    for host in whole.hosts:
        host.run(["sh", "-c", f"rm -f {IMAGES}/stays-* {ISO} {IMAGES}/seed-*; virsh pool-refresh local"])


def images(lab: Lab, host: str) -> set[str]:
    return set(lab.host(host).run(["ls", IMAGES]).stdout.split())


def source_of(lab: Lab, host: str, target: str) -> str:
    rows = lab.host(host).run(["virsh", "domblklist", SPEC.name]).stdout.splitlines()
    return next(row.split()[1] for row in rows if row.split()[:1] == [target])


def judged(lab: Lab, guest: Guest, operator: Operator, at: str, seen: witness.CountReport) -> None:
    """As everywhere, with the image looked for where the guest's definition says it is now."""
    judge(lab, guest, at=at, seen=seen, operator=operator, image=source_of(lab, at, "vda"))


def test_there_and_back_under_full_write_load_and_the_old_copies_retired(
    whole: Lab, local: Guest, operator: Operator
) -> None:
    with witness.Counter(whole, local) as counter:
        there = operator.migrate(local, "b")
        assert there.returncode == SUCCEEDED, there.stdout + there.stderr
        judged(whole, local, operator, "b", counter.report())
        first = operator.request_id()
        assert images(whole, "b") == {"stays-0.qcow2", "stays-2.raw", "seed.iso"}
        told = {one["target"]: one["allocation"] for one in operator.last()["volumes"]}
        size = int(whole.host("b").run(["stat", "-c", "%b", f"{IMAGES}/stays-0.qcow2"]).stdout) * 512
        assert size < 40 * 1024**2  # sparse: of 256 MiB, 16 are ever written
        assert abs(told["vda"] - size) < 8 * 1024**2
        findings = {one["code"] for one in operator.last()["findings_before"]}
        assert {"disk-copied", "raw-allocated"} <= findings  # raw: QEMU 10.0 allocates all of it
        kept = {one["path"] for one in operator.last()["left_to_retire"]}
        assert kept == {f"{IMAGES}/stays-0.qcow2", f"{IMAGES}/stays-2.raw", ISO}
        shown = operator.run("show", first).stdout
        assert "kept at a: " in shown
        assert all(f"{path} (" in shown for path in kept)
        back = operator.migrate(local, "a", "--retire")  # the old names are taken there by the copies kept
        assert back.returncode == SUCCEEDED, back.stdout + back.stderr
        judged(whole, local, operator, "a", counter.report())
    assert source_of(whole, "a", "vda") == f"{IMAGES}/stays-0-2.qcow2"
    assert source_of(whole, "a", "vdb") == guests.POOL_PATHS["shared"] + "/stays-1.qcow2"  # never copied
    assert "stays-0-2.qcow2" in whole.host("a").run(["virsh", "dumpxml", "--inactive", "stays"]).stdout
    assert images(whole, "b") == set()
    iso, copy = (whole.host("a").run(["sha256sum", path]).stdout.split()[0] for path in (ISO, f"{IMAGES}/seed-2.iso"))
    assert iso == copy
    retired = operator.run("retire", first)
    assert retired.returncode == SUCCEEDED, retired.stderr
    assert images(whole, "a") == {"stays-0-2.qcow2", "stays-2-2.raw", "seed-2.iso"}
    judge(whole, local, at="a", image=source_of(whole, "a", "vda"))


def test_a_move_that_is_rolled_back_removes_what_it_made_and_nothing_else(
    whole: Lab, local: Guest, operator: Operator
) -> None:
    whole.host("b").run(["qemu-img", "create", "-q", "-f", "qcow2", f"{IMAGES}/stays-0.qcow2", "1M"])  # somebody's
    somebodys = hashlib.sha256(guests.host_path(whole.host("b"), f"{IMAGES}/stays-0.qcow2").read_bytes()).hexdigest()
    a, after_next_start = whole.host("a"), f"{IMAGES}/seed-next.iso"
    a.run(["virsh", "change-media", "stays", "sda", after_next_start, "--update", "--config"])
    with witness.Counter(whole, local) as counter:
        running = operator.start_migration(local, "b", "--bandwidth", "12M", "--eject")
        operator.wait_for_bytes()
        assert "stays-0-2.qcow2" in images(whole, "b")
        assert whole.host("a").run(["virsh", "domblklist", "stays"]).stdout.split()[-1] == "-"  # ejected
        faults.kill_guest_process(whole, "b", local)
        assert running.wait(60) == PUT_BACK
        judge(whole, local, at="a", seen=counter.report(), operator=operator)
    assert images(whole, "b") == {"stays-0.qcow2"}
    assert hashlib.sha256(guests.host_path(whole.host("b"), f"{IMAGES}/stays-0.qcow2").read_bytes()).hexdigest() == somebodys  # fmt: skip
    assert source_of(whole, "a", "sda") == ISO  # put back into its drive
    assert after_next_start in a.run(["virsh", "dumpxml", "--inactive", "stays"]).stdout
    assert not operator.last()["left_to_retire"]


def test_killed_while_a_mirror_runs_the_next_ferryman_carries_on(whole: Lab, local: Guest, operator: Operator) -> None:
    before, began = witness.wire_bytes(whole)["b", "migration"][0], time.monotonic()
    with witness.Counter(whole, local) as counter:
        doomed = operator.start_migration(local, "b", "--bandwidth", "40M")
        operator.wait_for_bytes()
        operator.kill(doomed)
        recovered = operator.run("recover")
        assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
        received = witness.wire_bytes(whole)["b", "migration"][0] - before
        assert received / (time.monotonic() - began) < 44 * 1024**2  # the cap holds for disks and memory together
        assert any("for each of 2 disks" in text for text in operator.records.decisions(operator.request_id()))
        judged(whole, local, operator, "b", counter.report())
    assert {one["target"] for one in operator.last()["left_to_retire"]} == {"vda", "vdc", "sda"}


def test_a_pool_is_mapped_and_the_map_is_remembered(whole: Lab, local: Guest, operator: Operator) -> None:
    b = whole.host("b")
    b.run(["sh", "-c", "mkdir -p /srv/fast; virsh pool-create-as fast dir --target /srv/fast"])
    try:
        planned = operator.run("migrate", local.name, "--to", "b", "--dry-run", "--map-pool", "local=nowhere")
        assert planned.returncode == REFUSED
        assert "no pool nowhere" in planned.stdout
        moved = operator.migrate(local, "b", "--map-pool", "local=fast", "--eject")
        assert moved.returncode == SUCCEEDED, moved.stdout
        assert source_of(whole, "b", "vda") == "/srv/fast/stays-0.qcow2"
        assert operator.records.maps("a", "b") == ({"local": "fast"}, {})
        found = json.loads(operator.run("assess", local.name, "--to", "a", "--json").stdout)["findings"]
        assert not any(one["code"] == "no-pool" for one in found)  # on the way back the map is turned round
    finally:
        guests.remove(whole, local)
        b.run(["sh", "-c", "virsh pool-destroy fast; rm -rf /srv/fast"], check=False)


def test_the_last_copy_is_never_retired(whole: Lab, local: Guest, operator: Operator) -> None:
    assert operator.migrate(local, "b", "--eject").returncode == SUCCEEDED
    b = whole.host("b")
    b.run(["virsh", "destroy", local.name])
    refused = operator.run("retire", operator.request_id())
    assert refused.returncode == REFUSED
    assert "last copy" in refused.stderr
    b.run(["virsh", "start", local.name])
    a = whole.host("a")
    a.run(["virsh", "define", "/dev/stdin"], text_in=guests.definition(whole, Guest(GuestSpec(name="stays", disks=("local",)), "9b0c3c02-5f0e-4a0f-8a52-6a1f0f3e0001", "52:54:00:00:00:77")))  # fmt: skip
    try:
        refused = operator.run("retire", operator.request_id())  # another guest at a names that image
        assert refused.returncode == REFUSED
        assert "stands upon it" in refused.stderr
        assert "stays-0.qcow2" in images(whole, "a")
    finally:
        a.run(["virsh", "undefine", "stays"])
