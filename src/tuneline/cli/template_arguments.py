"""The arguments of the commands that take a template: their own options, and the template's parameters, which are read from the template itself."""

import json
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tuneline.errors import UsageError, did_you_mean
from tuneline.interface import flag
from tuneline.templates import Input, Template, names

_TYPES = {"STRING": "TEXT", "NUMBER_INTEGER": "NUMBER", "NUMBER_DOUBLE": "NUMBER", "BOOLEAN": "true|false", "LIST": "JSON", "STRUCT": "JSON"}
_BOOLEANS = ("true", "false", "True", "False")
_ABOUT_EARLIER_MODELS = ("champion_gate", "continue_from_champion", "skip_unchanged")


@dataclass(frozen=True, kw_only=True)
class Syntax:
    """What a command understands beside the parameters of its template."""

    command: str
    usage: Sequence[str]
    summary: str
    options: Mapping[str, tuple[str, str]]
    """Flag -> the word for its value, and what it means."""
    switches: Mapping[str, str]
    optional_values: frozenset[str] = frozenset()
    """Options that may stand alone; their value is empty then."""
    filled_in: Mapping[str, str] = field(default_factory=dict)
    """Required parameters that the command fills in -> with what."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What the command line says, before the template's parameters get their types."""

    templates: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    switches: frozenset[str] = frozenset()
    parameters: Mapping[str, str] = field(default_factory=dict)


def template_reference(argv: Sequence[str]) -> str | None:
    """The first argument, when it is no flag: it decides which other flags there are."""
    return argv[0] if argv and not argv[0].startswith("-") else None


def split(argv: Sequence[str], inputs: Mapping[str, Input], syntax: Syntax) -> Arguments:
    """Sort the arguments. The argument after a flag is its value, whatever it looks like; a boolean may stand alone. All problems at once."""
    positional: list[str] = []
    options: dict[str, str] = {}
    switches: set[str] = set()
    parameters: dict[str, str] = {}
    problems: list[str] = []
    queue = _Queue(argv)
    for argument in queue:
        given, has_value, text = argument.partition("=")
        given = {"-h": "--help"}.get(given, given)
        name = given.removeprefix("--").replace("-", "_")
        option = flag(name)
        if not given.startswith("-"):
            positional.append(argument)
        elif option in syntax.switches and not has_value:
            switches.add(option)
        elif option in syntax.optional_values and not has_value:
            _put(options, option, queue.value_unless_flag() or "", problems)
        elif option in syntax.options:
            value = text if has_value else queue.value()
            _put(options, option, value, problems)
            problems += [f"{option} is empty."] if value == "" else []
        elif name in inputs and inputs[name].parameter_type == "BOOLEAN" and not has_value:
            value = queue.value_among(_BOOLEANS)
            if value is None and positional and (other := queue.value_unless_flag()) is not None:
                problems.append(f"{option} is {other!r}; expected true or false, or nothing for true.")
            _put(parameters, name, value or "true", problems)
        elif name in inputs:
            _put(parameters, name, text if has_value else queue.value(), problems)
        else:
            known = [*syntax.options, *syntax.switches, *map(flag, inputs)]
            problems.append(f"unknown flag {given!r}.{did_you_mean(option, known)}")
            if not has_value:
                queue.value_unless_flag()
    if problems:
        raise UsageError(*problems, next_action=f"tuneline {syntax.command} TEMPLATE --help lists the flags.")
    return Arguments(templates=tuple(positional), options=options, switches=frozenset(switches), parameters=parameters)


class _Queue:
    """Arguments one by one; a flag takes its value from here."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._waiting = list(arguments)

    def __iter__(self) -> Iterator[str]:
        while self._waiting:
            yield self._waiting.pop(0)

    def value(self) -> str | None:
        return self._waiting.pop(0) if self._waiting else None

    def value_among(self, words: Collection[str]) -> str | None:
        return self.value() if self._waiting and self._waiting[0] in words else None

    def value_unless_flag(self) -> str | None:
        return self.value() if self._waiting and not self._waiting[0].startswith("-") else None


def _put(target: dict[str, str], name: str, value: str | None, problems: list[str]) -> None:
    spelled = name if name.startswith("--") else flag(name)
    if value is None:
        problems.append(f"{spelled} needs a value.")
    elif name in target:
        problems.append(f"{spelled} is given twice.")
    else:
        target[name] = value


def model_display_name(parameters: Mapping[str, str], template: Template, moment: datetime | None) -> str:
    """Base model, data and day. No time of day: the same job again on one day has the same name, so that caches know it.

    No day, either, where the model has to be a version of the one before: on a schedule (without a `moment`), or with a champion.
    """
    reference = template.inputs.get("large_model_reference")
    base = parameters.get("large_model_reference", str(reference.default) if reference else template.name)
    data = Path(parameters.get("dataset_uri", "")).stem
    is_retraining = any(parameters.get(name, "false").lower() != "false" for name in _ABOUT_EARLIER_MODELS)
    day = f"{moment:%Y-%m-%d}" if moment and not is_retraining else ""
    return " ".join(part for part in (base.rpartition("/")[2], data, day) if part)[:128]


def help_text(template: Template | None, syntax: Syntax) -> str:
    """The help text, with the parameters of a template when there is one."""
    lines = [f"{'usage:' if number == 0 else '':<6} {usage}" for number, usage in enumerate(syntax.usage)]
    lines += ["", f"{syntax.summary} TEMPLATE is a .yaml file, a template URI, or one of {', '.join(names())}.", "", "options:"]
    for option, (word, meaning) in syntax.options.items():
        lines += _entry(f"{option} {f'[{word}]' if option in syntax.optional_values else word}", meaning)
    for option, meaning in syntax.switches.items():
        lines += _entry(option, meaning)
    if template is None:
        return "\n".join([*lines, "", f"tuneline {syntax.command} TEMPLATE --help lists the template's parameters."])
    lines += ["", f"parameters of {template.name}:"]
    for given in template.inputs.values():
        if flag(given.name) in syntax.options:
            continue
        default = given.default if isinstance(given.default, str) else json.dumps(given.default)
        shown = syntax.filled_in.get(given.name, default if given.optional else "required")
        lines += _entry(f"{flag(given.name)} {_TYPES[given.parameter_type]}", f"{given.description}{f' [{shown}]' if shown else ''}".strip())
    return "\n".join(lines)


def _entry(head: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(text, width=100) or [""]
    first = [f"  {head:<36}  {wrapped[0]}".rstrip()] if len(head) <= 36 else [f"  {head}", f"{'':<40}{wrapped[0]}"]
    return [*first, *(f"{'':<40}{line}" for line in wrapped[1:])]
