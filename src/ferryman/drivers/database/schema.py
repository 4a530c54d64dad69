"""The tables. Times are seconds since the epoch; columns named `json` hold plain values of nouns in model/."""

from sqlalchemy import Boolean, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text, UniqueConstraint

SCHEMA_VERSION = 1

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

hosts = Table("hosts", metadata, Column("name", String, primary_key=True), Column("json", Text, nullable=False))

requests = Table(
    "requests",
    metadata,
    Column("id", String, primary_key=True),
    Column("guest_uuid", String, nullable=False, index=True),
    Column("asked_at", Float, nullable=False, index=True),
    Column("json", Text, nullable=False),
    Column("slot", String, nullable=False),  # the executor slot whose queue carries it
    Column("phase", String, nullable=False, index=True),
    Column("asked_hypervisor_at", Float),  # when the transfer was asked for; null: never
    Column("facts", Text, nullable=False, default="{}"),
    Column("versions", Text),
    Column("outcome", Text),
)


def _of_request() -> Column[str]:
    return Column("request_id", String, ForeignKey("requests.id"), nullable=False, index=True)


# Names that differ between two hosts, as the operator mapped them. `kind` is pool or network.
maps = Table(
    "maps",
    metadata,
    Column("source", String, primary_key=True),
    Column("destination", String, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("old", String, primary_key=True),
    Column("new", String, nullable=False),
)

# One guest is held by one request: the primary key is the lock.
leases = Table("leases", metadata, Column("guest_uuid", String, primary_key=True), _of_request(), Column("at", Float))

cancels = Table(
    "cancels", metadata, Column("request_id", String, ForeignKey("requests.id"), primary_key=True), Column("by", String)
)

wishes = Table(  # changes of limits, asked for under way
    "wishes",
    metadata,
    Column("number", Integer, primary_key=True),
    _of_request(),
    Column("json", Text, nullable=False),
    Column("applied", Boolean, nullable=False, default=False),
)

phases = Table(
    "phases",
    metadata,
    Column("number", Integer, primary_key=True),
    _of_request(),
    Column("phase", String, nullable=False),
    Column("at", Float, nullable=False),
)

undo_acts = Table(
    "undo_acts",
    metadata,
    Column("number", Integer, primary_key=True),
    _of_request(),
    Column("act", String, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("state", String, nullable=False),  # registered, done, dropped, failed
    Column("error", Text, nullable=False, default=""),
    UniqueConstraint("request_id", "act", "arguments"),
)

samples = Table(
    "samples",
    metadata,
    Column("number", Integer, primary_key=True),
    _of_request(),
    Column("json", Text, nullable=False),
)

definitions = Table(
    "definitions",
    metadata,
    Column("number", Integer, primary_key=True),
    _of_request(),
    Column("host", String, nullable=False),
    Column("xml", Text, nullable=False),
)

findings = Table(
    "findings",
    metadata,
    Column("number", Integer, primary_key=True),
    _of_request(),
    Column("moment", String, nullable=False),  # before, after
    Column("json", Text, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("number", Integer, primary_key=True),
    _of_request(),
    Column("at", Float, nullable=False),
    Column("text", Text, nullable=False),
)
