"""`ferryman migrate GUEST --to HOST` and `ferryman follow ID`: ask, show, and tell how it ended."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from ferryman.app import Application, application
from ferryman.errors import BadInput, FerrymanError, Refused
from ferryman.model.finding import blockers
from ferryman.model.request import CopyStorage, Options, Request
from ferryman.model.units import parse_duration, parse_size
from ferryman.surfaces.cli import display, render, terminal
from ferryman.surfaces.cli.assess import CopyDisks, Eject, HandshakeChoice, Handshakes, MapNetwork, MapPool, pairs
from ferryman.surfaces.cli.hosts import Json


def add_to(program: typer.Typer) -> None:
    """Attach these commands."""
    program.command("migrate")(migrate)
    program.command("follow")(follow)


def migrate(
    guest: str,
    to: Annotated[str, typer.Option("--to", help="The destination.")],
    source: Annotated[str, typer.Option("--from", help="The source, where the name alone does not tell.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Findings and plan only; nothing is changed.")] = False,
    bandwidth: Annotated[str, typer.Option(help="At most this much a second, such as 100M.")] = "",
    max_downtime: Annotated[
        str, typer.Option(help="Allowed downtime, such as 500ms. Default: the hypervisor's 300ms.")
    ] = "",
    timeout: Annotated[
        str, typer.Option(help="Put the guest back after this long, such as 10min. Default: 30min.")
    ] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="Let memory travel unencrypted.")] = False,
    replace_definition: Annotated[
        bool,
        typer.Option(
            "--replace-definition", help="Save and replace an inactive definition of the guest at the destination."
        ),
    ] = False,
    copy_storage: CopyDisks = CopyStorage.AUTO,
    map_pool: MapPool = None,
    map_network: MapNetwork = None,
    eject: Eject = False,
    retire: Annotated[
        bool,
        typer.Option(
            "--retire", help="Remove the source's copies of the disks once the guest runs at the destination."
        ),
    ] = False,
    handshake: Handshakes = HandshakeChoice.AUTO,
    probe: Annotated[
        str, typer.Option(help="ADDRESS or ADDRESS:PORT that a client would use. Default: found by itself.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON event a line.")] = False,
) -> int:
    """Move a running guest to another host."""
    here = application()
    options = Options(
        bandwidth=_size(bandwidth, "--bandwidth") if bandwidth else here.settings.bandwidth,
        max_downtime=_duration(max_downtime, "--max-downtime") if max_downtime else here.settings.max_downtime,
        timeout=_duration(timeout, "--timeout") if timeout else here.settings.timeout,
        insecure=insecure,
        replace_definition=replace_definition,
        copy_storage=copy_storage,
        map_pool=pairs(map_pool, "--map-pool"),
        map_network=pairs(map_network, "--map-network"),
        eject=eject,
        retire=retire,
        handshake=handshake.wanted,
        probe=probe,
    )
    if dry_run:
        return _dry_run(here, guest, to, options, source, json)
    if not yes and sys.stdin.isatty():
        code = _dry_run(here, guest, to, options, source, json=False)
        if code:
            return code
        typer.confirm("go?", abort=True, err=True)
    elif not yes:
        raise BadInput("migrate", "nobody can be asked: standard input is no terminal", "--yes goes without asking")
    return _see_it_through(here, lambda: here.moves.ask(guest, to, options, source=source), json)


def follow(
    request: Annotated[str, typer.Argument(help="The request's id, or its beginning.")], json: Json = False
) -> int:
    """Look at a migration under way until it ends."""
    here = application()
    return _tell(here, here.moves.view(request).request.id, json)


def _size(text: str, option: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise BadInput(option, str(error), "such as 100M") from error


def _duration(text: str, option: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadInput(option, str(error), "such as 500ms or 10min") from error


def _dry_run(here: Application, guest: str, to: str, options: Options, source: str, json: bool) -> int:
    found, planned = here.site.assess(guest, to, options, source=source)
    if json:
        render.as_json({"findings": found, "plan": planned})
    else:
        render.findings(found)
        render.plan(planned)
    return 3 if blockers(found) else 0


def _see_it_through(here: Application, ask: Callable[[], Request], json: bool) -> int:
    """Ask, and show the request while this process carries it out. Ctrl-C asks for cancel; a lost terminal lets it go on."""
    asked: list[Request] = []

    def interrupted() -> None:
        if not asked:
            raise typer.Abort  # nothing was asked for yet
        try:
            here.moves.cancel(asked[0].id)
            render.error_lines("\ncancel asked: rolling back (the guest stays where it runs)")
        except Refused as error:
            render.error_lines(f"\nnot cancelled: {error.why}")

    terminal.outlive(on_interrupt=interrupted)
    asked.append(ask())
    try:
        code = _tell(here, asked[0].id, json)
    except OSError:  # nobody reads what we print any more: the move goes on
        terminal.leave()
        code = 0
    here.moves.wait()
    return code


def _tell(here: Application, request_id: str, json: bool) -> int:
    shown = display.events(here.moves, request_id) if json else display.live(here.moves, request_id)
    if not shown.ended:
        raise FerrymanError(f"request {request_id}", "nobody carries it out: its ferryman is gone", "ferryman recover")
    report = here.moves.show(request_id)
    if report.outcome is None:
        raise FerrymanError(f"request {request_id}", "its end was not recorded", "ferryman recover")
    if not json:
        render.findings(report.findings_after)
        render.outcome(report.outcome)
        print(f"report: ferryman show {request_id}")
    return render.EXIT_CODES[report.outcome.status]
