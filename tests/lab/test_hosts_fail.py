"""Daemons, QEMUs, links and hosts fail under a move; after each exactly one copy runs, at the place the report names."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lab import faults, guests, tls, witness
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.conftest import bring_home
from tests.lab.operators import ATTENTION, PUT_BACK, REFUSED, SUCCEEDED, Operator, ends_right, judge

pytestmark = pytest.mark.lab

SLOW = ("--bandwidth", "12M")


@pytest.mark.whole
def test_the_destinations_qemu_is_killed(whole: Lab, guest: Guest, operator: Operator) -> None:
    with witness.Counter(whole, guest) as counter:
        running = operator.start_migration(guest, "b", *SLOW)
        operator.wait_for_bytes()
        faults.kill_guest_process(whole, "b", guest)
        assert running.wait(60) == PUT_BACK
        judge(whole, guest, at="a", seen=counter.report(), operator=operator)
        again = operator.migrate(guest, "b")
        assert again.returncode == SUCCEEDED, again.stdout
        judge(whole, guest, at="b", seen=counter.report(), operator=operator)


@pytest.mark.parametrize("host", ["a", pytest.param("b", marks=pytest.mark.whole)])
def test_a_libvirtd_is_killed_in_pre_copy(whole: Lab, guest: Guest, operator: Operator, host: str) -> None:
    with witness.Counter(whole, guest) as counter:
        running = operator.start_migration(guest, "b", *SLOW)
        operator.wait_for_bytes()
        faults.kill_daemon(whole, host)
        time.sleep(1)
        faults.start_daemon(whole, host)
        assert ends_right(whole, guest, operator, running.wait(200), counter.report()) == "a"


@pytest.mark.parametrize("host", [pytest.param("a", marks=pytest.mark.whole), "b"])
def test_a_libvirtd_is_killed_as_the_destination_first_runs(
    whole: Lab, guest: Guest, operator: Operator, host: str
) -> None:
    """A husk may stay at the source: paused, without a job, beside the running copy."""
    with witness.Counter(whole, guest) as counter:
        running = operator.start_migration(guest, "b")
        witness.wait_until_executing(whole, guest, "b")
        faults.kill_daemon(whole, host)
        time.sleep(1)
        faults.start_daemon(whole, host)
        ends_right(whole, guest, operator, running.wait(200), counter.report())


def test_a_destination_that_took_over_and_died_is_not_undone_with_older_memory(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    """The handshake breaks as it first runs, then its QEMU dies: its disk is newer than what stands paused at the source."""
    for _ in range(4):
        running = operator.start_migration(guest, "b")
        witness.wait_until_executing(whole, guest, "b")
        faults.kill_daemon(whole, "a")
        if {copy.host: copy.executing for copy in witness.copies(whole, guest)} == {"a": False, "b": True}:
            break
        faults.start_daemon(whole, "a")
        running.wait(200)
        bring_home(whole, guest)
        whole.host("a").run(["virsh", "autostart", guest.name])  # which does not travel
    acknowledged = guests.health(whole, guest)["acknowledged"]
    faults.kill_guest_process(whole, "b", guest)
    faults.start_daemon(whole, "a")
    assert running.wait(60) == ATTENTION
    assert "virsh destroy web at a, virsh start web at b, then ferryman recover" in operator.last()["outcome"]["remedy"]
    assert [(copy.host, copy.executing) for copy in witness.copies(whole, guest)] == [("a", False)]
    assert operator.run("recover").returncode == ATTENTION  # and again, whoever looks
    whole.host("a").run(["virsh", "destroy", guest.name])
    disk = witness.check_disk(whole, guest, at="b", acknowledged=acknowledged)
    assert (disk.wrong, disk.missing) == (0, 0), disk
    whole.host("b").run(["virsh", "start", guest.name])
    guests.wait_healthy(whole, guest)
    assert operator.run("recover").returncode == SUCCEEDED
    judge(whole, guest, at="b", operator=operator)


@pytest.mark.whole
def test_the_destinations_libvirtd_is_silent_over_28_seconds_at_the_switchover(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    with witness.Counter(whole, guest) as counter:
        running = operator.start_migration(guest, "b")
        witness.wait_until_executing(whole, guest, "b")
        faults.stop_daemon(whole, "b")
        operator.wait_for(lambda: operator.last()["phase"] == "switching over", "the switchover")
        refused = operator.run("cancel", operator.request_id())
        assert refused.returncode == REFUSED
        assert "only forward" in refused.stderr
        time.sleep(35)
        faults.continue_daemon(whole, "b")
        ends_right(whole, guest, operator, running.wait(200), counter.report())


@pytest.mark.parametrize("moment", ["switchover", pytest.param("bytes", marks=pytest.mark.whole)])
def test_silent_beyond_patience_needs_attention_and_is_settled_later(
    whole: Lab, guest: Guest, operator: Operator, moment: str
) -> None:
    running = operator.start_migration(guest, "b", *(SLOW if moment == "bytes" else ()))
    if moment == "bytes":
        operator.wait_for_bytes()
    else:
        witness.wait_until_executing(whole, guest, "b")
    faults.stop_daemon(whole, "b")
    assert running.wait(290) == ATTENTION
    left = operator.request_id()
    assert operator.records.lease(guest.uuid) == left
    refused = operator.migrate(guest, "b")  # the lease is kept: nobody moves it before it is settled
    assert refused.returncode == REFUSED
    assert operator.records.lease(guest.uuid) == left
    faults.kill_daemon(whole, "b")
    faults.start_daemon(whole, "b")
    again = operator.migrate(guest, "b")  # settles what is left first
    settled = [report["phase"] for report in json.loads(operator.run("history", "--json").stdout)]
    if "succeeded" in settled[1:]:  # it had arrived: there is nothing to move
        assert again.returncode == REFUSED, again.stdout + again.stderr
    else:
        assert "failed" in settled
        assert again.returncode == SUCCEEDED, again.stdout + again.stderr
    judge(whole, guest, at="b", operator=operator)


@pytest.mark.parametrize(
    ("seconds", "at"),
    [pytest.param(5, "b", marks=pytest.mark.whole), (45, "a")],
    ids=["it completes", "it ends at the source"],
)
def test_all_links_cut_for_less_or_more_than_libvirts_keepalive_waits(
    whole: Lab, guest: Guest, operator: Operator, seconds: int, at: str
) -> None:
    with witness.Counter(whole, guest) as counter:
        running = operator.start_migration(guest, "b", *SLOW)
        operator.wait_for_bytes()
        with faults.cut(whole, "b"):
            time.sleep(seconds)
        assert ends_right(whole, guest, operator, running.wait(240), counter.report()) == at


@pytest.mark.whole
def test_the_migration_network_alone_is_cut_for_60_seconds(whole: Lab, guest: Guest, operator: Operator) -> None:
    """libvirt's keepalive goes over the other network and notices nothing: ferryman aborts by itself."""
    with witness.Counter(whole, guest) as counter:
        running = operator.start_migration(guest, "b", *SLOW)
        operator.wait_for_bytes()
        with faults.cut(whole, "b", network="migration"):
            assert ends_right(whole, guest, operator, running.wait(240)) == "a"
        assert any("no byte" in text for text in operator.records.decisions(operator.request_id()))
        assert counter.report().lost == 0


def test_a_vanished_host_hangs_no_command(whole: Lab, guest: Guest, operator: Operator) -> None:
    faults.vanish(whole, "b")
    codes = {
        ("guests",): REFUSED,
        ("hosts",): SUCCEEDED,
        ("assess", guest.name, "--to", "b"): REFUSED,
        ("migrate", guest.name, "--to", "b", "--yes"): REFUSED,
        ("host", "check", "b"): REFUSED,
        ("guest", guest.name): SUCCEEDED,
    }
    began = time.monotonic()
    asked = {command: operator.start(*command) for command in codes}
    for command, process in asked.items():
        assert process.wait(60) == codes[command], (command, process.communicate())
    assert time.monotonic() - began < 45
    judge_at_a_alone(whole, guest)


def judge_at_a_alone(lab: Lab, guest: Guest) -> None:
    """While b is gone, only a can be asked."""
    assert witness.running_at(lab, guest) == ("a",)
    assert guests.health(lab, guest)["wrong"] == 0


@pytest.mark.whole
def test_the_destination_vanishes_before_the_transfer(whole: Lab, guest: Guest, operator: Operator) -> None:
    operator.migrate(guest, "b", crash="transfer:before")
    assert "disable" in whole.host("a").run(["virsh", "dominfo", guest.name]).stdout
    faults.vanish(whole, "b")
    recovered = operator.run("recover")
    assert recovered.returncode == 0, recovered.stdout + recovered.stderr
    assert operator.status() == "refused"
    judge_at_a_alone(whole, guest)
    faults.reappear(whole, "b")
    judge(whole, guest, at="a", operator=operator)


@pytest.mark.whole
def test_the_destination_vanishes_in_the_transfer(whole: Lab, guest: Guest, operator: Operator) -> None:
    with witness.Counter(whole, guest) as counter:
        running = operator.start_migration(guest, "b", *SLOW)
        operator.wait_for_bytes()
        faults.vanish(whole, "b")
        code = running.wait(280)
        assert code in (PUT_BACK, ATTENTION)
        judge_at_a_alone(whole, guest)
        faults.reappear(whole, "b")
        assert ends_right(whole, guest, operator, code, counter.report()) == "a"


@pytest.mark.whole
def test_a_guest_whose_qemu_stands_still_hangs_no_command(whole: Lab, guest: Guest, operator: Operator) -> None:
    """Its libvirtd answers, and waits for the QEMU: our calls are bounded. The next command finds it well again."""
    faults.signal_guest(whole, "a", guest.name, signal.SIGSTOP)
    try:
        began = time.monotonic()
        asked = [operator.start(*words) for words in (("assess", guest.name, "--to", "b"), ("guest", guest.name))]
        for process in asked:
            assert process.wait(100) in (SUCCEEDED, REFUSED)
        assert time.monotonic() - began < 90
    finally:
        faults.signal_guest(whole, "a", guest.name, signal.SIGCONT)
    assert operator.migrate(guest, "b").returncode == SUCCEEDED
    judge(whole, guest, at="b", operator=operator)


@contextmanager
def another_certificate(lab: Lab, host: str, service: str) -> Iterator[None]:
    """For the length of a `with`, a host shows a certificate of the right authority that bears somebody else's name."""
    keys = lab.directory / "keys"
    certificate, key = tls.issue(keys, "somebody", ["DNS:somebody"])
    pki = guests.host_path(lab.host(host), f"/etc/pki/{service}")
    names = (
        ("servercert.pem", "private/serverkey.pem") if service == "libvirt" else ("server-cert.pem", "server-key.pem")
    )
    kept = {pki / name: (pki / name).read_bytes() for name in names}
    for path, other in zip(kept, (certificate, key), strict=True):
        path.write_bytes(other.read_bytes())
    try:
        yield
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def restart_libvirtd(lab: Lab, host: str) -> None:
    faults.kill_daemon(lab, host)
    faults.start_daemon(lab, host)


def test_a_wrong_certificate_of_libvirt_is_named_beforehand_and_nothing_changes(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    try:
        with another_certificate(whole, "b", "libvirt"):
            restart_libvirtd(whole, "b")
            refused = operator.migrate(guest, "b")
            assert refused.returncode == REFUSED
            assert "certificate" in (refused.stdout + refused.stderr).lower()
            assert "which names they bear" in refused.stdout + refused.stderr
            judge_at_a_alone(whole, guest)
    finally:
        restart_libvirtd(whole, "b")
    judge(whole, guest, at="a", operator=operator)


def test_a_wrong_certificate_of_qemu_ends_the_transfer_and_all_is_put_back(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    with witness.Counter(whole, guest) as counter:
        with another_certificate(whole, "b", "qemu"):
            failed = operator.migrate(guest, "b")
        assert failed.returncode == PUT_BACK, failed.stdout
        assert "certificate" in failed.stdout.lower()
        judge(whole, guest, at="a", seen=counter.report(), operator=operator)


def test_a_guest_without_an_image_lock_is_warned_of(whole: Lab, operator: Operator) -> None:
    """Only libvirt stands between two running copies then (it was seen to make them): the operator is told beforehand."""
    bare = guests.start(whole, "a", GuestSpec(name="bare", address="10.77.0.116", disks=()))
    try:
        found = json.loads(operator.run("assess", "bare", "--to", "b", "--json").stdout)["findings"]
        assert "no-image-lock" in {finding["code"] for finding in found}
        moved = operator.migrate(bare, "b")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judge(whole, bare, at="b", operator=operator)
    finally:
        guests.remove(whole, bare)


def test_two_running_copies_are_said_and_never_touched(whole: Lab, operator: Operator) -> None:
    """Made by hand from a diskless guest, between the kill of ferryman and the recovery."""
    spec = GuestSpec(name="bare", address="10.77.0.116", disks=())
    bare = guests.start(whole, "a", spec)
    try:
        operator.migrate(bare, "b", crash="transfer:before")
        whole.host("b").run(["virsh", "create", "/dev/stdin"], text_in=guests.definition(whole, bare))
        recovered = operator.run("recover")
        assert recovered.returncode == ATTENTION
        assert "BOTH hosts run the guest" in recovered.stdout
        assert {copy.host for copy in witness.copies(whole, bare)} == {"a", "b"}
        whole.host("b").run(["virsh", "destroy", bare.name])
        again = operator.run("recover")
        assert again.returncode == 0, again.stdout
        assert operator.status() == "failed"
        assert witness.running_at(whole, bare) == ("a",)
    finally:
        guests.remove(whole, bare)


@pytest.mark.whole
@pytest.mark.parametrize("moment", ["bytes", "switchover"])
@pytest.mark.parametrize(
    "fault",
    [
        faults.kill_daemon,
        faults.stop_daemon,
        lambda lab, host: faults.link_down(lab, host, "control"),
        lambda lab, host: faults.link_down(lab, host, "migration"),
        lambda lab, host: faults.partition(lab, "a", "b"),
        lambda lab, host: faults.loss(lab, host, 30),
    ],
    ids=["kill libvirtd", "stop libvirtd", "cut control", "cut migration", "partition", "loss"],
)
@pytest.mark.parametrize("host", ["a", "b"])
def test_every_fault_at_either_end_for_20_seconds(
    whole: Lab, guest: Guest, operator: Operator, fault: Callable[[Lab, str], None], host: str, moment: str
) -> None:
    running = operator.start_migration(guest, "b", *SLOW)
    if moment == "bytes":
        operator.wait_for_bytes()
    else:
        witness.wait_until_executing(whole, guest, "b")
    fault(whole, host)
    time.sleep(20)
    faults.heal(whole)
    for name in ("a", "b"):
        faults.start_daemon(whole, name)
    ends_right(whole, guest, operator, running.wait(290))
