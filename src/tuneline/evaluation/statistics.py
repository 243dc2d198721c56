"""What `transform-dataset` counted, as the report shows it: the content of statistics.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class SplitStatistics:
    """Of the training or the evaluation data."""

    examples: int
    tokens: int
    trained_tokens: int
    longest: int
    median: int
    dropped_lines: tuple[int, ...]
    truncated_lines: tuple[int, ...]
    length_histogram: tuple[tuple[int, int], ...]
    """Longest length of a class and how many examples are in it."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        known = {field.name: values[field.name] for field in fields(cls)}
        return cls(**known | {"length_histogram": tuple((upper, count) for upper, count in values["length_histogram"])})


@dataclass(frozen=True, kw_only=True)
class DataStatistics:
    """Of both."""

    training: SplitStatistics
    evaluation: SplitStatistics | None

    @classmethod
    def read(cls, path: Path) -> Self:
        content = json.loads(path.read_text(encoding="utf-8"))
        evaluation = content["evaluation"]
        return cls(training=SplitStatistics.from_mapping(content["training"]), evaluation=SplitStatistics.from_mapping(evaluation) if evaluation else None)
