"""Start reading here: a request from being asked to its report, every step durable."""

import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ferryman.assess import assess
from ferryman.errors import Blocked, DriverError, FerrymanError, NeedsAttention, RecordsUnusable, Refused
from ferryman.execute import ahead, backup, cold, definition, hooks, live, mark, restore, retry, undo, windows
from ferryman.execute.follow import ASK_AGAIN, TOO_LATE, TransferEnd
from ferryman.execute.inspection import looked
from ferryman.execute.observe import observe
from ferryman.execute.retire import retire_if_asked
from ferryman.execute.runtime import step
from ferryman.execute.settle import LATER, PATIENCE, look
from ferryman.model.finding import blockers
from ferryman.model.outcome import Figures, Outcome, Status, Versions
from ferryman.model.phase import Phase
from ferryman.model.place import Where
from ferryman.model.plan import Method, Plan
from ferryman.model.request import Kind, Request
from ferryman.model.site import Site
from ferryman.plain import from_plain, to_plain
from ferryman.plan.method import plan_for
from ferryman.ports import Ports, Watcher
from ferryman.verify.cold import at_home
from ferryman.verify.filesystems import stop_findings
from ferryman.verify.location import Action, Verdict
from ferryman.verify.network import check_findings, network_findings

AT_HOME = (Where.RUNNING, Where.HALTED, Where.OFF)  # the guest is at its source, whatever it is doing there
ANSWERS_WITHIN = 15.0  # seconds after the switchover within which a client must be answered
BOOTED_WITHIN = 180.0  # the same for a guest that starts anew


# What is no move has its own way, and its own plan among the facts.
_CARRIED_OUT: dict[Kind, Callable[[Ports, Request], Outcome]] = {Kind.BACKUP: backup.carry_out, Kind.RESTORE: restore.carry_out}  # fmt: skip
_LEFT: dict[Kind, Callable[[Ports, Request], Outcome]] = {Kind.BACKUP: backup.left, Kind.RESTORE: restore.left}
_PLANNED = {Kind.MOVE: "plan", Kind.BACKUP: "backup_plan", Kind.RESTORE: "restore_plan"}
_DOES = {Kind.MOVE: "is moving it already", Kind.BACKUP: "is backing it up", Kind.RESTORE: "is bringing it back"}


class Fulfilment:
    """The workflows. `fulfil` carries out a new request, `settle` ends what a crash or "needs attention" left."""

    def __init__(self, ports: Ports, begin: Callable[[str], None]) -> None:
        self.ports = ports
        self._begin_retry = begin  # carries out a request that was written down by a workflow
        self.fresh: set[str] = set()  # requests that this process took itself
        self._watchers: dict[str, Watcher] = {}
        self._beside = ThreadPoolExecutor(8)
        self._announcing: dict[str, Future[str]] = {}
        self._turn = windows.Turn("due_at", "another guest is moved now: this one begins after it")
        self._ahead = windows.Turn("passes", "another guest is copied ahead now: this one begins after it")

    @property
    def workflows(self) -> dict[str, Callable[[str], Any]]:
        """By the names that are stored."""
        return {"fulfil": self.fulfil, "settle": self.settle}

    def fulfil(self, request_id: str) -> Any:
        """One guest from one host to another."""
        request = self.ports.records.request(request_id)
        return self._to_an_end(request, lambda: self._fulfil(request), retries=request.options.retry)

    def _fulfil(self, request: Request) -> Outcome:
        if request.retries:
            step("wait-to-retry", self.wait_to_retry, request)
        step("admit", self.admit, request)
        if request.kind is not Kind.MOVE:
            return _CARRIED_OUT[request.kind](self.ports, request)
        if not request.options.waits or request.options.warm:  # a warm move waits for its stop, not for its beginning
            return self._move(request)
        step("look-ahead", self.observe_assess_plan, request)  # what speaks against it is said now, not in the night
        return self._in_its_time(request, lambda: self._move(request))

    def _in_its_time(self, request: Request, act: Callable[[], Outcome]) -> Outcome:
        while True:
            step("wait", self.wait, request)
            with self._turn.taken(self.ports, request, lambda: mark.keep(self.ports, request)):
                if step("begin", self._begin, request):
                    return act()

    def _begin(self, request: Request) -> bool:
        return windows.begin(self.ports, request, fresh=request.id in self.fresh)

    def _move(self, request: Request) -> Outcome:
        if request.options.backup_to:
            if not request.options.waits or request.options.warm:
                step("look-ahead", self.observe_assess_plan, request)  # a move that is refused needs no backup
            backup.before_move(self.ports, request)
        plan = from_plain(Plan, step("plan", self.observe_assess_plan, request))
        if plan.method.stops:
            return self._move_stopped(request, plan)
        if plan.method is Method.LIVE:
            step("watch", self.watch, request)
        carry_out = live.carry_out if plan.method is Method.LIVE else definition.carry_out
        end, verdict = carry_out(self.ports, request, plan, fresh=request.id in self.fresh)
        return self.conclude(request, plan, end, verdict)

    def _move_stopped(self, request: Request, plan: Plan) -> Outcome:
        """Cold, or warm: then most is copied first, and what there is to wait for is waited for before the stop."""
        if not plan.ahead:
            self._foresee(request, plan, windows.foresee)
            cold.make_ready(self.ports, request, plan)
            return self._stopped_and_moved(request, plan)
        cold.make_ready(self.ports, request, plan)
        end = cold.free_to_copy(self.ports, request, plan)
        if not end.reason:
            with self._ahead.taken(self.ports, request, lambda: windows.note_at_work(self.ports, request)):
                end = cold.copy_ahead(self.ports, request, plan)
        if end.reason or not request.options.waits:
            return self._stopped_and_moved(request, plan, end)
        return self._in_its_time(request, lambda: self._caught_up_and_moved(request, plan))

    def _caught_up_and_moved(self, request: Request, plan: Plan) -> Outcome:
        end = cold.catch_up(self.ports, request, plan)
        return self._stopped_and_moved(request, plan, end)

    def _stopped_and_moved(self, request: Request, plan: Plan, end: TransferEnd = cold.GOOD) -> Outcome:
        """`end`: of what went ahead; one with a reason means that the guest stays where it is."""
        if end.reason:
            return self.conclude(request, plan, *cold.concluded(self.ports, request, plan, end))
        if plan.ahead:
            self._foresee(request, plan, ahead.foresee)
        if plan.starts:
            step("watch", self.watch, request)
        return self.conclude(request, plan, *cold.carry_out(self.ports, request, plan, fresh=request.id in self.fresh))

    def _foresee(self, request: Request, plan: Plan, look_at: Callable[[Ports, Request, Plan], None]) -> None:
        if plan.starts and (request.options.window or request.options.give_up_at):
            step("foresee", look_at, self.ports, request, plan)

    def settle(self, request_id: str) -> Any:
        """The end of a request that was left: a job still running is watched, none is ever started."""
        request = self.ports.records.request(request_id)
        return self._to_an_end(request, lambda: self._settle(request))

    def _settle(self, request: Request) -> Outcome:
        facts = step("read-facts", self._read_facts, request)
        if _PLANNED[request.kind] not in facts:
            raise Refused(f"request {request.id}", "it ended before anything was changed", "ask again")
        if request.kind is not Kind.MOVE:
            return _LEFT[request.kind](self.ports, request)
        plan = from_plain(Plan, facts["plan"])
        patience = LATER if facts["looked_before"] else PATIENCE
        match plan.method:
            case Method.DEFINITION:
                end, verdict = definition.left(self.ports, request, patience=patience)
            case Method.COLD | Method.WARM:
                end, verdict = cold.left(self.ports, request, plan, patience=patience)
            case Method.LIVE:
                end, verdict = live.watched(self.ports, request, plan, fresh=False, may_ask=False, patience=patience)
        return self.conclude(request, plan, end, verdict)

    def _read_facts(self, request: Request) -> dict[str, Any]:
        records = self.ports.records
        return records.facts(request.id) | {"looked_before": records.phase(request.id) is Phase.NEEDS_ATTENTION}

    # The parts of the way

    def wait_to_retry(self, request: Request) -> None:
        """A retry is as fresh as one that was just asked for, where this process has waited for its time."""
        if retry.wait(self.ports, request):
            self.fresh.add(request.id)
        elif not request.options.waits:
            raise Refused(f"request {request.id}", TOO_LATE, ASK_AGAIN)

    def wait(self, request: Request) -> None:
        """One whose time came while this process waited for it is as fresh as one that was just asked for."""
        windows.wait(self.ports, request)
        self.fresh.add(request.id)

    def admit(self, request: Request) -> None:
        """One guest, one lease."""
        holder = self.ports.records.take_lease(request.guest_uuid, request.id)
        if holder != request.id:
            waits = self.ports.records.phase(holder) is Phase.WAITING
            does = "waits to move it" if waits else _DOES[self.ports.records.request(holder).kind]
            raise Refused(f"guest {request.guest}", f"request {holder} {does}", f"ferryman follow {holder}, or ferryman cancel {holder}")  # fmt: skip
        if self.ports.records.cancel_asked(request.id):
            raise Refused(f"request {request.id}", "cancelled before it began")
        if not request.options.waits:
            windows.note_give_up(self.ports, request, request.asked_at)
            windows.not_over(self.ports, request)
        if request.options.warm:
            windows.note_at_work(self.ports, request, fresh=request.id in self.fresh)
        self.ports.records.enter(request.id, Phase.PREPARING)

    def observe_assess_plan(self, request: Request) -> Any:
        """Look at both hosts, find what speaks against the move, and plan it. Raises Blocked."""
        site = observe(self.ports, request.guest_uuid, request.source, request.destination, request.options)
        findings = assess(site, request.options)
        of_backup = self.ports.records.report(request.id, with_samples=False).findings_before if request.options.backup_to else ()  # fmt: skip
        of_backup = tuple(one for one in of_backup if one.code.startswith("backup-"))
        self.ports.records.keep_findings(request.id, "before", [*of_backup, *findings])
        self.ports.records.keep_versions(request.id, _versions(site, request.ferryman_version))
        if found := blockers(findings):
            first = found[0]
            raise Blocked(first.what, first.why, first.remedy)
        plan = plan_for(site, request.options)
        wanted = request.options
        self.ports.records.keep_maps(request.source, request.destination, wanted.map_pool, wanted.map_network)
        probe = request.options.probe or next(iter(site.guest.addresses), "")
        probe = probe or self.ports.network.address_of([interface.mac for interface in site.guest.interfaces])
        bridged = [(one.mac, one.source) for one in site.guest.interfaces if one.kind == "bridge"]
        disks = {disk.target: disk.source for disk in site.guest.disks}
        self.ports.records.keep_facts(request.id, {"plan": to_plain(plan), "probe": probe, "bridged": bridged, "disks": disks})  # fmt: skip
        return to_plain(plan)

    def watch(self, request: Request) -> None:
        """Look at the guest as a client would, from before the transfer until it is verified."""
        probe = self.ports.records.facts(request.id).get("probe", "")
        if probe and request.id not in self._watchers:
            self._watchers[request.id] = self.ports.network.watch(probe)
            before = self.ports.network.answers(probe, 0.0)  # None: it cannot be asked from here
            mac = self.ports.network.mac_of(probe) if before else ""
            self.ports.records.keep_facts(request.id, {"answered_before": before, "answered_by": mac})

    def conclude(self, request: Request, plan: Plan, end: TransferEnd, verdict: Verdict) -> Outcome:
        """From the verdict on the pair of places to an outcome."""
        try:
            return self._conclude(request, plan, end, verdict)
        except DriverError as error:  # past the verdict a host that fails leaves things half done
            raise NeedsAttention(error.what, error.why, error.remedy or "ferryman recover carries on") from error

    def _conclude(self, request: Request, plan: Plan, end: TransferEnd, verdict: Verdict) -> Outcome:
        match verdict.action:
            case Action.FORWARD if plan.method is Method.DEFINITION:
                return definition.forward(self.ports, request, plan)
            case Action.FORWARD | Action.FORWARD_OVER_HUSK:
                if plan.method.stops:
                    cold.forward(self.ports, request, plan)
                else:
                    self._announce(request)
                    live.forward(self.ports, request, plan, verdict)
                if plan.method.stops and not plan.starts:
                    outcome = from_plain(Outcome, step("verify", definition.verify, self.ports, request, plan))
                else:
                    outcome = from_plain(Outcome, step("verify", self.verify, request, plan))
                if plan.method.stops:
                    outcome = cold.without_holds(self.ports, request, outcome)
                if (
                    request.options.retire and outcome.status is Status.SUCCEEDED
                ):  # one that is dark may want to go back
                    step("retire", retire_if_asked, self.ports, request)
                return outcome
            case Action.BACK | Action.BACK_RESUME:
                reason = f"{end.reason}; {verdict.reason}"
                try:
                    live.back(self.ports, request, verdict)
                except NeedsAttention as error:
                    return Outcome(
                        Status.NEEDS_ATTENTION,
                        f"{reason}; {error.why}",
                        self._runs_at_source(request),
                        remedy=error.remedy,
                    )
                status = Status.CANCELLED if end.cancelled else Status.FAILED
                at = "" if plan.method.stops and not plan.starts else request.source
                return Outcome(status, reason, at, remedy=end.remedy, error=end.kind)
            case Action.STOPPED_AT_SOURCE:
                reason = verdict.reason
                try:
                    live.back(self.ports, request, verdict)
                except NeedsAttention as error:
                    reason = f"{reason}; {error.why}"
                return Outcome(Status.NEEDS_ATTENTION, reason, "", remedy=_named(verdict.remedy, request))
            case Action.STOPPED_AT_DESTINATION:
                live.forward(self.ports, request, plan, verdict)
                return Outcome(Status.NEEDS_ATTENTION, verdict.reason, "", remedy=_named(verdict.remedy, request))
            case _:
                remedy = _named(verdict.remedy, request)
                return Outcome(Status.NEEDS_ATTENTION, f"{end.reason}; {verdict.reason}", "", remedy=remedy)

    def _runs_at_source(self, request: Request) -> str:
        """The source, if the guest runs there: what could not be put back elsewhere is no reason to keep that secret."""
        here = look(self.ports.hypervisor(request.source), request.guest_uuid)
        return request.source if here.where is Where.RUNNING else ""

    def verify(self, request: Request, plan: Plan) -> Any:
        """Past the point of no return: make the network learn the place, look from outside, collect the figures."""
        records, network = self.ports.records, self.ports.network
        records.enter(request.id, Phase.VERIFYING)
        facts = records.facts(request.id)
        destination = self.ports.hypervisor(request.destination)
        probe = facts.get("probe", "")
        announcing = self._announce(request)
        # What did not answer before the move says nothing about the move.
        within = BOOTED_WITHIN if plan.method.stops else ANSWERS_WITHIN
        answers = network.answers(probe, within) if probe and facts.get("answered_before") else None
        not_announced = announcing.result()
        del self._announcing[request.id]
        answered_by = network.mac_of(probe) if answers else ""
        if answered_by and facts.get("answered_by") and answered_by != facts["answered_by"]:
            answers = False  # somebody else has the address now
        watcher = self._watchers.pop(request.id, None)
        if watcher is not None:
            watcher.stop()
        figures = cold.figures(self.ports, request) if plan.method.stops else self._figures(request)
        blackout = watcher.blackout if watcher is not None else None
        findings = network_findings(
            answers=answers,
            probe=f"{probe} ({answered_by} does)" if answered_by and not answers else probe,
            answered_before=facts.get("answered_before"),
            destination=request.destination,
            not_announced=not_announced,
            blackout=blackout,
            downtime=figures.downtime,
        )
        deadline = self.ports.clock.now() + BOOTED_WITHIN
        seen = {
            check: network.check(check, max(deadline - self.ports.clock.now(), 0.0)) for check in request.options.checks
        }
        findings += check_findings(seen, request.destination)
        findings += stop_findings(request.guest, request.source, looked(facts), retired=request.options.retire)
        records.keep_findings(request.id, "after", findings)
        place = destination.place(request.guest_uuid)
        if place.where not in (Where.RUNNING, Where.HALTED):
            raise NeedsAttention(
                f"guest {request.guest}", f"it arrived at {request.destination}, and is {place.where} there now ({place.detail})",
                f"look why it stopped (its log at {request.destination}, in /var/log/libvirt/qemu), then ferryman recover",
            )  # fmt: skip
        dark = next((finding for finding in findings if finding.code in ("guest-dark", "check-failed")), None)
        return to_plain(
            Outcome(
                status=Status.NEEDS_ATTENTION if dark else Status.SUCCEEDED,
                reason=f"{dark.what}: {dark.why}" if dark else f"the guest runs at {request.destination}",
                running_at=request.destination,
                downtime=figures.downtime,
                blackout=blackout,
                transferred=figures.transferred,
                job_seconds=figures.seconds,
                remedy=dark.remedy if dark else "",
            )
        )

    def _announce(self, request: Request) -> Future[str]:
        """Tell the network as soon as it is known where the guest runs, beside what else is to be done; once a process."""
        if request.id not in self._announcing:
            host = self.ports.hypervisor(request.destination).host
            bridged = [(mac, bridge) for mac, bridge in self.ports.records.facts(request.id).get("bridged", ())]
            self._announcing[request.id] = self._beside.submit(self.ports.network.announce, host, bridged)
        return self._announcing[request.id]

    def _figures(self, request: Request) -> Figures:
        last = self._statistics(request)
        return Figures(last.downtime, last.processed, last.elapsed) if last else Figures()

    def _statistics(self, request: Request) -> Any:
        """The hypervisor's last word: at the destination always, at the source only while it is still defined there."""
        for host in (request.destination, request.source):
            with suppress(FerrymanError):
                if (found := self.ports.hypervisor(host).completed(request.guest_uuid)) is not None:
                    return found
        return self.ports.records.last_sample(request.id)

    # The end

    def _to_an_end(self, request: Request, way: Callable[[], Outcome], *, retries: int = 0) -> Any:
        """Whatever happens, the request ends in one of the four ways, and its records say so; one that failed may be tried again."""
        try:
            outcome = way()
        except RecordsUnusable:
            raise  # without records there is no end that could be told
        except Refused as error:
            outcome = self._refused(request, error)
        except NeedsAttention as error:
            outcome = Outcome(Status.NEEDS_ATTENTION, f"{error.what}: {error.why}", remedy=error.remedy)
        except FerrymanError as error:
            outcome = self._refused(request, error)
        except Exception as error:  # a fault of ours: whatever it is, the request ends, its lease and undo are kept
            outcome = Outcome(
                Status.NEEDS_ATTENTION, f"a fault in ferryman: {type(error).__name__}: {error}",
                remedy="look at both hosts with virsh list --all; ferryman recover settles it",
            )  # fmt: skip
        plain = to_plain(outcome)
        again = step("retry", retry.make, self.ports, request, outcome) if retries and outcome.error else ""
        if again:
            self._begin_retry(again)
        step("tell-end", hooks.at_end, self.ports, request, plain, again)
        step("report", self.report, request, plain)
        return plain

    def _refused(self, request: Request, error: FerrymanError) -> Outcome:
        """An error before the transfer ran: take back what was done, if both hosts say that the guest never left."""
        taken_back = step("undo-refused", self._undo_if_at_home, request)
        failures = taken_back["failures"]
        if failures is None:
            return Outcome(Status.NEEDS_ATTENTION, str(error), remedy="ferryman recover settles it")
        if failures:
            return Outcome(
                Status.NEEDS_ATTENTION,
                "; ".join([str(error), *failures]),
                taken_back["running_at"],
                remedy="mend the cause, then ferryman recover",
            )
        cancelled = bool(self.ports.records.cancel_asked(request.id))
        asked = self.ports.records.asked_at(request.id) is not None and not isinstance(error, Refused)
        return Outcome(
            Status.CANCELLED if cancelled else Status.FAILED if asked else Status.REFUSED,
            f"{error.what}: {error.why}",
            taken_back["running_at"],
            remedy=error.remedy,
            error=type(error).__name__,
        )

    def _undo_if_at_home(self, request: Request) -> dict[str, Any]:
        """Where it runs as far as the source knows, and what could not be taken back (None: it may not be at home)."""
        records = self.ports.records
        if request.kind is not Kind.MOVE:
            return {"running_at": "", "failures": undo.undo_all(self.ports, request)}
        source, destination = (self.ports.hypervisor(name) for name in (request.source, request.destination))
        here = look(source, request.guest_uuid)
        running_at = request.source if here.where is Where.RUNNING else ""
        if records.asked_at(request.id) is not None or records.undo_acts(request.id):
            there = look(destination, request.guest_uuid)
            never_left = here.where in AT_HOME and there.where in (Where.ABSENT, Where.OFF)
            silent = records.asked_at(request.id) is None and there.where is Where.UNREACHABLE
            if not (never_left or (silent and here.where in AT_HOME)):
                return {"running_at": running_at, "failures": None}
        failures: list[str] | None = undo.undo_all(self.ports, request)
        # That may have waited for the end of another's job, which may have taken the guest away.
        now = look(source, request.guest_uuid)
        if here.where in AT_HOME and now.where is Where.ABSENT:
            failures = None
        running_at = request.source if now.where is Where.RUNNING and at_home(now) else ""
        return {"running_at": running_at, "failures": failures}

    def report(self, request: Request, outcome: dict[str, Any]) -> None:
        """Write the end down: the outcome first, then the phase that says so; the lease stays where somebody must look."""
        watcher = self._watchers.pop(request.id, None)
        if watcher is not None:
            watcher.stop()
        ended = from_plain(Outcome, {**outcome, "ended_at": self.ports.clock.now()})
        self.ports.records.keep_outcome(request.id, ended)
        self.ports.records.enter(request.id, Phase(ended.status))
        if ended.status is not Status.NEEDS_ATTENTION:
            self.ports.records.drop_lease(request.guest_uuid, request.id)


def _named(remedy: str, request: Request) -> str:
    """A verdict's remedy with the names in it, to be typed as it stands."""
    names = {"GUEST": request.guest, "SOURCE": request.source, "DESTINATION": request.destination, "ID": request.id}
    return re.sub(rf"\b({'|'.join(names)})\b", lambda word: names[word[0]], remedy)


def _versions(site: Site, ferryman: str) -> Versions:
    def text(version: tuple[int, int, int]) -> str:
        return ".".join(map(str, version))

    return Versions(
        ferryman,
        text(site.source.libvirt_version),
        text(site.source.qemu_version),
        text(site.destination.libvirt_version),
        text(site.destination.qemu_version),
    )
