"""From conversations to token ids and loss masks, and back to text. The ids of training are the ids of serving.

tokenizer = load_tokenizer(folder)
tokenizer.encode(conversation).input_ids
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from tuneline.data.chat_template import ChatTemplate
from tuneline.data.control_tokens import ControlTokens, find_control_tokens
from tuneline.data.conversation import Conversation, Turn
from tuneline.data.problems import ExampleError
from tuneline.errors import ModelError

NAMED_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
PROBE = Conversation((Turn("user", "Say hello."), Turn("assistant", "Hello there."), Turn("user", "Again."), Turn("assistant", "Hello again.")))


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as the model sees it."""

    input_ids: list[int]
    loss_mask: list[bool]
    """True where the token is learned: the assistant's turns with their end."""


Segment = tuple[str, bool]
"""A piece of rendered text, and whether it is learned. Each is tokenized alone, so that a prompt's ids never depend on its answer."""


class ChatTokenizer:
    """A model's tokenizer and chat template."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, control: ControlTokens, named: Mapping[str, str], stop_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._control = control
        self._names = {id_: token for token, id_ in control.ids.items()}
        self._checked_shapes: set[tuple[str, ...]] = set()
        self.vocabulary_size: int = tokenizer.get_vocab_size()
        self.bos_id = control.ids.get(named.get("bos_token", ""))
        eos_id = control.ids.get(named.get("eos_token", ""))
        try:
            self._end_of_turn = "" if template.marks_spans else self._find_end_of_turn()
            last_id = self._probe()
        except ExampleError as error:
            raise ModelError(f"{error} The model cannot be tuned with this template.", next_action="Use the template of the model's publisher.") from None
        self.end_of_turn_ids: frozenset[int] = stop_ids | {last_id} | ({eos_id} if eos_id is not None else set())
        """Generation stops at any of these."""
        self.pad_id: int = control.ids.get(named.get("pad_token", ""), last_id)

    def encode(self, conversation: Conversation) -> Encoded:
        """Token ids and loss mask of one example."""
        [encoded] = self.encode_batch([conversation])
        if isinstance(encoded, ExampleError):
            raise encoded
        return encoded

    def encode_batch(self, conversations: Sequence[Conversation]) -> list[Encoded | ExampleError]:
        """Token ids and loss masks of many examples, or why one has none. Uses all cores."""
        segmented = [self._try_segments(conversation.turns) for conversation in conversations]
        texts = [text for segments in segmented if not isinstance(segments, ExampleError) for text, _ in segments]
        ids = iter(self._encode_texts(texts))
        return [segments if isinstance(segments, ExampleError) else _joined(segments, [next(ids) for _ in segments]) for segments in segmented]

    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Token ids of a conversation up to where the assistant's next turn begins: a prefix of every example that goes on so."""
        segments = self._segments(turns, add_generation_prompt=True)
        return [id_ for ids in self._encode_texts([text for text, _ in segments]) for id_ in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without control tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """What each token adds to the text, control tokens by name; a token that ends within a character adds nothing."""
        texts = []
        stream = DecodeStream(skip_special_tokens=False)
        for id_ in ids:
            if id_ in self._names:
                texts.append(self._names[id_])
                stream = DecodeStream(skip_special_tokens=False)
            else:
                texts.append(stream.step(self._tokenizer, id_) or "")
        return texts

    def _encode_texts(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def _try_segments(self, turns: Sequence[Turn]) -> list[Segment] | ExampleError:
        try:
            return self._segments(turns, add_generation_prompt=False)
        except ExampleError as error:
            return error

    def _segments(self, turns: Sequence[Turn], *, add_generation_prompt: bool) -> list[Segment]:
        """The rendered text, cut where the assistant's turns begin and end."""
        disarmed = [Turn(turn.role, self._control.disarm(turn.content)) for turn in turns]
        text, blocks = self._template.render(disarmed, add_generation_prompt=add_generation_prompt)
        answers = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
        if self._template.marks_spans:
            spans = [self._with_end_of_turn(text, start, end) for start, end in blocks]
            self._check_prefix(disarmed, text, spans, add_generation_prompt=add_generation_prompt)
        else:
            spans = [self._find_span(text, disarmed[:index]) for index in answers]
        if len(spans) != len(answers):
            raise ExampleError("no-trained-token", f"the chat template marks {len(spans)} turns to learn, the example has {len(answers)} of the assistant.")
        segments: list[Segment] = []
        done = 0
        for start, end in spans:
            if not done <= start < end:
                raise ExampleError("no-trained-token", "the chat template puts the assistant's turns in no order that can be learned.")
            segments += [(text[done:start], False), (text[start:end], True)]
            done = end
        segments.append((text[done:], False))
        return [(self._control.seal(piece), is_trained) for piece, is_trained in segments if piece]

    def _with_end_of_turn(self, text: str, start: int, end: int) -> tuple[int, int]:
        """A span that ends with its end-of-turn token, which must be learned, and with nothing behind it."""
        inside = list(self._control.pattern.finditer(text, start, end))
        if inside and not text[inside[-1].end() : end].strip():
            return start, inside[-1].end()
        if behind := self._control.after_space.match(text, end):
            return start, behind.end()
        raise ExampleError("no-trained-token", "the chat template ends the assistant's turn with no control token, so a model could not learn to stop.")

    def _check_prefix(self, turns: Sequence[Turn], text: str, spans: Sequence[tuple[int, int]], *, add_generation_prompt: bool) -> None:
        """The prompt of serving must be the beginning of the example. Checked once for each order of roles."""
        shape = tuple(turn.role for turn in turns)
        if add_generation_prompt or shape in self._checked_shapes or not spans:
            return
        prompt, _ = self._template.render(turns[:-1], add_generation_prompt=True)
        if prompt != text[: spans[-1][0]]:
            raise _not_a_prefix()
        self._checked_shapes.add(shape)

    def _find_span(self, text: str, before: Sequence[Turn]) -> tuple[int, int]:
        """Where the turn after `before` lies in the text of a template that marks nothing."""
        prompt, _ = self._template.render(before, add_generation_prompt=True)
        if not text.startswith(prompt):
            raise _not_a_prefix()
        end = text.find(self._end_of_turn, len(prompt))
        if end < 0:
            raise ExampleError("no-trained-token", f"the chat template ends no turn of the assistant with {self._end_of_turn!r}.")
        return len(prompt), end + len(self._end_of_turn)

    def _find_end_of_turn(self) -> str:
        """The control token that a template without marks writes after the assistant's text."""
        text, _ = self._template.render(PROBE.turns)
        place = text.rfind(PROBE.reference)
        match = self._control.pattern.search(text, place) if place >= 0 else None
        if match is None:
            raise ModelError(
                "the chat template ends the assistant's turn with no control token.", next_action="Use the template of the instruction-tuned model."
            )
        return match[0]

    def _probe(self) -> int:
        """Try the tokenizer out on a harmless conversation; the id of the token that ends a turn."""
        segments = self._segments(PROBE.turns, add_generation_prompt=False)
        pieces = self._encode_texts([text for text, _ in segments])
        ids = [id_ for piece in pieces for id_ in piece]
        if ids != self._encode_texts(["".join(text for text, _ in segments)])[0]:
            raise ModelError(
                "the tokenizer reads the pieces of a conversation in another way than the whole.", next_action="Use a model of a supported family."
            )
        if self.bos_id is not None and ids[:2] == [self.bos_id] * 2:
            raise ModelError("the chat template writes the BOS token twice.", next_action="Remove one from chat_template.jinja.")
        last = [piece for piece, (_, is_trained) in zip(pieces, segments, strict=True) if is_trained][-1]
        return last[-1]


def _joined(segments: Sequence[Segment], pieces: Sequence[list[int]]) -> Encoded | ExampleError:
    ids: list[int] = []
    mask: list[bool] = []
    for (_, is_trained), piece in zip(segments, pieces, strict=True):
        ids += piece
        mask += [is_trained] * len(piece)
    return Encoded(ids, mask) if True in mask else ExampleError("no-trained-token", "no token of the example would be learned.")


def _not_a_prefix() -> ExampleError:
    return ExampleError(
        "prompt-not-prefix",
        "with the chat template, the prompt of serving is not the beginning of the example, so the model would be asked otherwise than taught.",
    )


def load_tokenizer(folder: Path) -> ChatTokenizer:
    """The tokenizer and chat template of a model folder."""
    config = _read_json(folder / "tokenizer_config.json")
    named = {name: token for name in NAMED_TOKENS if (token := _token_text(config.get(name)))}
    control = ControlTokens(find_control_tokens(folder / "tokenizer.json", named.values()))
    stops = _read_json(folder / "generation_config.json").get("eos_token_id", [])
    stop_ids = frozenset(id_ for id_ in (stops if isinstance(stops, list) else [stops]) if isinstance(id_, int))
    return ChatTokenizer(control.load(folder / "tokenizer.json"), ChatTemplate(_template_source(folder, config), named), control, named, stop_ids)


def _template_source(folder: Path, config: Mapping[str, object]) -> str:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        template = next((entry.get("template") for entry in template if isinstance(entry, dict) and entry.get("name") == "default"), None)
    if not isinstance(template, str):
        raise ModelError(f"{folder} has no chat template.", next_action="Use an instruction-tuned model, or put a chat_template.jinja into the folder.")
    return template


def _token_text(value: object) -> str:
    """`"<s>"` and `{"content": "<s>", ...}` are the same token."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _read_json(path: Path) -> dict[str, object]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ModelError(f"{path} is not JSON.", next_action="Fetch the model again.") from None
    return values if isinstance(values, dict) else {}
