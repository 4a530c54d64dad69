"""Warm moves: how long a guest stands still with a large disk and with a small one, beside a cold move; its work meanwhile; and backups."""

import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.rows import Result, Row, at_least, paired
from lab import guests, lifecycle, witness
from lab.guests import POOL_PATHS, Guest, GuestSpec
from lab.host import Lab

LARGE = GuestSpec(
    name="large", address="10.77.0.171", memory_mib=128, disks=("local",), disk_mib=20 * 1024, filled_mib=5 * 1024,
    writes_per_s=400, count_every_ms=2,
)  # fmt: skip
SMALL = GuestSpec(
    name="small", address="10.77.0.172", memory_mib=128, disks=("local",), disk_mib=2 * 1024, filled_mib=512,
    writes_per_s=400, count_every_ms=2,
)  # fmt: skip
BACKED_UP = GuestSpec(
    name="kept", address="10.77.0.173", memory_mib=128, disks=("local",), disk_mib=8 * 1024, filled_mib=2 * 1024, writes_per_s=20,
)  # fmt: skip
ROOM = "16G"  # of memory for the images of a host
MIB = 2**20
BEFORE = 8.0  # seconds in which the guest's undisturbed work is counted


@dataclass(frozen=True)
class Run:
    """One move: seconds for which a client got no count, seconds in all, bytes sent; the guest's counts a second while its disk was copied, and before."""

    still: float
    seconds: float
    sent: int
    working: float
    before: float


def measure(pairs: int) -> Result:
    """Bring a lab up, move a guest there and back in each way, take it down."""
    lifecycle.down("bench")
    lab = lifecycle.up("bench", 2, "1gbit")
    try:
        bench = Bench(lab)
        rows = [*bench.moves(pairs), bench.backups(pairs)]
    finally:
        lifecycle.down("bench")
    return Result(
        "warm", "the same guest with a smaller disk; the same guest moved cold; itself before the move; a full backup",
        "Two lab hosts with their images in memory, 1 Gbit/s between them. A guest with a qcow2 disk of 20 GiB, 5 GiB of it random bytes (the small one: 2 GiB, 512 MiB), "
        "which rewrites blocks all over 16 MiB of it 400 times a second, and counts 500 times a second. How long it stands still is what a client of it sees, with its shutdown, its start and the 5 s for "
        "which ferryman watches it before its links go up. Backups are of a guest with 2 GiB of data, onto the other host; between the full one and the increment QEMU is told to write 2 % of it "
        "anew, in pieces of 64 KiB. Both hosts and the guest share this machine's processors.",
        tuple(rows),
    )  # fmt: skip


class Bench:
    """A lab in whose hosts the local pool lies in memory."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        for host in lab.hosts:
            host.run(["sh", "-c", f"mount -t tmpfs -o size={ROOM},huge=always none {POOL_PATHS['local']}; virsh pool-refresh local"])  # fmt: skip
        for name in ("a", "b"):
            self.ferryman("host", "add", name, f"qemu+tls://{name}/system", "--migration-address", f"{name}-migration")

    def moves(self, pairs: int) -> list[Row]:
        """The small guest warm, the large one warm and cold, in turn."""
        small, large = (self._made(spec) for spec in (SMALL, LARGE))
        ways: dict[str, Callable[[], Run]] = {
            "small, warm": lambda: self.move(small, "--warm"),
            "warm": lambda: self.move(large, "--warm"),
            "cold": lambda: self.move(large, "--cold"),
        }
        runs: dict[str, list[Run]] = {name: [] for name in ways}
        for number in range(pairs):
            for name in [*ways][:: 1 if number % 2 == 0 else -1]:
                run = ways[name]()
                print(f"{number + 1}/{pairs} {name}: still {run.still:.1f} s of {run.seconds:.1f} s, {run.sent / MIB:.0f} MiB, {run.working:.0f} counts/s ({run.before:.0f} before)", flush=True)  # fmt: skip
                runs[name].append(run)
        still = {name: [run.still for run in found] for name, found in runs.items()}
        work = ([run.working for run in runs["warm"]], [run.before for run in runs["warm"]])
        slowed = paired("guest's counts a second while its disk is copied, beside those before", "/s", *work, None)
        return [
            paired("standing still, 20 GiB beside 2 GiB, both warm", "s", still["warm"], still["small, warm"], 1.3),
            paired("standing still, warm beside cold, 20 GiB with 5 GiB of data", "s", still["warm"], still["cold"], 0.2),
            at_least(slowed, 0.8),
            paired("seconds in all, warm beside cold", "s", [run.seconds for run in runs["warm"]], [run.seconds for run in runs["cold"]], None),
            paired("bytes sent, warm beside cold", "MiB", [run.sent / MIB for run in runs["warm"]], [run.sent / MIB for run in runs["cold"]], None),
        ]  # fmt: skip

    def backups(self, pairs: int) -> Row:
        """A full backup and an increment of 2 %, in turn, each verified."""
        guest, folder = self._made(BACKED_UP), "/backups"
        times: tuple[list[float], list[float]] = ([], [])
        b = self.lab.host("b")
        b.run(["sh", "-c", f"mkdir -p {folder} && mount -t tmpfs -o size=6G,huge=always none {folder}"])
        for number in range(pairs):
            for kind, spent in zip(("full", "increment"), times, strict=True):
                if kind == "increment":
                    self._change(guest, number)
                began = time.time()
                self.ferryman("backup", guest.name, f"b:{folder}", *(["--full"] if kind == "full" else []), timeout=900)
                spent.append(time.time() - began)
                print(f"{number + 1}/{pairs} backup, {kind}: {spent[-1]:.1f} s", flush=True)
            b.run(["sh", "-c", f"rm -rf {folder}/*"])
        guests.remove(self.lab, guest)
        return paired("increment of a backup, 2 % changed, beside the full one", "s", times[1], times[0], 0.2)

    def _change(self, guest: Guest, seed: int) -> None:
        """QEMU itself writes blocks that the guest does not use, as if the guest did."""
        dice, data = random.Random(seed), BACKED_UP.filled_mib << 20
        at = [16 * MIB + 65536 * place for place in dice.sample(range(data // 65536), data // 50 // 65536)]
        for place in at:
            word = f'qemu-io libvirt-1-format "write -P {dice.randrange(1, 256)} {place} 64k"'
            self.lab.host("a").run(["virsh", "qemu-monitor-command", guest.name, "--hmp", word])

    def move(self, guest: Guest, way: str) -> Run:
        """To the other host, as its client sees it."""
        (at,) = witness.running_at(self.lab, guest)
        other = "b" if at == "a" else "a"
        with witness.Counter(self.lab, guest) as counter:
            began = time.time()
            time.sleep(BEFORE)
            before = counter.counted(began, time.time()) / BEFORE
            began = time.time()
            self.ferryman("migrate", guest.name, "--to", other, "--yes", way, "--retire", timeout=900)
            seconds = time.time() - began
            guests.wait_healthy(self.lab, guest)
            time.sleep(1.0)
            still = counter.report().longest_gap
            report = json.loads(self.ferryman("history", "--json", "--limit", "1"))[0]
            phases = {entry["phase"]: entry["at"] for entry in report["phases"]}
            ahead = (phases.get("copying ahead", began), phases["stopping"])
            working = counter.counted(*ahead) / (ahead[1] - ahead[0])
        return Run(still, seconds, report["outcome"]["transferred"], working, before)

    def _made(self, spec: GuestSpec) -> Guest:
        return guests.start(self.lab, "a", spec, within=180)

    def ferryman(self, *arguments: str, timeout: float = 60) -> str:
        """What one command prints."""
        program = [
            "env",
            f"FERRYMAN_STATE_DIRECTORY={self.lab.directory / 'ferryman'}",
            sys.executable,
            "-m",
            "ferryman",
        ]
        return self.lab.controller.run([*program, *arguments], timeout=timeout).stdout
