"""Strict reading of a parsed YAML document: every mapping knows its place, and every finding is collected instead of raised."""

from collections.abc import Collection, Mapping

from tuneline.errors import did_you_mean
from tuneline.local.values import json_value
from tuneline.templates import Json

REFUSED = {
    "artifactIterator": "a loop over artifacts (ParallelFor)",
    "parameterIterator": "a loop over parameters (ParallelFor)",
    "iteratorPolicy": "a loop (ParallelFor)",
    "taskFinalStatus": "an exit handler (ExitHandler)",
    "parameterExpressionSelector": "an expression over a parameter",
    "importer": "an importer (dsl.importer); pass the artifact's URI as a parameter instead",
    "resolver": "a resolver",
    "customJob": "a custom job executor",
    "singlePlatformSpecs": "a platform-specific component",
    "taskConfigPassthroughs": "task configuration (TaskConfig)",
    "cacheKey": "a cache key of its own",
    "runtimeParameter": "a runtime parameter",
    "constantValue": "a value of the specification's first form; compile the template with KFP 2",
}


class Place:
    """One mapping of the document, and where it stands."""

    def __init__(self, value: object, name: str, problems: list[str]) -> None:
        self.name = name
        self.problems = problems
        self.content: Mapping[str, object] = {}
        if isinstance(value, Mapping):
            self.content = {str(key): item for key, item in value.items()}
        elif value is not None:
            self.refuse(f"{name} is a {type(value).__name__}; it must be a mapping.")

    def __contains__(self, key: str) -> bool:
        return key in self.content

    def refuse(self, problem: str) -> None:
        """Note a problem; reading goes on, so that all of them are told at once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def only(self, *known: str, inert: Collection[str] = ()) -> None:
        """Refuse, by name, every key that is neither read nor known to have no effect on this machine."""
        for key in self.content:
            if key in REFUSED:
                self.refuse(f"{self.name}: {key} is {REFUSED[key]}, which the embedded engine does not run.")
            elif key not in known and key not in inert:
                self.refuse(f"{self.name}: unknown key {key!r}.{did_you_mean(key, known)}")

    def child(self, key: str) -> "Place":
        """The mapping under `key`, or an empty one."""
        return Place(self.content.get(key), f"{self.name}.{key}", self.problems)

    def children(self, key: str) -> dict[str, "Place"]:
        """The mappings under `key`, by their names."""
        inner = self.child(key)
        return {name: inner.child(name) for name in inner.content}

    def elements(self, key: str) -> list["Place"]:
        """The mappings in the list under `key`."""
        return [Place(item, f"{self.name}.{key}[{index}]", self.problems) for index, item in enumerate(self._list(key))]

    def text(self, key: str, default: str | None = None) -> str:
        """The text under `key`."""
        value = self.content.get(key, default)
        if not isinstance(value, str):
            self.refuse(f"{self.name}: {key} is {'missing' if value is None else repr(value)}; it must be a text.")
            return ""
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of texts under `key`, or an empty one."""
        found = self._list(key)
        for item in found:
            if not isinstance(item, str):
                self.refuse(f"{self.name}: {key} holds {item!r}; every entry must be a text.")
        return tuple(item for item in found if isinstance(item, str))

    def number(self, key: str, default: float) -> float:
        """The number under `key`."""
        value = self.content.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(f"{self.name}: {key} is {value!r}; it must be a number.")
            return default
        return float(value)

    def seconds(self, key: str, default: float) -> float:
        """The duration under `key`, written like `5s`."""
        value = self.text(key, f"{default}s")
        try:
            return float(value.removesuffix("s"))
        except ValueError:
            self.refuse(f"{self.name}: {key} is {value!r}; it must be seconds, like '5s'.")
            return default

    def json(self, key: str) -> Json:
        """Any JSON value under `key`."""
        try:
            return json_value(self.content.get(key))
        except ValueError as error:
            self.refuse(f"{self.name}: {key}: {error}.")
            return None

    def _list(self, key: str) -> list[object]:
        value = self.content.get(key, [])
        if not isinstance(value, list):
            self.refuse(f"{self.name}: {key} is a {type(value).__name__}; it must be a list.")
            return []
        return value
