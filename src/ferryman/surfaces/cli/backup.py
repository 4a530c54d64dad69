"""`ferryman backup`, `backups` and `restore`: guests backed up into folders, and brought back from them."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ferryman.app import Application, application
from ferryman.model.finding import Finding, blockers
from ferryman.model.plan import Step
from ferryman.model.request import Format, Options, Request
from ferryman.model.units import format_moment, format_size
from ferryman.surfaces.cli import complete, migrate, render, terminal
from ferryman.surfaces.cli.assess import MapNetwork, MapPool, pairs
from ferryman.surfaces.cli.values import Json, size

Folder = Annotated[str, typer.Argument(metavar="PATH", help="/FOLDER or ./FOLDER of this machine, or HOST:/FOLDER.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Findings and plan only; nothing is changed.")]
Bandwidth = Annotated[str, typer.Option("--bandwidth", help="At most this much a second, such as 100M.")]
ViaSsh = Annotated[bool, typer.Option("--via-ssh", help="Send the data through ssh, by way of this machine.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Let the data travel unencrypted.")]
Events = Annotated[bool, typer.Option("--json", help="One JSON event a line.")]


def add_to(program: typer.Typer) -> None:
    """Attach these commands."""
    for function in (backup, backups, restore):
        program.command(function.__name__)(function)


def backup(
    guest: Annotated[str, typer.Argument(help="The guest, running or not.", autocompletion=complete.guests)],
    path: Folder,
    source: Annotated[
        str, typer.Option("--from", help="Its host, where the name alone does not tell.", autocompletion=complete.hosts)
    ] = "",
    full: Annotated[bool, typer.Option("--full", help="One that stands upon no earlier backup.")] = False,
    scratch: Annotated[
        str,
        typer.Option(
            "--scratch",
            metavar="DIRECTORY",
            help="At its host, for what it overwrites meanwhile. Default: beside each image.",
        ),
    ] = "",
    dry_run: DryRun = False,
    bandwidth: Bandwidth = "",
    via_ssh: ViaSsh = False,
    insecure: Insecure = False,
    json: Events = False,
) -> int:
    """Back a guest up into a folder: all of it the first time, then what has changed; read back, with digests."""
    here = application()
    wanted = _options(here, bandwidth, via_ssh, insecure, full=full, scratch=scratch)
    request = here.backups.request(guest, path, wanted, source=source)
    if dry_run:
        found, plan = here.backups.assess(request)
        told = f"plan: back {plan.guest} up from {plan.source} to {plan.place.below(plan.name).words}"
        return _look_ahead(told, "the manifest is written", found, plan.steps, plan, json)
    return _carry_out(here, request, json)


def restore(
    path: Annotated[str, typer.Argument(metavar="PATH", help="One backup's folder: /FOLDER or HOST:/FOLDER.")],
    to: Annotated[str, typer.Option("--to", help="The host that gets the guest.", autocompletion=complete.hosts)],
    name: Annotated[
        str, typer.Option("--name", help="Make a second guest of that name, with another UUID and MACs.")
    ] = "",
    map_pool: MapPool = None,
    map_network: MapNetwork = None,
    format: Annotated[  # noqa: A002
        Format, typer.Option("--format", help="What its disks are there. Default: as they were.")
    ] = Format.SAME,
    start: Annotated[bool, typer.Option("--start", help="Start it; otherwise it stays off.")] = False,
    dry_run: DryRun = False,
    bandwidth: Bandwidth = "",
    via_ssh: ViaSsh = False,
    insecure: Insecure = False,
    json: Events = False,
) -> int:
    """Bring a guest back from a backup, as it was or as a second one; never over one that is there."""
    here = application()
    wanted = _options(
        here, bandwidth, via_ssh, insecure, name=name, start=start, format=format,
        map_pool=pairs(map_pool, "--map-pool"), map_network=pairs(map_network, "--map-network"),
    )  # fmt: skip
    request = here.backups.restore_request(path, to, wanted)
    if dry_run:
        found, plan = here.backups.assess_restore(request)
        told = f"plan: bring {plan.guest} back at {plan.destination} from {plan.backup.words}"
        return _look_ahead(told, "it is defined", found, plan.steps, plan, json)
    return _carry_out(here, request, json)


def _options(here: Application, bandwidth: str, via_ssh: bool, insecure: bool, **more: Any) -> Options:
    rate = size(bandwidth, "--bandwidth") if bandwidth else here.settings.bandwidth
    return Options(bandwidth=rate, via_ssh=via_ssh, insecure=insecure, **more)


def _look_ahead(told: str, forward: str, found: Sequence[Finding], steps: Sequence[Step], plan: Any, json: bool) -> int:
    if json:
        render.as_json({"findings": found, "plan": plan})
    else:
        render.findings(found)
        print(told)
        render.steps(steps, forward)
    return 3 if blockers(found) else 0


def _carry_out(here: Application, request: Request, json: bool) -> int:
    interrupts = migrate.Interrupts(here)
    terminal.outlive(on_interrupt=interrupts.interrupted)
    here.backups.carry_out(request)
    interrupts.asking = False
    try:
        return migrate.tell(here, request.id, json, forewarned=False, now=interrupts.looks_at)
    except OSError:  # nobody reads what we print any more: it goes on
        terminal.leave()
        here.moves.wait([request.id])
        return 0
    finally:
        here.moves.wait([request.id])


def backups(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="A folder of backups, of one guest's, or one backup: /FOLDER or HOST:/FOLDER."
        ),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every disk, and hold it against the manifest; nothing is changed.")
    ] = False,
    json: Json = False,
) -> int:
    """List backups, what each stands upon, and what is not in order. Exit code 3 when something is not."""
    here = application()
    found = here.backups.found(path)
    stopped: list[bool] = []
    if verify:
        terminal.outlive(on_interrupt=lambda: stopped.append(True))
        found = tuple(
            here.backups.looked_through(one, progress=lambda _: None, cancelled=lambda: bool(stopped)) for one in found
        )
    if json:
        render.as_json(found)
    else:
        rows = []
        for one in found:
            manifest = one.backup.manifest
            about = (manifest.guest, format_moment(manifest.at), str(manifest.consistency), format_size(sum(disk.bytes for disk in manifest.disks))) if manifest else ("-",) * 4  # fmt: skip
            state = "NOT IN ORDER" if one.lacking else "verified" if one.looked_through else "there"
            rows.append((one.folder.words, *about, str(len(one.chain)), str(len(one.needed_by)), state))
        render.table(("BACKUP", "GUEST", "OF", "DISKS", "SIZE", "CHAIN", "NEEDED BY", "STATE"), rows)
        for one in found:
            for why in one.lacking:
                print(f"{one.folder.words}: {why}")
    return 3 if any(one.lacking for one in found) else 0
