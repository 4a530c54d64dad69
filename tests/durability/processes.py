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


class Carrying:
    """Such a process while it runs."""

    def __init__(self, state: Path, what: str, moment: str = "") -> None:
        self._what, self._said = what, state / f"said-{what.partition(':')[0]}"
        self._process = _CONTEXT.Process(target=_run, args=(str(state), what, moment, str(self._said)))
        self._process.start()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def said(self) -> str:
        """What it wrote so far."""
        return self._said.read_text() if self._said.exists() else ""

    def ended(self) -> Ended:
        """Wait for its end."""
        self._process.join(120)
        if self._process.exitcode is None:
            self._process.kill()
            raise AssertionError(f"{self._what} did not end within 120 s: {self.said()}")
        return Ended(self._process.exitcode, self.said())


def carry(state: Path, what: str, moment: str = "") -> Ended:
    """Carry out `what` (see carry.py) on the world in that directory; killed at that moment when one is named."""
    return Carrying(state, what, moment).ended()


def _run(state: str, what: str, moment: str, said: str) -> None:
    with open(said, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    from tests.durability.carry import main

    main(state, what, moment)
