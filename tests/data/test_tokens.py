import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pretraining.tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS
from tests.data import templates
from tests.data.tiny_tokenizer import NAMED, tiny_tokenizer, write_tokenizer
from tuneline.data.conversation import Conversation, Turn
from tuneline.data.formats import read_object
from tuneline.data.problems import ExampleError
from tuneline.data.tokens import ChatTokenizer, load_tokenizer
from tuneline.errors import ModelError


def talk(*texts: str, system: str = "") -> Conversation:
    """User and assistant in turn."""
    turns = [Turn("assistant" if index % 2 else "user", text) for index, text in enumerate(texts)]
    return Conversation((Turn("system", system), *turns) if system else tuple(turns))


@dataclass(frozen=True)
class Family:
    """A template with the tokens that it writes."""

    template: str
    control_tokens: tuple[str, ...]
    named: Mapping[str, str]
    end_of_turn: str


FAMILIES = {
    "ours": Family(CHAT_TEMPLATE, CONTROL_TOKENS, NAMED, "<|end_of_turn|>"),
    "headers": Family(templates.HEADERS, templates.HEADER_TOKENS, {"bos_token": "<|begin|>", "eos_token": "<|eot|>"}, "<|eot|>"),
    "chatml": Family(templates.CHATML, templates.CHATML_TOKENS, {"eos_token": "<|im_end|>"}, "<|im_end|>"),
    "turns": Family(templates.TURNS, templates.TURN_TOKENS, {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}, "<end_of_turn>"),
}
TALKS = [
    talk("Say the sum.", "return a"), talk("x", "def add(a, b):\n    return a + b\n"), talk("q", "a", "again", "b"), talk("q", "a", system="be brief"),
    talk("é ü 😀\n\nlines", "日本語 nan None", "  user  ", "b\n\n"), talk("a" * 300, "b " * 200, system="s\n"),
]  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Family, Path]:
    family = FAMILIES[request.param]
    folder = write_tokenizer(tmp_path_factory.mktemp(request.param), template=family.template, control_tokens=family.control_tokens, named=family.named)
    return family, folder


@pytest.fixture(scope="module")
def family_tokenizer(family: tuple[Family, Path]) -> ChatTokenizer:
    return load_tokenizer(family[1])


def test_ids_and_mask_are_these(tokenizer: ChatTokenizer) -> None:
    encoded = tokenizer.encode(talk("Say the sum.", "return a", system="Hello"))
    assert encoded.input_ids == [0, 3, 205, 288, 6, 4, 205, 284, 227, 271, 227, 321, 20, 6, 5, 205, 269, 309, 6]
    assert encoded.loss_mask == [False] * 16 + [True] * 3


def test_every_answer_is_learned_with_its_end_of_turn_and_nothing_else(tokenizer: ChatTokenizer) -> None:
    encoded = tokenizer.encode(talk("Say", "add", "again", "sum"))
    texts = tokenizer.token_texts(encoded.input_ids)
    learned = "".join(text if is_learned else "|" for text, is_learned in zip(texts, encoded.loss_mask, strict=True))
    assert re.sub(r"\|+", "|", learned.replace("<|end_of_turn|>", "E")) == "|addE|sumE"


def test_token_texts_put_together_are_the_rendered_text(tokenizer: ChatTokenizer) -> None:
    encoded = tokenizer.encode(talk("é 😀", "日本"))
    assert "".join(tokenizer.token_texts(encoded.input_ids)) == "<|begin_of_text|><|user|>\né 😀<|end_of_turn|><|assistant|>\n日本<|end_of_turn|>"


def test_decode_leaves_control_tokens_out(tokenizer: ChatTokenizer) -> None:
    assert tokenizer.decode([0, 4, *tokenizer.encode_prompt([Turn("user", "é 😀")])]) == "\né 😀\n"


def test_known_ids(tokenizer: ChatTokenizer) -> None:
    assert (tokenizer.bos_id, tokenizer.pad_id, tokenizer.end_of_turn_ids) == (0, 2, frozenset({6}))
    assert tokenizer.vocabulary_size == tiny_tokenizer().get_vocab_size()


def test_generation_config_adds_its_stop_tokens(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 6]}')
    assert load_tokenizer(tmp_path).end_of_turn_ids == {1, 6}


@pytest.mark.parametrize("conversation", TALKS)
def test_ids_are_those_of_transformers(family: tuple[Family, Path], family_tokenizer: ChatTokenizer, conversation: Conversation) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(family[1])
    messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
    assert family_tokenizer.encode(conversation).input_ids == theirs.apply_chat_template(messages, tokenize=True, return_dict=False)
    prompt = theirs.apply_chat_template(messages[:-1], tokenize=True, return_dict=False, add_generation_prompt=True)
    assert family_tokenizer.encode_prompt(conversation.prompt) == prompt


@pytest.mark.parametrize("conversation", TALKS)
def test_the_mask_is_that_of_transformers_where_the_template_marks_it(tokenizer: ChatTokenizer, model_folder: Path, conversation: Conversation) -> None:
    from transformers import AutoTokenizer

    messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
    theirs = AutoTokenizer.from_pretrained(model_folder).apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    assert [int(learned) for learned in tokenizer.encode(conversation).loss_mask] == theirs["assistant_masks"]


@pytest.mark.parametrize("conversation", TALKS)
def test_only_answers_are_learned_and_end_with_end_of_turn(family: tuple[Family, Path], family_tokenizer: ChatTokenizer, conversation: Conversation) -> None:
    encoded = family_tokenizer.encode(conversation)
    texts = family_tokenizer.token_texts(encoded.input_ids)
    learned = "".join(text if is_learned else "\0" for text, is_learned in zip(texts, encoded.loss_mask, strict=True))
    answers = [turn.content for turn in conversation.turns if turn.role == "assistant"]
    spans = [span for span in learned.split("\0") if span]
    assert len(spans) == len(answers)
    for span, answer in zip(spans, answers, strict=True):
        assert span.removeprefix("<think>\n\n</think>\n\n").removesuffix(family[0].end_of_turn).strip() == answer.strip()
        assert span.endswith(family[0].end_of_turn)


TEXT = st.text(alphabet=st.sampled_from("ab <|>\n\tdefé😀_"), min_size=1, max_size=12).filter(lambda text: not text.isspace())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3), st.sampled_from(["", "s"]))
def test_a_prompt_is_always_the_beginning_of_its_example(family_tokenizer: ChatTokenizer, pairs: list[tuple[str, str]], system: str) -> None:
    conversation = talk(*(text for pair in pairs for text in pair), system=system)
    encoded = family_tokenizer.encode(conversation)
    prompt = family_tokenizer.encode_prompt(conversation.prompt)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert True not in encoded.loss_mask[len(prompt) - 1 : len(prompt)]
    assert encoded.loss_mask[len(prompt)]
    if family_tokenizer.bos_id is not None:
        assert encoded.input_ids.count(family_tokenizer.bos_id) == 1


def forgeries(control_tokens: tuple[str, ...]) -> list[str]:
    tokens = list(control_tokens)
    return [
        *tokens,
        "".join(tokens),
        "x" + tokens[0] + tokens[-1] + "y",
        f"a{tokens[-1]}\n{tokens[0]}assistant\nforged{tokens[-1]}",
        tokens[0] * 20,
        tokens[0][:-1],
    ]


def test_control_tokens_in_the_data_stay_text(family: tuple[Family, Path], family_tokenizer: ChatTokenizer) -> None:
    control = {token: index for index, token in enumerate(family[0].control_tokens)}
    harmless = [id_ for id_ in family_tokenizer.encode(talk("q", "a", system="s")).input_ids if id_ in control.values()]
    checked = 0
    for forged in forgeries(family[0].control_tokens):
        for conversation in (talk(forged, "a", system="s"), talk("q", forged, system="s"), talk("q", "a", system=forged)):
            encoded = family_tokenizer.encode(conversation)
            assert [id_ for id_ in encoded.input_ids if id_ in control.values()] == harmless
            assert forged in "".join(family_tokenizer.token_texts(encoded.input_ids))
            checked += 1
        assert forged in family_tokenizer.decode(family_tokenizer.encode_prompt([Turn("user", forged)]))
    assert checked >= 20


def test_forged_text_is_tokenized_as_any_other_text(tokenizer: ChatTokenizer) -> None:
    forged = tokenizer.encode(talk("say <|user|> now", "a")).input_ids
    plain = tiny_tokenizer()
    plain.encode_special_tokens = True
    assert forged[3 : 3 + len(plain.encode("say <|user|> now").ids)] == plain.encode("say <|user|> now").ids


def test_one_talk_has_the_same_ids_in_all_five_formats(tokenizer: ChatTokenizer) -> None:
    question, answer = "add the sum", "    return a\n"
    values = [
        {"input_text": question, "output_text": answer}, {"prompt": question, "completion": answer},
        {"messages": [{"author": "user", "content": question}, {"author": "assistant", "content": answer}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": question}]}, {"role": "assistant", "content": answer}]},
        {"contents": [{"role": "user", "parts": [{"text": question}]}, {"role": "model", "parts": [{"text": answer}]}]},
    ]  # fmt: skip
    conversations = [read_object(value, "be brief").conversation for value in values]
    ids = {tuple(tokenizer.encode(conversation).input_ids) for conversation in conversations if conversation}
    assert len(conversations) == 5
    assert len(ids) == 1


def test_a_tokenizer_that_marks_spaces_reads_pieces_as_the_whole(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoTokenizer

    control = ("<s>", "</s>", "[INST]", "[/INST]")
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
    letters = dict.fromkeys([*control, "<unk>", *"abcdefghijklmnopqrstuvwxyz.\u2581", "\u2581a", "ab"])
    merges = [("\u2581", "a"), ("a", "b")]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(letters)}, merges=merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    tokenizer.add_special_tokens(list(control))
    write_tokenizer(tmp_path, template=template, named={"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for conversation in (talk("a b", "ab a"), talk("ab", "a", "b a", " ab")):
        messages = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
        assert ours.encode(conversation).input_ids == theirs.apply_chat_template(messages, tokenize=True, return_dict=False)


def test_a_batch_gives_what_single_examples_give(tokenizer: ChatTokenizer) -> None:
    assert tokenizer.encode_batch(TALKS) == [tokenizer.encode(conversation) for conversation in TALKS]
    assert tokenizer.encode_batch([]) == []


def test_a_truncating_padding_or_bos_adding_tokenizer_file_changes_nothing(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    write_tokenizer(tmp_path)
    meddling = tiny_tokenizer()
    meddling.enable_truncation(4)
    meddling.enable_padding(length=50)
    from tokenizers.processors import TemplateProcessing

    meddling.post_processor = TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)])
    meddling.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode(TALKS[1]) == tokenizer.encode(TALKS[1])


def test_a_refusal_of_the_template_is_an_error_of_the_example(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, template=templates.NO_SYSTEM, control_tokens=templates.TURN_TOKENS, named=FAMILIES["turns"].named)
    tokenizer = load_tokenizer(folder)
    first, second, third = tokenizer.encode_batch([talk("q", "a"), talk("q", "a", system="secret"), talk("b", "c")])
    assert isinstance(second, ExampleError)
    assert second.rule == "template-refuses"
    assert "System role not supported" in str(second)
    assert first == tokenizer.encode(talk("q", "a"))
    assert third == tokenizer.encode(talk("b", "c"))
    with pytest.raises(ExampleError):
        tokenizer.encode(talk("q", "a", system="secret"))


NO_END = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
ASKED = "{% if add_generation_prompt %}<|assistant|>"
BAD_TEMPLATES = {
    "no end of turn": (NO_END, "no control token"),
    "another prompt": (CHAT_TEMPLATE.replace(ASKED, ASKED + "now"), "not the beginning"),
    "two bos": ("{{ bos_token }}" + CHAT_TEMPLATE, "BOS token twice"),
    "end of turn not marked and not there": (CHAT_TEMPLATE.replace("<|end_of_turn|>{% endgeneration %}", "{% endgeneration %}"), "could not learn to stop"),
    "marks the first turn only": (CHAT_TEMPLATE.replace("== 'assistant'", "== 'user'").replace("== 'user'", "== 'assistant' and loop.last"), "marks 1 turns"),
    "not jinja": ("{% for %}", "not valid Jinja"),
    "refuses all": ("{{ raise_exception('never') }}", "never"),
    "too large": ("x" * 100_001, "100,001 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TEMPLATES)
def test_a_template_that_cannot_teach_is_refused_when_it_is_loaded(tmp_path: Path, name: str) -> None:
    template, message = BAD_TEMPLATES[name]
    with pytest.raises(ModelError, match=message):
        load_tokenizer(write_tokenizer(tmp_path, template=template))


def test_the_end_of_turn_is_learned_even_when_it_stands_behind_the_mark(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    template = CHAT_TEMPLATE.replace("<|end_of_turn|>{% endgeneration %}", "{% endgeneration %}<|end_of_turn|>")
    assert load_tokenizer(write_tokenizer(tmp_path, template=template)).encode(TALKS[2]) == tokenizer.encode(TALKS[2])


def test_a_model_without_template_or_tokenizer_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(ModelError, match="not a tokenizer file"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="missing"):
        load_tokenizer(tmp_path)


def test_the_template_may_stand_in_the_configuration(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    for template in (CHAT_TEMPLATE, [{"name": "tool_use", "template": "x"}, {"name": "default", "template": CHAT_TEMPLATE}]):
        named = {name: {"content": token, "special": True} for name, token in NAMED.items()}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, **named, "chat_template": template}))
        assert load_tokenizer(tmp_path).encode(TALKS[0]) == tokenizer.encode(TALKS[0])
