"""How fast a link carries, measured by a short transfer from one host to the other: it disturbs, so only on request."""

import secrets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.model.host import Host
from ferryman.model.site import LinkSpeed
from ferryman.model.units import MIB

SECONDS, BYTES = 1.0, 64 * MIB  # whichever is reached first ends the transfer
PORTS = (49215, 49206)  # the far end of the migration range, downwards: libvirt takes its ports from the other one
PATIENCE = 8.0  # seconds for the sender to find the receiver
GIVEN_UP_AFTER = 20.0  # seconds for one end in all

# Listens on a free port, says which, and takes one connection that bears the token. The rate is that of what arrived
# after the first tenth of a second: buffers and token buckets fill before it.
_RECEIVER = """
import socket, sys, time
address, first, last, token, patience = sys.argv[1:]
for port in range(int(first), int(last) - 1, -1):
    family, kind, protocol, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.bind(where)
        listening.listen(4)
        break
    except OSError as error:
        why = error
else:
    raise why
print("listening", port, sep="\\t", flush=True)
end = time.monotonic() + float(patience)
while True:
    listening.settimeout(max(end - time.monotonic(), 0.01))
    link, _ = listening.accept()
    link.settimeout(3)
    if link.recv(len(token), socket.MSG_WAITALL) == token.encode():
        break
    link.close()
room = bytearray(1 << 18)
total, steady = 0, None
began = last = time.monotonic()
try:
    while got := link.recv_into(room):
        total += got
        last = time.monotonic()
        if steady is None and last - began > 0.1:
            steady = (last, total)
except OSError:
    pass
since, before = steady if steady and last - steady[0] > 0.1 else (began, 0)
print("rate", (total - before) / max(last - since, 1e-6), sep="\\t")
"""

# Random bytes, because some links compress. What its kernel still holds when the time is over is thrown away (linger 0).
_SENDER = """
import os, socket, struct, sys, time
address, port, token, seconds, limit = sys.argv[1:]
link = socket.create_connection((address, int(port)), 5)
link.sendall(token.encode())
block, sent, end = os.urandom(1 << 18), 0, time.monotonic() + float(seconds)
while sent < int(limit) and (left := end - time.monotonic()) > 0:
    link.settimeout(left)
    try:
        sent += link.send(block)
    except TimeoutError:
        break
if sent < int(limit):
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
link.close()
"""


def measure(source: Host, destination: Host) -> LinkSpeed:
    """From the source to the destination's migration address: at most SECONDS and BYTES of random data. Never raises."""
    address, token = destination.effective_migration_address, secrets.token_hex(16)
    if not address:
        return LinkSpeed(None, f"host {destination.name} has no migration address")
    try:
        return _measure(source, destination, address, token)
    except OSError as error:
        return LinkSpeed(None, str(error))


def _measure(source: Host, destination: Host, address: str, token: str) -> LinkSpeed:
    with _receiver(destination, address, token) as receiver:
        assert receiver.stdout is not None
        word, _, port = receiver.stdout.readline().strip().partition("\t")
        if word != "listening":
            return LinkSpeed(None, f"{destination.name} says: {_last_words(receiver.communicate()[1])}")
        sender = ["python3", "-ISc", _SENDER, address, port, token, str(SECONDS), str(BYTES)]
        try:
            sent = ssh.run(source, sender, timeout=GIVEN_UP_AFTER)
        except errors.DriverError as error:
            return LinkSpeed(None, error.why)
        if sent.code != 0:
            return LinkSpeed(None, f"{source.name} says: {_last_words(sent.err)}")
        out, err = receiver.communicate()
    word, _, rate = out.strip().partition("\t")
    return LinkSpeed(float(rate)) if word == "rate" else LinkSpeed(None, f"{destination.name} says: {_last_words(err)}")


@contextmanager
def _receiver(destination: Host, address: str, token: str) -> Iterator[subprocess.Popen[str]]:
    """The program at the destination, ended at the latest when it is given up."""
    program = ["python3", "-ISc", _RECEIVER, address, *map(str, PORTS), token, str(PATIENCE)]
    with subprocess.Popen(
        ssh.command_for(destination, program), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as process:  # fmt: skip
        given_up = threading.Timer(GIVEN_UP_AFTER, process.kill)
        given_up.start()
        try:
            yield process
        finally:
            given_up.cancel()
            process.kill()


def _last_words(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "nothing"
