"""What `ferryman doctor` looks at: each part alone, so that one that is broken hides no other."""

from collections.abc import Iterator

from ferryman import config
from ferryman.drivers import machine
from ferryman.errors import DriverError, FerrymanError
from ferryman.model.host import Answer, Check, Host

_LOST = (
    "restore it from a backup; or end every ferryman, move {path} away, and register the hosts again: what it knew of moves "
    "under way is lost then, so look at the hosts with virsh list --all"
)


def examine() -> Iterator[Check]:
    """This machine from its libraries to the hosts it reaches."""
    lines = [*machine.libraries()]
    yield from lines
    yield from machine.programs()
    yield machine.clock()
    try:
        settings = config.load()
    except FerrymanError as error:
        yield machine.missing(error.what, error.why, error.remedy)
        return
    directory = settings.directory
    yield machine.settings(config.settings_file(), secret=settings.secret_in_file)
    rooms = [*machine.state_directory(directory)]
    yield from rooms
    if any(line.answer is Answer.MISSING and "others may" not in line.detail for line in (*lines, *rooms)):
        yield machine.not_checked("database and hosts", "of what is missing above", "mend that first")
        return
    yield from _records()


def _records() -> Iterator[Check]:
    """The databases, what is left unsettled in them, and the hosts they name."""
    from ferryman.app import application
    from ferryman.drivers.database.health import broken

    directory = config.load().directory
    for name in ("ferryman.sqlite", "dbos.sqlite"):
        if why := broken(directory / name):
            yield machine.missing(f"database {directory / name}", why, _LOST.format(path=directory / name))
            return
    try:
        here = application()
        left, hosts = here.moves.left(), here.site.hosts()
    except FerrymanError as error:
        yield machine.missing(error.what, error.why, error.remedy)
        return
    yield machine.good("database", "whole, and of this ferryman's schema")
    unsettled = [view.request.id for view in left if view.carried_by is None]
    if unsettled:
        yield machine.missing("requests", f"not settled: {', '.join(unsettled)}", "ferryman recover")
    else:
        yield machine.good("requests", f"{len(left)} under way, nothing is left to settle")
    if any(host.uri.startswith("qemu+tls") for host in hosts):
        yield from machine.certificates(machine.client_certificates())
    else:
        yield machine.good("client certificates", "not needed: no registered host is reached by qemu+tls")
    if not hosts:
        yield machine.missing("hosts", "none is registered", "ferryman host add NAME URI")
    for host, answer in here.site.each(lambda hypervisor: _reach(hypervisor.host, len(hypervisor.guests()))):
        if isinstance(answer, DriverError):
            yield Check(host.name, "libvirtd", Answer.MISSING, answer.why, answer.remedy)
        else:
            yield from answer


def _reach(host: Host, guests: int) -> tuple[Check, ...]:
    from ferryman.drivers import ssh

    libvirtd = Check(host.name, "libvirtd", Answer.GOOD, f"answers at {host.uri}, {guests} guests")
    if not host.effective_ssh:
        return (libvirtd,)
    try:
        answer = ssh.run(host, ["true"])
    except DriverError as error:
        return libvirtd, Check(host.name, "ssh", Answer.MISSING, error.why, error.remedy)
    if answer.code:
        return libvirtd, Check(
            host.name,
            "ssh",
            Answer.MISSING,
            f"'true' ended with {answer.code} there",
            f"try: ssh {host.effective_ssh} true",
        )
    return libvirtd, Check(host.name, "ssh", Answer.GOOD, f"answers at {host.effective_ssh}")
