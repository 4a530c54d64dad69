"""What options and arguments of several commands share: how their text is read."""

from typing import Annotated

import typer

from ferryman.errors import BadInput
from ferryman.model.units import parse_duration, parse_size
from ferryman.surfaces.cli import complete

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="The request's id, or its beginning.", autocompletion=complete.requests)]


def size(text: str, option: str) -> int:
    """Bytes. Raises BadInput naming the option."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise BadInput(option, str(error), "such as 100M") from error


def duration(text: str, option: str) -> float:
    """Seconds. Raises BadInput naming the option."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadInput(option, str(error), "such as 500ms or 10min") from error
