"""Each step of a backup and of a restore with each fault: the guest as before, whole backups alone, nothing left, and the same command succeeds."""

import pytest

from lab.host import Lab
from tests.lab import backup_matrix
from tests.lab.backup_rounds import BackupRound, play

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]


@pytest.mark.parametrize("cell", backup_matrix.ONCE, ids=str)
def test_where_most_is_at_stake(whole: Lab, cell: BackupRound) -> None:
    play(whole, cell)


@pytest.mark.whole
@pytest.mark.parametrize("cell", [cell for cell in backup_matrix.WHOLE if cell not in backup_matrix.ONCE], ids=str)
def test_every_step_with_every_fault(whole: Lab, cell: BackupRound) -> None:
    play(whole, cell)
