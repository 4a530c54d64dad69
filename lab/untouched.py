"""Whether the images that a guest left at a host are as they were when it stopped there: seen from outside, as files."""

import hashlib
import threading
from contextlib import suppress
from types import TracebackType

from lab import guests, witness
from lab.guests import Guest
from lab.host import Lab

_LOOK_EVERY = 0.1  # seconds


class Untouched:
    """For the length of a `with`: as soon as no QEMU has the guest at the host, the images there are summed up.

    When the guest comes back there, they may change again, and what was summed up counts no longer.
    """

    def __init__(self, lab: Lab, guest: Guest, host: str, paths: tuple[str, ...]) -> None:
        self._lab, self._guest, self._host, self._paths = lab, guest, lab.host(host), paths
        self._sums: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> "Untouched":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def touched(self) -> list[str]:
        """The images that are gone or other ones than when the guest stopped; to be asked once it is at another host for good.

        Raises RuntimeError when it was never seen to stop.
        """
        if not self._sums:
            raise RuntimeError(f"guest {self._guest.name} was not seen to stop at {self._host.name}")
        return [path for path, then in self._sums.items() if then != self._sum(path)]

    def _look_on(self) -> None:
        while not self._over.wait(_LOOK_EVERY):
            if not self._host.up:  # its images cannot be read now, and cannot change
                continue
            if self._is_there():
                self._sums = {}
            elif not self._sums:
                found = {path: self._sum(path) for path in self._paths}
                self._sums = {} if self._is_there() else found

    def _is_there(self) -> bool:
        return any(copy.host == self._host.name for copy in witness.copies(self._lab, self._guest, look=0))

    def _sum(self, path: str) -> str:
        """Empty when it is gone."""
        with suppress(OSError), open(guests.host_path(self._host, path), "rb") as image:
            return hashlib.file_digest(image, "sha256").hexdigest()
        return ""
