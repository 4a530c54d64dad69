"""A cap on bytes per second, shared by all connections of a sender."""

import threading
import time

BURST = 0.1  # seconds' worth that may go at once


class Pace:
    """Lets bytes pass at a rate; 0: as fast as they come."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def wait(self, count: int, stopped: threading.Event) -> None:
        """Wait until so many bytes may go, or until everything ends."""
        if not self.rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - BURST) + count / self.rate
            due = self._free_at - now
        if due > 0:
            stopped.wait(due)
