import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneline.data.conversation import Conversation, Role, Turn
from tuneline.data.formats import FORMATS, read_object

USER: dict[str, object] = {"role": "user", "content": "q"}
ASSISTANT: dict[str, object] = {"role": "assistant", "content": "a"}
SYSTEM: dict[str, object] = {"role": "system", "content": "s"}


def authors(*pairs: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"author": author, "content": content} for author, content in pairs]}


def contents(*pairs: tuple[str, object]) -> dict[str, object]:
    return {"contents": [{"role": role, "parts": [{"text": text}]} for role, text in pairs]}


BAD = [
    ("number", 5, "not-an-object", ""),
    ("list", [USER], "not-an-object", ""),
    ("null", None, "not-an-object", ""),
    ("no keys", {}, "unknown-format", ""),
    ("other keys", {"question": "q", "answer": "a"}, "unknown-format", ""),
    ("misspelt keys", {"input_txt": "q", "output_txt": "a"}, "unknown-format", ""),
    ("two formats", {"prompt": "q", "completion": "a", "input_text": "q"}, "two-formats-in-line", ""),
    ("contents and messages", {"contents": [], "messages": [USER, ASSISTANT]}, "two-formats-in-line", ""),
    ("author and role", {"messages": [{"author": "user", "content": "q"}, ASSISTANT]}, "two-formats-in-line", "/messages"),
    ("unknown key beside", {"input_text": "q", "output_text": "a", "weight": 1}, "unknown-key", "/weight"),
    ("unknown key in a message", {"messages": [USER, {**ASSISTANT, "name": "x"}]}, "unknown-key", "/messages/1/name"),
    ("context beside roles", {"context": "c", "messages": [USER, ASSISTANT]}, "unknown-key", "/context"),
    ("missing output", {"input_text": "q"}, "missing-field", ""),
    ("missing completion", {"prompt": "q"}, "missing-field", ""),
    ("missing content", {"messages": [USER, {"role": "assistant"}]}, "missing-field", "/messages/1"),
    ("missing author", {"messages": [{"author": "user", "content": "q"}, {"content": "a"}]}, "missing-field", "/messages/1"),
    ("missing messages", {"context": "c"}, "missing-field", ""),
    ("missing parts", {"contents": [{"role": "user"}]}, "missing-field", "/contents/0"),
    ("missing text in a part", {"contents": [{"role": "user", "parts": [{}]}]}, "missing-field", "/contents/0/parts/0"),
    ("null output", {"input_text": "q", "output_text": None}, "null-value", "/output_text"),
    ("null content", {"messages": [USER, {"role": "assistant", "content": None}]}, "null-value", "/messages/1/content"),
    ("null context", {"context": None, **authors(("user", "q"), ("assistant", "a"))}, "null-value", "/context"),
    ("null role", {"messages": [{"role": None, "content": "q"}, ASSISTANT]}, "null-value", "/messages/0/role"),
    ("null messages", {"messages": None}, "null-value", "/messages"),
    ("null instruction", {"systemInstruction": None, **contents(("user", "q"), ("model", "a"))}, "null-value", "/systemInstruction"),
    ("number for text", {"input_text": 3, "output_text": "a"}, "wrong-type", "/input_text"),
    ("true for text", {"prompt": "q", "completion": True}, "wrong-type", "/completion"),
    ("list for text", {"prompt": ["q"], "completion": "a"}, "wrong-type", "/prompt"),
    ("object for messages", {"messages": {"role": "user"}}, "wrong-type", "/messages"),
    ("text for a message", {"messages": ["hello", ASSISTANT]}, "wrong-type", "/messages/0"),
    ("number for a role", {"messages": [{"role": 1, "content": "q"}, ASSISTANT]}, "wrong-type", "/messages/0/role"),
    ("text for an instruction", {"systemInstruction": "s", **contents(("user", "q"), ("model", "a"))}, "wrong-type", "/systemInstruction"),
    ("text for a part", {"contents": [{"role": "user", "parts": ["q"]}]}, "wrong-type", "/contents/0/parts/0"),
    ("empty output", {"input_text": "q", "output_text": ""}, "empty-content", "/output_text"),
    ("white space output", {"input_text": "q", "output_text": " \n\t"}, "empty-content", "/output_text"),
    ("empty content", {"messages": [{"role": "user", "content": ""}, ASSISTANT]}, "empty-content", "/messages/0/content"),
    ("empty messages", {"messages": []}, "empty-content", "/messages"),
    ("empty parts", {"contents": [{"role": "user", "parts": []}]}, "empty-content", "/contents/0/parts"),
    ("empty typed parts", {"messages": [{"role": "user", "content": []}, ASSISTANT]}, "empty-content", "/messages/0/content"),
    ("white space in all parts", {"messages": [{**USER, "content": [{"type": "text", "text": " "}]}, ASSISTANT]}, "empty-content", "/messages/0/content"),
    ("empty system", {"messages": [{"role": "system", "content": ""}, USER, ASSISTANT]}, "empty-content", "/messages/0/content"),
    ("wrong author", authors(("human", "q"), ("assistant", "a")), "wrong-role", "/messages/0/author"),
    ("system author", authors(("system", "s"), ("user", "q")), "wrong-role", "/messages/0/author"),
    ("wrong role", {"messages": [{"role": "developer", "content": "q"}, ASSISTANT]}, "wrong-role", "/messages/0/role"),
    ("wrong content role", contents(("user", "q"), ("bot", "a")), "wrong-role", "/contents/1/role"),
    ("system in the middle", {"messages": [USER, SYSTEM, ASSISTANT]}, "wrong-order", "/messages/1"),
    ("two systems", {"messages": [SYSTEM, SYSTEM, USER, ASSISTANT]}, "wrong-order", "/messages/1"),
    ("assistant first", {"messages": [ASSISTANT, USER, ASSISTANT]}, "wrong-order", "/messages/0"),
    ("two users", {"messages": [USER, USER, ASSISTANT]}, "wrong-order", "/messages/1"),
    ("two assistants", authors(("user", "q"), ("assistant", "a"), ("assistant", "b")), "wrong-order", "/messages/2"),
    ("user last", {"messages": [USER, ASSISTANT, USER]}, "last-turn-not-assistant", "/messages/2"),
    ("user only", contents(("user", "q")), "last-turn-not-assistant", "/contents/0"),
    ("system only", {"messages": [SYSTEM]}, "last-turn-not-assistant", ""),
    ("image", {"messages": [{**USER, "content": [{"type": "image_url", "image_url": {}}]}, ASSISTANT]}, "media-not-supported", "/messages/0/content/0/type"),
    ("fileData", {"contents": [{"role": "user", "parts": [{"fileData": {}}]}]}, "media-not-supported", "/contents/0/parts/0/fileData"),
    ("file_data", {"contents": [{"role": "user", "parts": [{"text": "q"}, {"file_data": {}}]}]}, "media-not-supported", "/contents/0/parts/1/file_data"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "rule", "pointer"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_line_that_fits_no_format_is_named_by_rule_and_place(value: object, rule: str, pointer: str) -> None:
    read = read_object(value)
    assert read.conversation is None
    assert [(finding.rule, finding.pointer) for finding in read.findings] == [(rule, pointer)]


def test_all_findings_of_a_line_come_at_once() -> None:
    read = read_object({"messages": [{"role": "bot", "content": ""}, {"role": "assistant", "content": None, "extra": 1}, 7]})
    assert [finding.rule for finding in read.findings] == ["wrong-role", "empty-content", "unknown-key", "null-value", "wrong-type"]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ({"input_text": "q", "output_text": "a", "contxt": "c"}, "Known here"),
        ({"messages": [USER, {"role": "assistant", "contnet": "a"}]}, "Did you mean 'content'?"),
        ({"input_txt": "q", "output_txt": "a"}, "Did you mean 'input_text'?"),
        ({"system_instruction": {}, "contents": []}, "Did you mean 'systemInstruction'?"),
    ],
)
def test_a_misspelt_key_gets_a_hint(value: object, hint: str) -> None:
    assert any(hint in finding.message for finding in read_object(value).findings)


def test_literal_texts_that_look_like_missing_values_are_kept() -> None:
    for text in ("None", "nan", "null", "NaN", "0", "false"):
        read = read_object({"prompt": text, "completion": text})
        assert read.conversation == Conversation((Turn("user", text), Turn("assistant", text)))


def test_parts_are_joined_without_a_separator_and_may_be_white_space() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "\n"}, {"type": "text", "text": "b"}]
    read = read_object({"messages": [{"role": "user", "content": parts}, ASSISTANT]})
    assert read.conversation is not None
    assert read.conversation.question == "a\nb"


def test_the_default_context_is_the_system_turn_of_examples_without_their_own() -> None:
    for value in _same_talk("q", "a", None).values():
        read = read_object(value, "be brief")
        assert read.conversation is not None
        assert read.conversation.turns[0] == Turn("system", "be brief")


def test_an_own_context_wins_over_the_default_and_an_empty_one_means_none() -> None:
    own = read_object({"context": "own", **authors(("user", "q"), ("assistant", "a"))}, "default").conversation
    none = read_object({"context": "", **authors(("user", "q"), ("assistant", "a"))}, "default").conversation
    assert own is not None
    assert none is not None
    assert own.turns[0] == Turn("system", "own")
    assert none.turns[0] == Turn("user", "q")


def test_author_fields_are_counted_without_the_context() -> None:
    assert read_object({"context": "c", **authors(("user", "q"), ("assistant", "a"))}).num_turns == 2


def test_messages_that_say_no_format_are_taken_for_that_of_the_file() -> None:
    value = {"messages": [{"content": "q"}]}
    assert read_object(value).data_format == "messages"
    assert read_object(value, expected_format="author-chat").data_format == "author-chat"


def _same_talk(question: str, answer: str, context: str | None) -> dict[str, dict[str, object]]:
    """One single-turn talk in every format that can hold it."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    talks: dict[str, dict[str, object]] = {
        "author-chat": authors(("user", question), ("assistant", answer)) | ({"context": context} if context else {}),
        "messages": {"messages": [{"role": "system", "content": context}] * bool(context) + turns},
        "generate-content": contents(("user", question), ("model", answer)) | ({"systemInstruction": {"parts": [{"text": context}]}} if context else {}),
    }
    if not context:
        talks["input-output"] = {"input_text": question, "output_text": answer}
        talks["prompt-completion"] = {"prompt": question, "completion": answer}
    return talks


TEXT = st.text(min_size=1, max_size=20).filter(lambda text: not text.isspace())


@given(TEXT, TEXT, st.none() | TEXT)
def test_one_talk_is_one_conversation_in_all_five_formats(question: str, answer: str, context: str | None) -> None:
    talks = _same_talk(question, answer, context)
    assert len(talks) == (3 if context else len(FORMATS))
    reads = {name: read_object(value) for name, value in talks.items()}
    assert {name: read.data_format for name, read in reads.items()} == {name: name for name in talks}
    assert len({read.conversation for read in reads.values()}) == 1
    assert None not in {read.conversation for read in reads.values()}


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
def test_a_talk_of_many_turns_is_one_conversation_in_all_chat_formats(pairs: list[tuple[str, str]]) -> None:
    said: list[tuple[Role, str]] = [turn for question, answer in pairs for turn in (("user", question), ("assistant", answer))]
    typed = {"messages": [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said]}
    plain = {"messages": [{"role": role, "content": text} for role, text in said]}
    found = {read_object(value).conversation for value in (typed, plain, authors(*said), contents(*said))}
    assert found == {Conversation(tuple(Turn(role, text) for role, text in said))}


SPOILERS: list[Callable[[object], object]] = [
    lambda _: None,
    lambda _: 1,
    lambda _: "",
    lambda _: [],
    lambda _: {},
    lambda value: [value],
    lambda value: {"x": value},
]
KEYS = ["messages", "contents", "role", "author", "content", "parts", "text", "type", "context", "systemInstruction", "prompt"]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5) | st.sampled_from(["user", "assistant", "system", "model", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_json_gives_a_conversation_or_findings(value: object) -> None:
    read = read_object(json.loads(json.dumps(value)))
    assert (read.conversation is None) == bool(read.findings)


@given(st.sampled_from(list(FORMATS)), st.data())
def test_a_spoiled_example_never_becomes_a_conversation_by_accident(name: str, data: st.DataObject) -> None:
    value = _same_talk("q", "a", None)[name]
    spoil = data.draw(st.sampled_from(SPOILERS))
    key = data.draw(st.sampled_from([key for key in value if key != "context"]))
    assert read_object({**value, key: spoil(value[key])}).findings
