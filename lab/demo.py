"""The demo: two hosts, one guest with a client connected. There; a failure that rolls back; home again; then cold and warm, with
digests, and a copy that is cut in its middle and goes on. Then the proof, and the three ways side by side.

ferryman is used as its users use it, by its command line; everything in the tables but downtime and bytes comes from the witness.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from threading import Thread
from typing import Any

from lab import faults, guests, lifecycle, witness
from lab.guests import Guest, GuestSpec
from lab.host import Lab

SPEC = GuestSpec(
    name="web",
    memory_mib=256,
    dirty="24:8:t,8:4:r",
    disks=("local", "shared"),  # the first, which the guest writes to, is copied; the second is seen by both hosts
    autostart=True,
    title="the demo's web server",
)


@dataclass(frozen=True)
class Row:
    """One migration of the demo."""

    name: str
    method: str
    outcome: str
    total_s: float
    downtime_ms: float | None
    blackout_ms: float | None
    sent: int | None  # bytes, as ferryman counts them
    counts_lost: int
    wrong_blocks: int
    copies_running: int


class Demo:
    """A lab, a guest, and a client that counts."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.state = lab.directory / "ferryman"

    def ferryman(self, *arguments: str, show: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ferryman at the controller; shown, it draws on our terminal."""
        if show:
            print(f"\n$ ferryman {' '.join(arguments)}", flush=True)
        command = self.lab.controller.command(
            ["env", f"FERRYMAN_STATE_DIRECTORY={self.state}", sys.executable, "-m", "ferryman", *arguments]
        )
        return subprocess.run(command, text=True, stdout=None if show else subprocess.PIPE, stdin=subprocess.DEVNULL)

    def migrate(self, name: str, guest: Guest, to: str, *more: str, during: Callable[[], None] | None = None) -> Row:
        """One live migration with the client connected all the way, and what the witness saw of it."""
        accomplice = Thread(target=during) if during else None
        with witness.Counter(self.lab, guest) as counter:
            if accomplice:
                accomplice.start()
            total = self._moved(guest, to, *more)
            if accomplice:
                accomplice.join()
            time.sleep(0.5)
            seen = counter.report()
        row = self._judged(name, "live", guest, total, guests.health(self.lab, guest)["acknowledged"])
        lost = seen.lost + seen.repeated + (seen.connections - 1)
        return replace(row, blackout_ms=_milliseconds(seen.longest_gap), counts_lost=lost)

    def migrate_stopped(self, name: str, method: str, guest: Guest, to: str) -> Row:
        """Cold or warm: it stops, and starts at the other host. Nobody can count through that, but how long it lasts is seen."""
        acknowledged = guests.health(self.lab, guest)["acknowledged"]
        with witness.Counter(self.lab, guest) as counter:
            total = self._moved(guest, to, f"--{method}")
            guests.wait_healthy(self.lab, guest)
            time.sleep(0.5)
            seen = counter.report()
        row = self._judged(name, method, guest, total, acknowledged)
        return replace(row, blackout_ms=_milliseconds(seen.longest_gap))

    def _moved(self, guest: Guest, to: str, *more: str) -> float:
        """By ferryman; the seconds that it took."""
        began = time.monotonic()
        probe = f"{guest.address}:{guests.HEALTH_PORT}"
        self.ferryman("migrate", guest.name, "--to", to, "--yes", "--probe", probe, *more)
        return time.monotonic() - began

    def _judged(self, name: str, method: str, guest: Guest, total: float, acknowledged: int) -> Row:
        """By the witness: who runs the guest, and whether its disk has all that was acknowledged. The rest is ferryman's word."""
        newest = json.loads(self.ferryman("history", "--json", "--limit", "1", show=False).stdout)[0]
        outcome: dict[str, Any] = newest["outcome"] or {"status": "unknown"}
        running = witness.running_at(self.lab, guest)
        wrong = -1
        if running:
            (at, *_) = running
            image = self._image(guest, at)
            disk = witness.check_disk(self.lab, guest, at=at, acknowledged=acknowledged, path=image)
            wrong = disk.wrong + disk.missing + guests.health(self.lab, guest)["wrong"]
        return Row(
            name=name,
            method=method,
            outcome=outcome["status"],
            total_s=round(total, 2),
            downtime_ms=_milliseconds(outcome.get("downtime")),
            blackout_ms=_milliseconds(outcome.get("blackout")),
            sent=outcome.get("transferred"),
            counts_lost=0,
            wrong_blocks=wrong,
            copies_running=len(running),
        )

    def cut_copy(self) -> bool:
        """An image goes from b to a; ferryman is killed on the way and asked again. True when all bytes arrived and few twice."""
        image, target = "/var/lib/libvirt/images/cut.raw", "/var/lib/libvirt/images/arrived.raw"
        source, destination = self.lab.host("b"), self.lab.host("a")
        for host in self.lab.hosts:
            host.run(["sh", "-c", f"rm -f {image} {target} /var/lib/libvirt/images/.arrived.raw.*"])
        source.run(["sh", "-c", f"head -c 64M /dev/urandom >{image} && truncate -s 256M {image}"])
        words = ["copy", f"b:{image}", f"a:{target}"]
        print(f"\n$ ferryman {' '.join(words)} --bandwidth 16M     (and kill -9 when half of it is there)", flush=True)
        before = source.sent
        command = [
            "env", f"FERRYMAN_STATE_DIRECTORY={self.state}", sys.executable, "-m", "ferryman", *words, "--bandwidth", "16M",
        ]  # fmt: skip
        process = self.lab.controller.popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while source.sent - before < 32 << 20 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.wait()
        self.ferryman(*words)
        twice = source.sent - before - (64 << 20)
        sums = {
            host.run(["sha256sum", path]).stdout.split()[0] for host, path in ((source, image), (destination, target))
        }
        print(
            f"    ({'the same bytes' if len(sums) == 1 else 'OTHER BYTES'} at both ends; {twice / 2**20:.1f} MiB more than they are crossed the wire)",
            flush=True,
        )
        return len(sums) == 1 and twice < 64 << 20

    def _image(self, guest: Guest, at: str) -> str:
        """Where the guest's first disk is now, as the host says."""
        rows = self.lab.host(at).run(["virsh", "domblklist", guest.name]).stdout.splitlines()
        return next(row.split()[1] for row in rows if row.split()[:1] == ["vda"])


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; exit code 0 only when everything went as it should."""
    parser = argparse.ArgumentParser(
        prog="./dev demo", description="A guest moves between two real hosts while its client counts."
    )
    parser.add_argument("--name", default="demo", help="the lab to use (default: demo); it stays up for a second run")
    parser.add_argument("--report", help="write the table as JSON into this file too")
    options = parser.parse_args(arguments)
    print("Two hosts, a guest, and a client that is connected to it. A minute or two.", flush=True)
    lab = lifecycle.up(options.name)
    demo = Demo(lab)
    for host in ("a", "b"):
        demo.ferryman("host", "add", host, f"qemu+tls://{host}/system", "--migration-address", f"{host}-migration")
    for left in lab.hosts:  # a guest of an earlier demo
        uuid = left.run(["virsh", "domuuid", SPEC.name], check=False).stdout.strip()
        if uuid:
            guests.remove(lab, Guest(SPEC, uuid, ""))
        left.run(["sh", "-c", "rm -f /var/lib/libvirt/images/web-*; virsh pool-refresh local"])
    guest = guests.start(lab, "a", SPEC)
    demo.ferryman("guests")

    def kill_at_destination() -> None:
        """As soon as the incoming QEMU is there, it is killed: memory is still on its way."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not any(copy.host == "a" for copy in witness.copies(lab, guest, look=0)):
            time.sleep(0.05)
        time.sleep(0.5)
        faults.kill_guest_process(lab, "a", guest)
        print("    (the destination's QEMU was killed just now, on purpose)", flush=True)

    rows = [
        demo.migrate("there", guest, "b"),
        demo.migrate("failure, rolled back", guest, "a", "--bandwidth", "20M", during=kill_at_destination),
        demo.migrate("home again", guest, "a"),
        demo.migrate_stopped("cold, with a digest", "cold", guest, "b"),
        demo.migrate_stopped("warm, home again", "warm", guest, "a"),
    ]
    resumed = demo.cut_copy()
    _table(rows)
    _side_by_side({row.method: row for row in rows if row.outcome == "succeeded"})
    if options.report:
        with open(options.report, "w") as file:
            json.dump({"migrations": [asdict(row) for row in rows]}, file, indent=2)
    print(f"\nThe lab '{lab.name}' stays up. Try next:\n"
          f"  ./dev lab shell --name {lab.name} controller\n"
          f"  export FERRYMAN_STATE_DIRECTORY={demo.state}; . .venv/bin/activate\n"
          "  ferryman history; ferryman show ID; ferryman migrate web --to b\n"
          f"  ./dev lab down --name {lab.name}")  # fmt: skip
    good = [row.outcome for row in rows] == ["succeeded", "failed", "succeeded", "succeeded", "succeeded"]
    return (
        0
        if good
        and resumed
        and all(not row.counts_lost and not row.wrong_blocks and row.copies_running == 1 for row in rows)
        else 1
    )


def _table(rows: Sequence[Row]) -> None:
    headers = ("migration", "outcome", "total", "downtime", "blackout", "counts lost", "wrong blocks", "copies running")
    lines = [headers] + [
        (row.name, row.outcome, f"{row.total_s:.1f} s", f"{row.downtime_ms:.0f} ms" if row.downtime_ms is not None else "-",
         f"{row.blackout_ms:.0f} ms" if row.blackout_ms is not None else "-", str(row.counts_lost), str(row.wrong_blocks),
         str(row.copies_running))
        for row in rows
    ]  # fmt: skip
    _print(lines)


def _side_by_side(ways: dict[str, Row]) -> None:
    """Hot, warm and cold: the same guest, each as it went last."""
    lines = [("the same guest", "total", "downtime", "blackout", "bytes sent")]
    for name, method in (("hot (live)", "live"), ("warm", "warm"), ("cold", "cold")):
        if row := ways.get(method):
            downtime, blackout = ("-" if one is None else f"{one:.0f} ms" for one in (row.downtime_ms, row.blackout_ms))
            sent = "-" if row.sent is None else f"{row.sent / 2**20:.1f} MiB"
            lines.append((name, f"{row.total_s:.1f} s", downtime, blackout, sent))
    _print(lines)


def _print(lines: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    print()
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
