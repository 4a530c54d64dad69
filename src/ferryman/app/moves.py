"""Requests: asked, followed, cancelled, looked up, settled."""

import getpass
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ferryman.app.site import HostGuests, Site
from ferryman.errors import BadInput, FerrymanError, Refused
from ferryman.model.outcome import Report, Retired
from ferryman.model.phase import ENDS, Phase
from ferryman.model.plan import Method, Plan
from ferryman.model.request import Kind, Options, Request, Wish
from ferryman.model.sample import Sample
from ferryman.plain import from_plain
from ferryman.plan.windows import announced
from ferryman.report.notice import Language, notice

if TYPE_CHECKING:  # heavy, and not needed by every command
    from ferryman.execute.request import Fulfilment
    from ferryman.execute.runtime import Runtime
    from ferryman.execute.slots import Slots

LOOKS_SOON, LOOKS_LATER = (
    0.05,
    0.25,
)  # seconds between two looks: where something has just changed, and where nothing does for a while
WAITS_EVERY = 0.5  # seconds between two looks at what may wait for days
SERVES_EVERY = 0.5  # seconds until work on the queue of one that serves is begun: it is there for weeks


@dataclass(frozen=True)
class View:
    """One look at a request while it is carried out."""

    request: Request
    phase: Phase
    sample: Sample | None
    decisions: int
    carried_by: int | None  # the process that executes it; None: nobody does

    @property
    def ended(self) -> bool:
        """Whether it has come to an end (attention needed is one)."""
        return self.phase in ENDS


@dataclass(frozen=True)
class NotAsked:
    """A guest for which no request could be made, and why."""

    guest: str
    error: FerrymanError


@dataclass(frozen=True)
class Left:
    """What earlier processes left: requests now in our hands, and those that another process carries out."""

    mine: tuple[Request, ...]
    others: tuple[View, ...]


class Moves:
    """Requests: asked, followed, cancelled, looked up, settled."""

    def __init__(self, site: Site, directory: Path) -> None:
        self.site, self.records, self._directory = site, site.records, directory
        self._fulfilment: Fulfilment | None = None
        self._runtime: Runtime | None = None
        self._serving: Slots | None = None  # held as long as this process is the server
        self._submitted: list[str] = []  # workflows of this process
        self._waiting: set[str] = set()  # requests of this process that are not begun

    def _executor(self) -> "tuple[Runtime, Fulfilment]":
        """This process becomes an executor; it takes over what dead ones left."""
        if self._runtime is None or self._fulfilment is None:
            from ferryman.execute.request import Fulfilment
            from ferryman.execute.runtime import Runtime

            self._fulfilment = Fulfilment(self.site.ports, self._begin_retry)
            self._runtime = Runtime(
                self._directory, self._fulfilment.workflows, poll=SERVES_EVERY if self._serving else None
            )
            self._runtime.start()
        return self._runtime, self._fulfilment

    def ask(self, guest: str, destination: str, options: Options, *, source: str = "") -> Request:
        """Make a request and begin to carry it out in this process."""
        (answer,) = self.ask_all([guest], destination, options, source=source)
        if isinstance(answer, NotAsked):
            raise answer.error
        self.begin(answer)
        return answer

    def ask_all(
        self, guests: Sequence[str], destination: str, options: Options, *, source: str = ""
    ) -> "tuple[Request | NotAsked, ...]":
        """Write down a request for each guest, to be begun one after another by this process.

        What is left of earlier requests is taken in hand first.
        """
        self.site.usable(options)
        # DBOS takes 0.3 s to import: the hosts are asked meanwhile.
        threading.Thread(target=import_module, args=("ferryman.execute.runtime",), daemon=True).start()
        self._settle_those_of(guests)
        asked = self._drafts(guests, destination, options, source)
        for request in asked:
            if isinstance(request, Request):
                runtime, fulfilment = self._executor()
                self.records.add_request(request, runtime.slot)
                fulfilment.fresh.add(request.id)
                self._waiting.add(request.id)
        return asked

    def _settle_those_of(self, guests: Iterable[str]) -> None:
        """What is left of earlier requests is taken in hand, and that of these guests waited for."""
        if self.records.requests(limit=1, open_only=True):
            left = self.settle_left()
            self.wait(
                one.id
                for one in left.mine
                if {one.guest, one.guest_uuid} & set(guests) and self.records.phase(one.id) is not Phase.WAITING
            )

    def carry_out(self, request: Request) -> None:
        """Write a request down that was made already, and begin to carry it out in this process."""
        self._settle_those_of((request.guest, request.guest_uuid))
        runtime, fulfilment = self._executor()
        self.records.add_request(request, runtime.slot)
        fulfilment.fresh.add(request.id)
        self.begin(request)

    def hand_over(
        self, guests: Sequence[str], destination: str, options: Options, slot: str, *, source: str = ""
    ) -> "tuple[Request | NotAsked, ...]":
        """Write down a request for each guest, to be carried out by the executor of that slot: a `ferryman serve`."""
        self.site.usable(options)
        asked = self._drafts(guests, destination, options, source)
        for request in asked:
            if isinstance(request, Request):
                self.records.add_request(request, slot)
        return asked

    def server(self) -> tuple[int, str] | None:
        """(process, slot) of the `ferryman serve` that runs on this machine, or None."""
        from ferryman.execute.slots import Slots

        return Slots(self._directory / "slots").of_server()

    def _drafts(
        self, guests: Sequence[str], destination: str, options: Options, source: str
    ) -> "tuple[Request | NotAsked, ...]":
        self.site.host(destination)
        seen = self.site.guests()
        drafts: list[Request | NotAsked] = []
        for guest in guests:
            try:
                drafts.append(self._draft(guest, destination, options, source, seen))
            except Refused as error:
                drafts.append(NotAsked(guest, error))
        requests = {one.guest_uuid: one for one in drafts if isinstance(one, Request)}  # a guest named twice moves once
        return (*(one for one in drafts if isinstance(one, NotAsked)), *requests.values())

    def _draft(self, guest: str, destination: str, options: Options, source: str, seen: list[HostGuests]) -> Request:
        at, found = self.site.find(guest, source, seen)
        options = self.site.with_maps(options, at, destination)
        return new_request(self.site, found.uuid, found.name, at, destination, options)

    def begin(self, request: Request) -> None:
        """Carry out a request that was written down. Begun already: nothing happens."""
        if request.id not in self._submitted:
            self._waiting.discard(request.id)
            self._submit("fulfil", request.id, request.id)

    def begin_waiting(self, asked: "Iterable[Request | NotAsked]") -> None:
        """Let those wait at once that wait for their time: when it comes they are carried out one after another."""
        for request in asked:
            if isinstance(request, Request) and request.options.waits:
                self.begin(request)

    def _begin_retry(self, request_id: str) -> None:
        """Called by the workflow that was tried, so run again after a crash: both writes take that."""
        runtime, _ = self._executor()
        self.records.take_over(request_id, runtime.slot)
        self._submit("fulfil", request_id, request_id)

    def withdraw(self, requests: Iterable[Request]) -> None:
        """End requests that were not begun as cancelled."""
        withdrawn = tuple(requests)
        for request in withdrawn:
            self.records.ask_cancel(request.id, _somebody())
            self.begin(request)
        self.wait(request.id for request in withdrawn)

    def _submit(self, workflow: str, identity: str, request_id: str) -> None:
        runtime, _ = self._executor()
        runtime.submit(workflow, identity, request_id)
        self._submitted.append(identity)

    def view(self, request_id: str) -> View:
        """How a request stands now."""
        request = self.records.request(request_id)
        phase = self.records.phase(request.id)
        return View(
            request, phase, self.records.last_sample(request.id), len(self.records.decisions(request.id)),
            None if phase in ENDS else self._carrier(request.id),
        )  # fmt: skip

    def _carrier(self, request_id: str) -> int | None:
        if self._runtime is not None:
            holder = self._runtime.slots.holder(self.records.slot(request_id))
            if request_id in self._waiting:
                return holder
            ours = [one for one in (*self._submitted, *self._runtime.adopted) if _request_of(one) == request_id]
            return None if holder == os.getpid() and all(map(self._runtime.finished, ours)) else holder
        from ferryman.execute.slots import Slots

        return Slots(self._directory / "slots").holder(self.records.slot(request_id))

    def follow(self, request_id: str) -> Iterator[View]:
        """Look again and again until the request ended, or nobody carries it out any more."""
        known, pause = None, LOOKS_SOON
        while True:
            view = self.view(request_id)
            yield view
            if view.ended:
                return
            if view.carried_by is None:
                yield self.view(request_id)  # it may have ended between the look at its phase and that at its carrier
                return
            seen = view.phase, view.decisions
            known, pause = seen, LOOKS_SOON if seen != known else min(1.5 * pause, LOOKS_LATER)
            time.sleep(WAITS_EVERY if view.phase is Phase.WAITING else pause)

    def cancel(self, request_id: str) -> Request:
        """Ask for a request to be rolled back. Refused with the reason once it is past the point of no return."""
        request = self._before_switchover(self.last_try(request_id).id)
        self.records.ask_cancel(request.id, _somebody())
        return request

    def tune(self, request_id: str, *, bandwidth: int | None, max_downtime: float | None) -> Request:
        """Ask for other limits (bytes a second, 0: none; seconds). Refused with the reason when nothing is left to limit."""
        if bandwidth is None and max_downtime is None:
            raise BadInput(
                "tune",
                "no limit is named",
                f"ferryman tune {request_id} --bandwidth 100M, or --max-downtime 500ms, or both",
            )
        if max_downtime is not None and max_downtime < 0.001:
            raise BadInput(
                "--max-downtime",
                "it is less than 1 ms, and a switchover takes some time",
                "ask for more, such as --max-downtime 500ms",
            )
        request = self._before_switchover(request_id)
        _is_a_move(request, "has no limits that could be changed")
        if self.records.phase(request.id) is Phase.ROLLING_BACK:
            raise Refused(f"request {request.id}", "it is being put back", f"ferryman follow {request.id}")
        if self.records.facts(request.id).get("plan", {}).get("method") == Method.DEFINITION:
            raise Refused(f"request {request.id}", "the guest is shut off: its definition alone moves, and nothing is transferred", f"ferryman follow {request.id}")  # fmt: skip
        if self.records.facts(request.id).get("plan", {}).get("method") in (Method.COLD, Method.WARM):
            raise Refused(f"request {request.id}", "a move that stops the guest keeps the limits that it was asked for with", f"ferryman cancel {request.id}, then ask again with others: a copy goes on where it was only within one request")  # fmt: skip
        wish = Wish(_somebody(), self.site.ports.clock.now(), bandwidth, max_downtime)
        self.records.ask_tune(request.id, wish)
        return request

    def _before_switchover(self, request_id: str) -> Request:
        request = self.records.request(request_id)
        phase = self.records.phase(request.id)
        if phase in ENDS:
            raise Refused(f"request {request.id}", f"it has ended: {phase}", f"ferryman show {request.id}")
        if phase in (Phase.SWITCHING_OVER, Phase.COMPLETING, Phase.VERIFYING):
            raise Refused(
                f"request {request.id}",
                f"it is {phase}: past the switchover there is only forward",
                f"ferryman follow {request.id}",
            )
        if self.records.facts(request.id).get("transfer_ended"):
            raise Refused(
                f"request {request.id}",
                "its transfer has ended: both hosts are being asked who runs the guest",
                f"ferryman follow {request.id}",
            )
        return request

    def notice(self, request_id: str, language: Language) -> str:
        """The text for the guest's users, made from its plan; where it has none yet, from the plan that it would get now."""
        request = self.last_try(request_id)
        _is_a_move(request, "is nothing that users notice")
        phase = self.records.phase(request.id)
        if phase in ENDS:
            raise Refused(f"request {request.id}", f"it has ended: {phase}", f"ferryman show {request.id}")
        facts = self.records.facts(request.id)
        told = facts.get("plan")
        plan = from_plain(Plan, told) if told else self.site.assess(request.guest, request.destination, request.options, source=request.source)[1]  # fmt: skip
        begins = announced(request, phase, came="due_at" in facts, now=self.site.ports.clock.wall())
        return notice(plan, request.options, request=request.id, phase=phase, begins=begins, language=language)

    def close(self, request_id: str) -> Request:
        """A person has looked: the request needs no more attention. Its guest may be moved again; nothing is undone."""
        request = self.records.request(request_id)
        phase = self.records.phase(request.id)
        if phase is not Phase.NEEDS_ATTENTION:
            raise Refused(
                f"request {request.id}", f"it needs no attention, it is {phase}", f"ferryman show {request.id}"
            )
        by = _somebody()
        for number, _, _ in self.records.undo_acts(request.id):
            self.records.close_undo(number, "dropped")
        self.records.keep_decision(request.id, f"closed by {by}: what was left to do by then was left as it was")
        self.records.enter(request.id, Phase.CLOSED)
        self.records.drop_lease(request.guest_uuid, request.id)
        return request

    def retire(self, request_id: str) -> list[Retired]:
        """Remove what a move left at its source. Refused where it may be the last copy."""
        from ferryman.execute.retire import retire

        request = self.records.request(request_id)
        _is_a_move(request, "leaves nothing at a source")
        phase = self.records.phase(request.id)
        if phase not in ENDS:
            raise Refused(f"request {request.id}", f"it has not ended, it is {phase}", f"ferryman follow {request.id}")
        return retire(self.site.ports, request)

    def history(self, limit: int = 50) -> list[Report]:
        """The newest requests, newest first, without their samples."""
        return [self.records.report(request.id, with_samples=False) for request in self.records.requests(limit=limit)]

    def show(self, request_id: str) -> Report:
        """Everything known of a request."""
        return self.records.report(self.records.request(request_id).id)

    def left(self) -> list[View]:
        """Requests that have not ended well: unfinished, or needing attention."""
        return [self.view(request.id) for request in self.records.requests(limit=1000, open_only=True)]

    def carried_here(self) -> list[View]:
        """What this process found left, carries on, and nobody else would once it ends. Who waits for its time can be left again."""
        return [
            view
            for view in self.left()
            if view.carried_by == os.getpid() and not view.ended and view.phase is not Phase.WAITING
        ]

    def settle_left(self) -> "Left":
        """Become an executor and take in hand all that is left and that no other process carries out.

        What a crash interrupted goes on where it was; what cannot go on, or needs attention, is settled. Returns at once.
        """
        runtime, _ = self._executor()
        adopted = {_request_of(identity) for identity in runtime.adopted}
        mine, others = [], []
        for view in self.left():
            carried_on = {view.request.id, view.request.retries} & adopted  # a retry is begun by the one before
            if not carried_on and not self._settle(view.request) and not (now := self.view(view.request.id)).ended:
                others.append(now)
            else:
                mine.append(view.request)
        return Left(tuple(mine), tuple(others))

    def serve(self) -> str:
        """Become the one executor of this machine that others hand requests over to; returns its slot. Raises Refused."""
        from ferryman.execute.slots import SERVER, Slots

        self._serving = Slots(self._directory / "slots")
        if not self._serving.take(SERVER):
            process = self._serving.holder(SERVER)
            raise Refused("ferryman serve", f"process {process} serves this state directory already",
                          "let it; or end it first: systemctl stop ferryman, or kill with its number")  # fmt: skip
        return self._executor()[0].slot

    def take_up(self, request: Request) -> bool:
        """Take in hand a request that no process carries out: on where it was, or settled. False: by now another one does, or it has ended."""
        runtime, _ = self._executor()
        runtime.adopt()
        return request.id in {_request_of(identity) for identity in runtime.adopted} or self._settle(request)

    def _settle(self, request: Request) -> bool:
        runtime, _ = self._executor()
        with runtime.slots.starting():  # nobody else takes anything up now; before, somebody may have
            view = self.view(request.id)
            if view.carried_by not in (None, os.getpid()) or (view.ended and view.phase is not Phase.NEEDS_ATTENTION):
                return False
            self.records.take_over(request.id, runtime.slot)
            runtime.give_up(request.id)  # left by another version: nobody shall replay it beside us
            # One that waits, or was to wait, and has changed nothing yet is carried out as if it had just been asked for.
            unbegun = view.phase is Phase.WAITING or (view.phase is Phase.QUEUED and request.options.waits)
            anew = unbegun and not self.records.undo_acts(request.id)  # one that is copied ahead has changed something
            workflow = "fulfil" if anew else "settle"
            # Two processes that settle the same thing at once choose the same identity, and DBOS runs it once.
            identity = f"{workflow}-{request.id}-{len(self.records.phases(request.id))}"
            while runtime.known(identity) and runtime.finished(identity):
                identity += "+"
            self._submit(workflow, identity, request.id)
        return True

    def wait(self, requests: Iterable[str] | None = None) -> None:
        """Until the workflows in our hands have ended: all, or those of the requests named."""
        if self._runtime is None:
            return
        wanted = None if requests is None else set(requests)
        waited: set[str] = set()
        while True:  # a request that failed may have begun another that tries again
            new = {*self._submitted, *self._runtime.adopted} - waited
            ours = [one for one in new if wanted is None or self._tries_of(one) & wanted]
            if not ours:
                return
            for identity in ours:
                while not self._runtime.finished(identity):
                    if not self._runtime.carried(identity):
                        break  # by a process that was killed meanwhile: the next `recover` takes it
                    time.sleep(0.05)
            waited.update(ours)

    def _tries_of(self, identity: str) -> set[str]:
        """The request of a workflow, and those that it tries again."""
        request = self.records.request(_request_of(identity))
        found = {request.id}
        while request.retries:
            request = self.records.request(request.retries)
            found.add(request.id)
        return found

    def last_try(self, request_id: str) -> Request:
        """The newest of the requests that try the same move."""
        request = self.records.request(request_id)
        while following := self.records.facts(request.id).get("tried_again_as"):
            request = self.records.request(following)
        return request

    def stop(self) -> None:
        """Leave the executor's slot."""
        if self._runtime is not None:
            self._runtime.stop()
            self._runtime = None


def _is_a_move(request: Request, why: str) -> None:
    if request.kind is not Kind.MOVE:
        raise Refused(f"request {request.id}", f"it is a {request.kind}, which {why}", f"ferryman show {request.id}")


def new_request(
    site: Site, uuid: str, guest: str, source: str, destination: str, options: Options, *, kind: Kind = Kind.MOVE,
    folder: str = "",
) -> Request:  # fmt: skip
    """One that is asked for now, by whoever runs this."""
    from importlib.metadata import version  # 12 ms that only requests need

    return Request(
        id=secrets.token_hex(4),
        guest_uuid=uuid,
        guest=guest,
        source=source,
        destination=destination,
        options=options,
        asked_by=_somebody(),
        asked_at=site.ports.clock.now(),
        ferryman_version=version("ferryman"),
        kind=kind,
        folder=folder,
    )


def _somebody() -> str:
    return f"{getpass.getuser()}@{os.uname().nodename}"


def _request_of(identity: str) -> str:
    """A workflow's identity is its request's id, or WORKFLOW-REQUEST-…."""
    return identity.split("-")[1] if "-" in identity else identity
