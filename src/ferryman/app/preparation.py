"""Hosts are prepared one after another: looked at, decided, changed as a whole or not at all; then checked."""

import datetime
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ferryman.app.site import Site
from ferryman.errors import BadInput, DriverError, FerrymanError, NotFound, Refused
from ferryman.model.host import Answer, Check, Host
from ferryman.model.preparation import (
    Changes,
    MachineState,
    Prepared,
    Result,
    Service,
    Wish,
    controller_places,
)
from ferryman.plain import from_json, to_json
from ferryman.prepare import by_hand, for_controller, for_host, refusal

if TYPE_CHECKING:  # cryptography costs a tenth of a second
    from ferryman.drivers.certificates import Authority
    from ferryman.drivers.preparation import Machine

HERE = "this machine"


@dataclass(frozen=True)
class Asked:
    """What the operator asked for. `authority`: certificate and key of one that is given; None: the one in force."""

    authority: tuple[Path, Path] | None = None
    shared_directories: tuple[str, ...] = ()
    dry_run: bool = False


class Preparations:
    """Preparing hosts, and ferryman's own machine with them."""

    def __init__(self, site: Site, directory: Path) -> None:
        self.site = site
        self.directory = directory

    def prepare(self, names: Sequence[str], asked: Asked) -> Iterator[Prepared | FerrymanError]:
        """This machine first, then each host; what went wrong with one is an answer too, and the next is done."""
        hosts = [self.site.host(name) for name in names]
        for path in asked.shared_directories:
            if not path.startswith("/") or '"' in path:
                raise BadInput(
                    f"--shared-directory {path}",
                    "it is no absolute path, or holds a quotation mark",
                    "give it as the hosts see it, such as /srv/shared",
                )
        work = _Work(self.directory, asked)
        yield from _each(work.controller)
        for host in hosts:
            yield from _each(lambda host=host: self._host(work, host))  # type: ignore[misc]

    def revert(self, names: Sequence[str]) -> Iterator[Prepared | FerrymanError]:
        """The newest preparation of each host is undone."""
        for host in [self.site.host(name) for name in names]:
            yield from _each(lambda host=host: self._revert(host))  # type: ignore[misc]

    def reachable(self, name: str) -> Check | None:
        """Whether this machine speaks qemu+tls with a host; None where it has no address."""
        from ferryman.drivers.libvirt.connection import open_connection

        uri = tls_uri(self.site.host(name))
        if not uri:
            return None
        try:
            open_connection(uri).close()
        except DriverError as error:
            return Check(name, f"{uri} from this machine", Answer.MISSING, error.why, error.remedy)
        return Check(name, f"{uri} from this machine", Answer.GOOD, "answers")

    def _host(self, work: "_Work", host: Host) -> Prepared:
        self._not_needed_by_a_move(host)
        prepared = work.host(host)
        if prepared.result in (Result.DONE, Result.NOTHING, Result.PLANNED) and (
            note := self._peer_uri(host, work.asked.dry_run)
        ):
            prepared = replace(prepared, notes=(*prepared.notes, note))  # fmt: skip
        return prepared

    def _not_needed_by_a_move(self, host: Host) -> None:
        for request in self.site.records.requests(open_only=True):
            if host.name in (request.source, request.destination):
                raise Refused(f"host {host.name}", f"request {request.id} is not settled",
                              f"ferryman follow {request.id}, or ferryman recover")  # fmt: skip

    def _peer_uri(self, host: Host, dry_run: bool) -> str:
        """A host that is reached by ssh needs no key from host to host any more: its peer URI becomes TLS."""
        uri = tls_uri(host)
        if host.peer_uri or not uri or urlsplit(host.uri).scheme == "qemu+tls":
            return ""
        if dry_run:
            return (
                f"{host.name} will be registered with the peer URI {uri}, so that hosts need no ssh keys for each other"
            )
        self.site.records.add_host(replace(self.site.host(host.name), peer_uri=uri))  # it may be in maintenance by now
        return f"{host.name} is registered with the peer URI {uri}, so that hosts need no ssh keys for each other"

    def _revert(self, host: Host) -> Prepared:
        from ferryman.drivers import preparation

        self._not_needed_by_a_move(host)
        machine = preparation.Machine(host)
        seen = preparation.survey(machine, dict.fromkeys(Service))
        done = sorted(stamp for stamp, state in seen.preparations.items() if state == "done")
        if not done:
            raise NotFound(f"host {host.name}", "no preparation is in force there", f"nothing is to be undone; {machine.kept} there holds what earlier ones replaced")  # fmt: skip
        untouched, ended = preparation.put_back(machine, done[-1], "reverted")
        notes = [_ended(one) for one in ended]
        if len(done) > 1:
            notes.append(f"an earlier preparation ({done[-2]}) is in force: --revert again undoes it")
        elif host.peer_uri and host.peer_uri == tls_uri(host) and urlsplit(host.uri).scheme != "qemu+tls":
            self.site.records.add_host(replace(self.site.host(host.name), peer_uri=""))
            notes.append(f"{host.name} is registered without the peer URI {host.peer_uri} again")
        return Prepared(host.name, Result.REVERTED, notes=tuple(notes), kept_in=f"{machine.kept}/{done[-1]}", guests=untouched)  # fmt: skip


class _Work:
    """One run: its moment, its authorities."""

    def __init__(self, directory: Path, asked: Asked) -> None:
        self.directory, self.asked = directory, asked
        self.moment = datetime.datetime.now(datetime.UTC)
        self.stamp = f"{self.moment:%Y-%m-%dT%H-%M-%S}.{self.moment.microsecond // 1000:03}Z"
        self.authorities = self._authorities()

    def _authorities(self) -> "dict[Service, Authority | None]":
        """Who signs: the given one, which is remembered from then on, or ferryman's own; None: own, not made in a dry run."""
        from ferryman.drivers import certificates

        remembered = self.directory / "authority/given.json"
        given = self.asked.authority
        if given is None and remembered.exists():
            first, second = from_json(remembered.read_text())
            given = (Path(first), Path(second))
        if given is not None:
            authority = certificates.read_authority(*given, self.moment)
            if self.asked.authority is not None and not self.asked.dry_run:
                remembered.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                remembered.write_text(to_json([str(path.absolute()) for path in given]))
            return dict.fromkeys(Service, authority)
        own = certificates.find_own if self.asked.dry_run else certificates.make_own
        return {service: own(self.directory, service, self.moment) for service in Service}

    def controller(self) -> Prepared:
        """This machine: a client certificate, so that ferryman itself can speak qemu+tls."""
        from ferryman.drivers.certificates import make_pair
        from ferryman.drivers.preparation import Machine

        places = controller_places("" if os.geteuid() == 0 else str(Path.home()))
        machine = Machine(Host(HERE, "qemu:///system"), str(self.directory / "prepared"), places, is_controller=True)
        seen, said = self._survey(machine)
        wish = self._wish((seen.hostname,))
        needed = _saying(for_controller(seen, wish, places), said)

        def files() -> dict[str, bytes]:
            made: dict[str, bytes] = {}
            for service in needed.new_keys:
                certificate, key = make_pair(self._authority(service), seen.hostname, wish.names, self.moment)
                made |= {f"{service}.pem": certificate, f"{service}.key": key}
            return made

        return self._change(machine, needed, files)

    def host(self, host: Host) -> Prepared:
        """A host: everything. Where ssh does not lead to root, the commands to type."""
        from ferryman.drivers.certificates import sign
        from ferryman.drivers.preparation import Machine, make_requests

        machine = Machine(host)
        try:
            seen, said = self._survey(machine)
        except DriverError as error:
            return self._by_hand(host, MachineState(host.name, False, ""), error.why, error.remedy)
        if not seen.is_root:
            return self._by_hand(host, seen, "ssh does not lead to root there", "register it with --ssh root@ADDRESS")
        if seen.absent:
            raise BadInput(f"--shared-directory {seen.absent[0]}", f"{host.name} has no such directory", f"mount it at {host.name} first")  # fmt: skip
        wish = self._wish(names_of(host, seen), host)
        needed = _saying(for_host(seen, wish), said)
        if no := refusal(seen, needed):
            raise Refused(f"host {host.name}", *no)

        def files() -> dict[str, bytes]:
            requests = make_requests(machine, self.stamp, needed.new_keys, wish.names[0]) if needed.new_keys else {}
            return {
                f"{service}.pem": sign(self._authority(service), request, wish.names, self.moment)
                for service, request in requests.items()
            }

        return self._change(machine, needed, files)

    def _survey(self, machine: "Machine") -> tuple[MachineState, tuple[str, ...]]:
        """What a machine is like, once a preparation that had broken off (it lost power) is undone; and what to say of that."""
        from ferryman.drivers.preparation import put_back, survey

        seen = survey(machine, self.authorities, self.asked.shared_directories)
        broken_off = [stamp for stamp, state in sorted(seen.preparations.items()) if state in ("staged", "begun")]
        if not broken_off or not seen.is_root:
            return seen, ()
        name = f"{machine.host.name}: a preparation that had broken off ({', '.join(broken_off)})"
        if self.asked.dry_run:
            return seen, (f"{name} would be undone first: what is said here may be other than what is found then",)
        for stamp in reversed(broken_off):
            put_back(machine, stamp, "undone")
        return survey(machine, self.authorities, self.asked.shared_directories), (f"{name} was undone first",)

    def _change(self, machine: "Machine", needed: Changes, files: Callable[[], Mapping[str, bytes]]) -> Prepared:
        from ferryman.drivers.preparation import carry_out

        name = machine.host.name
        if not needed.changes:
            return Prepared(name, Result.NOTHING, notes=needed.notes)
        if self.asked.dry_run:
            return Prepared(name, Result.PLANNED, needed.changes, needed.notes)
        made = {f"{service}-ca.pem": self._authority(service).pem for service in machine.places.authorities}
        untouched, ended = carry_out(machine, self.stamp, needed.changes, {**made, **files()})
        return Prepared(name, Result.DONE, needed.changes, (*needed.notes, *map(_ended, ended)),
                        f"{machine.kept}/{self.stamp}", untouched)  # fmt: skip

    def _by_hand(self, host: Host, seen: MachineState, why: str, remedy: str) -> Prepared:
        from ferryman.drivers.certificates import own_files

        files = {
            service: authority.files if authority else own_files(self.directory, service)
            for service, authority in self.authorities.items()
        }
        wish = self._wish(names_of(host, seen), host)
        text = by_hand.commands(host.name, wish, {service: (str(one), str(other)) for service, (one, other) in files.items()})  # fmt: skip
        return Prepared(host.name, Result.BY_HAND, notes=(f"not prepared, because {why}", f"so that ferryman can do it: {remedy}",
                        "or type what follows"), by_hand=text)  # fmt: skip

    def _wish(self, names: tuple[str, ...], host: Host | None = None) -> Wish:
        from ferryman.drivers.certificates import own_name

        return Wish(
            now=self.moment.timestamp(),
            names=names,
            authorities={
                service: authority.name if authority else own_name(service)
                for service, authority in self.authorities.items()
            },
            migration_address=host.effective_migration_address if host else "",
            migration_address_given=bool(host and host.migration_address),
            shared_directories=self.asked.shared_directories,
        )

    def _authority(self, service: Service) -> "Authority":
        authority = self.authorities[service]
        assert authority is not None  # only in a dry run there may be none
        return authority


def names_of(host: Host, seen: MachineState) -> tuple[str, ...]:
    """Every name by which a client may call the host: its own first, then those that it is registered with."""
    peer = urlsplit(host.effective_peer_uri).hostname or ""
    names = (seen.hostname, seen.full_name, host.address, peer, host.effective_migration_address)
    return tuple(dict.fromkeys(name for name in names if name and not name.startswith("localhost"))) or (host.name,)


def tls_uri(host: Host) -> str:
    """How a host is reached with a certificate; empty where it has no address."""
    address = urlsplit(host.peer_uri).hostname or host.address
    return f"qemu+tls://{f'[{address}]' if ':' in address else address}/system" if address else ""


def _saying(needed: Changes, said: tuple[str, ...]) -> Changes:
    return replace(needed, notes=(*said, *needed.notes))


def _ended(guest: str) -> str:
    return f"the QEMU of guest {guest} ended meanwhile: look whether that was meant"


def _each(one: Callable[[], Prepared]) -> Iterator[Prepared | FerrymanError]:
    try:
        yield one()
    except FerrymanError as error:
        yield error
