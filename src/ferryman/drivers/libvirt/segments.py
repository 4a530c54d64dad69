"""Are two devices on one network segment: a frame is sent out of one and listened for at the other, in the course of the visits."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

LISTEN_FOR = 1.0  # seconds; a frame on one segment arrives as soon as both programs run
SEND_FOR = 3.0  # seconds; the two visits do not begin at the same moment

# A broadcast of the ethertype that IEEE 802 sets aside for local experiments. It bears the sending device's own address,
# which the switches know at that port already: a made-up one could trip a switch that limits addresses per port.
# (_socket, because all that socket adds costs as much as starting python3.)
_COMMON = """
import os, sys, time
import _socket as socket
ETHERTYPE = 0x88B5
MAGIC = b"ferryman-segment " + sys.argv[1].encode() + b" "
"""

# Says that the first frame went out, then goes on from the background, so that nobody waits for it.
SENDER = (
    _COMMON
    + """
sending = []
for device in sys.argv[3:]:
    try:
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        link.bind((device, 0))
        own = link.getsockname()[4][:6]
        frame = (b"\\xff" * 6 + own + ETHERTYPE.to_bytes(2, "big") + MAGIC + device.encode() + b" ").ljust(60, b"\\0")
        link.send(frame)
    except OSError as error:
        print("unsent", device, error.strerror, sep="\\t")
    else:
        sending.append((link, frame))
        print("sent", device, sep="\\t")
sys.stdout.flush()
if os.fork():
    os._exit(0)
nowhere = os.open(os.devnull, os.O_RDWR)
for descriptor in range(3):
    os.dup2(nowhere, descriptor)
end = time.monotonic() + float(sys.argv[2])
while sending and time.monotonic() < end:
    time.sleep(0.02)
    for link, frame in sending:
        try:
            link.send(frame)
        except OSError:
            pass
"""
)

# Hears on every device at once; ends when each of the source's devices was heard, or after that many seconds.
LISTENER = (
    _COMMON
    + """
wanted, heard = set(sys.argv[3:]), set()
try:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
except OSError as error:
    print("deaf", error.strerror, sep="\\t")
    sys.exit()
print("listening", sep="\\t")
end = time.monotonic() + float(sys.argv[2])
while wanted - {device for device, _ in heard} and (left := end - time.monotonic()) > 0:
    link.settimeout(left)
    try:
        frame, where = link.recvfrom(2048)
    except OSError:
        continue
    body = frame[14:]
    if body.startswith(MAGIC) and where[2] != socket.PACKET_OUTGOING:
        heard.add((body[len(MAGIC):].split(b" ")[0].decode(), where[0]))
for device, where in sorted(heard):
    print("heard", device, where, sep="\\t")
"""
)


@dataclass(frozen=True)
class Task:
    """What a visit does for the probe: a program for the host's python3 and its arguments."""

    program: str = ""
    arguments: tuple[str, ...] = ()


NOTHING = Task()


def tasks(devices: Sequence[str]) -> tuple[Task, Task]:
    """What the visits at the source and at the destination do to find where these devices of the source lead."""
    if not devices:
        return NOTHING, NOTHING
    token = secrets.token_hex(8)
    return Task(SENDER, (token, str(SEND_FOR), *devices)), Task(LISTENER, (token, str(LISTEN_FOR), *devices))
