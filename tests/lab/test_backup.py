"""Guests backed up while they write and while they are off, increments, and guests brought back that boot; damaged backups bring back nothing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from lab import guests, witness
from lab.digest import documented_digest
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import SUCCEEDED, Operator

pytestmark = pytest.mark.lab

IMAGES = "/var/lib/libvirt/images"
PLACE = "/srv/backups"  # of each host its own
MIB = 1 << 20
SPEC = GuestSpec(
    name="kept", address="10.77.0.161", memory_mib=128, disks=("local", "local:raw"), disk_mib=192, filled_mib=96, writes_per_s=200, agent=True
)  # fmt: skip
QCOW2 = replace(SPEC, disks=("local",))
SECOND = replace(QCOW2, name="second")


@contextmanager
def started(lab: Lab, spec: GuestSpec) -> Iterator[Guest]:
    """A guest of that kind at host a; afterwards nothing of it is left, and no backup."""
    clean(lab)
    guest = guests.start(lab, "a", spec)
    try:
        yield guest
    finally:
        guests.remove(lab, guest)
        guests.remove(lab, replace(guest, spec=SECOND))
        clean(lab)


def clean(lab: Lab) -> None:
    for host in lab.hosts:
        host.run(["sh", "-c", f"umount {IMAGES}/small 2>/dev/null; rm -rf {PLACE} {IMAGES}/kept* {IMAGES}/second* {IMAGES}/.ferryman-* {IMAGES}/small /var/lib/ferryman/copies; virsh pool-refresh local"])  # fmt: skip


def backed_up(operator: Operator, *more: str, to: str = f"b:{PLACE}") -> dict[str, Any]:
    """A backup that succeeded; its report."""
    done = operator.run("backup", "kept", to, *more)
    assert done.returncode == SUCCEEDED, done.stdout + done.stderr
    return operator.last()


def folder(report: dict[str, Any]) -> str:
    return str(report["backup"]["folder"]["path"])


def manifest(lab: Lab, report: dict[str, Any], at: str = "b") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lab.host(at).run(["cat", f"{folder(report)}/manifest.json"]).stdout)
    return found


def proved(lab: Lab, report: dict[str, Any], acknowledged: int = 0, at: str = "b") -> None:
    """Each image holds what the manifest says, and every block that the guest had been told to be on disk."""
    found = manifest(lab, report, at)
    for disk in found["disks"]:
        image = f"{folder(report)}/{disk['file']}"
        with witness.content(lab, image, at=at) as content:
            assert documented_digest()(content.name) == disk["digest"], disk
        if disk["target"] == "vda":
            blocks = witness.judge_blocks(witness.raw_image(lab, image, at=at), acknowledged)
            assert (blocks.wrong, blocks.missing) == (0, 0), blocks


def tidy(lab: Lab, guest: Guest, checkpoints: int) -> None:
    """Nothing is left at the guest's host but so many checkpoints; it runs, and its console says that it was thawed as often as frozen."""
    a = lab.host("a")
    assert len(a.run(["virsh", "checkpoint-list", "--name", guest.name]).stdout.split()) == checkpoints
    assert "None" in a.run(["virsh", "domjobinfo", guest.name], check=False).stdout
    assert a.run(["sh", "-c", f"ls -A {IMAGES} | grep scratch"], check=False).stdout == ""
    assert "qemu-nbd" not in a.run(["ps", "ax", "-o", "args"]).stdout
    assert lab.host("b").run(["sh", "-c", f"ls -d {PLACE}/*/.partial-* 2>/dev/null"], check=False).stdout == ""
    log = a.run(["cat", f"/var/log/libvirt/qemu/{guest.name}-console.log"], check=False).stdout
    assert log.rfind("writes again") >= log.rfind("writes nothing")


def test_a_writing_guest_is_backed_up_increments_hold_what_changed_and_a_second_guest_of_it_boots(
    whole: Lab, operator: Operator
) -> None:
    with started(whole, SPEC) as guest:
        before = guests.health(whole, guest)["acknowledged"]
        full = backed_up(operator)
        tidy(whole, guest, 1)
        proved(whole, full, before)
        assert (full["backup"]["consistency"], full["backup"]["chain"]) == ("frozen", 1)
        assert full["backup_copies"]["vda"]["way"] == "tls"
        before = guests.health(whole, guest)["acknowledged"]
        increment = backed_up(operator)
        tidy(whole, guest, 1)
        proved(whole, increment, before)
        assert increment["backup"]["chain"] == 2
        disks = {disk["target"]: disk for disk in manifest(whole, increment)["disks"]}
        assert (disks["vda"]["reading"], disks["vdb"]["reading"]) == ("bitmap", "digests")
        assert (
            increment["backup_copies"]["vda"]["read"] < 32 * MIB
        )  # what the guest writes, and not what fills its disk
        assert disks["vda"]["bytes"] < 32 * MIB
        assert disks["vdb"]["bytes"] < MIB  # raw: all was read, and nothing of it differs
        assert "raw images do not remember" in json.dumps(increment["findings_before"])
        listed = operator.run("backups", f"b:{PLACE}", "--verify")
        assert listed.returncode == SUCCEEDED, listed.stdout + listed.stderr
        assert listed.stdout.count("verified") == 2
        whole.host("a").run(["virsh", "destroy", guest.name])
        restored = operator.run("restore", f"b:{folder(increment)}", "--to", "b", "--name", "second", "--start")
        assert restored.returncode == SUCCEEDED, restored.stdout + restored.stderr
        guests.wait_healthy(whole, guest)
        assert guests.health(whole, guest)["wrong"] == 0
        b = whole.host("b")
        assert b.run(["virsh", "domuuid", "second"]).stdout.strip() != guest.uuid
        assert guest.mac not in b.run(["virsh", "dumpxml", "second"]).stdout
        images = [row.split()[1] for row in b.run(["virsh", "domblklist", "second"]).stdout.splitlines()[2:] if row]
        assert images == [f"{IMAGES}/second-vda.qcow2", f"{IMAGES}/second-vdb.raw"]
        report = witness.check_disk(whole, guest, at="b", acknowledged=before, path=images[0])
        assert (report.wrong, report.missing) == (0, 0), report
        assert operator.last()["outcome"]["running_at"] == "b"
