"""What goes wrong around a cold move's copy, on real hosts: power and ssh that are gone, a guest that obeys late, one that stood still, what others stand upon."""

import time
from dataclasses import replace

import pytest

from lab import faults, guests, witness
from lab.host import Lab
from tests.lab.operators import ATTENTION, PUT_BACK, REFUSED, SUCCEEDED, Operator
from tests.lab.test_cold import IMAGES, SPEC, judged, started

pytestmark = pytest.mark.lab

ONE = replace(SPEC, disks=("local",))
CLONE = """<domain type='qemu'><name>clone</name><memory unit='MiB'>64</memory><os><type>hvm</type></os><devices>
  <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/srv/clones/top.qcow2'/><target dev='vda'/></disk>
</devices></domain>"""


def told(operator: Operator) -> str:
    return " ".join(operator.records.decisions(operator.request_id()))


def copied(operator: Operator) -> int:
    """Bytes of the disks that have arrived."""
    found = operator.records.requests(limit=1)
    sample = operator.records.last_sample(found[0].id) if found else None
    return sample.disk_processed if sample else 0


def listed(lab: Lab, host: str, directory: str) -> list[str]:
    return lab.host(host).run(["ls", "-A", directory], check=False).stdout.split()


def test_the_destination_loses_its_power_under_the_copy_and_the_guest_runs_at_home_within_a_minute(
    whole: Lab, operator: Operator
) -> None:
    """What is left there is said, and goes when the host is there again."""
    with started(whole, replace(ONE, disk_mib=128)) as guest:
        whole.host("a").run(["virsh", "destroy", guest.name])  # content enough for a copy that lasts
        whole.host("a").run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 64M 32M", guest.disk_path()])
        whole.host("a").run(["virsh", "start", guest.name])
        guests.wait_healthy(whole, guest)
        moving = operator.start_migration(guest, "b", "--cold", "--bandwidth", "2M")
        operator.wait_for(lambda: copied(operator) > 0, "bytes of the disk on their way")
        faults.vanish(whole, "b")
        gone = time.monotonic()
        operator.wait_for(lambda: witness.running_at(whole, guest) == ("a",), "the guest at home", 60)
        print(f"it runs at a again {time.monotonic() - gone:.0f} s after b's power went")
        assert moving.wait(60) == ATTENTION, moving.communicate()[0]
        guests.wait_healthy(whole, guest)
        outcome = operator.last()["outcome"]
        assert outcome["running_at"] == "a"
        for words in ("b does not answer", "volume stood-0.qcow2 in pool local", f"copied to {IMAGES}/stood-0.qcow2"):
            assert words in outcome["reason"], outcome
        faults.reappear(whole, "b")
        assert operator.run("recover").returncode == SUCCEEDED
        assert operator.status() == "failed"
        judged(whole, guest, operator, "a")
        assert listed(whole, "b", IMAGES) == []


@pytest.mark.whole
@pytest.mark.parametrize("cancelled", [True, False])
def test_a_guest_that_shuts_down_after_it_was_given_up_is_started_again(
    whole: Lab, operator: Operator, cancelled: bool
) -> None:
    with started(whole, replace(ONE, power="late")) as guest:
        if cancelled:
            moving = operator.start_migration(guest, "b", "--cold")
            operator.wait_for(
                lambda: bool(operator.records.requests(limit=1)) and "shut down" in told(operator), "its being asked"
            )
            assert operator.run("cancel", operator.request_id()).returncode == SUCCEEDED
            assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
        else:
            ended = operator.migrate(guest, "b", "--cold", "--stop-timeout", "3s")
            assert ended.returncode == PUT_BACK, ended.stdout + ended.stderr
        judged(whole, guest, operator, "a")
        assert "has shut down after all" in told(operator)
        time.sleep(10)  # nothing of that wish is left
        assert witness.running_at(whole, guest) == ("a",)


@pytest.mark.whole
def test_a_guest_that_stood_still_stands_still_again_when_its_move_is_put_back(whole: Lab, operator: Operator) -> None:
    with started(whole, ONE) as guest:
        a = whole.host("a")
        a.run(["virsh", "suspend", guest.name])
        moving = operator.start_migration(guest, "b", "--cold", "--force-off")
        witness.wait_until_executing(whole, guest, "b")
        faults.kill_guest_process(whole, "b", guest)
        assert moving.wait(120) == PUT_BACK, moving.communicate()[0]
        assert a.run(["virsh", "domstate", guest.name]).stdout.strip() == "paused"
        assert "paused: it stood still before" in told(operator)
        a.run(["virsh", "resume", guest.name])
        judged(whole, guest, operator, "a")


@pytest.mark.whole
def test_a_hold_that_ssh_cannot_end_needs_attention_and_recover_ends_it(whole: Lab, operator: Operator) -> None:
    with started(whole, ONE) as guest:
        a = whole.host("a")
        moving = operator.start("migrate", guest.name, "--to", "b", "--yes", "--cold", "--retire", crash="hold=release:before")  # fmt: skip
        operator.wait_until_held(moving)
        faults.kill_daemon(whole, "a", "sshd")
        try:
            operator.let_go()
            assert moving.wait(120) == ATTENTION, moving.communicate()[0]
        finally:
            a.run(["/usr/sbin/sshd"])
        assert "still held" in operator.last()["outcome"]["reason"]
        assert "qemu-nbd" in a.run(["ps", "ax", "-o", "args"]).stdout
        guests.wait_healthy(whole, guest)
        assert operator.run("retire", operator.request_id()).returncode == REFUSED
        recovered = operator.run("recover")
        assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
        judged(whole, guest, operator, "b")
        assert listed(whole, "a", IMAGES) == []


@pytest.mark.whole
def test_a_copy_that_a_guest_of_another_directory_stands_upon_is_not_retired(whole: Lab, operator: Operator) -> None:
    """The guest is off, and its overlay lies in no pool."""
    with started(whole, ONE) as guest:
        a = whole.host("a")
        assert operator.migrate(guest, "b", "--cold").returncode == SUCCEEDED
        base = f"{IMAGES}/{listed(whole, 'a', IMAGES)[0]}"
        a.run(["sh", "-c", f"mkdir -p /srv/clones && qemu-img create -q -f qcow2 -b {base} -F qcow2 /srv/clones/middle.qcow2"
               " && qemu-img create -q -f qcow2 -b /srv/clones/middle.qcow2 -F qcow2 /srv/clones/top.qcow2"])  # fmt: skip
        a.run(["virsh", "define", "/dev/stdin"], text_in=CLONE)
        try:
            refused = operator.run("retire", operator.request_id())
            assert refused.returncode == REFUSED, refused.stdout
            assert "guest clone at a stands upon it" in refused.stderr
            a.run(["mv", "/srv/clones", "/srv/clones-away"])
            doubted = operator.run("retire", operator.request_id())
            assert doubted.returncode == REFUSED, doubted.stdout
            assert "it is not known who stands upon it: /srv/clones/top.qcow2 of guest clone" in doubted.stderr
            assert a.run(["virsh", "pool-list", "--all", "--name"]).stdout.split() == ["local", "shared"]
        finally:
            a.run(["virsh", "undefine", "clone"])
            a.run(["rm", "-rf", "/srv/clones", "/srv/clones-away"])
        assert operator.run("retire", operator.request_id()).returncode == SUCCEEDED
        assert listed(whole, "a", IMAGES) == []
        judged(whole, guest, operator, "b")


@pytest.mark.whole
def test_what_was_put_aside_for_a_guest_that_comes_again_is_named_and_retired(whole: Lab, operator: Operator) -> None:
    """Firmware variables and TPM state of the first time are still where it comes back to."""
    with started(whole, replace(ONE, nvram=True, tpm=True, memory_mib=256)) as guest:
        for to in ("b", "a"):
            moved = operator.migrate(guest, to, "--cold")
            assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
            guests.wait_healthy(whole, guest)
        request = operator.request_id()
        kept = [f"/var/lib/libvirt/swtpm/{guest.uuid}.before-{request}", f"{guests.nvram_path(guest)}.before-{request}"]
        for path in kept:
            assert f"{path} at a" in told(operator)
            whole.host("a").run(["test", "-e", path])
        retired = operator.run("retire", request)
        assert retired.returncode == SUCCEEDED, retired.stdout + retired.stderr
        for host in ("a", "b"):
            find = ["find", "/var/lib/libvirt/swtpm", "/var/lib/libvirt/qemu/nvram", "-name", "*.before-*", "-o", "-name", ".ferryman-*"]  # fmt: skip
            assert whole.host(host).run(find).stdout == ""
        judged(whole, guest, operator, "a")
