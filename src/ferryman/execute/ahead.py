"""Copying disks ahead while their guest runs: pass after pass over what the hypervisor froze, each of what was written since the one before.

A pass is a backup job of the hypervisor. It outlives ferryman, so a crash only interrupts it; what is noted says how far the passes are.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from ferryman.errors import AlreadyRunning, DriverError, NoBitmap, Stopped
from ferryman.execute import another, mark, undo, unmaking, windows
from ferryman.execute.copying import Samples, copy_unwritten, other_guest, task_of
from ferryman.execute.follow import ASK_AGAIN, TransferEnd
from ferryman.execute.patience import ended, place_at
from ferryman.execute.settle import look
from ferryman.model.backup_job import BackupDisk, BackupJob, offered
from ferryman.model.copy import CopyProgress, CopyResult
from ferryman.model.phase import Phase
from ferryman.model.place import Where
from ferryman.model.plan import Ahead, Plan
from ferryman.model.request import Request
from ferryman.model.units import format_duration, format_size
from ferryman.plain import from_plain, to_plain
from ferryman.plan.ahead import Pass, decide
from ferryman.plan.cold import HEALTHY_FOR
from ferryman.plan.forecast import Forecast, forecast
from ferryman.ports import Ports

UNSEEN_FOR = 60.0  # seconds from a guest that was seen to the hold of its images: in longer it may have run, and been off, once more
LOOK_EVERY = 3.0  # seconds between two looks at the guest and the room of scratch files
T = TypeVar("T")
ROOM = "make room there, or name another directory: --scratch DIRECTORY"
_ALIVE = (Where.RUNNING, Where.PAUSED, Where.HALTED)


def copy_ahead(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """Pass after pass, until what is left is small or grows no smaller. An end with a reason means: the guest shall stay where it is."""
    ports.records.enter(request.id, Phase.COPYING_AHEAD)
    end = copy_unwritten(ports, request, plan)
    return end if end.reason else _passes(ports, request, plan, begin_with=0)


def catch_up(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """The same once more, of what was written while something was waited for."""
    facts = ports.records.facts(request.id)
    if "caught_up_from" not in facts:
        marked = ended(ports, request, lambda: _once_free(ports, request, lambda: _mark_again(ports, request)))
        if marked.reason:
            return marked
        ports.records.keep_facts(request.id, {"caught_up_from": len(noted(ports, request))})
    end = copy_unwritten(ports, request, plan)  # the guest does not write to them; others may, in days
    if end.reason:
        return end
    return _passes(ports, request, plan, begin_with=ports.records.facts(request.id)["caught_up_from"])


def _mark_again(ports: Ports, request: Request) -> TransferEnd:
    mark.set_again(ports, request)
    return TransferEnd("")


def free_to_copy(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """A job that is there is waited for before it takes its turn: others are copied ahead meanwhile."""
    windows.note_at_work(ports, request)
    return _once_free(ports, request, lambda: TransferEnd(""))


def free_to_stop(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """Before anything is taken away for the stop: no job is in its way, and the guest is the one that was copied. Raises Refused."""

    def free() -> TransferEnd:
        end = after_another(ports, request, plan)
        why = end.reason or other_guest(ports, request, plan)
        return end if end.reason or not why else TransferEnd(why, remedy=ASK_AGAIN)

    return ended(ports, request, free)


def after_another(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """If a job came between the last pass and the stop: what is written until it ends is copied too, and foreseen anew; a pass for that may run
    already. The same if the guest was started anew meanwhile.

    Raises Refused. None of ours runs afterwards.
    """
    job = look(ports.hypervisor(request.source), request.guest_uuid).job or another.job(ports, request)
    if not job and not _other_run(ports, request, plan):
        return TransferEnd("")
    try:
        end = _passes(ports, request, plan, begin_with=len(noted(ports, request)))
        if not end.reason:
            foresee(ports, request, plan)
        return end
    finally:
        end_passes(ports, request)


def _once_free(ports: Ports, request: Request, act: Callable[[], T]) -> T | TransferEnd:
    """What the act gives, once no job of another's is in its way. Raises Busy when a pass and the stop would not fit any more after that."""
    last = complete(ports, request)
    needs = (2 * last.seconds if last else 0.0) + HEALTHY_FOR
    until = partial(windows.waits_until, ports, request, needs)

    def asked() -> str:
        windows.note_at_work(ports, request)
        return windows.stop_asked(ports, request)

    try:
        return another.once_free(ports, request, act, until=until, asked=asked)
    except Stopped as error:
        return TransferEnd(f"cancelled by {ports.records.cancel_asked(request.id)}", str(error), cancelled=True)


def _passes(ports: Ports, request: Request, plan: Plan, *, begin_with: int) -> TransferEnd:
    records = ports.records
    records.enter(request.id, Phase.COPYING_AHEAD)
    records.register_undo(request.id, undo.END_PASSES, {"host": request.source})
    windows.note_at_work(ports, request)
    while True:
        more = decide([one for one in noted(ports, request)[begin_with:] if one.complete])
        if not more.again and _stop_follows(ports, request) and another.job(ports, request):
            begin_with = len(noted(ports, request))  # until that ends more is written than a short stop could copy
        elif not more.again:
            records.keep_decision(request.id, f"{more.reason}; {_what_is_left(ports, request, plan)}")
            _note_due(ports, request)
            return TransferEnd("")
        end = ended(ports, request, partial(_pass, ports, request, plan))
        if end.reason:
            return end


def _note_due(ports: Ports, request: Request) -> None:
    """The stop is due now, unless its own time has to come first, or all was left alone for so long that nobody expects it."""
    expected = request.options.window or not ports.records.facts(request.id)["left_alone"]  # a window says until when
    if expected and _stop_follows(ports, request):
        ports.records.keep_facts(request.id, {"due_at": ports.clock.now()})


def _stop_follows(ports: Ports, request: Request) -> bool:
    """Not where its own time has to come first."""
    return not request.options.waits or "due_at" in ports.records.facts(request.id)


def noted(ports: Ports, request: Request) -> list[Pass]:
    """All passes so far; one that is not complete was given up, or is the last and under way."""
    return [from_plain(Pass, one) for one in ports.records.facts(request.id).get("passes", ())]


def complete(ports: Ports, request: Request) -> Pass | None:
    """The last one that was."""
    return next((one for one in reversed(noted(ports, request)) if one.complete), None)


def _note(ports: Ports, request: Request, passes: Sequence[Pass]) -> None:
    ports.records.keep_facts(request.id, {"passes": to_plain(list(passes))})


def _pass(ports: Ports, request: Request, plan: Plan) -> TransferEnd:
    """One pass from its freeze to its end; one that an earlier process began is carried on while its job runs."""
    records = ports.records
    begun = _once_free(ports, request, lambda: _begun(ports, request, plan))
    if isinstance(begun, TransferEnd):
        return begun
    socket, resumed = begun
    this, began = replace(noted(ports, request)[-1], resumed=resumed), ports.clock.now()
    watch = _Watch(ports, request, plan)
    sums: list[CopyResult] = []
    for disk in plan.ahead:
        copied = _copy(ports, request, plan, disk, this, socket, watch)
        if isinstance(copied, TransferEnd):
            return copied
        sums.append(copied)
    unmaking.end_pass(ports, request)
    done = replace(
        this, complete=True, seconds=ports.clock.now() - began, read=sum(one.read for one in sums),
        written=sum(one.written for one in sums), wire=sum(one.wire for one in sums),
    )  # fmt: skip
    passes = to_plain([*noted(ports, request)[:-1], done])
    records.keep_facts(request.id, {"passes": passes, "last_pass": done.moment})
    with suppress(AlreadyRunning):  # another's job, since ours ended: the next pass forgets it, or the end of all
        _forget_all_but(ports, request, done.moment)
    told = f"{format_size(done.read)} read, {format_size(done.written)} written, {format_duration(done.seconds)}"
    records.keep_decision(request.id, f"pass {done.number}: {told}")
    return TransferEnd("")


def _begun(ports: Ports, request: Request, plan: Plan) -> tuple[str, bool] | TransferEnd:
    """The socket of a pass, and whether an earlier process began it."""
    source, found = ports.hypervisor(request.source), noted(ports, request)
    socket = source.backup_running(request.guest_uuid, request.id)
    if socket and (not found or found[-1].complete):  # all was copied, and its end was not noted any more
        source.end_backup(request.guest_uuid, request.id)
        socket = ""
    if socket:
        return socket, True
    here = place_at(ports, request, request.source)
    if here.where not in _ALIVE:
        return TransferEnd(f"it is {here.where.words} at the source by now: nothing that runs could be copied")
    if why := other_guest(ports, request, plan):
        return TransferEnd(why, remedy=ASK_AGAIN)
    ports.records.keep_facts(request.id, {"pass_stood_still": here.storage_failed})
    socket = _begin(ports, request, plan)
    *earlier, this = noted(ports, request)
    if this.run and source.run_of(request.guest_uuid) != this.run:  # started anew between the two calls
        _note(ports, request, [*earlier, replace(this, since="", run="")])
    return socket, False


def _begin(ports: Ports, request: Request, plan: Plan) -> str:
    """Freeze what the disks hold; the socket where that is offered. What cannot tell what was written since is compared as a whole."""
    records, source = ports.records, ports.hypervisor(request.source)
    found, last = noted(ports, request), complete(ports, request)
    if found and not found[-1].complete:  # a QEMU that was killed leaves them, and libvirt begins no job over them
        for disk in plan.ahead:
            source.remove_file(scratch_file(request, disk))
    number, since = len(found) + 1, last.moment if last else ""
    run = _named_run(ports, request, plan, f"{request.id}-{number}")
    if last and _remembers(plan) and not (run and run == last.run):
        records.keep_decision(request.id, f"the guest was started anew since pass {last.number}, and what befell its images while it was off no bitmap tells for certain: all of it is compared")  # fmt: skip
        _forget_all_but(ports, request, "")
        since = ""
    this = Pass(number, f"ferryman-{request.id}-{number}", since, run=run)
    _note(ports, request, [*found, this])
    try:
        return source.begin_backup(request.guest_uuid, _job(request, plan, this))
    except NoBitmap as error:
        if not this.since:
            raise
        records.keep_decision(request.id, f"what was written since pass {last.number if last else 0} is not known any more ({error.why}): all of it is compared")  # fmt: skip
    _forget_all_but(ports, request, "")
    this = replace(this, since="")
    _note(ports, request, [*found, this])
    return source.begin_backup(request.guest_uuid, _job(request, plan, this))


def _remembers(plan: Plan) -> bool:
    """Whether any disk's image tells what was written since a pass; of the others each pass compares everything anyway."""
    return any(disk.remembers for disk in plan.ahead)


def _named_run(ports: Ports, request: Request, plan: Plan, token: str) -> str:
    """The token of the guest's present run, which gets that one, of no other run, if it has none; empty where nothing is to be told by it."""
    source = ports.hypervisor(request.source)
    if not _remembers(plan):
        return ""
    if not source.run_of(request.guest_uuid):
        source.name_run(request.guest_uuid, token)
    return source.run_of(request.guest_uuid)


def _other_run(ports: Ports, request: Request, plan: Plan) -> bool:
    """Whether the guest was started anew since the last pass: then one more is shorter than to compare all of it while it stands still."""
    last = complete(ports, request)
    return bool(last and _remembers(plan) and ports.hypervisor(request.source).run_of(request.guest_uuid) != last.run)


def note_run(ports: Ports, request: Request) -> None:
    """In which run the guest is that is stopped now."""
    run = ports.hypervisor(request.source).run_of(request.guest_uuid)
    ports.records.keep_facts(request.id, {"last_run": run, "last_run_at": ports.clock.now()})


def watched_to_its_end(ports: Ports, request: Request) -> None:
    """That run was, until now."""
    ports.records.keep_facts(request.id, {"last_run_at": ports.clock.now()})


def heed_run(ports: Ports, request: Request, plan: Plan) -> None:
    """The guest is off: do its images remember what was written since the last pass, which was of the same run? Else all of it is compared."""
    facts, last = ports.records.facts(request.id), complete(ports, request)
    if last is None or not _remembers(plan):
        return
    run, unseen = facts.get("last_run", ""), ports.clock.now() - facts.get("last_run_at", 0.0)
    why = "" if run and run == last.run else f"the guest was started anew since pass {last.number}"
    if not why and unseen > UNSEEN_FOR:
        why = f"nobody saw for {format_duration(unseen)} whether the guest was started again"
    told_by = "" if why else facts.get("rest_told_by", last.moment)
    if why and facts.get("rest_told_by") != "":
        ports.records.keep_decision(request.id, f"{why}, and what befell its images while it was off no bitmap tells for certain: all of it is compared")  # fmt: skip
    ports.records.keep_facts(request.id, {"rest_told_by": told_by})


def _job(request: Request, plan: Plan, this: Pass) -> BackupJob:
    disks = tuple(
        BackupDisk(disk.target, scratch_file(request, disk), this.since if disk.remembers else "", disk.remembers)
        for disk in plan.ahead
    )
    return BackupJob(request.id, disks, this.moment if any(disk.remembers for disk in disks) else "")


def scratch_file(request: Request, disk: Ahead) -> str:
    """What the guest overwrites during a pass."""
    return f"{disk.scratch.rstrip('/')}/{undo.SCRATCH.format(request=request.id, target=disk.target)}"


def _copy(
    ports: Ports, request: Request, plan: Plan, disk: Ahead, this: Pass, socket: str, watch: "_Watch"
) -> CopyResult | TransferEnd:
    number = [one.target for one in plan.ahead].index(disk.target)
    later = {one.target for one in plan.ahead[number + 1 :]}
    task = task_of(ports, request, plan, disk.target)
    verify = "written" if this.since and task.verify == "full" else task.verify
    task = replace(task, source=offered(disk.target, socket), moment=this.moment, verify=verify, bitmap=f"backup-{disk.target}" if this.since and disk.remembers else "")  # fmt: skip
    left = sum(one.capacity for one in plan.new_disks if one.target in later)
    samples = Samples(ports, request, this.number, left, paused=False)
    arguments = {"host": request.destination, "copy": task.id, "path": task.destination.location}
    ports.records.register_undo(request.id, undo.DISCARD_COPY, arguments)
    source, destination = ports.hypervisor(request.source).host, ports.hypervisor(request.destination).host
    watch.shows = samples.take

    def copied(**changes: Any) -> CopyResult:
        return ports.copier.copy(replace(task, **changes), source, destination, progress=watch.moved, cancelled=watch.ends)  # fmt: skip

    try:
        try:
            return copied()
        except NoBitmap as error:
            ports.records.keep_decision(request.id, f"disk {disk.target}: {error.why}: all of it is compared")
            return copied(bitmap="")
    except Stopped as error:
        if watch.over:
            return TransferEnd(f"{disk.target} was not copied ahead: {watch.over}", str(error), watch.remedy)
        return TransferEnd(f"cancelled by {ports.records.cancel_asked(request.id)}", str(error), cancelled=True)


class _Watch:
    """Looks, while a pass is copied, whether it has to end: cancelled, the guest gone or standing still, or no room for what it overwrites."""

    def __init__(self, ports: Ports, request: Request, plan: Plan) -> None:
        self._ports, self._request = ports, request
        self._directories = {disk.scratch for disk in plan.ahead}
        self._stood_still = ports.records.facts(request.id).get("pass_stood_still", False)
        self._looked_at = ports.clock.now()
        self.shows: Callable[[CopyProgress], None] = lambda _: None
        self.over = self.remedy = ""  # why the pass ends, and what helps; empty: it goes on

    def moved(self, now: CopyProgress) -> None:
        """Something has arrived."""
        self.shows(now)

    def ends(self) -> bool:
        """Whether the copy shall end."""
        if windows.stop_asked(self._ports, self._request):
            return True
        now = self._ports.clock.now()
        if now - self._looked_at < LOOK_EVERY:
            return False
        self._looked_at = now
        windows.note_at_work(self._ports, self._request)
        source = self._ports.hypervisor(self._request.source)
        here = look(source, self._request.guest_uuid)
        if here.where in (Where.OFF, Where.ABSENT):
            self.over, self.remedy = (
                f"the guest is {here.where.words} at the source by now",
                "ask again, with --cold if it is to stay off",
            )
        elif here.storage_failed and not self._stood_still:
            self.over = "the guest stands still: it found no room for what it overwrites, or its storage failed"
            self.remedy = ROOM
            unmaking.end_pass(self._ports, self._request)  # which lets it go on
        elif full := unmaking.without_room(source, sorted(self._directories)):
            self.over = f"{full} has no room left for what the guest overwrites"
            self.remedy = ROOM
            unmaking.end_pass(self._ports, self._request)  # at once: the guest comes first
        return bool(self.over)


def _forget_all_but(ports: Ports, request: Request, moment: str) -> None:
    """Only what was written since the last complete pass is still of use."""
    source = ports.hypervisor(request.source)
    for one in source.checkpoints(request.guest_uuid):
        if one.name.startswith(f"ferryman-{request.id}-") and one.name != moment:
            source.delete_checkpoint(request.guest_uuid, one.name)


# After the passes


def end_passes(ports: Ports, request: Request) -> None:
    """End the job, if one of ours still runs: until then nobody can say who owns the guest."""
    if look(ports.hypervisor(request.source), request.guest_uuid).where in _ALIVE:
        unmaking.end_pass(ports, request)


def foresee(ports: Ports, request: Request, plan: Plan) -> None:
    """Say whether what is left gets over in the time there is. Raises Refused when it does not: the guest is not stopped then."""
    last, rest = complete(ports, request), windows.time_left(ports, request)
    if last is None or rest is None:
        return
    needed = _needed(last)
    if size := sum(disk.allocation for disk in plan.after_the_stop):
        said = forecast(size, windows.measured(ports, request), rest, besides=needed, limit=request.options.bandwidth)
    else:
        told = f"{_told(last)}; there are {format_duration(max(rest, 0.0))}"
        said = Forecast(needed <= rest, told, needed)
    windows.heed(ports, request, said, "a time at which it writes less")


def _needed(last: Pass) -> float:
    """Seconds from the guest that is off to the one that is well at the destination."""
    return last.seconds + HEALTHY_FOR


def _told(last: Pass) -> str:
    return f"what is left needs about {format_duration(_needed(last))} (pass {last.number} took {format_duration(last.seconds)})"


def _what_is_left(ports: Ports, request: Request, plan: Plan) -> str:
    """How long the guest stands still for it, as the last pass tells, beside its own shutting down and booting."""
    last = complete(ports, request)
    assert last is not None, "the passes have ended, so there was one"
    later = ", ".join(disk.target for disk in plan.after_the_stop)
    return f"once the guest is off, {_told(last)}{f', and all of {later} is copied then' if later else ''}"


def forget_passes(ports: Ports, request: Request, plan: Plan) -> None:
    """Take what the images at the source remember of the passes out of them. What cannot be is no harm, and is told."""
    source = ports.hypervisor(request.source)
    for disk in plan.ahead:
        for one in noted(ports, request) if disk.remembers else ():
            try:
                source.remove_bitmap(disk.source, one.moment)
            except DriverError as error:
                ports.records.keep_decision(request.id, f"bitmap {one.moment} stays in {disk.source} at {request.source}: {error.why}; {error.remedy}")  # fmt: skip
