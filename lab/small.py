"""A small file system that the machine and the controller both see under one path, so that it can be filled."""

import ctypes
import os
import subprocess
from pathlib import Path

from lab.host import Lab

_OPEN_TREE, _MOVE_MOUNT, _HERE, _CLONE, _EMPTY_PATH = 428, 429, -100, 1, 4  # of Linux, the same on every architecture

# Runs in the controller: hangs the open mount up under the path.
_HANG_UP = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall({_MOVE_MOUNT}, int(sys.argv[1]), b"", {_HERE}, sys.argv[2].encode(), {_EMPTY_PATH}):
    sys.exit(os.strerror(ctypes.get_errno()))
"""


def make(lab: Lab, path: Path, size: str) -> None:
    """An empty tmpfs, so large, such as 8m, at a new path of the lab's directory."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    libc = ctypes.CDLL(None, use_errno=True)
    tree = libc.syscall(_OPEN_TREE, _HERE, str(path).encode(), _CLONE)
    if tree < 0:
        raise OSError(ctypes.get_errno(), "open_tree")
    try:
        command = lab.controller.command(["/usr/bin/python3", "-c", _HANG_UP, str(tree), str(path)])
        subprocess.run(command, pass_fds=[tree], check=True)
    finally:
        os.close(tree)


def remove(lab: Lab, path: Path) -> None:
    """Take it down at both."""
    subprocess.run(["umount", "--lazy", str(path)], check=False)
    lab.controller.run(["umount", "--lazy", str(path)], check=False)


def remove_all(directory: Path) -> None:
    """Those that a crashed test left below a lab's directory."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        at = line.split()[1]
        if at.startswith(f"{directory}/"):
            subprocess.run(["umount", "--lazy", at], check=False)
