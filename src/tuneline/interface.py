"""One frozen dataclass, shown four ways: as KFP's typed arguments, as a step's flags, as a parsed object, as a table for people.

A field's name is its parameter and, in kebab case, its flag; its default is the default; the string below it is its description.
Types are `str`, `int`, `float`, `bool`, `Path` and `Literal[...]` of strings.
"""

import ast
import functools
import inspect
import itertools
import json
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import ClassVar, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints, overload

from tuneline.errors import UsageError, did_you_mean


class Group(Protocol):
    """An instance of a frozen, keyword-only dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[object]]]


A = TypeVar("A", bound=Group)
B = TypeVar("B", bound=Group)
C = TypeVar("C", bound=Group)
R = TypeVar("R")

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def flag(name: str) -> str:
    """The flag of a field or artifact: `train_steps` -> `--train-steps`."""
    return "--" + name.replace("_", "-")


def flags(group: type[Group]) -> tuple[str, ...]:
    """The flags of all fields."""
    return tuple(flag(field.name) for field in fields(group))


@overload
def parse(argv: Sequence[str], first: type[A], /) -> tuple[A]: ...
@overload
def parse(argv: Sequence[str], first: type[A], second: type[B], /) -> tuple[A, B]: ...
@overload
def parse(argv: Sequence[str], first: type[A], second: type[B], third: type[C], /) -> tuple[A, B, C]: ...
def parse(argv: Sequence[str], /, *groups: type[Group]) -> tuple[Group, ...]:
    """The groups that the flags spell: `--name value` or `--name=value`; a field in several groups is given once.

    The argument after a flag is always its value, so a value may be empty or begin with dashes. All problems are raised at once.
    """
    kinds = {name: kind for group in groups for name, kind in _kinds(group).items()}
    given, problems = _split(argv, kinds)
    values: dict[str, object] = {}
    for name, text in given.items():
        try:
            values[name] = convert(text, kinds[name])
        except ValueError as error:
            problems.append(f"{flag(name)} is {text!r}; expected {error}.")
    required = dict.fromkeys(field.name for group in groups for field in fields(group) if is_required(field))
    problems += [f"{flag(name)} is missing." for name in required if name not in given]
    if problems:
        raise UsageError(*problems)
    return tuple(group(**{name: values[name] for name in _kinds(group) if name in values}) for group in groups)


def texts(argv: Sequence[str], /, *groups: type[Group]) -> dict[str, str]:
    """Field name -> its text as the flags spell it, for whoever hands flags on. Raises UsageError."""
    found, problems = _split(argv, {name: kind for group in groups for name, kind in _kinds(group).items()})
    if problems:
        raise UsageError(*problems)
    return found


def path_fields(*groups: type[Group]) -> tuple[str, ...]:
    """The names of the fields that are paths."""
    return tuple(name for group in groups for name, kind in _kinds(group).items() if kind is Path)


def _split(argv: Sequence[str], known: Mapping[str, object]) -> tuple[dict[str, str], list[str]]:
    """Field name -> its text, and what was wrong."""
    names = {flag(name): name for name in known}
    texts: dict[str, str] = {}
    problems: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        given, has_value, text = argument.partition("=")
        if not given.startswith("--"):
            problems.append(f"unexpected argument {argument!r}; expected a flag such as {next(iter(names), '--name')}.")
            continue
        value = text if has_value else next(arguments, None)
        if given not in names:
            problems.append(f"unknown flag {given!r}.{did_you_mean(given, names)}")
        elif value is None:
            problems.append(f"{given} needs a value.")
        elif names[given] in texts:
            problems.append(f"{given} is given twice.")
        else:
            texts[names[given]] = value
    return texts, problems


def convert(text: str, kind: object) -> object:
    """The value that a flag's text stands for. Raises ValueError with what was expected."""
    if kind in SCALARS:
        return SCALARS[kind](text)
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError("one of " + ", ".join(map(repr, get_args(kind))))
        return text
    raise TypeError(f"{kind} cannot be a flag; use str, int, float, bool, Path or Literal of strings.")


def boolean(text: str) -> bool:
    """`True` or `true`, `False` or `false`: Python and JSON both write flags."""
    if text not in ("True", "true", "False", "false"):
        raise ValueError("'true' or 'false'")
    return text in ("True", "true")


def integer(text: str) -> int:
    """A whole number; orchestrators write 300 as `300.0`."""
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    if not value.is_integer():
        raise ValueError("a whole number")
    return int(value) if "." in text or "e" in text.lower() else int(text)


def number(text: str) -> float:
    """A finite number."""
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError("a number")
    return value


def path(text: str) -> Path:
    """A path; an empty text would silently be the working directory."""
    if not text:
        raise ValueError("a path")
    return Path(text)


SCALARS: Mapping[object, Callable[[str], object]] = {str: str, int: integer, float: number, bool: boolean, Path: path}


def is_required(field: Field[object]) -> bool:
    """Whether the field has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def _kinds(group: type[Group]) -> dict[str, object]:
    hints = get_type_hints(group)
    return {field.name: hints[field.name] for field in fields(group)}


def taking(*groups: type[Group]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Present the groups' fields to KFP as the function's own typed arguments.

    The function's first parameters take the groups, one each; the others stay as they are. KFP reads a function's signature and
    docstring only: it finds the fields' types (`Literal` as `str`), defaults and descriptions there, and gives values or channels.
    """

    def present(function: Callable[..., R]) -> Callable[..., R]:
        own = list(inspect.signature(function).parameters.values())[len(groups) :]
        shown = {parameter.name: parameter for group in groups for parameter in _parameters(group)}
        # KFP calls by position, and Python wants the arguments with defaults last.
        ordered = sorted([*shown.values(), *own], key=lambda parameter: parameter.default is not parameter.empty)
        signature = inspect.Signature(ordered, return_annotation=inspect.signature(function).return_annotation)

        def call(*args: object, **kwargs: object) -> R:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            values = given.arguments
            objects = [group(**{name: values[name] for name in _kinds(group)}) for group in groups]
            return function(*objects, **{parameter.name: values[parameter.name] for parameter in own})

        functools.update_wrapper(call, function)
        call.__doc__ = _documented(inspect.getdoc(function) or "", groups)
        call.__signature__ = signature  # type: ignore[attr-defined]  # inspect.signature looks here first
        return call

    return present


def _parameters(group: type[Group]) -> list[inspect.Parameter]:
    kinds = _kinds(group)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if is_required(field) else field.default,
            annotation=str if get_origin(kinds[field.name]) is Literal else kinds[field.name],
        )
        for field in fields(group)
    ]


def _documented(docstring: str, groups: Sequence[type[Group]]) -> str:
    """The docstring with the fields at the head of its `Args:` section."""
    texts = {name: text for group in groups for name, text in descriptions(group).items()}
    lines = [f"    {name}: {text}" for name, text in texts.items()]
    summary, section, rest = docstring.partition("\n\nArgs:\n")
    if not section:
        summary, section, rest = docstring.partition("\n\nReturns:\n")
        rest = section + rest if section else ""
    return "\n".join([f"{summary}\n\nArgs:", *lines, rest]).rstrip() + "\n"


def part(group: type[Group], parameters: Group) -> dict[str, object]:
    """The fields of `group` out of larger `parameters`, by name."""
    return {field.name: getattr(parameters, field.name) for field in fields(group)}


@functools.cache
def descriptions(group: type[Group]) -> Mapping[str, str]:
    """Field name -> the string below it, on one line; an heir's own words win over inherited ones."""
    found: dict[str, str] = {}
    for cls in reversed(group.__mro__):
        if "__dataclass_fields__" in vars(cls):
            found |= _field_strings(cls)
    return {field.name: found.get(field.name, "") for field in fields(group)}


def _field_strings(cls: type) -> dict[str, str]:
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    return {
        statement.target.id: " ".join(below.value.value.split())
        for statement, below in itertools.pairwise(getattr(definition, "body", []))
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }


def table(group: type[Group]) -> str:
    """A Markdown table of the fields, for the documentation."""
    kinds, texts = _kinds(group), descriptions(group)
    rows = ["| parameter | type | default | meaning |", "|---|---|---|---|"]
    for field in fields(group):
        default = "required" if is_required(field) else f"`{json.dumps(field.default)}`"
        rows.append(f"| `{field.name}` | {_kind_name(kinds[field.name])} | {default} | {texts[field.name]} |")
    return "\n".join(rows) + "\n"


def _kind_name(kind: object) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in get_args(kind))
    return f"`{kind.__name__}`" if isinstance(kind, type) else str(kind)
