"""What really happened, seen without ferryman: counts lost, blocks wrong, copies running, bytes on the wire, who answers."""

import hashlib
import json
import os
import struct
import subprocess
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from lab import guests, netns, process
from lab.counter import ROW
from lab.guests import COUNT_PORT, Guest
from lab.host import Lab
from lab.topology import CONTROL, MIGRATION

GAP = 0.05  # seconds; shorter silences are not listed
ANSWERS_WITHIN = 1.0  # seconds, of an ARP request
AT_REST = 0.003  # seconds of processor: a vCPU thread that starts and runs nothing uses up to 0.001, a paused one none

# ---- counts ----


@dataclass(frozen=True)
class CountReport:
    """What the client saw. Times are seconds."""

    counts: int
    connections: int
    lost: int
    repeated: int
    longest_gap: float
    gaps: tuple[tuple[float, float], ...]  # (when it began, how long), those over GAP
    quiet: float = 0.0  # since the last count came: a connection that died silently shows here


class Counter:
    """A client of the guest, in the controller, for the length of a `with`."""

    def __init__(self, lab: Lab, guest: Guest) -> None:
        self._path = Path(tempfile.mkstemp(prefix=f"counts-{guest.name}-", dir=lab.directory)[1])
        command = ["/usr/bin/python3", "-m", "lab.counter", guest.address, str(COUNT_PORT), str(self._path)]
        self._process = lab.controller.popen(command, stdin=subprocess.DEVNULL)

    def __enter__(self) -> "Counter":
        deadline = time.monotonic() + 20
        while not self.report().counts:
            if time.monotonic() > deadline:
                self._end()
                raise RuntimeError("no count came within 20 s: the guest does not answer its counting port")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()

    def report(self) -> CountReport:
        """What was seen up to now."""
        return read_record(self._path.read_bytes(), until=time.time())

    def counted(self, begin: float, end: float) -> int:
        """How many counts came between two moments, in seconds since the epoch."""
        record = self._path.read_bytes()
        rows = struct.iter_unpack(ROW.format, record[: len(record) // ROW.size * ROW.size])
        return sum(int(last - first + 1) for at, first, last in rows if first and begin <= at < end)


def read_record(record: bytes, *, until: float = 0.0) -> CountReport:
    """Judge a client's record: within a connection, each count must follow the one before.

    `until`: when the record was read; the silence up to then is a gap as any other.
    """
    counts = connections = lost = repeated = 0
    longest, gaps = 0.0, []
    earlier_at, expected = 0.0, 0
    for at, first, last in struct.iter_unpack(ROW.format, record[: len(record) // ROW.size * ROW.size]):
        if first == 0:
            connections, expected = connections + 1, 0
            continue
        if expected:
            lost += max(0, first - expected)
            repeated += max(0, expected - first)
        if earlier_at and at - earlier_at > GAP:
            gaps.append((earlier_at, at - earlier_at))
        if earlier_at:
            longest = max(longest, at - earlier_at)
        counts += last - first + 1
        earlier_at, expected = at, last + 1
    quiet = max(until - earlier_at, 0.0) if until and earlier_at else 0.0
    if quiet > GAP:
        gaps.append((earlier_at, quiet))
    return CountReport(counts, connections, lost, repeated, max(longest, quiet), tuple(gaps), quiet)


# ---- copies ----


@dataclass(frozen=True)
class Copy:
    """A QEMU process that holds the guest."""

    host: str
    pid: int
    executing: bool  # its vCPU threads use processor time


def copies(lab: Lab, guest: Guest, *, look: float = 0.5) -> tuple[Copy, ...]:
    """Every QEMU of that guest by its UUID on the command line, and whether it executes: asked of the process tables.

    That one executes is seen as soon as it does; that one does not takes all of `look`, in seconds.
    """
    found = [(host.name, pid) for host in lab.hosts for pid in host.processes() if _is_qemu_of(pid, guest.uuid)]
    at_rest = {pid: _vcpu_time(pid) + AT_REST for _, pid in found}
    deadline = time.monotonic() + look
    while at_rest and time.monotonic() < deadline:
        time.sleep(0.01)
        at_rest = {pid: used for pid, used in at_rest.items() if _vcpu_time(pid) <= used}
    return tuple(
        Copy(host, pid, look > 0 and pid not in at_rest) for host, pid in found if process.state(pid) not in ("", "Z")
    )


def running_at(lab: Lab, guest: Guest) -> tuple[str, ...]:
    """The hosts where a copy executes."""
    return tuple(copy.host for copy in copies(lab, guest) if copy.executing)


def wait_until_executing(lab: Lab, guest: Guest, host: str, *, within: float = 60) -> None:
    """Return within milliseconds of a guest's first instructions at a host. Raises RuntimeError when none come."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        for copy in copies(lab, guest, look=0):
            while copy.host == host and process.state(copy.pid) not in ("", "Z") and time.monotonic() < deadline:
                if _vcpu_time(copy.pid) > AT_REST:
                    return
                time.sleep(0.003)
        time.sleep(0.02)
    raise RuntimeError(f"guest {guest.name} did not execute at {host} within {within} s")


def _is_qemu_of(pid: int, uuid: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"qemu-system" in words[0] and uuid.encode() in words and b"-uuid" in words


def _vcpu_time(pid: int) -> float:
    """Seconds of processor used by the threads that run guest code: all of them, since TCG may share one."""
    total = 0
    for thread in _threads(pid):
        try:
            name = Path(f"/proc/{pid}/task/{thread}/comm").read_text()
            used = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0]  # stat counts hundredths only
        except OSError:
            continue
        if name.startswith(("CPU ", "ALL CPUs")):
            total += int(used)
    return total / 1e9


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


# ---- disks ----

BLOCK, SLOTS = 4096, 4096  # as in workload/workload.c
_MAGIC = 0x46455252594D414E
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class DiskReport:
    """What an image holds. `missing` are acknowledged blocks that are not there."""

    blocks: int
    wrong: int
    missing: int
    newest: int


def check_disk(lab: Lab, guest: Guest, *, at: str, acknowledged: int, path: str = "") -> DiskReport:
    """Read an image at a host from outside and verify every block. All up to `acknowledged` must be there.

    `path`: where the image is, if not where it was made.

    Ask the guest's health for `acknowledged` before. A block that is being written at the moment is read again.
    """
    for attempt in range(3):
        report = judge_blocks(raw_image(lab, path or guest.disk_path(), at=at), acknowledged)
        if not report.wrong and not report.missing:
            break
        time.sleep(0.2 * (attempt + 1))
    return report


def raw_image(lab: Lab, path: str, *, at: str) -> bytes:
    """The blocks that the workload writes, as the image at a host holds them now."""
    with content(lab, path, at=at) as disk:
        return disk.read(BLOCK * SLOTS)


@contextmanager
def content(lab: Lab, path: str, *, at: str) -> Iterator[BinaryIO]:
    """The disk that an image at a host holds now, whatever its format."""
    with tempfile.TemporaryDirectory(dir=lab.directory / "shared") as directory:
        inside = f"/srv/shared/{Path(directory).name}/image"
        lab.host(at).run(["qemu-img", "convert", "-U", "-O", "raw", path, inside])
        with open(Path(directory) / "image", "rb") as disk:
            yield disk


def judge_blocks(content: bytes, acknowledged: int) -> DiskReport:
    """Verify the numbered, checksummed blocks of an image's first 16 MiB."""
    expected = [0] * SLOTS
    for sequence in range(1, acknowledged + 1):
        expected[_mix(sequence) % SLOTS] = sequence
    blocks = wrong = missing = newest = 0
    for slot in range(SLOTS):
        block = content[slot * BLOCK : (slot + 1) * BLOCK]
        if not block.strip(b"\0"):
            missing += expected[slot] > 0
            continue
        magic, where, sequence = struct.unpack_from("<QQQ", block)
        if magic != _MAGIC or where != slot or zlib.crc32(block[:-8]) != struct.unpack_from("<Q", block, BLOCK - 8)[0]:
            wrong += 1
            continue
        blocks, newest = blocks + 1, max(newest, sequence)
        missing += sequence < expected[slot]
    return DiskReport(blocks, wrong, missing, newest)


def _mix(x: int) -> int:
    """splitmix64, as in the workload."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def image_digest(lab: Lab, guest: Guest, *, at: str, number: int = 0) -> str:
    """SHA-256 of an image's file as it lies on the storage."""
    with open(guests.host_path(lab.host(at), guest.disk_path(number)), "rb") as image:
        return hashlib.file_digest(image, "sha256").hexdigest()


# ---- network ----


def wire_bytes(lab: Lab) -> dict[tuple[str, str], tuple[int, int]]:
    """(host, network) -> bytes (received, sent) by the host, as the switch's ports counted them."""
    switch = lab.topology.namespace("switch")
    result = {}
    for link in json.loads(netns.ip("-json", "-statistics", "link", namespace=switch)):
        for host in lab.topology.hosts:
            for network in (CONTROL, MIGRATION):
                if link["ifname"] == netns.port(host, network):
                    counters = link["stats64"]
                    result[host, network] = (counters["tx"]["bytes"], counters["rx"]["bytes"])
    return result


def who_answers(lab: Lab, guest: Guest) -> tuple[str, str]:
    """(MAC that answers an ARP request for the guest's address, host whose port the switch has learned it at)."""
    controller = lab.topology.namespace("controller")
    netns.ip("neighbour", "flush", "to", guest.address, namespace=controller)
    lab.controller.run(["/usr/bin/python3", "-c", _ASK, guest.address], check=False)
    mac, deadline = "", time.monotonic() + ANSWERS_WITHIN
    while not mac and time.monotonic() < deadline:
        entries = json.loads(netns.ip("-json", "neighbour", "show", "to", guest.address, namespace=controller) or "[]")
        mac = next((entry.get("lladdr", "") for entry in entries), "")
    table = json.loads(
        netns.tool("bridge", "-json", "fdb", "show", "br", CONTROL, namespace=lab.topology.namespace("switch"))
    )
    ports = {netns.port(host, CONTROL): host for host in lab.topology.hosts}
    at = next((ports[entry["ifname"]] for entry in table if entry["mac"] == mac and entry["ifname"] in ports), "")
    return mac, at


_ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b"", (sys.argv[1], 9))
"""
