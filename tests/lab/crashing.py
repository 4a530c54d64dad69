"""Runs ferryman so that it is killed (SIGKILL, no handler, no clean-up) at a chosen moment.

The moment is STEP:before, STEP:inside (the act is done, its result not yet stored), STEP:after, asked (between the
note "asked" and the call to the hypervisor), sampled (the transfer was seen to run) or paused:SECONDS (so long after
the source's copy was seen to stand still). Only this wrapper knows; ferryman itself has no such switch.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any


def die() -> None:
    """As kill -9 would."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str) -> None:
    """From now on this process dies at that moment. To be called before the workflows are imported."""
    name, _, when = moment.partition(":")
    from ferryman.execute import runtime

    original = runtime.step

    def step(step_name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if step_name != name:
            return original(step_name, function, *arguments)
        if when == "before":
            die()

        def inside(*these: Any) -> Any:
            result = function(*these)
            if when == "inside":
                die()
            return result

        result = original(step_name, inside, *arguments)
        die()
        return result

    runtime.step = step  # type: ignore[assignment]
    if moment == "asked":
        from ferryman.drivers.database.records import DatabaseRecords

        mark = DatabaseRecords.mark_asked

        def mark_and_die(self: DatabaseRecords, request_id: str) -> None:
            mark(self, request_id)
            die()

        DatabaseRecords.mark_asked = mark_and_die  # type: ignore[method-assign]
    if name in ("sampled", "paused"):
        _arm_samples(float(when or 0), only_paused=name == "paused")


def _arm_samples(after: float, *, only_paused: bool) -> None:
    from ferryman.drivers.database.records import DatabaseRecords
    from ferryman.model.sample import Sample

    keep = DatabaseRecords.keep_sample
    armed: list[threading.Timer] = []

    def keep_and_die(self: DatabaseRecords, request_id: str, sample: Sample) -> None:
        keep(self, request_id, sample)
        if not armed and (sample.guest_paused or not only_paused):
            armed.append(threading.Timer(after, die))
            armed[0].start()

    DatabaseRecords.keep_sample = keep_and_die  # type: ignore[method-assign]


def main() -> None:
    """Arm, then run the program."""
    arm(sys.argv.pop(1))
    from ferryman.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
