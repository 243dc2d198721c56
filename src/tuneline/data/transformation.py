"""Training and evaluation files to the data set folder that tuning and evaluation read.

train.safetensors  evaluation.safetensors  evaluation_prompts.jsonl  general.safetensors  statistics.json
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tuneline.data.data_files import open_data
from tuneline.data.dataset import DatasetBuilder, TokenDataset
from tuneline.data.encoding import EncodedExample, ExampleEncoder, OverlengthPolicy
from tuneline.data.examples import Tally, read_examples
from tuneline.data.file_validation import DataRole, count_findings
from tuneline.data.problems import Finding, Problems, raise_problems
from tuneline.data.statistics import ContentCounts, distribution
from tuneline.data.tokens import ChatTokenizer
from tuneline.errors import DatasetError
from tuneline.progress import Progress
from tuneline.resolution import Limits

LOG = logging.getLogger(__name__)

Statistics = dict[str, object]
Report = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Transformation:
    """How files become tokens."""

    tokenizer: ChatTokenizer
    base_model: str
    """Reference of the base model."""
    max_sequence_length: int
    limits: Limits
    default_context: str = ""
    overlength_policy: OverlengthPolicy = "error"

    def run(self, training_uri: str, evaluation_uri: str, out: Path, report: Report = lambda _: None, *, general_uri: str = "") -> Statistics:
        """Write the folder and return its statistics. Raises one DatasetError with every problem of all files, and writes nothing then."""
        training = self._read(training_uri, "train", report)
        evaluation = self._read(evaluation_uri, "evaluation", report) if evaluation_uri else None
        # No hosted limit is meant for these examples.
        general = replace(self, limits=Limits())._read(general_uri, "evaluation", report) if general_uri else None
        files = [file for file in (training, evaluation, general) if file]
        raise_problems([file.problems for file in files])
        for file in files:
            if not len(file.dataset):
                message = f"{file.problems.file}: no example is left: all are longer than the {self.max_sequence_length:,} tokens that the base model reads."
                raise DatasetError(message, next_action="Shorten the examples or choose a base model with a longer context.")
            _log_left_out(file)
        out.mkdir(parents=True, exist_ok=True)
        training.dataset.write(out / "train.safetensors")
        if evaluation:
            evaluation.dataset.write(out / "evaluation.safetensors")
            (out / "evaluation_prompts.jsonl").write_text("".join(evaluation.prompts), encoding="utf-8")
        if general:
            general.dataset.write(out / "general.safetensors")
        statistics: Statistics = {
            "format": training.data_format,
            "base_model": self.base_model,
            "max_sequence_length": self.max_sequence_length,
            "training": training.statistics,
            "evaluation": evaluation.statistics if evaluation else None,
        }
        (out / "statistics.json").write_text(json.dumps(statistics, indent=2) + "\n", encoding="utf-8")
        return statistics

    def _read(self, uri: str, role: DataRole, report: Report) -> "_File":
        """One file, read once."""
        problems, tally, builder, counts = Problems(uri), Tally(), DatasetBuilder(), ContentCounts()
        encoder = ExampleEncoder(tokenizer=self.tokenizer, max_sequence_length=self.max_sequence_length, policy=self.overlength_policy)
        prompts: list[str] = []
        with open_data(uri) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)

            def progress() -> None:
                report(Progress(f"transform {role} data", stream.tell(), size, f"examples={len(builder)}"))

            for example in encoder.encode(read_examples(stream, problems, tally, default_context=self.default_context), problems, progress):
                builder.add(example.line, *_arrays(example))
                counts.add(example.conversation)
                if role == "evaluation":
                    prompts += self._prompt_lines(example, problems)
        for finding in count_findings(tally, role, self.limits):
            problems.add(0, finding)
        return _File(problems=problems, data_format=tally.data_format, dataset=builder.build(), counts=counts, prompts=prompts, encoder=encoder)

    def _prompt_lines(self, example: EncodedExample, problems: Problems) -> list[str]:
        """The line of `evaluation_prompts.jsonl` for an example."""
        conversation = example.conversation
        prompt_ids = self.tokenizer.encode_prompt(conversation.prompt)
        if example.encoded.input_ids[: len(prompt_ids)] != prompt_ids:
            problems.add(example.line, Finding("", "prompt-not-prefix", "with the chat template, the prompt's tokens are not the beginning of the example's."))
        line = {"line": example.line, "prompt": conversation.question, "prompt_ids": prompt_ids, "reference": conversation.reference}
        return [json.dumps(line) + "\n"]


@dataclass(frozen=True, kw_only=True)
class _File:
    problems: Problems
    data_format: str
    dataset: TokenDataset
    counts: ContentCounts
    prompts: list[str]
    encoder: ExampleEncoder

    @property
    def statistics(self) -> Statistics:
        lengths, counts = self.dataset.lengths, self.counts
        trained = self.dataset.trained_lengths
        return {
            "examples": len(lengths),
            "tokens": int(lengths.sum()),
            "trained_tokens": int(trained.sum()),
            "longest": int(lengths.max()),
            "median": int(np.median(lengths)),
            "dropped_lines": self.encoder.dropped_lines,
            "truncated_lines": self.encoder.truncated_lines,
            "length_histogram": _histogram(lengths.tolist()),
            "characters": counts.characters,
            "input_tokens": distribution(lengths - trained),
            "output_tokens": distribution(trained),
            "messages": distribution(np.array(counts.messages, dtype=np.int64)),
            "first_prompts": counts.first_prompts,
        }


def _arrays(example: EncodedExample) -> tuple[list[int], list[bool]]:
    return example.encoded.input_ids, example.encoded.loss_mask


def _histogram(lengths: list[int]) -> list[list[int]]:
    """How many examples have at most 32, 64, 128, ... tokens, each counted once."""
    upper, rows = 32, []
    rest = sorted(lengths)
    while rest:
        count = sum(length <= upper for length in rest)
        rows.append([upper, count])
        rest, upper = rest[count:], upper * 2
    return rows


def _log_left_out(file: _File) -> None:
    for what, lines in (("dropped", file.encoder.dropped_lines), ("truncated", file.encoder.truncated_lines)):
        if lines:
            shown = ",".join(map(str, lines[:20])) + (",..." if len(lines) > 20 else "")
            LOG.warning("file=%s %s=%d longer_than=%d lines=%s", file.problems.file, what, len(lines), file.encoder.max_sequence_length, shown)


def metadata(statistics: Mapping[str, object]) -> dict[str, object]:
    """The statistics that fit on one line each, for the artifact's record."""
    flat: dict[str, object] = {name: statistics[name] for name in ("format", "base_model", "max_sequence_length")}
    for role in ("training", "evaluation"):
        side = statistics[role]
        if isinstance(side, dict):
            flat |= {f"{role}_{name}": side[name] for name in ("examples", "tokens", "trained_tokens", "longest", "median")}
            flat |= {f"{role}_{name}": len(side[f"{name}_lines"]) for name in ("dropped", "truncated")}
    return flat
