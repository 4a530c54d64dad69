"""One try of an operator's hook: a command of this machine, or a signed HTTP POST.

Neither may take longer than its time limit, whatever it does: a command is ended with all that it started. What cannot be ended is left
alone in its thread: a command on a mount that hangs, an HTTP request (urllib's own limit is one for each read, and looking a name up has none).
"""

import hmac
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPException
from threading import Thread
from typing import IO, Any

from ferryman.model.hook import Answer, Ended, Hook
from ferryman.model.units import MIB, format_size
from ferryman.plain import to_json

VETO_CODE = 10  # exit code of a command that says no
VETO_STATUS = 409  # HTTP status of a webhook that says no
_LATER = (408, 425, 429)  # statuses, beside all of 500, after which another try may end otherwise
MOST_SAID = 16 * MIB  # that a command may print
LOOK_EVERY = 0.2  # seconds between two looks at how much that is
ENDS_WITHIN = 5.0  # seconds that a command which is killed may take to be gone
_WORDS = 300  # characters of what a hook says
_KEPT = ("FERRYMAN_HOOK_SECRET",)  # variables that commands do not get
_TOLD = ("event", "event_id", "request", "guest", "source", "destination", "method")  # facts that they get as variables


def tell(hook: Hook, facts: Mapping[str, Any], secret: str) -> Answer:
    """Try once. The secret signs what a webhook gets; a command gets none."""
    body = to_json(facts).encode()
    if hook.webhook:
        return _within(hook.time_limit, lambda: _post(hook, facts, body, secret), "no answer")
    return _within(
        hook.time_limit + ENDS_WITHIN, lambda: _run(hook, facts, body), "it neither ended nor could be ended"
    )


def _within(seconds: float, attempt: Callable[[], Answer], otherwise: str) -> Answer:
    answers: list[Answer] = []
    thread = Thread(target=lambda: answers.append(attempt()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else Answer(Ended.TIMED_OUT, f"{otherwise} within {seconds:g} s", again=True)


def _words(said: bytes | str) -> str:
    """The last line of it, fit to be shown in a terminal."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "".join(sign if sign.isprintable() else " " for sign in lines[-1])[:_WORDS] if lines else ""


# Commands


def _run(hook: Hook, facts: Mapping[str, Any], body: bytes) -> Answer:
    """Input and output are files: a child that keeps a pipe open would have us wait for it."""
    try:
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(body)
            given.seek(0)
            process = subprocess.Popen(
                hook.command, stdin=given, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
                env=_environment(facts),
            )  # fmt: skip
            return _answer(process, hook, said)
    except OSError as error:
        return Answer(Ended.FAILED, f"it cannot be started: {error}")


def _answer(process: "subprocess.Popen[bytes]", hook: Hook, said: IO[bytes]) -> Answer:
    if (code := _ended(process, hook.time_limit, said)) is None:
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so the group is still its own
        process.wait()
        if _size(said) > MOST_SAID:
            return Answer(Ended.FAILED, f"it was ended: it printed more than {format_size(MOST_SAID)}")
        return Answer(Ended.TIMED_OUT, f"it did not end within {hook.time_limit:g} s", again=True)
    said.seek(max(said.seek(0, os.SEEK_END) - 4096, 0))
    words = _words(said.read())
    if code == 0:
        return Answer(Ended.GOOD)
    if code == VETO_CODE:
        return Answer(Ended.VETO, words)
    return Answer(Ended.FAILED, f"it ended with {code}" + (f": {words}" if words else ""), again=True)


def _ended(process: "subprocess.Popen[bytes]", time_limit: float, said: IO[bytes]) -> int | None:
    """Its exit code; None: it takes too long, or what it prints takes too much of this machine's room."""
    deadline = time.monotonic() + time_limit
    while (left := deadline - time.monotonic()) > 0 and _size(said) <= MOST_SAID:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(min(left, LOOK_EVERY))
    return process.poll()


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _environment(facts: Mapping[str, Any]) -> dict[str, str]:
    ours = {f"FERRYMAN_{name.upper()}": str(facts.get(name, "")) for name in _TOLD}
    return {name: value for name, value in os.environ.items() if name not in _KEPT} | ours


# Webhooks


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What the header Ferryman-Signature says: HMAC-SHA256 over the timestamp, a dot and the body."""
    return "sha256=" + hmac.digest(secret.encode(), timestamp.encode() + b"." + body, "sha256").hex()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What was signed for one receiver is not sent to another."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(hook: Hook, facts: Mapping[str, Any], body: bytes, secret: str) -> Answer:
    timestamp = f"{time.time():.0f}"
    request = urllib.request.Request(hook.webhook, body, _headers(facts, timestamp))
    request.add_unredirected_header("Ferryman-Signature", signature(secret, timestamp, body))
    return _answered(request, hook.time_limit)


def _headers(facts: Mapping[str, Any], timestamp: str) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": "ferryman",
        "Ferryman-Event": facts["event"],
        "Ferryman-Event-Id": facts["event_id"],
        "Ferryman-Timestamp": timestamp,
    }


def _answered(request: urllib.request.Request, time_limit: float) -> Answer:
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=time_limit):
            return Answer(Ended.GOOD)
    except urllib.error.HTTPError as error:
        return _refused(error)
    except TimeoutError:
        return Answer(Ended.TIMED_OUT, f"no answer within {time_limit:g} s", again=True)
    except (OSError, ValueError, HTTPException) as error:
        why = getattr(error, "reason", error)
        if isinstance(why, TimeoutError):
            return Answer(Ended.TIMED_OUT, f"no answer within {time_limit:g} s", again=True)
        return Answer(Ended.FAILED, _words(str(why)), again=True)


def _refused(error: urllib.error.HTTPError) -> Answer:
    with error:
        try:
            words = _words(error.read(4096))
        except (OSError, HTTPException):
            words = ""
    if error.code == VETO_STATUS:
        return Answer(Ended.VETO, words)
    told = f"status {error.code} {error.reason}" + (f": {words}" if words else "")
    return Answer(Ended.FAILED, told, again=error.code in _LATER or error.code >= 500)
