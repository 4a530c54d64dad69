"""One endpoint on a host, started over ssh for the length of a copy. The engine is pushed as one file, cached by its digest."""

import contextlib
import hashlib
import importlib.util
import io
import json
import queue
import subprocess
import threading
import time
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.model.host import Host

PYTHON = "/usr/bin/python3"  # the host's own: libnbd's binding is Debian's
STAY_EVERY = 5.0  # seconds between two words that say that we are here
STARTED_WITHIN = 30.0
ABSENT = 44
# The cache is readable for its owner alone, and a file that is not the owner's own counts as absent,
# as does one that is not whole: a push that was cut, or a host that lost its power just after.
_WHERE = 'if [ "$(id -u)" = 0 ]; then d=/var/cache/ferryman; else d="${XDG_CACHE_HOME:-$HOME/.cache}/ferryman"; fi; f="$d/copy-$1.pyz"'
_START = f"""{_WHERE}
[ -f "$f" ] && [ -O "$f" ] || exit {ABSENT}
case "$(sha256sum <"$f")" in "$1"*) ;; *) exit {ABSENT};; esac
MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=268435456 exec {PYTHON} -I "$f"
"""
_PUSH = f"""{_WHERE}
umask 077
mkdir -p "$d" && find "$d" -name 'copy-*.pyz' -mtime +30 -delete
cat >"$f.$$" && mv "$f.$$" "$f" || {{ code=$?; rm -f "$f.$$"; exit $code; }}
"""


@cache
def archive() -> tuple[bytes, str]:
    """The engine as a zipapp, and its digest: the same bytes for the same sources."""
    found = importlib.util.find_spec("ferryman_copy")
    assert found is not None
    assert found.origin is not None
    directory = Path(found.origin).parent
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(
            zipfile.ZipInfo("__main__.py"), "from ferryman_copy.endpoint import main\nraise SystemExit(main())\n"
        )
        for path in sorted(directory.glob("*.py")):
            file.writestr(zipfile.ZipInfo(f"ferryman_copy/{path.name}"), path.read_bytes())
    return made.getvalue(), hashlib.sha256(made.getvalue()).hexdigest()[:24]


class Endpoint:
    """A running endpoint. Its events come in order; it ends when this is closed, or when this process ends."""

    def __init__(self, host: Host, role: str, events: "queue.Queue[tuple[str, dict[str, Any]]]") -> None:
        """Start it; its events go to that queue, as its role. Raises errors.Unreachable, Timeout or DriverError naming what it lacks."""
        self.host, self.role = host, role
        self._told = events
        self._greeting: queue.Queue[dict[str, Any]] = queue.Queue()
        self.progress: dict[str, Any] = {}  # what it told last, and "at" which steady time
        self._lock = threading.Lock()
        self._start()
        if self._wait_for_hello() == ABSENT:
            self.close()
            self._push()
            self._start()
            if self._wait_for_hello() is not None:
                raise self._gone()
        threading.Thread(target=self._stay, daemon=True).start()

    def _start(self) -> None:
        command = ssh.command_for(self.host, ["sh", "-c", _START, "sh", archive()[1]])
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except FileNotFoundError as error:
            raise errors.DriverError(
                f"ssh to host {self.host.name}",
                f"no program {command[0]} on this machine",
                "apt install openssh-client",
            ) from error
        self._words: list[str] = []
        self._greeting = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._process, self._greeting), daemon=True)
        self._reader.start()
        self._listener = threading.Thread(target=self._read_words, args=(self._process, self._words), daemon=True)
        self._listener.start()

    def _wait_for_hello(self) -> int | None:
        """None when it greeted; else how it ended."""
        try:
            event = self._greeting.get(timeout=STARTED_WITHIN)
        except queue.Empty:
            self.close()
            raise errors.Timeout(f"copy endpoint on host {self.host.name}", f"it did not start within {STARTED_WITHIN:.0f} s",
                                 "look whether the host hangs") from None  # fmt: skip
        if event["event"] == "hello":
            self.hello = event
            return None
        if event["event"] == "error":
            self.close()
            raise errors.DriverError(f"host {self.host.name}: {event['what']}", event["why"], event["remedy"])
        code = self._process.wait()
        if code != ABSENT:
            self.close()
            raise self._gone()
        return code

    def _push(self) -> None:
        command = ssh.command_for(self.host, ["sh", "-c", _PUSH, "sh", archive()[1]])
        try:
            done = subprocess.run(
                command, input=archive()[0], capture_output=True, timeout=STARTED_WITHIN, start_new_session=True
            )
        except subprocess.TimeoutExpired as error:
            raise errors.Timeout(
                f"copy engine to host {self.host.name}",
                "it could not be brought there in time",
                "look whether the host hangs",
            ) from error
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip().splitlines()
            raise errors.DriverError(f"copy engine to host {self.host.name}", words[-1] if words else f"code {done.returncode}",
                                     "make /var/cache writable there (its owner: who ferryman logs in as)")  # fmt: skip

    def _read(self, process: "subprocess.Popen[bytes]", greeting: "queue.Queue[dict[str, Any]]") -> None:
        """The first event greets, or says what is missing; all later ones go to the queue."""
        assert process.stdout is not None
        greeted = False
        with contextlib.suppress(ValueError, OSError), process.stdout:
            for line in process.stdout:
                if not greeted and not line.startswith(b"{"):
                    continue  # what a login shell of that host says of itself
                event = json.loads(line)
                if not greeted:
                    greeting.put(event)
                    greeted = event["event"] == "hello"
                elif event["event"] == "progress":
                    self.progress = {**event, "at": time.monotonic()}
                else:
                    self._told.put((self.role, event))
        if greeted:
            self._told.put((self.role, {"event": "gone"}))
        else:
            greeting.put({"event": "gone"})

    @staticmethod
    def _read_words(process: "subprocess.Popen[bytes]", words: list[str]) -> None:
        assert process.stderr is not None
        with contextlib.suppress(ValueError, OSError), process.stderr:
            for line in process.stderr:
                words.append(line.decode(errors="replace").rstrip())
                del words[:-20]

    def _stay(self) -> None:
        process = self._process
        while process.poll() is None:
            time.sleep(STAY_EVERY)
            if process is self._process and not self._send({"do": "stay"}):
                return

    def _send(self, order: dict[str, Any]) -> bool:
        assert self._process.stdin is not None
        try:
            with self._lock:
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def order(self, do: str, **facts: object) -> None:
        """Tell it to do something. A dead endpoint is noticed when its events are awaited."""
        self._send({"do": do, **facts})

    def _gone(self) -> errors.DriverError:
        self._listener.join(1.0)
        words = next((word for word in reversed(self._words) if word), f"it ended with code {self._process.poll()}")
        if self.host.effective_ssh and self._process.poll() == 255:
            return errors.Unreachable(
                f"ssh to host {self.host.name}",
                words,
                f"try: ssh {self.host.effective_ssh} true; it must need no password",
            )
        return errors.Unreachable(
            f"copy endpoint on host {self.host.name}", words, "ask for the copy again: it goes on where it was"
        )

    def gone(self) -> errors.DriverError:
        """Why it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return self._gone()

    def leave(self) -> None:
        """Let it end; `close` waits for that."""
        with contextlib.suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.close()

    def close(self, within: float = 10.0) -> None:
        """Have it end."""
        self.leave()
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5.0)
        self._listener.join(5.0)
