"""Runs carry.py as a process of its own, forked from one that has loaded the libraries already: that is most of a start."""

import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
# Nothing that takes `step` from runtime: a moment is armed there before the workflows are imported.
_CONTEXT.set_forkserver_preload(
    ["dbos", "ferryman.execute.runtime", "ferryman.drivers.database.records", "ferryman.plain"]
)


@dataclass(frozen=True)
class Ended:
    """How the process ended: as subprocess tells it."""

    returncode: int
    stderr: str


def carry(state: Path, what: str, moment: str = "") -> Ended:
    """Carry out `what` (see carry.py) on the world in that directory; killed at that moment when one is named."""
    said = state / "said"
    process = _CONTEXT.Process(target=_run, args=(str(state), what, moment, str(said)))
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"{what} did not end within 120 s: {said.read_text()}")
    return Ended(process.exitcode, said.read_text())


def _run(state: str, what: str, moment: str, said: str) -> None:
    with open(said, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    from tests.durability.carry import main

    main(state, what, moment)
