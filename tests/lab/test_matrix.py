"""Each step of the workflow with each fault: one copy, disks right, no count lost, leftovers named, the report true, and it moves again."""

import contextlib
from collections.abc import Iterator

import pytest

from lab import faults, guests, witness
from lab.guests import Guest
from lab.host import Lab
from tests.lab import matrix, scene
from tests.lab.courses import course_of
from tests.lab.matrix import Cell
from tests.lab.operators import Operator
from tests.lab.scene import Scene

pytestmark = pytest.mark.lab

_kept: list[Guest] = []


@pytest.fixture(scope="module")
def _lasting(lab: Lab) -> Iterator[None]:
    """The guest goes from cell to cell, wherever the one before has left it."""
    yield
    for guest in _kept:
        guests.remove(lab, guest)


@pytest.fixture
def tried(whole: Lab, _lasting: None) -> Iterator[Scene]:
    """A guest with a local and a shared disk that runs at one host alone, and an operator on a small file system."""
    yield from staged(whole, _kept)


def staged(lab: Lab, kept: list[Guest]) -> Iterator[Scene]:
    """A scene; afterwards all is healed, and a guest that cannot stay is forgotten."""
    at = scene.at_home(lab, kept[0]) if kept else ""
    if not at:
        kept[:], at = [scene.made(lab)], "a"
    operator = Operator(lab, "tried", state_size="12m")
    (other,) = {host.name for host in lab.hosts} - {at}
    made = Scene(lab, kept[0], operator, at, other)
    try:
        yield made
    finally:
        operator.leave()
        faults.heal(lab)
        if made.throw_away:
            kept.clear()


def play(tried: Scene, cell: Cell) -> None:
    """Come to the step, let it be befallen, let it end, and judge."""
    fault, course = cell.fault, course_of(cell.step)
    fault.prepare(tried)
    with contextlib.ExitStack() as stack:
        counter = None if fault.kills else stack.enter_context(witness.Counter(tried.lab, tried.guest))
        tried.start(course.stage(tried), cell.moment)
        try:
            fault.cause(tried)
            tried.operator.let_go(fault.leap)
            scene.pause(fault.seconds)
        finally:
            fault.cure(tried)
        scene.ended(tried, killed=fault.kills, counter=counter, tidy=course.tidy)
    scene.moved_again(tried)


@pytest.mark.parametrize("cell", matrix.ONCE, ids=str)
def test_each_step_and_each_fault_once(tried: Scene, cell: Cell) -> None:
    play(tried, cell)


@pytest.mark.whole
@pytest.mark.parametrize("cell", [cell for cell in matrix.WHOLE if cell not in matrix.ONCE], ids=str)
def test_every_step_with_every_fault(tried: Scene, cell: Cell) -> None:
    play(tried, cell)
