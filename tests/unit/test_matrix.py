"""The matrix of steps and faults is made of the workflow's own list, and leaves nothing out."""

from ferryman.plan.backup import BACKUP_STEPS
from ferryman.plan.restore import RESTORE_STEPS
from ferryman.plan.steps import WORKFLOW_STEPS
from tests.lab import backup_matrix, courses, matrix
from tests.lab.backup_rounds import BackupRound
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


def test_backups_and_restores_have_every_step_with_every_fault_but_those_of_moves() -> None:
    """`move-on` leads from a backup to its move."""
    steps = {*backup_matrix.STEPS["backup"], *backup_matrix.STEPS["restore"]}
    assert steps >= {*BACKUP_STEPS, *RESTORE_STEPS} - {"move-on"}
    assert {cell.fault for cell in backup_matrix.WHOLE} == set(backup_matrix.FAULTS)
    assert len(set(FAULTS) - set(backup_matrix.FAULTS)) == 5
    for what, steps_of_it in backup_matrix.STEPS.items():
        met = {(_step_of(cell, what), cell.fault) for cell in backup_matrix.WHOLE if (cell.what == "restore") is (what == "restore")}  # fmt: skip
        for step in steps_of_it:
            wanted = {fault for fault in backup_matrix.FAULTS if backup_matrix.can_be(fault, what, step)}
            assert len(wanted) > 15
            assert {fault for at, fault in met if at == step} == wanted, step


def _step_of(cell: BackupRound, what: str) -> str:
    return backup_matrix.COPYING[what] if cell.moment == "bytes" else cell.moment.partition(":")[0]
