"""Hosts and guests as they are now: found, looked at, checked, assessed."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Semaphore
from typing import TYPE_CHECKING, TypeVar

from ferryman.errors import BadInput, DriverError, NotFound, Refused
from ferryman.model.finding import Finding
from ferryman.model.guest import State
from ferryman.model.hook import Hook
from ferryman.model.host import Check, GuestOnHost, Host, HostFacts
from ferryman.model.plan import Plan
from ferryman.model.request import Options
from ferryman.model.units import format_moment

if TYPE_CHECKING:  # heavy, and not needed by every command
    from ferryman.drivers.database.records import DatabaseRecords
    from ferryman.model.guest import Guest
    from ferryman.model.mark import Mark
    from ferryman.ports import Hypervisor, Ports

T = TypeVar("T")


@dataclass(frozen=True)
class HostGuests:
    """A host's answer to "which guests have you?": the guests, or why it did not answer."""

    host: Host
    guests: tuple[GuestOnHost, ...]
    error: DriverError | None = None


class Site:
    """Hosts and guests, as they are now."""

    def __init__(
        self, records: "DatabaseRecords", hooks: tuple[Hook, ...] = (), secrets: Mapping[str, str] | None = None
    ) -> None:
        self.records, self._hooks, self._secrets = records, hooks, secrets
        self._hypervisors: dict[str, Hypervisor] = {}

    def hosts(self) -> tuple[Host, ...]:
        """All registered hosts."""
        return self.records.hosts()

    def host(self, name: str) -> Host:
        """A registered host. Raises NotFound naming those there are."""
        hosts = {host.name: host for host in self.hosts()}
        if name not in hosts:
            known = ", ".join(hosts) or "none yet"
            raise NotFound(
                f"host {name}", f"it is not registered (registered: {known})", f"ferryman host add {name} URI"
            )
        return hosts[name]

    def add(self, host: Host) -> None:
        """Register a host, or register it anew."""
        if not host.name.replace("-", "").replace(".", "").replace("_", "").isalnum():
            raise BadInput(
                f"host name '{host.name}'",
                "only letters, digits, '-', '.' and '_' are allowed",
                "choose another, such as kvm-1",
            )
        scheme = host.uri.split("://")[0]
        if scheme not in ("qemu", "qemu+tls", "qemu+ssh", "qemu+unix"):
            raise BadInput(f"URI '{host.uri}'", f"'{scheme}' is not a scheme ferryman uses",
                           "write qemu+ssh://root@HOST/system, qemu+tls://HOST/system or qemu:///system")  # fmt: skip
        if host.peer_uri and not host.peer_uri.startswith(("qemu+tls://", "qemu+ssh://")):
            raise BadInput(f"--peer-uri '{host.peer_uri}'", "the two libvirtds would speak unencrypted, or not to each other",
                           "write qemu+tls://HOST/system or qemu+ssh://root@HOST/system")  # fmt: skip
        try:
            addresses = (host.address, host.effective_migration_address)
        except ValueError as error:
            raise BadInput(f"URI '{host.uri}'", str(error), "write it like qemu+ssh://root@HOST/system") from error
        known = {one.name: one for one in self.hosts()}.get(host.name)
        if known is not None and (known.uri, known.address) != (host.uri, addresses[0]):
            self._not_needed(host.name)  # its open requests would be settled by looking at another host
        if known is not None:
            host = replace(host, maintenance=known.maintenance, maintenance_reason=known.maintenance_reason)
        self.records.add_host(host)

    def set_maintenance(self, name: str, on: bool, reason: str = "") -> Host:
        """From now on no guest is moved to that host, or it may be again. Nothing at the host changes."""
        host = replace(self.host(name), maintenance=on, maintenance_reason=reason if on else "")
        self.records.add_host(host)
        return host

    def remove(self, name: str) -> Host:
        """Forget a host; returns what it was. Refused while an unfinished request needs it."""
        host = self.host(name)
        self._not_needed(name)
        self.records.remove_host(name)
        return host

    def _not_needed(self, name: str) -> None:
        for request in self.records.requests(limit=1000, open_only=True):
            if name in (request.source, request.destination):
                raise Refused(
                    f"host {name}",
                    f"request {request.id} is not settled",
                    f"ferryman recover, or ferryman show {request.id}",
                )

    def hypervisor(self, name: str) -> "Hypervisor":
        """The libvirtd of a registered host; one connection a process."""
        if name not in self._hypervisors:
            from ferryman.drivers.libvirt.hypervisor import LibvirtHypervisor

            self._hypervisors[name] = LibvirtHypervisor(self.host(name))
        return self._hypervisors[name]

    def each(self, look: "Callable[[Hypervisor], T]", names: Sequence[str] = ()) -> list[tuple[Host, T | DriverError]]:
        """Ask hosts (all, when none is named) at once; an error is an answer too."""
        hosts = [self.host(name) for name in names] or list(self.hosts())
        for host in hosts:
            self.hypervisor(host.name)

        def ask(host: Host) -> T | DriverError:
            try:
                return look(self.hypervisor(host.name))
            except DriverError as error:
                return error

        if not hosts:
            return []
        with ThreadPoolExecutor(len(hosts)) as pool:
            return list(zip(hosts, pool.map(ask, hosts), strict=True))

    def facts(self) -> list[tuple[Host, HostFacts | DriverError]]:
        """What is observed of every host."""
        return self.each(lambda hypervisor: hypervisor.facts())

    def guests(self) -> list[HostGuests]:
        """Every host's guests."""
        return [
            HostGuests(host, (), answer) if isinstance(answer, DriverError) else HostGuests(host, answer)
            for host, answer in self.each(lambda hypervisor: hypervisor.guests())
        ]

    def names_at(self, host: str) -> tuple[str, ...]:
        """Every guest of a host by name, the running ones first. Raises the error with which it did not answer."""
        self.host(host)
        ((_, answer),) = self.each(lambda hypervisor: hypervisor.guests(), [host])
        if isinstance(answer, DriverError):
            raise answer
        return tuple(one.name for one in sorted(answer, key=lambda one: (one.state != State.RUNNING, one.name)))

    def find(self, name_or_uuid: str, at: str = "", seen: list[HostGuests] | None = None) -> tuple[str, GuestOnHost]:
        """(host, guest), from what was `seen`, or looking now. One that runs comes before paused copies (an incoming one is paused), these before definitions.

        Raises NotFound, or BadInput when several are left.
        """
        answers = [answer for answer in seen or self.guests() if not at or answer.host.name == at]
        if at:
            self.host(at)
        found = [
            (answer.host.name, guest)
            for answer in answers
            for guest in answer.guests
            if name_or_uuid in (guest.name, guest.uuid)
        ]
        chosen = _most_alive(found)
        if len(chosen) == 1:
            return chosen[0]
        silent = [f"{answer.host.name} does not answer ({answer.error.why})" for answer in answers if answer.error]
        if not chosen:
            where = "; ".join([f"no host that answers has it ({len(answers) - len(silent)} do)", *silent])
            raise NotFound(f"guest {name_or_uuid}", where, "ferryman guests lists all")
        places = ", ".join(f"{guest.state} at {host}" for host, guest in chosen)
        raise BadInput(
            f"guest {name_or_uuid}",
            f"more than one host has it: {places}",
            "--from HOST names the one that is meant; ferryman guests lists all",
        )

    def guest(self, name: str) -> "Guest":
        """One guest in full."""
        host, found = self.find(name)
        return self.hypervisor(host).guest(found.uuid)

    def check(self, names: Sequence[str], *, measure_link: bool = False) -> list[Check]:
        """What the named hosts lack (all, when none is named); ways are tried from every other registered host.

        `measure_link`: their links are measured too, one host after another, so that no measure disturbs another.
        """
        from ferryman.drivers.libvirt.between import LibvirtBetween

        others = [self.hypervisor(host.name) for host in self.hosts()]
        one_at_a_time = Semaphore(1 if measure_link else max(len(others), 1))

        def look(hypervisor: "Hypervisor") -> tuple[Check, ...]:
            with one_at_a_time:
                return LibvirtBetween().check(hypervisor, others, measure_link=measure_link)

        answers = self.each(look, names)
        checks: list[Check] = []
        for _, answer in answers:
            if isinstance(answer, DriverError):
                raise answer
            checks += answer
        return checks

    @cached_property
    def ports(self) -> "Ports":
        """The outside world as the workflows see it."""
        from ferryman.drivers.clock import SteadyClock
        from ferryman.drivers.copy import SshCopier
        from ferryman.drivers.libvirt.between import LibvirtBetween
        from ferryman.drivers.probe import HostNetwork
        from ferryman.ports import Ports

        return Ports(
            self.records, self.hypervisor, LibvirtBetween(), HostNetwork(self._secrets), SteadyClock(), SshCopier(), self._hooks
        )  # fmt: skip

    def assess(
        self, guest: str, destination: str, options: Options, *, source: str = "", measure_link: bool = False
    ) -> tuple[tuple[Finding, ...], Plan]:
        """What speaks against moving that guest there, and the plan that would be carried out."""
        from ferryman.assess import assess
        from ferryman.execute.observe import observe
        from ferryman.plan.method import plan_for

        at, found = self.find(guest, source)
        self.host(destination)
        options = self.with_maps(options, at, destination)
        site = observe(self.ports, found.uuid, at, destination, options)
        if measure_link:
            speed = self.ports.between.measure(self.hypervisor(at), self.hypervisor(destination))
            site = replace(site, ground=replace(site.ground, link=speed))
        return assess(site, options), plan_for(site, options)

    @staticmethod
    def usable(options: Options) -> None:
        """Raises BadInput when an option cannot be used."""
        from ferryman.drivers.address import parse

        if options.cold and options.warm:
            raise BadInput("--warm", "--cold says that nothing is copied before the stop", "leave one of them away")
        if options.rollback_loses_writes and not options.cold:
            raise BadInput("--rollback-loses-writes", "the guest must be stopped for it, and nothing is copied ahead", "add --cold")  # fmt: skip
        if options.scratch and not options.warm:
            raise BadInput("--scratch", "only a warm move needs that room", "add --warm, or leave it away")
        if options.scratch and not options.scratch.startswith("/"):
            raise BadInput("--scratch", f"'{options.scratch}' does not begin with /", "name a directory of the source in full")  # fmt: skip
        if options.via_ssh and not options.stops:
            raise BadInput("--via-ssh", "QEMU sends a running guest itself", "add --cold or --warm, or leave it away")
        if options.cpu and not options.stops:
            raise BadInput("--cpu", "a running guest keeps its CPU", "add --cold or --warm, or leave it away")
        if options.probe:
            parse(options.probe)
        if options.checks:
            from ferryman.drivers import checks

            for check in options.checks:
                checks.parse(check)
        for name in ("bandwidth", "max_downtime", "timeout"):
            if getattr(options, name) < 0:
                raise BadInput(f"--{name.replace('_', '-')}", "it is negative", "0 means no limit, or the default")

    def with_maps(self, options: Options, source: str, destination: str) -> Options:
        """The options with the names mapped earlier between these two hosts; what is given now goes before."""
        pools, networks = self.records.maps(source, destination)
        return replace(options, map_pool={**pools, **options.map_pool}, map_network={**networks, **options.map_network})

    def unmark(self, guest: str, *, force: bool = False) -> "Mark | None":
        """Take the mark of a move that is over from a guest; returns what it said, None when there was none.

        Refused while a request of our own holds the guest, and, unless `force`, while the mark may be true.
        """
        host, found = self.find(guest)
        hypervisor = self.hypervisor(host)
        mark = hypervisor.mark(found.uuid)
        if mark is None:
            return None
        if holder := self.records.lease(found.uuid):
            raise Refused(f"guest {guest}", f"request {holder} holds it: it is being moved, or needs attention", f"ferryman follow {holder}, or ferryman recover")  # fmt: skip
        from ferryman.execute.mark import is_over

        if not force and self.ports.clock.wall() <= mark.until and not is_over(self.records, mark):
            raise Refused(
                f"guest {guest}",
                f"request {mark.request} of {mark.by} may still be moving it (until {format_moment(mark.until)})",
                f"speak to {mark.by}; if their ferryman is gone for good: ferryman unmark {guest} --force",
            )
        hypervisor.set_mark(found.uuid, None)
        return mark


def _most_alive(found: "list[tuple[str, GuestOnHost]]") -> "list[tuple[str, GuestOnHost]]":
    """Those of the liveliest state that there is."""
    for states in ((State.RUNNING, State.BLOCKED), (State.PAUSED, State.SUSPENDED, State.SHUTTING_DOWN, State.UNKNOWN)):
        if chosen := [one for one in found if one[1].state in states]:
            return chosen
    return found
