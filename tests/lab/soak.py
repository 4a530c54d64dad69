"""A seeded soak: random faults, also overlapping, at random moments over random moves, until the first that ends wrong.

    python -m tests.lab.soak ROUNDS [--cold|--warm|--backup] [--seed S] [--from N]

What befalls round N of a seed depends on these two numbers, and on whether the guest is moved live, cold or warm, or backed up, alone,
so that a round can be repeated by itself. The rounds of backups are in soak_backup.py.
"""

import argparse
import contextlib
import os
import random
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import lab as labs
from ferryman.plan.steps import WORKFLOW_STEPS
from lab import faults, guests, lifecycle, witness
from lab.guests import GuestSpec
from lab.host import Lab
from tests.lab import backup_rounds, evidence, scene, soak_backup
from tests.lab.backup_rounds import BackupRound
from tests.lab.befall import FAULTS, Fault
from tests.lab.courses import USUAL, course_of
from tests.lab.evidence import gathered
from tests.lab.matrix import MOMENTS
from tests.lab.operators import Operator
from tests.lab.scene import SPEC, Scene

NOT_DONE = "not done: "
_SHARED_ONLY = replace(SPEC, disks=("shared",))
# These need a course of their own, or wait for more than a round may.
_NOT_DRAWN = ("destination read-only", "ferryman stopped for 30 s", "database locked")
_WITH_NEW_DISKS = ("make-volumes", "carry-media", "note-left", "retire")
_USUAL_STEPS = tuple(step for step in WORKFLOW_STEPS if course_of(step) is USUAL or step == "transfer")
_COLD_SPEC = replace(SPEC, cdrom="", disk_mib=160, filled_mib=96)  # more than may be sent again
_COLD_STEPS = (
    "make-volumes", "autostart-off", "stop", "hold", "arrive", "leave", "start", "health", "settle", "enter-completing", "open",
    "autostart-on", "release", "note-left", "drop-undo", "verify", "report",
)  # fmt: skip
_WARM_STEPS = (*_COLD_STEPS, "copy-disks", "forget-passes")
# What the copy and the hosts of a cold or warm move fear most; each group is drawn as often as all faults together.
_COPY_FEARS = ("sender killed", "receiver killed", "ssh killed", "ferryman killed")
_HOSTS_FEAR = (
    "libvirtd killed at the source", "libvirtd killed at the destination", "link cut at the source", "link cut at the destination",
    "source host gone", "destination host gone",
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A fault with its times, in seconds after the moment."""

    fault: Fault
    begins: float
    lasts: float


@dataclass(frozen=True)
class Round:
    """One move and what befalls it."""

    source: str
    spec: GuestSpec
    options: tuple[str, ...]
    moment: str  # to be held at; empty: none, the times count from the command
    drawn: tuple[Drawn, ...]

    def __str__(self) -> str:
        what = " and ".join(f"{one.fault.name} after {one.begins:.1f} s for {one.lasts:.1f} s" for one in self.drawn)
        options = " ".join(self.options) or "no options"
        return f"from {self.source}, disks {' '.join(self.spec.disks)}, {options}, {self.moment or 'at once'}: {what}"

    @property
    def stops(self) -> tuple[str, ...]:
        """How the guest is stopped for it; empty: it is not."""
        return tuple(option for option in self.options if option in ("--cold", "--warm"))


def draw(seed: int, number: int) -> Round:
    """The live round of that number. Pure."""
    dice = random.Random(f"{seed}/{number}")
    local, retire = dice.random() < 0.6, dice.random() < 0.5
    options = (*dice.choice([(), ("--bandwidth", "8M"), ("--bandwidth", "24M")]), *(("--retire",) if retire else ()))
    steps = [step for step in _USUAL_STEPS if (local or step not in _WITH_NEW_DISKS) and (retire or step != "retire")]
    step = dice.choice(["", "transfer", dice.choice(steps)])
    moment = "bytes" if step == "transfer" else f"{step}:{dice.choice(MOMENTS)}" if step else ""
    possible = [
        fault for fault in FAULTS if fault.name not in _NOT_DRAWN and (local or fault.name != "destination disk full")
    ]
    # The first one comes while ferryman is held, if it is; what must come at a step comes only so.
    first = dice.choice([fault for fault in possible if fault.at(step or "report")])
    second = dice.choice([fault for fault in possible if fault is not first and fault.at("report")])
    drawn = [Drawn(first, 0.0 if moment else dice.uniform(0, 8), first.seconds * dice.uniform(0.3, 1.5))]
    if dice.random() < 0.4:
        drawn.append(Drawn(second, dice.uniform(0, 6), second.seconds * dice.uniform(0.3, 1.5)))
    return Round(dice.choice("ab"), SPEC if local else _SHARED_ONLY, options, moment, tuple(drawn))


def draw_stopped(seed: int, number: int, way: str) -> Round:
    """The cold or warm round of that number. Pure."""
    dice = random.Random(f"{seed}/{number} {way}")
    copying, steps = ("copy-disks", _COLD_STEPS) if way == "cold" else ("copy-ahead", _WARM_STEPS)
    spec = replace(
        _COLD_SPEC, disks=dice.choice([("local", "shared"), ("local:raw", "shared"), ("local", "local:raw")])
    )
    options = (f"--{way}", *dice.choice([(), ("--bandwidth", "16M"), ("--bandwidth", "24M"), ("--bandwidth", "48M")]))
    step = dice.choice(["", copying, copying, dice.choice(steps)])
    moment = "bytes" if step in ("copy-ahead", "copy-disks") else f"{step}:{dice.choice(MOMENTS)}" if step else ""
    possible = [fault for fault in FAULTS if fault.name not in _NOT_DRAWN and fault.at(step or "report")]
    names = dice.choice([_COPY_FEARS, _HOSTS_FEAR, tuple(fault.name for fault in possible)])
    first = dice.choice([fault for fault in possible if fault.name in names])
    # While bytes flow the copy goes on beside a ferryman that is held, so there any time is as good.
    begins = dice.uniform(0, 3) if step == copying else 0.0 if step else dice.uniform(0, 14)
    drawn = [Drawn(first, begins, first.seconds * dice.uniform(0.3, 1.5))]
    if dice.random() < 0.4:
        others = [
            fault for fault in FAULTS if fault.name not in _NOT_DRAWN and fault is not first and fault.at("report")
        ]
        second = dice.choice(others)
        drawn.append(Drawn(second, dice.uniform(0, 10), second.seconds * dice.uniform(0.3, 1.5)))
    return Round(dice.choice("ab"), spec, options, moment, tuple(drawn))


def play(lab: Lab, one: Round) -> list[str]:
    """Carry a round out and judge it; returns what was noted. Raises AssertionError with all that is known."""
    guest = scene.made(lab, one.source, one.spec)
    operator = Operator(lab, "soak", state_size="12m")
    made = Scene(lab, guest, operator, one.source, "b" if one.source == "a" else "a")
    try:
        _play(made, one)
    finally:
        operator.leave()
        faults.mend(lab)
        guests.remove(lab, guest)
    return made.notes


def _play(made: Scene, one: Round) -> None:
    killed = any(drawn.fault.kills for drawn in one.drawn)
    for drawn in one.drawn:
        drawn.fault.prepare(made)
    with contextlib.ExitStack() as stack:
        counter = None if killed or one.stops else stack.enter_context(witness.Counter(made.lab, made.guest))
        evidence = stack.enter_context(gathered(made)) if one.stops else None
        if one.moment:
            made.start(made.asked(*one.options), one.moment)
        else:
            made.process = made.operator.start(*made.asked(*one.options))
        _befall(made, one)
        scene.ended(made, killed=killed, counter=counter)
        if evidence is not None and evidence.judge():
            scene.retired(made)
    scene.moved_again(made, *one.stops)


def _befall(made: Scene, one: Round) -> None:
    """Causes and cures in the order of their times; every cure comes, whatever happened before it."""
    acts: list[tuple[float, bool, Fault]] = []
    for drawn in one.drawn:
        acts += [(drawn.begins, False, drawn.fault), (drawn.begins + drawn.lasts, True, drawn.fault)]
    leap = max((drawn.fault.leap for drawn in one.drawn), key=abs)
    began, held = time.monotonic(), True
    for at, over, fault in sorted(acts, key=lambda act: act[:2]):
        if held and (over or at > 0):  # only what comes at once comes while it is held
            made.operator.let_go(leap)
            held = False
        time.sleep(max(0.0, began + at - time.monotonic()))
        made.notes.append(f"{fault.name} {'over' if over else 'now'}, {time.monotonic() - began:.2f} s")
        try:
            (fault.cure if over else fault.cause)(made)
        except (
            RuntimeError,
            OSError,
            subprocess.TimeoutExpired,
        ) as error:  # gone already, or another fault is in the way
            made.notes.append(f"{NOT_DONE}{error}")


def drawn(seed: int, number: int, way: str) -> Round | BackupRound:
    """The round of that number and way. Pure."""
    if way == "backup":
        return soak_backup.draw(seed, number)
    return draw_stopped(seed, number, way) if way else draw(seed, number)


def soak(lab: Lab, rounds: int, seed: int, first: int = 1, *, way: str = "") -> None:
    """Play rounds, telling each. Raises AssertionError at the first that ends wrong, with how to repeat it."""
    for number in range(first, first + rounds):
        one, began = drawn(seed, number, way), time.monotonic()
        print(f"round {number} of seed {seed}: {one}", flush=True)
        try:
            notes = play(lab, one) if isinstance(one, Round) else backup_rounds.play(lab, one)
        except Exception as error:
            again = f"./dev test --soak 1{f' --{way}' if way else ''} --seed {seed} --from {number}"
            raise AssertionError(
                f"round {number} of seed {seed} ended wrong ({one}); repeat it: {again}\n{error}"
            ) from error
        told = [note for note in notes if note.startswith((evidence.SENT, NOT_DONE))]
        print(f"  right, {time.monotonic() - began:.0f} s{''.join(f'; {note}' for note in told)}", flush=True)


def main() -> None:
    """A soak on a lab of its own."""
    parser = argparse.ArgumentParser(prog="./dev test --soak", description=__doc__)
    parser.add_argument("rounds", type=int)
    parser.add_argument(
        "--cold", action="store_const", const="cold", dest="way", default="", help="the guest is stopped for its moves"
    )
    parser.add_argument(
        "--warm", action="store_const", const="warm", dest="way", help="the same, and its disks are copied before"
    )
    parser.add_argument(
        "--backup", action="store_const", const="backup", dest="way", help="backups and restores, no moves"
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--from", type=int, default=1, dest="first", help="the number of the first round")
    words = parser.parse_args()
    print(f"seed {words.seed}", flush=True)
    lifecycle.clean_abandoned()
    name = f"s{secrets.token_hex(3)}"
    lab = labs.up(name, hosts=2, owner=os.getpid())
    try:
        soak(lab, words.rounds, words.seed, words.first, way=words.way)
    except AssertionError as error:
        print(f"WRONG: {error}", flush=True)
        sys.exit(1)
    finally:
        labs.down(name)
    print(f"{words.rounds} rounds of seed {words.seed}, from {words.first}: all right", flush=True)


if __name__ == "__main__":
    main()
