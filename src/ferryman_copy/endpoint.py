"""One end of copies, spoken to by JSON lines: orders on standard input, events on standard output. It ends when its input does.

    {"do": "source", "location", "format"}                 -> {"event": "source", "length", "fingerprint", "dirty"}
    {"do": "destination", …}                                -> {"event": "ready", …} or {"event": "finished", …}
    {"do": "listen", "address", "ports", "secure", "token"} -> {"event": "listening", "port"}
    {"do": "send", …}                                       -> {"event": "sent", "digest", …}
    {"do": "discard", "copy"}                               -> {"event": "discarded"}
    {"do": "examine", "location", "format"}                 -> {"event": "examined", "digest", "size"}
and from time to time {"event": "progress", …}; what fails is {"event": "error", "kind", "again", "what", "why", "remedy"}.
"""

import contextlib
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ferryman_copy import wire
from ferryman_copy.trouble import Trouble

PROGRESS_EVERY = 0.25  # seconds
ENDED_WITHIN = 8.0
SILENCE = 30.0  # seconds without a word of the controller after which it counts as gone: sshd may notice much later


class Endpoint:
    """The conversation with one controller."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sides: dict[str, Any] = {}
        self._working: list[threading.Thread] = []

    def say(self, event: str, **facts: object) -> None:
        """One line to the controller."""
        with self._lock, contextlib.suppress(OSError):  # nobody listens any more: standard input says so too
            sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
            sys.stdout.flush()

    def carry_out(self, order: dict[str, Any]) -> None:
        """One order; long ones go on in threads of their own."""
        from ferryman_copy import orders

        try:
            orders.ORDERS[order["do"]](self, self._sides, order)
        except Trouble as error:
            self.say("error", **error.plain)
        except Exception:
            import traceback

            self.say("error", kind="internal", what="endpoint", why=traceback.format_exc(limit=-4), remedy="report it")

    def begin(self, work: Callable[[], None]) -> None:
        """Work in a thread of its own, whose error is told."""

        def guarded() -> None:
            try:
                work()
            except Trouble as error:
                self.say("error", **error.plain)
            except Exception:
                import traceback

                self.say(
                    "error", kind="internal", what="endpoint", why=traceback.format_exc(limit=-4), remedy="report it"
                )

        self._working.append(threading.Thread(target=guarded, daemon=True))
        self._working[-1].start()

    def close(self) -> None:
        """End what is under way: connections drop, and what is complete is flushed and noted."""
        if "listening" in self._sides:
            with contextlib.suppress(OSError):
                self._sides["listening"].shutdown(socket.SHUT_RDWR)
        for name in ("sender", "receiver"):
            if name in self._sides:
                self._sides[name].close()
        for thread in self._working:
            thread.join(ENDED_WITHIN)
        for name in ("sender", "destination"):
            if name in self._sides and not any(thread.is_alive() for thread in self._working):
                with contextlib.suppress(Exception):
                    (self._sides[name].image if name == "sender" else self._sides[name]).close()

    @contextlib.contextmanager
    def telling(self, facts: Callable[[], dict[str, object]]) -> Iterator[None]:
        """Say how far it is all through a `with`, and once more at its end, whichever that is."""
        over = threading.Event()

        def tell() -> None:
            while not over.wait(PROGRESS_EVERY):
                self.say("progress", **facts())

        threading.Thread(target=tell, daemon=True).start()
        try:
            yield
        finally:
            over.set()
            self.say("progress", **facts())


def main() -> int:
    """Listen to the controller until it goes."""
    endpoint = Endpoint()
    os.umask(0o077)  # images are their owner's own
    try:
        import nbd
        import zstandard

        from ferryman_copy.qemu import clear_up

        endpoint.say("hello", identity=wire.identity() is not None, python=sys.version.split()[0], libnbd=nbd.NBD().get_version(),
                     zstandard=zstandard.__version__, user=os.geteuid(), time=time.time())  # fmt: skip
    except ImportError as error:
        package = "python3-libnbd" if "nbd" in str(error) else "python3-zstandard"
        endpoint.say(
            "error",
            kind="missing",
            what=package,
            why=f"{sys.executable} of this host does not have it: {error}",
            remedy=f"apt install {package}",
        )
        return 3
    heard = [time.monotonic()]
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines, heard), daemon=True).start()
    threading.Thread(target=_end_when_silent, args=(endpoint, heard), daemon=True).start()
    clear_up()
    try:
        while line := lines.get():
            order = json.loads(line)
            if order["do"] != "stay":  # a word to say that the controller is there
                endpoint.carry_out(order)
    except (ValueError, KeyError) as error:
        endpoint.say("error", kind="internal", what="order", why=str(error), remedy="report it")
    _end(endpoint)
    return 0


def _listen(lines: "queue.SimpleQueue[str]", heard: list[float]) -> None:
    """Hear the controller also while an order is carried out that takes long, such as an image made with all of its storage."""
    with contextlib.suppress(ValueError, OSError):
        for line in sys.stdin:
            heard[0] = time.monotonic()
            lines.put(line)
    lines.put("")  # it is gone


def _end_when_silent(endpoint: Endpoint, heard: list[float]) -> None:
    while time.monotonic() - heard[0] < SILENCE:
        time.sleep(1)
    _end(endpoint)


def _end(endpoint: Endpoint) -> None:
    """End now: threads that wait for a dead storage or network must not keep an endpoint alive."""
    threading.Timer(20.0, os._exit, (1,)).start()
    endpoint.close()
    os._exit(0)
