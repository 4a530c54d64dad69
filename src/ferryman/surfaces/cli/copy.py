"""`ferryman copy SRC DST`: one disk, without a guest."""

import sys
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from ferryman.app import application
from ferryman.errors import BadInput, Stopped
from ferryman.model.copy import CopyProgress, CopyResult, CopyTask, Image
from ferryman.model.units import format_duration, format_size
from ferryman.surfaces.cli import display, render, terminal
from ferryman.surfaces.cli.values import size

LINE_EVERY = 5.0  # seconds between two lines where there is no terminal


class Verify(StrEnum):
    """What is read back at the end."""

    FULL = "full"
    WRITTEN = "written"
    NONE = "none"


class Compress(StrEnum):
    """Whether data is packed on the wire."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Preallocation(StrEnum):
    """Whether the new image takes all of its storage at once."""

    OFF = "off"
    METADATA = "metadata"
    FALLOC = "falloc"
    FULL = "full"


def add_to(program: typer.Typer) -> None:
    """Attach the command."""
    program.command("copy")(copy)


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="PATH, HOST:PATH, HOST:POOL/VOLUME or HOST:URI.")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="The same; it must not exist, or see --update.")],
    source_format: Annotated[str, typer.Option(help="Format of SRC. Default: by its name, else raw.")] = "",
    format: Annotated[str, typer.Option(help="Format of DST. Default: by its name, else that of SRC.")] = "",  # noqa: A002
    as_file: Annotated[bool, typer.Option("--as-file", help="The bytes of the file, whatever is in it.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="DST is an older copy or a device: write what differs.")
    ] = False,
    new_size: Annotated[
        str, typer.Option("--size", help="Virtual size of DST, such as 20G. Default: that of SRC.")
    ] = "",
    preallocation: Annotated[Preallocation, typer.Option(help="Storage that DST takes at once.")] = Preallocation.OFF,
    verify: Annotated[Verify, typer.Option(help="What is read back at the end.")] = Verify.FULL,
    compress: Annotated[Compress, typer.Option(help="Pack on the wire; auto: where it is faster.")] = Compress.AUTO,
    bandwidth: Annotated[str, typer.Option(help="At most this much a second, such as 100M.")] = "",
    via_ssh: Annotated[
        bool, typer.Option("--via-ssh", help="Send the data through ssh, by way of this machine.")
    ] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let the data travel unencrypted.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON event a line.")] = False,
) -> int:
    """Copy a disk between hosts: resumed after a cut, compared with an older copy, proved by a digest."""
    here = application()
    if as_file and (format or new_size):
        raise BadInput(
            "--as-file",
            "the bytes of a file have neither another format nor another size",
            "leave --format and --size away",
        )
    copies = here.copies
    wish = CopyTask(
        "",
        Image("", source_format),
        Image("", format),
        size=size(new_size, "--size") if new_size else 0,
        as_file=as_file,
        preallocation=preallocation.value,
        verify=verify.value,
        compress=compress.value,
        bandwidth=size(bandwidth, "--bandwidth") if bandwidth else here.settings.bandwidth,
        via_ssh=True if via_ssh else None,
        existing="update" if update else "refuse",
        insecure=insecure,
    )
    task, one, other = copies.task(source, destination, wish)
    interrupted: list[bool] = []
    terminal.outlive(on_interrupt=lambda: interrupted.append(True))
    shown, finish = _shown(json, task.id)
    try:
        result = copies.copy(task, one, other, progress=shown, cancelled=lambda: bool(interrupted))
    except Stopped as error:
        raise Stopped(
            f"copy to {destination}", "stopped; what is done stays done", "the same command goes on where it was"
        ) from error
    finally:
        finish()
    if json:
        display.event("end", task.id, result)
    else:
        _tell(result)
    return 0


def _shown(json: bool, copy_id: str) -> tuple[Callable[[CopyProgress], None], Callable[[], None]]:
    """(what shows progress, what ends the showing)."""
    if json:
        return lambda one: display.event("progress", copy_id, one), lambda: None
    if sys.stderr.isatty():
        return _drawn()
    told = [0.0]

    def line(one: CopyProgress) -> None:
        if time.monotonic() - told[0] >= LINE_EVERY:
            told[0] = time.monotonic()
            render.error_lines(
                f"{one.phase}: {format_size(one.done)} of {format_size(one.total)}, {format_size(one.wire)} on the wire"
            )

    return line, lambda: None


def _drawn() -> tuple[Callable[[CopyProgress], None], Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[wire]}"), console=Console(stderr=True), transient=True,
    )  # fmt: skip
    number = bar.add_task("beginning", total=None, wire="")
    phase = [""]

    def draw(one: CopyProgress) -> None:
        if one.phase != phase[0]:
            phase[0] = one.phase
            bar.reset(number, description=one.phase, total=one.total, wire="")
        bar.update(number, completed=one.done, total=one.total, wire=f"{format_size(one.wire)} on the wire")

    bar.start()
    return draw, bar.stop


WAYS = {
    "tls": "encrypted, from host to host",
    "plain": "unencrypted, from host to host",
    "ssh": "through ssh, by way of this machine",
    "local": "within one host",
}


def _tell(result: CopyResult) -> None:
    print(f"copied {format_size(result.size)} in {format_duration(result.seconds)}, {WAYS[result.way]}")
    print(
        f"  read {format_size(result.read)}, on the wire {format_size(result.wire)}, written {format_size(result.written)}"
    )
    if result.attempts > 1:
        print(f"  attempts {result.attempts}, sent again {format_size(result.sent_again)}")
    print(f"  source      {result.source_digest}")
    if result.destination_digest:
        print(
            f"  destination {result.destination_digest}  (equal; read back in {format_duration(result.verify_seconds)})"
        )
    else:
        print("  destination not read back (--verify none)")
    if not result.watched:
        print(
            "  on storage such as SRC's nothing tells whether somebody wrote to it meanwhile: the digest is of what was read"
        )
