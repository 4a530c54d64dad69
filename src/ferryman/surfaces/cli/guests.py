"""`ferryman guests`, `ferryman guest NAME` and `ferryman unmark GUEST`."""

from typing import Annotated

import typer

from ferryman.app import application
from ferryman.model.units import format_moment, format_size
from ferryman.surfaces.cli import complete, render
from ferryman.surfaces.cli.values import Json


def add_to(program: typer.Typer) -> None:
    """Attach these commands."""
    program.command("guests")(guests)
    program.command("guest")(guest)
    program.command("unmark")(unmark)


def guests(json: Json = False) -> int:
    """List the guests of all hosts. Exit code 3 when a host did not answer."""
    answers = application().site.guests()
    silent = [answer for answer in answers if answer.error]
    if json:
        render.as_json(
            [
                {"host": one.host.name, "guests": one.guests, "error": str(one.error) if one.error else ""}
                for one in answers
            ]
        )
        return 3 if silent else 0
    rows = [
        (guest.name, answer.host.name, guest.state, str(guest.vcpus),
         f"{format_size(guest.memory_used) if guest.memory_used else '-'} / {format_size(guest.memory_configured)}",
         str(len(guest.disks)), ",".join(guest.networks) or "-", "yes" if guest.autostart else "no")
        for answer in answers
        for guest in answer.guests
    ]  # fmt: skip
    render.table(("GUEST", "HOST", "STATE", "VCPUS", "RAM USED / CONFIGURED", "DISKS", "NICS", "AUTOSTART"), rows)
    for answer in silent:
        render.error_lines(f"host {answer.host.name}: {answer.error}")
    return 3 if silent else 0


def guest(name: Annotated[str, typer.Argument(autocompletion=complete.guests)], json: Json = False) -> None:
    """Show one guest in full."""
    found = application().site.guest(name)
    if json:
        render.as_json(found)
        return
    lifetime = "persistent" if found.persistent else "transient"
    print(
        f"{found.name} ({found.uuid}) at {found.host}: {found.state}, {lifetime}, autostart {'on' if found.autostart else 'off'}"
    )
    if found.title:
        print(f"  title: {found.title}")
    print(f"  {found.virtualization} {found.machine}, {found.vcpus} vCPU, CPU {found.cpu_mode or 'default'}")
    print(f"  RAM {format_size(found.memory_used)} used of {format_size(found.memory)}")
    for disk in found.disks:
        print(
            f"  {disk.device} {disk.target}: {disk.source or 'empty'} ({disk.kind}, {disk.format}, cache {disk.cache or 'default'})"
        )
    for interface in found.interfaces:
        print(f"  NIC {interface.mac}: {interface.kind} {interface.source} ({interface.model})")
    for device in found.host_devices:
        print(f"  host device: {device.kind} {device.name}")
    if found.mark:
        print(
            f"  marked: moved by request {found.mark.request} of {found.mark.by} since {format_moment(found.mark.since)}"
        )
    for job in found.jobs:
        print(f"  job: {job.kind} {job.detail}")
    print(f"  snapshots: {', '.join(found.snapshots) or 'none'}; addresses: {', '.join(found.addresses) or 'unknown'}")


def unmark(
    name: Annotated[str, typer.Argument(metavar="GUEST")],
    force: Annotated[bool, typer.Option("--force", help="Also when the move may still be under way.")] = False,
    json: Json = False,
) -> None:
    """Take the mark of a move that is over from a guest's metadata: left by a ferryman that died for good."""
    mark = application().site.unmark(name, force=force)
    if json:
        render.as_json({"guest": name, "removed": mark})
    elif mark is None:
        print(f"{name} bears no mark")
    else:
        print(f"{name}: removed the mark of request {mark.request} of {mark.by} since {format_moment(mark.since)}")
