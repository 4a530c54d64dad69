"""Who comes in: the connections of one sender, each of which proves that it is this copy's. Whoever else knocks has ten seconds, and
of a crowd the oldest none, so that nobody can fill the doorway."""

import contextlib
import socket
import ssl
import threading
import time

from ferryman_copy import wire
from ferryman_copy.trouble import Trouble

CONNECT_WITHIN = 40.0  # seconds until all data connections of a sender must be there
UNPROVED = 32  # connections at once that have not proved anything yet


class Admission:
    """A listening socket until all connections of one sender are in."""

    def __init__(self, listening: socket.socket, tls: ssl.SSLContext | None, copy: str, token: str) -> None:
        self._listening, self._tls, self._copy, self._token = listening, tls, copy, token
        self._changed = threading.Condition()
        self._data: dict[int, wire.Connection] = {}
        self._replies: list[wire.Connection] = []
        self._unproved: list[socket.socket] = []  # handles to send them away by, the oldest first
        self._refused = ""
        self._closed = False

    def admit(self, count: int) -> tuple[list[wire.Connection], wire.Connection]:
        """So many data connections, and the one for replies. Raises Trouble."""
        threading.Thread(target=self._listen, daemon=True).start()
        deadline = time.monotonic() + CONNECT_WITHIN
        with self._changed:
            while len(self._data) < count or not self._replies:
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    why = self._refused or "the sender did not connect"
                    raise Trouble("cut", "data connection", why, "open the migration ports, or copy with --via-ssh")
                self._changed.wait(left)
            for handle in self._unproved:
                _send_away(handle)
        return [self._data[number] for number in sorted(self._data)], self._replies[0]

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listening.accept()
                handle = plain.dup()  # TLS takes the socket itself over
                with self._changed:
                    self._unproved.append(handle)
                    if len(self._unproved) > UNPROVED:
                        _send_away(self._unproved.pop(0))
                threading.Thread(target=self._ask, args=(plain, handle), daemon=True).start()
        with self._changed:  # somebody closed it: this endpoint shall end
            self._closed = True
            self._changed.notify_all()

    def _ask(self, plain: socket.socket, handle: socket.socket) -> None:
        found = None
        try:
            found = wire.accept(plain, self._tls, self._copy, self._token)
        except (OSError, Trouble) as error:
            self._refused = str(error)
            plain.close()
        with self._changed:
            if handle in self._unproved:
                self._unproved.remove(handle)
            handle.close()
            if found and found[1] == "replies":
                self._replies.append(found[0])
            elif found:
                self._data[found[2]] = found[0]
            self._changed.notify_all()


def _send_away(handle: socket.socket) -> None:
    with contextlib.suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)
