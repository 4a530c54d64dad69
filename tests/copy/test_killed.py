"""Endpoints and ferryman itself are killed at random points: the copy always finishes, with little sent twice, and the source as it was."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ferryman.model.copy import CopyProgress
from tests.copy.conftest import DESTINATION, SOURCE, Copies, fill

MIB = 1 << 20
SIZE = 160 * MIB
POINTS = [(seed, victim) for seed in range(17) for victim in ("source", "destination", "ferryman")]
FEW = [(0, "source"), (1, "destination"), (2, "ferryman")]


def endpoints(parent: int) -> dict[str, int]:
    """Pids of the endpoints that a process started; the destination's has the journal open."""
    found = {}
    for name in os.listdir("/proc"):
        try:
            stat = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            command = Path(f"/proc/{name}/cmdline").read_text()
            if int(stat[1]) != parent or "copy-" not in command or stat[0] == "Z":
                continue
            opened = [os.readlink(f"/proc/{name}/fd/{one}") for one in os.listdir(f"/proc/{name}/fd")]
        except (OSError, ValueError):
            continue
        found["destination" if any(".journal" in one for one in opened) else "source"] = int(name)
    return found


def kill_endpoint(parent: int, victim: str) -> bool:
    """Kill it and whatever it started at once, as a crash of its host would."""
    pid = endpoints(parent).get(victim)
    if pid is None:
        return False
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    return True


@pytest.mark.parametrize(
    ("seed", "victim"), [point if point in FEW else pytest.param(*point, marks=pytest.mark.whole) for point in POINTS]
)
def test_a_kill_at_any_point_costs_little_and_loses_nothing(
    copies: Copies, tmp_path: Path, seed: int, victim: str
) -> None:
    chance = random.Random(seed * 7 + len(victim))
    fill(tmp_path / "source", SIZE, seed, parts=8, largest=24 * MIB)
    before = (tmp_path / "source").read_bytes()
    at = chance.random()
    task = copies.task(tmp_path / "source", tmp_path / "target", bandwidth=60 * MIB, compress="off")
    reached = threading.Event()

    def progress(one: CopyProgress) -> None:
        if one.done >= at * one.total or one.phase == "verifying":
            reached.set()

    if victim == "ferryman":
        _killed_ferryman(copies, tmp_path, at)
    else:

        def strike() -> None:
            reached.wait(30)
            time.sleep(chance.random() * 0.2)
            kill_endpoint(os.getpid(), victim)

        threading.Thread(target=strike, daemon=True).start()
    result = copies.copier().copy(task, SOURCE, DESTINATION, progress=progress, cancelled=lambda: False)
    print(
        f"killed {victim} at {at:.2f}: attempts {result.attempts}, sent again {result.sent_again}, wire {result.wire}"
    )
    assert (tmp_path / "target").read_bytes() == before
    assert (tmp_path / "source").read_bytes() == before
    assert result.source_digest == result.destination_digest
    assert result.sent_again <= 16 * MIB, result


def _killed_ferryman(copies: Copies, tmp_path: Path, at: float) -> None:
    """A first ferryman, killed when it is so far."""
    script = (
        "import os, signal, sys; from pathlib import Path; from tests.copy.conftest import *\n"
        "made = Copies(Path(sys.argv[1]), Path(sys.argv[2])); size = 1 << 20\n"
        "task = made.task(made.directory / 'source', made.directory / 'target', bandwidth=60 * size, compress='off')\n"
        "def seen(one):\n"
        "    if one.done >= float(sys.argv[3]) * one.total or one.phase == 'verifying': os.kill(os.getpid(), signal.SIGKILL)\n"
        "made.copier().copy(task, SOURCE, DESTINATION, progress=seen, cancelled=lambda: False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), str(copies.certificates), str(at)],
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True)  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
