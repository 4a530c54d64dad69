"""Runs ferryman so that something befalls it at a chosen moment: it is killed there, or held until it is let go.

The moment is STEP:before, STEP:inside (the act is done, its result not yet stored), STEP:after, asked (between the
note "asked" and the call to the hypervisor), bytes (at the first sample that says that bytes have moved), sampled (the
transfer was seen to run), paused:SECONDS (so long after the source's copy was seen to stand still) or pass:NUMBER (data of that
pass of a warm move cross). passes=NUMBER kills nobody: so many passes are made, however small they are. Alone a moment means
SIGKILL, no handler, no clean-up. hold=MOMENT writes a file "held" into FERRYMAN_TEST_HOLD and waits for a file "go" there;
a number in that file is by how many seconds the wall's clock leaps then, for this process alone.
Only this wrapper knows; ferryman itself has no such switch.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def die() -> None:
    """As kill -9 would."""
    os.kill(os.getpid(), signal.SIGKILL)


def hold() -> None:
    """Stand still, once, until the test lets go."""
    directory = Path(os.environ["FERRYMAN_TEST_HOLD"])
    if (directory / "held").exists():
        return
    (directory / "held").touch()
    while not (directory / "go").exists():
        time.sleep(0.02)
    if leap := float((directory / "go").read_text() or 0):
        wall = time.time
        time.time = lambda: wall() + leap


def arm(moment: str, act: Callable[[], None] = die) -> None:
    """From now on the act befalls this process at that moment. To be called before the workflows are imported."""
    if moment.startswith("passes="):
        _make_passes(int(moment.removeprefix("passes=")))
        return
    name, _, when = moment.partition(":")
    from ferryman.execute import runtime

    original = runtime.step

    def step(step_name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if step_name != name:
            return original(step_name, function, *arguments)
        if when == "before":
            act()

        def inside(*these: Any) -> Any:
            result = function(*these)
            if when == "inside":
                act()
            return result

        result = original(step_name, inside, *arguments)
        if when == "after":
            act()
        return result

    runtime.step = step  # type: ignore[assignment]
    if moment in ("asked", "bytes"):
        from ferryman.drivers.database.records import DatabaseRecords

        noted = "mark_asked" if moment == "asked" else "keep_sample"
        note = getattr(DatabaseRecords, noted)

        def note_and_act(self: DatabaseRecords, *these: Any) -> None:
            note(self, *these)
            if moment == "asked" or these[-1].processed > 0:
                act()

        setattr(DatabaseRecords, noted, note_and_act)
    if name == "pass":
        _arm_pass(int(when), act)
    if name in ("sampled", "paused"):
        _arm_samples(float(when or 0), only_paused=name == "paused")


def _arm_pass(number: int, act: Callable[[], None]) -> None:
    from ferryman.drivers.copy import SshCopier

    copy = SshCopier.copy

    def copy_and_act(self: SshCopier, task: Any, *these: Any, progress: Callable[[Any], None], **more: Any) -> Any:
        def seen(now: Any) -> None:
            progress(now)
            if task.moment.endswith(f"-{number}"):
                act()

        return copy(self, task, *these, progress=seen, **more)

    SshCopier.copy = copy_and_act  # type: ignore[method-assign]


def _make_passes(wanted: int) -> None:
    from ferryman.execute import ahead
    from ferryman.plan.ahead import More, Pass

    def decide(done: list[Pass]) -> More:
        return More(len(done) < wanted, f"{len(done)} of {wanted} passes")

    ahead.decide = decide  # type: ignore[assignment,attr-defined]


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
    moment = sys.argv.pop(1)
    held = moment.removeprefix("hold=")
    arm(held, die if held == moment else hold)
    from ferryman.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
