"""Two hosts that are this machine, with certificates of their own, and images that qemu-img and qemu-io make."""

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferryman.drivers.copy import SshCopier
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Image
from ferryman.model.host import Host
from lab import tls

sys.path.append(
    "/usr/lib/python3/dist-packages"
)  # libnbd and zstandard, as the endpoints have them; everything else comes first

SOURCE = Host("here", "qemu:///system")
DESTINATION = Host("there", "qemu:///system", migration_address="127.0.0.1")


def run(*command: object) -> str:
    """A program's output; it has to succeed."""
    return subprocess.run([str(one) for one in command], check=True, capture_output=True, text=True).stdout


def same(one: Path, one_format: str, other: Path, other_format: str) -> bool:
    """Whether qemu-img finds the same content in both, a witness that shares nothing with the engine."""
    result = subprocess.run(
        ["qemu-img", "compare", "-f", one_format, "-F", other_format, str(one), str(other)], capture_output=True
    )
    return result.returncode == 0


def fill(path: Path, size: int, seed: int, *, parts: int = 6, largest: int = 700_000) -> None:
    """A raw file of exactly that size with some data in it, some of it compressible, some at odd places."""
    chance = random.Random(seed)
    with open(path, "wb") as file:
        file.truncate(size)
        for number in range(parts):
            length = chance.randint(1, min(largest, size))
            file.seek(chance.randint(0, size - length))
            file.write(chance.randbytes(length) if number % 2 else bytes([chance.randint(0, 255)]) * length)


class Copies:
    """What a test asks the real copier for."""

    def __init__(self, directory: Path, certificates: Path) -> None:
        self.directory, self.certificates = directory, certificates
        self.seen: list[CopyProgress] = []

    def copier(self, **options: Any) -> SshCopier:
        """A copier with journals and certificates below the test's directory."""
        return SshCopier(
            **{
                "journals": str(self.directory / "journals"),
                "root": str(self.certificates),
                "patience": 20.0,
                **options,
            }
        )

    def task(self, source: Path, destination: Path, formats: tuple[str, str] = ("raw", "raw"), **more: Any) -> CopyTask:
        """A copy of one file to another."""
        return replace(CopyTask("test", Image(str(source), formats[0]), Image(str(destination), formats[1])), **more)

    def copy(self, task: CopyTask, *, cancelled: Callable[[], bool] = lambda: False, **options: Any) -> CopyResult:
        """Carry it out between two hosts."""
        return self.copier(**options).copy(task, SOURCE, DESTINATION, progress=self.seen.append, cancelled=cancelled)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root directory below which etc/pki has this machine's certificates."""
    root = tmp_path_factory.mktemp("certificates")
    tls.make_authority(root / "keys")
    tls.issue(root / "keys", "there", ["IP:127.0.0.1", "DNS:there"])
    tls.install(root / "keys", "there", root / "etc")
    return root


@pytest.fixture
def copies(tmp_path: Path, certificates: Path) -> Copies:
    """Copies below the test's own directory."""
    return Copies(tmp_path, certificates)
