"""A stopped disk copied by ferryman, nbdcopy, qemu-img convert and rsync, alternating; then a second pass, and one cut at half."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from bench.rows import Result, Row, alone, paired
from lab import lifecycle
from lab.host import Host, Lab

GIB, SEED = 8, 1
PLACE = "/copies"  # a file system in memory, so that no disk is measured
SOURCE, DESTINATION = f"{PLACE}/source.raw", f"{PLACE}/destination.raw"
MIB = 2**20
NBD_PORT, RSYNC_PORT = 10809, 8730
RSYNC_COMMAND = ["rsync", "-S", "--inplace", "-z", "--compress-choice=zstd", "--compress-level=1"]
CREDENTIALS = "--object=tls-creds-x509,id=tls0,endpoint={},dir=/etc/pki/qemu"


@dataclass(frozen=True)
class Run:
    """One copy: seconds, CPU seconds of all processes at both hosts and of what drove it, bytes that left the source,
    and the largest memory of one of ferryman's endpoints in bytes. The reading back is not in them: its seconds are apart."""

    seconds: float
    cpu: float
    wire: int
    memory: int = 0
    read_back: float = 0.0


@dataclass(frozen=True)
class Peer:
    """A way to copy: what runs at the destination meanwhile (started beforehand, not timed; may be nothing), and what copies."""

    name: str
    server: Callable[[bool], list[str]]
    command: Callable[[bool], list[str]]


def _server(tls: bool) -> list[str]:
    secured = [CREDENTIALS.format("server"), "--tls-creds=tls0"] if tls else []
    return [
        "qemu-nbd",
        *secured,
        "--persistent",
        "--shared=16",
        f"--port={NBD_PORT}",
        "--format=raw",
        "--discard=unmap",
        DESTINATION,
    ]


def _nbdcopy(tls: bool) -> list[str]:
    uri = f"nbds://b-migration:{NBD_PORT}/?tls-certificates=/etc/pki/qemu" if tls else f"nbd://b-migration:{NBD_PORT}/"
    return [
        "nbdcopy",
        "--connections=4",
        "--destination-is-zero",
        "--",
        "[",
        "qemu-nbd",
        "--read-only",
        "--format=raw",
        "--shared=16",
        SOURCE,
        "]",
        uri,
    ]


def _convert(tls: bool) -> list[str]:
    target = f"driver=nbd,server.type=inet,server.host=b-migration,server.port={NBD_PORT}"
    secured = [CREDENTIALS.format("client")] if tls else []
    return ["qemu-img", "convert", "-n", "-W", "-m", "16", "--target-is-zero", *secured, "--image-opts", f"driver=raw,file.driver=file,file.filename={SOURCE}",
            "--target-image-opts", target + (",tls-creds=tls0" if tls else "")]  # fmt: skip


def _rsync_server(tls: bool) -> list[str]:
    if tls:
        return []  # over ssh, whose server is there already
    return ["sh", "-c", f"printf 'use chroot=no\\nuid=0\\ngid=0\\n[copies]\\npath={PLACE}\\nread only=no\\n' >/etc/rsyncd.conf && "
            f"exec rsync --daemon --no-detach --port={RSYNC_PORT}"]  # fmt: skip


def _rsync(tls: bool) -> list[str]:
    if tls:
        return [*RSYNC_COMMAND, SOURCE, f"root@b-migration:{DESTINATION}"]
    return [*RSYNC_COMMAND, SOURCE, f"rsync://b-migration:{RSYNC_PORT}/copies/{Path(DESTINATION).name}"]


NBDCOPY = Peer("nbdcopy", _server, _nbdcopy)
CONVERT = Peer("qemu-img convert", _server, _convert)
RSYNC = Peer("rsync -z", _rsync_server, _rsync)
PEERS = {True: (NBDCOPY, CONVERT), False: (NBDCOPY, RSYNC)}  # with TLS, without


def measure(pairs: int) -> Result:
    """Bring a lab up, copy by each in turn on both kinds of link, take it down."""
    rows: list[Row] = []
    for link, name in (("1gbit", "1 Gbit/s"), ("", "open link")):
        lifecycle.down("bench")
        lab = lifecycle.up("bench", 2, link)
        try:
            bench = Bench(lab)
            for tls in (True, False):
                rows += bench.first_pass(name, tls, pairs)
            if link:
                rows += bench.second_pass(pairs)
                rows += bench.cut(pairs)
        finally:
            lifecycle.down("bench")
    return Result(
        "cold", "nbdcopy with 4 connections, qemu-img convert -n -W -m 16 (both into a qemu-nbd that was started beforehand and told that the destination "
        "is zero), rsync -S --inplace -z with zstd 1 (its daemon; in the second pass by ssh)",
        f"Two lab hosts with their disks in memory; a raw disk of {GIB} GiB with runs of data (bench/mixture.py) into a raw file, by "
        "`ferryman copy --verify written`: whole processes, from the command to its end, without the reading back, which is told apart. CPU: all processes of both hosts (which share this machine's) until the reading back begins, and the command itself.",
        tuple(rows),
    )  # fmt: skip


class Bench:
    """A lab with the image made at a."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.a, self.b = lab, lab.host("a"), lab.host("b")
        for host in (self.a, self.b):
            # Huge pages: what a virtual machine needs to get its freed memory back from its host is not measured then.
            host.run(["sh", "-c", f"mkdir {PLACE} && mount -t tmpfs -o size={GIB}G,huge=always none {PLACE}"])
        for name in ("a", "b"):
            self._ferryman("host", "add", name, f"qemu+tls://{name}/system", "--migration-address", f"{name}-migration")
        self._mixture("make")

    def first_pass(self, link: str, tls: bool, pairs: int) -> list[Row]:
        """Everybody copies the whole disk; who begins changes from pair to pair."""
        ways: dict[str, Callable[[], Run]] = {"ferryman": lambda: self.ferryman(*([] if tls else ["--insecure"]))}
        for peer in PEERS[tls]:
            ways[peer.name] = lambda peer=peer: self.peer(peer, tls)  # type: ignore[misc]
        runs: dict[str, list[Run]] = {name: [] for name in ways}
        for number in range(pairs):
            for name in [*ways][:: 1 if number % 2 == 0 else -1]:
                self._empty(made=name != "ferryman")
                runs[name].append(
                    _told(f"{link}, {'TLS' if tls else 'plain'}, {number + 1}/{pairs} {name}", ways[name]())
                )
        how = f"{link}, {'TLS' if tls else 'plain'}"
        fast = link == "open link"
        bars = {NBDCOPY: 1.15 if fast else 0.60, RSYNC: None if fast else 0.80, CONVERT: None}
        seconds = {name: [run.seconds for run in found] for name, found in runs.items()}
        rows = [
            paired(f"{how}: wall, beside {peer.name}", "s", seconds["ferryman"], seconds[peer.name], bars[peer])
            for peer in PEERS[tls]
        ]
        last = PEERS[tls][-1].name
        wires = {name: [run.wire / MIB for run in found] for name, found in runs.items()}
        cpu = {name: [run.cpu for run in found] for name, found in runs.items()}
        return [
            *rows,
            paired(f"{how}: bytes on the wire, beside {last}", "MiB", wires["ferryman"], wires[last], None),
            paired(f"{how}: CPU, beside nbdcopy", "s", cpu["ferryman"], cpu["nbdcopy"], 1.6 if fast else None),
            alone(
                f"{how}: reading back what was written, apart", "s", [run.read_back for run in runs["ferryman"]], None
            ),
            alone(f"{how}: largest memory of an endpoint", "MiB", [run.memory / MIB for run in runs["ferryman"]], 256),
        ]

    def second_pass(self, pairs: int) -> list[Row]:
        """2 % of the blocks with data change at the source; both bring an equal older copy up to date."""
        wire, seconds = [], ([], [])  # type: tuple[list[float], tuple[list[float], list[float]]]
        self._empty()
        self.ferryman()
        for number in range(pairs):
            changed = int(self._mixture("change"))
            self.b.run(["cp", "--sparse=always", DESTINATION, f"{DESTINATION}.kept"], timeout=120)
            ours = _told(f"second pass, {number + 1}/{pairs} ferryman", self.ferryman("--update"))
            self.b.run(["mv", f"{DESTINATION}.kept", DESTINATION])
            theirs = _told(f"second pass, {number + 1}/{pairs} rsync", self.peer(RSYNC, True))
            wire.append(ours.wire / changed)
            seconds[0].append(ours.seconds)
            seconds[1].append(theirs.seconds)
        return [
            alone("second pass, 2 % changed: bytes on the wire, of the changed ones", "×", wire, 1.10),
            paired("second pass, 2 % changed: wall, beside rsync -z", "s", *seconds, 0.3),
        ]

    def cut(self, pairs: int) -> list[Row]:
        """Killed at half and asked again: how much more crossed the wire than in one go."""
        self._empty()
        whole = self.ferryman().wire
        again = []
        for number in range(pairs):
            self._empty()
            began = self.a.sent
            process = self.lab.controller.popen(
                self._copy(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            deadline = time.monotonic() + 120
            while self.a.sent - began < whole // 2 and time.monotonic() < deadline:
                time.sleep(0.01)
            process.kill()
            process.wait()
            time.sleep(1)
            _told(f"cut at half, {number + 1}/{pairs}", self.ferryman())
            again.append((self.a.sent - began - whole) / MIB)
        return [alone("killed at half and resumed: bytes that crossed the wire twice", "MiB", again, 64)]

    def ferryman(self, *more: str) -> Run:
        """One `ferryman copy`."""
        return self._timed(self.lab.controller.command(self._copy(*more)), ours=True)

    def peer(self, peer: Peer, tls: bool) -> Run:
        """One copy by a peer."""
        with self._serving(peer.server(tls)):
            return self._timed(self.a.command(peer.command(tls)))

    @contextmanager
    def _serving(self, command: list[str]) -> Iterator[None]:
        """What runs at the destination meanwhile, if anything; ended by its process id there."""
        if not command:
            yield
            return
        self.b.run(["rm", "-f", "/run/peer.pid"])
        noted = ["sh", "-c", 'echo $$ >/run/peer.pid; exec "$@"', "peer", *command]
        server = subprocess.Popen(self.b.command(noted), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not self.b.run(["ss", "-Hltn", f"sport = :{NBD_PORT} or sport = :{RSYNC_PORT}"]).stdout:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{' '.join(command)} does not listen")
                time.sleep(0.1)
            yield
        finally:
            self.b.run(["sh", "-c", "kill $(cat /run/peer.pid)"], check=False)
            server.wait(10)

    def _copy(self, *more: str) -> list[str]:
        return [
            *self._program(),
            "copy",
            f"a:{SOURCE}",
            f"b:{DESTINATION}",
            "--format",
            "raw",
            "--verify",
            "written",
            "--json",
            *more,
        ]

    def _program(self) -> list[str]:
        return ["env", f"FERRYMAN_STATE_DIRECTORY={self.lab.directory / 'ferryman'}", sys.executable, "-m", "ferryman"]

    def _ferryman(self, *arguments: str) -> None:
        self.lab.controller.run([*self._program(), *arguments])

    def _timed(self, command: Sequence[str], ours: bool = False) -> Run:
        cpu, sent, own = self._cpu(), self.a.sent, os.times()
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        copied, words = 0.0, ""
        with _memory(self.a, self.b, watched=ours) as largest:
            assert process.stdout is not None
            for words in process.stdout:
                if ours and not copied and '"verifying"' in words:
                    copied = self._cpu()
            process.wait(600)
            seconds = time.monotonic() - began
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {words}")
        read_back = json.loads(words)["verify_seconds"] if ours else 0.0
        after = os.times()
        spent = after.children_user + after.children_system - own.children_user - own.children_system
        return Run(
            seconds - read_back, (copied or self._cpu()) - cpu + spent, self.a.sent - sent, largest[0], read_back
        )

    def _cpu(self) -> float:
        """CPU seconds of all processes that are or were at both hosts: those that ended are in their first process."""
        ticks = 0
        for host in (self.a, self.b):
            for pid in host.processes():
                with suppress(OSError):
                    ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _empty(self, *, made: bool = False) -> None:
        """Nothing at the destination, or an image of the right size without data, as the peers want it."""
        self.b.run(
            ["sh", "-c", f"rm -rf {PLACE}/* {PLACE}/.[!.]*" + (f"; truncate -s {GIB}G {DESTINATION}" if made else "")]
        )

    def _mixture(self, act: str) -> str:
        program = (Path(__file__).parent / "mixture.py").read_text()
        return self.a.run(["python3", "-", SOURCE, str(GIB), str(SEED), act], text_in=program, timeout=300).stdout


@contextmanager
def _memory(*hosts: Host, watched: bool) -> Iterator[list[int]]:
    """The most that one of ferryman's endpoints at the hosts had in memory so far, in bytes."""
    largest, over = [0], Event()

    def look() -> None:
        while watched and not over.wait(0.5):  # VmHWM is a peak, and looking takes time from what is measured
            for host in hosts:
                for pid in host.processes():
                    with suppress(OSError, StopIteration):
                        if b".pyz" in Path(f"/proc/{pid}/cmdline").read_bytes():
                            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                            peak = next(line for line in lines if line.startswith("VmHWM:"))
                            largest[0] = max(largest[0], int(peak.split()[1]) * 1024)

    watcher = Thread(target=look)
    watcher.start()
    try:
        yield largest
    finally:
        over.set()
        watcher.join()


def _told(what: str, run: Run) -> Run:
    print(f"{what}: {run.seconds:.2f} s, CPU {run.cpu:.1f} s, {run.wire / MIB:.0f} MiB"
          + (f", read back in {run.read_back:.2f} s" if run.read_back else "") + (f", endpoint {run.memory / MIB:.0f} MiB" if run.memory else ""), flush=True)  # fmt: skip
    return run
