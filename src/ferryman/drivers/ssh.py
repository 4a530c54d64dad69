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
    """The command line that runs a program on a host; the program itself on the local one."""
    if not host.effective_ssh:
        return list(arguments)
    return ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_WITHIN}", "-o", "ServerAliveInterval=3",
            "-o", "ServerAliveCountMax=3", host.effective_ssh, "--", shlex.join(arguments)]  # fmt: skip


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
        raise errors.Unreachable(
            what,
            words[-1] if words else "the connection failed",
            f"try: ssh {host.effective_ssh} true; it must need no password. Another target: ferryman host add … --ssh USER@ADDRESS",
        )
    return Answer(result.returncode, result.stdout, result.stderr)
