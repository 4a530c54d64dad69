"""Which hooks are due, when, and what their answers mean. Pure; execute/hooks.py carries it out."""

from collections.abc import Iterable
from hashlib import sha256

from ferryman.model.hook import Answer, Ended, Event, Hook, HookRun
from ferryman.model.outcome import Status
from ferryman.model.request import Request

FIRST_PAUSE = 2.0  # seconds between two tries; each further one is twice as long
LONGEST_PAUSE = 60.0

_AT_END: dict[Status, Event] = {
    Status.SUCCEEDED: Event.AFTER_START,
    Status.REFUSED: Event.FAILURE,
    Status.FAILED: Event.FAILURE,
    Status.CANCELLED: Event.FAILURE,
    Status.NEEDS_ATTENTION: Event.ATTENTION,
}


def event_at_end(status: Status, *, runs: bool) -> Event | None:
    """What an end is told as. `runs`: the guest ran before; one that was off is started by nobody."""
    event = _AT_END.get(status)
    return None if event is Event.AFTER_START and not runs else event


def event_id(request: Request, event: Event, told: str = "") -> str:
    """The same for the same end of a request, also after a crash; `told` is what makes it another one."""
    return "-".join((request.id, event, *([sha256(told.encode()).hexdigest()[:8]] if told else ())))


def due(hooks: Iterable[Hook], event: Event, identity: str, told: Iterable[HookRun]) -> tuple[Hook, ...]:
    """Those that want that event, without the ones that have taken it already."""
    good = {one.hook for one in told if one.event_id == identity and one.ended is Ended.GOOD}
    return tuple(hook for hook in hooks if event in hook.on and hook.name not in good)


def pause(hook: Hook, answer: Answer, tries: int) -> float | None:
    """Seconds until the next try, after that many; None when there is none."""
    if not answer.again or tries >= hook.tries:
        return None
    return min(FIRST_PAUSE * 2.0 ** (tries - 1), LONGEST_PAUSE)


def against(hook: Hook, run: HookRun) -> str:
    """Why the guest shall not be stopped, after what a hook answered before that; empty: nothing speaks against it."""
    if run.ended is Ended.VETO:
        return run.words or "it said no, without a word"
    if run.ended is not Ended.GOOD and hook.must_answer:
        return f"it must answer, and {run.ended} ({run.words})"
    return ""
