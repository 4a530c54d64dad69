"""A storage that stands still is waited for, a network that is gone is not."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman.model.copy import CopyProgress
from ferryman.model.host import Host
from lab import tls
from tests.copy.conftest import Copies, run
from tests.copy.pair import attempt
from tests.copy.test_devices import loops

MIB = 1 << 20
IMPATIENT = "wire.KEEPALIVE = (1, 1, 1)"  # a host that is gone is noticed after 2 s
PATIENT = "endpoint.SILENCE = 300"  # with a controller that says nothing


@contextlib.contextmanager
def freezable(path: Path) -> Iterator[Path]:
    """A file system of its own, which is thawed in the end."""
    (path / "disk").touch()
    os.truncate(path / "disk", 128 * MIB)
    (path / "mount").mkdir()
    run("mkfs.ext4", "-q", path / "disk")
    run("mount", "-o", "loop", path / "disk", path / "mount")
    try:
        yield path / "mount"
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(path / "mount")], capture_output=True)
        run("umount", path / "mount")


@pytest.mark.skipif(not loops(), reason="no loop devices here")
@pytest.mark.parametrize(
    ("seconds", "changed"),
    [(4.0, IMPATIENT), pytest.param(45.0, PATIENT, marks=pytest.mark.whole)],
    ids=["short", "long"],
)
def test_a_storage_that_stands_still_ends_no_attempt(tmp_path: Path, seconds: float, changed: str) -> None:
    """The receiver takes nothing meanwhile, so that the sender's kernel has data that nobody acknowledges."""
    (tmp_path / "source").write_bytes(os.urandom(64 * MIB))
    with freezable(tmp_path) as storage:

        def freeze(port: int) -> int:
            run("fsfreeze", "--freeze", storage)
            threading.Timer(seconds, run, ("fsfreeze", "--unfreeze", storage)).start()
            return port

        told = attempt(tmp_path / "source", storage / "target", tmp_path / "journals", via=freeze, changed=changed)
        assert told[1]["event"] == "finished", told
        assert told[1]["attempts"] == 1
        assert told[1]["seconds"] > seconds - 1
        assert (storage / "target").read_bytes() == (tmp_path / "source").read_bytes()


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[tuple[tuple[str, ...], tuple[str, ...]], str, str]]:
    """Two network namespaces with a wire between: (what runs a program at each, the address of the second, the end of the wire)."""
    names = [f"copy{os.getpid()}{one}" for one in "ab"]
    try:
        for name in names:
            run("ip", "netns", "add", name)
        run("ip", "link", "add", names[0], "netns", names[0], "type", "veth", "peer", names[1], "netns", names[1])
        for number, name in enumerate(names, 1):
            run("ip", "-n", name, "address", "add", f"10.213.77.{number}/24", "dev", name)
            run("ip", "-n", name, "link", "set", name, "up")
        prefixes = [("ip", "netns", "exec", name) for name in names]
        yield (prefixes[0], prefixes[1]), "10.213.77.2", names[0]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are root's")
def test_a_network_that_is_gone_is_noticed_by_both_ends(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(24 * MIB))
    gone: list[float] = []
    with two_hosts() as (hosts, address, wire):

        def later(port: int) -> int:
            def part() -> None:
                gone.append(time.monotonic())
                run("ip", "-n", wire, "link", "set", wire, "down")

            threading.Timer(1.0, part).start()
            return port

        told = attempt(tmp_path / "source", tmp_path / "target", tmp_path / "journals", via=later, changed=IMPATIENT,
                       bandwidth=6 * MIB, hosts=hosts, address=address)  # fmt: skip
        noticed = time.monotonic() - gone[0]
    assert [one["kind"] for one in told] == ["cut", "cut"], told
    assert noticed < 6
    assert attempt(tmp_path / "source", tmp_path / "target", tmp_path / "journals")[1]["event"] == "finished"
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


@pytest.mark.whole
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are root's")
@pytest.mark.parametrize("seconds", [45.0, 120.0])
def test_a_network_that_is_away_for_a_while_costs_little(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Away for longer than TCP is watched for. The hosts answer ferryman all the time: their ssh is a script that goes to a namespace."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(96 * MIB))
    (tmp_path / "ssh").write_text(
        '#!/bin/sh\nfor word; do case "$word" in root@*) name="${word#root@}";; esac; done\nexec ip netns exec "$name" sh -c "$word"\n'
    )
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    away = threading.Event()
    with two_hosts() as (hosts, address, wire):
        tls.make_authority(tmp_path / "keys")
        tls.issue(tmp_path / "keys", "there", [f"IP:{address}", "DNS:there"])
        tls.install(tmp_path / "keys", "there", tmp_path / "etc")
        one, other = (Host(prefix[-1], f"qemu+ssh://root@{prefix[-1]}/system") for prefix in hosts)
        other = replace(other, migration_address=address)

        def cut(told: CopyProgress) -> None:
            if told.phase == "copying" and told.done > 30 * MIB and not away.is_set():
                away.set()
                run("ip", "-n", wire, "link", "set", wire, "down")
                threading.Timer(seconds, run, ("ip", "-n", wire, "link", "set", wire, "up")).start()

        task = copies.task(source, tmp_path / "target", bandwidth=16 * MIB, compress="off", via_ssh=False)
        result = copies.copier(root=str(tmp_path), patience=300.0).copy(
            task, one, other, progress=cut, cancelled=lambda: False
        )
    assert away.is_set()
    assert result.way == "tls"
    assert result.attempts > 1
    assert result.sent_again <= 64 * MIB
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
