"""`ferryman assess GUEST --to HOST`."""

from enum import StrEnum
from typing import Annotated

import typer

from ferryman.app import application
from ferryman.errors import BadInput
from ferryman.model.finding import blockers
from ferryman.model.request import Chain, CopyStorage, Format, Handshake, Options
from ferryman.surfaces.cli import complete, render
from ferryman.surfaces.cli.cold import (
    ChainChoice,
    Cold,
    CpuChoice,
    ForceOff,
    FormatChoice,
    Scratch,
    ViaSsh,
    Warm,
    WayBack,
    check_format,
)
from ferryman.surfaces.cli.hosts import MeasureLink
from ferryman.surfaces.cli.values import Json

CopyDisks = Annotated[
    CopyStorage,
    typer.Option(
        "--copy-storage", help="auto: copy disks that are not on storage both hosts share; all: those too; never: none."
    ),
]
MapPool = Annotated[
    list[str] | None,
    typer.Option(
        "--map-pool",
        metavar="HERE=THERE",
        help="Pool for what lies in pool (or directory) HERE. Remembered for these hosts.",
    ),
]
MapNetwork = Annotated[
    list[str] | None,
    typer.Option(
        "--map-network", metavar="HERE=THERE", help="Bridge or network instead of HERE. Remembered for these hosts."
    ),
]
Eject = Annotated[bool, typer.Option("--eject", help="Take out removable media that the destination does not have.")]


def pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """HERE=THERE, any number of times. Raises BadInput naming the option."""
    found: dict[str, str] = {}
    for text in given or ():
        here, equals, there = text.partition("=")
        if not (here and equals and there):
            raise BadInput(option, f"'{text}' is no pair of names", "write HERE=THERE, such as default=fast")
        found[here] = there
    return found


class HandshakeChoice(StrEnum):
    """What --handshake takes."""

    AUTO = "auto"  # peer where the source reaches the destination's libvirtd, else carried
    PEER = "peer"
    CARRIED = "carried"

    @property
    def wanted(self) -> Handshake | None:
        """For Options; None: chosen by itself."""
        return None if self is HandshakeChoice.AUTO else Handshake(self.value)


Handshakes = Annotated[
    HandshakeChoice,
    typer.Option("--handshake", help="Who leads it: the source's libvirtd (peer) or ferryman (carried)."),
]


def add_to(program: typer.Typer) -> None:
    """Attach this command."""
    program.command("assess")(assess)


def assess(
    guest: Annotated[str, typer.Argument(autocompletion=complete.guests)],
    to: Annotated[str, typer.Option("--to", help="The destination.", autocompletion=complete.hosts)],
    source: Annotated[
        str,
        typer.Option("--from", help="The source, where the name alone does not tell.", autocompletion=complete.hosts),
    ] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="As migrate would be asked.")] = False,
    replace_definition: Annotated[
        bool, typer.Option("--replace-definition", help="As migrate would be asked.")
    ] = False,
    copy_storage: CopyDisks = CopyStorage.AUTO,
    map_pool: MapPool = None,
    map_network: MapNetwork = None,
    eject: Eject = False,
    handshake: Handshakes = HandshakeChoice.AUTO,
    cold: Cold = False,
    warm: Warm = False,
    scratch: Scratch = "",
    force_off: ForceOff = False,
    chain: ChainChoice = Chain.FLATTEN,
    rollback_loses_writes: WayBack = False,
    via_ssh: ViaSsh = False,
    cpu: CpuChoice = "",
    format: FormatChoice = Format.SAME,  # noqa: A002
    measure_link: MeasureLink = False,
    json: Json = False,
) -> int:
    """Say what speaks against moving a guest. Exit code 0: it may go; 3: it may not."""
    check_format(format, stops=cold or warm)
    here = application()
    options = Options(
        bandwidth=here.settings.bandwidth, timeout=here.settings.timeout, insecure=insecure,
        replace_definition=replace_definition, copy_storage=copy_storage, eject=eject, handshake=handshake.wanted, cold=cold, warm=warm, scratch=scratch, force_off=force_off, cpu=cpu, format=format,
        chain=chain, rollback_loses_writes=rollback_loses_writes, via_ssh=via_ssh,
        map_pool=pairs(map_pool, "--map-pool"), map_network=pairs(map_network, "--map-network"),
    )  # fmt: skip
    found, _ = here.site.assess(guest, to, options, source=source, measure_link=measure_link)
    against = blockers(found)
    if json:
        render.as_json({"guest": guest, "to": to, "may_go": not against, "findings": found})
    else:
        render.findings(found)
        render.verdict(guest, to, found)
    return 3 if against else 0
