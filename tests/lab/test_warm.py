"""Most of a guest's disks is copied while it writes, the rest while it stands still; afterwards nothing of the passes is left anywhere."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from lab import faults, guests, witness
from lab.digest import documented_digest
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import PUT_BACK, REFUSED, SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab

IMAGES = "/var/lib/libvirt/images"
SCRATCH = "/srv/scratch"
SPEC = GuestSpec(
    name="passed", address="10.77.0.151", memory_mib=128, disks=("local", "shared", "local:raw"), disk_mib=192, filled_mib=96,
    writes_per_s=200, autostart=True,
)  # fmt: skip
QCOW2 = replace(SPEC, disks=("local",))


@contextmanager
def started(lab: Lab, spec: GuestSpec) -> Iterator[Guest]:
    """A guest of that kind at host a; afterwards nothing of it is left."""
    clean(lab)
    guest = guests.start(lab, "a", spec)
    try:
        yield guest
    finally:
        guests.remove(lab, guest)
        clean(lab)


def clean(lab: Lab) -> None:
    for host in lab.hosts:
        host.run(["sh", "-c", f"umount {SCRATCH} 2>/dev/null; rm -f {IMAGES}/*passed* {IMAGES}/.*passed* {IMAGES}/.ferryman-* /srv/shared/passed-*; virsh pool-refresh local"])  # fmt: skip


def image_of(lab: Lab, host: str, target: str) -> str:
    rows = lab.host(host).run(["virsh", "domblklist", SPEC.name]).stdout.splitlines()
    return next(row.split()[1] for row in rows if row.split()[:1] == [target])


def judged(lab: Lab, guest: Guest, operator: Operator, at: str) -> None:
    """As everywhere; and no job, no checkpoint, no bitmap, no scratch file, no hold and no journal is left."""
    guests.wait_healthy(lab, guest)
    judge(lab, guest, at=at, operator=operator, image=image_of(lab, at, "vda"))
    here = lab.host(at)
    assert here.run(["virsh", "checkpoint-list", "--name", guest.name]).stdout.split() == []
    assert "None" in here.run(["virsh", "domjobinfo", guest.name]).stdout
    for host in lab.hosts:
        assert "qemu-nbd" not in host.run(["ps", "ax", "-o", "args"]).stdout
        for left in ("/run/ferryman/holds", "/var/lib/ferryman/copies"):
            assert host.run(["ls", left], check=False).stdout.split() == [], (host.name, left)
        scratch = host.run(["sh", "-c", f"ls -A {IMAGES} {SCRATCH} 2>/dev/null | grep 'scratch$'"], check=False).stdout
        assert scratch == "", (host.name, scratch)
        images = host.run(["sh", "-c", f"ls {IMAGES}/*.qcow2 2>/dev/null"], check=False).stdout.split()
        for image in images:
            told = json.loads(host.run(["qemu-img", "info", "-U", "--output=json", image]).stdout)
            assert "bitmaps" not in told.get("format-specific", {}).get("data", {}), (host.name, told)


def proved(lab: Lab, operator: Operator, source: str = "a") -> None:
    """The digests at the end are those of the whole disks that stayed at the source."""
    report = operator.last()
    left = {one["target"]: one["path"] for one in report["left_to_retire"]}
    assert left
    for target, path in left.items():
        with witness.content(lab, path, at=source) as disk:
            expected = documented_digest()(disk.name)
        copied = report["copies"][target]
        assert copied["source_digest"] == copied["destination_digest"] == expected, (target, copied)


def passes(operator: Operator) -> list[dict[str, Any]]:
    found = operator.records.facts(operator.request_id()).get("passes", [])
    return list(found)


def test_a_writing_guest_goes_over_and_little_is_left_for_the_stop(whole: Lab, operator: Operator) -> None:
    with started(whole, SPEC) as guest:
        moved = operator.migrate(guest, "b", "--warm", "--bandwidth", "24M", "--probe", f"{guest.address}:7001")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        proved(whole, operator)
        first, *later = passes(operator)
        assert first["read"] >= 96 << 20
        assert later, "one pass only"
        report = operator.last()
        assert set(report["copies"]) == {"vda", "vdc"}  # vdb is shared
        assert (
            report["copies"]["vda"]["read"] <= 48 << 20
        )  # the blocks that the guest writes, and not what fills its disk
        assert report["copies"]["vdc"]["written"] <= 1 << 20  # raw: read as a whole, and nobody writes to it


def make_old(lab: Lab, guest: Guest) -> None:
    """Its image gets the version that has no place for bitmaps."""
    a = lab.host("a")
    a.run(["virsh", "destroy", guest.name])
    a.run(["qemu-img", "amend", "-f", "qcow2", "-o", "compat=0.10", guest.disk_path()])
    a.run(["virsh", "start", guest.name])
    guests.wait_healthy(lab, guest)


@pytest.mark.whole
def test_an_image_too_old_to_remember_is_read_in_each_pass_and_said(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest:
        make_old(whole, guest)
        moved = operator.migrate(guest, "b", "--warm")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        proved(whole, operator)
        report = operator.last()
        (found,) = [one for one in report["findings_before"] if one["code"] == "warm-reads-all"]
        assert "compat 0.10" in found["why"]
        assert report["copies"]["vda"]["read"] >= 96 << 20
        assert report["copies"]["vda"]["written"] <= 48 << 20


def test_five_passes_over_a_guest_that_writes_as_fast_as_it_can_lose_nothing(whole: Lab, operator: Operator) -> None:
    with started(whole, replace(QCOW2, writes_per_s=3000)) as guest:
        moved = operator.migrate(guest, "b", "--warm", crash="passes=5")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        proved(whole, operator)
        assert [one["complete"] for one in passes(operator)] == [True] * 5


@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.whole), 2])
def test_a_ferryman_that_is_killed_in_a_pass_goes_on_with_it(whole: Lab, operator: Operator, number: int) -> None:
    with started(whole, QCOW2) as guest:
        died = operator.migrate(guest, "b", "--warm", "--bandwidth", "24M", crash=f"pass:{number}")
        assert died.returncode in (-9, 137), died.stdout
        assert "backup" in whole.host("a").run(["virsh", "domjobinfo", guest.name]).stdout.lower()
        assert operator.run("recover").returncode == SUCCEEDED
        judged(whole, guest, operator, "b")
        proved(whole, operator)
        assert sum(1 for one in passes(operator) if one["since"] == "") == 1, "the bulk was begun twice"
        sent = sum(one["wire"] for one in passes(operator))
        assert sent < (96 + 64) << 20


def test_a_cancel_leaves_nothing_in_the_running_guest(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest, witness.Counter(whole, guest) as counter:
        moving = operator.start_migration(guest, "b", "--warm", "--bandwidth", "8M", crash="hold=pass:1")
        operator.wait_until_held(moving)
        operator.run("cancel", operator.request_id())
        operator.let_go()
        assert moving.wait(60) == PUT_BACK, moving.communicate()[0]
        judged(whole, guest, operator, "a")
        assert counter.report().lost == 0
        assert whole.host("b").run(["sh", "-c", f"ls -A {IMAGES}"]).stdout.split() == []


def test_a_guest_that_fails_there_goes_on_at_home_without_a_trace_of_the_passes(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest:
        moving = operator.start_migration(guest, "b", "--warm")
        witness.wait_until_executing(whole, guest, "b")
        faults.kill_guest_process(whole, "b", guest)
        assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
        judged(whole, guest, operator, "a")


def test_a_scratch_directory_that_fills_up_harms_nobody(whole: Lab, operator: Operator) -> None:
    with started(whole, replace(QCOW2, writes_per_s=3000)) as guest:
        a = whole.host("a")
        a.run(["sh", "-c", f"mkdir -p {SCRATCH} && mount -t tmpfs -o size=320m none {SCRATCH}"])
        moving = operator.start_migration(guest, "b", "--warm", "--scratch", SCRATCH, "--bandwidth", "4M", crash="hold=pass:1")  # fmt: skip
        operator.wait_until_held(moving)
        a.run(
            ["sh", "-c", f"dd if=/dev/zero of={SCRATCH}/full bs=1M count=270 status=none"]
        )  # 50 MiB, and no more than a tail is left
        operator.let_go()
        assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
        judged(whole, guest, operator, "a")
        assert "has no room left for what the guest overwrites" in operator.last()["outcome"]["reason"]
        assert guests.health(whole, guest)["wrong"] == 0


def test_a_guest_that_is_killed_during_a_pass_ends_the_move_and_is_left_alone(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest:
        moving = operator.start_migration(guest, "b", "--warm", "--bandwidth", "8M", crash="hold=pass:1")
        operator.wait_until_held(moving)
        faults.kill_guest_process(whole, "a", guest)
        operator.let_go()
        assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
        whole.host("a").run(["virsh", "start", guest.name])
        judged(whole, guest, operator, "a")


@pytest.mark.whole
def test_after_a_crash_of_the_guest_all_is_compared_and_said(whole: Lab, operator: Operator) -> None:
    """QEMU writes its bitmaps when it ends in order; one that was killed leaves an inconsistent one."""
    with started(whole, QCOW2) as guest:
        soon = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 45))
        moving = operator.start_migration(guest, "b", "--warm", "--at", soon, crash="hold=wait:inside")
        operator.wait_until_held(moving)
        faults.kill_guest_process(whole, "a", guest)
        operator.wait_for(lambda: "shut off" in whole.host("a").run(["virsh", "domstate", guest.name]).stdout, "its end", 20)  # fmt: skip
        whole.host("a").run(["virsh", "start", guest.name])
        guests.wait_healthy(whole, guest)
        operator.let_go()
        assert moving.wait(200) == SUCCEEDED, moving.communicate()[0]
        judged(whole, guest, operator, "b")
        proved(whole, operator)
        told = " ".join(operator.records.decisions(operator.request_id()))
        assert "all of it is compared" in told


@pytest.mark.parametrize(
    ("act", "why"),
    [
        pytest.param("blockresize {} vda 256M", "vda holds 256 MiB, and held 192 MiB", marks=pytest.mark.whole),
        pytest.param("detach-disk {} vdb --live", "vdb is not attached to it any more", marks=pytest.mark.whole),
        ("desc {} --config edited", "its definition at the source is another by now: description"),
    ],
)
def test_what_somebody_changes_while_it_waits_puts_the_move_back_before_the_stop(
    whole: Lab, operator: Operator, act: str, why: str
) -> None:
    with started(whole, replace(SPEC, disks=("local", "local:raw"))) as guest, witness.Counter(whole, guest) as counter:
        soon = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 45))
        moving = operator.start_migration(guest, "b", "--warm", "--at", soon, crash="hold=wait:inside")
        operator.wait_until_held(moving)
        a = whole.host("a")
        a.run(["virsh", *act.format(guest.name).split()])
        if act.startswith("detach-disk"):  # which the guest has to agree to
            operator.wait_for(lambda: "vdb" not in a.run(["virsh", "domblklist", guest.name]).stdout, "its leaving", 30)
        operator.let_go()
        assert moving.wait(200) == PUT_BACK, moving.communicate()[0]
        judged(whole, guest, operator, "a")
        assert why in operator.last()["outcome"]["reason"]
        assert counter.report().lost == 0
        if act.startswith("desc"):
            assert a.run(["virsh", "desc", guest.name, "--config"]).stdout.strip() == "edited"


def test_libvirtd_that_dies_during_a_pass_costs_no_pass(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest:
        moving = operator.start_migration(guest, "b", "--warm", "--bandwidth", "16M", crash="hold=pass:1")
        operator.wait_until_held(moving)
        faults.kill_daemon(whole, "a")
        faults.start_daemon(whole, "a")
        operator.let_go()
        assert moving.wait(120) == SUCCEEDED, moving.communicate()[0]
        judged(whole, guest, operator, "b")
        proved(whole, operator)


@pytest.mark.whole
def test_two_guests_of_one_window_are_copied_ahead_one_after_another(whole: Lab, operator: Operator) -> None:
    second = replace(QCOW2, name="passed2", address="10.77.0.152")
    with started(whole, QCOW2) as guest:
        other = guests.start(whole, "a", second)
        try:
            soon = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 60))
            moved = operator.run("migrate", guest.name, other.name, "--to", "b", "--warm", "--at", soon, "--yes")
            assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
            spans = []
            for request in operator.records.requests():
                entries = operator.records.report(request.id).phases
                began = next(one.at for one in entries if one.phase == "copying ahead")
                spans.append((began, next(one.at for one in entries if one.phase == "waiting")))
            first, later = sorted(spans)
            assert first[1] - 0.5 <= later[0], spans  # its turn is over a moment before that is noted
            guests.wait_healthy(whole, other)
        finally:
            guests.remove(whole, other)


def test_a_guest_that_is_off_is_refused(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest:
        whole.host("a").run(["virsh", "destroy", guest.name])
        asked = operator.migrate(guest, "b", "--warm")
        assert asked.returncode == REFUSED
        assert "--cold instead of --warm" in asked.stdout + asked.stderr
