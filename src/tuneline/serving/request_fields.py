"""Reading a JSON request key by key, so that every problem is reported at once and by its place in the request.

Client libraries differ in spelling (`maxOutputTokens`, `max_tokens`) and send numbers as floats. What we cannot do is refused by
name, unless it is sent switched off (null, false, 0 or empty), as several libraries do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

from tuneline.data.conversation import Role, Turn
from tuneline.errors import did_you_mean
from tuneline.serving.prompts import Sampling

MAX_ANSWERS = 8
MAX_STOP_SEQUENCES = 16
LARGEST = 2**53
"""Beyond it a number that came as a float may be another one."""
ROLES: Mapping[str, Role] = {role: role for role in get_args(Role)} | {"bot": "assistant", "model": "assistant", "developer": "system"}


class Fields:
    """The keys of one JSON object. Each is taken once; `finish` reports those that nobody knows."""

    def __init__(self, value: object, where: str, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        self._values = value if isinstance(value, dict) else {}
        self._known: set[str] = set()
        if not isinstance(value, dict):
            self.report("", f"found {_kind(value)}; expected an object.")
            self.problems = []  # whatever it lacks besides follows from this

    def place(self, name: str) -> str:
        """`instances[0].prompt`"""
        return f"{self.where}.{name}".strip(".")

    def report(self, name: str, problem: str) -> None:
        self.problems.append(f"{self.place(name) or 'body'}: {problem}")

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def take(self, *names: str) -> tuple[str, object]:
        """The name that was used and its value; null is as good as absent."""
        self._known.update(names)
        given = [name for name in names if self.has(name)]
        if len(given) > 1:
            self.report(given[1], f"means the same as {given[0]!r}; give one of them.")
        return (given[0], self._values[given[0]]) if given else (names[0], None)

    def number(self, *names: str, low: float, high: float, default: float) -> float:
        name, value = self.take(*names)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.report(name, f"found {_shown(value)}; expected a number from {low:g} to {high:g}.")
            return default
        return float(value)

    def whole_number(self, *names: str, low: int, high: int = LARGEST) -> int | None:
        name, value = self.take(*names)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or value != int(value):
            self.report(name, f"found {_shown(value)}; expected a whole number from {low} {'up' if high == LARGEST else f'to {high}'}.")
            return None
        return int(value)

    def flag(self, name: str) -> bool:
        _, value = self.take(name)
        if value is not None and not isinstance(value, bool):
            self.report(name, f"found {_shown(value)}; expected true or false.")
        return value is True

    def text(self, name: str) -> str:
        """Text, also when it comes as a list of text parts."""
        return read_text(self.take(name)[1], self.place(name), self.problems)

    def texts(self, *names: str) -> tuple[str, ...] | None:
        """One text or several, none of them empty."""
        name, value = self.take(*names)
        if value is None:
            return None
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) and text for text in values):
            self.report(name, "expected a text or a list of texts, none of them empty.")
            return None
        return tuple(values)

    def list(self, name: str) -> Sequence[object]:
        _, value = self.take(name)
        if not isinstance(value, list) or not value:
            self.report(name, f"found {_kind(value)}; expected a list with at least one element.")
            return []
        return value

    def refuse(self, advice: str, *names: str) -> None:
        """Report what is asked for and cannot be had."""
        for name in names:
            if self.take(name)[1] not in (None, False, 0, "", [], {}):
                self.report(name, f"not supported. {advice}".rstrip())

    def ignore(self, *names: str) -> None:
        """Accept what has no effect on an answer."""
        self._known.update(names)

    def finish(self) -> None:
        for name in self._values:
            if name not in self._known:
                self.report(name, f"unknown field.{did_you_mean(name, self._known)}")


def read_sampling(fields: Fields, default: Sampling) -> Sampling:
    """The sampling parameters in any of their spellings."""
    max_tokens = fields.whole_number("maxOutputTokens", "maxDecodeSteps", "max_tokens", "max_completion_tokens", low=1)
    top_k = fields.whole_number("topK", "top_k", low=-1)
    seed = fields.whole_number("seed", low=-LARGEST)
    stop = fields.texts("stopSequences", "stop")
    if stop is not None and len(stop) > MAX_STOP_SEQUENCES:
        fields.report("stop", f"{len(stop)} stop sequences; expected at most {MAX_STOP_SEQUENCES}.")
    sampling = replace(
        default,
        temperature=fields.number("temperature", low=0, high=2, default=default.temperature),
        top_p=fields.number("topP", "top_p", low=1e-6, high=1, default=default.top_p),
    )
    given = {"max_tokens": max_tokens, "top_k": None if top_k is None else max(top_k, 0), "seed": seed, "stop": stop}
    return replace(sampling, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]  # each has its field's type


def read_turns(messages: Sequence[object], where: str, context: str, problems: list[str]) -> tuple[Turn, ...]:
    """Turns of a conversation that the model is to continue: as in training, user and assistant in turn after an optional system turn."""
    turns = [Turn("system", context)] if context else []
    num_before = len(problems)
    for index, message in enumerate(messages):
        fields = Fields(message, f"{where}[{index}]", problems)
        name, author = fields.take("role", "author")
        role = ROLES.get(author) if isinstance(author, str) else None
        if role is None:
            fields.report(name, f"found {_shown(author)}; expected one of {', '.join(sorted(ROLES))}.")
        content = fields.text("content")
        fields.ignore("name")
        fields.refuse("Only text is supported.", "tool_calls", "tool_call_id", "function_call", "refusal", "audio", "citationMetadata")
        fields.finish()
        turns.append(Turn(role or "user", content))
    found = [turn.role for turn in turns]
    talk = found[1:] if found[:1] == ["system"] else found
    if messages and len(problems) == num_before and talk != [*["user", "assistant"] * (len(talk) // 2), "user"]:
        problems.append(f"{where}: found {', '.join(found)}; expected user and assistant in turn, user first and last, after one system at most.")
    return tuple(turns)


def read_text(value: object, where: str, problems: list[str]) -> str:
    """A text that is not empty, given as such or as a list of text parts."""
    parts = value if isinstance(value, list) else [{"type": "text", "text": value}]
    texts: list[str] = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        texts += [text] if isinstance(text, str) else []
    if len(texts) < len(parts) or not any(texts):
        kinds = {str(part.get("type")) for part in parts if isinstance(part, dict)} - {"text"}
        found = f"parts of type {', '.join(sorted(kinds))}" if kinds else "an empty text" if value == "" else _kind(value)
        problems.append(f"{where}: found {found}; expected text that is not empty.")
        return ""
    return "".join(texts)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}
    return "an empty list" if value == [] else names.get(type(value), "something else")


def _shown(value: object) -> str:
    """A value that may be shown: a request's texts may hold what nobody else should read."""
    return repr(value) if isinstance(value, int | float) else repr(value[:20]) if isinstance(value, str) else _kind(value)
