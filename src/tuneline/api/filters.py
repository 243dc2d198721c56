"""List filters and orders (AIP-160, AIP-132) as SQL conditions on a resource's JSON. What is not known is refused, never ignored.

Known are comparisons (`display_name="x"`, `state=PIPELINE_STATE_FAILED`, `create_time>"2026-01-01T00:00:00Z"`, `labels.team=a`, `labels.team:*`),
`NOT` or `-`, `AND`, `OR` and brackets.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from pydantic.alias_generators import to_camel

from tuneline.api.faults import invalid
from tuneline.errors import did_you_mean
from tuneline.local.run_record import stamp

_TOKEN = re.compile(r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<sign>>=|<=|!=|[=<>:()-])|(?P<word>[^\s"'=<>!:()]+))""")
_SIGNS = {"=": "=", "!=": "!=", ">": ">", "<": "<", ">=": ">=", "<=": "<="}
_FREE = ("labels.", "metadata.")
"""Maps, whose keys are the user's own."""
_KEY = re.compile(r"[\w./-]+")
_MAX_DEPTH = 20
MAX_COMPARISONS = 100
"""Of a filter, and fields of an order. SQLite takes an expression of up to 1000 levels."""

Sql: TypeAlias = tuple[str, tuple[object, ...]]


@dataclass(frozen=True)
class Condition:
    """A condition on a resource."""

    text: str
    values: tuple[object, ...] = ()

    def sql(self) -> Sql:
        """The SQL text, and the values for its question marks."""
        return self.text, self.values


def both(one: Condition | None, other: Condition | None) -> Condition | None:
    """The condition that both hold."""
    return _joined(" AND ", [one, other]) if one and other else one or other


def parse_filter(text: str, fields: Collection[str]) -> Condition | None:
    """The condition that a filter means; nothing for an empty filter. `fields` are the JSON names that may be asked for."""
    if not text.strip():
        return None
    return _Parser(text, fields).whole()


def parse_order(text: str, fields: Collection[str]) -> tuple[tuple[str, bool], ...]:
    """`create_time desc, display_name` as JSON names, and whether the largest comes first."""
    order: dict[str, bool] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, *direction = part.split()
        if direction not in ([], ["asc"], ["desc"]):
            raise invalid(f"order_by: found {part!r}; expected a field, optionally with 'asc' or 'desc'.")
        order.setdefault(_field("order_by", name, fields), direction == ["desc"])  # a field that comes again changes nothing
    if len(order) > MAX_COMPARISONS:
        raise invalid(f"order_by: found {len(order)} fields; expected at most {MAX_COMPARISONS}.")
    return tuple(order.items())


def json_path(field: str) -> str:
    """The JSON path of a field; a map's key may hold dots."""
    parts = field.split(".", 1) if field.startswith(_FREE) else field.split(".")
    return "$" + "".join(f'."{part}"' for part in parts)


class _Parser:
    def __init__(self, text: str, fields: Collection[str]) -> None:
        self._text, self._fields = text.rstrip(), fields
        self._tokens: list[tuple[str, str]] = []
        place = 0
        while place < len(self._text):
            match = _TOKEN.match(self._text, place)
            if match is None:
                raise self._refusal(f"cannot be read at character {place + 1}")
            self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            place = match.end()
        self._next = 0
        self._depth = 0
        self._comparisons = 0

    def whole(self) -> Condition:
        condition = self._or()
        if self._next < len(self._tokens):
            raise self._refusal(f"does not go on with {self._peek()[1]!r}")
        return condition

    def _or(self) -> Condition:
        parts = [self._and()]
        while self._take("word", "OR"):
            parts.append(self._and())
        return _joined(" OR ", parts)

    def _and(self) -> Condition:
        parts = [self._negation()]
        while True:
            explicit = self._take("word", "AND")
            if not explicit and (self._peek() in (("word", "OR"), ("sign", ")")) or self._next == len(self._tokens)):
                return _joined(" AND ", parts)
            parts.append(self._negation())

    def _negation(self) -> Condition:
        if self._take("word", "NOT") or self._take("sign", "-"):
            inner = self._negation_target()
            return Condition(f"NOT coalesce({inner.text}, 0)", inner.values)
        return self._negation_target()

    def _negation_target(self) -> Condition:
        if self._take("sign", "("):
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise self._refusal("has too many brackets")
            inner = self._or()
            self._depth -= 1
            if not self._take("sign", ")"):
                raise self._refusal("lacks a closing bracket")
            return Condition(f"({inner.text})", inner.values)
        return self._comparison()

    def _comparison(self) -> Condition:
        kind, name = self._pop()
        if kind != "word":
            raise self._refusal(f"has {name!r} where a field is expected")
        if self._peek()[0] == "text" and name.endswith("."):
            name += self._pop()[1][1:-1]  # labels."a-key"
        field = _field("filter", name, self._fields)
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise self._refusal(f"has more than {MAX_COMPARISONS} comparisons")
        path = json_path(field)
        _, sign = self._pop()
        kind, value = self._pop()
        if kind == "text":
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if sign == ":":
            # A map has the key; a list or a text has the part.
            if value == "*":
                return Condition("json_extract(body, ?) IS NOT NULL", (path,))
            return Condition("instr(json_extract(body, ?), ?) > 0", (path, value))
        if sign not in _SIGNS or kind == "sign":
            raise self._refusal(f'has {sign!r} after {name!r}; expected a comparison such as {name}="..."')
        if field.endswith("Time"):
            value = self._moment(field, value)
        if sign == "=" and kind == "text" and value.endswith("*") and len(value) > 1:
            return Condition("substr(json_extract(body, ?), 1, ?) = ?", (path, len(value) - 1, value[:-1]))
        return Condition(f"CAST(json_extract(body, ?) AS TEXT) {_SIGNS[sign]} ?", (path, value))

    def _moment(self, field: str, text: str) -> str:
        """A time as it is stored: times are compared as texts."""
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise self._refusal(f"has {text!r} for {field}; expected a time such as 2026-11-22T00:00:00Z") from None
        return stamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("", "")

    def _pop(self) -> tuple[str, str]:
        if self._next == len(self._tokens):
            raise self._refusal("ends too early")
        self._next += 1
        return self._tokens[self._next - 1]

    def _take(self, kind: str, value: str) -> bool:
        if self._peek() != (kind, value):
            return False
        self._next += 1
        return True

    def _refusal(self, problem: str) -> Exception:
        return invalid(f'filter: {self._text[:200]!r} {problem}. Expected comparisons such as display_name="x" AND labels.team:*.')


def _joined(word: str, parts: list[Condition]) -> Condition:
    if len(parts) == 1:
        return parts[0]
    return Condition("(" + word.join(part.text for part in parts) + ")", tuple(value for part in parts for value in part.values))


def _field(what: str, name: str, fields: Collection[str]) -> str:
    """The JSON name of a field that may be asked for."""
    if name.startswith(_FREE) and name.partition(".")[0] in fields and _KEY.fullmatch(name):
        return name
    field = ".".join(to_camel(part) if "_" in part else part for part in name.split("."))
    if field not in fields:
        raise invalid(f"{what}: unknown field {name!r}; expected one of {', '.join(sorted(fields))}.{did_you_mean(field, fields)}")
    return field
