"""Reads and writes the records; the only module that speaks SQL. SQLite in WAL mode here, any SQLAlchemy database later."""

import fcntl
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, ExceptionContext, create_engine, delete, event, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError

from ferryman.drivers import clock
from ferryman.drivers.database import schema
from ferryman.errors import BadInput, NotFound, RecordsUnusable
from ferryman.model.backup import BackupMade
from ferryman.model.copy import CopyResult
from ferryman.model.finding import Finding
from ferryman.model.hook import HookRun
from ferryman.model.host import Host
from ferryman.model.outcome import KeptCopy, Outcome, PhaseEntry, Report, Try, UndoEntry, Versions
from ferryman.model.phase import ENDS, Phase
from ferryman.model.plan import Volume
from ferryman.model.request import Request, Wish
from ferryman.model.sample import Sample
from ferryman.plain import from_json, from_plain, to_json


def open_records(directory: Path) -> "DatabaseRecords":
    """The records kept in a state directory, made on first use. Raises BadInput when they are of a newer ferryman."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(f"sqlite:///{directory / 'ferryman.sqlite'}", connect_args={"timeout": 30})
    event.listen(engine, "connect", _prepare_sqlite)
    try:
        version = _schema_version(engine)
    except OperationalError:  # no tables yet; looking first saves each command the look at every table
        version = _make_tables(engine, directory)
    except DatabaseError as error:
        raise _unusable(directory, error) from error
    if version is None:
        with engine.begin() as connection:
            # Two first commands at once both find it missing.
            stamp = insert(schema.schema_version).prefix_with("OR IGNORE")
            connection.execute(stamp.values(version=schema.SCHEMA_VERSION))
    elif version != schema.SCHEMA_VERSION:
        raise BadInput(
            f"records in {directory}",
            f"they have schema version {version}, this ferryman knows {schema.SCHEMA_VERSION}",
            "use the ferryman that wrote them, or another state directory",
        )
    event.listen(engine, "handle_error", lambda context: _translated(directory, context), retval=True)
    return DatabaseRecords(engine)


# SQLite's codes for a file that is there and cannot be used now; anything else is a fault of ours and stays what it is.
_UNUSABLE = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB,
)  # fmt: skip


def _translated(directory: Path, context: ExceptionContext) -> RecordsUnusable | None:
    """What SQLAlchemy shall raise in place of its own error; None: its own."""
    error = context.original_exception
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNUSABLE:
        return RecordsUnusable(
            f"records in {directory}", str(error), "free the disk, or end what holds the files; then: ferryman recover"
        )
    return None


def _make_tables(engine: Engine, directory: Path) -> int | None:
    try:
        with open(directory / "making", "w") as lock:  # two first commands at once: one makes, one waits
            fcntl.flock(lock, fcntl.LOCK_EX)
            schema.metadata.create_all(engine)
            return _schema_version(engine)
    except DatabaseError as error:
        raise _unusable(directory, error) from error


def _unusable(directory: Path, error: DatabaseError) -> BadInput:
    return BadInput(
        f"records in {directory}", str(error.orig), "mend the file or its rights, or set FERRYMAN_STATE_DIRECTORY to another"
    )  # fmt: skip


def _schema_version(engine: Engine) -> int | None:
    with engine.connect() as connection:
        return connection.execute(select(schema.schema_version.c.version)).scalar()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _copies(plain: Mapping[str, Any]) -> dict[str, CopyResult]:
    return {target: from_plain(CopyResult, one) for target, one in plain.items()}


class DatabaseRecords:
    """Implements ports.Records."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # Hosts

    def hosts(self) -> tuple[Host, ...]:
        with self.engine.connect() as connection:
            rows = connection.execute(select(schema.hosts.c.json).order_by(schema.hosts.c.name)).scalars()
            return tuple(from_plain(Host, from_json(row)) for row in rows)

    def add_host(self, host: Host) -> None:
        with self.engine.begin() as connection:
            connection.execute(delete(schema.hosts).where(schema.hosts.c.name == host.name))
            connection.execute(insert(schema.hosts).values(name=host.name, json=to_json(host)))

    def remove_host(self, name: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(delete(schema.hosts).where(schema.hosts.c.name == name))

    def keep_maps(self, source: str, destination: str, pools: Mapping[str, str], networks: Mapping[str, str]) -> None:
        """Remember names that differ between two hosts; one mapped before is mapped anew."""
        pair = {"source": source, "destination": destination}
        with self.engine.begin() as connection:
            for kind, names in (("pool", pools), ("network", networks)):
                for old, new in names.items():
                    key = {**pair, "kind": kind, "old": old}
                    connection.execute(delete(schema.maps).filter_by(**key))
                    connection.execute(insert(schema.maps).values(**key, new=new))

    def maps(self, source: str, destination: str) -> tuple[dict[str, str], dict[str, str]]:
        """(pools, networks) mapped between two hosts, old name to new; a map of the way there leads back as well."""
        table = schema.maps
        there = select(table).where(table.c.source == source, table.c.destination == destination)
        back = select(table).where(table.c.source == destination, table.c.destination == source)
        found: dict[str, dict[str, str]] = {"pool": {}, "network": {}}
        with self.engine.connect() as connection:
            for row in connection.execute(back):
                found[row.kind][row.new] = row.old
            for row in connection.execute(there):
                found[row.kind][row.old] = row.new
        return found["pool"], found["network"]

    # Requests

    def add_request(self, request: Request, slot: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                insert(schema.requests).values(
                    id=request.id,
                    guest_uuid=request.guest_uuid,
                    asked_at=request.asked_at,
                    json=to_json(request),
                    slot=slot,
                    phase=Phase.QUEUED,
                    facts="{}",
                )
            )
            self._note_phase(connection, request.id, Phase.QUEUED)

    def add_retry(self, request: Request) -> None:
        with suppress(IntegrityError):  # written down by a step that a crash interrupted
            self.add_request(request, self.slot(request.retries))
        self.keep_facts(request.retries, {"tried_again_as": request.id})

    def request(self, id_or_prefix: str) -> Request:
        query = select(schema.requests.c.json).where(schema.requests.c.id.startswith(id_or_prefix, autoescape=True))
        with self.engine.connect() as connection:
            rows = connection.execute(query).scalars().all()
        if not rows:
            raise NotFound(f"request {id_or_prefix}", "there is none of that id", "ferryman history lists them")
        if len(rows) > 1:
            raise BadInput(f"request {id_or_prefix}", f"{len(rows)} requests begin like that", "write more of the id")
        return from_plain(Request, from_json(rows[0]))

    def requests(self, *, limit: int = 50, open_only: bool = False) -> tuple[Request, ...]:
        table = schema.requests
        query = select(table.c.json).order_by(table.c.asked_at.desc()).limit(limit)
        if open_only:
            query = query.where(table.c.phase.not_in([phase.value for phase in ENDS - {Phase.NEEDS_ATTENTION}]))
        with self.engine.connect() as connection:
            return tuple(from_plain(Request, from_json(row)) for row in connection.execute(query).scalars())

    def take_over(self, request_id: str, slot: str) -> None:
        """Another executor carries it from now on."""
        self._set(request_id, slot=slot)

    def slot(self, request_id: str) -> str:
        return str(self._column(request_id, schema.requests.c.slot))

    def _column(self, request_id: str, column: Any) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(select(column).where(schema.requests.c.id == request_id)).scalar()

    def _set(self, request_id: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(schema.requests).where(schema.requests.c.id == request_id).values(**values))

    # Phases

    def enter(self, request_id: str, phase: Phase) -> None:
        with self.engine.begin() as connection:
            table = schema.requests
            earlier = connection.execute(select(table.c.phase).where(table.c.id == request_id)).scalar()
            if earlier == phase:
                return
            connection.execute(update(table).where(table.c.id == request_id).values(phase=phase))
            self._note_phase(connection, request_id, phase)

    @staticmethod
    def _note_phase(connection: Any, request_id: str, phase: Phase) -> None:
        connection.execute(insert(schema.phases).values(request_id=request_id, phase=phase, at=clock.now()))

    def phase(self, request_id: str) -> Phase:
        return Phase(self._column(request_id, schema.requests.c.phase))

    def phases(self, request_id: str) -> tuple[PhaseEntry, ...]:
        return tuple(PhaseEntry(row.phase, row.at) for row in self._rows(schema.phases, request_id))

    # Leases

    def take_lease(self, guest_uuid: str, request_id: str) -> str:
        try:
            with self.engine.begin() as connection:
                values = {"guest_uuid": guest_uuid, "request_id": request_id, "at": clock.now()}
                connection.execute(insert(schema.leases).values(**values))
        except IntegrityError:
            pass  # held already: by us or by another
        return self.lease(guest_uuid)

    def lease(self, guest_uuid: str) -> str:
        query = select(schema.leases.c.request_id).where(schema.leases.c.guest_uuid == guest_uuid)
        with self.engine.connect() as connection:
            return connection.execute(query).scalar() or ""

    def drop_lease(self, guest_uuid: str, request_id: str) -> None:
        table = schema.leases
        with self.engine.begin() as connection:
            connection.execute(
                delete(table).where(table.c.guest_uuid == guest_uuid).where(table.c.request_id == request_id)
            )

    # What was asked of us and by us

    def mark_asked(self, request_id: str) -> None:
        self._set(request_id, asked_hypervisor_at=clock.now())

    def asked_at(self, request_id: str) -> float | None:
        at = self._column(request_id, schema.requests.c.asked_hypervisor_at)
        return None if at is None else float(at)

    def ask_cancel(self, request_id: str, by: str) -> None:
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(schema.cancels).values(request_id=request_id, by=by))
        except IntegrityError:
            pass  # asked before: the first one counts

    def cancel_asked(self, request_id: str) -> str:
        query = select(schema.cancels.c.by).where(schema.cancels.c.request_id == request_id)
        with self.engine.connect() as connection:
            return connection.execute(query).scalar() or ""

    def ask_tune(self, request_id: str, wish: Wish) -> None:
        self._keep(schema.wishes, request_id, json=to_json(wish), applied=False)

    def wishes(self, request_id: str) -> tuple[Wish, ...]:
        return tuple(
            replace(from_plain(Wish, from_json(row.json)), number=row.number, applied=row.applied)
            for row in self._rows(schema.wishes, request_id)
        )

    def mark_applied(self, wish: Wish) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(schema.wishes).where(schema.wishes.c.number == wish.number).values(applied=True))

    # Undo

    def register_undo(self, request_id: str, act: str, arguments: Mapping[str, Any]) -> None:
        values = {"request_id": request_id, "act": act, "arguments": to_json(dict(sorted(arguments.items())))}
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(schema.undo_acts).values(**values, state="registered", error=""))
        except IntegrityError:
            pass  # registered before a crash

    def undo_acts(self, request_id: str) -> tuple[tuple[int, str, dict[str, Any]], ...]:
        table = schema.undo_acts
        query = (
            select(table.c.number, table.c.act, table.c.arguments)
            .where(table.c.request_id == request_id)
            .where(table.c.state.in_(("registered", "failed")))
            .order_by(table.c.number.desc())
        )
        with self.engine.connect() as connection:
            return tuple((row.number, row.act, from_json(row.arguments)) for row in connection.execute(query))

    def close_undo(self, number: int, state: str, error: str = "") -> None:
        table = schema.undo_acts
        with self.engine.begin() as connection:
            connection.execute(update(table).where(table.c.number == number).values(state=state, error=error))

    def undo_entries(self, request_id: str) -> tuple[UndoEntry, ...]:
        return tuple(
            UndoEntry(act=row.act, detail=row.arguments, state=row.state, error=row.error)
            for row in self._rows(schema.undo_acts, request_id)
        )

    # What is kept for the report

    def _rows(self, table: Any, request_id: str) -> Sequence[Any]:
        query = select(table).where(table.c.request_id == request_id).order_by(table.c.number)
        with self.engine.connect() as connection:
            return connection.execute(query).all()

    def _keep(self, table: Any, request_id: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(insert(table).values(request_id=request_id, **values))

    def keep_sample(self, request_id: str, sample: Sample) -> None:
        self._keep(schema.samples, request_id, json=to_json(sample))

    def samples(self, request_id: str) -> tuple[Sample, ...]:
        return tuple(from_plain(Sample, from_json(row.json)) for row in self._rows(schema.samples, request_id))

    def samples_after(self, request_id: str, number: int) -> list[tuple[int, Sample]]:
        """(number, sample) of those taken after that number, in order."""
        table = schema.samples
        query = select(table.c.number, table.c.json).where(table.c.request_id == request_id, table.c.number > number)
        with self.engine.connect() as connection:
            rows = connection.execute(query.order_by(table.c.number)).all()
        return [(row.number, from_plain(Sample, from_json(row.json))) for row in rows]

    def last_sample(self, request_id: str) -> Sample | None:
        table = schema.samples
        query = select(table.c.json).where(table.c.request_id == request_id).order_by(table.c.number.desc()).limit(1)
        with self.engine.connect() as connection:
            row = connection.execute(query).scalar()
        return None if row is None else from_plain(Sample, from_json(row))

    def keep_definition(self, request_id: str, host: str, xml: str) -> None:
        self._keep(schema.definitions, request_id, host=host, xml=xml)

    def definition(self, request_id: str, host: str) -> str:
        return next((row.xml for row in self._rows(schema.definitions, request_id) if row.host == host), "")

    def keep_findings(self, request_id: str, moment: str, findings: Sequence[Finding]) -> None:
        """Replaces what was kept for that moment: a step that runs again finds again."""
        table = schema.findings
        with self.engine.begin() as connection:
            connection.execute(delete(table).where(table.c.request_id == request_id).where(table.c.moment == moment))
            for finding in findings:
                connection.execute(insert(table).values(request_id=request_id, moment=moment, json=to_json(finding)))

    def keep_versions(self, request_id: str, versions: Versions) -> None:
        self._set(request_id, versions=to_json(versions))

    def keep_decision(self, request_id: str, text: str) -> None:
        self._keep(schema.decisions, request_id, at=clock.now(), text=text)

    def decisions(self, request_id: str) -> tuple[str, ...]:
        return tuple(row.text for row in self._rows(schema.decisions, request_id))

    def keep_facts(self, request_id: str, facts: Mapping[str, Any]) -> None:
        self._set(request_id, facts=to_json(self.facts(request_id) | dict(facts)))

    def facts(self, request_id: str) -> dict[str, Any]:
        return dict(from_json(self._column(request_id, schema.requests.c.facts)))

    def keep_outcome(self, request_id: str, outcome: Outcome) -> None:
        self._set(request_id, outcome=to_json(outcome))

    def _tries(self, request_id: str) -> tuple[Try, ...]:
        """All requests of the same move, the first one first; none when it was tried once."""
        request = self.request(request_id)
        while request.retries:
            request = self.request(request.retries)
        found = []
        while True:
            ended = self._column(request.id, schema.requests.c.outcome)
            reason = from_plain(Outcome, from_json(ended)).reason if ended else ""
            found.append(Try(request.id, request.attempt, request.asked_at, self.phase(request.id), reason))
            if not (following := self.facts(request.id).get("tried_again_as")):
                return tuple(found) if len(found) > 1 else ()
            request = self.request(following)

    def report(self, request_id: str, *, with_samples: bool = True) -> Report:
        found = {"before": [], "after": []}  # type: dict[str, list[Finding]]
        for row in self._rows(schema.findings, request_id):
            found[row.moment].append(from_plain(Finding, from_json(row.json)))
        outcome = self._column(request_id, schema.requests.c.outcome)
        versions = self._column(request_id, schema.requests.c.versions)
        samples = self.samples(request_id) if with_samples else ()
        facts = self.facts(request_id)
        return Report(
            request=self.request(request_id),
            outcome=None if outcome is None else from_plain(Outcome, from_json(outcome)),
            phase=self.phase(request_id),
            phases=self.phases(request_id),
            samples=samples,
            findings_before=tuple(found["before"]),
            findings_after=tuple(found["after"]),
            undo=self.undo_entries(request_id),
            versions=None if versions is None else from_plain(Versions, from_json(versions)),
            volumes=tuple(from_plain(Volume, one) for one in facts.get("volumes", {}).values()),
            left_to_retire=tuple(from_plain(KeptCopy, one) for one in facts.get("left_to_retire", ())),
            decisions=self.decisions(request_id),
            wishes=self.wishes(request_id),
            hooks=tuple(from_plain(HookRun, one) for one in facts.get("hooks", ())),
            tries=self._tries(request_id) if with_samples else (),
            tried_again_as=facts.get("tried_again_as", ""),
            begins=facts.get("begins", ""),
            copies=_copies(facts.get("copies", {})),
            backup=from_plain(BackupMade, facts["backup"]) if "backup" in facts else None,
            backup_copies=_copies(facts.get("backup_copies", {})),
        )
