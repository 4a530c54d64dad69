"""Trying again: which errors get better by themselves, how long to wait, and the request that tries anew.

Each try is a request of its own: what an earlier one registered, noted and took back stays as its report tells it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from ferryman.errors import AlreadyRunning, Busy, FerrymanError, Timeout, Unreachable
from ferryman.execute.follow import TOO_OLD_TO_ASK
from ferryman.model.outcome import Outcome, Status
from ferryman.model.phase import ENDS
from ferryman.model.request import Options, Request
from ferryman.model.units import format_duration
from ferryman.plan.windows import due, in_zone, moment
from ferryman.ports import Ports

# All others want a person: what assess refused, a hook's no, a cancel, certificates, a copy that does not match.
BETTER_BY_ITSELF: dict[type[FerrymanError], str] = {
    Unreachable: "a host or a way that does not answer now may answer later",
    Timeout: "a call that did not return was most likely kept waiting by another one",
    AlreadyRunning: "another's job on the guest ends",
    Busy: "another's job on the guest ends",
}
FIRST_PAUSE = 30.0  # seconds before the second try; before each further one twice as long
LONGEST_PAUSE = 900.0
END_WITHIN = 600.0  # seconds that a retry waits for the end of the one before to be written down

_KINDS = {error.__name__: why for error, why in BETTER_BY_ITSELF.items()}
_PUT_BACK = (Status.FAILED, Status.REFUSED)  # all was put back, or nothing was changed


@dataclass(frozen=True)
class Again:
    """A further try after so many seconds, and why."""

    pause: float
    reason: str


def decide(outcome: Outcome, request: Request) -> Again | None:
    """Whether a move that ended like that is tried again. Pure."""
    if outcome.status not in _PUT_BACK or outcome.error not in _KINDS or request.attempt > request.options.retry:
        return None
    pause = min(FIRST_PAUSE * 2.0 ** (request.attempt - 1), LONGEST_PAUSE)
    return Again(pause, f"try {request.attempt + 1} of {request.options.retry + 1} in {format_duration(pause)}: {_KINDS[outcome.error]}")  # fmt: skip


def make(ports: Ports, request: Request, outcome: Outcome) -> str:
    """Write down the request that tries again; its id, or empty when none does. Run again it is the same one."""
    records = ports.records
    if made := records.facts(request.id).get("tried_again_as"):
        return str(made)
    again = None if records.cancel_asked(request.id) else decide(outcome, request)
    if again is None:
        return ""
    at = ports.clock.now() + again.pause
    following = replace(
        request, id=sha256(request.id.encode()).hexdigest()[:8], retries=request.id, attempt=request.attempt + 1,
        begin_at=at, asked_at=at, options=_once_more(request, records.facts(request.id), ports.clock.wall() + again.pause),
    )  # fmt: skip
    records.add_retry(following)
    records.keep_decision(request.id, again.reason)
    return following.id


def _once_more(request: Request, facts: Mapping[str, Any], begins: float) -> Options:
    """The same, but for a moment that has come already; and the end that the first try had, or would have had, is that of all."""
    options, first = request.options, request.asked_at
    if options.at and (first := due(options, begins).opens) <= begins:
        options = replace(options, at="")
    if options.give_up_at and not options.waits:
        ends = facts.get("give_up_at")  # noted once it began
        options = replace(options, give_up_at=in_zone(moment(options.give_up_at, first, "UTC") if ends is None else ends, "UTC"))  # fmt: skip
    return options


def wait(ports: Ports, request: Request) -> bool:
    """Until it is time, and the request before has ended: that one may still hold the guest. False: it is too late by now."""
    records = ports.records
    while not records.cancel_asked(request.id):
        late = ports.clock.now() - request.begin_at
        if late >= 0 and (records.phase(request.retries) in ENDS or late > END_WITHIN):
            break
        ports.clock.sleep(min(max(-late, 0.1), 1.0))
    return ports.clock.now() - request.begin_at < TOO_OLD_TO_ASK
