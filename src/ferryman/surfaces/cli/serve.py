"""`ferryman serve`: wait for moves whose time will come, and carry them out."""

import signal
import threading
from typing import Any

import typer

from ferryman.app import application
from ferryman.plain import to_json
from ferryman.surfaces.cli.values import Json


def add_to(program: typer.Typer) -> None:
    """Attach this command."""
    program.command("serve")(serve)


def serve(json: Json = False) -> None:
    """Carry out moves that wait for their time, and what others left. Ends on SIGTERM; what is under way then is carried on by the next."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: ended.set())
    application().serve(_as_json if json else _as_line, ended)


def _as_json(event: str, **fields: Any) -> None:
    print(to_json({"event": event, **fields}), flush=True)


def _as_line(event: str, **fields: Any) -> None:
    """Words with spaces in quotes, so that a machine can take them apart."""
    told = [f"{name}={to_json(value) if ' ' in value or not value else value}" for name, value in fields.items()]
    print(" ".join((event, *told)), flush=True)
