"""Puts models through the evaluation data of a transformed dataset: scores, and answers to the evaluation prompts."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson
import torch

from tuneline.data.dataset import TokenDataset
from tuneline.data.tokens import ChatTokenizer, load_tokenizer
from tuneline.evaluation.comparison import CHAMPION, Question
from tuneline.evaluation.results import Measured, finite
from tuneline.modeling.generation import generate
from tuneline.modeling.loading import load_model
from tuneline.modeling.scoring import Score, score
from tuneline.parameters import EvaluateModel
from tuneline.progress import Progress, ProgressFile

logger = logging.getLogger(__name__)


class Device(Protocol):
    """Where models compute, as tuning chose it."""

    @property
    def torch_device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype:
        """Of matrix products."""

    @property
    def tokens_per_row(self) -> int:
        """Of a packed row when scoring. It bounds memory and changes no result."""


def open_examiner(folder: Path, base: Path, parameters: EvaluateModel, device: Device, progress: ProgressFile) -> "ModelExaminer | None":
    """An examiner with the evaluation data in the dataset folder; None when there is none."""
    data = folder / "evaluation.safetensors"
    if not data.exists():
        return None
    general = folder / "general.safetensors"
    return ModelExaminer(
        dataset=TokenDataset.read(data),
        general=TokenDataset.read(general) if general.exists() else None,
        questions=read_questions(folder, parameters.evaluation_num_prompts),
        tokenizer=load_tokenizer(base),
        max_tokens=parameters.evaluation_max_tokens,
        device=device,
        progress=progress,
    )


def read_questions(dataset: Path, most: int) -> tuple[Question, ...]:
    """The first `most` evaluation prompts, so that every model and every run answers the same ones."""
    with (dataset / "evaluation_prompts.jsonl").open("rb") as lines:
        return tuple(Question(**{**record, "prompt_ids": tuple(record["prompt_ids"])}) for record in map(orjson.loads, itertools.islice(lines, max(0, most))))


@dataclass(frozen=True, kw_only=True)
class ModelExaminer:
    """Loads one model at a time."""

    dataset: TokenDataset
    questions: Sequence[Question]
    tokenizer: ChatTokenizer
    """Of the base model; checkpoints have the same one."""
    max_tokens: int
    device: Device
    progress: ProgressFile
    general: TokenDataset | None = None
    """Examples of what must not be forgotten."""

    def score(self, step: int, model: Path) -> Measured:
        """Loss and token accuracy of one model, as tuning computes them: fp32 weights."""

        found = self._score(step, model, self.dataset)
        logger.info("scored model=%r loss=%.4f token_accuracy=%.4f", _name(step), found.loss, found.token_accuracy)
        return Measured(step=step, loss=finite(found.loss), token_accuracy=finite(found.token_accuracy), num_predictions=found.num_predictions)

    def general_loss(self, step: int, model: Path) -> float | None:
        """Loss of one model on the general examples; nothing without any."""
        if self.general is None:
            return None
        found = self._score(step, model, self.general)
        logger.info("scored model=%r general_loss=%.4f", _name(step), found.loss)
        return finite(found.loss)

    def _score(self, step: int, model: Path, dataset: TokenDataset) -> Score:
        def report(done: int, total: int) -> None:
            self.progress.report(Progress(f"score {_name(step)}", done, total))

        loaded = load_model(model, packed=True, dtype=torch.float32, device=self.device.torch_device)
        return score(loaded, dataset, tokens_per_row=self.device.tokens_per_row, dtype=self.device.dtype, before_row=report)

    def answer(self, step: int, model: Path) -> list[str]:
        """One model's answers to all questions."""

        def report(done: int) -> None:
            self.progress.report(Progress(f"answers of {_name(step)}", done, len(self.questions)))

        report(0)
        loaded = load_model(model, packed=False, dtype=self.device.dtype, device=self.device.torch_device)
        prompts = [question.prompt_ids for question in self.questions]
        answers = generate(loaded, self.tokenizer, prompts, max_tokens=self.max_tokens, report=report)
        logger.info("answered model=%r prompts=%d tokens=%d", _name(step), len(answers), sum(map(len, answers)))
        return [self.tokenizer.decode(answer) for answer in answers]


def _name(step: int) -> str:
    return {0: "the base model", CHAMPION: "the champion"}.get(step, f"step {step}")
