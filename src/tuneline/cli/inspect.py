"""`tuneline inspect FILE --line N`: one example as the model sees it, tokens coloured by loss weight."""

import argparse
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneline.cli.base_models import add_flags, look_up
from tuneline.errors import DatasetError

if TYPE_CHECKING:
    from tuneline.data.conversation import Conversation

LEARNED, GIVEN = ("\x1b[32m", "\x1b[92m"), ("\x1b[90m", "\x1b[37m")
"""Two shades each, in turn, so that neighbouring tokens can be told apart."""
RESET = "\x1b[0m"
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Token:
    """One token of the example."""

    id: int
    text: str
    learned: bool


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tuneline inspect",
        description="Show one example as the model sees it. Learned tokens are green, or stand in [+ +] without colours.", allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("file", metavar="FILE", help="a path or gs:// URI")
    parser.add_argument("--line", metavar="N", type=int, default=1, help="line of the example (default: 1)")
    add_flags(parser, default="tuneline/tiny-code@001")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: only on a terminal, and not with NO_COLOR set")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    model = look_up(given)
    conversation, data_format = read_line(given.file, given.line, given.default_context)
    tokenizer = model.tokenizer()
    encoded = tokenizer.encode(conversation)
    texts = tokenizer.token_texts(encoded.input_ids)
    tokens = [Token(*values) for values in zip(encoded.input_ids, texts, encoded.loss_mask, strict=True)]
    facts = {
        "file": given.file, "line": given.line, "format": data_format, "base_model": model.name, "tokens": len(tokens),
        "learned_tokens": sum(token.learned for token in tokens), "characters": len("".join(texts)), "max_sequence_length": model.resolved.max_sequence_length,
    }  # fmt: skip
    if given.json:
        shown = [{"id": token.id, "text": token.text, "learned": token.learned} for token in tokens]
        print(json.dumps({**facts, "fits": len(tokens) <= model.resolved.max_sequence_length, "token_list": shown}))
        return 0
    colored = given.color == "always" or (given.color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    print(*(f"{name}: {value}" for name, value in facts.items()), "", sep="\n")
    print("".join(painted(tokens) if colored else marked(tokens)))
    return 0


def read_line(file: str, number: int, default_context: str) -> tuple["Conversation", str]:
    """The conversation on one line of a data file, and its format. Raises DatasetError with what is wrong there."""
    from tuneline.data.data_files import open_data
    from tuneline.data.formats import read_object
    from tuneline.data.json_lines import UNREADABLE, decode, read_lines
    from tuneline.data.problems import Problem

    with open_data(file) as stream:
        line = next(itertools.islice(read_lines(stream), number - 1, None), None) if number > 0 else None
    if line is None:
        raise DatasetError(f"{file} has no line {number}.", next_action="Lines count from 1.")
    value, findings = decode(line)
    read = None if value is UNREADABLE else read_object(value, default_context)
    if read is None or read.conversation is None:
        problems = [Problem(file, number, *finding) for finding in (*findings, *(read.findings if read else ()))]
        raise DatasetError(*map(str, problems))
    return read.conversation, read.data_format


def painted(tokens: Sequence[Token]) -> Iterator[str]:
    """The tokens' texts in colours."""
    for place, token in enumerate(tokens):
        yield f"{(LEARNED if token.learned else GIVEN)[place % 2]}{printable(token.text)}{RESET}"


def marked(tokens: Sequence[Token]) -> Iterator[str]:
    """The tokens' texts with marks around learned ones."""
    for learned, run in itertools.groupby(tokens, key=lambda token: token.learned):
        text = printable("".join(token.text for token in run))
        yield f"[+{text}+]" if learned else text


def printable(text: str) -> str:
    """The text with control characters spelled out, so that no example can send commands to the terminal."""
    return UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
