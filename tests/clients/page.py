"""`docs/clients.md` taken apart: what stands under each of its headings in fenced blocks, which the tests run."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
PORT = "8080"
"""The port that the page's snippets name."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block. One in `text` is what the block before it is refused with."""

    language: str
    text: str


def _blocks(part: str) -> list[Block]:
    return [Block(language=language, text=text) for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", part, flags=re.MULTILINE | re.DOTALL)]


PAGE = {part.splitlines()[0].lstrip("# "): _blocks(part) for part in re.split(r"^(?=##+ )", TEXT, flags=re.MULTILINE)}
"""Heading -> its blocks, in the order of the page."""


def snippets(heading: str, language: str) -> list[str]:
    """The blocks of one language under a heading."""
    return [block.text for block in PAGE[heading] if block.language == language]


def refusal(heading: str) -> str:
    """What the last snippet under a heading is refused with, or nothing."""
    return "".join(snippets(heading, "text")).strip()
