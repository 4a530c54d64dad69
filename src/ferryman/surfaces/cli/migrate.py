"""`ferryman migrate GUEST … --to HOST` and `ferryman follow ID`: ask, show, and tell how it ended."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from ferryman.app import Application, NotAsked, application, begins, timed
from ferryman.errors import BadInput, DriverError, FerrymanError, Refused
from ferryman.model.finding import blockers
from ferryman.model.request import DEFAULT_STOP_TIMEOUT, Chain, CopyStorage, Format, Options, Request
from ferryman.surfaces.cli import complete, display, render, terminal
from ferryman.surfaces.cli.assess import CopyDisks, Eject, HandshakeChoice, Handshakes, MapNetwork, MapPool, pairs
from ferryman.surfaces.cli.cold import (
    ChainChoice,
    Checks,
    Cold,
    CpuChoice,
    ForceOff,
    FormatChoice,
    Scratch,
    StopTimeout,
    Verify,
    VerifyChoice,
    ViaSsh,
    Warm,
    WayBack,
    check_format,
)
from ferryman.surfaces.cli.times import At, GiveUpAt, Window
from ferryman.surfaces.cli.values import Json, duration, size


def add_to(program: typer.Typer) -> None:
    """Attach these commands."""
    program.command("migrate")(migrate)
    program.command("follow")(follow)


def migrate(
    to: Annotated[str, typer.Option("--to", help="The destination.", autocompletion=complete.hosts)],
    guests: Annotated[
        list[str] | None, typer.Argument(help="Guests, moved one after another.", autocompletion=complete.guests)
    ] = None,
    source: Annotated[
        str,
        typer.Option("--from", help="The source, where the name alone does not tell.", autocompletion=complete.hosts),
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every guest of the source that --from names.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Findings and plan only; nothing is changed.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background; print the requests' ids and end.")
    ] = False,
    bandwidth: Annotated[str, typer.Option(help="At most this much a second, such as 100M.")] = "",
    max_downtime: Annotated[
        str, typer.Option(help="Allowed downtime, such as 500ms. Default: the hypervisor's 300ms.")
    ] = "",
    timeout: Annotated[
        str, typer.Option(help="Put the guest back after this long, such as 10min. Default: 30min.")
    ] = "",
    insecure: Annotated[bool, typer.Option("--insecure", help="Let memory travel unencrypted.")] = False,
    replace_definition: Annotated[
        bool,
        typer.Option(
            "--replace-definition", help="Save and replace an inactive definition of the guest at the destination."
        ),
    ] = False,
    copy_storage: CopyDisks = CopyStorage.AUTO,
    map_pool: MapPool = None,
    map_network: MapNetwork = None,
    eject: Eject = False,
    retire: Annotated[
        bool,
        typer.Option(
            "--retire", help="Remove the source's copies of the disks once the guest runs at the destination."
        ),
    ] = False,
    handshake: Handshakes = HandshakeChoice.AUTO,
    cold: Cold = False,
    warm: Warm = False,
    scratch: Scratch = "",
    stop_timeout: StopTimeout = "",
    force_off: ForceOff = False,
    chain: ChainChoice = Chain.FLATTEN,
    format: FormatChoice = Format.SAME,  # noqa: A002
    rollback_loses_writes: WayBack = False,
    via_ssh: ViaSsh = False,
    cpu: CpuChoice = "",
    verify: Verify = VerifyChoice.FULL,
    probe: Annotated[
        str, typer.Option(help="ADDRESS or ADDRESS:PORT that a client would use. Default: found by itself.")
    ] = "",
    check: Checks = None,
    retry: Annotated[
        int | None,
        typer.Option(
            min=0, max=20, help="Try so many more times what failed by what gets better by itself. Default: 0."
        ),
    ] = None,
    at: At = "",
    window: Window = "",
    give_up_at: GiveUpAt = "",
    backup_to: Annotated[
        str,
        typer.Option(
            "--backup-to",
            metavar="PATH",
            help="Back the guest up there first: /FOLDER or HOST:/FOLDER. Fails that, it is not moved.",
        ),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON event a line.")] = False,
) -> int:
    """Move guests to another host: running ones live, shut-off ones by their definition, any of them cold or warm if asked."""
    _check(guests or [], source, everything, dry_run and detach)
    check_format(format, stops=cold or warm)
    here = application()
    options = Options(
        bandwidth=size(bandwidth, "--bandwidth") if bandwidth else here.settings.bandwidth,
        max_downtime=duration(max_downtime, "--max-downtime") if max_downtime else here.settings.max_downtime,
        timeout=duration(timeout, "--timeout") if timeout else here.settings.timeout,
        insecure=insecure,
        replace_definition=replace_definition,
        copy_storage=copy_storage,
        map_pool=pairs(map_pool, "--map-pool"),
        map_network=pairs(map_network, "--map-network"),
        eject=eject,
        retire=retire,
        handshake=handshake.wanted,
        probe=probe,
        cold=cold,
        warm=warm,
        scratch=scratch,
        stop_timeout=duration(stop_timeout, "--stop-timeout") if stop_timeout else DEFAULT_STOP_TIMEOUT,
        force_off=force_off,
        chain=chain,
        format=format,
        rollback_loses_writes=rollback_loses_writes,
        via_ssh=via_ssh,
        cpu=cpu,
        verify=verify.value,
        checks=tuple(check or ()),
        retry=here.settings.retry if retry is None else retry,
        backup_to=here.backups.place(backup_to).words if backup_to else "",
    )
    options = timed(options, at=at, window=window, give_up_at=give_up_at)
    names = here.site.names_at(source) if everything else tuple(dict.fromkeys(guests or ()))
    if not names:
        print(f"host {source} has no guest", file=sys.stderr)
        return 0
    if dry_run:
        return _look_ahead(here, names, to, options, source, json)[1]
    if not yes and sys.stdin.isatty():
        may_go, code = _look_ahead(here, names, to, options, source, json=False)
        if not may_go:
            return code
        typer.confirm("go?" if len(names) == 1 else f"go with {may_go} of {len(names)}?", abort=True, err=True)
    elif not yes:
        raise BadInput(
            "migrate",
            "nobody can be asked: standard input is no terminal",
            "add --yes to go without being asked, or --dry-run to look only",
        )
    server = here.moves.server() if options.waits else None
    if server is not None:  # it waits better than a command, or a process of its own
        return _told(here.moves.hand_over(names, to, options, server[1], source=source), json)
    if detach:
        from ferryman.app import detached

        return _told(detached.start(here, names, to, options, source=source), json)
    interrupts = Interrupts(here)
    terminal.outlive(on_interrupt=interrupts.interrupted)
    asked = here.moves.ask_all(names, to, options, source=source)
    interrupts.asking = False
    return _see_them_through(here, asked, interrupts, json, forewarned=not yes)


def _check(guests: Sequence[str], source: str, everything: bool, both: bool) -> None:
    if everything and guests:
        raise BadInput(
            "migrate", f"--all and guests ({', '.join(guests)}) exclude each other", "leave one of them away"
        )
    if everything and not source:
        raise BadInput("--all", "it needs the host whose guests are meant", "name it: --all --from HOST")
    if not everything and not guests:
        raise BadInput(
            "migrate",
            "no guest is named",
            "name guests (ferryman guests lists them), or all of a host: --all --from HOST",
        )
    if both:
        raise BadInput("migrate", "--dry-run moves nothing that --detach could let go on", "leave one of them away")


def follow(
    request: Annotated[
        str, typer.Argument(help="The request's id, or its beginning.", autocompletion=complete.requests)
    ],
    json: Json = False,
) -> int:
    """Look at a migration under way until it ends."""
    here = application()
    return tell(here, here.moves.view(request).request.id, json, forewarned=False)


def _look_ahead(
    here: Application, names: Sequence[str], to: str, options: Options, source: str, json: bool
) -> tuple[int, int]:
    """Tell findings and plan of each guest; returns (how many may go, the worst exit code)."""
    may_go = 0
    plain: list[dict[str, Any]] = []
    for name in names:
        if len(names) > 1 and not json:
            print(f"---- {name}")
        try:
            found, planned = here.site.assess(name, to, options, source=source)
        except (Refused, DriverError) as error:
            if len(names) == 1:
                raise
            _not_asked(NotAsked(name, error), json=False)
            plain.append({"guest": name, "error": str(error)})
            continue
        may_go += not blockers(found)
        when = begins(options)
        plain.append({"guest": name, "findings": found, "plan": planned, **({"begins": when} if when else {})})
        if not json:
            render.findings(found)
            render.plan(planned, begins=when)
            render.hooks(here.settings.hooks_in_force)
            render.verdict(name, to, found)
    if json:
        render.as_json(plain if len(names) > 1 else plain[0])
    return may_go, 0 if may_go == len(names) else 3


def _not_asked(one: NotAsked, json: bool) -> None:
    if json:
        error = one.error
        display.event("refused", "", {"guest": one.guest, "what": error.what, "why": error.why, "remedy": error.remedy})
    else:
        render.error_lines(f"refused: {one.error.what}: {one.error.why}")
        if one.error.remedy:
            render.error_lines(f"  remedy: {one.error.remedy}")


def _told(asked: Sequence[Request | NotAsked], json: bool) -> int:
    """What was handed over to the background, and what could not be."""
    for one in asked:
        if isinstance(one, NotAsked):
            if len(asked) == 1 and not json:
                raise one.error
            _not_asked(one, json)
        elif json:
            display.event("request", one.id, one)
        else:
            when = f", begins at {begins(one.options)}" if one.options.waits else ""
            print(f"request {one.id}: {one.guest} from {one.source} to {one.destination}{when}")
    return 3 if any(isinstance(one, NotAsked) for one in asked) else 0


class Interrupts:
    """What Ctrl-C means: before anything was asked for the end, then cancel of the current move, and no other begins."""

    def __init__(self, here: Application) -> None:
        self._moves = here.moves
        self.asking, self.current, self.stopped = True, "", False

    def looks_at(self, request_id: str) -> None:
        """The move that Ctrl-C means from now on."""
        self.current = request_id

    def interrupted(self) -> None:
        """Ctrl-C was pressed."""
        if self.asking:
            raise typer.Abort
        self.stopped = True
        if not self.current:
            return
        try:
            self._moves.cancel(self.current)
            render.error_lines("\ncancel asked: the guest stays where it is, unless the switchover comes first")
        except Refused as error:
            render.error_lines(f"\nnot cancelled: {error.why}")


def _see_them_through(
    here: Application, asked: Sequence[Request | NotAsked], interrupts: Interrupts, json: bool, *, forewarned: bool
) -> int:
    """Carry the requests out in this process, one after another, and show them; returns the worst exit code."""
    if len(asked) == 1 and isinstance(asked[0], NotAsked) and not json:
        raise asked[0].error
    codes = [3 for one in asked if isinstance(one, NotAsked)]
    for one in asked:
        if isinstance(one, NotAsked):
            _not_asked(one, json)
    requests = [one for one in asked if isinstance(one, Request)]
    here.moves.begin_waiting(requests)
    for number, request in enumerate(requests, 1):
        if interrupts.stopped:
            here.moves.withdraw(requests[number - 1 :])
            break
        if len(asked) > 1 and not json:
            print(
                f"---- {request.guest} ({number} of {len(requests)}), from {request.source} to {request.destination}",
                flush=True,
            )
        here.moves.begin(request)
        try:
            codes.append(tell(here, request.id, json, forewarned=forewarned, now=interrupts.looks_at))
        except FerrymanError as error:
            if len(asked) == 1:
                raise
            _not_asked(NotAsked(request.guest, error), json)
            codes.append(error.exit_code)
        except OSError:  # nobody reads what we print any more: the moves go on
            terminal.leave()
        here.moves.wait([request.id])
        interrupts.current = ""
    for view in here.moves.carried_here():
        one = view.request
        interrupts.looks_at(one.id)
        render.error_lines(
            f"request {one.id} ({one.guest}), left by an earlier process, is carried on here until its end"
        )
        here.moves.wait([one.id])
    if len(asked) > 1:
        codes += _sum_up(here, asked, json)
    return max(codes, default=0)


def _sum_up(here: Application, asked: Sequence[Request | NotAsked], json: bool) -> list[int]:
    """One line for each guest; returns the exit codes of those that have ended."""
    rows, plain, codes = [], [], []
    for one in asked:
        if isinstance(one, NotAsked):
            rows.append(("-", one.guest, "-", "refused", "-", "-", one.error.why))
            plain.append({"request": "", "guest": one.guest, "status": "refused", "reason": one.error.why})
            continue
        last = here.moves.last_try(one.id)
        outcome = here.moves.show(last.id).outcome
        status, reason = (outcome.status, outcome.reason) if outcome else ("not ended", "its end was not recorded")
        if outcome:
            codes.append(render.EXIT_CODES[outcome.status])
        plain.append({"request": last.id, "guest": one.guest, "status": status, "reason": reason})
        rows.append(
            (last.id, one.guest, f"{one.source} -> {one.destination}", status, *render.standstills(outcome), reason)
        )
    if json:
        display.event("summary", "", {"moves": plain})
    else:
        print("----")
        render.table(("REQUEST", "GUEST", "MOVE", "STATE", "DOWNTIME", "BLACKOUT", "REASON"), rows)
    return codes


def tell(
    here: Application, request_id: str, json: bool, *, forewarned: bool, now: Callable[[str], None] = lambda _: None
) -> int:
    """Show a request until it ends, and those that try it again; `now` is told each."""
    while True:
        now(request_id)
        code, following = _tell_one(here, request_id, json, forewarned=forewarned)
        if not following:
            return code
        if not json:
            print(f"---- tried again as request {following}", flush=True)
        request_id = following


def _tell_one(here: Application, request_id: str, json: bool, *, forewarned: bool) -> tuple[int, str]:
    """(exit code, the request that tries it again)."""
    if json:
        shown = display.events(here.moves, request_id)
    else:
        shown = display.live(here.moves, request_id, forewarned=forewarned)
    if not shown.ended:
        raise FerrymanError(f"request {request_id}", "nobody carries it out: its ferryman is gone", "ferryman recover")
    report = here.moves.show(request_id)
    if report.outcome is None:
        raise FerrymanError(f"request {request_id}", "its end was not recorded", "ferryman recover")
    if not json:
        render.findings(report.findings_after)
        render.outcome(report.outcome)
        if report.backup is not None:
            render.backup(report.backup)
            for target, copied in report.backup_copies.items():
                render.copy(target, copied)
        for target, copied in report.copies.items():
            render.copy(target, copied)
        if report.left_to_retire:
            print(f"  {render.left_to_retire(report)}; to remove it: ferryman retire {request_id}")
        print(f"report: ferryman show {request_id}")
    return render.EXIT_CODES[report.outcome.status], report.tried_again_as
