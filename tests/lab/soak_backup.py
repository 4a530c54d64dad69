"""The soak's rounds of backups: what befalls round N of a seed depends on these two numbers alone. soak.py has the command line."""

import random

from tests.lab import befall
from tests.lab.backup_rounds import PLACE_FULL, BackupRound
from tests.lab.befall import Fault
from tests.lab.matrix import MOMENTS

_WHAT = ("full", "increment", "increment", "restore")
_STEPS = {
    True: ("make-folder", "begin-backup", "save-guest", "copy-to-backup", "end-backup", "write-manifest", "finish-backup", "report"),
    False: ("make-folder", "hold-images", "save-guest", "copy-to-backup", "write-manifest", "finish-backup", "report"),
}  # fmt: skip
_RESTORE_STEPS = ("make-volumes", "try-definition", "copy-from-backup", "define-restored", "finish-restore", "report")
_NAMES = (
    "ferryman killed", "libvirtd killed at the source", "libvirtd killed at the destination", "libvirtd restarted at the source",
    "QEMU killed at the source", "source host gone", "destination host gone", "link cut at the source", "link cut at the destination",
    "ferryman cut off from both", "sender killed", "receiver killed", "ssh killed",
)  # fmt: skip
FAULTS = (*(next(one for one in befall.FAULTS if one.name == name) for name in _NAMES), PLACE_FULL)
KILLED = 0.4  # of the rounds have ferryman itself killed; the others have any of these
_OF_A_COPY = ("sender killed", "receiver killed", "ssh killed")


def draw(seed: int, number: int) -> BackupRound:
    """The round of that number. Pure."""
    dice = random.Random(f"{seed}/{number} backup")
    what, running = dice.choice(_WHAT), dice.random() < 0.7
    disk = dice.choice(["local", "local", "local:raw"])
    options = dice.choice([(), ("--bandwidth", "8M"), ("--bandwidth", "24M")])
    copying, steps = ("copy-from-backup", _RESTORE_STEPS) if what == "restore" else ("copy-to-backup", _STEPS[running])
    step = dice.choice(["", copying, dice.choice(steps), dice.choice(steps)])
    moment = "bytes" if step == copying and dice.random() < 0.6 else f"{step}:{dice.choice(MOMENTS)}" if step else ""
    possible = [one for one in FAULTS if _can_be(one, what, running=running, copies=moment == "bytes")]
    fault = FAULTS[0] if dice.random() < KILLED else dice.choice(possible)
    begins = dice.uniform(0, 1.5) if moment == "bytes" else 0.0 if moment else dice.uniform(0.5, 3.5)
    return BackupRound(what, disk, running, options, moment, fault, begins, fault.seconds * dice.uniform(0.3, 1.5))


def _can_be(fault: Fault, what: str, *, running: bool, copies: bool) -> bool:
    if fault.name in _OF_A_COPY:
        return copies
    if fault.name == "QEMU killed at the source":
        return running and what != "restore"
    return fault is not PLACE_FULL or what != "restore"
