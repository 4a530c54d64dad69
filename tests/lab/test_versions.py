"""Debian 12 and 13 side by side: guests move both ways, and what one of the two lacks is said beforehand."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

import lab as labs
from lab import firmware, guests, witness
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab import test_backup as backups
from tests.lab.operators import QUIET, REFUSED, SUCCEEDED, Operator, judge
from tests.lab.test_firmware import marked, start_anew, stored

pytestmark = pytest.mark.lab

OLD, NEW = "a", "b"
EMULATOR = "/usr/local/bin/qemu-of-my-own"


@pytest.fixture(scope="module")
def mixed() -> Iterator[Lab]:
    """A host of Debian 12 (a) beside one of Debian 13 (b)."""
    name = f"v{secrets.token_hex(3)}"
    up = labs.up(name, suites=("bookworm", "trixie"), owner=os.getpid())
    try:
        yield up
    finally:
        labs.down(name)


@pytest.fixture
def operator(mixed: Lab) -> Iterator[Operator]:
    """Somebody at the controller of that lab."""
    someone = Operator(mixed, "one")
    yield someone
    someone.leave()


def codes(operator: Operator, guest: Guest, to: str) -> set[str]:
    """What assess finds."""
    answer = operator.run("assess", guest.name, "--to", to, "--json")
    return {finding["code"] for finding in json.loads(answer.stdout)["findings"]}


def heard(counter: witness.Counter) -> witness.CountReport:
    """What was counted, once counts come again: between these two a guest is silent for some seconds on a busy machine."""
    deadline = time.monotonic() + 30
    while (seen := counter.report()).quiet >= QUIET and time.monotonic() < deadline:
        time.sleep(0.2)
    return seen


def test_a_guest_goes_from_12_to_13_and_back_with_its_client_connected(mixed: Lab, operator: Operator) -> None:
    spec = GuestSpec(name="web", dirty="20:8:t,8:4:r", autostart=True, title="a title")
    web = guests.start(mixed, OLD, spec)
    try:
        with witness.Counter(mixed, web) as counter:
            there = operator.migrate(web, NEW)
            assert there.returncode == SUCCEEDED, there.stdout + there.stderr
            assert "shared-vouched" in {finding["code"] for finding in operator.last()["findings_before"]}
            versions = operator.last()["versions"]
            assert versions["source_libvirt"].startswith("9.")
            assert versions["destination_libvirt"].startswith("11.")
            judge(mixed, web, at=NEW, seen=heard(counter), operator=operator)
            back = operator.migrate(web, OLD)
            assert back.returncode == SUCCEEDED, back.stdout + back.stderr
            assert "shared-vouched" not in {finding["code"] for finding in operator.last()["findings_before"]}
            judge(mixed, web, at=OLD, seen=heard(counter), operator=operator)
    finally:
        guests.remove(mixed, web)


def test_what_12_cannot_know_or_be_is_refused_beforehand(mixed: Lab, operator: Operator) -> None:
    newer = guests.define(mixed, NEW, GuestSpec(name="newer", machine="pc-q35-10.0"))
    cached = guests.start(mixed, OLD, GuestSpec(name="cached", address="10.77.0.115", cache="writeback"))
    try:
        assert "machine-type" in codes(operator, newer, OLD)
        assert "disk-cache" in codes(operator, cached, NEW)
        assert operator.migrate(cached, NEW).returncode == REFUSED
        judge(mixed, cached, at=OLD, operator=operator)
    finally:
        guests.remove(mixed, newer)
        guests.remove(mixed, cached)


@pytest.mark.parametrize("way", [(OLD, NEW), pytest.param((OLD, NEW, OLD), marks=pytest.mark.whole)], ids="-".join)
def test_uefi_variables_and_tpm_state_made_at_12_go_to_13_and_back(
    mixed: Lab, operator: Operator, way: tuple[str, ...]
) -> None:
    secure = guests.start(mixed, OLD, marked("10.77.0.112"), within=120)
    try:
        for at, to in pairwise(way):
            stored(mixed, secure, at)
            moved = operator.migrate(secure, to)
            assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
            judge(mixed, secure, at=to, operator=operator)
            stored(mixed, secure, to)
            assert firmware.tpm_state(mixed, secure, at) == b""
    finally:
        guests.remove(mixed, secure)


@pytest.mark.whole
def test_uefi_variables_and_tpm_state_made_at_13_go_to_12_and_a_new_start_there_reads_them(
    mixed: Lab, operator: Operator
) -> None:
    secure = guests.start(mixed, NEW, marked("10.77.0.113"), within=120)
    try:
        moved = operator.migrate(secure, OLD)
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judge(mixed, secure, at=OLD, operator=operator)
        stored(mixed, secure, OLD)
        start_anew(mixed, secure, OLD)
        stored(mixed, secure, OLD)
    finally:
        guests.remove(mixed, secure)


@pytest.mark.whole
def test_what_12_does_not_have_is_adapted_in_a_cold_move_and_the_guest_runs_there(
    mixed: Lab, operator: Operator
) -> None:
    """An emulator under a path of its own, a machine type of QEMU 10, libvirt's own watchdog, another CPU when it is asked for. And back."""
    mixed.host(NEW).run(["ln", "-sf", "/usr/bin/qemu-system-x86_64", EMULATOR])
    spec = GuestSpec(name="adapted", address="10.77.0.116", disks=("local",), disk_mib=64, machine="pc-q35-10.0")
    guest = guests.define(mixed, NEW, spec)
    try:
        text = mixed.host(NEW).run(["virsh", "dumpxml", guest.name]).stdout
        text = text.replace("/usr/bin/qemu-system-x86_64", EMULATOR)
        mixed.host(NEW).run(["virsh", "define", "/dev/stdin"], text_in=text)
        mixed.host(NEW).run(["virsh", "start", guest.name])
        guests.wait_healthy(mixed, guest)
        assert "emulator-missing" in codes(operator, guest, OLD)  # alive it cannot go
        moved = operator.migrate(guest, OLD, "--cold", "--cpu", "Nehalem")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        told = {finding["code"]: finding["why"] for finding in operator.last()["findings_before"]}
        assert "/usr/bin/qemu-system-x86_64" in told["emulator-adapted"]
        assert "pc-q35-7.2" in told["machine-adapted"]
        assert "Nehalem" in told["cpu-adapted"]
        assert "does not know that model" in told["watchdog-left"]
        text = mixed.host(OLD).run(["virsh", "dumpxml", "--inactive", guest.name]).stdout
        assert "<emulator>/usr/bin/qemu-system-x86_64</emulator>" in text
        assert "machine='pc-q35-7.2'" in text
        assert ">Nehalem</model>" in text
        guests.wait_healthy(mixed, guest)
        judge(mixed, guest, at=OLD, operator=operator, image=image_of(mixed, guest, OLD))
        back = operator.migrate(guest, NEW, "--cold")
        assert back.returncode == SUCCEEDED, back.stdout + back.stderr
        guests.wait_healthy(mixed, guest)
        judge(mixed, guest, at=NEW, operator=operator, image=image_of(mixed, guest, NEW))
    finally:
        guests.remove(mixed, guest)


def image_of(lab: Lab, guest: Guest, host: str) -> str:
    """Its only disk there."""
    return lab.host(host).run(["virsh", "domblklist", guest.name]).stdout.split()[-1]


@pytest.mark.whole
def test_a_local_disk_is_copied_from_12_to_13_and_back(mixed: Lab, operator: Operator) -> None:
    local = guests.start(mixed, OLD, GuestSpec(name="local", address="10.77.0.114", disks=("local",), disk_mib=64))
    try:
        for to in (NEW, OLD):
            moved = operator.migrate(local, to)
            assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
            assert [copy.host for copy in witness.copies(mixed, local)] == [to]
            assert guests.health(mixed, local)["wrong"] == 0
    finally:
        guests.remove(mixed, local)


@pytest.mark.whole
def test_a_guest_of_12_is_backed_up_its_increment_is_small_and_it_boots_again_there(
    mixed: Lab, operator: Operator
) -> None:
    with backups.started(mixed, backups.QCOW2) as guest:
        acknowledged = guests.health(mixed, guest)["acknowledged"]
        full = backups.backed_up(operator)
        backups.proved(mixed, full, acknowledged)
        assert full["backup"]["consistency"] == "frozen"
        acknowledged = guests.health(mixed, guest)["acknowledged"]
        increment = backups.backed_up(operator)
        backups.proved(mixed, increment, acknowledged)
        backups.tidy(mixed, guest, 1)
        (disk,) = backups.manifest(mixed, increment)["disks"]
        assert (disk["reading"], increment["backup"]["chain"]) == ("bitmap", 2)
        assert disk["bytes"] < 32 * backups.MIB
        backups.boots_as_second(mixed, operator, guest, increment, OLD)
