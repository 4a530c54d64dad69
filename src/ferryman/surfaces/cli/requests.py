"""`ferryman history`, `show`, `notice`, `cancel` and `recover`: requests that were made."""

import time
from typing import Annotated

import typer

from ferryman.app import Application, application
from ferryman.model.phase import ENDS, Phase
from ferryman.plain import to_plain
from ferryman.report.limits import limits
from ferryman.report.notice import Language
from ferryman.report.timeline import rounds, stretches
from ferryman.surfaces.cli import render, terminal
from ferryman.surfaces.cli.values import Id, Json, duration, size

PUT_BACK = (Phase.REFUSED, Phase.FAILED, Phase.CANCELLED, Phase.CLOSED)


def add_to(program: typer.Typer) -> None:
    """Attach these commands."""
    for name, function in (
        ("history", history),
        ("show", show),
        ("notice", notice),
        ("cancel", cancel),
        ("tune", tune),
        ("recover", recover),
        ("retire", retire),
    ):
        program.command(name)(function)


def history(
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.")] = 50, json: Json = False
) -> None:
    """List requests and how they ended."""
    reports = application().moves.history(limit)
    if json:
        render.as_json(reports)
        return
    rows = [
        (one.request.id, time.strftime("%F %T", time.localtime(one.request.asked_at)), one.request.guest,
         f"{one.request.source} -> {one.request.destination}", render.state(one),
         *render.standstills(one.outcome))
        for one in reports
    ]  # fmt: skip
    render.table(("REQUEST", "ASKED", "GUEST", "MOVE", "STATE", "DOWNTIME", "BLACKOUT"), rows)


def show(
    request: Id,
    json: Json = False,
    definition: Annotated[
        bool, typer.Option("--definition", help="Print the guest's saved definition (XML) only.")
    ] = False,
) -> None:
    """Tell everything known of a request."""
    here = application()
    report = here.moves.show(request)
    if definition:
        print(here.moves.records.definition(report.request.id, report.request.source))
    elif json:
        render.as_json({**to_plain(report), "rounds": rounds(report.samples), "durations": stretches(report.phases)})
    else:
        render.report(report)


def notice(
    request: Id,
    lang: Annotated[Language, typer.Option("--lang", help="The language it is written in.")] = Language.EN,
) -> None:
    """Print a mail for the guest's users: what happens, when, how long, what they will notice."""
    print(application().moves.notice(request, lang))


def cancel(request: Id, json: Json = False) -> None:
    """Roll a migration back. Refused with the reason once the switchover has begun."""
    here = application()
    asked = here.moves.cancel(request)
    if json:
        render.as_json(asked)
        return
    print(f"cancel of {asked.id} asked; see it end with: ferryman follow {asked.id}")


def retire(request: Id, json: Json = False) -> None:
    """Remove the disks that a move left at its source. Asks both hosts first; the last copy is never removed."""
    retired = application().moves.retire(request)
    if json:
        render.as_json(retired)
        return
    for one in retired:
        print(f"removed {one.path}" if one.removed else f"gone already: {one.path} at {one.host}")
    if not retired:
        print("nothing is left to retire")


def tune(
    request: Id,
    bandwidth: Annotated[
        str, typer.Option(help="At most this much a second from now on, such as 100M; 0: no limit.")
    ] = "",
    max_downtime: Annotated[str, typer.Option(help="Allowed downtime from now on, such as 500ms.")] = "",
    json: Json = False,
) -> None:
    """Change the limits of a migration under way. Refused with the reason once the switchover has begun."""
    here = application()
    tuned = here.moves.tune(
        request,
        bandwidth=size(bandwidth, "--bandwidth") if bandwidth else None,
        max_downtime=duration(max_downtime, "--max-downtime") if max_downtime else None,
    )
    if json:
        render.as_json(here.moves.records.wishes(tuned.id)[-1])
        return
    print(
        f"asked of {tuned.id}: {limits(here.moves.records.wishes(tuned.id)[-1])}; the next look at the transfer sets it"
    )


def _interrupted(here: Application) -> None:
    """What waits has changed nothing, so it can be left at any time."""
    if any(view.phase not in (*ENDS, Phase.WAITING) for view in here.moves.left()):
        render.error_lines("\nwhat is being settled goes on; ferryman follow ID looks at it")
        return
    render.error_lines(
        "\nwhat waits is left: ferryman serve, or ferryman recover, waits on; ferryman cancel ID ends it"
    )
    raise typer.Exit(1)


def recover(
    close: Annotated[
        str,
        typer.Option(
            "--close", metavar="ID", help="You have looked: this request needs no more attention. Nothing is undone."
        ),
    ] = "",
    json: Json = False,
) -> int:
    """Settle what a crash or "needs attention" left. Exit code 5 when something still needs attention."""
    here = application()
    if close:
        closed = here.moves.close(close)
        if json:
            render.as_json(closed)
            return 0
        print(f"request {closed.id} is closed: {closed.guest} may be moved again")
        return 0
    terminal.outlive(on_interrupt=lambda: _interrupted(here))
    if not here.moves.left():
        if json:
            render.as_json([])
        else:
            print("nothing is left to settle")
        return 0
    left = here.moves.settle_left()
    for view in left.others:
        render.error_lines(
            f"request {view.request.id} ({view.request.guest}) is being carried out by process {view.carried_by}"
        )
    for request in left.mine:
        if here.moves.records.phase(request.id) is Phase.WAITING:
            told = here.moves.show(request.id)
            render.error_lines(f"request {request.id} ({request.guest}) waits here; it begins at {told.begins}")
    here.moves.wait()
    reports = [here.moves.show(here.moves.last_try(request.id).id) for request in left.mine]
    if json:
        render.as_json(reports)
    else:
        for report in reports:
            asked = report.request
            print(f"request {asked.id}: {asked.guest} from {asked.source} to {asked.destination}")
            if report.outcome:
                render.outcome(report.outcome)
    return 5 if any(report.phase not in (Phase.SUCCEEDED, *PUT_BACK) for report in reports) else 0
