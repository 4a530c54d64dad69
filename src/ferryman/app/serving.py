"""`ferryman serve`: the executor that waits. It takes in hand what was handed over to it and what others left, and tells events."""

import os
import threading
from collections.abc import Callable
from typing import Any

from ferryman.app.moves import Moves, View
from ferryman.model.request import Request

LOOK_EVERY = 1.0  # seconds between two looks at the records
Log = Callable[..., None]  # an event's name, then its fields


class Server:
    """One of them runs on a machine. `log` is told each event."""

    def __init__(self, moves: Moves, log: Log) -> None:
        self._moves, self._log = moves, log
        self._told: dict[str, int] = {}  # of each request in our hands, the phases that were told

    def run(self, ended: threading.Event) -> None:
        """Until `ended` is set; moves under way are left as they are, for the next one. Raises Refused when another serves."""
        self._log("serving", slot=self._moves.serve())
        while not ended.is_set():
            for view in self._moves.left():
                self._look(view)
            for request_id in tuple(self._told):
                self._tell(request_id)
            ended.wait(LOOK_EVERY)
        self._log("ended", left=",".join(self._told))

    def _look(self, view: View) -> None:
        """What needs attention is for a person to recover."""
        request = view.request
        if view.ended or request.id in self._told or view.carried_by not in (None, os.getpid()):
            return
        if view.carried_by is None and not self._moves.take_up(request):
            return
        self._told[request.id] = 0
        self._log("taken", **_named(request))

    def _tell(self, request_id: str) -> None:
        phases = self._moves.records.phases(request_id)
        for entry in phases[self._told[request_id] :]:
            self._log("phase", request=request_id, phase=entry.phase)
        self._told[request_id] = len(phases)
        report = self._moves.show(request_id)
        if report.outcome is not None:
            del self._told[request_id]
            outcome = report.outcome
            self._log("end", request=request_id, status=outcome.status, reason=outcome.reason, remedy=outcome.remedy)


def _named(request: Request) -> dict[str, Any]:
    begins = request.options.window or request.options.at or "at once"
    return {"request": request.id, "guest": request.guest, "source": request.source,
            "destination": request.destination, "begins": begins}  # fmt: skip
