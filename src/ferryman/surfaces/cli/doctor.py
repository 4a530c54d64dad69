"""`ferryman doctor` and `ferryman completion SHELL`: about this machine and this shell."""

from enum import StrEnum
from typing import Annotated

import typer

from ferryman.model.host import Answer
from ferryman.surfaces.cli import render
from ferryman.surfaces.cli.values import Json


def add_to(program: typer.Typer) -> None:
    """Attach these commands."""
    program.command("doctor")(doctor)
    program.command("completion")(completion)


def doctor(json: Json = False) -> int:
    """Say what this machine lacks to run ferryman, each with its remedy. Exit code 3 when something is missing."""
    from ferryman.app.doctor import examine

    lines = []
    for line in examine():
        lines.append(line)
        if not json:
            render.check(line)
    if json:
        render.as_json(lines)
    return 3 if any(line.answer is Answer.MISSING for line in lines) else 0


class Shell(StrEnum):
    """The shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell to print the script for.")]) -> None:
    """Print a script that makes a shell complete commands, options, hosts, guests and requests."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name="ferryman", complete_var="_FERRYMAN_COMPLETE", shell=shell))
