"""A guest that an error of its storage halted while its backup was read: who lets it go on, and who does not."""

from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from ferryman.errors import NeedsAttention, Unreachable
from ferryman.execute import backup, reading, restore, unmaking
from ferryman.model.place import Place, Where
from ferryman.model.request import Options
from ferryman.model.units import GIB

HALTED = Place(Where.HALTED, storage_failed=True)


class World:
    """One host, and what is written down: as much of both as the end of a job needs."""

    def __init__(self, place: Place, *, stood_still: bool = False, room: int = 100 * GIB) -> None:
        self.at, self.free, self.answers = place, room, True
        self.offers, self.dropped, self.decisions = True, False, [""]
        self._job = {"host": "a", "stood_still": stood_still, "scratch": ["/srv/.scratch"]}

    def hypervisor(self, name: str) -> "World":
        return self

    records = property(lambda self: self)

    def undo_acts(self, request: str) -> list[Any]:
        return [(1, unmaking.END_BACKUP, self._job)]

    def close_undo(self, number: int, state: str, error: str = "") -> None:
        self.dropped = True

    def keep_decision(self, request: str, text: str) -> None:
        self.decisions.append(text)

    def cancel_asked(self, request: str) -> str:
        return ""

    def phase(self, request: str) -> str:
        return ""

    def facts(self, request: str) -> dict[str, Any]:
        return {}

    def place(self, guest: str) -> Place:
        if not self.answers:
            raise Unreachable("host a", "it does not answer")
        return self.at

    def room(self, directory: str) -> int:
        return self.free

    def end_backup(self, guest: str, owner: str) -> None:
        self.offers = False

    def backup_running(self, guest: str, owner: str) -> str:
        return "/run/web.sock" if self.offers else ""

    def resume(self, guest: str) -> None:
        assert not self.offers, "what stopped it is still there"
        self.at = Place(Where.RUNNING)

    clock = SimpleNamespace(now=count(1000.0, 10.0).__next__)  # whoever asks again asks later


REQUEST: Any = SimpleNamespace(id="r", guest="web", guest_uuid="u", source="a", kind="move", options=Options())
PLAN: Any = SimpleNamespace(running=True, held=(), disks=(SimpleNamespace(exported=True, scratch="/srv"),))


def watched(world: Any) -> Any:
    return reading._Watch(world, REQUEST, PLAN)


@pytest.mark.parametrize("room", [0, 100 * GIB])
def test_one_that_found_no_room_goes_on_when_the_job_ends_whether_there_is_room_again_or_not(room: int) -> None:
    world: Any = World(HALTED, room=room)
    reading.end_backup(world, REQUEST, PLAN)
    assert (world.at.where, world.offers) == (Where.RUNNING, False)
    assert "it goes on now" in world.decisions[-1]


@pytest.mark.parametrize(("place", "before"), [(HALTED, True), (Place(Where.HALTED), False)])
def test_one_that_stood_still_before_or_was_suspended_by_somebody_is_left_alone(place: Place, before: bool) -> None:
    world: Any = World(place, stood_still=before, room=0)
    reading.end_backup(world, REQUEST, PLAN)
    assert (world.at, world.offers) == (place, False)


def test_a_copy_ends_as_soon_as_its_guest_stands_still_also_where_there_is_room() -> None:
    world: Any = World(HALTED)
    watch = watched(world)
    assert watch.ends()
    assert (world.at.where, world.offers) == (Where.RUNNING, False)
    assert "stand still" in watch.over


def test_a_copy_goes_on_while_its_guest_does_and_while_it_cannot_be_asked() -> None:
    world: Any = World(Place(Where.RUNNING))
    assert not watched(world).ends()
    world.answers = False
    assert not watched(world).ends()
    assert world.offers


def test_what_the_end_of_a_backups_job_needs_is_kept_when_its_host_does_not_answer() -> None:
    world: Any = World(Place(Where.RUNNING))
    world.answers = False
    with pytest.raises(NeedsAttention, match="it is backed up"):
        backup.finish(world, REQUEST, PLAN)
    assert not world.dropped


@pytest.mark.parametrize(("where", "said"), [(Where.RUNNING, ("b", "and runs")), (Where.OFF, ("", "shut off"))])
def test_a_restored_guest_is_told_to_be_as_it_is(where: Where, said: tuple[str, str]) -> None:
    world: Any = World(Place(where))
    plan: Any = SimpleNamespace(destination="b", guest="web", starts=False)
    outcome = restore._succeeded(world, REQUEST, plan, "")
    assert (outcome.running_at, said[1] in outcome.reason) == (said[0], True)
