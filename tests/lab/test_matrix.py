"""Each step of the workflow with each fault: one copy, disks right, no count lost, leftovers named, the report true, and it moves again."""

import contextlib
from collections.abc import Iterator

import pytest

from lab import faults, guests, witness
from lab.guests import Guest
from lab.host import Lab
from tests.lab import matrix, scene
from tests.lab.courses import Course, course_of
from tests.lab.evidence import gathered
from tests.lab.matrix import Cell
from tests.lab.operators import Operator
from tests.lab.scene import Scene

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("lasting")]

_kept: list[Guest] = []


@pytest.fixture(scope="module")
def lasting(lab: Lab) -> Iterator[None]:
    """The guest goes from cell to cell, wherever the one before has left it."""
    yield
    _forget(lab)


@contextlib.contextmanager
def staged(lab: Lab, course: Course) -> Iterator[Scene]:
    """A guest that runs at one host alone, and an operator on a small file system; afterwards all is healed."""
    if course.spec != scene.SPEC:
        _forget(lab)
    at = scene.at_home(lab, _kept[0]) if _kept else ""
    if not at:
        _kept[:], at = [scene.made(lab, spec=course.spec)], "a"
    operator = Operator(lab, "tried", state_size="12m")
    (other,) = {host.name for host in lab.hosts} - {at}
    made = Scene(lab, _kept[0], operator, at, other)
    try:
        yield made
    finally:
        operator.leave()
        faults.heal(lab)
        if made.throw_away or course.spec != scene.SPEC:
            _forget(lab)


def _forget(lab: Lab) -> None:
    for guest in _kept:
        guests.remove(lab, guest)
    _kept.clear()


def play(lab: Lab, cell: Cell) -> None:
    """Come to the step, let it be befallen, let it end, and judge."""
    fault, course = cell.fault, course_of(cell.step)
    with staged(lab, course) as tried:
        fault.prepare(tried)
        killed = fault.kills or course.stopped
        with contextlib.ExitStack() as stack:
            counted = not (killed or course.cold)
            counter = stack.enter_context(witness.Counter(tried.lab, tried.guest)) if counted else None
            evidence = stack.enter_context(gathered(tried)) if course.cold else None
            tried.start(course.stage(tried), cell.moment)
            try:
                fault.cause(tried)
                tried.operator.let_go(fault.leap)
                scene.pause(fault.seconds)
            finally:
                fault.cure(tried)
            scene.ended(tried, killed=killed, counter=counter, tidy=course.tidy)
            if evidence is not None:
                evidence.judge()
        scene.moved_again(tried)


@pytest.mark.parametrize("cell", matrix.ONCE, ids=str)
def test_each_step_and_each_fault_once(whole: Lab, cell: Cell) -> None:
    play(whole, cell)


@pytest.mark.whole
@pytest.mark.parametrize("cell", [cell for cell in matrix.WHOLE if cell not in matrix.ONCE], ids=str)
def test_every_step_with_every_fault(whole: Lab, cell: Cell) -> None:
    play(whole, cell)
