"""The only home of DBOS: executor slots, queues, durable steps.

Each process that executes holds the lock of one slot file; its DBOS executor id and its queue bear the slot's name, and
only the holder of the lock listens to that queue. At start, slots that have unfinished work and that nobody holds are
taken too. (DBOS's recovery puts work back on its queue; were the queue shared, an idle or an exiting process would take it.)
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dbos import DBOS, DBOSClient, DBOSConfig, SetWorkflowID, StepOptions

from ferryman.execute.slots import Slots

T = TypeVar("T")

# Work in flight is replayed only by the same version: change it when a workflow's steps change so that replay would fail.
APPLICATION_VERSION = "1"
POLL = 0.1  # seconds between two looks at the queue

_UNFINISHED = ["PENDING", "ENQUEUED"]


def step(name: str, function: Callable[..., T], *arguments: Any) -> T:
    """Run one durable step of the current workflow: its plain result is stored, and a replay returns it without running."""
    return DBOS.run_step(StepOptions(name=name), function, *arguments)


class Runtime:
    """One executor in this process. `workflows` maps stored names to functions of one plain string."""

    def __init__(self, directory: Path, workflows: Mapping[str, Callable[[str], Any]]) -> None:
        self.slots = Slots(directory / "slots")
        self._database = directory / "dbos.sqlite"
        self._functions = workflows
        self._workflows: dict[str, Callable[[str], Any]] = {}
        self.slot = ""
        self.adopted: tuple[str, ...] = ()  # ids of workflows that another executor left unfinished

    def start(self) -> None:
        """Take a slot, and every abandoned one with work in it; then run what is found there."""
        with self.slots.starting():  # one start at a time: the first one makes DBOS's tables
            self._start()

    def _start(self) -> None:
        known = self._database.exists() and self._database.stat().st_size > 0
        self._create_database()
        self.slot = self.slots.take_lowest()
        unfinished = self._unfinished() if known else []
        others = {slot for _, slot in unfinished} - {self.slot}
        abandoned = [slot for slot in sorted(others) if self.slots.take(slot)]
        mine = {self.slot, *abandoned}
        self.adopted = tuple(identity for identity, slot in unfinished if slot in mine)
        logging.getLogger("dbos").setLevel(logging.CRITICAL)  # what matters is in our own records
        config = DBOSConfig(
            name="ferryman",
            system_database_url=self._url,
            application_version=APPLICATION_VERSION,
            executor_id=self.slot,
            log_level="CRITICAL",
            run_migrations=True,
        )
        DBOS(config=config)
        for name, function in self._functions.items():
            self._workflows[name] = DBOS.workflow(name=name, max_recovery_attempts=None)(_named(name, function))
        DBOS.listen_queues([self.slot, *abandoned])
        DBOS.launch()
        for slot in (self.slot, *abandoned):
            DBOS.register_queue(slot, polling_interval_sec=POLL)
        if abandoned:
            DBOS._recover_pending_workflows(abandoned)

    @property
    def _url(self) -> str:
        return f"sqlite:///{self._database}"

    def _create_database(self) -> None:
        """WAL must be chosen before DBOS opens the file: it quadruples the rate of steps."""
        connection = sqlite3.connect(self._database, timeout=30)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()

    def _unfinished(self) -> list[tuple[str, str]]:
        """(workflow id, slot) of what has not ended; the slot is the queue's name."""
        client = DBOSClient(system_database_url=self._url)
        try:
            found = client.list_workflows(status=_UNFINISHED, load_input=False, load_output=False)
            return [(status.workflow_id, status.queue_name or "") for status in found if status.queue_name]
        finally:
            client.destroy()

    def submit(self, workflow: str, identity: str, argument: str) -> None:
        """Put a workflow on this executor's queue. The same identity again changes nothing."""
        with SetWorkflowID(identity):
            DBOS.enqueue_workflow(self.slot, self._workflows[workflow], argument)

    def finished(self, identity: str) -> bool:
        """Whether that workflow has ended, in whatever way (its own cancel by DBOS included)."""
        status = DBOS.get_workflow_status(identity)
        return status is None or status.status not in _UNFINISHED

    def stop(self) -> None:
        """Leave. Unfinished work stays recorded for the next executor."""
        DBOS.destroy(destroy_registry=True)
        self.slots.release_all()


def _named(name: str, function: Callable[[str], Any]) -> Callable[[str], Any]:
    """A plain function with a stable name: DBOS stores it, and a bound method has none that it can register."""

    def workflow(argument: str) -> Any:
        threading.current_thread().name = f"{name} {argument}"
        return function(argument)

    workflow.__name__ = workflow.__qualname__ = name
    return workflow
