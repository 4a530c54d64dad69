"""KVM or TCG? Decided by running guest instructions under a time limit: a /dev/kvm can open and never run a guest."""

import os
import subprocess
import tempfile
from pathlib import Path

# A boot sector: mov al,'K'; out 0xe9,al; hlt. QEMU's debug console writes what is sent to port 0xe9.
_BOOT_SECTOR = bytes.fromhex("b04be6e9f4").ljust(510, b"\0") + b"\x55\xaa"
TIME_LIMIT = 5.0  # seconds


def kvm_runs(tree: Path) -> bool:
    """Whether QEMU of that root tree runs a guest instruction under KVM here."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    with tempfile.TemporaryDirectory() as directory:
        disk, console = Path(directory, "disk"), Path(directory, "console")
        disk.write_bytes(_BOOT_SECTOR)
        qemu = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "16", "-display", "none", "-nodefaults",
                "-drive", f"file={disk},format=raw,if=ide", "-debugcon", f"file:{console}"]  # fmt: skip
        libraries = f"{tree}/usr/lib/x86_64-linux-gnu"
        loader = f"{tree}/lib64/ld-linux-x86-64.so.2"
        command = [loader, "--library-path", libraries, f"{tree}/usr/bin/{qemu[0]}", "-L", f"{tree}/usr/share/qemu",
                   "-L", f"{tree}/usr/share/seabios", *qemu[1:]]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            pass  # it halts for ever when all is well; what counts is the console
        finally:
            process.kill()
            process.wait()
        return console.exists() and console.read_bytes().startswith(b"K")
