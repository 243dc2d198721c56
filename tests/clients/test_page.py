"""No snippet of the page goes without a test."""

from pathlib import Path

import pytest

from tests.clients.page import PAGE

SOURCES = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))


@pytest.mark.parametrize("heading", [heading for heading, blocks in PAGE.items() if blocks])
def test_what_stands_under_a_heading_is_run(heading: str) -> None:
    assert f'"{heading}"' in SOURCES
    assert {block.language for block in PAGE[heading]} <= {"sh", "python", "js", "toml", "text"}
