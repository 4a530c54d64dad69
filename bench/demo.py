"""`./dev demo` from a clean clone with an empty cache, and again when everything is there."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench.rows import Result, alone
from lab import lifecycle
from lab.host import PROJECT

FRESH, WARM = 360.0, 60.0  # seconds


def measure(pairs: int) -> Result:
    """One fresh run, which also builds the environment and the hosts' root; then warm ones with the lab taken down between."""
    directory = Path(tempfile.mkdtemp(prefix="ferryman-bench-"))
    try:
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(directory / "clone")], check=True)
        fresh = _timed(directory)
        warm = []
        for _ in range(pairs):
            lifecycle.down("benchdemo")
            warm.append(_timed(directory))
    finally:
        lifecycle.down("benchdemo")
        shutil.rmtree(directory)
    return Result("demo", "", "Whole runs of `./dev demo` on a machine that has the Debian packages. Fresh: a new clone, no Python "
                  "environment, no cached root of the hosts. Warm: both are there, the lab is down.",
                  (alone("demo, fresh", "s", [fresh], FRESH), alone("demo, warm", "s", warm, WARM)))  # fmt: skip


def _timed(directory: Path) -> float:
    began = time.monotonic()
    environment = os.environ | {"FERRYMAN_LAB_CACHE": str(directory / "cache")}
    result = subprocess.run(["./dev", "demo", "--name", "benchdemo"], cwd=directory / "clone", env=environment,
                            capture_output=True, text=True, stdin=subprocess.DEVNULL)  # fmt: skip
    if result.returncode != 0:
        raise RuntimeError(f"the demo failed: {result.stdout[-2000:]}{result.stderr[-2000:]}")
    return time.monotonic() - began
