"""Threads that work together and end together: the first that fails ends the others, and its error is the one that is told."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from ferryman_copy.trouble import Trouble


class Closing(Protocol):
    """What can be closed to wake the thread that waits in it."""

    def close(self) -> None:
        """Close it."""
        ...


class Crew:
    """A number of threads."""

    def __init__(self) -> None:
        self.error: Trouble | None = None
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._closing: list[Closing] = []
        self._threads: list[threading.Thread] = []
        self._waiting: list[threading.Condition] = []

    def closes(self, *things: Closing) -> None:
        """Close these when something fails."""
        with self._lock:
            self._closing += things
        if self.stopped.is_set():
            self.fail(Trouble("cut", "copy", "it was ended", ""))

    def wakes(self, condition: threading.Condition) -> threading.Condition:
        """Wake who waits for that when something fails."""
        self._waiting.append(condition)
        return condition

    def fail(self, error: Trouble) -> None:
        """Note the error unless there is one, and end all."""
        with self._lock:
            if self.error is None:
                self.error = error
            self.stopped.set()
            closing, self._closing = self._closing, []
        for one in closing:
            with contextlib.suppress(OSError):
                one.close()
        for condition in self._waiting:
            with condition:
                condition.notify_all()

    def start(self, work: Callable[..., None], *arguments: object) -> None:
        """One more thread."""

        def guarded() -> None:
            try:
                work(*arguments)
            except Trouble as error:
                self.fail(error)
            except Exception as error:  # a fault of ours must not leave the others waiting for ever
                import traceback

                self.fail(
                    Trouble("internal", work.__qualname__, traceback.format_exc(limit=-4) or str(error), "report it")
                )

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, threads: Sequence[threading.Thread] | None = None) -> None:
        """Wait for all. Raises the error of the first that failed."""
        for thread in threads or self._threads:
            thread.join()
        if self.error is not None:
            raise self.error

    def check(self) -> None:
        """Raises when something failed."""
        if self.stopped.is_set():
            raise self.error or Trouble("cut", "copy", "it was ended", "")
