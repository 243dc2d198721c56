"""Takes texts, objects and roles out of one line's JSON object and notes everything that is not as expected."""

from collections.abc import Iterator, Mapping, Set

from tuneline.data.conversation import Role
from tuneline.data.problems import Finding, kind_of, pointer_step, quoted
from tuneline.errors import did_you_mean

Object = dict[str, object]

MEDIA_KEYS = frozenset({"fileData", "file_data", "inlineData", "inline_data", "image_url", "image"})


class ObjectReader:
    """Reads one line; what is wrong gathers in `findings`."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def report(self, pointer: str, rule: str, message: str) -> None:
        self.findings.append(Finding(pointer, rule, message))

    def only_keys(self, values: Object, pointer: str, known: Set[str]) -> None:
        """Report every key that the format does not have."""
        if values.keys() <= known:
            return
        for key in sorted(values.keys() - known):
            if key in MEDIA_KEYS:
                self.media(pointer + pointer_step(key), key)
            else:
                hint = did_you_mean(key, known - values.keys()) or f" Known here: {', '.join(sorted(known))}."
                self.report(pointer + pointer_step(key), "unknown-key", f"unknown key {quoted(key)}.{hint}")

    def media(self, pointer: str, name: str) -> None:
        """Report a picture or file."""
        self.report(pointer, "media-not-supported", f"{quoted(name)} is media; only text can be tuned here. Leave the example out.")

    def has(self, values: Object, key: str, pointer: str, kind: type, expected: str) -> bool:
        """Whether `values[key]` is there and of the right type; reported when not."""
        if type(values.get(key)) is kind:
            return True
        if key not in values:
            self.report(pointer, "missing-field", f"{key!r} is missing; expected {expected}.")
        elif values[key] is None:
            self.report(f"{pointer}/{key}", "null-value", f"{key!r} is null; expected {expected}.")
        else:
            self.report(f"{pointer}/{key}", "wrong-type", f"{key!r} is {kind_of(values[key])}; expected {expected}.")
        return False

    def text(self, values: Object, key: str, pointer: str) -> str:
        """`values[key]`, which must be a text with something in it."""
        text = values.get(key)
        if type(text) is not str:
            self.has(values, key, pointer, str, "a text")
            return ""
        if not text or text.isspace():
            self.empty(f"{pointer}/{key}", key)
        return text

    def empty(self, pointer: str, name: str) -> None:
        """Report a text without anything in it."""
        self.report(pointer, "empty-content", f"{name!r} is empty or white space only; expected text. Fill it or leave the example out.")

    def objects(self, values: Object, key: str, pointer: str) -> Iterator[tuple[str, Object]]:
        """Pointer and value of each object of the list `values[key]`, which must not be empty."""
        items = values.get(key)
        if not isinstance(items, list):
            self.has(values, key, pointer, list, "a list of objects")
            return
        if not items:
            self.report(f"{pointer}/{key}", "empty-content", f"{key!r} is an empty list; expected at least one object.")
        for index, item in enumerate(items):
            if isinstance(item, dict):
                yield f"{pointer}/{key}/{index}", item
            else:
                self.report(f"{pointer}/{key}/{index}", "wrong-type", f"{kind_of(item)} stands in {key!r}; expected an object.")

    def role(self, message: Object, key: str, pointer: str, roles: Mapping[str, Role]) -> Role | None:
        """Who speaks, or nothing when that cannot be told."""
        expected = " or ".join(map(repr, roles))
        name = message.get(key)
        if type(name) is not str:
            self.has(message, key, pointer, str, expected)
            return None
        if name not in roles:
            self.report(f"{pointer}/{key}", "wrong-role", f"{key!r} is {quoted(name)}; expected {expected}.")
        return roles.get(name)
