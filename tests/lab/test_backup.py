"""Guests backed up while they write and while they are off, increments, and guests brought back that boot; damaged backups bring back nothing."""

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab import faults, firmware, guests, witness
from lab.digest import documented_digest
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import PUT_BACK, REFUSED, SUCCEEDED, Operator

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


@pytest.mark.whole
def test_an_image_too_old_to_remember_is_compared_and_said(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest:
        a = whole.host("a")
        a.run(["virsh", "destroy", guest.name])
        a.run(["qemu-img", "amend", "-f", "qcow2", "-o", "compat=0.10", guest.disk_path()])
        a.run(["virsh", "start", guest.name])
        guests.wait_healthy(whole, guest)
        backed_up(operator)
        tidy(whole, guest, 0)
        before = guests.health(whole, guest)["acknowledged"]
        increment = backed_up(operator)
        tidy(whole, guest, 0)
        proved(whole, increment, before)
        (disk,) = manifest(whole, increment)["disks"]
        assert disk["reading"] == "digests"
        assert "qcow2 (compat 0.10) images do not remember" in json.dumps(increment["findings_before"])


def nothing_of_the_second(lab: Lab) -> None:
    b = lab.host("b")
    assert "second" not in b.run(["virsh", "list", "--all", "--name"]).stdout
    assert b.run(["sh", "-c", f"ls -A {IMAGES} | grep second"], check=False).stdout == ""


@pytest.mark.whole
@pytest.mark.parametrize("name", ["kept 10 professional", "kept-база-данных-главная"])
def test_whatever_its_name_its_disks_are_found_where_qemu_offers_them(
    whole: Lab, operator: Operator, name: str
) -> None:
    with started(whole, replace(QCOW2, name=name)):
        done = operator.run("backup", name, f"b:{PLACE}")
        assert done.returncode == SUCCEEDED, done.stdout + done.stderr
        proved(whole, operator.last())


def test_a_backup_that_is_damaged_is_noticed_and_brings_back_nothing(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest:
        report = backed_up(operator)
        image, b = f"{folder(report)}/vda.qcow2", whole.host("b")
        refused = operator.run("restore", f"b:{folder(report)}", "--to", "b")
        assert refused.returncode == REFUSED, refused.stdout
        assert "restore-exists" in {one["code"] for one in operator.last()["findings_before"]}  # it runs at a
        half = int(b.run(["stat", "-c", "%s", image]).stdout) // 2
        b.run(["sh", "-c", f"printf '\\377' | dd of={image} bs=1 seek={half} conv=notrunc status=none"])
        noticed = operator.run("restore", f"b:{folder(report)}", "--to", "b", "--name", "second")
        assert noticed.returncode == PUT_BACK, noticed.stdout + noticed.stderr
        assert "it is damaged" in operator.last()["outcome"]["reason"]
        nothing_of_the_second(whole)
        listed = operator.run("backups", f"b:{folder(report)}", "--verify")
        assert listed.returncode == REFUSED
        assert "vda.qcow2 is damaged" in listed.stdout
        b.run(["truncate", "-s", "-65536", image])
        short = operator.run("restore", f"b:{folder(report)}", "--to", "b", "--name", "second")
        assert short.returncode == REFUSED, short.stdout + short.stderr
        assert "bytes, and its manifest says" in operator.last()["outcome"]["reason"]
        nothing_of_the_second(whole)
        assert operator.run("backups", f"b:{PLACE}").returncode == REFUSED
        again = backed_up(operator)  # which does not stand upon that one
        assert not again["backup"]["upon"]
        assert guests.health(whole, guest)["wrong"] == 0


def test_a_guest_that_is_off_comes_back_with_its_firmware_variables_and_its_tpm(whole: Lab, operator: Operator) -> None:
    spec = replace(QCOW2, nvram=True, tpm=True, memory_mib=256, mark=secrets.token_hex(8))
    with started(whole, spec) as guest:
        a = whole.host("a")
        acknowledged = guests.health(whole, guest)["acknowledged"]
        a.run(["virsh", "destroy", guest.name])
        before = (firmware.variables(whole, guest, "a"), firmware.tpm_state(whole, guest, "a"))
        backing = operator.start("backup", "kept", f"b:{PLACE}", crash="hold=copy-to-backup:before")
        operator.wait_until_held(backing)
        assert "lock" in a.run(["virsh", "start", guest.name], check=False).stderr
        operator.let_go()
        assert backing.wait(120) == SUCCEEDED, backing.communicate()[0]
        report = operator.last()
        assert report["backup"]["consistency"] == "shut off"
        proved(whole, report, acknowledged)
        assert {file["name"] for file in manifest(whole, report)["files"]} == {"definition.xml", "nvram", "tpm.tar"}
        a.run(["virsh", "undefine", guest.name, "--nvram", "--tpm", "--remove-all-storage"])
        assert (firmware.variables(whole, guest, "a"), firmware.tpm_state(whole, guest, "a")) == (b"", b"")
        back = operator.run("restore", f"b:{folder(report)}", "--to", "a")
        assert back.returncode == SUCCEEDED, back.stdout + back.stderr
        assert a.run(["virsh", "domuuid", guest.name]).stdout.strip() == guest.uuid
        assert "shut off" in a.run(["virsh", "domstate", guest.name]).stdout
        assert "disable" in a.run(["virsh", "dominfo", guest.name]).stdout.split("Autostart:")[1].split("\n")[0]
        assert (firmware.variables(whole, guest, "a"), firmware.tpm_state(whole, guest, "a")) == before
        a.run(["virsh", "start", guest.name])
        guests.wait_healthy(whole, guest, within=120)
        assert guests.health(whole, guest)["wrong"] == 0


def test_a_guest_that_runs_out_of_scratch_room_goes_on_and_nothing_of_the_backup_stays(
    whole: Lab, operator: Operator
) -> None:
    with started(whole, QCOW2) as guest:
        a, scratch = whole.host("a"), "/srv/scratch"
        while guests.health(whole, guest)["acknowledged"] < 2000:  # what is overwritten is not all zero
            time.sleep(0.5)
        a.run(["sh", "-c", f"mkdir -p {scratch} && mount -t tmpfs -o size=300M tmpfs {scratch}"])
        try:
            backing = operator.start(
                "backup",
                "kept",
                f"b:{PLACE}",
                "--scratch",
                scratch,
                "--bandwidth",
                "20M",
                crash="hold=copy-to-backup:before",
            )  # slow enough to be looked at before all is read
            operator.wait_until_held(backing)
            a.run(["sh", "-c", f"dd if=/dev/zero of={scratch}/full bs=1M count=400 status=none; true"])
            operator.wait_for(
                lambda: "paused" in a.run(["virsh", "domstate", guest.name]).stdout, "the guest to stand still"
            )
            operator.let_go()
            assert backing.wait(120) == PUT_BACK, backing.communicate()[0]
            report = operator.last()
            assert "no room left for what the guest overwrites" in report["outcome"]["reason"]
            assert "it goes on now" in " ".join(report["decisions"])
            guests.wait_healthy(whole, guest)
            acknowledged = guests.health(whole, guest)
            assert acknowledged["wrong"] == 0
            tidy(whole, guest, 0)
            disk = witness.check_disk(whole, guest, at="a", acknowledged=acknowledged["acknowledged"])
            assert (disk.wrong, disk.missing) == (0, 0), disk
            assert whole.host("b").run(["sh", "-c", f"ls {PLACE}/*"], check=False).stdout.strip() == ""
        finally:
            a.run(["umount", scratch], check=False)


def test_after_a_crash_of_its_qemu_everything_is_compared_and_that_is_said(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest:
        backed_up(operator)
        faults.kill_guest_process(whole, "a", guest)
        a = whole.host("a")
        operator.wait_for(lambda: "shut off" in a.run(["virsh", "domstate", guest.name]).stdout, "its end to be seen")
        off = backed_up(operator)
        assert manifest(whole, off)["disks"][0]["reading"] == "digests"
        assert "was off since the earlier backup" in json.dumps(off["findings_before"])
        a.run(["virsh", "start", guest.name])
        guests.wait_healthy(whole, guest)
        acknowledged = guests.health(whole, guest)["acknowledged"]
        report = backed_up(operator)
        assert report["backup"]["chain"] == 3
        assert manifest(whole, report)["disks"][0]["reading"] == "digests"
        assert "made no checkpoint" in json.dumps(report["findings_before"])
        proved(whole, report, acknowledged)
        tidy(whole, guest, 1)
        assert manifest(whole, backed_up(operator))["disks"][0]["reading"] == "bitmap"


def test_what_befell_an_image_while_its_guest_was_off_is_in_the_next_backup_though_no_bitmap_tells_it(
    whole: Lab, operator: Operator
) -> None:
    with started(whole, QCOW2) as guest:
        a, image = whole.host("a"), guest.disk_path()
        first = manifest(whole, backed_up(operator))
        a.run(["virsh", "destroy", guest.name])
        a.run(["qemu-img", "resize", "-q", "--shrink", image, "64M"])  # with half of what fills the disk
        a.run(["qemu-img", "resize", "-q", image, f"{QCOW2.disk_mib}M"])
        told = json.loads(a.run(["qemu-img", "info", "--output=json", image]).stdout)["format-specific"]["data"]
        assert told["bitmaps"] == [
            {"flags": ["auto"], "name": first["checkpoint"], "granularity": 65536}
        ]  # and it is sound
        a.run(["virsh", "start", guest.name])
        guests.wait_healthy(whole, guest)
        acknowledged = guests.health(whole, guest)["acknowledged"]
        runs = backed_up(operator)
        proved(whole, runs, acknowledged)
        a.run(["virsh", "destroy", guest.name])
        off = manifest(whole, backed_up(operator))["disks"][0]
        assert off["digest"] == witness_digest(whole, image, "a")
        changed = manifest(whole, runs)["disks"][0]
        assert (changed["reading"], off["reading"]) == ("digests", "digests")
        upper = [f"{folder(runs)}/vda.qcow2", image]
        for at, path in zip("ba", upper, strict=True):
            with witness.content(whole, path, at=at) as disk:
                disk.seek(64 * MIB)
                assert not disk.read(64 * MIB).strip(b"\0"), (at, "the part that was cut off is still there")


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("begin-backup:inside", marks=pytest.mark.whole),
        "copy-to-backup:inside",
        pytest.param("write-manifest:inside", marks=pytest.mark.whole),
    ],
)
def test_killed_under_way_the_next_ferryman_finishes_it(whole: Lab, operator: Operator, moment: str) -> None:
    with started(whole, QCOW2) as guest:
        died = operator.run("backup", "kept", f"b:{PLACE}", crash=moment)
        assert died.returncode in (-9, 137), died.stdout
        recovered = operator.run("recover")
        assert recovered.returncode == 0, recovered.stdout + recovered.stderr
        assert operator.status() == "succeeded", operator.last()["outcome"]
        tidy(whole, guest, 1)
        proved(whole, operator.last())


def test_cancelled_while_it_is_copied_nothing_of_it_stays(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest:
        backing = operator.start("backup", "kept", f"b:{PLACE}", "--bandwidth", "1M")
        operator.wait_for_bytes()
        assert operator.run("cancel", operator.request_id()).returncode == 0
        assert backing.wait(60) == PUT_BACK, backing.communicate()[0]
        tidy(whole, guest, 0)
        assert guests.health(whole, guest)["wrong"] == 0
        assert whole.host("b").run(["ls", "-A", "/var/lib/ferryman/copies"], check=False).stdout == ""


@pytest.mark.parametrize("way", [(), pytest.param(("--cold",), marks=pytest.mark.whole)])
def test_a_move_backs_its_guest_up_first_on_this_machine(
    whole: Lab, operator: Operator, tmp_path: Path, way: tuple[str, ...]
) -> None:
    with started(whole, QCOW2) as guest:
        moved = operator.migrate(guest, "b", "--backup-to", str(tmp_path), *way)
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        report = operator.last()
        made = json.loads((Path(report["backup"]["folder"]["path"]) / "manifest.json").read_text())
        assert made["consistency"] == "frozen"
        assert report["backup_copies"]["vda"]["source_digest"] == made["disks"][0]["digest"]
        assert witness.running_at(whole, guest) == ("b",)
        assert guests.health(whole, guest)["wrong"] == 0
        moved = operator.migrate(guest, "a", "--backup-to", "b:/proc/nowhere")
        assert moved.returncode == REFUSED, moved.stdout + moved.stderr
        assert witness.running_at(whole, guest) == ("b",)
        assert whole.host("b").run(["virsh", "checkpoint-list", "--name", guest.name]).stdout.split() == []


def boots_as_second(lab: Lab, operator: Operator, guest: Guest, report: dict[str, Any], to: str, *more: str) -> None:
    """Brought back as a second guest beside the first, which is switched off for that, it runs upon what it had."""
    lab.host("a").run(["virsh", "destroy", guest.name], check=False)
    lab.host("b").run(["virsh", "destroy", guest.name], check=False)
    restored = operator.run("restore", f"b:{folder(report)}", "--to", to, "--name", "second", "--start", *more)
    assert restored.returncode == SUCCEEDED, restored.stdout + restored.stderr
    guests.wait_healthy(lab, guest)
    assert guests.health(lab, guest)["wrong"] == 0


@pytest.mark.whole
def test_a_warm_move_backs_its_guest_up_first_and_neither_disturbs_the_other(whole: Lab, operator: Operator) -> None:
    with started(whole, QCOW2) as guest:
        backed_up(operator)
        acknowledged = guests.health(whole, guest)["acknowledged"]
        moved = operator.migrate(guest, "b", "--warm", "--backup-to", f"b:{PLACE}")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        before = operator.last()
        assert (before["backup"]["chain"], manifest(whole, before)["disks"][0]["reading"]) == (2, "bitmap")
        proved(whole, before, acknowledged)
        assert witness.running_at(whole, guest) == ("b",)
        a, b = whole.host("a"), whole.host("b")
        (left,) = before["left_to_retire"]
        for host, image in ((a, left["path"]), (b, "")):
            assert "scratch" not in host.run(["ls", "-A", IMAGES]).stdout
            assert "qemu-nbd" not in host.run(["ps", "ax", "-o", "args"]).stdout
            if image:
                info = json.loads(host.run(["qemu-img", "info", "--output=json", image]).stdout)
                found = info["format-specific"]["data"].get("bitmaps", ())
                assert [one["name"] for one in found] == [], found
        assert b.run(["virsh", "checkpoint-list", "--name", guest.name]).stdout.split() == []
        acknowledged = guests.health(whole, guest)["acknowledged"]
        after = backed_up(operator)
        (disk,) = manifest(whole, after)["disks"]
        assert (disk["reading"], after["backup"]["chain"]) == ("digests", 3)
        assert "all of it is read" in json.dumps(after["findings_before"])
        proved(whole, after, acknowledged)
        again = backed_up(operator)
        assert manifest(whole, again)["disks"][0]["reading"] == "bitmap"
        assert b.run(["virsh", "checkpoint-list", "--name", guest.name]).stdout.split() == [manifest(whole, again)["checkpoint"]]  # fmt: skip
        boots_as_second(whole, operator, guest, again, "b")


@contextmanager
def as_a_device(lab: Lab, guest: Guest) -> Iterator[str]:
    """The guest's image as a block device of its host; its path."""
    host, path = lab.host("a"), "/dev/kept-disk"
    image = guests.host_path(host, guest.disk_path())
    loop = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True).stdout.strip()
    try:
        host.run(["mknod", path, "b", "7", loop.removeprefix("/dev/loop")])
        yield path
    finally:
        host.run(["virsh", "destroy", guest.name], check=False)
        host.run(["rm", "-f", path])
        subprocess.run(["losetup", "-d", loop], check=True)


@pytest.mark.whole
def test_a_block_device_is_backed_up_and_comes_back_as_a_volume_that_boots(whole: Lab, operator: Operator) -> None:
    clean(whole)
    a = whole.host("a")
    guest = guests.define(whole, "a", replace(SPEC, disks=("local:raw",)))
    try:
        with as_a_device(whole, guest) as device:
            text = guests.definition(whole, guest).replace("<disk type='file'", "<disk type='block'")
            text = text.replace(f"file='{guest.disk_path()}'", f"dev='{device}'")
            a.run(["virsh", "define", "/dev/stdin"], text_in=text)
            a.run(["virsh", "start", guest.name])
            guests.wait_healthy(whole, guest)
            acknowledged = guests.health(whole, guest)["acknowledged"]
            full = backed_up(operator)
            proved(whole, full, acknowledged)
            acknowledged = guests.health(whole, guest)["acknowledged"]
            increment = backed_up(operator)
            proved(whole, increment, acknowledged)
            (disk,) = manifest(whole, increment)["disks"]
            assert (disk["source"], disk["reading"], increment["backup"]["chain"]) == (device, "digests", 2)
            assert disk["bytes"] < 32 * MIB
            tidy(whole, guest, 0)
            a.run(["virsh", "destroy", guest.name])
            off = backed_up(operator)
            assert witness_digest(whole, guest.disk_path(), "a") == manifest(whole, off)["disks"][0]["digest"]
            boots_as_second(whole, operator, guest, off, "b", "--map-pool", "/dev=local")
    finally:
        guests.remove(whole, guest)
        guests.remove(whole, replace(guest, spec=SECOND))
        clean(whole)


def witness_digest(lab: Lab, image: str, at: str) -> str:
    """The digest of an image, by the witness."""
    with witness.content(lab, image, at=at) as content:
        return documented_digest()(content.name)
