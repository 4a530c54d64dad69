"""How long an operator waits for the commands they type most."""

import sys
import time

from bench.rows import Result, alone
from lab import guests, lifecycle
from lab.guests import GuestSpec
from lab.host import Lab

HELP, GUESTS = 0.25, 0.5  # seconds


def measure(pairs: int) -> Result:
    """`ferryman --help` and `ferryman guests` with three hosts and three guests; each so many times."""
    name = "bench"
    lifecycle.down(name)
    lab = lifecycle.up(name, 3)
    try:
        for host in ("a", "b", "c"):
            _timed(lab, "host", "add", host, f"qemu+tls://{host}/system")
            guests.start(lab, host, GuestSpec(name=f"web-{host}", address=lab.topology.guest_address(ord(host) - 96)))
        _timed(lab, "guests")
        time.sleep(5)
        helps = [_timed(lab, "--help") for _ in range(pairs)]
        listings = [_timed(lab, "guests") for _ in range(pairs)]
    finally:
        lifecycle.down(name)
    return Result("start", "", "Three lab hosts over TLS with a running guest each; whole processes, from fork to exit.",
                  (alone("ferryman --help", "s", helps, HELP), alone("ferryman guests, 3 hosts", "s", listings, GUESTS)))  # fmt: skip


def _timed(lab: Lab, *arguments: str) -> float:
    state = f"FERRYMAN_STATE_DIRECTORY={lab.directory / 'ferryman'}"
    began = time.monotonic()
    lab.controller.run(["env", state, sys.executable, "-m", "ferryman", *arguments])
    return time.monotonic() - began
