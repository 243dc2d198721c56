"""The five data formats, each read into one `Conversation`.

input-output       {"input_text": "...", "output_text": "..."}
author-chat        {"context": "...", "messages": [{"author": "user", "content": "..."}, {"author": "assistant", ...}]}
prompt-completion  {"prompt": "...", "completion": "..."}
messages           {"messages": [{"role": "system", "content": "..."}, {"role": "user", ...}, {"role": "assistant", ...}]}
generate-content   {"systemInstruction": {"parts": [{"text": "..."}]}, "contents": [{"role": "user", "parts": [...]}, ...]}
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tuneline.data.conversation import Conversation, Role, Turn
from tuneline.data.object_reader import Object, ObjectReader
from tuneline.data.problems import Finding, kind_of, quoted
from tuneline.errors import did_you_mean

FORMATS: Mapping[str, str] = {
    "input-output": "input_text and output_text",
    "author-chat": "messages with author and content",
    "prompt-completion": "prompt and completion",
    "messages": "messages with role and content",
    "generate-content": "contents with role and parts",
}
FORMAT_OF_KEY: Mapping[str, str] = {
    "input_text": "input-output",
    "output_text": "input-output",
    "context": "author-chat",
    "prompt": "prompt-completion",
    "completion": "prompt-completion",
    "messages": "messages",
    "contents": "generate-content",
    "systemInstruction": "generate-content",
}
AUTHORS: Mapping[str, Role] = {"user": "user", "assistant": "assistant"}
ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
CONTENT_ROLES: Mapping[str, Role] = {"user": "user", "model": "assistant", "assistant": "assistant"}
SYSTEM_ROLES: Mapping[str, Role] = {"system": "system", "user": "system"}
"""The service ignores the role of an instruction; its own examples write one of these."""

INPUT_OUTPUT_KEYS = frozenset({"input_text", "output_text"})
AUTHOR_CHAT_KEYS = frozenset({"context", "messages"})
AUTHOR_KEYS = frozenset({"author", "content"})
PROMPT_COMPLETION_KEYS = frozenset({"prompt", "completion"})
MESSAGES_KEYS = frozenset({"messages"})
MESSAGE_KEYS = frozenset({"role", "content"})
GENERATE_CONTENT_KEYS = frozenset({"systemInstruction", "contents"})
CONTENT_KEYS = frozenset({"role", "parts"})
TYPED_PART_KEYS = frozenset({"type", "text"})
PART_KEYS = frozenset({"text"})

Said = tuple[str, Role | None, str]
"""Pointer, speaker if known, and text of one turn."""


class Read(NamedTuple):
    """What one line says."""

    data_format: str
    """Empty when the line fits no format."""
    conversation: Conversation | None
    """Nothing when there are findings."""
    findings: Sequence[Finding]
    num_turns: int = 0
    """`author` fields of author-chat, without the context."""


def read_object(value: object, default_context: str = "", expected_format: str = "") -> Read:
    """The conversation of one line's JSON value. `default_context` is the system turn of a line that has none of its own.

    `expected_format`, the file's, decides only what a line with `messages` was meant to be when its messages do not say.
    """
    if not isinstance(value, dict):
        return Read("", None, [Finding("", "not-an-object", f"the line is {kind_of(value)}; expected an object with {_choices()}.")])
    data_format, findings = _format_of(value, expected_format)
    if findings:
        return Read(data_format, None, findings)
    reader = ObjectReader()
    context, said = READERS[data_format](reader, value)
    if not reader.findings:
        _check_order(reader, said)
    if reader.findings:
        return Read(data_format, None, reader.findings, len(said))
    turns = [Turn(role, text) for _, role, text in said if role]
    if context is None:
        context = default_context
    if context:
        turns.insert(0, Turn("system", context))
    return Read(data_format, Conversation(tuple(turns)), (), len(said))


def _choices() -> str:
    return "; or ".join(FORMATS.values())


def _format_of(value: Object, expected: str) -> tuple[str, list[Finding]]:
    """The one format that the keys belong to, or why there is not one."""
    found = {FORMAT_OF_KEY[key] for key in value if key in FORMAT_OF_KEY}
    if "messages" in value:
        keys = {key for message in _dicts(value["messages"]) for key in message}
        if "author" in keys and "role" in keys:
            return "", [Finding("/messages", "two-formats-in-line", "messages with both 'author' and 'role'; use one of the two throughout.")]
        if "author" in keys or ("role" not in keys and ("context" in value or expected == "author-chat")):
            found = found - {"messages"} | {"author-chat"}
        elif "context" in value:
            return "messages", [Finding("/context", "unknown-key", "'context' belongs to messages with 'author'; with 'role', use a first message 'system'.")]
    if len(found) == 1:
        return found.pop(), []
    if found:
        names = ", ".join(sorted(key for key in value if key in FORMAT_OF_KEY))
        return "", [Finding("", "two-formats-in-line", f"keys of more than one format: {names}. Expected {_choices()}.")]
    shown = ", ".join(quoted(key) for key in list(value)[:5]) or "none"
    hint = next((near for key in value if (near := did_you_mean(key, FORMAT_OF_KEY))), "")
    return "", [Finding("", "unknown-format", f"no key of a known format; found {shown}.{hint} Expected {_choices()}.")]


def _dicts(items: object) -> list[Object]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _check_order(reader: ObjectReader, said: Sequence[Said]) -> None:
    """User and assistant take turns, the user begins, the assistant ends."""
    before: Role = "assistant"
    for pointer, role, _ in said:
        if role == "system":
            reader.report(pointer, "wrong-order", "a 'system' turn after the first; only the first turn may be 'system'.")
            return
        if role == before:
            expected = "user" if role == "assistant" else "assistant"
            reader.report(pointer, "wrong-order", f"a turn of {role!r} where one of {expected!r} must come; user and assistant take turns, the user begins.")
            return
        before = role or before
    if said and before != "assistant":
        reader.report(
            said[-1][0], "last-turn-not-assistant", "the last turn is the user's; the last turn must be the assistant's, for that is what is learned."
        )
    elif not said:
        reader.report("", "last-turn-not-assistant", "there is no turn but 'system'; expected a user's turn and the assistant's answer.")


def _input_output(reader: ObjectReader, row: Object) -> tuple[str | None, list[Said]]:
    reader.only_keys(row, "", INPUT_OUTPUT_KEYS)
    return None, [("/input_text", "user", reader.text(row, "input_text", "")), ("/output_text", "assistant", reader.text(row, "output_text", ""))]


def _prompt_completion(reader: ObjectReader, row: Object) -> tuple[str | None, list[Said]]:
    reader.only_keys(row, "", PROMPT_COMPLETION_KEYS)
    return None, [("/prompt", "user", reader.text(row, "prompt", "")), ("/completion", "assistant", reader.text(row, "completion", ""))]


def _author_chat(reader: ObjectReader, row: Object) -> tuple[str | None, list[Said]]:
    reader.only_keys(row, "", AUTHOR_CHAT_KEYS)
    context: str | None = None
    if "context" in row and reader.has(row, "context", "", str, "a text"):
        context = str(row["context"])
        context = "" if context.isspace() else context
    said: list[Said] = []
    for pointer, message in reader.objects(row, "messages", ""):
        reader.only_keys(message, pointer, AUTHOR_KEYS)
        said.append((pointer, reader.role(message, "author", pointer, AUTHORS), reader.text(message, "content", pointer)))
    return context, said


def _messages(reader: ObjectReader, row: Object) -> tuple[str | None, list[Said]]:
    reader.only_keys(row, "", MESSAGES_KEYS)
    said: list[Said] = []
    for pointer, message in reader.objects(row, "messages", ""):
        reader.only_keys(message, pointer, MESSAGE_KEYS)
        role = reader.role(message, "role", pointer, ROLES)
        text = _typed_parts(reader, message, pointer) if isinstance(message.get("content"), list) else reader.text(message, "content", pointer)
        said.append((pointer, role, text))
    return _without_system(said)


def _generate_content(reader: ObjectReader, row: Object) -> tuple[str | None, list[Said]]:
    reader.only_keys(row, "", GENERATE_CONTENT_KEYS)
    context: str | None = None
    instruction = row.get("systemInstruction", {})
    if not isinstance(instruction, dict):
        reader.has(row, "systemInstruction", "", dict, "an object with parts")
    elif "systemInstruction" in row:
        reader.only_keys(instruction, "/systemInstruction", CONTENT_KEYS)
        if "role" in instruction:
            reader.role(instruction, "role", "/systemInstruction", SYSTEM_ROLES)
        context = _parts(reader, instruction, "/systemInstruction")
    said: list[Said] = []
    for pointer, content in reader.objects(row, "contents", ""):
        reader.only_keys(content, pointer, CONTENT_KEYS)
        said.append((pointer, reader.role(content, "role", pointer, CONTENT_ROLES), _parts(reader, content, pointer)))
    return context, said


def _without_system(said: list[Said]) -> tuple[str | None, list[Said]]:
    if said and said[0][1] == "system":
        return said[0][2], said[1:]
    return None, said


def _typed_parts(reader: ObjectReader, message: Object, pointer: str) -> str:
    """The text of `[{"type": "text", "text": "..."}]`."""
    texts: list[str] = []
    for place, part in reader.objects(message, "content", pointer):
        kind = part.get("type")
        if type(kind) is not str:
            reader.has(part, "type", place, str, "'text'")
        elif kind == "text":
            reader.only_keys(part, place, TYPED_PART_KEYS)
            texts.append(_part_text(reader, part, place))
        else:
            reader.media(f"{place}/type", kind)
    return _joined(reader, texts, f"{pointer}/content", "content")


def _parts(reader: ObjectReader, content: Object, pointer: str) -> str:
    """The text of `{"parts": [{"text": "..."}]}`."""
    texts: list[str] = []
    for place, part in reader.objects(content, "parts", pointer):
        reader.only_keys(part, place, PART_KEYS)
        if "text" in part or not part:
            texts.append(_part_text(reader, part, place))
    return _joined(reader, texts, f"{pointer}/parts", "parts")


def _part_text(reader: ObjectReader, part: Object, place: str) -> str:
    return str(part["text"]) if reader.has(part, "text", place, str, "a text") else ""


def _joined(reader: ObjectReader, texts: Sequence[str], pointer: str, name: str) -> str:
    """Several parts are one text, without a separator. One part may be white space; all together may not."""
    text = "".join(texts)
    if not reader.findings and (not text or text.isspace()):
        reader.empty(pointer, name)
    return text


READERS: Mapping[str, Callable[[ObjectReader, Object], tuple[str | None, list[Said]]]] = {
    "input-output": _input_output,
    "author-chat": _author_chat,
    "prompt-completion": _prompt_completion,
    "messages": _messages,
    "generate-content": _generate_content,
}
