"""What `validate` and `inspect` need to know of a base model: its limits, and its tokenizer when it is on this machine."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneline.errors import ModelError
from tuneline.resolution import Limits, ResolvedModel

if TYPE_CHECKING:
    from tuneline.data.tokens import ChatTokenizer


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A reference, looked up."""

    resolved: ResolvedModel
    limits: Limits
    folder: Path | None
    """Nothing when the model would have to be fetched."""

    @property
    def name(self) -> str:
        """The reference, and what stands in for it."""
        stand_in = f" (stand-in for {self.resolved.reference})" if self.resolved.stands_in else ""
        return (self.resolved.stands_in or self.resolved.reference) + stand_in

    def tokenizer(self) -> "ChatTokenizer":
        """The model's tokenizer."""
        from tuneline.data.tokens import load_tokenizer

        if self.folder is None:
            action = "Run a job with it once, or point the reference at a folder with --catalog."
            raise ModelError(f"{self.name}: {self.resolved.uri} is not on this machine.", next_action=action)
        return load_tokenizer(self.folder)


def add_flags(parser: argparse.ArgumentParser, *, default: str) -> None:
    """The flags that name a base model."""
    parser.add_argument("--large-model-reference", metavar="M", default=default, help="base model whose tokenizer and limits are used" + _shown(default))
    parser.add_argument("--max-context-length", metavar="8k|32k", default="", help="default: the base model's own")
    parser.add_argument("--catalog", metavar="FILE", default="", help="TOML file (path or gs:// URI) with catalogue rows laid over the built-in ones")
    parser.add_argument("--default-context", metavar="T", default="", help="context of every example that brings none of its own")


def _shown(default: str) -> str:
    return f" (default: {default})" if default else ""


def look_up(given: argparse.Namespace) -> BaseModel:
    """The base model that the flags name."""
    from tuneline import registry
    from tuneline.catalog.base_model import resolve_base_model
    from tuneline.catalog_file import read_catalog
    from tuneline.data.base_model import find_here

    found = resolve_base_model(read_catalog(given.catalog or ""), given.large_model_reference, max_context_length=given.max_context_length)
    folder = find_here(found.resolved.uri, downloads=registry.home() / "downloads")
    return BaseModel(resolved=found.resolved, limits=found.limits, folder=folder)
