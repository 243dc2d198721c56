"""The base model and every checkpoint, measured on the same data. What tuning already measured is not measured again."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from tuneline.evaluation.metrics import answer_metrics
from tuneline.evaluation.results import Evaluation, Generation, History, Measured
from tuneline.evaluation.selection import GENERATION_METRICS, SelectionMetric, select

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One evaluation prompt."""

    line: int
    """In the evaluation data file."""
    prompt: str
    """For people."""
    prompt_ids: tuple[int, ...]
    reference: str


class Examiner(Protocol):
    """Puts one model through the evaluation data."""

    @property
    def questions(self) -> Sequence[Question]: ...
    def score(self, step: int, model: Path) -> Measured: ...
    def answer(self, step: int, model: Path) -> list[str]: ...
    def general_loss(self, step: int, model: Path) -> float | None:
        """Loss on the general examples; nothing without any."""


CHAMPION = -1
"""Stands for a step, so that the champion has a place among the models."""


def compare(
    base: Path,
    candidates: Mapping[int, Path],
    *,
    history: History,
    examiner: Examiner | None,
    metric: SelectionMetric,
    enabled: Literal["default", "true", "false"],
    champion: Path | None = None,
) -> Evaluation:
    """Scores of all, generated answers of the base model and the selected checkpoint; of all when `metric` needs them.

    Without evaluation data (`examiner` is None) there is nothing to measure, and the candidates are only listed.
    """
    models = {0: base, **candidates, **({CHAMPION: champion} if champion else {})}
    measured = {step: Measured(step=step) for step in models}
    answers: dict[int, list[str]] = {}
    questions = examiner.questions if examiner else ()

    def ask(steps: Iterable[int]) -> None:
        for step in steps:
            if examiner and questions and step not in answers:
                answers[step] = examiner.answer(step, models[step])
                measured[step] = measured[step].answered(answer_metrics(answers[step], [question.reference for question in questions]))

    if examiner:
        measured |= {point.step: point for point in history.evaluations}
        measured |= {step: examiner.score(step, model) for step, model in models.items() if not measured[step].is_scored}
    ask(models if metric in GENERATION_METRICS else ())
    selection = select([measured[step] for step in candidates], metric, enabled)
    logger.info("selected step=%d reason=%r", selection.step, selection.reason)
    ask([0, selection.step])
    if examiner and champion:
        for step in (CHAMPION, selection.step):
            measured[step] = replace(measured[step], general_loss=examiner.general_loss(step, models[step]))
    return Evaluation(
        base=measured[0],
        candidates=tuple(measured[step] for step in candidates),
        selected_step=selection.step,
        metric=metric,
        generations=tuple(
            Generation(line=question.line, prompt=question.prompt, reference=question.reference, base=before, tuned=after)
            for question, before, after in zip(questions, answers.get(0, ()), answers.get(selection.step, ()), strict=True)
        ),
        champion=measured.get(CHAMPION),
    )
