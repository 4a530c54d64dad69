"""The command line: one file per group of commands; render.py draws, everything else asks app."""

import os
import sys

import typer

from ferryman.errors import FerrymanError
from ferryman.surfaces.cli import assess, backup, copy, cpu, doctor, guests, hosts, migrate, requests, serve

program = typer.Typer(
    name="ferryman",
    help="Moves running guests between KVM hosts: says what will happen, shows it, proves it.",
    rich_markup_mode=None,  # rich help costs a third of the start-up time
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
)
for part in (hosts, guests, cpu, assess, migrate, copy, backup, requests, serve, doctor):
    part.add_to(program)


def run() -> int:
    """Run a command; an error of ours becomes three lines and its exit code."""
    if "_FERRYMAN_COMPLETE" in os.environ:  # a shell asks; typer knows how to answer once it is told to
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
    try:
        code = program(prog_name="ferryman", standalone_mode=False)
    except FerrymanError as error:
        print(f"ferryman: {error.what}: {error.why}", file=sys.stderr)
        if error.remedy:
            print(f"  remedy: {error.remedy}", file=sys.stderr)
        return error.exit_code
    except typer.Abort:
        print("ferryman: not done", file=sys.stderr)
        return 3
    except typer.Exit as end:
        return end.exit_code
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # what click says of wrong arguments
            if type(error).__name__ == "NoArgsIsHelpError":  # what the bare name of a group prints is its help
                print(error.format_message())
                return int(error.exit_code)
            print(f"ferryman: {error.format_message()}", file=sys.stderr)
            if (context := getattr(error, "ctx", None)) is not None:
                print(f"  remedy: {context.command_path} --help", file=sys.stderr)
            return int(error.exit_code)
        raise
    return code if isinstance(code, int) else 0
