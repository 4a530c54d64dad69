"""The data connections: TCP with mutual TLS by the host's certificates, a token for each copy, and silence that has an end."""

import contextlib
import errno
import hmac
import json
import os
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ferryman_copy.trouble import Trouble

HELLO_WITHIN = 10.0  # seconds for the TLS handshake, and for the token
# Seconds of silence, seconds between two questions, questions: a host that is gone is noticed after 25 s.
KEEPALIVE = (5, 5, 4)
LONGEST_HELLO = 1024
PROOF = 32  # bytes
# Bytes of struct tcp_info up to what is read of it, and where tcpi_last_data_recv and tcpi_busy_time are.
TCP_INFO_SIZE, TCP_LAST_DATA_RECEIVED, TCP_BUSY_TIME = 192, 52, 168
PATHS = (  # authority, server pair, client pair; QEMU's own certificates first, then libvirt's
    ("/etc/pki/qemu/ca-cert.pem", "/etc/pki/qemu/server-cert.pem", "/etc/pki/qemu/server-key.pem",
     "/etc/pki/qemu/client-cert.pem", "/etc/pki/qemu/client-key.pem"),
    ("/etc/pki/CA/cacert.pem", "/etc/pki/libvirt/servercert.pem", "/etc/pki/libvirt/private/serverkey.pem",
     "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem"),
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """A host's certificates."""

    authority: str
    server: tuple[str, str]
    client: tuple[str, str]


def identity(root: str = "") -> Identity | None:
    """The certificates of this host that can be read; None when there are none. `root`: another directory than /."""
    for names in PATHS:
        paths = [root + name for name in names]
        if all(os.access(path, os.R_OK) for path in paths):
            return Identity(paths[0], (paths[1], paths[2]), (paths[3], paths[4]))
    return None


def context(mine: Identity, *, server: bool) -> ssl.SSLContext:
    """A TLS context that trusts the hosts' authority only, and asks the other end for its certificate. Raises Trouble."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    try:
        made.load_verify_locations(mine.authority)
        made.load_cert_chain(*(mine.server if server else mine.client))
    except (ssl.SSLError, OSError) as error:
        raise Trouble(
            "insecure", f"certificates beside {mine.authority}", str(error), "ferryman host prepare"
        ) from error
    if server:
        made.num_tickets = 0  # nothing to resume, and nobody need read them
    return made


class Connection:
    """One data connection. Bytes go one way; whole amounts or Trouble "cut"."""

    def __init__(self, plain: socket.socket) -> None:
        self._socket = plain
        self.passed = 0
        self._giving_since = (
            0.0  # when the last call to send began that has not ended, or that gave all there is; 0: none
        )
        self._taking = False
        # One packet for what belongs together, one call for what is awaited; TLS knows neither.
        secured = isinstance(plain, ssl.SSLSocket)
        self._more, self._whole = (0, 0) if secured else (socket.MSG_MORE, socket.MSG_WAITALL)

    def send(self, *parts: bytes | bytearray | memoryview, last: bool = False) -> None:
        """Send all of it. `last`: nothing follows."""
        self._giving_since = time.monotonic()
        try:
            for part in parts:
                self._socket.sendall(part, self._more if part is not parts[-1] else 0)
                self.passed += len(part)
        except (OSError, ValueError) as error:
            raise cut(error) from error
        if not last:
            self._giving_since = 0.0

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        found = bytearray(count)
        self.fill(memoryview(found))
        return bytes(found)

    def fill(self, view: memoryview) -> None:
        """Fill all of it."""
        at, end = 0, len(view)
        receive = self._socket.recv_into
        self._taking = True
        try:
            while at < end:
                if not (got := receive(view[at:], end - at, self._whole)):
                    raise cut("the other end closed it")
                at += got
        except (OSError, ValueError) as error:
            raise cut(error) from error
        self._taking = False
        self.passed += end

    @property
    def gives(self) -> float:
        """Seconds for which it has had something to deliver while whoever sends does nothing else; 0.0 while they do."""
        return time.monotonic() - self._giving_since if self._giving_since else 0.0

    @property
    def lacks(self) -> float:
        """Seconds in which nothing has arrived while something is waited for; 0.0 while nothing is."""
        return self._told("I", TCP_LAST_DATA_RECEIVED)[0] / 1e3 if self._taking else 0.0

    @property
    def waits(self) -> tuple[float, float]:
        """Seconds in which data was under way so far, and those of them in which the other end had no room for more: the link was
        not what held it up then. (0, 0) where the kernel does not tell (fields of struct tcp_info in linux/tcp.h)."""
        busy, no_room = self._told("QQ", TCP_BUSY_TIME)
        return busy / 1e6, no_room / 1e6

    def _told(self, what: str, at: int) -> tuple[int, ...]:
        """Fields of struct tcp_info; zeroes where the kernel does not tell."""
        try:
            told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
            return struct.unpack_from(what, told, at)
        except (OSError, struct.error):
            return (0,) * len(what)

    def close(self) -> None:
        """Let go of it, whoever reads or writes it."""
        with contextlib.suppress(OSError):
            # The plain socket's own: TLS's would leave the encryption away first, and a thread that is sending would go on without.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._socket.close()


def standing(connections: Sequence[Connection]) -> dict[str, object]:
    """How each stands, for whoever hears both ends: what one gives for long and the other lacks for as long gets lost between."""
    return {"gives": [one.gives for one in connections], "lacks": [one.lacks for one in connections]}


def cut(why: object) -> Trouble:
    """The other end is gone."""
    return Trouble("cut", "data connection", str(why), "ask for the copy again: it goes on where it was")


def watched(plain: socket.socket) -> None:
    """Have the kernel give a connection up whose other host is gone, and none whose other end is slow: a storage may stand still for
    minutes. So there is no TCP_USER_TIMEOUT, which counts a full receiver as silence. The kernel asks only on a connection with nothing to
    send: the receiver's are such, and the sender's replies."""
    if plain.family == socket.AF_UNIX:
        return
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in zip((socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT), KEEPALIVE, strict=True):
        plain.setsockopt(socket.IPPROTO_TCP, option, value)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def listen(address: str, ports: tuple[int, int]) -> socket.socket:
    """Listen on the first free port of a range; (0, 0): any port. An address that is not this host's own, or that its own names
    file turns into a loopback one, stands for all of its addresses. Raises Trouble."""
    last: OSError | None = None
    for port in range(ports[0], ports[1] + 1):
        for where in (address, ""):
            try:
                return _bound(where, port)
            except OSError as error:
                last = error
                if error.errno == errno.EADDRINUSE:
                    break
    raise Trouble(
        "refused", f"address {address}", f"no port of {ports[0]}-{ports[1]} can be listened on: {last}",
        "end what holds the ports",
    )  # fmt: skip


def _bound(address: str, port: int) -> socket.socket:
    if not address:
        return (
            socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            if _dual()
            else socket.create_server(("", port))
        )
    family, _, _, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    if str(where[0]).startswith("127.") and not address.startswith("127."):
        raise OSError("it is a loopback address here")
    return socket.create_server(where[:2], family=family)


def _dual() -> bool:
    return socket.has_dualstack_ipv6()


def loopback() -> socket.socket:
    """Listen on a port that only this host reaches: for tunnels."""
    return listen("127.0.0.1", (0, 0))


def accept(plain: socket.socket, tls: ssl.SSLContext | None, copy: str, token: str) -> tuple[Connection, str, int]:
    """What connected, once it proved that it belongs here: (connection, its kind, its number). Raises Trouble or OSError.

    The token itself never travels: each end proves that it has it by what it makes of the other's nonce.
    """
    plain.settimeout(HELLO_WITHIN)
    watched(plain)
    secured = tls.wrap_socket(plain, server_side=True) if tls else plain
    deadline = time.monotonic() + HELLO_WITHIN
    length = struct.unpack("!I", _exactly(secured, 4, deadline))[0]
    if length > LONGEST_HELLO:
        raise Trouble("damaged", "data connection", "it does not begin as a copy's")
    words = _exactly(secured, length, deadline)
    try:
        said = json.loads(words)
        theirs, kind, number = str(said["copy"]), str(said["kind"]), int(said["number"])
    except (ValueError, KeyError, TypeError) as error:
        raise Trouble("damaged", "data connection", "it does not begin as a copy's") from error
    nonce = secrets.token_bytes(PROOF)
    secured.sendall(nonce + _proof(token, b"receiver", words))
    proof = _exactly(secured, PROOF, deadline)
    if not hmac.compare_digest(proof, _proof(token, b"sender", nonce + words)) or theirs != copy:
        raise Trouble("damaged", "data connection", "it is of another copy")
    secured.sendall(b"!")
    secured.settimeout(None)
    return Connection(secured), kind, number


def connect(
    address: str, port: int, mine: Identity | None, copy: str, token: str, kind: str, number: int
) -> Connection:
    """Connect to a receiver; with certificates by TLS, and then it must be the host of that address. Raises Trouble."""
    try:
        plain = socket.create_connection((address, port), timeout=HELLO_WITHIN)
    except OSError as error:
        raise Trouble(
            "unreached",
            f"port {port} of {address}",
            str(error),
            "open ports 49152-49215 between the hosts, or copy with --via-ssh",
        ) from error
    try:
        secured: socket.socket = plain
        if mine:
            secured = context(mine, server=False).wrap_socket(plain, server_hostname=address)
    except ssl.SSLError as error:
        plain.close()
        why = getattr(error, "verify_message", "") or str(error)
        raise Trouble(
            "insecure", f"TLS with {address}", why, "ferryman host check says what is wrong with the certificates"
        ) from error
    except OSError as error:
        plain.close()
        raise cut(error) from error
    return greet(secured, copy, token, kind, number)


def greet(plain: socket.socket, copy: str, token: str, kind: str, number: int) -> Connection:
    """Say what a fresh connection is for, and prove it. Raises Trouble; the connection is closed then."""
    try:
        plain.settimeout(HELLO_WITHIN)
        watched(plain)
        deadline = time.monotonic() + HELLO_WITHIN
        nonce = secrets.token_hex(PROOF)
        words = json.dumps({"copy": copy, "kind": kind, "number": number, "nonce": nonce}).encode()
        plain.sendall(struct.pack("!I", len(words)) + words)
        answer = _exactly(plain, 2 * PROOF, deadline)
        if not hmac.compare_digest(answer[PROOF:], _proof(token, b"receiver", words)):
            raise cut("it is not this copy's receiver")
        plain.sendall(_proof(token, b"sender", answer[:PROOF] + words))
        if _exactly(plain, 1, deadline) != b"!":
            raise cut("the receiver does not want it")
        plain.settimeout(None)
    except ssl.SSLError as error:  # TLS 1.3 tells a client here that its certificate is not wanted
        plain.close()
        raise Trouble(
            "insecure", "TLS", str(error), "ferryman host check says what is wrong with the certificates"
        ) from error
    except OSError as error:
        plain.close()
        raise cut(error) from error
    except Trouble:
        plain.close()
        raise
    return Connection(plain)


def _proof(token: str, role: bytes, words: bytes) -> bytes:
    return hmac.new(token.encode(), role + words, "sha256").digest()


def _exactly(plain: socket.socket, count: int, deadline: float) -> bytes:
    found = b""
    while len(found) < count:
        if (left := deadline - time.monotonic()) <= 0:  # whoever sends a byte now and then gets no more time
            raise TimeoutError("it did not prove in time that it is this copy's")
        plain.settimeout(left)
        if not (more := plain.recv(count - len(found))):
            raise cut("the other end closed it")
        found += more
    return found
