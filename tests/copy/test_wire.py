"""The data connections themselves."""

import socket
import ssl
import threading
from pathlib import Path

from ferryman_copy import wire


def test_a_connection_that_is_closed_never_goes_on_unencrypted(
    certificates: Path,
) -> None:
    """Whatever else happens at the moment of closing: what is sent then is encrypted, or refused."""
    mine = wire.identity(str(certificates))
    assert mine
    near, far = socket.socketpair()
    taken: list[ssl.SSLSocket] = []
    greeting = threading.Thread(
        target=lambda: taken.append(wire.context(mine, server=True).wrap_socket(far, server_side=True))
    )
    greeting.start()
    secured = wire.context(mine, server=False).wrap_socket(near, server_hostname="127.0.0.1")
    greeting.join()
    encrypted: list[bool] = []

    class Watched(ssl.SSLSocket):
        """Looks, at the moment when the connection is shut down, whether a thread that sends would still encrypt."""

        def shutdown(self, how: int) -> None:
            """As SSLSocket's."""
            super().shutdown(how)
            encrypted.append(self._sslobj is not None)  # type: ignore[attr-defined]

        def close(self) -> None:
            """Just before the end."""
            encrypted.append(self._sslobj is not None)  # type: ignore[attr-defined]
            super().close()

    secured.__class__ = Watched
    wire.Connection(secured).close()
    taken[0].close()
    assert encrypted == [True]
