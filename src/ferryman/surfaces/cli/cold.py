"""The options of a move that stops the guest, which `migrate` and `assess` share."""

from enum import StrEnum
from typing import Annotated

import typer

from ferryman.errors import BadInput
from ferryman.model.request import Chain, Format

Cold = Annotated[
    bool,
    typer.Option(
        "--cold", help="Stop the guest, copy its disks, start it at the destination; one that is off stays off."
    ),
]
Warm = Annotated[
    bool,
    typer.Option("--warm", help="Like --cold, but copy most of its disks while it still runs: the stop is short."),
]
Scratch = Annotated[
    str,
    typer.Option(
        "--scratch",
        metavar="DIRECTORY",
        help="At the source, for what the guest overwrites while a warm move copies. Default: beside each image.",
    ),
]
StopTimeout = Annotated[
    str, typer.Option("--stop-timeout", help="How long the guest may take to shut down, such as 5min. Default: 2min.")
]
ForceOff = Annotated[
    bool,
    typer.Option("--force-off", help="Switch the guest off if it does not shut down in time: unwritten data are lost."),
]


ChainChoice = Annotated[
    Chain,
    typer.Option("--chain", help="Layers below a disk that is moved cold: flatten into one image, or keep as files."),
]
FormatChoice = Annotated[
    Format,
    typer.Option("--format", help="What copied disks are at the destination, of a guest that is moved cold."),
]
WayBack = Annotated[
    bool,
    typer.Option(
        "--rollback-loses-writes",
        help="Back to where a cold move came from, on the disks kept there: what was written since is lost.",
    ),
]
ViaSsh = Annotated[
    bool, typer.Option("--via-ssh", help="Send the disks of a cold move through ssh, by way of this machine.")
]
CpuChoice = Annotated[
    str,
    typer.Option(
        "--cpu", metavar="MODEL", help="The CPU of a guest that is moved cold: host-model, or a model's name."
    ),
]
Checks = Annotated[
    list[str] | None,
    typer.Option("--check", help="Ask this once the guest runs there: tcp:ADDRESS:PORT, http:URL or command:WORDS."),
]


def check_format(wanted: Format, *, stops: bool) -> None:
    """Raises BadInput for a conversion that only a move makes which stops the guest."""
    if wanted is not Format.SAME and not stops:
        raise BadInput("--format", "a disk that QEMU copies along with a running guest keeps its format", "add --cold or --warm, or leave --format away")  # fmt: skip


class VerifyChoice(StrEnum):
    """How much of a copied disk is read back from the destination's storage."""

    FULL = "full"
    WRITTEN = "written"
    NONE = "none"


Verify = Annotated[
    VerifyChoice,
    typer.Option("--verify", help="Read back at the destination: the whole disk, what was written, or nothing."),
]
