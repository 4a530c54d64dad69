"""Hosts that know nothing of each other: ferryman carries the handshake itself, and whatever befalls it one copy is left."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from ferryman.model.host import Host
from lab import faults, guests, witness
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import PUT_BACK, REFUSED, SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab

SLOW = ("--bandwidth", "12M")
KEY = "/root/.ssh/id_ed25519"


@pytest.fixture
def stranger(whole: Lab, operator: Operator) -> Iterator[Operator]:
    """An operator who reaches both hosts by ssh, which have no key for each other."""
    for host in whole.hosts:
        operator.records.add_host(
            Host(host.name, f"qemu+ssh://root@{host.name}/system", migration_address=f"{host.name}-migration")
        )
        host.run(["mv", KEY, f"{KEY}.away"])
    yield operator
    for host in whole.hosts:
        host.run(["mv", f"{KEY}.away", KEY])


def to_all(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """A signal to the whole process group, as a terminal sends it: to ferryman and to all that it started beside itself."""
    os.killpg(process.pid, number)


def test_the_guest_moves_and_its_client_never_notices_though_the_terminal_goes(
    whole: Lab, guest: Guest, stranger: Operator
) -> None:
    planned = stranger.run("migrate", guest.name, "--to", "b", "--dry-run")
    assert planned.returncode == SUCCEEDED, planned.stdout + planned.stderr
    assert "ferryman carries the handshake" in planned.stdout
    before = witness.wire_bytes(whole)
    with witness.Counter(whole, guest) as counter:
        moving = stranger.start_migration(guest, "b", "--bandwidth", "40M")
        stranger.wait_for_bytes()
        to_all(moving, signal.SIGHUP)
        assert moving.wait(60) == SUCCEEDED
        judge(whole, guest, at="b", seen=counter.report(), operator=stranger)
    after = witness.wire_bytes(whole)
    assert after["a", "migration"][1] - before["a", "migration"][1] > 20 * 1024**2
    report = json.loads(stranger.run("show", stranger.request_id(), "--json").stdout)
    assert "handshake-carried" in {finding["code"] for finding in report["findings_before"]}
    assert any("carries the handshake" in text for text in report["decisions"])


def test_peer_to_peer_is_refused_when_it_is_insisted_on_and_host_check_calls_it_optional(
    whole: Lab, guest: Guest, stranger: Operator
) -> None:
    refused = stranger.migrate(guest, "b", "--handshake", "peer")
    assert refused.returncode == REFUSED
    assert "--handshake peer" in refused.stdout
    checked = stranger.run("host", "check", "b", "--json")
    assert checked.returncode == SUCCEEDED, checked.stdout
    (peer,) = (line for line in json.loads(checked.stdout) if "peer URI" in line["thing"])
    assert peer["answer"] == "optional"
    assert "carries the handshake" in peer["remedy"]
    judge(whole, guest, at="a", operator=stranger)


def test_memory_goes_encrypted_or_not_at_all(whole: Lab, guest: Guest, stranger: Operator) -> None:
    certificate = "/etc/pki/qemu/server-cert.pem"
    whole.host("b").run(["mv", certificate, f"{certificate}.away"])
    try:
        refused = stranger.migrate(guest, "b")
        assert refused.returncode == REFUSED
        assert "--insecure" in refused.stdout
        judge(whole, guest, at="a", operator=stranger)
        moved = stranger.migrate(guest, "b", "--insecure")
        assert moved.returncode == SUCCEEDED, moved.stdout
    finally:
        whole.host("b").run(["mv", f"{certificate}.away", certificate])
    judge(whole, guest, at="b", operator=stranger)


def test_killed_in_the_transfer_libvirt_aborts_and_all_is_put_back(
    whole: Lab, guest: Guest, stranger: Operator
) -> None:
    with witness.Counter(whole, guest) as counter:
        died = stranger.migrate(guest, "b", *SLOW, crash="sampled:1")
        assert died.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        recovered = stranger.run("recover")
        assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
        assert stranger.status() == "failed"
        assert "ferryman carried the handshake" in stranger.last()["outcome"]["reason"]
        judge(whole, guest, at="a", seen=counter.report(), operator=stranger)


def test_ctrl_c_cancels_and_nothing_breaks_under_it(whole: Lab, guest: Guest, stranger: Operator) -> None:
    with witness.Counter(whole, guest) as counter:
        moving = stranger.start_migration(guest, "b", *SLOW)
        stranger.wait_for_bytes()
        to_all(moving, signal.SIGINT)
        assert moving.wait(60) == PUT_BACK
        assert stranger.status() == "cancelled"
        assert any("cancelled by" in text for text in stranger.records.decisions(stranger.request_id()))
        judge(whole, guest, at="a", seen=counter.report(), operator=stranger)


def dies_at_the_switchover(whole: Lab, guest: Guest, operator: Operator, moment: str) -> str:
    """Where the guest is after a recovery: either host will do, exactly one copy, and the records say so."""
    with witness.Counter(whole, guest) as counter:
        died = operator.migrate(guest, "b", crash=moment)
        if died.returncode != SUCCEEDED:  # it may have been faster than its death
            recovered = operator.run("recover")
            assert recovered.returncode == SUCCEEDED, recovered.stdout + recovered.stderr
        (at,) = witness.running_at(whole, guest)
        assert operator.status() == ("succeeded" if at == "b" else "failed")
        judge(whole, guest, at=at, seen=counter.report(), operator=operator)
    return at


@pytest.mark.parametrize("moment", ["paused:0.02"])
def test_killed_at_the_switchover(whole: Lab, guest: Guest, stranger: Operator, moment: str) -> None:
    dies_at_the_switchover(whole, guest, stranger, moment)


@pytest.mark.whole
@pytest.mark.parametrize("moment", [f"paused:{number / 50}" for number in range(0, 30, 2)])
def test_killed_at_many_moments_of_the_switchover(whole: Lab, guest: Guest, stranger: Operator, moment: str) -> None:
    dies_at_the_switchover(whole, guest, stranger, moment)


@pytest.mark.whole
@pytest.mark.parametrize("first", ["recover", "continue"])
def test_killed_between_the_last_two_phases(whole: Lab, guest: Guest, stranger: Operator, first: str) -> None:
    """All of memory is over, the destination's libvirtd is silent, and ferryman dies: the guest stands paused until recover."""
    with witness.Counter(whole, guest) as counter:
        moving = stranger.start_migration(guest, "b")
        stranger.wait_for_bytes()
        faults.stop_daemon(whole, "b")
        stranger.wait_for(lambda: stranger.last()["phase"] == "switching over", "the switchover")
        time.sleep(2)
        stranger.kill(moving)
        if first == "recover":
            recovering = stranger.start("recover")
            time.sleep(8)
            faults.continue_daemon(whole, "b")
            assert recovering.wait(120) == SUCCEEDED
        else:
            faults.continue_daemon(whole, "b")
            assert stranger.run("recover").returncode == SUCCEEDED
        (at,) = witness.running_at(whole, guest)
        judge(whole, guest, at=at, seen=counter.report(), operator=stranger)


def stands_still(whole: Lab, guest: Guest, operator: Operator, *more: str, paused: bool) -> str:
    """ferryman is stopped for 35 s (libvirtd drops it after 30) and continued; returns where the guest is then."""
    with witness.Counter(whole, guest) as counter:
        moving = operator.start_migration(guest, "b", *more)
        operator.wait_for_bytes()
        if paused:
            faults.stop_daemon(whole, "b")
            operator.wait_for(lambda: operator.last()["phase"] == "switching over", "the switchover")
        operator.kill(moving, signal.SIGSTOP)
        faults.continue_daemon(whole, "b")
        time.sleep(35)
        operator.kill(moving, signal.SIGCONT)
        code = moving.wait(120)
        (at,) = witness.running_at(whole, guest)
        assert code == (SUCCEEDED if at == "b" else PUT_BACK), moving.stdout.read() if moving.stdout else ""
        judge(whole, guest, at=at, seen=counter.report(), operator=operator)
    return at


@pytest.mark.whole  # test_ferryman_dies.py does it by default, beside a peer to peer move
def test_stopped_for_35_seconds_in_the_transfer_libvirt_aborts(whole: Lab, guest: Guest, stranger: Operator) -> None:
    assert stands_still(whole, guest, stranger, "--bandwidth", "4M", paused=False) == "a"
    assert stranger.status() == "failed"


@pytest.mark.whole
def test_stopped_for_35_seconds_in_the_switchover(whole: Lab, guest: Guest, stranger: Operator) -> None:
    stands_still(whole, guest, stranger, paused=True)


def by_its_own_socket(lab: Lab, host: str) -> tuple[str, ...]:
    """A host as the machine that ferryman runs on would be registered: its URI says nothing to another host."""
    socket = f"/proc/{lab.host(host).init[0]}/root/run/libvirt/libvirt-sock"
    return ("host", "add", host, f"qemu+unix:///system?socket={socket}", "--ssh", f"root@{host}")


def test_a_host_registered_by_its_own_socket_needs_an_address(whole: Lab, guest: Guest, stranger: Operator) -> None:
    stranger.run(*by_its_own_socket(whole, "b"))
    refused = stranger.migrate(guest, "b")
    assert refused.returncode == REFUSED
    assert "--migration-address" in refused.stdout
    judge(whole, guest, at="a", operator=stranger)


@pytest.mark.whole
@pytest.mark.parametrize("host", ["a", "b"])
def test_a_host_registered_by_its_own_socket_is_source_and_destination(
    whole: Lab, guest: Guest, stranger: Operator, host: str
) -> None:
    stranger.run(*by_its_own_socket(whole, host), "--migration-address", f"{host}-migration")
    moved = stranger.migrate(guest, "b")
    assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
    judge(whole, guest, at="b", operator=stranger)


@pytest.mark.whole
def test_a_local_disk_goes_along(whole: Lab, stranger: Operator) -> None:
    local = guests.start(whole, "a", GuestSpec(name="local", address="10.77.0.113", disks=("local",)))
    try:
        with witness.Counter(whole, local) as counter:
            died = stranger.migrate(local, "b", *SLOW, crash="sampled:1")
            assert died.returncode != SUCCEEDED
            assert stranger.run("recover").returncode == SUCCEEDED
            judge(whole, local, at="a", seen=counter.report(), operator=stranger)
            moved = stranger.migrate(local, "b")
            assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
            judge(whole, local, at="b", seen=counter.report(), operator=stranger)
    finally:
        guests.remove(whole, local)
