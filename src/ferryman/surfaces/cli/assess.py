"""`ferryman assess GUEST --to HOST`."""

from typing import Annotated

import typer

from ferryman.app import application
from ferryman.model.finding import blockers
from ferryman.model.request import Options
from ferryman.surfaces.cli import render
from ferryman.surfaces.cli.hosts import Json


def add_to(program: typer.Typer) -> None:
    """Attach this command."""
    program.command("assess")(assess)


def assess(
    guest: str,
    to: Annotated[str, typer.Option("--to", help="The destination.")],
    source: Annotated[str, typer.Option("--from", help="The source, where the name alone does not tell.")] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="As migrate would be asked.")] = False,
    replace_definition: Annotated[
        bool, typer.Option("--replace-definition", help="As migrate would be asked.")
    ] = False,
    json: Json = False,
) -> int:
    """Say what speaks against moving a guest live. Exit code 0: it may go; 3: it may not."""
    options = Options(insecure=insecure, replace_definition=replace_definition)
    found, _ = application().site.assess(guest, to, options, source=source)
    against = blockers(found)
    if json:
        render.as_json({"guest": guest, "to": to, "may_go": not against, "findings": found})
    else:
        render.findings(found)
        print(
            f"{guest} may {'NOT ' if against else ''}move to {to}: {len(against)} blockers, {len(found) - len(against)} other findings"
        )
    return 3 if against else 0
