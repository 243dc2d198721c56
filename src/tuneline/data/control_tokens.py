"""Keeps the control tokens that a chat template writes apart from the same characters in the data.

A user may write `<|assistant|>`. Before rendering, such text is swapped for a placeholder; what still looks like a control token
afterwards came from the template. That one is then swapped for a secret name, the placeholder for its own characters again, and
the tokenizer knows control tokens by their secret names only. So a single pass of the tokenizer's own rules does the rest.
"""

import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson
from tokenizers import Tokenizer

from tuneline.errors import ModelError


class ControlTokens:
    """The control tokens of one tokenizer, with a secret name for each."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self.ids = dict(ids)
        longest_first = "|".join(re.escape(token) for token in sorted(ids, key=len, reverse=True)) or "(?!)"
        self.pattern = re.compile(longest_first)
        self.after_space = re.compile(rf"\s*(?:{longest_first})")
        secret = secrets.token_hex(16)  # random, so that no data can hold a name
        self._secret_names = {token: f"<{secret}:{number}>" for number, token in enumerate(self.ids)}
        self._placeholders = {token: f"<{secret}!{number}>" for number, token in enumerate(self.ids)}
        self._tokens = {placeholder: token for token, placeholder in self._placeholders.items()}
        self._placeholder = re.compile(rf"<{secret}!\d+>")

    def disarm(self, text: str) -> str:
        """Text of the data, safe to be rendered."""
        return self.pattern.sub(lambda match: self._placeholders[match[0]], text)

    def seal(self, rendered: str) -> str:
        """Rendered text as the tokenizer of `load` reads it: the template's control tokens by secret name, the data's as text."""
        sealed = self.pattern.sub(lambda match: self._secret_names[match[0]], rendered)
        return self._placeholder.sub(lambda match: self._tokens[match[0]], sealed)

    def load(self, path: Path) -> Tokenizer:
        """The tokenizer of a `tokenizer.json`, with control tokens under their secret names."""
        raw = orjson.loads(path.read_bytes())
        known = {token["content"] for token in raw["added_tokens"]}
        for token in raw["added_tokens"]:
            token["content"] = self._secret_names.get(token["content"], token["content"])
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        raw["added_tokens"] += [{"id": self.ids[token], "content": self._secret_names[token], **flags} for token in self.ids if token not in known]
        vocabulary = raw["model"]["vocab"]
        if isinstance(vocabulary, dict):
            raw["model"]["vocab"] = {self._secret_names.get(token, token): id_ for token, id_ in vocabulary.items()}
        else:
            raw["model"]["vocab"] = [[self._secret_names.get(token, token), score] for token, score in vocabulary]
        # `first` puts a space before the very first word; a rendered text begins with a control token, so there it is never put.
        if (raw.get("pre_tokenizer") or {}).get("prepend_scheme") == "first":
            raw["pre_tokenizer"]["prepend_scheme"] = "never"
        # A saved tokenizer may cut or pad whatever it reads, or add a second BOS; the template has the only say here.
        raw |= {"truncation": None, "padding": None, "post_processor": None}
        tokenizer = Tokenizer.from_buffer(orjson.dumps(raw))
        moved = [token for token, id_ in self.ids.items() if tokenizer.token_to_id(self._secret_names[token]) != id_]
        if moved:
            raise ModelError(
                f"{path}: the control tokens {moved[:5]} cannot be told apart from text.", next_action="Use the tokenizer of the model's publisher."
            )
        return tokenizer


def find_control_tokens(path: Path, named: Iterable[str]) -> dict[str, int]:
    """Every special token of a `tokenizer.json` with its id, and those of `named` (BOS, EOS, ...) that it knows."""
    try:
        raw = orjson.loads(path.read_bytes())
        found = {token["content"]: token["id"] for token in raw["added_tokens"] if token["special"]}
        added = {token["content"]: token["id"] for token in raw["added_tokens"]}
        vocabulary = raw["model"]["vocab"]
        known = vocabulary if isinstance(vocabulary, dict) else {piece[0]: index for index, piece in enumerate(vocabulary)}
    except FileNotFoundError:
        raise ModelError(f"{path} is missing.", next_action="Give a model folder with a fast tokenizer (tokenizer.json).") from None
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        raise ModelError(f"{path} is not a tokenizer file.", next_action="Save the tokenizer again with transformers or tokenizers.") from None
    for token in named:
        id_ = added.get(token, known.get(token))
        if isinstance(id_, int):
            found[token] = id_
    return found
