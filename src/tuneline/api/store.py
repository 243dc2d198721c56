"""The service's own memory: one SQLite file (WAL), one row a resource, its JSON as it is answered.

A write is on disk before the request that caused it is answered. Reads and writes come from several threads; each has its connection.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tuneline.api.faults import Fault, not_found
from tuneline.api.filters import Condition, json_path
from tuneline.local.run_record import now

Body: TypeAlias = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
  name TEXT PRIMARY KEY, kind TEXT NOT NULL, parent TEXT NOT NULL, create_time TEXT NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_age ON resources (kind, parent, create_time DESC, name);
CREATE INDEX IF NOT EXISTS by_state ON resources (kind, state);
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
        row = (name, kind, name.rpartition(f"/{kind}/")[0], body["createTime"], str(body.get("state", "")), json.dumps(body))
        try:
            with self.transaction() as connection:
                connection.execute("INSERT INTO resources VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise Fault("ALREADY_EXISTS", f"{name} exists already.") from None
        return body

    def find(self, name: str) -> Body | None:
        """The resource, if there is one."""
        row = self._connection().execute("SELECT body FROM resources WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def get(self, name: str) -> Body:
        """The resource; NOT_FOUND without it."""
        body = self.find(name)
        if body is None:
            raise not_found(name)
        return body

    def update(self, name: str, change: Callable[[Body], Body | None], *, touch: bool = True) -> Body:
        """Replace the resource by what `change` makes of it; nothing leaves it as it is."""
        with self.transaction() as connection:
            changed = change(self.get(name))
            if changed is None:
                return self.get(name)
            if touch:
                changed = {**changed, "updateTime": now()}
            connection.execute("UPDATE resources SET state = ?, body = ? WHERE name = ?", (str(changed.get("state", "")), json.dumps(changed), name))
            return changed

    def delete(self, name: str) -> None:
        """Forget the resource; NOT_FOUND without it."""
        with self.transaction() as connection:
            if connection.execute("DELETE FROM resources WHERE name = ?", (name,)).rowcount == 0:
                raise not_found(name)

    def page(self, query: Query, *, offset: int = 0, limit: int = -1) -> list[Body]:
        """The resources that the query asks for."""
        text, values = query.condition.sql() if query.condition else ("1", ())
        where = "kind = ?" if query.parent == "*" else "kind = ? AND parent = ?"
        parents = () if query.parent == "*" else (query.parent,)
        order = ", ".join(f"{'create_time' if field == 'createTime' else 'json_extract(body, ?)'} {'DESC' if down else 'ASC'}" for field, down in query.order)
        paths = [json_path(field) for field, _ in query.order if field != "createTime"]
        rows = self._connection().execute(
            f"SELECT body FROM resources WHERE {where} AND ({text}) ORDER BY {order}, name LIMIT ? OFFSET ?",  # noqa: S608 (question marks)
            (query.kind, *parents, *values, *paths, limit, offset),
        )
        return [json.loads(row[0]) for row in rows]

    def in_states(self, kind: str, *states: str) -> list[Body]:
        """All resources of a kind that are in one of these states, oldest first."""
        marks = ", ".join("?" * len(states))
        rows = self._connection().execute(
            f"SELECT body FROM resources WHERE kind = ? AND state IN ({marks}) ORDER BY create_time, name",  # noqa: S608 (question marks)
            (kind, *states),
        )
        return [json.loads(row[0]) for row in rows]

    def keep_document(self, digest: str, content: Mapping[str, Any]) -> None:
        """Keep what many resources share, once."""
        with self.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO documents VALUES (?, ?)", (digest, json.dumps(content)))

    def document(self, digest: str) -> Body:
        """What was kept under a digest."""
        row = self._connection().execute("SELECT content FROM documents WHERE digest = ?", (digest,)).fetchone()
        return {} if row is None else json.loads(row[0])
