"""`tuningDataStats` of a tuning job, from what `transform-dataset` counted."""

from collections.abc import Mapping
from typing import Any

from tuneline.api.store import Body

SHOWN_INDICES = 20
"""Vertex tells a sample of them, too."""


def supervised_statistics(statistics: Mapping[str, Any], *, steps: int) -> Body:
    """The content of `supervisedTuningDataStats`; 64-bit numbers are text. An example's index is its line, from 1."""
    training, longest = statistics["training"], statistics["max_sequence_length"]
    cut, dropped = set(training["truncated_lines"]), set(training["dropped_lines"])
    shown = sorted(cut | dropped)[:SHOWN_INDICES]
    why = {True: "and nothing that is learned lies within them: left out.", False: "its end was cut off."}
    return {
        "tuningDatasetExampleCount": str(training["examples"] + len(dropped)),
        "totalTuningCharacterCount": str(training["characters"]),
        "totalBillableCharacterCount": str(training["characters"]),
        "totalBillableTokenCount": str(training["tokens"]),
        "tuningStepCount": str(steps),
        "userInputTokenDistribution": _distribution(training["input_tokens"]),
        "userOutputTokenDistribution": _distribution(training["output_tokens"]),
        "userMessagePerExampleDistribution": _distribution(training["messages"]),
        "userDatasetExamples": [{"role": "user", "parts": [{"text": text}]} for text in training["first_prompts"]],
        "totalTruncatedExampleCount": str(len(cut | dropped)),
        "truncatedExampleIndices": [str(line) for line in shown],
        "droppedExampleReasons": [f"More than {longest:,} tokens, {why[line in dropped]}" for line in shown],
    }


def _distribution(values: Mapping[str, Any]) -> Body:
    """All tokens of a data set count, so the billable sum is the sum."""
    return {**values, "sum": str(values["sum"]), "billableSum": str(values["sum"])}
