"""The directory's rows: tenants, connections and what was done to these; read, checked, copied."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec

from integrationd.errors import DamagedError
from integrationd.journal import rows, sqlite


class StoredTenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant that was made over the API.

    Attributes:
        id: Its id.
        settings: What its maker wrote, as JSON.
        created_at_ms: When it was made, UTC milliseconds.
        changed_at_ms: When it was changed last.
    """

    id: str
    settings: str
    created_at_ms: int
    changed_at_ms: int


class StoredConnection(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that was made over the API.

    Attributes:
        id: Its id.
        tenant: Whose it is; everybody's when None.
        settings: What its maker wrote, as JSON; secrets are references to the vault.
        created_at_ms: When it was made, UTC milliseconds.
        changed_at_ms: When it was changed last.
    """

    id: str
    tenant: str | None
    settings: str
    created_at_ms: int
    changed_at_ms: int


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to a connection by hand, be it of the file or made over the API.

    Attributes:
        id: The connection's id.
        paused_at_ms: Since when it takes no work, UTC milliseconds, or None.
        paused_by: Who paused it.
        draining_at_ms: Since when it takes no new calls and goes when it has none any more.
        draining_by: Who deleted it.
        tested_at_ms: When it was tested last, or None.
        test_ok: Whether that went well.
        test_message: What was found.
        test_hint: What to do about it.
        test_duration_ms: How long it took.
    """

    id: str
    paused_at_ms: int | None = None
    paused_by: str | None = None
    draining_at_ms: int | None = None
    draining_by: str | None = None
    tested_at_ms: int | None = None
    test_ok: int | None = None
    test_message: str | None = None
    test_hint: str | None = None
    test_duration_ms: int | None = None

    @property
    def is_paused(self) -> bool:
        """Whether it takes no work."""
        return self.paused_at_ms is not None

    @property
    def is_draining(self) -> bool:
        """Whether it takes no new calls and goes when it has none any more."""
        return self.draining_at_ms is not None


Stored: TypeAlias = StoredTenant | StoredConnection | ConnectionState

_KINDS: tuple[tuple[str, type[Stored], str], ...] = (
    ("tenant", StoredTenant, "the tenant"),
    ("connection", StoredConnection, "the connection"),
    ("connection_state", ConnectionState, "the state of connection"),
)
_TABLES: Mapping[type, str] = {kind: table for table, kind, _ in _KINDS}
_WIDEST = max(len(kind.__struct_fields__) for _, kind, _ in _KINDS)


def _select(at: int) -> str:
    table, kind, _ = _KINDS[at]
    names = (*kind.__struct_fields__, "sum")
    padding = ["NULL"] * (_WIDEST + 1 - len(names))
    # Names of this module only; nothing that comes from outside is ever part of it.
    return " ".join(["SELECT", ", ".join((str(at), *names, *padding)), "FROM", table])


# One statement, so that all tables are read at the same commit.
ALL = " UNION ALL ".join(_select(at) for at in range(len(_KINDS)))


class Directory:
    """The directory as it stands at one commit.

    Args:
        found: The rows of :data:`ALL`.

    Attributes:
        tenants: The sound tenants, by id.
        connections: The sound connections, by id.
        states: What was done to connections, by their ids.
        damaged: What cannot be used, by table and id, and why.
    """

    def __init__(self, found: Iterable[sqlite.Row] = ()) -> None:
        tables: dict[type, dict[str, Any]] = {kind: {} for _, kind, _ in _KINDS}
        damaged: dict[tuple[str, str], str] = {}
        for at, *row in found:
            table, kind, _ = _KINDS[at]
            try:
                record = record_of(kind, row[: len(kind.__struct_fields__) + 1])
                tables[kind][record.id] = record
            except DamagedError as error:
                damaged[table, str(row[0])] = str(error)
        self.tenants: Mapping[str, StoredTenant] = MappingProxyType(tables[StoredTenant])
        self.connections: Mapping[str, StoredConnection] = MappingProxyType(
            tables[StoredConnection]
        )
        self.states: Mapping[str, ConnectionState] = MappingProxyType(tables[ConnectionState])
        self.damaged: Mapping[tuple[str, str], str] = MappingProxyType(damaged)

    def state(self, connection: str) -> ConnectionState:
        """Return what was done to a connection; nothing, where nobody has done anything."""
        return self.states.get(connection) or ConnectionState(id=connection)

    def put(self, record: StoredTenant | StoredConnection | ConnectionState) -> "Directory":
        """Return the directory as it would be with one row more, or another."""
        return self._with(record, record.id)

    def without(self, kind: type[Stored], name: str) -> "Directory":
        """Return the directory as it would be without a row."""
        return self._with(None, name, kind)

    def _with(
        self, record: Stored | None, name: str, kind: type[Stored] | None = None
    ) -> "Directory":
        after = Directory()
        tables: dict[type, dict[str, Any]] = {
            StoredTenant: dict(self.tenants),
            StoredConnection: dict(self.connections),
            ConnectionState: dict(self.states),
        }
        table = tables[kind or type(record)]
        if record is None:
            table.pop(name, None)
        else:
            table[name] = record
        after.tenants = MappingProxyType(tables[StoredTenant])
        after.connections = MappingProxyType(tables[StoredConnection])
        after.states = MappingProxyType(tables[ConnectionState])
        after.damaged = self.damaged
        return after


def record_of(kind: type[Stored], row: Sequence[Any]) -> Any:
    """Return the record of a row, its checksum last.

    Raises:
        DamagedError: The checksum does not fit, or the row is none of that kind.
    """
    words = next(words for _, one, words in _KINDS if one is kind)
    rows.check(f"{words} {row[0]!r}", row[-1], *row[:-1])
    try:
        return msgspec.convert(dict(zip(kind.__struct_fields__, row[:-1], strict=True)), kind)
    except msgspec.ValidationError as error:
        raise DamagedError(f"{words} {row[0]!r} cannot be read: {error}") from error


def find(db: sqlite.Connection, kind: type[Stored], name: str) -> Any:
    """Return one record, or None.

    Raises:
        DamagedError: The checksum does not fit.
    """
    names = ", ".join((*kind.__struct_fields__, "sum"))
    statement = " ".join(["SELECT", names, "FROM", _TABLES[kind], "WHERE id = ?"])
    found = sqlite.fetch_all(db, statement, (name,))
    return record_of(kind, found[0]) if found else None


def store(db: sqlite.Connection, record: Stored) -> None:
    """Write a row, in the place of the one of its id."""
    values = msgspec.structs.astuple(record)
    names = ", ".join((*record.__struct_fields__, "sum"))
    marks = ", ".join("?" * (len(values) + 1))
    table = _TABLES[type(record)]
    statement = " ".join(["INSERT OR REPLACE INTO", table, f"({names})", f"VALUES ({marks})"])
    db.execute(statement, (*values, rows.seal(*values)))


def remove(db: sqlite.Connection, kind: type[Stored], name: str) -> None:
    """Delete a row, if there is one."""
    db.execute(" ".join(["DELETE FROM", _TABLES[kind], "WHERE id = ?"]), (name,))


def count(db: sqlite.Connection, kind: type[Stored]) -> int:
    """Return how many rows a table has."""
    found: int = db.execute(" ".join(["SELECT count(*) FROM", _TABLES[kind]])).fetchone()[0]
    return found


def read(db: sqlite.Connection) -> Directory:
    """Read the directory as it stands; a journal of an earlier version has an empty one.

    Raises:
        sqlite3.Error: As the library says.
    """
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'connection_state'").fetchone():
        return Directory()
    return Directory(sqlite.fetch_all(db, ALL))


def check(db: sqlite.Connection, note: Callable[[str], None]) -> None:
    """Tell every row that fails its checksum."""
    for told in read(db).damaged.values():
        note(told)


def copy(old: sqlite.Connection, new: sqlite.Connection) -> None:
    """Copy every sound row into another journal."""
    found = read(old)
    for tenant in found.tenants.values():
        store(new, tenant)
    for connection in found.connections.values():
        store(new, connection)
    for state in found.states.values():
        store(new, state)
