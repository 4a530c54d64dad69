"""One connection to one libvirtd: opened within a bound, kept alive, opened again when it died."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import libvirt

from ferryman import errors
from ferryman.drivers.libvirt.errors import lost, translate

T = TypeVar("T")

OPEN_WITHIN = 10.0  # seconds; a host that vanished must not hang a command
CALL_WITHIN = 35.0  # seconds for a look: longer than the 30 s that libvirt itself waits for a guest's lock
ACT_WITHIN = 60.0  # seconds for an act: a destroy alone may take 40
# (interval, count). A silent libvirtd is given up after about 9 s: with OPEN_WITHIN under 20 s in all. A carried handshake
# is as patient as libvirt's daemons are with each other: it shall survive what it would survive peer to peer.
KEEPALIVE, KEEPALIVE_OF_DAEMONS = (3, 2), (5, 5)

# ssh in a session of its own, so that neither a Ctrl-C nor the terminal's end takes a connection away.
_SSH_APART = Path(__file__).with_name("ssh-apart")

_event_loop_lock = threading.Lock()
_event_loop: threading.Thread | None = None


def _run_event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _start_event_loop() -> None:
    """Keepalive works only with a running event loop: without it a call to a vanished host hangs for ever."""
    global _event_loop
    with _event_loop_lock:
        if _event_loop is None:
            libvirt.registerErrorHandler(lambda _context, _error: None, None)  # errors are raised; nothing is printed
            libvirt.virEventRegisterDefaultImpl()
            _event_loop = threading.Thread(target=_run_event_loop, name="libvirt events", daemon=True)
            _event_loop.start()


def without_terminal(uri: str) -> str:
    """The URI, for ssh apart from the terminal: it must fail, not ask for a password behind the progress display."""
    parts = urlsplit(uri)
    query = dict(parse_qsl(parts.query))
    if not parts.scheme.endswith("+ssh"):
        return uri
    command = str(_SSH_APART) if os.access(_SSH_APART, os.X_OK) else "ssh"
    return urlunsplit(parts._replace(query=urlencode({"no_tty": "1", "command": command, **query})))


def open_connection(uri: str, *, keepalive: tuple[int, int] = KEEPALIVE) -> libvirt.virConnect:
    """Open within OPEN_WITHIN seconds. Raises errors.Unreachable, Insecure or DriverError."""
    _start_event_loop()
    result: list[libvirt.virConnect | libvirt.libvirtError] = []

    def work() -> None:
        try:
            connection = libvirt.open(without_terminal(uri))
            connection.setKeepAlive(*keepalive)
            result.append(connection)
        except libvirt.libvirtError as error:
            result.append(error)

    thread = threading.Thread(target=work, name=f"open {uri}", daemon=True)
    thread.start()
    thread.join(OPEN_WITHIN)
    if not result:
        raise errors.Unreachable(
            f"libvirtd at {uri}",
            f"no answer within {OPEN_WITHIN:.0f} s",
            "look whether the host is up and its libvirtd runs: systemctl status libvirtd",
        )
    if isinstance(result[0], libvirt.libvirtError):
        raise translate(result[0], f"libvirtd at {uri}", uri) from result[0]
    return result[0]


def bounded(function: Callable[[], T], within: float, what: str) -> T:
    """A call in a thread of its own, waited for at most `within` seconds. Raises errors.Timeout: what it did is unknown.

    Keepalive notices a libvirtd that is silent, not one that answers while this one call is stuck in a QEMU or a mount.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # handed over to the caller
            failure.append(error)

    thread = threading.Thread(target=work, name=what, daemon=True)
    thread.start()
    thread.join(within)
    if failure:
        raise failure[0]
    if not outcome:
        raise errors.Timeout(what, f"no answer within {within:.0f} s, though libvirtd is there", "look at the host whether the guest's QEMU or a mount hangs: ps -eo pid,stat,args shows those in state D")  # fmt: skip
    return outcome[0]


class Connection:
    """A connection that is opened when first used. Safe to share between threads."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lock = threading.Lock()
        self._connection: libvirt.virConnect | None = None

    def get(self) -> libvirt.virConnect:
        """The live libvirt connection. Raises errors.DriverError."""
        with self._lock:
            if self._connection is None or not self._connection.isAlive():
                self._connection = open_connection(self.uri)
            return self._connection

    def look(self, what: str, function: Callable[[libvirt.virConnect], T], *, within: float = CALL_WITHIN) -> T:
        """A call that changes nothing; tried once more on a new connection when the old one was lost."""
        link = self.get()
        try:
            return bounded(lambda: function(link), within, what)
        except libvirt.libvirtError as error:
            if not lost(error):
                raise translate(error, what, self.uri) from error
            self.drop()
        except errors.Timeout:
            self.drop()
            raise
        return self.act(what, function, within=within)

    def act(self, what: str, function: Callable[[libvirt.virConnect], T], *, within: float = ACT_WITHIN) -> T:
        """A call that may change something: made once. Raises errors.DriverError; Unreachable and Timeout: outcome unknown."""
        link = self.get()
        try:
            return bounded(lambda: function(link), within, what)
        except libvirt.libvirtError as error:
            if lost(error):
                self.drop()
            raise translate(error, what, self.uri) from error
        except errors.Timeout:
            self.drop()
            raise

    def drop(self) -> None:
        """Forget the connection; the next call opens another."""
        with self._lock:
            self._connection = None
