"""What is known of buckets and objects beside their bytes: one SQLite file (WAL).

An object may have two rows while it is replaced: the file's size and time say which of them is true. So a crash at any moment leaves
the old object or the new one, whole.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

Properties: TypeAlias = Mapping[str, Any]
"""JSON fields that users set."""

# Columns stand in the order of the classes' fields.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS clock (generation INTEGER NOT NULL); -- the last that was given, also to what is deleted
CREATE TABLE IF NOT EXISTS buckets (
  name TEXT PRIMARY KEY, metageneration INTEGER NOT NULL, created TEXT NOT NULL, updated TEXT NOT NULL, properties TEXT NOT NULL, policy TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
  bucket TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL, metageneration INTEGER NOT NULL, size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL, is_aside INTEGER NOT NULL, md5 TEXT NOT NULL, crc32c TEXT NOT NULL, created TEXT NOT NULL, updated TEXT NOT NULL,
  component_count INTEGER NOT NULL, properties TEXT NOT NULL, PRIMARY KEY (bucket, name, generation)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS aside ON objects (bucket, name) WHERE is_aside;
CREATE TABLE IF NOT EXISTS uploads (id TEXT PRIMARY KEY, started REAL NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class BucketRecord:
    """A bucket."""

    name: str
    metageneration: int = 1
    created: str
    updated: str
    properties: Properties = field(default_factory=dict)
    policy: Properties = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ObjectRecord:
    """One generation of an object."""

    bucket: str
    name: str
    generation: int
    metageneration: int = 1
    size: int
    mtime_ns: int
    """With the size: which file this row describes."""
    is_aside: bool = False
    """Whether it lies in the hidden tree, because its name cannot be a path there and then."""
    md5: str = ""
    """Base64, as is `crc32c`. Empty until somebody asks, for a file that did not come through the service."""
    crc32c: str = ""
    created: str
    updated: str
    component_count: int = 0
    """Of a composed object: how many went into it."""
    properties: Properties = field(default_factory=dict)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


class Records:
    """Rows by name. Whoever reads and then writes holds `lock` in between; every method takes it for itself, too."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.executescript(_SCHEMA)
        self._last: int = self._connection.execute("SELECT max(generation) FROM clock").fetchone()[0] or 0
        path.chmod(0o600)

    def close(self) -> None:
        with self.lock:
            self._connection.close()

    @contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction. What can be found out anew need not be `durable`: it may be lost when the power fails."""
        with self.lock:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self.lock:
            return self._connection.execute(sql, values).fetchall()

    def next_generation(self) -> int:
        """Microseconds since 1970, and larger than any before, whatever the clock says."""
        with self.lock:
            self._last = max(time.time_ns() // 1000, self._last + 1)
            return self._last

    # --- buckets

    def bucket(self, name: str) -> BucketRecord | None:
        rows = self._rows("SELECT * FROM buckets WHERE name = ?", name)
        return BucketRecord(**_read(BucketRecord, rows[0])) if rows else None

    def put_bucket(self, record: BucketRecord) -> None:
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?)", _written(record))

    def forget_bucket(self, name: str) -> None:
        """With everything that was known of its objects."""
        with self._writing() as connection:
            connection.execute("DELETE FROM buckets WHERE name = ?", (name,))
            connection.execute("DELETE FROM objects WHERE bucket = ?", (name,))

    # --- objects

    def generations(self, bucket: str, name: str) -> list[ObjectRecord]:
        """What is known of an object, newest first."""
        rows = self._rows("SELECT * FROM objects WHERE bucket = ? AND name = ? ORDER BY generation DESC", bucket, name)
        return [ObjectRecord(**_read(ObjectRecord, row)) for row in rows]

    def put(self, record: ObjectRecord, *, replacing: ObjectRecord | None = None, durable: bool = True) -> None:
        """Note a generation. The row of the one that it replaces stays until the next write; all others go."""
        kept = replacing.generation if replacing else record.generation
        with self._writing(durable=durable) as connection:
            connection.execute("DELETE FROM clock")
            connection.execute("INSERT INTO clock VALUES (?)", (self._last,))
            connection.execute(
                "DELETE FROM objects WHERE bucket = ? AND name = ? AND generation NOT IN (?, ?)", (record.bucket, record.name, record.generation, kept)
            )
            connection.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _written(record))

    def put_checksums(self, record: ObjectRecord, md5: str, crc32c: str) -> None:
        with self._writing(durable=False) as connection:
            connection.execute(
                "UPDATE objects SET md5 = ?, crc32c = ? WHERE bucket = ? AND name = ? AND generation = ?",
                (md5, crc32c, record.bucket, record.name, record.generation),
            )

    def forget(self, record: ObjectRecord) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM objects WHERE bucket = ? AND name = ? AND generation = ?", (record.bucket, record.name, record.generation))

    def forget_all(self, bucket: str, name: str) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", (bucket, name))

    def names_aside(self, bucket: str, start: str) -> list[str]:
        """Names from `start` on of objects in the hidden tree, in order."""
        rows = self._rows("SELECT DISTINCT name FROM objects WHERE bucket = ? AND is_aside AND name >= ? ORDER BY name", bucket, start)
        return [name for (name,) in rows]

    # --- uploads in several requests

    def upload(self, identifier: str) -> dict[str, Any] | None:
        rows = self._rows("SELECT body FROM uploads WHERE id = ?", identifier)
        return dict(json.loads(rows[0][0])) if rows else None

    def put_upload(self, identifier: str, body: Properties) -> None:
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO uploads VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body", (identifier, time.time(), json.dumps(body))
            )

    def forget_upload(self, identifier: str) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM uploads WHERE id = ?", (identifier,))

    def forget_uploads_before(self, moment: float) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM uploads WHERE started < ?", (moment,))


_AS_JSON = ("properties", "policy")


def _written(record: BucketRecord | ObjectRecord) -> tuple[object, ...]:
    names = [column.name for column in fields(record)]
    return tuple(json.dumps(value) if name in _AS_JSON else value for name, value in zip(names, astuple(record), strict=True))


def _read(kind: type[BucketRecord] | type[ObjectRecord], row: tuple[Any, ...]) -> dict[str, Any]:
    values = dict(zip((column.name for column in fields(kind)), row, strict=True))
    for name in _AS_JSON:
        if name in values:
            values[name] = json.loads(values[name])
    if "is_aside" in values:
        values["is_aside"] = bool(values["is_aside"])
    return values
