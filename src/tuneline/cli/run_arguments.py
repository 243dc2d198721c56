"""The arguments of `tuneline run`: its own options, and the parameters of the template, which are read from the template itself."""

import json
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tuneline.errors import UsageError, did_you_mean
from tuneline.interface import flag
from tuneline.local.run_record import LOCATION
from tuneline.templates import Input, Template, names

OPTIONS = {
    "--runs-dir": ("DIR", "folder of the runs; default: runs/ in TUNELINE_HOME"),
    "--name": ("RUN", "name of this run; default: the pipeline's name and the time"),
    "--catalog": ("FILE", "TOML file with catalogue rows laid over the built-in ones (sets catalog_uri)"),
    "--resume": ("RUN", "go on with a stopped or failed run, by its name or folder; its parameters hold"),
    "--grace": ("SECONDS", "how long tasks may save their work after Ctrl-C or SIGTERM; default: 25"),
    "--container-engine": ("NAME", "with --containers: docker or podman; default: docker if its daemon answers, else podman"),
    "--container-memory": ("SIZE", "with --containers: memory of each task, like 8Gi; default: the template's limit, if it has one"),
    "--container-cpus": ("NUMBER", "with --containers: processors of each task, like 1.5; default: the template's limit, if it has one"),
}
SWITCHES = {
    "--containers": "run each task in a container of its own image, instead of as a process of this machine",
    "--no-cache": "run every task, also when an earlier run had the same inputs",
    "--logs": "show the tasks' logs while they run",
    "--quiet": "show nothing while the run goes on",
    "--json": "print one JSON object on standard output",
    "--help": "show this text; after a template also its parameters",
}
_TYPES = {"STRING": "TEXT", "NUMBER_INTEGER": "NUMBER", "NUMBER_DOUBLE": "NUMBER", "BOOLEAN": "true|false", "LIST": "JSON", "STRUCT": "JSON"}
_BOOLEANS = ("true", "false", "True", "False")
_DEFAULTS = {"project": LOCATION, "model_display_name": "base model, data and day"}
"""What the command line fills in where the template requires a value."""
_MAY_BE_A_HUB_NAME = ("base_model_uri",)


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


def split(argv: Sequence[str], inputs: Mapping[str, Input]) -> Arguments:
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
        elif option in SWITCHES and not has_value:
            switches.add(option)
        elif option in OPTIONS:
            _put(options, option, text if has_value else queue.value(), problems)
        elif name in inputs and inputs[name].parameter_type == "BOOLEAN" and not has_value:
            _put(parameters, name, queue.value_among(_BOOLEANS) or "true", problems)
        elif name in inputs:
            _put(parameters, name, text if has_value else queue.value(), problems)
        else:
            known = [*OPTIONS, *SWITCHES, *map(flag, inputs)]
            problems.append(f"unknown flag {given!r}.{did_you_mean(option, known)}")
            if not has_value:
                queue.value_unless_flag()
    if problems:
        raise UsageError(*problems, next_action="tuneline run TEMPLATE --help lists the flags.")
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

    def value_unless_flag(self) -> None:
        if self._waiting and not self._waiting[0].startswith("-"):
            self._waiting.pop(0)


def _put(target: dict[str, str], name: str, value: str | None, problems: list[str]) -> None:
    spelled = name if name.startswith("--") else flag(name)
    if value is None:
        problems.append(f"{spelled} needs a value.")
    elif name in target:
        problems.append(f"{spelled} is given twice.")
    else:
        target[name] = value


def complete(parameters: Mapping[str, str], template: Template, *, moment: datetime) -> dict[str, str]:
    """The parameters with what a person at a machine need not say: project, display name, the working directory of paths."""
    completed = {name: _absolute(name, value) for name, value in parameters.items()}
    if "project" in template.inputs:
        completed.setdefault("project", LOCATION)
    if "model_display_name" in template.inputs:
        completed.setdefault("model_display_name", _display_name(parameters, template, moment))
    return completed


def _absolute(name: str, value: str) -> str:
    """A path that tasks understand, too: they run in folders of their own."""
    is_path = name.endswith(("_uri", "_dir")) and value and "://" not in value and not value.startswith("embedded:")
    if not is_path or (name in _MAY_BE_A_HUB_NAME and not Path(value).expanduser().exists()):
        return value
    return str(Path(value).expanduser().absolute())


def _display_name(parameters: Mapping[str, str], template: Template, moment: datetime) -> str:
    """Base model, data and day. No time of day: the same job again on one day has the same name, so that caches know it."""
    reference = template.inputs.get("large_model_reference")
    base = parameters.get("large_model_reference", str(reference.default) if reference else template.name)
    data = Path(parameters.get("dataset_uri", "")).stem
    return " ".join(part for part in (base.rpartition("/")[2], data, f"{moment:%Y-%m-%d}") if part)[:128]


def help_text(template: Template | None) -> str:
    """The help text, with the parameters of a template when there is one."""
    lines = ["usage: tuneline run TEMPLATE [--PARAMETER VALUE ...] [OPTION ...]", "       tuneline run --resume RUN [OPTION ...]", ""]
    lines += [f"Run a compiled template on this machine. TEMPLATE is a .yaml file, a template URI, or one of {', '.join(names())}.", "", "options:"]
    for option, (word, meaning) in OPTIONS.items():
        lines += _entry(f"{option} {word}", meaning)
    for option, meaning in SWITCHES.items():
        lines += _entry(option, meaning)
    if template is None:
        return "\n".join([*lines, "", "tuneline run TEMPLATE --help lists the template's parameters."])
    lines += ["", f"parameters of {template.name}:"]
    for given in template.inputs.values():
        default = given.default if isinstance(given.default, str) else json.dumps(given.default)
        shown = _DEFAULTS.get(given.name, default if given.optional else "required")
        lines += _entry(f"{flag(given.name)} {_TYPES[given.parameter_type]}", f"{given.description}{f' [{shown}]' if shown else ''}".strip())
    return "\n".join(lines)


def _entry(head: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(text, width=100) or [""]
    first = [f"  {head:<36}  {wrapped[0]}".rstrip()] if len(head) <= 36 else [f"  {head}", f"{'':<40}{wrapped[0]}"]
    return [*first, *(f"{'':<40}{line}" for line in wrapped[1:])]
