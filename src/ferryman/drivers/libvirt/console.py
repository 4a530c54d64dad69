"""A guest's console listened to, and touched, to see whether anything answers there. One that somebody has open is left alone."""

import time
from contextlib import suppress
from typing import Any

import libvirt

from ferryman.drivers.libvirt.errors import code, lost
from ferryman.ports import Console

STALE_FOR = 0.3  # seconds in which there may come what was written before, when nobody read it
LISTENS_FOR = 2.0  # seconds: QEMU looks only once a second whether somebody has opened the console
_LOOK_EVERY = 0.05
_WOULD_BLOCK = -2
# A terminal echoes them, and a line that somebody has typed and left is as it was before.
_BLANK_AND_RUB_OUT = b" \x7f"
_ENTER = b"\r"


def console(link: libvirt.virConnect, domain: libvirt.virDomain, *, starting: bool) -> Console:
    """Whether its console answers.

    `starting`: it has just been started. Then whatever is written is an answer, and a key goes to a console only that says
    nothing: a boot loader that counts down is not to be stopped. Enter alone: it waits for nothing else.
    """
    stream = link.newStream(libvirt.VIR_STREAM_NONBLOCK)
    try:
        domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_SAFE)
    except libvirt.libvirtError as error:
        if lost(error):
            raise
        return Console.BUSY if code(error) == libvirt.VIR_ERR_OPERATION_FAILED else Console.NONE
    try:
        if starting:
            if _says(stream):
                return Console.ANSWERS
        else:
            _drain(stream)
        for keys in (_ENTER,) if starting else (_BLANK_AND_RUB_OUT, _ENTER):
            stream.send(keys)
            if _says(stream):
                return Console.ANSWERS
        return Console.SILENT
    finally:
        with suppress(libvirt.libvirtError):
            stream.abort()


def _says(stream: libvirt.virStream) -> bool:
    deadline = time.monotonic() + LISTENS_FOR
    while time.monotonic() < deadline:
        if _read(stream):
            return True
    return False


def _drain(stream: libvirt.virStream) -> None:
    deadline = time.monotonic() + STALE_FOR
    while time.monotonic() < deadline:
        _read(stream)


def _read(stream: libvirt.virStream) -> bool:
    """Whether something is there; waits a little where nothing is, or nothing will be any more."""
    data: Any = stream.recv(4096)
    if data and data != _WOULD_BLOCK:
        return True
    time.sleep(_LOOK_EVERY)
    return False
