"""Running a program on a host with the ssh program, which reads the same configuration and jump hosts as qemu+ssh does."""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from ferryman import errors
from ferryman.model.host import Host

CONNECT_WITHIN = 5  # seconds


@dataclass(frozen=True)
class Answer:
    """What a program wrote and how it ended."""

    code: int
    out: str
    err: str


def command_for(host: Host, arguments: Sequence[str]) -> list[str]:
    """The command line that runs a program on a host; the program itself on the local one. Raises errors.DriverError."""
    if not host.effective_ssh:
        return list(arguments)
    if host.effective_ssh.startswith("-"):
        raise errors.DriverError(f"ssh to host {host.name}", f"its target '{host.effective_ssh}' would be an option of ssh, which can run programs",
                                 "name another: ferryman host add … --ssh USER@ADDRESS")  # fmt: skip
    return ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_WITHIN}", "-o", "ServerAliveInterval=3",
            "-o", "ServerAliveCountMax=3", host.effective_ssh, "--", shlex.join(arguments)]  # fmt: skip


def remedy(why: str, target: str) -> str:
    """What makes ssh work that ended with these words."""
    if "host key verification" in why.lower():
        first = f"log in once by hand and compare the key that it shows: ssh {target} true"
    elif "permission denied" in why.lower():
        first = f"let this machine's key in: ssh-copy-id {target}, or put ~/.ssh/id_*.pub into ~/.ssh/authorized_keys there; then ssh {target} true must ask nothing"
    else:
        first = f"try: ssh {target} true; it must need no password"
    return f"{first}. Another target: ferryman host add … --ssh USER@ADDRESS"


def run(host: Host, arguments: Sequence[str], *, timeout: float = 20.0, text: str | None = None) -> Answer:
    """Run a program on a host (the local host: directly). Raises errors.Unreachable, or Timeout: outcome unknown."""
    command = command_for(host, arguments)
    what = f"ssh to host {host.name}"
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, input=text or "", start_new_session=True
        )  # a Ctrl-C at the terminal is a wish for us, not for ssh
    except subprocess.TimeoutExpired as error:
        raise errors.Timeout(
            what,
            f"'{arguments[0]}' did not end within {timeout:.0f} s",
            "look whether the host, or a mount of it, hangs",
        ) from error
    except FileNotFoundError as error:
        raise errors.DriverError(
            what, f"no program {command[0]} on this machine", "apt install openssh-client"
        ) from error
    if host.effective_ssh and result.returncode == 255:
        words = result.stderr.strip().splitlines()
        why = words[-1] if words else "the connection failed"
        raise errors.Unreachable(what, why, remedy(why, host.effective_ssh))
    return Answer(result.returncode, result.stdout, result.stderr)
