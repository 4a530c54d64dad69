"""Every step of a backup and of a restore with every fault that means something there, from the three lists alone; and the part that each run takes."""

from ferryman.plan.backup import BACKUP_STEPS
from ferryman.plan.restore import RESTORE_STEPS
from tests.lab import befall
from tests.lab.backup_rounds import PLACE_FULL, BackupRound
from tests.lab.befall import Fault
from tests.lab.matrix import MOMENTS

# Nobody moves the guest here, and what fills up is the place. A place with open files cannot be made read-only.
_OF_MOVES = (
    "ferryman stopped, the guest moved by virsh meanwhile", "QEMU stopped at the destination", "QEMU killed at the destination",
    "destination disk full", "destination read-only",
)  # fmt: skip
FAULTS = (*(one for one in befall.FAULTS if one.name not in _OF_MOVES), PLACE_FULL)
_OF_A_COPY = ("sender killed", "receiver killed", "ssh killed")
_OF_A_GUEST = ("QEMU stopped at the source", "QEMU killed at the source")

STEPS = {
    "backup": ("admit", *(step for step in BACKUP_STEPS if step != "move-on"), "enter-rolling-back", "tell-end", "report"),
    "restore": ("admit", *RESTORE_STEPS, "enter-rolling-back", "tell-end", "report"),
}  # fmt: skip
COPYING = {"backup": "copy-to-backup", "restore": "copy-from-backup"}
_LEFT = ("look-at-backup", "undo-backup", "look-at-restored", "undo-restore", "enter-rolling-back")
_STOPPED = ("hold-images", "start-restored")  # of a guest that is off alone


def can_be(fault: Fault, what: str, step: str) -> bool:
    """Whether the fault means something at that step."""
    if fault.name in _OF_A_COPY:
        return step == COPYING[what]
    if fault.name in _OF_A_GUEST:
        return what == "backup" and step not in _STOPPED
    return fault is not PLACE_FULL or what == "backup"


def cell(what: str, step: str, fault: Fault, moment: str) -> BackupRound:
    """The command that comes to that step. Full backups and increments take turns."""
    full = (STEPS[what].index(step) + FAULTS.index(fault)) % 2 == 0
    return BackupRound(
        what="restore" if what == "restore" else "full" if full else "increment",
        disk="local",
        running=step not in _STOPPED,
        options=("--bandwidth", "8M") if moment == "bytes" else (),
        moment=moment,
        fault=fault,
        begins=0.0,
        lasts=fault.seconds,
        starts=step == "start-restored",
        left=step in _LEFT,
    )


def moments_of(what: str, step: str, fault: Fault) -> tuple[str, ...]:
    """A kill of ferryman has them all; the others take turns, and befall a copy while its bytes flow."""
    turn = STEPS[what].index(step) + FAULTS.index(fault)
    all_of_them = tuple(f"{step}:{MOMENTS[(turn + n) % len(MOMENTS)]}" for n in range(len(MOMENTS)))
    copies = step == COPYING[what]
    if fault.name == "ferryman killed":
        return ("bytes", *all_of_them) if copies else all_of_them
    return ("bytes",) if copies else all_of_them[:1]


WHOLE = tuple(
    cell(what, step, fault, moment)
    for what, steps in STEPS.items()
    for step in steps
    for fault in FAULTS
    if can_be(fault, what, step)
    for moment in moments_of(what, step, fault)
)
# tests/durability kills ferryman at each step; in each run hosts fail where most is at stake.
_EACH_RUN = (
    ("backup", "begin-backup", "libvirtd killed at the source"),
    ("backup", "copy-to-backup", "source host gone"),
    ("backup", "write-manifest", "destination host gone"),
    ("restore", "define-restored", "libvirtd killed at the destination"),
)
ONCE = tuple(
    cell(what, step, fault, moments_of(what, step, fault)[0])
    for what, step, name in _EACH_RUN
    for fault in FAULTS
    if fault.name == name
)
