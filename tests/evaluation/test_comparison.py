"""Who is scored, who answers, and that what tuning measured is not measured again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from tuneline.evaluation.comparison import CHAMPION, Question, compare
from tuneline.evaluation.results import Evaluation, History, Measured
from tuneline.evaluation.selection import SelectionMetric

BASE = Path("base")
CANDIDATES = {20: Path("checkpoint-20"), 40: Path("checkpoint-40"), 60: Path("final")}
QUESTIONS = (
    Question(line=1, prompt="one", prompt_ids=(1, 2), reference="uno"),
    Question(line=4, prompt="two", prompt_ids=(1, 3), reference="dos"),
)


def scored(step: int, accuracy: float | None, loss: float | None = 1.0) -> Measured:
    return Measured(step=step, loss=loss, token_accuracy=accuracy, num_predictions=50)


def history(*evaluations: Measured) -> History:
    return History(
        steps=60,
        examples=10,
        batch_size=2,
        epochs=12.0,
        stopped_early="",
        seconds=1.0,
        tokens_per_second=1.0,
        learning_rate=0.1,
        train=(),
        evaluations=evaluations,
    )


@dataclass
class FakeExaminer:
    """Answers what it was told and remembers who it examined."""

    replies: dict[int, list[str]] = field(default_factory=dict)
    questions: Sequence[Question] = QUESTIONS
    scored: list[tuple[int, Path]] = field(default_factory=list)
    answered: list[tuple[int, Path]] = field(default_factory=list)
    remembered: list[tuple[int, Path]] = field(default_factory=list)
    """Who was scored on the general examples."""

    def score(self, step: int, model: Path) -> Measured:
        self.scored.append((step, model))
        return scored(step, 0.5)

    def answer(self, step: int, model: Path) -> list[str]:
        self.answered.append((step, model))
        return self.replies.get(step, ["?", "?"])

    def general_loss(self, step: int, model: Path) -> float | None:
        self.remembered.append((step, model))
        return 2.0 + step


def run(
    examiner: FakeExaminer | None, *evaluations: Measured, metric: SelectionMetric = "token_accuracy",
    enabled: Literal["default", "true", "false"] = "default", champion: Path | None = None,
) -> Evaluation:  # fmt: skip
    return compare(BASE, CANDIDATES, history=history(*evaluations), examiner=examiner, metric=metric, enabled=enabled, champion=champion)


FULL_HISTORY = (scored(0, 0.3), scored(20, 0.6), scored(40, 0.8), scored(60, 0.7))


def test_nobody_is_scored_again_whom_tuning_scored() -> None:
    examiner = FakeExaminer()
    evaluation = run(examiner, *FULL_HISTORY)
    assert examiner.scored == []
    assert [candidate.token_accuracy for candidate in evaluation.candidates] == [0.6, 0.8, 0.7]
    assert evaluation.base.token_accuracy == 0.3


def test_exactly_those_missing_in_the_history_are_scored() -> None:
    examiner = FakeExaminer()
    run(examiner, scored(20, 0.6), scored(30, 0.9), scored(60, 0.7))
    assert examiner.scored == [(0, BASE), (40, CANDIDATES[40])]


def test_only_the_base_and_the_selected_checkpoint_answer() -> None:
    examiner = FakeExaminer({0: ["uno", "x"], 40: ["uno", " dos\n"]})
    evaluation = run(examiner, *FULL_HISTORY)
    assert examiner.answered == [(0, BASE), (40, CANDIDATES[40])]
    assert evaluation.selected_step == 40
    assert (evaluation.base.exact_match, evaluation.selected.exact_match) == (0.5, 1.0)
    assert [candidate.chrf is None for candidate in evaluation.candidates] == [True, False, True]
    assert [(generation.line, generation.base, generation.tuned) for generation in evaluation.generations] == [(1, "uno", "uno"), (4, "x", " dos\n")]


def test_selecting_by_a_generation_metric_has_everyone_answer_once() -> None:
    examiner = FakeExaminer({20: ["uno", "dos"], 40: ["uno", "x"], 60: ["x", "x"]})
    evaluation = run(examiner, *FULL_HISTORY, metric="exact_match")
    assert [step for step, _ in examiner.answered] == [0, 20, 40, 60]
    assert evaluation.selected_step == 20
    assert evaluation.generations[1].tuned == "dos"


def test_the_last_checkpoint_answers_when_selection_is_off() -> None:
    examiner = FakeExaminer()
    assert run(examiner, *FULL_HISTORY, enabled="false").selected_step == 60
    assert [step for step, _ in examiner.answered] == [0, 60]


def test_a_checkpoint_that_diverged_is_not_scored_again_and_not_selected() -> None:
    examiner = FakeExaminer()
    evaluation = run(examiner, scored(0, 0.3), scored(20, 0.4), scored(40, None, None), scored(60, None, None))
    assert examiner.scored == []
    assert evaluation.selected_step == 20


@pytest.mark.parametrize("metric", ["token_accuracy", "chrf"])
def test_without_questions_nobody_answers(metric: SelectionMetric) -> None:
    examiner = FakeExaminer(questions=())
    evaluation = run(examiner, *FULL_HISTORY, metric=metric)
    assert examiner.answered == []
    assert evaluation.generations == ()
    assert evaluation.base.chrf is None


def test_without_evaluation_data_candidates_are_only_listed() -> None:
    evaluation = run(None)
    assert evaluation.base == Measured(step=0)
    assert evaluation.candidates == (Measured(step=20), Measured(step=40), Measured(step=60))
    assert evaluation.selected_step == 60
    assert evaluation.generations == ()


FORMER = Path("champion")


def test_the_champion_is_scored_and_it_and_the_selected_one_on_the_general_examples() -> None:
    examiner = FakeExaminer()
    evaluation = run(examiner, *FULL_HISTORY, champion=FORMER)
    assert examiner.scored == [(CHAMPION, FORMER)]
    assert examiner.remembered == [(CHAMPION, FORMER), (40, CANDIDATES[40])]
    assert [step for step, _ in examiner.answered] == [0, 40]
    assert evaluation.champion is not None
    assert (evaluation.champion.token_accuracy, evaluation.champion.general_loss, evaluation.selected.general_loss) == (0.5, 1.0, 42.0)
    assert [candidate.step for candidate in evaluation.candidates] == [20, 40, 60]


@pytest.mark.parametrize("enabled", ["default", "false"])
def test_a_champion_that_is_compared_by_answers_answers(enabled: Literal["default", "false"]) -> None:
    examiner = FakeExaminer({CHAMPION: ["uno", "dos"]})
    evaluation = run(examiner, *FULL_HISTORY, metric="exact_match", enabled=enabled, champion=FORMER)
    assert evaluation.champion is not None
    assert evaluation.champion.exact_match == 1.0


def test_without_a_champion_nobody_is_asked_about_the_general_examples() -> None:
    examiner = FakeExaminer()
    evaluation = run(examiner, *FULL_HISTORY)
    assert (evaluation.champion, examiner.remembered, evaluation.selected.general_loss) == (None, [], None)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    evaluation = run(FakeExaminer(), *FULL_HISTORY, champion=FORMER)
    evaluation.write(tmp_path / "evaluation.json")
    assert Evaluation.read(tmp_path / "evaluation.json") == evaluation
    metadata = evaluation.metadata()
    assert (metadata["champion_token_accuracy"], metadata["champion_general_loss"], metadata["selected_general_loss"]) == (0.5, 1.0, 42.0)
