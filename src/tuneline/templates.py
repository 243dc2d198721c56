"""Find a compiled template, give its parameters their types, and point its images to another registry. No kfp needed."""

import copy
import json
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml

from tuneline.errors import ParameterError, TemplateError, UsageError, did_you_mean
from tuneline.interface import boolean, integer, number

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

FOLDER = Path(__file__).parent / "embedded" / "templates"
HOSTED_PREFIX = "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/"
HOSTED = {
    f"{HOSTED_PREFIX}tune-large-model/v2.0.0": "tune-large-model",
    f"{HOSTED_PREFIX}tune-large-model/v3.0.0": "tune-large-model",
    f"{HOSTED_PREFIX}tune-large-chat-model/v3.0.0": "tune-large-chat-model",
}
KINDS = {
    "STRING": "text",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a list",
    "STRUCT": "an object",
}
PLACEHOLDER = "{{$."


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input parameter as the template defines it."""

    name: str
    parameter_type: str
    """One of `KINDS`, as in the template."""
    optional: bool
    default: Json
    """None when there is no default."""
    description: str


@dataclass(frozen=True, kw_only=True)
class Template:
    """A compiled pipeline."""

    name: str
    spec: dict[str, Json]
    """The pipeline spec as it was compiled."""
    inputs: Mapping[str, Input]
    """By name, in the template's order."""


def names() -> tuple[str, ...]:
    """The pipelines that come with this package."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))


def path(name: str) -> Path:
    """File of a template of this package: `tune-large-model`, `components/tune_model`."""
    file = FOLDER / f"{name}.yaml"
    known = [known.relative_to(FOLDER).with_suffix("").as_posix() for known in FOLDER.rglob("*.yaml")]
    if name not in known:
        raise TemplateError(
            f"There is no template {name!r}.{did_you_mean(name, known)}", next_action=f"Give a path to a .yaml file, or one of {', '.join(names())}."
        )
    return file


def load(reference: str) -> Template:
    """The template behind a name, a .yaml file or the URI of a hosted template."""
    if reference in HOSTED:
        return load(HOSTED[reference])
    if "://" in reference:
        raise TemplateError(
            f"{reference}: this template is not built in.{did_you_mean(reference, HOSTED)} Built in are {', '.join(HOSTED)}.",
            next_action="Download any other template and give its path.",
        )
    if not reference.endswith((".yaml", ".yml", ".json")):
        return read(path(reference).read_text(encoding="utf-8"), reference)
    try:
        return read(Path(reference).read_text(encoding="utf-8"), reference)
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{reference}: cannot be read ({error}). Expected a compiled pipeline, or the name of one: {', '.join(names())}.") from None


def read(text: str, source: str) -> Template:
    """The template in `text`; `source` names it in errors."""
    try:
        # The C loader is ten times as fast, but not in every build of PyYAML. Both are safe: they make plain values only.
        document = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text).get_single_data()
    except yaml.YAMLError as error:
        raise TemplateError(f"{source}: is not one YAML document ({' '.join(str(error).split())}).") from None
    return template_of(document, source)


def template_of(document: object, source: str) -> Template:
    """The template in a document that was read already."""
    spec = _mapping(document, source)
    if not {"pipelineInfo", "root", "deploymentSpec", "components"} <= spec.keys():
        raise TemplateError(
            f"{source}: is not a compiled pipeline; expected the keys pipelineInfo, root, deploymentSpec and components. Compile it with kfp 2."
        )
    name = _mapping(spec["pipelineInfo"], f"{source}: pipelineInfo").get("name")
    definitions = _mapping(_mapping(spec["root"], f"{source}: root").get("inputDefinitions", {}), f"{source}: inputDefinitions")
    parameters = _mapping(definitions.get("parameters", {}), f"{source}: parameters")
    return Template(name=str(name), spec=spec, inputs={key: _input(key, definition, source) for key, definition in parameters.items()})


def _mapping(value: object, where: str) -> dict[str, Json]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TemplateError(f"{where}: is not a mapping. Expected a pipeline that kfp 2 compiled.")
    return value


def _input(name: str, definition: Json, source: str) -> Input:
    given = _mapping(definition, f"{source}: {name}")
    kind, default = given.get("parameterType"), given.get("defaultValue")
    if not isinstance(kind, str) or kind not in KINDS:
        raise TemplateError(f"{source}: parameter {name!r} has the type {kind!r}; expected one of {', '.join(KINDS)}.")
    try:
        default = default if default is None else _coerced(default, kind)
    except ValueError:
        raise TemplateError(f"{source}: parameter {name!r} has the default {default!r}; expected {KINDS[kind]}.") from None
    return Input(
        name=name,
        parameter_type=kind,
        optional=default is not None or given.get("isOptional") is True,
        default=default,
        description=str(given.get("description", "")),
    )


def coerce(template: Template, values: Mapping[str, object]) -> dict[str, Json]:
    """All parameters of a run in the template's types: `values` over the defaults.

    Clients send numbers and booleans as text, and booleans for text parameters; both are understood. All problems are raised at once.
    """
    unknown = [f"unknown parameter {name!r}.{did_you_mean(name, template.inputs)}" for name in values if name not in template.inputs]
    problems = [f"{name} is missing: {given.description}".rstrip(": ") for name, given in template.inputs.items() if not given.optional and name not in values]
    coerced: dict[str, Json] = {}
    for name, given in template.inputs.items():
        if name not in values:
            if given.default is not None:
                coerced[name] = given.default
            continue
        try:
            coerced[name] = _coerced(values[name], given.parameter_type)
        except ValueError:
            problems.append(f"{name} is {reprlib.repr(values[name])}; expected {KINDS[given.parameter_type]}.")
        if PLACEHOLDER in str(values[name]):
            problems.append(f"{name} contains {PLACEHOLDER!r}, which orchestrators replace. Write it in another way, or bring it in a data file.")
    if unknown:
        raise UsageError(*unknown, *problems)
    if problems:
        raise ParameterError(*problems)
    return coerced


def _coerced(value: object, kind: str) -> Json:
    """The value in the template's type. Raises ValueError."""
    match kind, value:
        case "STRING", bool(answer):
            return "true" if answer else "false"
        case "STRING", str(text):
            return text
        case "BOOLEAN", bool() | str():
            return boolean(str(value))
        case "NUMBER_INTEGER" | "NUMBER_DOUBLE", bool():
            pass  # Python counts True as 1
        case "NUMBER_INTEGER", int() | float() | str():
            return integer(str(value))
        case "NUMBER_DOUBLE", int() | float() | str():
            return number(str(value))
        case "LIST", list(items):
            return items
        case "STRUCT", dict(members):
            return members
        case "LIST" | "STRUCT", str(text) if text.lstrip().startswith(("[", "{")):
            return _coerced(json.loads(text), kind)
    raise ValueError(kind)


def with_image_registry(spec: Mapping[str, Json], registry: str) -> dict[str, Json]:
    """A copy of the pipeline spec whose images come from `registry`, e.g. `registry.example.com/team`.

    A registry host that an image names already is replaced; an image that is itself a placeholder stays.
    """
    changed = copy.deepcopy(dict(spec))
    for container in _containers(changed):
        image = str(container["image"])
        host, slash, rest = image.partition("/")
        has_host = bool(slash) and (host == "localhost" or "." in host or ":" in host)
        if PLACEHOLDER not in image:
            container["image"] = f"{registry.rstrip('/')}/{rest if has_host else image}"
    return changed


def _containers(spec: dict[str, Json]) -> Iterator[dict[str, Json]]:
    executors = _mapping(_mapping(spec["deploymentSpec"], "deploymentSpec").get("executors", {}), "executors")
    for name, executor in executors.items():
        container = _mapping(executor, name).get("container")
        if container is not None:
            yield _mapping(container, name)
