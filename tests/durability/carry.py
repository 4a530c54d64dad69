"""A process that asks for a move in the fake world, or recovers one; killed at a chosen moment when one is named."""

import sys
from pathlib import Path


def main(directory: str, what: str, moment: str) -> None:
    """`what`: ask, ask-carried (ferryman carries the handshake), ask-everything (a word for each step that needs one), or recover."""
    if moment:
        from tests.lab.crashing import arm

        arm(moment)
    from ferryman.app import Moves
    from ferryman.drivers.database.records import open_records
    from ferryman.model.host import Host
    from ferryman.model.request import Handshake, Options
    from tests.durability.fakes import FakeSite, World

    state = Path(directory)
    records = open_records(state)
    for name in ("a", "b"):
        records.add_host(Host(name, f"qemu+tls://{name}/system"))
    moves = Moves(FakeSite(records, World(state / "world.json")), state)
    if what == "ask":
        moves.ask("web", "b", Options())
    elif what == "ask-carried":
        moves.ask("web", "b", Options(handshake=Handshake.CARRIED))
    elif what == "ask-everything":
        moves.ask("web", "b", Options(eject=True, retire=True, replace_definition=True))
    else:
        moves.settle_left()
    moves.wait()
    moves.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
