"""Trigger conditions, as KFP compiles `dsl.If`: parsed with a grammar of their own and evaluated over values, never over source text.

or      := and ("||" and)*
and     := not ("&&" not)*
not     := "!" not | compare
compare := term (("==" | "!=" | "<=" | ">=" | "<" | ">") term)?
term    := "(" or ")" | ("int" | "double" | "string") "(" or ")" | "inputs.parameter_values[" text "]" | text | number | "true" | "false"
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tuneline.errors import TemplateError
from tuneline.local.values import to_text, typed
from tuneline.templates import Json

Expression: TypeAlias = "Literal | Input | Convert | Not | Compare | Both | Either"

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z_.]*)|(?P<sign>\|\||&&|==|!=|<=|>=|[<>!()\[\]]))"
)
_COMPARE: dict[str, Callable[[object, object], bool]] = {"==": operator.eq, "!=": operator.ne}
_ORDER: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
_DEEPEST = 50  # brackets and negations; what compilers write has two or three


@dataclass(frozen=True)
class Literal:
    value: Json


@dataclass(frozen=True)
class Input:
    name: str


@dataclass(frozen=True)
class Convert:
    to: str
    operand: Expression


@dataclass(frozen=True)
class Not:
    operand: Expression


@dataclass(frozen=True)
class Compare:
    sign: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Both:
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Either:
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Condition:
    """One condition: its text, for people, and its meaning."""

    text: str
    expression: Expression

    def inputs(self) -> set[str]:
        """Names of the input parameters that it reads."""
        return _inputs(self.expression)

    def holds(self, values: Mapping[str, Json]) -> bool:
        """Whether the task runs with these input parameters."""
        result = _evaluate(self.expression, values, self.text)
        if not isinstance(result, bool):
            raise TemplateError(f"condition {self.text!r} gives {result!r}; it must give true or false.")
        return result


def parse(text: str) -> Condition:
    """The condition that `text` spells; a `TemplateError` names the place that the grammar does not know."""
    parser = _Parser(text)
    expression = parser.either(0)
    if parser.kind != "end":
        raise parser.refusal()
    return Condition(text, expression)


class _Parser:
    def __init__(self, text: str) -> None:
        self.source = text.rstrip()
        self.end = 0
        self.advance()

    def advance(self) -> None:
        self.start = self.end
        match = _TOKEN.match(self.source, self.end)
        if self.end == len(self.source):
            self.kind, self.text = "end", ""
        elif match is None:
            raise self.refusal()
        else:
            self.kind, self.text, self.end = str(match.lastgroup), match[str(match.lastgroup)], match.end()

    def refusal(self) -> TemplateError:
        return TemplateError(
            f"condition {self.source!r} cannot be read at {self.source[self.start :].strip()[:40]!r}.",
            next_action="The embedded engine knows ==, !=, <, >, <=, >=, &&, ||, !, brackets, int(), double(), string(), literals and input parameters.",
        )

    def take(self, sign: str) -> bool:
        if (found := self.kind in ("sign", "word") and self.text == sign) is True:
            self.advance()
        return found

    def need(self, sign: str) -> None:
        if not self.take(sign):
            raise self.refusal()

    def either(self, depth: int) -> Expression:
        expression = self.both(depth)
        while self.take("||"):
            expression = Either(expression, self.both(depth))
        return expression

    def both(self, depth: int) -> Expression:
        expression = self.negation(depth)
        while self.take("&&"):
            expression = Both(expression, self.negation(depth))
        return expression

    def negation(self, depth: int) -> Expression:
        if depth > _DEEPEST:
            raise self.refusal()
        return Not(self.negation(depth + 1)) if self.take("!") else self.comparison(depth)

    def comparison(self, depth: int) -> Expression:
        left = self.term(depth)
        for sign in (*_COMPARE, *_ORDER):
            if self.take(sign):
                return Compare(sign, left, self.term(depth))
        return left

    def term(self, depth: int) -> Expression:
        kind, text = self.kind, self.text
        if self.take("("):
            return self.bracketed(depth)
        if kind == "sign" or kind == "end":
            raise self.refusal()
        if kind == "word" and text not in ("true", "false", "int", "double", "string", "inputs.parameter_values"):
            raise self.refusal()
        self.advance()
        if kind == "text":
            return Literal(_unquoted(text))
        if kind == "number":
            return Literal(int(text) if re.fullmatch(r"-?\d+", text) else float(text))
        if text in ("true", "false"):
            return Literal(text == "true")
        if text == "inputs.parameter_values":
            return self.input_name()
        self.need("(")
        return Convert(text, self.bracketed(depth))

    def bracketed(self, depth: int) -> Expression:
        expression = self.either(depth + 1)
        self.need(")")
        return expression

    def input_name(self) -> Input:
        self.need("[")
        name = self.text
        if self.kind != "text":
            raise self.refusal()
        self.advance()
        self.need("]")
        return Input(_unquoted(name))


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1]), text[1:-1], flags=re.DOTALL)


def _inputs(expression: Expression) -> set[str]:
    match expression:
        case Literal():
            return set()
        case Input(name):
            return {name}
        case Convert(_, operand) | Not(operand):
            return _inputs(operand)
        case Compare(_, left, right) | Both(left, right) | Either(left, right):
            return _inputs(left) | _inputs(right)


def _evaluate(expression: Expression, values: Mapping[str, Json], text: str) -> Json:
    match expression:
        case Literal(value):
            return value
        case Input(name):
            return values[name]
        case Convert(to, operand):
            return _converted(to, _evaluate(operand, values, text), text)
        case Not(operand):
            return not _truth(_evaluate(operand, values, text), text)
        case Both(left, right):
            return _truth(_evaluate(left, values, text), text) and _truth(_evaluate(right, values, text), text)
        case Either(left, right):
            return _truth(_evaluate(left, values, text), text) or _truth(_evaluate(right, values, text), text)
        case Compare(sign, left, right):
            return _compared(sign, _evaluate(left, values, text), _evaluate(right, values, text), text)


def _truth(value: Json, text: str) -> bool:
    if not isinstance(value, bool):
        raise TemplateError(f"condition {text!r} uses {value!r} as true or false.")
    return value


def _converted(to: str, value: Json, text: str) -> Json:
    if to == "string":
        return to_text(value)
    try:
        number = typed(value, "NUMBER_DOUBLE")
    except ValueError as error:
        raise TemplateError(f"condition {text!r}: {error}.") from None
    return int(number) if to == "int" and isinstance(number, float) else number


def _compared(sign: str, left: Json, right: Json, text: str) -> bool:
    numbers = [side for side in (left, right) if isinstance(side, int | float) and not isinstance(side, bool)]
    if len(numbers) != 2 and type(left) is not type(right):
        raise TemplateError(f"condition {text!r} compares {left!r} with {right!r}; both sides must be of one type.")
    if sign in _COMPARE:
        return _COMPARE[sign](left, right)
    if isinstance(left, str) and isinstance(right, str):
        order = (left > right) - (left < right)
        return _ORDER[sign](order, 0)
    if len(numbers) != 2:
        raise TemplateError(f"condition {text!r} orders {left!r} and {right!r}; only numbers and texts have an order.")
    return _ORDER[sign](*numbers)
