"""`./dev fresh [--guide] [SUITE …]`: are root and apt really all that is needed? A clone of the project in a new Debian root, its demo run there."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.host import PROJECT
from lab.topology import SUITES

# How this machine reaches packages is no part of what is proved: its settings are taken along.
SETTINGS = (
    "etc/pip.conf",
    "etc/uv",
    "etc/ssl/certs",
    "usr/local/share/ca-certificates",
    "etc/resolv.conf",
    "etc/hosts",
)
PASSED_ON = ("PIP_", "UV_", "SSL_", "http", "HTTP", "no_proxy", "NO_PROXY")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove each suite in turn; exit code 1 when one fails."""
    parser = argparse.ArgumentParser(prog="./dev fresh", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{', '.join(SUITES)}; both when none is named")
    parser.add_argument(
        "--run", default="./dev demo --name fresh && ./dev lab down --name fresh", help="what is run in the clone"
    )
    parser.add_argument(
        "--guide",
        action="store_true",
        help="in place of the demo what docs/guide says, from the wheel to a proven move",
    )
    options = parser.parse_args(arguments)
    if options.guide:
        from lab import newcomer

        results = {suite: newcomer.prove(suite) for suite in options.suites or SUITES}
    else:
        results = {suite: prove(suite, options.run) for suite in options.suites or SUITES}
    for suite, seconds in results.items():
        print(f"{suite}: {'FAILED' if seconds is None else f'good, {seconds:.0f} s'}")
    return 0 if None not in results.values() else 1


def prove(suite: str, command: str) -> float | None:
    """Seconds that the command took in a new root of that suite; None when it failed. The root is removed."""
    with new_root(suite) as root:
        began = time.monotonic()
        result = subprocess.run(inside(root, command), env=environment(), stdin=subprocess.DEVNULL)
        return time.monotonic() - began if result.returncode == 0 else None


@contextmanager
def new_root(suite: str) -> Iterator[Path]:
    """A root of that suite with nothing but apt and a clone of the project in it; removed at the end."""
    root = Path(tempfile.mkdtemp(prefix=f"ferryman-fresh-{suite}-"))
    try:
        print(f"{suite}: making a root with nothing but apt in it", flush=True)
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", suite, str(root)], check=True)
        for name in SETTINGS:
            _take_along(Path("/") / name, root / name)
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(root / "srv/ferryman")], check=True)
        yield root
    finally:
        shutil.rmtree(root)


def inside(root: Path, command: str) -> list[str]:
    """The command line that runs a shell command in the clone."""
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh", str(root), command]


# In namespaces of its own, so that no mount and no process is left.
_ENTER = """
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/run"
exec chroot "$1" sh -c "cd /srv/ferryman && $2"
"""


def _take_along(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=False, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    return {"PATH": "/root/.local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", **kept}


if __name__ == "__main__":
    sys.exit(main())
