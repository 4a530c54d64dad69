"""Disks copied between real hosts by the command: their certificates, their ports, ssh where these are missing, and what befalls them."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab import faults, witness
from lab.host import Lab
from tests.lab.operators import SUCCEEDED, Operator

pytestmark = pytest.mark.lab

MIB = 1 << 20
SIZE = 96 * MIB
SOURCE, TARGET = "/var/lib/libvirt/images/copied.raw", "/var/lib/libvirt/images/copied.qcow2"


@pytest.fixture
def disk(whole: Lab) -> Iterator[str]:
    """A raw disk of random bytes with a hole at host a; what lies at host b is removed in the end."""
    a, b = whole.hosts
    a.run(["sh", "-c", f"head -c {SIZE // 2} /dev/urandom >{SOURCE}; truncate -s {2 * SIZE} {SOURCE}; dd if=/dev/urandom of={SOURCE} bs=1M seek=120 count=48 conv=notrunc"])  # fmt: skip
    yield SOURCE
    a.run(["rm", "-f", SOURCE])
    b.run(["sh", "-c", f"rm -rf {TARGET} /var/lib/libvirt/images/.copied* /var/lib/ferryman/copies"])


def same(lab: Lab) -> bool:
    """By qemu-img at host b, over the content's sum at both ends: a witness that shares nothing with the engine."""
    a, b = lab.hosts
    there = b.run(
        ["sh", "-c", f"qemu-img convert -O raw {TARGET} /var/tmp/seen && sha256sum </var/tmp/seen; rm -f /var/tmp/seen"]
    ).stdout
    return there == a.run(["sh", "-c", f"sha256sum <{SOURCE}"]).stdout


def told(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """The last event of a copy with --json."""
    assert done.returncode == SUCCEEDED, done.stdout[-500:] + done.stderr
    last: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    assert last["event"] == "end"
    return last


def test_a_disk_crosses_the_migration_network_encrypted_and_arrives_as_it_was(
    whole: Lab, operator: Operator, disk: str
) -> None:
    before = witness.wire_bytes(whole)
    end = told(operator.run("copy", f"a:{disk}", "b:local/copied.qcow2", "--json"))
    after = witness.wire_bytes(whole)
    assert end["way"] == "tls"
    assert same(whole)
    assert after["a", "migration"][1] - before["a", "migration"][1] > SIZE
    assert after["a", "control"][1] - before["a", "control"][1] < 8 * MIB
    whole.host("b").run(["sh", "-c", "! ss -tln | grep -q ':491[5-9]\\|:492[01]'"])


@contextmanager
def without_certificates(lab: Lab) -> Iterator[None]:
    """Host b has none."""
    b = lab.host("b")
    b.run(["mv", "/etc/pki/qemu", "/etc/pki/qemu.away"])
    b.run(["mv", "/etc/pki/libvirt", "/etc/pki/libvirt.away"])
    try:
        yield
    finally:
        b.run(["mv", "/etc/pki/qemu.away", "/etc/pki/qemu"])
        b.run(["mv", "/etc/pki/libvirt.away", "/etc/pki/libvirt"])


def test_without_certificates_it_goes_through_ssh_and_says_so(whole: Lab, operator: Operator, disk: str) -> None:
    with without_certificates(whole):
        done = operator.run("copy", f"a:{disk}", f"b:{TARGET}")
    assert done.returncode == SUCCEEDED, done.stderr
    assert "through ssh, by way of this machine" in done.stdout
    assert same(whole)


@pytest.mark.whole
def test_where_the_hosts_do_not_reach_each_other_it_goes_through_ssh_too(
    whole: Lab, operator: Operator, disk: str
) -> None:
    faults.partition(whole, "a", "b")
    end = told(operator.run("copy", f"a:{disk}", f"b:{TARGET}", "--json"))
    assert end["way"] == "ssh"
    assert same(whole)


def test_a_cut_network_is_waited_for(whole: Lab, operator: Operator, disk: str) -> None:
    copying = operator.start("copy", f"a:{disk}", f"b:{TARGET}", "--bandwidth", "24M", "--compress", "off", "--json")
    time.sleep(2.5)
    with faults.cut(whole, "b"):
        time.sleep(16)  # longer than the ssh of the control sessions waits
    out, _ = copying.communicate(timeout=120)
    end = told(subprocess.CompletedProcess([], copying.returncode, out, ""))
    assert same(whole)
    assert int(str(end["attempts"])) > 1
    assert int(str(end["sent_again"])) <= 16 * MIB


@pytest.mark.whole
@pytest.mark.parametrize("seconds", [45, 120])
def test_a_network_that_is_away_for_longer_than_connections_live_is_waited_for(
    whole: Lab, operator: Operator, disk: str, seconds: int
) -> None:
    copying = operator.start("copy", f"a:{disk}", f"b:{TARGET}", "--bandwidth", "24M", "--compress", "off", "--json")
    time.sleep(2.5)
    with faults.cut(whole, "a", "b"):
        time.sleep(seconds)
    out, _ = copying.communicate(timeout=240)
    assert int(str(told(subprocess.CompletedProcess([], copying.returncode, out, ""))["sent_again"])) <= 16 * MIB
    assert same(whole)


@pytest.mark.parametrize("host", [pytest.param("a", marks=pytest.mark.whole), "b"])
def test_a_host_that_crashes_and_comes_back_goes_on_with_it(
    whole: Lab, operator: Operator, disk: str, host: str
) -> None:
    copying = operator.start("copy", f"a:{disk}", f"b:{TARGET}", "--bandwidth", "24M", "--compress", "off", "--json")
    time.sleep(2.5)
    faults.vanish(whole, host)
    time.sleep(2)
    faults.reappear(whole, host)
    out, _ = copying.communicate(timeout=120)
    end = told(subprocess.CompletedProcess([], copying.returncode, out, ""))
    assert int(str(end["sent_again"])) <= 64 * MIB, "what was not flushed, and what was on its way"
    assert same(whole)
