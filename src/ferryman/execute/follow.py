"""Asking for a transfer and watching it: one step, which run again finds the running job instead of starting a second.

The blocking call's return ends nothing, and neither does an accepted abort: only a source that answers and has no job does.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from ferryman.errors import AlreadyRunning, Busy, DriverError, Refused, Unreachable
from ferryman.execute import storage, undo
from ferryman.execute.settle import look
from ferryman.model.phase import Phase
from ferryman.model.place import Where
from ferryman.model.plan import Order, Plan
from ferryman.model.request import Handshake, Request
from ferryman.model.sample import Sample
from ferryman.ports import Hypervisor, Ports, Transfer
from ferryman.report.limits import tuned

POLL = 0.2  # seconds between two samples
NO_BYTE_FOR = 30.0  # seconds without a byte in pre-copy: libvirt's keepalive sees only the control path
SWITCHOVER_WITHIN = (
    60.0  # seconds; a guest that stands still for longer while no byte moves was not stopped by a switchover
)
SOURCE_SILENT_FOR = 90.0  # seconds without an answer from the source: then settling looks
ABORT_AGAIN_AFTER = 10.0  # seconds
ABORT_GIVEN_UP_AFTER = 90.0  # seconds after the first abort with the job still there: then settling looks
CALL_TO_JOB = 15.0  # seconds a fresh call may take until its job is seen
CONCLUDED_WITHIN = 35.0  # seconds a carried handshake may take after the job's end: longer than its keepalive
TOO_OLD_TO_ASK = 600.0  # seconds: what was never asked for and is found again this late is put back, not started

TOO_LATE, ASK_AGAIN = (
    "found again more than ten minutes after it was asked for: too late to be started",
    "ask again: ferryman migrate",
)


class Action(StrEnum):
    """What the watcher does next."""

    WAIT = "wait"
    ABORT = "abort"


@dataclass(frozen=True)
class Decision:
    """An action with its reason and, where a person can do something, a remedy; `cancelled` tells a person's wish from our own."""

    action: Action
    reason: str
    cancelled: bool = False
    remedy: str = ""
    kind: str = ""  # class of the error that it amounts to, where it does


_SLOW = (
    "give it a longer --timeout or --max-downtime, or no --bandwidth; or move it when it writes less (ferryman show ID has "
    "its dirty rate)"
)
_STUCK = "ferryman host check tries the migration address from every other host; look at the network between the two"


@dataclass(frozen=True)
class Watch:
    """What the decision is made from. Times are seconds."""

    elapsed: float
    timeout: float  # 0: no limit
    without_a_byte: float
    paused_for: float | None  # since the guest was first seen standing still at the source; None: it runs
    cancelled_by: str


def decide(watch: Watch) -> Decision:
    """Whether to let the transfer go on. Pure."""
    stuck = watch.without_a_byte > NO_BYTE_FOR
    if watch.paused_for is not None and not (stuck and watch.paused_for > SWITCHOVER_WITHIN):
        return Decision(Action.WAIT, "the switchover has begun: the hypervisor finishes or falls back by itself")
    if watch.cancelled_by:
        return Decision(Action.ABORT, f"cancelled by {watch.cancelled_by}", cancelled=True)
    if watch.timeout and watch.elapsed > watch.timeout:
        return Decision(Action.ABORT, f"not finished within the timeout of {watch.timeout:.0f} s", remedy=_SLOW)
    if stuck:
        return Decision(Action.ABORT, f"no byte was sent for {NO_BYTE_FOR:.0f} s: the migration network does not carry", remedy=_STUCK, kind=Unreachable.__name__)  # fmt: skip
    return Decision(Action.WAIT, "bytes are flowing")


@dataclass(frozen=True)
class TransferEnd:
    """Why the watching ended. Whether the guest moved is for settling to say."""

    reason: str
    error: str = ""
    remedy: str = ""
    cancelled: bool = False
    asked: bool = True
    kind: str = ""  # class of the error behind it


def due_at(ports: Ports, request: Request) -> float:
    """When it was to begin: once it was asked for, or once it had waited for its time."""
    return float(ports.records.facts(request.id).get("due_at", request.asked_at))


def too_old(ports: Ports, request: Request) -> bool:
    """Whether nobody expects it to be started now."""
    return ports.clock.now() - due_at(ports, request) > TOO_OLD_TO_ASK


def transfer(ports: Ports, request: Request, plan: Plan, *, fresh: bool, may_ask: bool = True) -> TransferEnd:
    """Ask for the transfer unless it runs or was asked for, and watch it until the source has no job.

    `fresh`: this process took the request itself, nothing was found again. Raises Refused when another's job holds the
    guest or the lease is gone; nothing was asked for then.
    """
    source = ports.hypervisor(request.source)
    asked_at = ports.records.asked_at(request.id)
    place = look(source, request.guest_uuid)
    if place.job:
        if asked_at is None:
            raise Busy(f"guest {request.guest}", f"another job ({place.job}) runs on it, which is not ours",
                       f"wait for its end: virsh domjobinfo {request.guest}")  # fmt: skip
        if ports.records.facts(request.id).get("transfer_ended"):
            return TransferEnd(
                f"a job ({place.job}) runs on the guest that is not ours"
            )  # settling waits, and touches nothing
        return _watch(ports, request, plan, None)
    if (stop := _why_not_ask(ports, request, plan, asked_at, fresh=fresh, may_ask=may_ask)) is not None:
        return stop
    destination = look(ports.hypervisor(request.destination), request.guest_uuid)
    if asked_at is None and place.where is Where.RUNNING and destination.where is Where.UNREACHABLE:
        raise Unreachable(f"host {request.destination}", f"it does not answer any more: {destination.detail}",
                          f"ferryman host check {request.destination}")  # fmt: skip
    if place.where is not Where.RUNNING or destination.where not in (Where.ABSENT, Where.OFF):
        return TransferEnd(
            f"the guest is {place.where.words} at the source, {destination.where.words} at the destination", asked=False
        )
    holder = ports.records.lease(request.guest_uuid)
    if holder != request.id:
        raise not_ours_any_more(request, holder)
    if asked_at is None:
        storage.note_speed(ports, request)
    if destination.where is Where.ABSENT:
        ports.records.register_undo(request.id, undo.REMOVE_NEW_DEFINITION, {"host": request.destination})
    ports.records.mark_asked(request.id)
    ports.records.enter(request.id, Phase.TRANSFERRING)
    call = source.start_migration(request.guest_uuid, _order(ports, request, plan))
    return _watch(ports, request, plan, call)


def not_ours_any_more(request: Request, holder: str) -> Refused:
    """The lease is another request's, or nobody's: somebody settled or closed this one meanwhile."""
    if holder:
        return Refused(f"guest {request.guest}", f"request {holder} is moving it now", f"ferryman follow {holder}")
    why = "this request was settled or closed meanwhile, and does not hold the guest any more"
    return Refused(f"guest {request.guest}", why, f"ferryman show {request.id}")


def _carried(plan: Plan) -> bool:
    return plan.handshake is Handshake.CARRIED


def _order(ports: Ports, request: Request, plan: Plan) -> Order:
    destination = plan.peer_uri
    if _carried(plan):
        destination = ports.hypervisor(request.destination).host.uri
        ports.records.keep_decision(
            request.id, "ferryman carries the handshake itself: let it run until the move has ended"
        )
    return Order(
        plan.handshake, destination, plan.migration_uri, plan.persistent, request.options,
        storage.changes(ports, request, plan), storage.mirrored(plan), storage.memory_cap(request, plan), plan.vouched,
    )  # fmt: skip


def _why_not_ask(
    ports: Ports, request: Request, plan: Plan, asked_at: float | None, *, fresh: bool, may_ask: bool
) -> TransferEnd | None:
    """A reason to go straight to settling; None when the transfer may be asked for."""
    if (by := ports.records.cancel_asked(request.id)) != "":
        return TransferEnd(f"cancelled by {by}", cancelled=True, asked=asked_at is not None)
    if not may_ask:
        return TransferEnd(_unwatched(plan) if asked_at else "no transfer runs", asked=asked_at is not None)
    if asked_at is not None and ports.records.last_sample(request.id) is not None:
        return TransferEnd(_unwatched(plan))
    if not fresh and too_old(ports, request):
        return TransferEnd(TOO_LATE, remedy=ASK_AGAIN, asked=asked_at is not None)
    return None


_GONE = "ferryman carried the handshake and was gone: libvirt aborts then"


def _unwatched(plan: Plan) -> str:
    return _GONE if _carried(plan) else "the transfer ended while nobody watched"


class _Progress:
    """The last sample and how long no byte has moved, counted only while samples come (a stopped ferryman counts nothing)."""

    def __init__(self, last: Sample | None, now: float) -> None:
        self.last, self.seen_at, self.without_a_byte = last, now, 0.0

    def take(self, sample: Sample, now: float) -> None:
        if (
            self.last is not None
            and sample.processed <= self.last.processed
            and sample.remaining == self.last.remaining
        ):
            self.without_a_byte += min(now - self.seen_at, 2.0)
        else:
            self.without_a_byte = 0.0
        self.last, self.seen_at = sample, now


def _watch(ports: Ports, request: Request, plan: Plan, call: Transfer | None) -> TransferEnd:
    """Poll until the source answers and has no job. `call` is None when re-attached after a crash.

    A call that carries the handshake may be at work at the destination a little longer: its end is waited for, within a bound.
    """
    source, records, clock = ports.hypervisor(request.source), ports.records, ports.clock
    if records.phase(request.id) is not Phase.SWITCHING_OVER:
        records.enter(request.id, Phase.TRANSFERRING)
    paused_since: float | None = None
    began = clock.now()
    caps = storage.Caps(ports, request, plan)
    progress = _Progress(records.last_sample(request.id), began)
    carried = _carried(plan)
    concluded_within = CONCLUDED_WITHIN if carried else 0.0
    answered_at, aborted_at, first_abort = began, 0.0, 0.0
    why = Decision(Action.WAIT, "")
    job_seen = downtime_set = refusal_noted = False
    applied = 0
    while True:
        now = clock.now()
        if call is not None and isinstance(call.error, AlreadyRunning):
            records.keep_facts(request.id, {"transfer_ended": True})  # so that nobody takes that job for ours later
            raise Busy(call.error.what, call.error.why, call.error.remedy)  # the job that runs is another's
        try:
            sample = source.sample(request.guest_uuid)
            answered_at = now
        except DriverError as error:
            if now - answered_at > SOURCE_SILENT_FOR:
                return TransferEnd(f"the source has not answered for {SOURCE_SILENT_FOR:.0f} s", error=str(error), kind=type(error).__name__)  # fmt: skip
            clock.sleep(1.0)
            continue
        if sample is None:
            waiting_for_job = call is not None and not call.ended and (job_seen is False and now - began < CALL_TO_JOB)
            concluded = call is None or call.ended or (job_seen and now - progress.seen_at >= concluded_within)
            if not waiting_for_job and _without_a_job(source, request) and concluded:
                records.keep_facts(request.id, {"transfer_ended": True})
                return _ended(call, why, carried=carried)
            if first_abort and now - first_abort > ABORT_GIVEN_UP_AFTER:
                return _ended(call, why, carried=carried)
            if call is not None and not call.ended and not job_seen and 0 < request.options.timeout < now - began:
                return TransferEnd("the call neither started a job nor ended within the timeout")
            clock.sleep(POLL / 4)
            continue
        job_seen = True
        paused_since = (paused_since or now) if sample.guest_paused else None
        progress.take(sample, now)
        records.keep_sample(request.id, sample)
        if sample.guest_paused:
            records.enter(request.id, Phase.SWITCHING_OVER)
        else:
            if request.options.max_downtime and not downtime_set:
                downtime_set = _set_downtime(ports, request)
            applied = _apply_wishes(ports, request, caps, applied)
            with suppress(DriverError):  # a mirror may end between two calls; the next sample sets what is left to set
                caps.apply(mirroring=sample.memory_processed == 0)
        decision = decide(
            Watch(
                elapsed=sample.elapsed,  # the hypervisor's: right after a crash too, and whatever this machine's clock says
                timeout=request.options.timeout,
                without_a_byte=progress.without_a_byte,
                paused_for=None if paused_since is None else now - paused_since,
                cancelled_by=records.cancel_asked(request.id),
            )
        )
        if decision.action is Action.ABORT and now - aborted_at > ABORT_AGAIN_AFTER:
            if not first_abort:
                first_abort, why = now, decision
                records.keep_decision(request.id, f"abort: {decision.reason}")
            aborted_at = now
            try:
                source.abort(request.guest_uuid)
            except DriverError as error:  # "Channel error" was seen on aborts that took effect: only looking tells
                records.keep_decision(request.id, f"the abort was answered: {error.why}")
        elif sample.guest_paused and not first_abort and not refusal_noted and records.cancel_asked(request.id):
            refusal_noted = True
            records.keep_decision(request.id, f"cancel refused: {decision.reason}")
        if first_abort and now - first_abort > ABORT_GIVEN_UP_AFTER:
            return TransferEnd(f"{why.reason}; the job is still there {ABORT_GIVEN_UP_AFTER:.0f} s after the abort",
                               cancelled=why.cancelled, remedy=why.remedy, kind=why.kind)  # fmt: skip
        clock.sleep(POLL / 4 if sample.guest_paused else POLL)


def _without_a_job(source: Hypervisor, request: Request) -> bool:
    """Only a source that answers can say that it has no job."""
    place = look(source, request.guest_uuid)
    return place.where is not Where.UNREACHABLE and not place.job


def _set_downtime(ports: Ports, request: Request) -> bool:
    try:
        ports.hypervisor(request.source).set_max_downtime(request.guest_uuid, request.options.max_downtime)
    except DriverError as error:
        ports.records.keep_decision(request.id, f"the allowed downtime could not be set: {error.why}")
    return True


def _apply_wishes(ports: Ports, request: Request, caps: storage.Caps, applied: int) -> int:
    """Set the limits that were asked for since the first `applied` wishes; returns how many there are.

    A process that re-attached begins at 0 and sets them all again: the call may have been made with older ones.
    """
    source, records = ports.hypervisor(request.source), ports.records
    wishes = records.wishes(request.id)
    for wish in wishes[applied:]:
        try:
            if wish.bandwidth is not None:
                caps.tune(wish.bandwidth)
            if wish.max_downtime is not None:
                source.set_max_downtime(request.guest_uuid, wish.max_downtime)
        except DriverError as error:
            records.keep_decision(request.id, f"not {tuned(wish)}: {error.why}")
            continue
        if not wish.applied:
            records.keep_decision(request.id, tuned(wish))
            records.mark_applied(wish)
    return len(wishes)


def _ended(call: Transfer | None, why: Decision, *, carried: bool) -> TransferEnd:
    error = call.error if call is not None else None
    ended = _GONE if carried and call is None else "the transfer ended"
    end = TransferEnd(why.reason or ended, cancelled=why.cancelled, remedy=why.remedy, kind=why.kind)
    if error is None or why.action is Action.ABORT:
        return end
    reason = getattr(error, "why", str(error))
    return replace(
        end,
        reason=f"the hypervisor gave up: {reason}",
        error=str(error),
        remedy=getattr(error, "remedy", ""),
        kind=type(error).__name__,
    )
