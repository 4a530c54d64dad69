"""This machine as ferryman needs it: libraries, programs, the state directory, the clock, the client's certificates."""

import ctypes
import importlib.metadata
import os
import platform
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ferryman.model.host import Answer, Check
from ferryman.model.units import MIB, format_size

HERE = "here"
WANTED_ROOM = 64 * MIB  # bytes in the state directory: years of moves
WARN_BEFORE = 30 * 86400.0  # seconds before a certificate expires


def good(thing: str, detail: str) -> Check:
    """A line that is all right."""
    return Check(HERE, thing, Answer.GOOD, detail)


def missing(thing: str, detail: str, remedy: str) -> Check:
    """A line that is not."""
    return Check(HERE, thing, Answer.MISSING, detail, remedy)


def not_checked(thing: str, why: str, remedy: str = "") -> Check:
    """A line that could not be looked at."""
    return Check(HERE, thing, Answer.NOT_CHECKED, f"because {why}", remedy)


def libraries() -> Iterator[Check]:
    """Python and what ferryman is built upon; the libvirt binding is loaded, because its library may be missing."""
    yield good("python", f"{platform.python_version()} at {sys.executable}")
    for name in ("ferryman", "dbos", "sqlalchemy", "msgspec", "typer", "rich", "cryptography"):
        try:
            yield good(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield missing(name, "it is not installed", "pipx reinstall ferryman")
    try:
        from ferryman.drivers.libvirt.library import versions
    except ImportError as error:
        yield missing(
            "libvirt",
            str(error),
            "apt install libvirt0; or libvirt-dev, gcc and pkg-config, then pipx reinstall ferryman",
        )
    else:
        yield good("libvirt", versions())


_PROGRAMS = (
    ("ssh", "openssh-client", "qemu+ssh, and looking at what libvirt does not tell"),
    ("ip", "iproute2", "finding a guest's address by its MAC"),
)


def programs() -> Iterator[Check]:
    """Programs that ferryman runs on this machine; virsh it does not, its remedies do."""
    for name, package, purpose in _PROGRAMS:
        if path := shutil.which(name):
            yield good(name, path)
        else:
            yield missing(name, f"no such program, needed for {purpose}", f"apt install {package}")
    path = shutil.which("virsh")
    yield good("virsh", path or "not here, and not needed: remedies name it, apt install libvirt-clients has it")


def settings(path: Path, *, secret: bool) -> Check:
    """The settings file; one with secrets in it is nobody else's."""
    if not path.exists():
        return good("settings", "no file: all defaults")
    if secret and path.stat().st_mode & 0o077:
        return missing("settings", f"others may read {path} (mode {path.stat().st_mode & 0o777:o}): secrets of hooks are in there", f"chmod 600 {path}")  # fmt: skip
    return good("settings", str(path))


def state_directory(directory: Path) -> Iterator[Check]:
    """Whether it is there (or can be made), is ours alone, can be written, and has room."""
    thing = f"state directory {directory}"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = directory / f".doctor-{os.getpid()}"
        probe.write_text("")
        probe.unlink()
        about, room = directory.stat(), shutil.disk_usage(directory).free
    except OSError as error:
        yield missing(thing, str(error), "set FERRYMAN_STATE_DIRECTORY to a directory of yours, or run as root")
        return
    if about.st_mode & 0o077:
        yield missing(thing, f"others may enter it (mode {about.st_mode & 0o777:o}): definitions with passwords are in there",
                      f"chmod 700 {directory}")  # fmt: skip
    elif room < WANTED_ROOM:
        yield missing(
            thing, f"{format_size(room)} free", f"free {format_size(WANTED_ROOM)} there, or name another directory"
        )
    else:
        yield good(thing, f"writable, {format_size(room)} free")


STA_UNSYNC = 0x0040  # of linux/timex.h


def clock() -> Check:
    """Whether the kernel takes the clock for synchronised: what timedatectl says too, without systemd."""
    try:
        timex = ctypes.create_string_buffer(512)  # struct timex, zeroed: modes 0 reads only; 208 bytes on 64 bit
        state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (OSError, AttributeError) as error:
        return not_checked("clock", f"this system does not tell: {error}")
    if state < 0:
        return not_checked("clock", os.strerror(ctypes.get_errno()))
    long = ctypes.sizeof(ctypes.c_long)
    status = int.from_bytes(
        timex.raw[5 * long : 5 * long + 4], "little"
    )  # after modes, offset, freq, maxerror, esterror
    if status & STA_UNSYNC:
        return missing(
            "clock",
            "nothing keeps it: the kernel calls it not synchronised",
            "apt install chrony (or systemd-timesyncd)",
        )
    return good("clock", "synchronised")


def certificates(paths: Sequence[Path], now: float | None = None) -> Iterator[Check]:
    """The client's certificates for qemu+tls. `paths`: CA, certificate, key."""
    lacking = [str(path) for path in paths if not os.access(path, os.R_OK)]
    if lacking:
        yield missing("client certificates", f"cannot read {', '.join(lacking)}",
                      "ferryman host prepare HOST makes them; or register the hosts with qemu+ssh")  # fmt: skip
        return
    for path in paths[:2]:
        yield _expiry(path, time.time() if now is None else now)


def _expiry(path: Path, now: float) -> Check:
    thing = f"certificate {path}"
    try:
        answer = subprocess.run(
            ["openssl", "x509", "-noout", "-enddate", "-in", str(path)], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return not_checked(thing, f"openssl does not run here: {error}", "apt install openssl")
    if answer.returncode:
        return missing(
            thing,
            (answer.stderr.strip() or "it is no certificate").splitlines()[0],
            "ferryman host prepare HOST makes a new one",
        )
    until = answer.stdout.strip().partition("=")[2]
    left = ssl.cert_time_to_seconds(until) - now
    if left < 0:
        return missing(thing, f"it expired on {until}", "ferryman host prepare HOST makes a new one")
    if left < WARN_BEFORE:
        return missing(thing, f"it expires on {until}", "ferryman host prepare HOST makes a new one")
    return good(thing, f"valid until {until}")


def client_certificates() -> tuple[Path, Path, Path]:
    """Where libvirt looks for them: in the home of a user who has them there, else in the system's place."""
    home = Path("~/.pki/libvirt").expanduser()
    mine = (home / "cacert.pem", home / "clientcert.pem", home / "clientkey.pem")
    if os.geteuid() != 0 and all(path.exists() for path in mine):
        return mine
    system = Path("/etc/pki")
    return (system / "CA/cacert.pem", system / "libvirt/clientcert.pem", system / "libvirt/private/clientkey.pem")
