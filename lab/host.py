"""A host of the lab as the others use it: run something inside it, find its process, read what it wrote."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lab import process
from lab.topology import LABS, Topology

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Member:
    """Something with namespaces of its own: a host, or the controller, where operators and clients sit."""

    name: str
    topology: Topology

    @property
    def directory(self) -> Path:
        """Its part of the lab's directory."""
        return self.topology.directory / self.name

    @property
    def init(self) -> tuple[int, str]:
        """(pid, start time) of the process that holds its namespaces; (0, "") when it is not up."""
        try:
            pid, started = (self.directory / "init").read_text().split()
        except FileNotFoundError:
            return 0, ""
        return int(pid), started

    @property
    def up(self) -> bool:
        """Whether its namespaces are alive."""
        return process.alive(*self.init)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The full command line that runs a program inside."""
        pid, started = self.init
        if not process.alive(pid, started):
            raise RuntimeError(
                f"{self.name} of lab {self.topology.name} is not up: ./dev lab up --name {self.topology.name}"
            )
        return ["nsenter", f"--target={pid}", *self._namespaces, "--", *arguments]

    @property
    def _namespaces(self) -> tuple[str, ...]:
        return ("--mount", "--uts", "--net", "--pid", "--root", "--wd")

    def run(
        self, arguments: Sequence[str], *, check: bool = True, timeout: float = 60, text_in: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end. Raises RuntimeError with its words when it fails, unless check is off."""
        result = subprocess.run(
            self.command(arguments), capture_output=True, text=True, timeout=timeout, input=text_in,
            stdin=subprocess.DEVNULL if text_in is None else None,
        )  # fmt: skip
        if check and result.returncode != 0:
            words = (result.stderr or result.stdout).strip()
            raise RuntimeError(f"{self.name}: {' '.join(arguments)} ended with {result.returncode}: {words}")
        return result


@dataclass(frozen=True)
class Host(Member):
    """A host: its own network, mount, UTS and PID namespaces, its own libvirtd, pools and sshd."""

    @property
    def root(self) -> Path:
        """Its root as seen from the machine (through its first process, which lives in its mounts)."""
        return Path(f"/proc/{self.init[0]}/root")

    @property
    def sent(self) -> int:
        """Bytes that left this host over its migration network since it is up."""
        return int(self.run(["cat", "/sys/class/net/eth1/statistics/tx_bytes"]).stdout)

    def processes(self) -> list[int]:
        """Every process of this host, by its PID namespace, as the machine numbers them."""
        pid, started = self.init
        if not process.alive(pid, started):
            return []
        namespace = os.stat(f"/proc/{pid}/ns/pid").st_ino
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.stat(entry / "ns/pid").st_ino == namespace:
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found


@dataclass(frozen=True)
class Controller(Member):
    """Where ferryman, virsh and clients run: the machine's own files with the lab's /etc laid over."""

    @property
    def _namespaces(self) -> tuple[str, ...]:
        return (
            "--mount",
            "--net",
            "--root",
        )  # root: we may be in a chroot ourselves, which a mount namespace does not know

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Like a host's, in the project's directory."""
        return [*super().command(["env", f"--chdir={PROJECT}"]), *arguments]

    def popen(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside and return at once."""
        return subprocess.Popen(self.command(arguments), **options)


@dataclass(frozen=True)
class Lab:
    """A lab that is up, or was."""

    topology: Topology
    accelerator: str  # kvm or tcg

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.topology.name

    @property
    def directory(self) -> Path:
        """Everything of the lab on disk."""
        return self.topology.directory

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts, in order."""
        return tuple(Host(name, self.topology) for name in self.topology.hosts)

    def host(self, name: str) -> Host:
        """The host of that name. Raises KeyError naming those there are."""
        if name not in self.topology.hosts:
            raise KeyError(f"lab {self.name} has no host '{name}': it has {', '.join(self.topology.hosts)}")
        return Host(name, self.topology)

    @property
    def controller(self) -> Controller:
        """The place of operators and clients."""
        return Controller("controller", self.topology)


def save(lab: Lab) -> None:
    """Write down what `load` needs."""
    content = {"topology": asdict(lab.topology), "accelerator": lab.accelerator}
    (lab.directory / "lab.json").write_text(json.dumps(content))


def load(name: str) -> Lab:
    """The lab of that name. Raises LookupError when there is none."""
    try:
        content = json.loads((LABS / name / "lab.json").read_text())
    except FileNotFoundError:
        raise LookupError(f"there is no lab '{name}': ./dev lab up --name {name}") from None
    kept = {field.name for field in fields(Topology)} & content["topology"].keys()  # it may be an older lab's
    topology = {name: content["topology"][name] for name in kept}
    topology["hosts"] = tuple(topology["hosts"])
    topology["suites"] = tuple(topology.get("suites", ("trixie",) * len(topology["hosts"])))
    return Lab(Topology(**topology), content["accelerator"])


def labs() -> list[str]:
    """The names of all labs on this machine."""
    return sorted(entry.parent.name for entry in LABS.glob("*/lab.json"))
