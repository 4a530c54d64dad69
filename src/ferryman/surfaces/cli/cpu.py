"""`ferryman cpu baseline HOST…`."""

from typing import Annotated

import typer

from ferryman.app import application, cpu_baseline
from ferryman.surfaces.cli import render
from ferryman.surfaces.cli.values import Json


def add_to(program: typer.Typer) -> None:
    """Attach this command."""
    cpu = typer.Typer(help="CPUs that fit several hosts.", no_args_is_help=True, rich_markup_mode=None)
    cpu.command("baseline")(baseline)
    cpu.callback()(_group)
    program.add_typer(cpu, name="cpu")


def _group() -> None:
    """CPUs that fit several hosts."""


def baseline(
    hosts: Annotated[list[str] | None, typer.Argument(help="Hosts; all when none is named.")] = None, json: Json = False
) -> None:
    """Say which CPU fits all these hosts, and what each would give up for it."""
    found = cpu_baseline(application().site, hosts or [])
    if json:
        render.as_json(found)
        return
    print(f"this CPU ({found.model}, {found.virtualization}) fits {', '.join(loss.host for loss in found.losses)}:")
    print(found.xml.strip())
    print("to use it: virsh edit GUEST, put it in place of <cpu …>, shut the guest down and start it again")
    for loss in found.losses:
        print(f"{loss.host} ({loss.model} alone) gives up: {', '.join(loss.loses) or 'nothing'}")
