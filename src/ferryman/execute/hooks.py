"""Telling the operator's hooks: before the stop, where they may say no, and at the end.

At least once: a step that runs again after a crash tells those again that were not noted as told, under the same event id.
"""

from typing import Any

from ferryman.errors import RecordsUnusable, Vetoed
from ferryman.execute.follow import too_old
from ferryman.model.hook import Answer, Ended, Event, Hook, HookRun
from ferryman.model.outcome import Outcome
from ferryman.model.plan import Method
from ferryman.model.request import Kind, Request
from ferryman.plain import from_plain, to_plain
from ferryman.plan import hooks as rules
from ferryman.ports import Ports

LOOK_EVERY = 1.0  # seconds between two looks whether somebody asked for cancel


def before_stop(ports: Ports, request: Request, fresh: bool) -> None:
    """Nothing has been stopped or asked for yet. Raises Vetoed; then it will not be."""
    if not fresh and too_old(ports, request):
        return  # it will not be stopped: the next step says so
    identity = rules.event_id(request, Event.BEFORE_STOP)
    for hook in rules.due(ports.hooks, Event.BEFORE_STOP, identity, told(ports, request)):
        if ports.records.cancel_asked(request.id):
            return  # the next step says so
        run = _tell(ports, request, hook, Event.BEFORE_STOP, identity, {})
        if why := rules.against(hook, run):
            raise Vetoed(f"hook {hook.name} before the stop of {request.guest}", why, f"ask whoever keeps that hook, then: ferryman migrate {request.guest} --to {request.destination}")  # fmt: skip


def at_end(ports: Ports, request: Request, outcome: dict[str, Any], again: str) -> None:
    """Tell how it ended; `again` is the request that tries it anew. Nothing of this changes the end."""
    ended = from_plain(Outcome, outcome)
    plan = ports.records.facts(request.id).get("plan", {})
    event = rules.event_at_end(ended.status, runs=plan.get("method") == Method.LIVE or bool(plan.get("starts")))
    if event is None:
        return
    identity = rules.event_id(request, event, f"{ended.status} {ended.reason}")
    more = {name: outcome[name] for name in ("status", "reason", "remedy", "running_at", "downtime", "blackout")}
    for hook in rules.due(ports.hooks, event, identity, told(ports, request)):
        _tell(ports, request, hook, event, identity, more | {"tried_again_as": again})


def told(ports: Ports, request: Request) -> tuple[HookRun, ...]:
    """What became of the hooks so far."""
    return tuple(from_plain(HookRun, one) for one in ports.records.facts(request.id).get("hooks", ()))


def _tell(ports: Ports, request: Request, hook: Hook, event: Event, identity: str, more: dict[str, Any]) -> HookRun:
    """Try until it answers, within its bounds, and note what became of it."""
    facts, tries = _facts(ports, request, event, identity) | more, 0
    while True:
        answer, tries = _try(ports, hook, event, facts), tries + 1
        wait = rules.pause(hook, answer, tries)
        if wait is None or not _waited(ports, request, event, wait):
            break
    run = HookRun(hook.name, event, identity, answer.ended, tries, answer.words, ports.clock.now())
    others = [one for one in told(ports, request) if (one.hook, one.event_id) != (hook.name, identity)]
    ports.records.keep_facts(request.id, {"hooks": to_plain([*others, run])})
    if run.ended is not Ended.GOOD:
        ports.records.keep_decision(request.id, f"hook {hook.name} ({event}): {run.ended} after {tries} tries: {run.words}")  # fmt: skip
    return run


def _waited(ports: Ports, request: Request, event: Event, seconds: float) -> bool:
    """Between two tries; False: a cancel came, and there is no stop any more that anybody has to be told of."""
    until = ports.clock.now() + seconds
    while (left := until - ports.clock.now()) > 0:
        if event is Event.BEFORE_STOP and ports.records.cancel_asked(request.id):
            return False
        ports.clock.sleep(min(left, LOOK_EVERY))
    return True


def _try(ports: Ports, hook: Hook, event: Event, facts: dict[str, Any]) -> Answer:
    try:
        answer = ports.network.tell(hook, facts)
    except RecordsUnusable:
        raise
    except Exception as error:  # a fault of ours shall not change how a move ends
        return Answer(Ended.FAILED, f"a fault in ferryman: {type(error).__name__}: {error}")
    if answer.ended is Ended.VETO and event is not Event.BEFORE_STOP:
        return Answer(Ended.FAILED, f"it said no, and there is nothing left to refuse: {answer.words}")
    return answer


def _facts(ports: Ports, request: Request, event: Event, identity: str) -> dict[str, Any]:
    plan = ports.records.facts(request.id).get("plan", {})
    return {
        "event": event,
        "event_id": identity,
        "at": ports.clock.now(),
        "request": request.id,
        "attempt": request.attempt,
        "guest": request.guest,
        "guest_uuid": request.guest_uuid,
        "source": request.source,
        "destination": request.destination,
        "method": plan.get("method", "" if request.kind is Kind.MOVE else request.kind),
        "asked_by": request.asked_by,
    }
