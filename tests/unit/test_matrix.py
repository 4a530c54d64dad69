"""The matrix of steps and faults is made of the workflow's own list, and leaves nothing out."""

from ferryman.plan.steps import WORKFLOW_STEPS
from tests.lab import courses, matrix
from tests.lab.befall import FAULTS


def test_the_product_has_every_step_with_every_fault_that_can_happen_there() -> None:
    assert {cell.step for cell in matrix.WHOLE} == set(WORKFLOW_STEPS)
    assert {cell.fault for cell in matrix.WHOLE} == set(FAULTS)
    everywhere = [fault for fault in FAULTS if all(fault.at(step) for step in WORKFLOW_STEPS)]
    assert len(everywhere) > 15
    for step in WORKFLOW_STEPS:
        assert {cell.fault for cell in matrix.WHOLE if cell.step == step} >= set(everywhere), step


def test_each_run_takes_each_step_but_the_rare_ones_and_each_fault_at_least_once_and_little_more() -> None:
    assert {cell.step for cell in matrix.ONCE} == set(WORKFLOW_STEPS) - matrix.RARELY
    assert all(courses.course_of(step).cold for step in matrix.RARELY)
    assert {cell.fault for cell in matrix.ONCE} == set(FAULTS)
    biting = sum(bool(fault.bites) for fault in FAULTS)
    assert len(matrix.ONCE) <= max(len(WORKFLOW_STEPS), len(FAULTS)) + biting


def test_each_run_takes_another_fault_at_each_step_of_a_cold_move() -> None:
    ahead = ("copy-ahead", "catch-up")
    stopped = [cell for cell in matrix.ONCE if courses.course_of(cell.step).cold]
    for warm in (True, False):
        cells = [cell for cell in stopped if (cell.step in ahead) is warm]
        assert len({cell.fault for cell in cells}) == len(cells)


def test_a_step_is_come_to_by_one_course_and_none_claims_a_step_that_is_gone() -> None:
    claimed = [step for course in courses.ODD for step in course.steps]
    assert len(claimed) == len(set(claimed))
    assert set(claimed) <= set(WORKFLOW_STEPS)
    assert courses.course_of("admit") is courses.USUAL
