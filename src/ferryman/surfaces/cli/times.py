"""The options that say when a move begins and when it is given up."""

from typing import Annotated

import typer

At = Annotated[
    str,
    typer.Option(
        "--at", metavar="TIME", help="Begin then: 22:00 (the next one), or a date and a time, such as 2026-12-05T22:00."
    ),
]
Window = Annotated[
    str,
    typer.Option(
        "--window", metavar="WINDOW", help="Begin within it only, such as 'Sat,Sun 02:00-04:00 Europe/Berlin'."
    ),
]
GiveUpAt = Annotated[
    str,
    typer.Option(
        "--give-up-at",
        metavar="TIME",
        help="A cold or warm move that is not copied by then is put back, and the guest started.",
    ),
]
