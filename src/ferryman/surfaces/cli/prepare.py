"""`ferryman host prepare`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ferryman.app import application
from ferryman.errors import BadInput, FerrymanError
from ferryman.model.host import Answer, Check
from ferryman.surfaces.cli import complete, render

if TYPE_CHECKING:  # not needed by every command
    from ferryman.model.preparation import Prepared


def add_to(host: typer.Typer) -> None:
    """Attach the command to `ferryman host`."""
    host.command("prepare")(prepare)


def prepare(
    names: Annotated[list[str], typer.Argument(help="Registered hosts.", autocompletion=complete.hosts)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be changed, and change nothing.")] = False,
    revert: Annotated[bool, typer.Option("--revert", help="Undo the newest preparation of each.")] = False,
    shared_directory: Annotated[
        list[str] | None, typer.Option(help="A directory that all hosts share; may be given again.")
    ] = None,
    ca_certificate: Annotated[str, typer.Option(help="An authority of your own, in place of ferryman's.")] = "",
    ca_key: Annotated[str, typer.Option(help="Its key.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Make hosts ready to move guests over TLS: certificates, listening, migration address; then check them."""
    if bool(ca_certificate) != bool(ca_key):
        raise BadInput("--ca-certificate and --ca-key", "only one of the two was given", "give both")
    if revert and (dry_run or shared_directory or ca_certificate):
        raise BadInput(
            "--revert", "it takes no other option", "leave them away: it undoes the newest preparation as a whole"
        )
    from ferryman.app.preparation import Asked

    preparations = application().preparations
    authority = (Path(ca_certificate), Path(ca_key)) if ca_certificate else None
    asked = Asked(authority, tuple(shared_directory or ()), dry_run)
    answers = []
    for answer in preparations.revert(names) if revert else preparations.prepare(names, asked):
        answers.append(answer)
        if not json:
            _show(answer)
    ready = [
        one.machine
        for one in answers
        if not isinstance(one, FerrymanError) and one.machine in names and not one.by_hand
    ]
    checks = [] if dry_run or revert or not ready else _checks(ready, preparations.site.check(ready))
    if json:
        render.as_json({"hosts": [_plain(answer) for answer in answers], "checks": checks})
    else:
        render.checks(checks)
    return _code(answers, checks)


def _checks(names: Iterable[str], checks: list[Check]) -> list[Check]:
    ways = [way for name in names if (way := application().preparations.reachable(name))]
    return [*checks, *ways]


def _code(answers: "Iterable[Prepared | FerrymanError]", checks: Iterable[Check]) -> int:
    codes = [answer.exit_code for answer in answers if isinstance(answer, FerrymanError)]
    by_hand = any(not isinstance(answer, FerrymanError) and answer.by_hand for answer in answers)
    return max([*codes, 3 if by_hand or any(one.answer is Answer.MISSING for one in checks) else 0])


def _plain(answer: "Prepared | FerrymanError") -> object:
    if isinstance(answer, FerrymanError):
        return {"what": answer.what, "why": answer.why, "remedy": answer.remedy}
    return answer


def _show(answer: "Prepared | FerrymanError") -> None:
    if isinstance(answer, FerrymanError):
        render.error_lines(f"ferryman: {answer.what}: {answer.why}")
        if answer.remedy:
            render.error_lines(f"  remedy: {answer.remedy}")
        return
    print(f"{answer.machine}: {answer.result}")
    for number, change in enumerate(answer.changes, 1):
        print(f"  {number}. {change.what}\n     because {change.why}; undo: {change.undo}")
    if answer.kept_in:
        print(f"  what was there before is kept in {answer.kept_in}")
    if answer.guests:
        print(f"  {answer.guests} running guest{'s' if answer.guests > 1 else ''} went on untouched")
    for note in answer.notes:
        print(f"  note: {note}")
    if answer.by_hand:
        print(f"\n{answer.by_hand}\n")
