"""`ferryman host add|remove|check` and `ferryman hosts`; `host prepare` has a file of its own."""

from enum import StrEnum
from typing import Annotated

import typer

from ferryman.app import application
from ferryman.errors import BadInput, DriverError
from ferryman.model.host import Answer, Host, HostFacts
from ferryman.model.units import format_size
from ferryman.surfaces.cli import complete, prepare, render
from ferryman.surfaces.cli.values import Json

MeasureLink = Annotated[
    bool,
    typer.Option("--measure-link", help="Measure the link by a transfer of a second or 64 MiB: it disturbs others."),
]


def add_to(program: typer.Typer) -> None:
    """Attach these commands."""
    host = typer.Typer(help="Register and check hosts.", no_args_is_help=True, rich_markup_mode=None)
    host.command("add")(add)
    host.command("remove")(remove)
    host.command("check")(check)
    host.command("maintenance")(maintenance)
    prepare.add_to(host)
    program.add_typer(host, name="host")
    program.command("hosts")(hosts)


def add(
    name: str,
    uri: Annotated[
        str, typer.Argument(help="How ferryman reaches its libvirtd: qemu+tls://…, qemu+ssh://…, qemu:///system.")
    ],
    peer_uri: Annotated[str, typer.Option(help="How another host's libvirtd reaches it. Default: the URI.")] = "",
    migration_address: Annotated[
        str, typer.Option(help="Where QEMU's data goes. Default: the peer URI's address.")
    ] = "",
    ssh: Annotated[
        str, typer.Option(help="USER@ADDRESS for what libvirt cannot do. Default: root at the URI's address.")
    ] = "",
    json: Json = False,
) -> None:
    """Register a host."""
    host = Host(name, uri, peer_uri, migration_address, ssh)
    application().site.add(host)
    if json:
        render.as_json(host)
        return
    print(f"host {name} registered; when all are: ferryman host check, then ferryman host prepare HOST … --dry-run")


def remove(name: Annotated[str, typer.Argument(autocompletion=complete.hosts)], json: Json = False) -> None:
    """Forget a host. Nothing at the host changes."""
    host = application().site.remove(name)
    if json:
        render.as_json(host)
    else:
        print(f"host {name} forgotten")


def check(
    names: Annotated[
        list[str] | None, typer.Argument(help="Hosts; all when none is named.", autocompletion=complete.hosts)
    ] = None,
    measure_link: MeasureLink = False,
    json: Json = False,
) -> int:
    """Say what hosts lack to be source or destination, each with its remedy. Exit code 3 when something is missing."""
    checks = application().site.check(names or [], measure_link=measure_link)
    if json:
        render.as_json(checks)
    else:
        render.checks(checks)
    return 3 if any(one.answer is Answer.MISSING for one in checks) else 0


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


def maintenance(
    name: str,
    state: Annotated[Switch, typer.Argument(help="on: no guest is moved to it; off: it takes guests again.")],
    reason: Annotated[str, typer.Option(help="Why, for whoever is refused.")] = "",
    json: Json = False,
) -> None:
    """Keep guests from being moved to a host, or let them. Nothing at the host changes; guests may leave it."""
    if reason and state is Switch.OFF:
        raise BadInput("--reason", "there is none for switching maintenance off", "leave it away")
    host = application().site.set_maintenance(name, state is Switch.ON, reason)
    if json:
        render.as_json(host)
    elif host.maintenance:
        print(f"host {name} is in maintenance: no guest is moved to it (ferryman host maintenance {name} off ends it)")
    else:
        print(f"host {name} takes guests")


def hosts(json: Json = False) -> None:
    """List hosts with their versions, memory and guests."""
    answers = application().site.facts()
    if json:
        render.as_json([_plain(host, answer) for host, answer in answers])
        return
    render.table(
        ("HOST", "LIBVIRT", "QEMU", "CPUS", "MEMORY FREE", "GUESTS", "STATE", "URI"),
        [_row(host, answer) for host, answer in answers],
    )


def _plain(host: Host, answer: HostFacts | DriverError) -> object:
    if isinstance(answer, DriverError):
        return {"host": host, "error": str(answer)}
    return answer


def _row(host: Host, answer: HostFacts | DriverError) -> tuple[str, ...]:
    if isinstance(answer, DriverError):
        return (
            host.name,
            "-",
            "-",
            "-",
            "-",
            "-",
            _state(host),
            answer.why if host.uri in answer.why else f"{host.uri}: {answer.why}",
        )
    libvirt, qemu = (".".join(map(str, number)) for number in (answer.libvirt_version, answer.qemu_version))
    memory = f"{format_size(answer.memory_free)} of {format_size(answer.memory_total)}"
    return (host.name, libvirt, qemu, str(answer.cpus), memory, str(len(answer.guests)), _state(host), host.uri)


def _state(host: Host) -> str:
    if not host.maintenance:
        return "open"
    return f"maintenance ({host.maintenance_reason})" if host.maintenance_reason else "maintenance"
