"""Data connections through ssh, by way of this machine: for hosts without certificates or open ports."""

import contextlib
import os
import socket
import subprocess

from ferryman import errors
from ferryman.drivers import ssh
from ferryman.model.host import Host


class Tunnel:
    """One connection from a port of one host's loopback to a port of another's; the two ssh programs are joined by pipes."""

    def __init__(self, one: Host, one_port: int, other: Host, other_port: int) -> None:
        """Raises errors.Unreachable."""
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            if not one.effective_ssh:
                self._start(other, other_port, *self._here(one_port))
            elif not other.effective_ssh:
                self._start(one, one_port, *self._here(other_port))
            else:
                (read_one, write_one), (read_other, write_other) = os.pipe(), os.pipe()
                self._start(one, one_port, read_other, write_one)
                self._start(other, other_port, read_one, write_other)
        except OSError as error:
            self.close()
            raise errors.Unreachable(
                f"tunnel from host {one.name} to host {other.name}", str(error),
                "look whether both copy endpoints still run, then ask for the copy again: it goes on where it was",
            ) from error  # fmt: skip

    @staticmethod
    def _here(port: int) -> tuple[int, int]:
        end = socket.create_connection(("127.0.0.1", port), timeout=10).detach()
        os.set_blocking(end, True)
        return end, os.dup(end)

    def _start(self, host: Host, port: int, source: int, target: int) -> None:
        command = ssh.command_for(host, [])
        command[command.index("--") :] = []
        command[-1:-1] = ["-W", f"127.0.0.1:{port}"]
        try:
            self._processes.append(
                subprocess.Popen(
                    command, stdin=source, stdout=target, stderr=subprocess.DEVNULL, start_new_session=True
                )
            )
        finally:
            os.close(source)
            os.close(target)

    def close(self) -> None:
        """End it."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
