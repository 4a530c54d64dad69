"""The lab itself: what the other tests believe is caused here, and seen by the witness."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import faults, guests, lifecycle, netns, process, witness
from lab.counter import ROW
from lab.guests import Guest
from lab.host import PROJECT, Lab, labs, load

pytestmark = pytest.mark.lab


@pytest.fixture
def second() -> Iterator[str]:
    """The name of another lab, which is taken down afterwards."""
    name = f"s{secrets.token_hex(3)}"
    yield name
    lifecycle.down(name)


def up_in_a_process(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "lab", "up", "--name", name], cwd=PROJECT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


def traces(name: str) -> list[str]:
    """Everything on this machine that bears a lab's name."""
    namespaces = [word for word in netns.ip("netns", "list").split() if word.startswith(f"fm-{name}-")]
    commands = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            commands += [words] if f"/{name}/" in words or f"fm-{name}-" in words else []
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if f"/{name}/" in line]
    return [*namespaces, *commands, *mounts, *([name] if name in labs() else [])]


@pytest.mark.whole
def test_two_labs_run_side_by_side_and_one_goes_without_the_other(whole: Lab, guest: Guest, second: str) -> None:
    beside = lifecycle.up(second, hosts=1, subnets=("10.177.0", "10.178.0"))
    twin = guests.start(beside, "a", guests.GuestSpec(name="web", address=beside.topology.guest_address(1)))
    assert witness.running_at(beside, twin) == ("a",)
    assert twin.uuid not in whole.host("a").run(["virsh", "list", "--uuid"]).stdout
    lifecycle.down(second)
    assert traces(second) == []
    assert witness.running_at(whole, guest) == ("a",)
    assert guests.health(whole, guest)["wrong"] == 0


@pytest.mark.whole
def test_a_lab_that_was_killed_while_coming_up_is_cleaned_by_down(second: str) -> None:
    starting = up_in_a_process(second)
    deadline = time.monotonic() + 30
    while second not in labs() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(1.0)  # namespaces and some processes are there
    starting.send_signal(signal.SIGKILL)
    starting.communicate()
    assert traces(second)
    lifecycle.down(second)
    assert traces(second) == []


def test_the_lab_of_a_dead_owner_is_abandoned_and_cleaned(second: str) -> None:
    program = f"import os; from lab import lifecycle; lifecycle.up('{second}', 1, owner=os.getpid())"
    subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, check=True, timeout=60, env={**os.environ, "PYTHONPATH": "."}
    )
    assert load(second).host("a").up
    assert second in lifecycle.clean_abandoned()
    assert traces(second) == []


def test_nothing_of_a_lab_leaves_its_namespaces(whole: Lab) -> None:
    """No interface, no route and no process of the lab in this machine's own network."""
    assert "10.77.0" not in netns.ip("address") + netns.ip("route")
    mine = os.stat("/proc/self/ns/net").st_ino
    for host in whole.hosts:
        for pid in host.processes():
            assert os.stat(f"/proc/{pid}/ns/net").st_ino != mine


def reaches(lab: Lab, source: str, target: str, *, tries: int = 1) -> bool:
    """Whether an echo comes back; a cable that was just plugged in may need some tries."""
    ping = ["ping", "-c1", "-W1", target]
    return any(lab.host(source).run(ping, check=False).returncode == 0 for _ in range(tries))


@pytest.mark.whole
def test_links_partitions_and_loss_do_what_they_say(whole: Lab) -> None:
    with faults.cut(whole, "b", network="migration"):
        assert not reaches(whole, "a", "b-migration")
        assert reaches(whole, "a", "b", tries=5)
    assert reaches(whole, "a", "b-migration", tries=5)
    faults.partition(whole, "a", "b")
    assert not reaches(whole, "a", "b")
    assert whole.controller.run(["virsh", "-c", "qemu+tls://b/system", "version"], check=False).returncode == 0
    faults.heal(whole)
    faults.loss(whole, "b", 100)
    assert not reaches(whole, "a", "b")
    faults.heal(whole)
    assert reaches(whole, "a", "b", tries=5)


@pytest.mark.whole
def test_links_carry_what_they_are_shaped_to(whole: Lab) -> None:
    """1 Gbit/s, by the switch's own counters."""
    before, began = witness.wire_bytes(whole)["b", "migration"], time.monotonic()
    listening = subprocess.Popen(whole.host("b").command(["sh", "-c", "nc -l -N 9999 >/dev/null"]))
    time.sleep(0.3)
    whole.host("a").run(["sh", "-c", "head -c 120M /dev/zero | nc -N b-migration 9999"], timeout=30)
    seconds = time.monotonic() - began - 0.3
    listening.wait(10)
    received = witness.wire_bytes(whole)["b", "migration"][0] - before[0]
    assert received >= 120 * 1024**2
    assert received / seconds < 1.15e9 / 8


def test_daemons_stop_die_and_come_back(whole: Lab) -> None:
    faults.stop_daemon(whole, "a")
    assert process.state(faults.daemon_pid(whole, "a")) == "T"
    faults.heal(whole)
    assert whole.host("a").run(["virsh", "version"], timeout=20).returncode == 0
    faults.kill_daemon(whole, "a")
    assert faults.daemon_pid(whole, "a") == 0
    assert whole.host("a").up
    faults.start_daemon(whole, "a")
    assert faults.daemon_pid(whole, "a")


@pytest.mark.whole
def test_a_host_that_vanished_comes_back_with_its_disk_and_without_its_guests(whole: Lab) -> None:
    b = whole.host("b")
    b.run(["sh", "-c", "echo kept > /var/lib/kept"])
    faults.vanish(whole, "b")
    assert not b.up
    assert not reaches(whole, "a", "b")
    faults.reappear(whole, "b")
    assert b.run(["cat", "/var/lib/kept"]).stdout == "kept\n"
    assert b.run(["virsh", "list", "--name"]).stdout.strip() == ""


# The witness must see what is planted


def test_the_witness_sees_a_lost_a_repeated_and_a_late_count() -> None:
    rows = [(10.0, 0, 0), (10.1, 1, 5), (10.1, 7, 9), (10.2, 9, 12), (11.0, 13, 13), (11.1, 0, 0), (11.1, 50, 60)]
    seen = witness.read_record(b"".join(ROW.pack(*row) for row in rows))
    assert (seen.lost, seen.repeated, seen.connections) == (1, 1, 2)
    assert seen.longest_gap == pytest.approx(0.8)


def test_the_witness_sees_a_wrong_and_a_missing_block(whole: Lab, guest: Guest) -> None:
    acknowledged = guests.health(whole, guest)["acknowledged"]
    assert acknowledged > 10
    good = witness.check_disk(whole, guest, at="a", acknowledged=acknowledged)
    assert (good.wrong, good.missing) == (0, 0)
    assert good.newest >= acknowledged
    assert witness.check_disk(whole, guest, at="a", acknowledged=acknowledged + 5000).missing > 0
    image = witness.raw_image(whole, guest.disk_path(), at="a")
    block = next(at for at in range(0, len(image), witness.BLOCK) if image[at : at + witness.BLOCK].strip(b"\0"))
    spoilt = image[: block + 100] + bytes([image[block + 100] ^ 1]) + image[block + 101 :]
    assert witness.judge_blocks(spoilt, 0).wrong == 1
    lost = image[:block] + bytes(witness.BLOCK) + image[block + witness.BLOCK :]
    assert witness.judge_blocks(lost, acknowledged).missing + good.missing >= 1


def test_the_witness_sees_two_copies_and_a_paused_one(whole: Lab) -> None:
    bare = guests.start(whole, "a", guests.GuestSpec(name="bare", address="10.77.0.117", disks=()))
    try:
        whole.host("b").run(["virsh", "create", "/dev/stdin"], text_in=guests.definition(whole, bare))
        assert set(witness.running_at(whole, bare)) == {"a", "b"}
        whole.host("b").run(["virsh", "suspend", "bare"])
        assert witness.running_at(whole, bare) == ("a",)
        assert {(copy.host, copy.executing) for copy in witness.copies(whole, bare)} == {("a", True), ("b", False)}
    finally:
        guests.remove(whole, bare)


def test_the_witness_knows_who_answers(whole: Lab, guest: Guest) -> None:
    assert witness.who_answers(whole, guest) == (guest.mac, "a")
