"""Preparing a machine: looked at in one visit, keys made there in another, everything changed in a third that undoes itself.

Each visit runs functions of on_host.sh. What is needed to put everything back lies on the machine, whoever goes away meanwhile.
"""

import base64
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ferryman.drivers import certificates, ssh
from ferryman.drivers.certificates import Authority
from ferryman.errors import Aborted, DriverError, NeedsAttention, Refused, Timeout, Unreachable
from ferryman.model.host import Host
from ferryman.model.preparation import (
    HOST_PLACES,
    TLS_PORT,
    Access,
    Change,
    File,
    Listen,
    MachineState,
    Manager,
    Place,
    Places,
    Restart,
    Service,
    Setting,
)

FUNCTIONS = (Path(__file__).parent / "on_host.sh").read_text()
KEPT = "/var/backups/ferryman"  # at a host
CONFIGURATION = ("/etc/libvirt/qemu.conf", "/etc/libvirt/libvirtd.conf", "/etc/default/libvirtd")
ACT_WITHIN = 150.0  # seconds


@dataclass(frozen=True)
class Machine:
    """A machine to prepare: a host, or ferryman's own (`is_controller`), which has no libvirtd to care for."""

    host: Host
    kept: str = KEPT
    places: Places = HOST_PLACES
    is_controller: bool = False


def survey(machine: Machine, authorities: Mapping[Service, Authority | None], directories: Sequence[str] = ()) -> MachineState:  # fmt: skip
    """Look at a machine; nothing is changed. Raises errors.DriverError."""
    files = [*machine.places.files, *(() if machine.is_controller else CONFIGURATION)]
    words = ["survey", str(TLS_PORT), *files, "--", *directories]
    lines = _run(machine, shlex.join(words), timeout=40)
    if ["end"] not in lines:
        raise DriverError(
            f"host {machine.host.name}",
            "it did not answer as expected",
            f"look what it prints at a login: ssh {machine.host.effective_ssh} true",
        )

    def all_of(kind: str) -> list[list[str]]:
        return [line[1:] for line in lines if line[0] == kind]

    def one(kind: str) -> str:
        return next((values[0] for values in all_of(kind) if values), "")

    seen = {
        path: File(path, int(mode, 8), owner, group, base64.b64decode(text).decode(errors="replace"))
        for path, mode, owner, group, text in all_of("file")
    }
    seen |= {path: File(path, int(mode, 8), owner, group, key_digest=digest) for path, mode, owner, group, digest in all_of("key")}  # fmt: skip
    described = {
        pair.certificate: certificates.describe(seen[pair.certificate].text, authorities[pair.service])
        for pair in machine.places.pairs
        if pair.certificate in seen
    }
    qemu, manager = (*all_of("qemu"), ["", ""])[0], (*all_of("manager"), [Manager.OTHER, ""])[0]
    return MachineState(
        name=machine.host.name,
        is_root=machine.is_controller or one("user") == "0",
        hostname=one("hostname"),
        owner="root:root" if one("user") == "0" else "-",
        full_name=one("fqdn"),
        generator=one("generator"),
        qemu_user=qemu[0],
        qemu_group=qemu[1],
        manager=Manager(manager[0]),
        manager_detail=manager[1] if len(manager) > 1 else "",
        arguments=one("arguments"),
        listens=["listens"] in lines,
        knows_shared_filesystems=bool(all_of("knows")),
        special=frozenset(values[0] for values in all_of("special")),
        absent=tuple(values[0] for values in all_of("absent")),
        files=seen,
        certificates={path: described_as for path, described_as in described.items() if described_as},
        trusting=frozenset(
            service
            for service, path in machine.places.authorities.items()
            if path in seen and certificates.holds(seen[path].text, authorities[service])
        ),
        guests=tuple(values[0] for values in all_of("guest")),
        jobs=tuple(f"guest {values[0]}: {values[1]}" for values in all_of("job")),
        preparations={values[0]: values[1] for values in all_of("preparation")},
    )


def make_requests(machine: Machine, stamp: str, services: Iterable[Service], name: str) -> dict[Service, bytes]:
    """New keys, made there; returns the requests to sign."""
    calls = [f"open_directory {stamp}", *(shlex.join(["make_request", service, name[:64]]) for service in services)]
    lines = _run(machine, "\n".join(calls), timeout=60)
    _refused(machine, lines)
    return {Service(line[1]): base64.b64decode(line[2]) for line in lines if line[0] == "request"}


def carry_out(
    machine: Machine, stamp: str, changes: Sequence[Change], files: Mapping[str, bytes]
) -> tuple[int, list[str]]:
    """Make the changes, all or nothing. Returns (guests whose QEMU is the same process, names of guests that ended meanwhile).

    Raises Aborted when it was put back, NeedsAttention when it was not, Refused when nothing was begun.
    """
    acts = "\n".join(f"    {_call(change)}" for change in changes)
    script = f"open_directory {stamp}\ntake_files\nacts() {{\n{acts}\n}}\ncarry_out"
    text = "".join(f"{name}\t{base64.b64encode(content).decode()}\n" for name, content in files.items())
    return _acted(machine, stamp, script, wanted="done", text=text)


def put_back(machine: Machine, stamp: str, state: str) -> tuple[int, list[str]]:
    """Undo a preparation; `state` is what it is called then. Raises as `carry_out` does."""
    return _acted(machine, stamp, f"open_directory {stamp}\nput_back {state}", wanted="undone")


def _call(change: Change) -> str:
    match change.act:
        case Place(name=name, path=path, mode=mode, owner=owner):
            return shlex.join(["place", name, path, mode, owner])
        case Access(path=path, mode=mode, owner=owner):
            return shlex.join(["access", path, mode, owner])
        case Setting(path=path, key=key, value=value, separator=separator):
            return shlex.join(["setting", path, key, separator, value])
        case Listen():
            return f"listen; restart {Manager.SOCKETS} {TLS_PORT}"
        case Restart(manager=manager, more=more):
            return shlex.join(["restart", manager, str(TLS_PORT), *more])


def _acted(machine: Machine, stamp: str, calls: str, *, wanted: str, text: str = "") -> tuple[int, list[str]]:
    try:
        lines = _run(machine, calls, timeout=ACT_WITHIN, text=text)
    except (Unreachable, Timeout) as error:
        raise NeedsAttention(
            f"host {machine.host.name}",
            f"how it ended is not known, because {error.why}; the host goes on by itself, to the end or back",
            f"when it can be reached again: ferryman host prepare {machine.host.name} looks, and says what is so",
        ) from error
    return _ended(machine, stamp, lines, wanted=wanted)


def _ended(machine: Machine, stamp: str, lines: Sequence[Sequence[str]], *, wanted: str) -> tuple[int, list[str]]:
    what, kept = f"host {machine.host.name}", f"{machine.kept}/{stamp}"
    _refused(machine, lines)
    result = next((line for line in lines if line[0] == "result"), ("result", "", "it did not say how it ended"))
    if result[1] == "undone" and wanted == "done":
        raise Aborted(
            what,
            f"everything was put back, because {result[2]}",
            f"mend that and prepare it again; the whole log: {kept}/log there",
        )
    if result[1] != wanted:
        raise NeedsAttention(what, f"not everything could be put back: {result[2]}", f"{kept} there holds log, journal and what was replaced; ferryman host prepare {machine.host.name} tries again to put it back first")  # fmt: skip
    untouched = next((int(line[1]) for line in lines if line[0] == "untouched"), 0)
    return untouched, [f"{line[1]} (process {line[2]})" for line in lines if line[0] == "ended"]


def _refused(machine: Machine, lines: Sequence[Sequence[str]]) -> None:
    for line in lines:
        if line[:2] == ["result", "refused"]:
            raise Refused(f"host {machine.host.name}", line[2], "try again when it has ended")


def _run(machine: Machine, calls: str, *, timeout: float, text: str | None = None) -> list[list[str]]:
    full = "no" if machine.is_controller else "yes"
    script = f"base={shlex.quote(machine.kept)} full={full}\n{FUNCTIONS}\n{calls}\n"
    answer = ssh.run(machine.host, ["sh", "-c", script], timeout=timeout, text=text)
    lines = [line.split("\t") for line in answer.out.splitlines()]
    if answer.code != 0:
        words = answer.err.strip().splitlines()
        raise DriverError(f"host {machine.host.name}", words[-1] if words else f"a program there ended with {answer.code}", f"try: ssh {machine.host.effective_ssh} true")  # fmt: skip
    return lines
