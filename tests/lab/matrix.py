"""Every step of the workflow with every fault, from the two lists alone; and the part of it that each test run takes."""

from dataclasses import dataclass

from ferryman.plan.steps import WORKFLOW_STEPS
from tests.lab.befall import FAULTS, Fault
from tests.lab.courses import course_of

_SOON_OVER = 2.0  # seconds
MOMENTS = ("before", "inside", "after")
_FLOWING = ("transfer", "copy-ahead", "copy-disks")  # steps while bytes flow


@dataclass(frozen=True)
class Cell:
    """One fault at one moment of one step."""

    step: str
    moment: str  # in the words of crashing.py
    fault: Fault

    def __str__(self) -> str:
        return f"{self.fault.name} at {f'bytes of {self.step}' if self.moment == 'bytes' else self.moment}"


def moments_of(step: str, fault: Fault) -> tuple[str, ...]:
    """Memory and disks are befallen while bytes flow; at the other steps before, inside and after take turns. A kill has them all."""
    turn = WORKFLOW_STEPS.index(step) + FAULTS.index(fault)
    all_of_them = tuple(f"{step}:{MOMENTS[(turn + n) % len(MOMENTS)]}" for n in range(len(MOMENTS)))
    if fault.name == "ferryman killed":
        return ("bytes", *all_of_them) if step in _FLOWING else all_of_them
    return ("bytes",) if step in _FLOWING else all_of_them[:1]


WHOLE = tuple(
    Cell(step, moment, fault)
    for step in WORKFLOW_STEPS
    for fault in FAULTS
    if fault.at(step)
    for moment in moments_of(step, fault)
)


def covering(cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Few cells with each step and each fault at least once: a fault where it bites, the others each at a step that has none yet.

    The choosiest fault comes first; steps that are left over get faults that are soon over, in turn.
    """
    chosen: list[Cell] = []
    faults = dict.fromkeys(cell.fault for cell in cells)
    for fault in sorted(faults, key=lambda fault: sum(cell.fault is fault for cell in cells)):
        own = [cell for cell in cells if cell.fault is fault]
        biting = [cell for cell in own if cell.step == fault.bites]
        taken = {cell.step for cell in chosen}
        chosen.append(next(iter(biting or [cell for cell in own if cell.step not in taken] or own)))
    taken = {cell.step for cell in chosen}
    steps = dict.fromkeys(cell.step for cell in cells)
    for number, step in enumerate(step for step in steps if step not in taken):
        short = [cell for cell in cells if cell.step == step and cell.fault.seconds <= _SOON_OVER]
        chosen.append(short[number % len(short)])
    return tuple(sorted(chosen, key=lambda cell: WORKFLOW_STEPS.index(cell.step)))


# What each run takes. Steps that only look, note or copy a file meet their faults in the whole product alone, and tests/durability, where
# ferryman is killed at every step.
RARELY = frozenset(
    {
        "wait-to-retry",
        "admit",
        "look-ahead",
        "wait",
        "begin",
        "plan",
        "watch",
        "save-definition",
        "foresee",
        "save-snapshots",
        "try-definition",
        "tell-before-stop",
        "copy-tpm",
        "copy-saved",
        "free-to-copy",
        "free-to-stop",
        "end-passes",
        "enter-completing",
        "keep-definition",
        "forget-passes",
        "note-left",
        "drop-undo",
        "enter-rolling-back",
        "read-facts",
        "retry",
        "tell-end",
        "report",
    }
)
# A cold or warm move takes half a minute: each of its other steps meets one fault, every time another, and the copy those that are its own.
_COLD = {
    "libvirtd restarted at the source at stop",
    "source host gone at hold",
    "sender killed at copy-disks",
    "ssh killed at copy-disks",
    "destination host gone at arrive",
    "ferryman killed at leave",
    "libvirtd killed at the destination at start",
    "QEMU killed at the destination at health",
    "hosts parted from each other at open",
    "link cut at the source at release",
    "receiver killed at copy-ahead",
    "libvirtd killed at the source at copy-ahead",
    "link flapping at catch-up",
}
_FIRST_MOMENTS = tuple({(cell.step, cell.fault): cell for cell in reversed(WHOLE)}.values())[::-1]
ONCE = (
    *covering(tuple(cell for cell in WHOLE if cell.step not in RARELY and not course_of(cell.step).cold)),
    *(cell for cell in _FIRST_MOMENTS if f"{cell.fault.name} at {cell.step}" in _COLD),
)
