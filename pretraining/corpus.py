"""What the embedded base model reads: the standard library of this interpreter, without the example's evaluation modules."""

import os
from collections.abc import Iterator
from pathlib import Path

from tuneline.data.from_code import Selection, documented_functions, is_held_out, source_files

STANDARD_LIBRARY = Path(os.__file__).parent
TABLES = ("encodings.cp", "encodings.iso", "encodings.mac", "encodings.koi", "encodings.big5", "encodings.euc", "pydoc_data", "_sysconfigdata", "lib2to3.tests")
"""Modules that hold tables rather than code."""
BROKEN_ON_PURPOSE = frozenset({"bad_coding", "bad_coding2", "badsyntax_3131", "badsyntax_pep3120", "cjkencodings", "encoded_modules", "data"})
CHAT_SHARE = 0.15
"""Share of the pieces that are shown as a conversation (first half asks, second half answers), so that the control
tokens of the chat template have a meaning before any tuning."""


def training_sources() -> Iterator[tuple[str, str]]:
    """Name and text of every module that the model may read."""
    for module, path in source_files(STANDARD_LIBRARY):
        if not is_held_out(module, Selection().evaluation_fraction) and not module.startswith(TABLES):
            yield module, path.read_text(encoding="utf-8", errors="replace")


def library_tests() -> Iterator[tuple[str, str]]:
    """Name and text of the standard library's own tests, without those of any package that has a held-out module."""
    held_out = {part for module, _ in held_out_sources() for part in module.split(".")}
    folder = STANDARD_LIBRARY / "test"
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        tested = {part.removeprefix("test_") for part in parts} | {part.removeprefix("test_").split("_")[0] for part in parts}
        if not tested & held_out and not BROKEN_ON_PURPOSE & set(parts):
            yield ".".join(("test", *parts)), path.read_text(encoding="utf-8", errors="replace")


def held_out_sources() -> Iterator[tuple[str, str]]:
    """Name and text of the modules of the example's evaluation split: none of them is read in training."""
    for module, path in source_files(STANDARD_LIBRARY):
        if is_held_out(module, Selection().evaluation_fraction):
            source = path.read_text(encoding="utf-8", errors="replace")
            if any(True for _ in documented_functions(module, source)):
                yield module, source
