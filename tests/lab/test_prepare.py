"""Hosts as Debian installs them are prepared by one command, over ssh alone; what is broken, ending or unwanted is put right or back."""

import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab as labs
from lab import guests, tls, witness
from lab.guests import Guest, GuestSpec
from lab.host import Host, Lab
from tests.lab.operators import PUT_BACK, REFUSED, SUCCEEDED, Operator

pytestmark = pytest.mark.lab

SHARED = ("--shared-directory", "/srv/shared")


@pytest.fixture(scope="module")
def bare() -> Iterator[Lab]:
    """Two hosts without certificates."""
    name = f"b{secrets.token_hex(3)}"
    up = labs.up(name, hosts=2, owner=os.getpid(), bare=True)
    try:
        yield up
    finally:
        labs.down(name)


@pytest.fixture(scope="module")
def running(bare: Lab) -> Guest:
    """A guest that must not notice."""
    return guests.start(bare, "a", GuestSpec(name="web", address=bare.topology.guest_address(1), memory_mib=192))


@pytest.fixture(scope="module")
def someone(bare: Lab) -> Iterator[Operator]:
    """An operator who reaches both hosts by ssh only."""
    operator = Operator(bare, "one")
    for name in bare.topology.hosts:
        added = operator.run("host", "add", name, f"qemu+ssh://root@{name}/system", "--migration-address", f"{name}-migration")  # fmt: skip
        assert added.returncode == SUCCEEDED, added.stderr
    yield operator
    operator.leave()


WATCHED = "/etc/pki /etc/libvirt/*.conf /etc/default /root/.ssh"


def state(host: Host) -> dict[str, str]:
    """Every file and directory that a preparation may touch: mode, owner, time of change, content."""
    script = f"find {WATCHED} -printf '%p\\t%y %m %U:%G\\t%T@\\n' 2>/dev/null; find {WATCHED} -type f -exec sha256sum {{}} + 2>/dev/null"
    found: dict[str, str] = {}
    for line in host.run(["sh", "-c", script], check=False).stdout.splitlines():
        if "\t" in line:
            path, kind, changed = line.split("\t")
            found[path] = kind if kind.startswith("d") else f"{kind} {changed}"  # a directory's time tells nothing
        else:
            digest, path = line.split(maxsplit=1)
            found[path] += digest
    return found


def qemu_of(lab: Lab, guest: Guest) -> tuple[int, ...]:
    return tuple(copy.pid for copy in witness.copies(lab, guest, look=0))


def daemon_arguments(host: Host) -> str:
    return host.run(["sh", "-c", "tr '\\0' ' ' </proc/$(cat /run/libvirtd.pid)/cmdline"]).stdout.strip()


def test_a_dry_run_changes_nothing_here_or_there(bare: Lab, running: Guest, someone: Operator) -> None:
    before = [state(host) for host in bare.hosts]
    told = someone.run("host", "prepare", "a", "b", "--dry-run", *SHARED)
    assert told.returncode == SUCCEEDED, told.stdout + told.stderr
    for words in ("would be changed", "/etc/pki/qemu/server-key.pem", "migration_host", "--listen", "undo: "):
        assert words in told.stdout, words
    assert [state(host) for host in bare.hosts] == before
    assert not (someone.state / "authority").exists()
    assert bare.host("a").run(["ls", "/var/backups/ferryman"], check=False).returncode != 0
    assert someone.run("host", "check").returncode == REFUSED


def test_a_failure_in_the_middle_is_undone(bare: Lab, running: Guest, someone: Operator) -> None:
    """Somebody sits on libvirtd's port: it does not start with what was changed, and starts again as it was."""
    a, qemu = bare.host("a"), qemu_of(bare, running)
    before, arguments = state(a), daemon_arguments(a)
    squatter = subprocess.Popen(a.command(["nc", "-lk", "16514"]), stdin=subprocess.DEVNULL)
    try:
        failed = someone.run("host", "prepare", "a", *SHARED)
    finally:
        a.run(["pkill", "-x", "nc"])  # nsenter's child, in the host's own namespace
        squatter.wait()
    assert failed.returncode == PUT_BACK, failed.stdout + failed.stderr
    assert "put back" in failed.stderr
    assert state(a) == before
    assert daemon_arguments(a) == arguments
    assert "running" in a.run(["virsh", "domstate", running.name]).stdout
    assert qemu_of(bare, running) == qemu
    assert not a.run(["sh", "-c", "ls /var/backups/ferryman/*/new 2>/dev/null"], check=False).stdout  # no key is left


def test_two_bare_hosts_are_prepared_and_a_guest_moves_encrypted(bare: Lab, running: Guest, someone: Operator) -> None:
    b, qemu = bare.host("b"), qemu_of(bare, running)
    original = [state(host) for host in bare.hosts]
    b.run(["mv", "/usr/bin/openssl", "/usr/bin/away"])  # certtool makes its keys then
    try:
        with witness.Counter(bare, running) as counter:
            began = time.monotonic()
            prepared = someone.run("host", "prepare", "a", "b", *SHARED)
            assert prepared.returncode == SUCCEEDED, prepared.stdout + prepared.stderr
            assert time.monotonic() - began < 40
            seen = counter.report()
    finally:
        b.run(["mv", "/usr/bin/away", "/usr/bin/openssl"])
    assert "1 running guest went on untouched" in prepared.stdout
    assert "qemu+tls://a/system from this machine: answers" in prepared.stdout
    assert (seen.lost, seen.repeated, seen.connections) == (0, 0, 1)
    assert qemu_of(bare, running) == qemu
    for host in bare.hosts:  # QEMU runs as a user of its own there, and only that user's group reads its key
        listed = host.run(["stat", "-c", "%a %U:%G", "/etc/pki/qemu/server-key.pem", "/etc/pki/libvirt/private/serverkey.pem"])  # fmt: skip
        assert listed.stdout.split("\n")[:2] == ["640 root:libvirt-qemu", "600 root:root"]
        keys = host.run(["sh", "-c", "cat /etc/pki/qemu/server-key.pem /etc/pki/libvirt/private/serverkey.pem"]).stdout
        assert not any(line in path.read_text(errors="ignore") for path in someone.state.rglob("*") if path.is_file()
                       for line in keys.splitlines() if len(line) > 60)  # fmt: skip

    after = [state(host) for host in bare.hosts]
    again = someone.run("host", "prepare", "a", "b", *SHARED)
    assert again.returncode == SUCCEEDED, again.stdout + again.stderr
    assert again.stdout.count("nothing to change") == 3
    assert [state(host) for host in bare.hosts] == after

    # From host to host there is no ssh key any more, and ferryman itself goes by TLS: certificates alone must do.
    for host in bare.hosts:
        host.run(["mv", "/root/.ssh/id_ed25519", "/root/.ssh/away"])
    for name in ("a", "b"):
        someone.run("host", "add", name, f"qemu+tls://{name}/system", "--migration-address", f"{name}-migration")
    planned = someone.run("migrate", running.name, "--to", "b", "--dry-run").stdout
    assert "tcp://b-migration, encrypted" in planned, planned
    assert "handshake-carried" not in planned  # the source's libvirtd reaches the destination's by itself
    moved = someone.migrate(running, "b")
    assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
    assert witness.running_at(bare, running) == ("b",)
    for host in bare.hosts:
        host.run(["mv", "/root/.ssh/away", "/root/.ssh/id_ed25519"])

    # And back to what Debian installed.
    for name in ("a", "b"):
        someone.run("host", "add", name, f"qemu+ssh://root@{name}/system", "--migration-address", f"{name}-migration")
    qemu = qemu_of(bare, running)
    reverted = someone.run("host", "prepare", "a", "b", "--revert")
    assert reverted.returncode == SUCCEEDED, reverted.stdout + reverted.stderr
    assert [state(host) for host in bare.hosts] == original
    assert qemu_of(bare, running) == qemu
    assert "--listen" not in daemon_arguments(b)
    nothing = someone.run("host", "prepare", "a", "--revert")
    assert nothing.returncode == REFUSED
    assert "no preparation is in force" in nothing.stderr


KEPT = "/var/backups/ferryman/2026-01-01T00-00-00.000Z"
BREAK_OFF = f"""set -e
mkdir -p {KEPT}/kept/etc/libvirt && chmod 700 {KEPT} && cp -a /etc/libvirt/qemu.conf {KEPT}/kept/etc/libvirt/
printf 'file\\t/etc/libvirt/qemu.conf\\n' >{KEPT}/journal && echo begun >{KEPT}/state && echo 'half a sett' >>/etc/libvirt/qemu.conf"""


def test_a_given_authority_signs_and_what_ends_soon_is_warned_of_and_renewed(
    bare: Lab, running: Guest, someone: Operator, tmp_path: Path
) -> None:
    tls.make_authority(tmp_path)
    given = ("--ca-certificate", str(tmp_path / "cacert.pem"), "--ca-key", str(tmp_path / "cakey.pem"))
    b = bare.host("b")
    prepared = someone.run("host", "prepare", "b", *given)
    assert prepared.returncode == SUCCEEDED, prepared.stdout + prepared.stderr
    assert "b: changed" in prepared.stdout
    assert prepared.stdout.count("certificates' dates: the first ends on") == 2
    assert b.run(["cat", "/etc/pki/qemu/ca-cert.pem"]).stdout == (tmp_path / "cacert.pem").read_text()

    # The lab signs one that ends in 20 days, with the same authority.
    certificate, key = tls.issue(tmp_path, "short", ["DNS:b", "DNS:b-migration"], days=20)
    for path, file in (("/etc/pki/libvirt/servercert.pem", certificate), ("/etc/pki/libvirt/private/serverkey.pem", key)):  # fmt: skip
        b.run(["cp", "/dev/stdin", path], text_in=file.read_text())
    warned = json.loads(someone.run("host", "check", "b", "--json").stdout)
    line = next(line for line in warned if line["thing"] == "libvirt certificates' dates")
    assert line["answer"] == "warning"
    assert re.search(r"ends on .* in (19|20) days", line["detail"])
    assert "host prepare b" in line["remedy"]

    # Meanwhile a preparation broke off, as a host that lost power leaves it: it is undone first.
    before = b.run(["sha256sum", "/etc/libvirt/qemu.conf"]).stdout
    b.run(["sh", "-c", BREAK_OFF])
    renewed = someone.run("host", "prepare", "b")  # the given authority is remembered
    changed, _, checked = renewed.stdout.partition("\nb  ")
    assert "broken off" in changed
    assert b.run(["cat", f"{KEPT}/state"]).stdout.strip() == "undone"
    assert b.run(["sha256sum", "/etc/libvirt/qemu.conf"]).stdout == before
    assert "/etc/pki/libvirt/servercert.pem: a new certificate" in changed
    assert "it ends in" in changed
    assert "/etc/pki/qemu" not in changed  # that is right already
    assert checked.count("certificates' dates: the first ends on") == 2
    subprocess.run(["openssl", "verify", "-CAfile", str(tmp_path / "cacert.pem")], check=True, capture_output=True,
                   text=True, input=b.run(["cat", "/etc/pki/libvirt/servercert.pem"]).stdout)  # fmt: skip


def test_without_ssh_the_commands_are_printed_and_do_what_they_say(
    bare: Lab, someone: Operator, tmp_path: Path
) -> None:
    """Typed as they stand: at the host, at the controller, at the host again."""
    a = bare.host("a")
    a.run(["mv", "/root/.ssh/authorized_keys", "/root/.ssh/away"])
    try:
        told = someone.run("host", "prepare", "a")
        assert told.returncode == REFUSED, told.stdout + told.stderr
        _, first, second, third = re.split(r"^# [123]\. .*$", told.stdout, flags=re.MULTILINE)
        a.run(["sh", "-e", "-c", first])
        for service in ("libvirt", "qemu"):
            (tmp_path / f"{service}.csr").write_text(a.run(["cat", f"/root/ferryman/{service}.csr"]).stdout)
        bare.controller.run(["sh", "-e", "-c", f"cd {tmp_path}\n{second}"])
        for name in ("libvirt.pem", "qemu.pem", "libvirt-ca.pem", "qemu-ca.pem"):
            a.run(["cp", "/dev/stdin", f"/root/ferryman/{name}"], text_in=(tmp_path / name).read_text())
        a.run(["sh", "-e", "-c", third])
    finally:
        a.run(["mv", "/root/.ssh/away", "/root/.ssh/authorized_keys"])
    time.sleep(1)
    looked = someone.run("host", "prepare", "a", "--dry-run")
    assert "a: nothing to change" in looked.stdout, looked.stdout
    answer = bare.controller.run(["virsh", "-c", "qemu+tls://a/system", "hostname"]).stdout
    assert answer.strip() == "a"


def test_a_host_with_a_job_under_way_is_refused(bare: Lab, running: Guest, someone: Operator) -> None:
    """The source, and the destination; both have something to restart for."""
    prepared = someone.run("host", "prepare", "a", "b")
    assert prepared.returncode == SUCCEEDED, prepared.stdout + prepared.stderr
    (at,) = witness.running_at(bare, running)
    source, other = bare.host(at), "b" if at == "a" else "a"
    for host in bare.hosts:
        host.run(["sed", "-i", "s/^migration_host.*//", "/etc/libvirt/qemu.conf"])
    before = [state(host) for host in bare.hosts]
    migrate = source.command(["virsh", "migrate", "--live", "--p2p", "--tls", "--unsafe", "--bandwidth", "1", running.name,
                              f"qemu+tls://{other}/system", f"tcp://{other}-migration"])  # fmt: skip
    with subprocess.Popen(migrate, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as job:
        deadline = time.monotonic() + 20
        while "Unbounded" not in source.run(["virsh", "domjobinfo", running.name], check=False).stdout:
            assert time.monotonic() < deadline
            assert job.poll() is None, job.stderr.read() if job.stderr else ""
            time.sleep(0.1)
        for name in ("a", "b"):
            refused = someone.run("host", "prepare", name)
            assert refused.returncode == REFUSED, refused.stdout + refused.stderr
            assert "a restart of libvirtd would break" in refused.stderr
        source.run(["virsh", "domjobabort", running.name])
        job.wait(60)
    assert [state(host) for host in bare.hosts] == before


def test_bad_input_is_named(someone: Operator, tmp_path: Path) -> None:
    for arguments, words in (
        (("nowhere",), "host nowhere"),
        (("a", "--shared-directory", "shared"), "absolute"),
        (("a", "--shared-directory", "/nowhere"), "no such directory"),
        (("a", "--ca-key", "x"), "only one of the two"),
        (("a", "--ca-certificate", str(tmp_path / "x"), "--ca-key", str(tmp_path / "y")), "cannot be read"),
        (("a", "--revert", "--dry-run"), "--revert"),
    ):
        result = someone.run("host", "prepare", *arguments)
        assert result.returncode == REFUSED, (arguments, result.stdout, result.stderr)
        assert words in result.stderr, (arguments, result.stderr)
