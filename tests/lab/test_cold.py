"""A guest is stopped, its disks are copied with proof, and it starts at the other host; put back at every point before its links are up."""

import os
import pty
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from lab import faults, firmware, guests, witness
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import PUT_BACK, REFUSED, SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab

IMAGES = "/var/lib/libvirt/images"
SPEC = GuestSpec(
    name="stood", address="10.77.0.141", memory_mib=128, disks=("local", "shared", "local:raw"), disk_mib=64, writes_per_s=100, count_every_ms=20, autostart=True
)  # fmt: skip


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
        host.run(
            [
                "sh",
                "-c",
                f"rm -f {IMAGES}/stood-* /srv/shared/stood-* /var/lib/libvirt/qemu/save/stood.save*; virsh pool-refresh local",
            ]
        )


def boots(lab: Lab, host: str) -> int:
    """How often the guest has said at a host that it is up."""
    log = f"/var/log/libvirt/qemu/{SPEC.name}-console.log"
    return lab.host(host).run(["cat", log], check=False).stdout.count("lab guest at")


def image_of(lab: Lab, host: str, target: str) -> str:
    rows = lab.host(host).run(["virsh", "domblklist", SPEC.name]).stdout.splitlines()
    return next(row.split()[1] for row in rows if row.split()[:1] == [target])


def judged(lab: Lab, guest: Guest, operator: Operator, at: str) -> None:
    """As everywhere; and nothing is held, no journal is left, no link is down."""
    guests.wait_healthy(lab, guest)
    judge(lab, guest, at=at, operator=operator, image=image_of(lab, at, "vda"))
    for flag in ("--inactive", "--migratable"):
        assert "<link state='down'/>" not in lab.host(at).run(["virsh", "dumpxml", flag, guest.name]).stdout
    for host in lab.hosts:
        assert "qemu-nbd" not in host.run(["ps", "ax", "-o", "args"]).stdout
        for left in ("/run/ferryman/holds", "/var/lib/ferryman/copies"):
            assert host.run(["ls", left], check=False).stdout.split() == [], (host.name, left)


def test_a_running_guest_goes_over_with_its_disks_and_nobody_can_start_it_meanwhile(
    whole: Lab, operator: Operator
) -> None:
    with started(whole, SPEC) as guest:
        a = whole.host("a")
        moving = operator.start("migrate", guest.name, "--to", "b", "--yes", "--cold", "--retire", "--probe", f"{guest.address}:7001",
                                "--check", f"http:http://{guest.address}:7001/", crash="hold=copy-disks:before")  # fmt: skip
        operator.wait_until_held(moving)
        refused = a.run(["virsh", "start", guest.name], check=False)
        assert "lock" in refused.stderr, refused.stderr
        assert "enable" not in a.run(["virsh", "dominfo", guest.name]).stdout.split("Autostart:")[1].split("\n")[0]
        operator.let_go()
        assert moving.wait(120) == SUCCEEDED, moving.communicate()[0]
        judged(whole, guest, operator, "b")
        report = operator.last()
        assert set(report["copies"]) == {"vda", "vdc"}  # vdb is shared
        for copied in report["copies"].values():
            assert copied["source_digest"] == copied["destination_digest"] != ""
            assert copied["way"] == "tls"
        assert report["outcome"]["downtime"] > 1
        assert not a.run(["sh", "-c", f"ls {IMAGES}"]).stdout.split()  # retired
        assert image_of(whole, "b", "vdb") == guest.disk_path(1)


def test_what_is_kept_says_so_itself_until_the_guest_has_it_again(whole: Lab, operator: Operator) -> None:
    with started(whole, replace(SPEC, disks=("local",), autostart=False)) as guest:
        assert operator.migrate(guest, "b", "--cold").returncode == SUCCEEDED
        path = guest.disk_path(0)
        read = ["python3", "-c", f"import os; print(os.getxattr('{path}', 'user.ferryman').decode())"]
        told = whole.host("a").run(read).stdout
        assert f"guest {guest.name} went to b" in told
        assert f"ferryman retire {operator.request_id()}" in told
        assert operator.migrate(guest, "a", "--cold", "--rollback-loses-writes").returncode == SUCCEEDED
        assert whole.host("a").run(read, check=False).returncode != 0
        judged(whole, guest, operator, "a")


def test_a_guest_that_crashes_at_the_destination_runs_at_its_source_again(whole: Lab, operator: Operator) -> None:
    with started(whole, SPEC) as guest:
        acknowledged = guests.health(whole, guest)["acknowledged"]
        moving = operator.start_migration(guest, "b", "--cold")
        witness.wait_until_executing(whole, guest, "b")
        with pytest.raises(RuntimeError):  # its links are down
            guests.health(whole, guest, timeout=1)
        faults.kill_guest_process(whole, "b", guest)
        assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
        judged(whole, guest, operator, "a")
        assert guests.health(whole, guest)["acknowledged"] >= acknowledged
        assert not whole.host("b").run(["sh", "-c", f"ls {IMAGES}"]).stdout.split()
        assert "after its start at b" in operator.last()["outcome"]["reason"]


@pytest.mark.whole
@pytest.mark.parametrize(
    ("power", "more", "code", "at"),
    [
        ("ignore", ("--stop-timeout", "3s"), PUT_BACK, "a"),
        ("ignore", ("--stop-timeout", "3s", "--force-off"), SUCCEEDED, "b"),
        ("reboot", (), SUCCEEDED, "b"),
    ],
)
def test_a_guest_that_does_not_shut_down(
    whole: Lab, operator: Operator, power: str, more: tuple[str, ...], code: int, at: str
) -> None:
    with started(whole, replace(SPEC, power=power)) as guest:
        ended = operator.migrate(guest, "b", "--cold", *more)
        assert ended.returncode == code, ended.stdout + ended.stderr
        judged(whole, guest, operator, at)
        told = " ".join(operator.records.decisions(operator.request_id()))
        assert ("switched it off" in told) is ("--force-off" in more)
        assert ("sound after it was switched off" in told) is ("--force-off" in more)
        after = {one["code"]: one["remedy"] for one in operator.last()["findings_after"]}
        assert ("forced-off" in after) is ("--force-off" in more)
        if (
            "--force-off" in more
        ):  # the lab's hosts have no libguestfs: what to type is told, for the disks that were copied
            images = f"--format=qcow2 -a {guest.disk_path(0)} --format=raw -a {guest.disk_path(2)}"
            assert f"guestfish --ro {images} run : list-filesystems" in after["file-systems-not-checked"]
        if code == PUT_BACK:  # it was never off, and reboots as its definition says
            live = whole.host("a").run(["virsh", "dumpxml", guest.name]).stdout
            assert "<on_reboot>restart</on_reboot>" in live


@pytest.mark.whole
def test_a_guest_with_an_agent_is_asked_by_it_and_must_answer_by_it_again(whole: Lab, operator: Operator) -> None:
    with started(whole, replace(SPEC, agent=True, power="ignore", disks=("local",))) as guest:
        operator.wait_for(
            lambda: "state='connected'" in whole.host("a").run(["virsh", "dumpxml", guest.name]).stdout, "the agent"
        )
        moved = operator.migrate(guest, "b", "--cold")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        assert "asked it by its guest agent to shut down" in operator.records.decisions(operator.request_id())
        assert operator.records.facts(operator.request_id())["agent_before"]
        assert whole.host("b").run(["virsh", "qemu-agent-command", guest.name, '{"execute":"guest-ping"}']).stdout


@pytest.mark.whole
@pytest.mark.parametrize(("silent", "code", "at"), [(False, SUCCEEDED, "b"), (True, PUT_BACK, "a")])
def test_a_guest_whose_console_answered_must_answer_on_it_again(
    whole: Lab, operator: Operator, silent: bool, code: int, at: str
) -> None:
    """One that finds its network links down is silent there."""
    with started(whole, replace(SPEC, console="linked" if silent else "", disks=("local",))) as guest:
        ended = operator.run("migrate", guest.name, "--to", "b", "--yes", "--cold", timeout=400)
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert operator.records.facts(operator.request_id())["console_before"]
        if silent:
            assert "its console answered before, and does not at b" in operator.last()["outcome"]["reason"]
        judged(whole, guest, operator, at)


@pytest.mark.whole
def test_a_console_that_somebody_has_open_is_not_touched(whole: Lab, operator: Operator) -> None:
    with started(whole, replace(SPEC, disks=("local",))) as guest:
        ours, theirs = pty.openpty()
        command = whole.host("a").command(["virsh", "console", guest.name])
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as somebody:
            shown = b""
            while b"Escape character" not in shown:
                shown += os.read(ours, 4096)
            moved = operator.migrate(guest, "b", "--cold")
            assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
            somebody.wait(10)  # its guest has gone, by itself
        os.close(theirs)
        with suppress(OSError):
            while data := os.read(ours, 4096):
                shown += data
        os.close(ours)
        assert b"lab guest goes down" in shown  # it was theirs to the end
        assert not operator.records.facts(operator.request_id())["console_before"]
        told = operator.records.decisions(operator.request_id())
        assert "its console is open for somebody else at a, so it was not tried" in told
        judged(whole, guest, operator, "b")


@pytest.mark.whole
def test_a_paused_guest_goes_only_if_it_may_be_switched_off(whole: Lab, operator: Operator) -> None:
    with started(whole, SPEC) as guest:
        whole.host("a").run(["virsh", "suspend", guest.name])
        assert operator.migrate(guest, "b", "--cold").returncode == REFUSED
        moved = operator.migrate(guest, "b", "--cold", "--force-off")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")


@pytest.mark.whole
@pytest.mark.parametrize("asleep", [False, True])
def test_a_guest_that_is_off_stays_off_and_one_that_sleeps_goes_on_where_it_was(
    whole: Lab, operator: Operator, asleep: bool
) -> None:
    with started(whole, SPEC) as guest:
        a, b = whole.host("a"), whole.host("b")
        count = guests.health(whole, guest)["count"]
        a.run(["virsh", "managedsave" if asleep else "destroy", guest.name])
        moved = operator.migrate(guest, "b", "--cold", "--retire")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        assert not a.run(["sh", "-c", f"ls {IMAGES}"]).stdout.split()  # it runs nowhere: the digests are the proof
        assert witness.copies(whole, guest) == ()
        assert guest.name not in a.run(["virsh", "list", "--all", "--name"]).stdout
        assert b.run(["virsh", "domstate", guest.name]).stdout.strip() == "shut off"
        booted = boots(whole, "b")
        b.run(["virsh", "start", guest.name])
        judged(whole, guest, operator, "b")
        assert (boots(whole, "b") == booted) is asleep
        if asleep:
            assert guests.health(whole, guest)["count"] > count


@pytest.mark.whole
def test_firmware_variables_and_tpm_state_move_with_a_stopped_guest(whole: Lab, operator: Operator) -> None:
    spec = replace(SPEC, nvram=True, tpm=True, memory_mib=256, mark="0123456789abcdef", disks=("local",))
    with started(whole, spec) as guest:
        moved = operator.migrate(guest, "b", "--cold")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        assert firmware.variables(whole, guest, "b").count(spec.mark.encode()) >= 1
        assert firmware.tpm_state(whole, guest, "b").count(spec.mark.encode()) == 1
        console = whole.host("b").run(["cat", f"/var/log/libvirt/qemu/{guest.name}-console.log"]).stdout
        assert "TPM answers 80010000000a0000014c" in console  # its index was there already


@pytest.mark.whole
def test_a_disk_that_is_named_as_a_volume_moves_live_and_cold(whole: Lab, operator: Operator) -> None:
    clean(whole)
    guest, a = guests.define(whole, "a", replace(SPEC, disks=("local",))), whole.host("a")
    try:
        text = a.run(["virsh", "dumpxml", guest.name]).stdout.replace("<disk type='file'", "<disk type='volume'")
        text = text.replace(f"<source file='{guest.disk_path()}'/>", "<source pool='local' volume='stood-0.qcow2'/>")
        a.run(["virsh", "define", "/dev/stdin"], text_in=text)
        a.run(["virsh", "start", guest.name])
        guests.wait_healthy(whole, guest)
        live = operator.migrate(guest, "b", "--retire")
        assert live.returncode == SUCCEEDED, live.stdout + live.stderr
        assert whole.host("b").run(["ls", IMAGES]).stdout.split() == ["stood-0.qcow2"]
        assert a.run(["ls", IMAGES]).stdout.split() == []
        cold = operator.migrate(guest, "a", "--cold", "--retire")
        assert cold.returncode == SUCCEEDED, cold.stdout + cold.stderr
        guests.wait_healthy(whole, guest)
        judge(whole, guest, at="a", operator=operator, image=f"{IMAGES}/stood-0.qcow2")
        assert "volume='stood-0.qcow2'" in a.run(["virsh", "dumpxml", guest.name]).stdout
        assert whole.host("b").run(["ls", IMAGES]).stdout.split() == []
    finally:
        guests.remove(whole, guest)
        clean(whole)


@pytest.mark.whole
def test_a_way_back_takes_the_disks_that_were_left_and_keeps_those_it_leaves(whole: Lab, operator: Operator) -> None:
    with started(whole, replace(SPEC, disks=("local",))) as guest:
        assert operator.migrate(guest, "b", "--cold").returncode == SUCCEEDED
        guests.wait_healthy(whole, guest)
        first, left = operator.request_id(), whole.host("a").run(["sh", "-c", f"ls {IMAGES}"]).stdout.split()
        back = operator.migrate(guest, "a", "--cold", "--rollback-loses-writes")
        assert back.returncode == SUCCEEDED, back.stdout + back.stderr
        judged(whole, guest, operator, "a")
        assert image_of(whole, "a", "vda") == f"{IMAGES}/{left[0]}"
        assert not operator.last()["copies"]
        kept = operator.last()["left_to_retire"]
        assert [(one["host"], one["target"]) for one in kept] == [("b", "vda")]
        refused = operator.run("retire", first)  # what that move left is what the guest runs on now
        assert refused.returncode == REFUSED, refused.stdout
        assert operator.run("retire", operator.request_id()).returncode == SUCCEEDED
        assert not whole.host("b").run(["sh", "-c", f"ls {IMAGES}"]).stdout.split()
        judged(whole, guest, operator, "a")


@pytest.mark.whole
def test_internal_snapshots_move_along_and_can_be_gone_back_to(whole: Lab, operator: Operator) -> None:
    with started(whole, replace(SPEC, disks=("local",))) as guest:
        a, b = whole.host("a"), whole.host("b")
        count = guests.health(whole, guest)["count"]
        a.run(["virsh", "snapshot-create-as", guest.name, "one"])
        moved = operator.migrate(guest, "b", "--cold")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        assert b.run(["virsh", "snapshot-list", guest.name, "--name"]).stdout.split() == ["one"]
        b.run(["virsh", "snapshot-revert", guest.name, "one"])  # of a running guest: with its memory
        guests.wait_healthy(whole, guest)
        assert guests.health(whole, guest)["count"] >= count
        b.run(["virsh", "snapshot-delete", guest.name, "one"])
        judged(whole, guest, operator, "b")


@pytest.mark.whole
@pytest.mark.parametrize("keep", [True, False])
def test_a_backing_chain_of_three_is_flattened_or_kept(whole: Lab, operator: Operator, keep: bool) -> None:
    clean(whole)
    guest, a, b = guests.define(whole, "a", replace(SPEC, disks=("local",))), whole.host("a"), whole.host("b")
    try:
        top, base, middle = guest.disk_path(), f"{IMAGES}/stood-base.raw", f"{IMAGES}/stood-middle.qcow2"
        a.run(["sh", "-c", f"qemu-img create -q -f raw {base} 64M && qemu-img create -q -f qcow2 -b {base} -F raw {middle}"
               f" && qemu-img create -q -f qcow2 -b {middle} -F qcow2 {top}; qemu-io -f qcow2 -c 'write -P 7 60M 1M' {middle}"])  # fmt: skip
        a.run(["virsh", "start", guest.name])
        guests.wait_healthy(whole, guest)
        moved = operator.migrate(guest, "b", "--cold", *(["--chain", "keep"] if keep else []))
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        chain = b.run(["qemu-img", "info", "-U", "--backing-chain", image_of(whole, "b", "vda")]).stdout
        assert chain.count("image: ") == (3 if keep else 1)
        seen = b.run(
            ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", "read -P 7 60M 1M", image_of(whole, "b", "vda")]
        ).stdout
        assert "failed" not in seen, seen
        told = {one["code"] for one in operator.last()["findings_before"]}
        assert ("chain-kept" if keep else "chain-flattened") in told
    finally:
        guests.remove(whole, guest)
        clean(whole)


@pytest.mark.whole
@pytest.mark.parametrize("step", ["stop", "hold", "copy-disks", "arrive", "leave", "start", "health", "settle"])
def test_cancelled_after_each_step_it_runs_at_its_source_again(whole: Lab, operator: Operator, step: str) -> None:
    with started(whole, SPEC) as guest:
        moving = operator.start(*["migrate", guest.name, "--to", "b", "--yes", "--cold"], crash=f"hold={step}:after")
        operator.wait_until_held(moving)
        assert operator.run("cancel", operator.request_id()).returncode == SUCCEEDED
        operator.let_go()
        assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
        judged(whole, guest, operator, "a")
        assert not whole.host("b").run(["sh", "-c", f"ls {IMAGES}"]).stdout.split()
        assert operator.status() == "cancelled"
