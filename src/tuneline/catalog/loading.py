"""Reads the catalogue files strictly: everything that is wrong with them, by file, row and key, in one error."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

from tuneline.catalog.rows import TABLES, Row
from tuneline.errors import did_you_mean

Raw = Mapping[str, object]


@dataclass(frozen=True)
class Entry:
    """One row as it stands in a file."""

    file: str
    table: str
    name: str
    raw: Raw

    @property
    def place(self) -> str:
        return f"{self.file}: [[{self.table}]] {self.name}"


def read_entries(text: str, file: str, problems: list[str]) -> list[Entry]:
    """The rows of one file. What cannot be read is added to `problems`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{file}: not TOML: {error}")
        return []
    entries: list[Entry] = []
    for table, rows in tables.items():
        if table not in TABLES:
            problems.append(f"{file}: unknown table {table!r}; expected one of {', '.join(TABLES)}.{did_you_mean(table, TABLES)}")
        elif not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            problems.append(f"{file}: {table!r} must be a list of rows; begin each with [[{table}]].")
        else:
            entries += [Entry(file, table, _name_of(row, table, number), row) for number, row in enumerate(rows, 1)]
    return entries


def find_duplicates(entries: Sequence[Entry]) -> list[str]:
    """Names that two rows of one file have. Models and aliases share theirs."""
    seen: dict[tuple[str, str], Entry] = {}
    problems = []
    for entry in entries:
        for name in (entry.name, *_spellings(entry.raw)):
            first = seen.setdefault((_slot(entry)[0], name), entry)
            if first is not entry:
                problems.append(f"{entry.place}: {name!r} is already the name of [[{first.table}]] {first.name}. Give each row a name of its own.")
    return problems


def lay_over(entries: Sequence[Entry], overlay: Sequence[Entry]) -> list[Entry]:
    """The overlay's rows in the place of those with the same name. A row keeps the keys that the overlay's does not give."""
    merged = {_slot(entry): entry for entry in entries}
    for entry in overlay:
        known = {field.name for field in fields(TABLES[entry.table][0])}
        below = merged.get(_slot(entry))
        kept = {key: value for key, value in (below.raw if below else {}).items() if key in known and key not in ("source", "date", "spellings")}
        if below and below.table == "model" and entry.table == "alias":
            kept["legacy"] = False
        if entry.table == "model":
            kept["spellings"] = _spellings(below.raw) if below else []
        merged[_slot(entry)] = Entry(entry.file, entry.table, entry.name, {"source": entry.file, "date": None, **kept, **entry.raw})
    return list(merged.values())


def build(entry: Entry, problems: list[str]) -> Row | None:
    """The typed row, or nothing and its problems."""
    cls, _ = TABLES[entry.table]
    kinds = get_type_hints(cls, include_extras=True)
    before = len(problems)
    problems += [f"{entry.place}: unknown key {key!r}.{did_you_mean(key, kinds)}" for key in entry.raw if key not in kinds]
    problems += [f"{entry.place}: the key {key!r} is missing." for key in kinds if key not in entry.raw]
    values: dict[str, object] = {}
    for key, value in entry.raw.items():
        if key in kinds:
            expected = _mismatch(value, kinds[key])
            if expected:
                problems.append(f"{entry.place}: {key} is {value!r}; expected {expected}.")
            values[key] = tuple(value) if isinstance(value, list) else value
    return cls(**values) if len(problems) == before else None  # type: ignore[arg-type]  # checked against the hints above


def _mismatch(value: object, kind: object) -> str:
    """What was expected, or nothing when the value is of that kind."""
    if get_origin(kind) is Annotated:
        base, least = get_args(kind)
        if base is int:
            return "" if isinstance(value, int) and not isinstance(value, bool) and value >= least else f"a whole number, {least} or more"
        return "" if isinstance(value, str) and len(value) >= least else "a text that is not empty"
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return "" if isinstance(value, str) and value in choices else f"one of {', '.join(map(repr, choices))}"
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        wrong = [_mismatch(item, inner) for item in value] if isinstance(value, list) else ["a list"]
        return next((f"a list of {text}" if isinstance(value, list) else "a list" for text in wrong if text), "")
    if kind is float:
        is_rate = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
        return "" if is_rate else "a number above 0"
    if kind is bool:
        return "" if isinstance(value, bool) else "true or false"
    if kind is str:
        return "" if isinstance(value, str) else "a text"
    return "" if value is None or type(value) is date else "a date such as 2026-11-22"


def _name_of(row: Raw, table: str, number: int) -> str:
    name = row.get(TABLES[table][1])
    return name if isinstance(name, str) and name else f"number {number}"


def _spellings(raw: Raw) -> list[str]:
    spellings = raw.get("spellings")
    return [item for item in spellings if isinstance(item, str)] if isinstance(spellings, list) else []


def _slot(entry: Entry) -> tuple[str, str]:
    """What only one row can be: models and aliases share the name space of references. A row without a name is no other row."""
    has_name = TABLES[entry.table][1] in entry.raw
    return ("model" if entry.table == "alias" and has_name else entry.table, entry.name)
