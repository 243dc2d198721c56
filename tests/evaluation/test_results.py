"""JSON in and out: round trips, and no NaN ever leaves."""

import json
import math
from pathlib import Path

import pytest

from tuneline.evaluation.results import Evaluation, Generation, History, Measured

BASE = Measured(step=0, loss=2.5, token_accuracy=0.4, num_predictions=100, exact_match=0.0, rouge_l=0.1, chrf=0.2)
TUNED = Measured(step=20, loss=1.5, token_accuracy=0.6, num_predictions=100, exact_match=0.5, rouge_l=0.6, chrf=0.7)


def evaluation(*candidates: Measured, base: Measured = BASE, selected_step: int = 20) -> Evaluation:
    generation = Generation(line=3, prompt="def f():", reference="    return '한국어'", base="", tuned="    return 1")
    return Evaluation(base=base, candidates=candidates, selected_step=selected_step, metric="token_accuracy", generations=(generation,))


def test_an_evaluation_survives_its_json(tmp_path: Path) -> None:
    written = evaluation(TUNED, Measured(step=40, loss=1.4, token_accuracy=0.5, num_predictions=100))
    path = tmp_path / "evaluation.json"
    path.write_text(written.to_json(), encoding="utf-8")
    assert Evaluation.read(path) == written


def test_numbers_that_are_not_finite_are_left_out_of_json_and_metadata() -> None:
    diverged = Measured(step=20, loss=math.nan, token_accuracy=math.inf, num_predictions=100)
    written = evaluation(diverged)
    assert json.loads(written.to_json())["candidates"] == [{"step": 20, "num_predictions": 100}]
    assert set(written.metadata()) == {"metric", "selected_step", "selected_num_predictions", *(f"base_{name}" for name in BASE.to_mapping() if name != "step")}
    json.dumps(written.metadata(), allow_nan=False)


def test_metadata_is_flat_and_tells_base_from_selected() -> None:
    metadata = evaluation(Measured(step=10), TUNED).metadata()
    assert (metadata["base_loss"], metadata["selected_loss"], metadata["selected_chrf"]) == (2.5, 1.5, 0.7)
    assert all(isinstance(value, (int, float, str)) for value in metadata.values())


def test_without_evaluation_data_the_base_is_empty() -> None:
    content = json.loads(evaluation(Measured(step=20), base=Measured(step=0)).to_json())
    assert content["base"] == {}
    assert content["candidates"] == [{"step": 20}]


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "null"])
def test_a_diverged_history_is_read_as_scored_without_values(tmp_path: Path, bad: str) -> None:
    point = f'{{"step": 20, "total_loss": {bad}, "fraction_of_correct_next_step_preds": 0.5, "num_predictions": 7}}'
    rest = '"steps": 20, "examples": 9, "batch_size": 2, "epochs": 4.4, "stopped_early": "", "seconds": 3.0, "tokens_per_second": 99.5, "learning_rate": 0.001'
    path = tmp_path / "history.json"
    path.write_text(f'{{{rest}, "train": [{point}], "eval": [{point}], "checkpoints": [20]}}', encoding="utf-8")
    history = History.read(path)
    assert history.evaluations == (Measured(step=20, loss=None, token_accuracy=0.5, num_predictions=7),)
    assert history.train == history.evaluations
    assert (history.steps, history.epochs, history.stopped_early) == (20, 4.4, "")
    assert history.evaluations[0].is_scored
