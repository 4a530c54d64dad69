"""The only home of DBOS: executor slots, queues, durable steps.

Each process that executes holds the lock of one slot file; its DBOS executor id and its queue bear the slot's name, and
only the holder of the lock listens to that queue. At start, slots that have unfinished work and that nobody holds are
taken too. (DBOS's recovery puts work back on its queue; were the queue shared, an idle or an exiting process would take it.)
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dbos import DBOS, DBOSClient, DBOSConfig, SetWorkflowID, StepOptions
from dbos._dbos import _get_dbos_instance

from ferryman.errors import RecordsUnusable
from ferryman.execute.slots import Slots

T = TypeVar("T")

APPLICATION = "ferryman"
# Work in flight is replayed only by the same version: change it when a workflow's steps change so that replay would fail.
APPLICATION_VERSION = "3"
POLL = 0.05  # seconds between two looks at the queue; an idle executor costs some 5 % of a core

END_STORED_WITHIN = (
    10.0  # seconds after a workflow's last step for DBOS to write its end down; then nobody waits for that
)

_UNFINISHED = ["PENDING", "ENQUEUED"]


def step(name: str, function: Callable[..., T], *arguments: Any) -> T:
    """Run one durable step of the current workflow: its plain result is stored, and a replay returns it without running.

    Without records nothing may go on: the step then stands still as if this process were dead, which it soon is.
    """

    def run(*these: Any) -> T:
        try:
            return function(*these)
        except RecordsUnusable as error:  # not to be stored as the step's result: it shall run again
            _stand_still(error)

    try:
        return DBOS.run_step(StepOptions(name=name), run, *arguments)
    except Exception as error:
        if _of_sqlite(error):
            _stand_still(_unusable("its workflows", error))
        raise


# Why workflows of this process stand still. Whoever waits for them raises it, and so ends the process (see Runtime.finished).
_failures: list[RecordsUnusable] = []
_returned: dict[str, float] = {}  # workflows of this process that have come to their end, and when


def _stand_still(error: RecordsUnusable) -> NoReturn:
    _failures.append(error)
    while True:
        threading.Event().wait()


def _of_sqlite(error: BaseException) -> bool:
    """Whether DBOS could not use its file (it waits for a lock by itself, for as long as that takes)."""
    foreign = getattr(error, "orig", error)
    return isinstance(foreign, sqlite3.OperationalError) or type(foreign) is sqlite3.DatabaseError


def _unusable(what: object, error: BaseException) -> RecordsUnusable:
    why = str(getattr(error, "orig", error))
    return RecordsUnusable(
        f"records in {what}", why, "free the disk, or end what holds the files; then: ferryman recover"
    )


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    """Errors of DBOS's file, and of files beside it, as ours. Raises RecordsUnusable."""
    try:
        yield
    except OSError as error:
        raise _unusable(directory, error) from error
    except Exception as error:
        if _of_sqlite(error):
            raise _unusable(directory, error) from error
        raise


class Runtime:
    """One executor in this process. `workflows` maps stored names to functions of one plain string."""

    def __init__(
        self, directory: Path, workflows: Mapping[str, Callable[[str], Any]], *, poll: float | None = None
    ) -> None:
        self._directory, self._poll = directory, poll or POLL
        with _usable(directory):
            self.slots = Slots(directory / "slots")
        self._database = directory / "dbos.sqlite"
        self._functions = workflows
        self._workflows: dict[str, Callable[[str], Any]] = {}
        self.slot = ""
        self.adopted: tuple[str, ...] = ()  # ids of workflows that another executor left unfinished

    def start(self) -> None:
        """Take a slot, and every abandoned one with work in it; then run what is found there."""
        with _usable(self._directory), self.slots.starting():  # one start at a time: the first one makes DBOS's tables
            self._start()

    def _start(self) -> None:
        logging.getLogger("dbos").setLevel(logging.CRITICAL)  # what matters is in our own records
        self._prepare_database()
        self.slot = self.slots.take_lowest()
        # Before the launch: a queue that is registered later is first looked at a second later.
        abandoned = self._take_abandoned(self.slot)
        mine = [self.slot, *abandoned]
        DBOS(config=self._configuration(self.slot))
        for name, function in self._functions.items():
            self._workflows[name] = DBOS.workflow(name=name, max_recovery_attempts=None)(_named(name, function))
        DBOS.listen_queues(mine)
        DBOS.launch()
        if abandoned:
            DBOS._recover_pending_workflows(abandoned)

    def _take_abandoned(self, *own: str) -> list[str]:
        """Take the slots that have unfinished work and that nobody holds, and make queues of them and of our `own`."""
        client = DBOSClient(system_database_url=self._url, application_name=APPLICATION)
        try:
            unfinished = _unfinished(client)
            others = {slot for _, slot in unfinished} - {self.slot}
            abandoned = [slot for slot in sorted(others) if self.slots.take(slot)]
            for slot in (*own, *abandoned):
                client.register_queue(slot, polling_interval_sec=self._poll)
        finally:
            client.destroy()
        self.adopted += tuple(identity for identity, slot in unfinished if slot in (*own, *abandoned))
        return abandoned

    def adopt(self) -> None:
        """Take what was abandoned since the start."""
        with _usable(self._directory), self.slots.starting():
            if abandoned := self._take_abandoned():
                # DBOS reads its list anew each second, but has no call to lengthen it.
                _get_dbos_instance()._listening_queues.extend(abandoned)  # type: ignore[union-attr]
                DBOS._recover_pending_workflows(abandoned)

    @property
    def _url(self) -> str:
        return f"sqlite:///{self._database}"

    def _configuration(self, executor: str) -> DBOSConfig:
        return DBOSConfig(
            name=APPLICATION,
            system_database_url=self._url,
            application_version=APPLICATION_VERSION,
            executor_id=executor,
            log_level="CRITICAL",
            run_migrations=True,
            notification_listener_polling_interval_sec=self._poll,  # nothing is sent; its thread is waited for when we leave
        )

    def _prepare_database(self) -> None:
        """DBOS's file and tables, as this version of DBOS wants them; the stamp says that they were made to the end."""
        stamp = self._database.with_suffix(".version")
        if stamp.exists() and stamp.read_text() == version("dbos"):
            return
        connection = sqlite3.connect(self._database, timeout=30)
        connection.execute(
            "PRAGMA journal_mode=WAL"
        )  # chosen before DBOS opens the file: it quadruples the rate of steps
        connection.close()
        DBOS(config=self._configuration("nobody"))
        DBOS.listen_queues([])
        DBOS.launch()  # nothing else makes the tables
        DBOS.destroy(destroy_registry=True)
        stamp.write_text(version("dbos"))

    def submit(self, workflow: str, identity: str, argument: str) -> None:
        """Put a workflow on this executor's queue. The same identity again changes nothing."""
        with _usable(self._directory), SetWorkflowID(identity):
            DBOS.enqueue_workflow(self.slot, self._workflows[workflow], argument)

    def finished(self, identity: str) -> bool:
        """Whether that workflow has ended, in whatever way (its own cancel by DBOS included).

        Raises RecordsUnusable once a workflow stands still: it ends with its process, and the next one carries it on.
        """
        if _failures:
            raise RecordsUnusable(f"records in {self._directory}", _failures[0].why, _failures[0].remedy)
        status = self._status(identity)
        if status is None or status.status not in _UNFINISHED:
            return True
        # All is done and told in our own records; the next executor replays what is stored, and stores the end.
        returned = _returned.get(identity)
        return returned is not None and time.monotonic() - returned > END_STORED_WITHIN

    def _status(self, identity: str) -> Any:
        with _usable(self._directory):
            return DBOS.get_workflow_status(identity)

    def carried(self, identity: str) -> bool:
        """Whether the process that listens to that workflow's queue is there."""
        status = self._status(identity)
        return status is not None and self.slots.holder(status.queue_name or "") is not None

    def known(self, identity: str) -> bool:
        """Whether such a workflow was ever submitted."""
        return self._status(identity) is not None

    def give_up(self, identity: str) -> None:
        """Let nobody carry that workflow on. No undo runs."""
        if not self.finished(identity):
            DBOS.cancel_workflow(identity)

    def stop(self) -> None:
        """Leave. Unfinished work stays recorded for the next executor."""
        DBOS.destroy(destroy_registry=True)
        self.slots.release_all()


def _unfinished(client: DBOSClient) -> list[tuple[str, str]]:
    """(workflow id, slot) of what has not ended and this version can carry on; the slot is the queue's name."""
    found = client.list_workflows(
        status=_UNFINISHED, app_version=APPLICATION_VERSION, load_input=False, load_output=False
    )
    return [(status.workflow_id, status.queue_name or "") for status in found if status.queue_name]


def _named(name: str, function: Callable[[str], Any]) -> Callable[[str], Any]:
    """A plain function with a stable name: DBOS stores it, and a bound method has none that it can register."""

    def workflow(argument: str) -> Any:
        threading.current_thread().name = f"{name} {argument}"
        try:
            return function(argument)
        except RecordsUnusable as error:
            _stand_still(error)
        finally:
            _returned[str(DBOS.workflow_id)] = time.monotonic()

    workflow.__name__ = workflow.__qualname__ = name
    return workflow
