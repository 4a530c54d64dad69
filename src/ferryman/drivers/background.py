"""Starting Python anew in a session of its own: it lives on when the terminal and whoever started it are gone."""

import subprocess
import sys
from pathlib import Path

_started: list[subprocess.Popen[str]] = []  # they outlive us: nobody waits for them


def start(module: str, text: str, log: Path) -> str:
    """Run `python -m MODULE`, hand it `text`, and return the first line it writes; empty: it ended without one.

    What it writes to its standard error is appended to `log`.
    """
    with open(log, "a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            start_new_session=True,
        )  # fmt: skip
    _started.append(process)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(text)
        process.stdin.close()
        return process.stdout.readline()
    except BrokenPipeError:
        return ""
    except KeyboardInterrupt:  # it has not said that it took anything over
        process.terminate()
        raise


def last_line(log: Path) -> str:
    """The end of what such processes wrote."""
    lines = log.read_text().strip().splitlines()
    return lines[-1] if lines else ""
