"""Moves without a terminal: handed to a process that is started anew (DBOS's threads would not survive a fork).

`start` is the side of the command; run as a module this file is the other side.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ferryman.errors import FerrymanError, Refused
from ferryman.model.request import Options, Request
from ferryman.plain import from_json, from_plain, to_json, to_plain

if TYPE_CHECKING:
    from ferryman.app import Application, NotAsked

LOG = "detached.log"  # in the state directory: empty unless such a process failed


def start(
    here: "Application", guests: Sequence[str], destination: str, options: Options, *, source: str = ""
) -> "tuple[Request | NotAsked, ...]":
    """Hand the moves over; returns once the other process has written the requests down and holds an executor slot."""
    from ferryman.app import NotAsked
    from ferryman.drivers import background

    log = here.settings.directory / LOG
    order = {"guests": list(guests), "destination": destination, "options": to_plain(options), "source": source}
    line = background.start("ferryman.app.detached", to_json(order), log)
    if not line:
        why = background.last_line(log) or "it says nothing"
        raise FerrymanError("background process", f"it ended before it took the moves on: {why}", f"look into {log}")
    answer = from_json(line)
    if "error" in answer:
        raise Refused(*answer["error"])
    return tuple(
        here.moves.records.request(one["id"]) if "id" in one else NotAsked(one["guest"], Refused(*one["error"]))
        for one in answer["asked"]
    )


def main() -> None:
    """Take the moves on, say so, let go of the one who started us, and carry them out."""
    from ferryman.app import NotAsked, application

    order = from_json(sys.stdin.read())
    moves = application().moves
    try:
        asked = moves.ask_all(
            order["guests"], order["destination"], from_plain(Options, order["options"]), source=order["source"]
        )
    except FerrymanError as error:
        _say({"error": [error.what, error.why, error.remedy]})
        return
    _say({"asked": [_answer(one.guest, one.error) if isinstance(one, NotAsked) else {"id": one.id} for one in asked]})
    moves.begin_waiting(asked)
    for request in asked:
        if isinstance(request, Request):
            moves.begin(request)
            moves.wait([request.id])
    moves.wait()
    moves.stop()


def _answer(guest: str, error: FerrymanError) -> dict[str, Any]:
    return {"guest": guest, "error": [error.what, error.why, error.remedy]}


def _say(answer: dict[str, Any]) -> None:
    """One line; afterwards nobody listens."""
    print(to_json(answer), flush=True)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)


if __name__ == "__main__":
    main()
