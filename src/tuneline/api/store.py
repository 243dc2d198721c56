"""The service's own memory: one SQLite file (WAL), one row a resource, its JSON as it is answered.

A write is on disk before the request that caused it is answered. Reads and writes come from several threads; each has its connection.
What no list looks at lies in a table of its own, so that a filter reads through ten thousand resources in a fraction of a second.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from tuneline.api.faults import Fault, not_found
from tuneline.api.filters import Condition, json_path
from tuneline.local.run_record import now

Body: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[str | int | float, ...]
"""Where a resource stands in an order: its values of the ordering fields, and its name."""

LARGE = ("_order", "runtimeConfig", "jobDetail", "jobSpec", "supervisedTuningSpec", "tuningDataStats", "createPipelineJobRequest")
"""Fields that are kept apart: nothing is filtered or ordered by them."""
MAPPED_BYTES = 1 << 30
"""Of the file, so that threads share what is in memory."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
  name TEXT PRIMARY KEY, kind TEXT NOT NULL, parent TEXT NOT NULL, create_time TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS large_fields (name TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_age ON resources (kind, parent, create_time DESC, name);
CREATE INDEX IF NOT EXISTS by_run ON resources (kind, json_extract(body, '$._tuneline.run'));
CREATE INDEX IF NOT EXISTS by_state_and_age ON resources (kind, state, create_time, name);
DROP INDEX IF EXISTS by_state;
CREATE TABLE IF NOT EXISTS documents (digest TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scalars (
  series TEXT NOT NULL, step INTEGER NOT NULL, wall_time REAL NOT NULL, value REAL, PRIMARY KEY (series, step)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which resources of a kind, in which order."""

    kind: str
    parent: str
    condition: Condition | None = None
    order: tuple[tuple[str, bool], ...] = (("createTime", True),)
    """JSON fields, and whether the largest comes first."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A resource that a query found."""

    body: Body
    place: Place


class Store:
    """Resources by name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._writing = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._writing, self._connection() as connection:
            connection.executescript(_SCHEMA)
        path.chmod(0o600)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")
            self._local.connection = connection
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Several reads and writes as one; may be nested."""
        with self._writing:
            connection = self._connection()
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def insert(self, kind: str, body: Body) -> Body:
        """Keep a new resource; ALREADY_EXISTS when its name is taken. Sets createTime and updateTime where they are missing."""
        moment = now()
        body = {**body, "createTime": body.get("createTime", moment), "updateTime": body.get("updateTime", moment)}
        name = body["name"]
        light, large = _parts(body)
        row = (name, kind, name.rpartition(f"/{kind}/")[0], body["createTime"], str(body.get("state", "")), json.dumps(light))
        try:
            with self.transaction() as connection:
                connection.execute("INSERT INTO resources VALUES (?, ?, ?, ?, ?, ?)", row)
                if large:
                    connection.execute("INSERT INTO large_fields VALUES (?, ?)", (name, json.dumps(large)))
        except sqlite3.IntegrityError:
            raise Fault("ALREADY_EXISTS", f"{name} exists already.") from None
        return body

    def find(self, name: str) -> Body | None:
        """The resource, if there is one."""
        row = self._connection().execute("SELECT body, content FROM resources LEFT JOIN large_fields USING (name) WHERE name = ?", (name,)).fetchone()
        return None if row is None else _whole(*row)

    def get(self, name: str) -> Body:
        """The resource; NOT_FOUND without it."""
        body = self.find(name)
        if body is None:
            raise not_found(name)
        return body

    def update(self, name: str, change: Callable[[Body], Body | None], *, touch: bool = True) -> Body:
        """Replace the resource by what `change` makes of it; nothing leaves it as it is."""
        with self.transaction() as connection:
            found = self.get(name)
            changed = change(found)
            if changed is None:
                return found
            if touch:
                changed = {**changed, "updateTime": now()}
            light, large = _parts(changed)
            connection.execute("UPDATE resources SET state = ?, body = ? WHERE name = ?", (str(changed.get("state", "")), json.dumps(light), name))
            if large != _parts(found)[1]:
                connection.execute("INSERT OR REPLACE INTO large_fields VALUES (?, ?)", (name, json.dumps(large)))
            return changed

    def delete(self, name: str) -> None:
        """Forget the resource; NOT_FOUND without it."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM large_fields WHERE name = ?", (name,))
            if connection.execute("DELETE FROM resources WHERE name = ?", (name,)).rowcount == 0:
                raise not_found(name)

    def page(self, query: Query, *, limit: int = -1) -> list[Body]:
        """The resources that the query asks for."""
        return [row.body for row in self.rows(query, limit=limit)]

    def rows(self, query: Query, *, after: Place = (), limit: int = -1, is_whole: bool = True) -> list[Row]:
        """What the query finds, from the first, or from what comes `after` a place in its order. Not whole: without the large fields."""
        keys = [(_key(field), down) for field, down in query.order] + [("name", False)]
        conditions = [Condition("kind = ?", (query.kind,)), *([] if query.parent == "*" else [Condition("parent = ?", (query.parent,))])]
        conditions += [condition for condition in (query.condition, _beyond(keys, after) if after else None) if condition]
        places = self._connection().execute(
            f"SELECT {', '.join(key for key, _ in keys)} FROM resources WHERE {' AND '.join(f'({condition.text})' for condition in conditions)} "  # noqa: S608 (names are checked by filters)
            f"ORDER BY {', '.join(f'{key} DESC' if down else key for key, down in keys)} LIMIT ?",
            (*(value for condition in conditions for value in condition.values), limit),
        ).fetchall()  # fmt: skip
        bodies = self._bodies([name for *_, name in places], is_whole=is_whole)  # second: sorting ten thousand bodies takes as long as reading them
        return [Row(body=bodies[place[-1]], place=place) for place in places if place[-1] in bodies]

    def _bodies(self, names: Sequence[str], *, is_whole: bool) -> dict[str, Body]:
        columns, tables = ("body, content", "resources LEFT JOIN large_fields USING (name)") if is_whole else ("body, NULL", "resources")
        text = f"SELECT name, {columns} FROM {tables} WHERE name IN (SELECT value FROM json_each(?))"  # noqa: S608 (constants)
        return {name: _whole(light, large) for name, light, large in self._connection().execute(text, (json.dumps(names),))}

    def in_states(self, kind: str, *states: str, limit: int = -1) -> list[Body]:
        """All resources of a kind that are in one of these states, or the first of them; oldest first."""
        marks = ", ".join("?" * len(states))
        rows = self._connection().execute(
            "SELECT body, content FROM resources LEFT JOIN large_fields USING (name) "  # noqa: S608 (question marks)
            f"WHERE kind = ? AND state IN ({marks}) ORDER BY create_time, name LIMIT ?",
            (kind, *states, limit),
        )
        return [_whole(*row) for row in rows]

    def keep_document(self, digest: str, content: Mapping[str, Any]) -> None:
        """Keep what many resources share, once."""
        with self.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO documents VALUES (?, ?)", (digest, json.dumps(content)))

    def document(self, digest: str) -> str:
        """The JSON text of what was kept under a digest."""
        row = self._connection().execute("SELECT content FROM documents WHERE digest = ?", (digest,)).fetchone()
        return "{}" if row is None else str(row[0])


def _parts(body: Body) -> tuple[Body, Body]:
    """What every look at the resource reads, and the large fields."""
    large = {key: body[key] for key in LARGE if key in body}
    return {key: value for key, value in body.items() if key not in large}, large


def _whole(light: str, large: str | None) -> Body:
    body: Body = orjson.loads(light)
    return {**body, **orjson.loads(large)} if large else body


def _key(field: str) -> str:
    """The SQL expression for a field; a missing one comes before all others."""
    if field == "createTime":
        return "create_time"
    path = json_path(field).replace("'", "''")
    return f"coalesce(json_extract(body, '{path}'), '')"


def _beyond(keys: Sequence[tuple[str, bool]], after: Place) -> Condition:
    """Everything that comes after a place. What is created meanwhile moves nothing from page to page, as it would if rows were counted."""
    text, values = "0", tuple[object, ...]()
    for (key, down), value in reversed(list(zip(keys, after, strict=True))):
        text, values = f"({key} {'<' if down else '>'} ? OR ({key} = ? AND {text}))", (value, value, *values)
    (first, down), *_ = keys
    return Condition(f"{first} {'<=' if down else '>='} ? AND {text}", (after[0], *values))  # the first condition can use an index
