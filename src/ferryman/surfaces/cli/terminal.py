"""The terminal is not the execution: a lost one lets the work go on, Ctrl-C is a wish."""

import os
import signal
from collections.abc import Callable
from types import FrameType


def outlive(*, on_interrupt: Callable[[], None]) -> None:
    """From now on SIGHUP only takes the terminal away, and SIGINT calls `on_interrupt`."""

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        on_interrupt()

    def hung_up(_signal: int, _frame: FrameType | None) -> None:
        leave()

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGHUP, hung_up)


def leave() -> None:
    """Standard input, output and error lead nowhere from now on."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
