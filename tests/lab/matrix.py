"""Every step of the workflow with every fault, from the two lists alone; and the part of it that each test run takes."""

from dataclasses import dataclass

from ferryman.plan.steps import WORKFLOW_STEPS
from tests.lab.befall import FAULTS, Fault
from tests.lab.courses import course_of

_SOON_OVER = 2.0  # seconds
MOMENTS = ("before", "inside", "after")


@dataclass(frozen=True)
class Cell:
    """One fault at one moment of one step."""

    step: str
    moment: str  # in the words of crashing.py
    fault: Fault

    def __str__(self) -> str:
        return f"{self.fault.name} at {self.moment}"


def moments_of(step: str, fault: Fault) -> tuple[str, ...]:
    """The transfer is befallen while bytes flow; at the other steps before, inside and after take turns. A kill has them all."""
    turn = WORKFLOW_STEPS.index(step) + FAULTS.index(fault)
    all_of_them = tuple(f"{step}:{MOMENTS[(turn + n) % len(MOMENTS)]}" for n in range(len(MOMENTS)))
    if fault.name == "ferryman killed":
        return ("bytes", *all_of_them) if step == "transfer" else all_of_them
    return ("bytes",) if step == "transfer" else all_of_them[:1]


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


# A cold move takes half a minute; tests/durability befalls each of its steps in each run, tests/lab/test_cold.py two on real hosts.
ALWAYS = tuple(step for step in WORKFLOW_STEPS if course_of(step).always)
ONCE = covering(tuple(cell for cell in WHOLE if cell.step in ALWAYS))
