"""What an operator wants asked once a guest runs at its destination: a TCP port, an HTTP address, a command of theirs."""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import urlsplit

from ferryman import errors
from ferryman.drivers import address

ONE_TRY = 10.0  # seconds for a connection or an answer
COMMAND_WITHIN = 120.0  # seconds for one run of a command
PAUSE = 1.0  # seconds between two tries
_KINDS = "write tcp:ADDRESS:PORT, http:URL such as http:https://10.0.0.5/health, or command:WORDS"


def parse(check: str) -> Callable[[], str]:
    """One try of a check: empty when it is good, else what was seen. Raises errors.BadInput."""
    kind, _, rest = check.partition(":")
    if kind == "tcp" and rest:
        host, port = address.parse(rest)
        if port:
            return lambda: _tcp(host, port)
    if kind == "http" and urlsplit(rest).scheme in ("http", "https") and urlsplit(rest).hostname:
        return lambda: _http(rest)
    if kind == "command" and rest.strip():
        return lambda: _command(rest)
    raise errors.BadInput(f"--check '{check}'", "it is no check", _KINDS)


def ask(check: str, within: float) -> str:
    """Try until it is good, for at most so many seconds; empty when it was, else what was seen last."""
    try_it, deadline = parse(check), time.monotonic() + within
    while (seen := try_it()) != "" and time.monotonic() + PAUSE < deadline:
        time.sleep(PAUSE)
    return seen


def _tcp(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), ONE_TRY).close()
    except OSError as error:
        return str(error)
    return ""


def _http(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=ONE_TRY):
            return ""
    except urllib.error.HTTPError as error:
        return f"status {error.code} {error.reason}"
    except (OSError, ValueError) as error:  # http.client's own errors are ValueErrors or OSErrors too
        return str(getattr(error, "reason", error))


def _command(words: str) -> str:
    try:
        result = subprocess.run(
            ["sh", "-c", words], capture_output=True, text=True, timeout=COMMAND_WITHIN, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"it did not end within {COMMAND_WITHIN:.0f} s"
    said = (result.stderr or result.stdout).strip().splitlines()
    return "" if result.returncode == 0 else f"it ended with {result.returncode}" + (f": {said[-1]}" if said else "")
