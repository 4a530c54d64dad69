"""How long it takes to prepare a host that has neither certificates nor TLS."""

import sys
import time

from bench.rows import Result, alone
from lab import lifecycle
from lab.host import Lab

BAR = 20.0  # seconds a host


def measure(pairs: int) -> Result:
    """One bare host prepared and reverted, so many times; then looked at again, when nothing is to be changed."""
    name = "bench"
    lifecycle.down(name)
    lab = lifecycle.up(name, 2, bare=True)
    try:
        for host in ("a", "b"):
            _timed(lab, "host", "add", host, f"qemu+ssh://root@{host}/system", "--migration-address", f"{host}-migration")  # fmt: skip
        prepared, again = [], []
        _timed(lab, "host", "prepare", "b", codes=(0, 3))  # b stays: the check that ends a preparation asks from it
        for _ in range(pairs):
            prepared.append(_timed(lab, "host", "prepare", "a"))
            again.append(_timed(lab, "host", "prepare", "a"))
            _timed(lab, "host", "prepare", "a", "--revert")
    finally:
        lifecycle.down(name)
    return Result("prepare", "", "A lab host as Debian installs it, over ssh; whole processes, with the check of the host at the end.",
                  (alone("ferryman host prepare, bare host", "s", prepared, BAR),
                   alone("ferryman host prepare, nothing to change", "s", again, None)))  # fmt: skip


def _timed(lab: Lab, *arguments: str, codes: tuple[int, ...] = (0,)) -> float:
    state = f"FERRYMAN_STATE_DIRECTORY={lab.directory / 'ferryman'}"
    began = time.monotonic()
    result = lab.controller.run(["env", state, sys.executable, "-m", "ferryman", *arguments], check=False)
    if result.returncode not in codes:
        raise RuntimeError(f"{' '.join(arguments)} ended with {result.returncode}: {result.stdout}{result.stderr}")
    return time.monotonic() - began
