"""Find a compiled template, give its parameters their types, and point its images to another registry. No kfp needed."""

import copy
import hashlib
import itertools
import json
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tuneline.errors import ParameterError, TemplateError, UsageError, UserError, did_you_mean
from tuneline.image_references import DIGEST, names_image, repository_and_tag, without_registry
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
IMAGE_FLAGS = ("-image", "-image-uri")
"""How the flags of a container end that are followed by an image reference."""

_VERSION = re.compile(r"\bTuneline (\d[\w.+!-]*\w)")
_OWN_IMAGE = re.compile(r"(?:^|/)tuneline/[^/:@]+:([^/:@]+)")


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
    text: str = field(default="", repr=False)
    """The file, to the byte in UTF-8."""

    @property
    def digest(self) -> str:
        """`sha256:...` of the file's bytes; a repository of templates calls that a version."""
        return digest_of(self.text.encode("utf-8"))

    @property
    def version(self) -> str:
        """The Tuneline that compiled it: as its description says, else as the tags of Tuneline's images do. Empty when neither tells."""
        info = _mapping(self.spec["pipelineInfo"], "pipelineInfo")
        if stated := _VERSION.search(str(info.get("description", ""))):
            return stated[1]
        tags = {found[1] for image in images(self.spec) if (found := _OWN_IMAGE.search(image))}
        return tags.pop() if len(tags) == 1 else ""


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


def load(reference: str, *, pull: Callable[[str], bytes] | None = None) -> Template:
    """The template behind a name, a .yaml file or a URI: hosted templates are built in, `pull` fetches any other one, where it is given."""
    if reference in HOSTED:
        return load(HOSTED[reference])
    if "://" not in reference:
        content = _content(reference)
    elif pull is None or reference.startswith(HOSTED_PREFIX):
        raise TemplateError(
            f"{reference}: this template is not built in.{did_you_mean(reference, HOSTED)} Built in are {', '.join(HOSTED)}.",
            next_action="Fetch any other template (from a registry: tuneline template pull URI) and give its path.",
        )
    else:
        content = pull(reference)
    return read_bytes(content, reference)


def _content(reference: str) -> bytes:
    file = Path(reference) if reference.endswith((".yaml", ".yml", ".json")) else path(reference)
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(reference, error) from None


def _unreadable(reference: str, error: Exception) -> TemplateError:
    return TemplateError(f"{reference}: cannot be read ({error}). Expected a compiled pipeline, or the name of one: {', '.join(names())}.")


def digest_of(content: bytes) -> str:
    """`sha256:...` of a file's bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read_bytes(content: bytes, source: str) -> Template:
    """The template in a file's bytes; `source` names it in errors."""
    try:
        return read(content.decode("utf-8"), source)
    except UnicodeDecodeError as error:
        raise _unreadable(source, error) from None


def read(text: str, source: str) -> Template:
    """The template in `text`; `source` names it in errors."""
    try:
        # The C loader is ten times as fast, but not in every build of PyYAML. Both are safe: they make plain values only.
        document = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text).get_single_data()
    except yaml.YAMLError as error:
        raise TemplateError(f"{source}: is not one YAML document ({' '.join(str(error).split())}).") from None
    return template_of(document, source, text)


def template_of(document: object, source: str, text: str = "") -> Template:
    """The template in a document that was read already; without its text it has no digest."""
    spec = _mapping(document, source)
    if not {"pipelineInfo", "root", "deploymentSpec", "components"} <= spec.keys():
        raise TemplateError(
            f"{source}: is not a compiled pipeline; expected the keys pipelineInfo, root, deploymentSpec and components. Compile it with kfp 2."
        )
    name = _mapping(spec["pipelineInfo"], f"{source}: pipelineInfo").get("name")
    definitions = _mapping(_mapping(spec["root"], f"{source}: root").get("inputDefinitions", {}), f"{source}: inputDefinitions")
    parameters = _mapping(definitions.get("parameters", {}), f"{source}: parameters")
    inputs = {key: _input(key, definition, source) for key, definition in parameters.items()}
    return Template(name=str(name), spec=spec, inputs=inputs, text=text)


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


def text_of(template: Template, spec: Mapping[str, Json]) -> str:
    """The text of `template` with another spec: the comments that it opens with, then one document as kfp writes it."""
    comments = itertools.takewhile(lambda line: line.startswith("#"), template.text.splitlines(keepends=True))
    return "".join(comments) + yaml.safe_dump(dict(spec), sort_keys=True)


def images(spec: Mapping[str, Json]) -> tuple[str, ...]:
    """The image references of a pipeline spec, each once: the containers' own, and those that arguments name."""
    found: dict[str, None] = {}

    def note(image: str) -> str:
        found[image] = None
        return image

    _with_images(spec, note)
    return tuple(found)


def replace_template_images(template: Template, image: str) -> Template:
    """The template with all of its containers in this image."""
    return replace(template, spec=_with_images(template.spec, lambda _: image))


def with_caching_options(spec: Mapping[str, Json], options: Mapping[str, Json]) -> dict[str, Any]:
    """A copy of the spec in which every task, in whatever group, has these caching options. None at all mean that it is run each time, too."""
    changed: dict[str, Any] = copy.deepcopy(dict(spec))
    for component in (changed["root"], *changed["components"].values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = dict(options)
    return changed


def with_image_registry(spec: Mapping[str, Json], registry: str) -> dict[str, Json]:
    """A copy of the pipeline spec whose images come from `registry`, e.g. `registry.example.com/team`.

    So do the images that arguments name: what follows a flag that ends in `-image` or `-image-uri`. A registry host that an image names
    already is replaced; an image that is itself a placeholder stays.
    """
    return _with_images(spec, lambda image: f"{registry.rstrip('/')}/{without_registry(image)}")


def with_image_digests(spec: Mapping[str, Json], digests: Mapping[str, str]) -> dict[str, Json]:
    """A copy of the pipeline spec whose images are pinned: `@sha256:...` takes the place of the tag.

    `digests` is by image reference, with or without the tag and any leading part: `tuneline/base:0.1.0` or `base` stand for
    `registry.example.com/tuneline/base:0.1.0`. Images that none names stay as they are. Raises `UserError` with all problems.
    """
    known = images(spec)
    problems = [f"{key}: {value!r} is no digest; expected sha256: and 64 hexadecimal digits." for key, value in digests.items() if not DIGEST.fullmatch(value)]
    pins: dict[str, str] = {}
    for key, value in digests.items():
        fitting = [image for image in known if names_image(key, image)]
        if len(fitting) != 1:
            problems.append(f"{key!r} names {len(fitting)} images of the template; expected one of {', '.join(known)}.")
        elif pins.setdefault(fitting[0], value) != value:
            problems.append(f"{fitting[0]} has two digests: {pins[fitting[0]]} and {value}.")
    if problems:
        raise UserError(*problems)
    return _with_images(spec, lambda image: f"{repository_and_tag(image)[0]}@{pins[image]}" if image in pins else image)


def _with_images(spec: Mapping[str, Json], change: Callable[[str], str]) -> dict[str, Json]:
    changed = copy.deepcopy(dict(spec))
    for container in _containers(changed):
        container["image"] = change(str(container["image"])) if _is_image(container["image"]) else container["image"]
        for name in ("command", "args"):
            words = container.get(name)
            if isinstance(words, list):
                pairs = zip([None, *words], words, strict=False)
                container[name] = [change(str(word)) if _takes_image(before) and _is_image(word) else word for before, word in pairs]
    return changed


def _takes_image(word: Json) -> bool:
    return isinstance(word, str) and word.startswith("--") and word.endswith(IMAGE_FLAGS)


def _is_image(value: Json) -> bool:
    """Whether it is a reference that can be changed: no placeholder, and after a flag neither another flag, nor a URI, nor nothing."""
    return isinstance(value, str) and value != "" and not value.startswith("-") and PLACEHOLDER not in value and "://" not in value


def _containers(spec: dict[str, Json]) -> Iterator[dict[str, Json]]:
    executors = _mapping(_mapping(spec["deploymentSpec"], "deploymentSpec").get("executors", {}), "executors")
    for name, executor in executors.items():
        container = _mapping(executor, name).get("container")
        if container is not None:
            yield _mapping(container, name)
