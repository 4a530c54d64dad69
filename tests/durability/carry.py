"""A process that asks for a move in the fake world, or recovers one; killed at a chosen moment when one is named.

With unusable:WRITE the records cannot be written from their first WRITE on, a method of theirs: it ends as ferryman does, with code 5; with
unusable-frozen:WRITE, from the first one on that comes while the guest is frozen.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from ferryman.app import Moves


def main(directory: str, what: str, moment: str) -> None:
    """`what`: backup…, restore… (see there), ask, ask-carried (ferryman carries the handshake), ask-everything (a word for each step that needs one), ask-cold,
    ask-cold-retry, ask-forced (cold, and it may be switched off), ask-none (the command beside which others go on), ask:OPTIONS (in JSON), recover, take-up, or serve."""
    kind, _, write = moment.partition(":")
    if moment and not kind.startswith("unusable"):
        from tests.lab.crashing import arm

        arm(moment)
    from ferryman.app import Moves
    from ferryman.drivers.database.records import DatabaseRecords
    from ferryman.errors import RecordsUnusable
    from tests.durability.fakes import FakeSite, records_of_both
    from tests.durability.world import World

    state = Path(directory)
    records = records_of_both(state)
    if kind == "unusable":

        def fail(*_: Any) -> NoReturn:
            raise RecordsUnusable(f"records in {state}", "database or disk is full")

        setattr(DatabaseRecords, write, fail)
    elif kind == "unusable-frozen":
        fails_while_frozen(state, write)
    moves = Moves(FakeSite(records, World(state / "world.json")), state)
    try:
        _carry(moves, what)
    except RecordsUnusable as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(error.exit_code)  # as the program does: its workflows stand still
    moves.stop()


def fails_while_frozen(state: Path, write: str) -> None:
    """The disk of the records fills then."""
    from ferryman.drivers.database.records import DatabaseRecords
    from ferryman.errors import RecordsUnusable
    from tests.durability.world import world

    whole = getattr(DatabaseRecords, write)

    def write_or_fail(self: DatabaseRecords, *arguments: Any) -> Any:
        if (world(state)["a"] or {}).get("frozen"):
            raise RecordsUnusable(f"records in {state}", "database or disk is full")
        return whole(self, *arguments)

    setattr(DatabaseRecords, write, write_or_fail)


def _carry(moves: "Moves", what: str) -> None:
    from ferryman.model.request import Handshake, Options
    from ferryman.plain import from_json, from_plain

    if what == "ask":
        moves.ask("web", "b", Options())
    elif what == "ask-carried":
        moves.ask("web", "b", Options(handshake=Handshake.CARRIED))
    elif what == "ask-none":  # as the command does once its own moves have ended
        from types import SimpleNamespace

        from ferryman.surfaces.cli import migrate

        here: Any = SimpleNamespace(moves=moves)
        moves.settle_left()
        migrate._see_them_through(here, (), migrate.Interrupts(here), json=False, forewarned=True)
        os._exit(0)
    elif what == "ask-cold":
        moves.ask("web", "b", Options(cold=True, eject=True, retire=True, stop_timeout=5.0))
    elif what.startswith("ask:"):
        moves.ask("web", "b", from_plain(Options, from_json(what.removeprefix("ask:"))))
    elif what.startswith(("backup", "restore")):
        _with_backups(moves, what)
    elif what == "serve":
        _serve(moves)
    elif what == "take-up":  # as the one that serves, whose look was a moment before somebody else took it
        assert not moves.take_up(moves.left()[0].request)
    elif what == "ask-forced":
        moves.ask("web", "b", Options(cold=True, eject=True, force_off=True, stop_timeout=5.0))
    elif what == "ask-cold-retry":
        moves.ask("web", "b", Options(cold=True, eject=True, retire=True, stop_timeout=5.0, retry=2))
    elif what == "ask-everything":
        moves.ask("web", "b", Options(eject=True, retire=True, replace_definition=True))
    else:
        moves.settle_left()
    moves.wait()


def _with_backups(moves: "Moves", what: str) -> None:
    """backup, backup-full, backup-b (at host b); restore, restore-second, restore-start: the newest one, at host b."""
    from ferryman.app.backups import Backups
    from ferryman.model.request import Options

    backups = Backups(moves.site, moves)
    if what.startswith("backup"):
        into = "b:/backups" if what == "backup-b" else "/backups"
        backups.carry_out(backups.request("web", into, Options(full=what == "backup-full")))
        return
    newest = max(one.folder.path for one in backups.found("/backups"))
    options = Options(name="second" if what == "restore-second" else "", start=what == "restore-start")
    backups.carry_out(backups.restore_request(newest, "b", options))


def _serve(moves: "Moves") -> None:
    """As the command does: until SIGTERM, and what is under way then is left."""
    from ferryman.app.serving import Server

    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda _signal, _frame: ended.set())
    Server(moves, lambda event, **fields: print(event, fields, flush=True)).run(ended)
    os._exit(0)
