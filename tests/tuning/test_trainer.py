import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.modeling.tiny_model import random_dataset
from tests.tuning.workbench import Workbench
from tuneline.errors import InfrastructureError, ParameterError
from tuneline.modeling.checkpoints import STATE, checkpoint_path, final_checkpoint, list_checkpoints, verify
from tuneline.modeling.loading import load_model
from tuneline.modeling.scoring import score
from tuneline.tuning import trainer
from tuneline.tuning.batches import examples_of_step
from tuneline.tuning.schedule import rate_share


def checkpoint_steps(bench: Workbench) -> list[int]:
    return [checkpoint.step for checkpoint in list_checkpoints(bench.outputs().checkpoints)]


def test_the_base_is_evaluated_first_and_every_evaluation_leaves_a_checkpoint(bench: Workbench) -> None:
    history = bench.tune(steps=5)
    assert [row.step for row in history.eval] == [0, 2, 4, 5]
    assert [row.step for row in history.train] == [1, 2, 3, 4, 5]
    assert list(history.checkpoints) == checkpoint_steps(bench) == [2, 4, 5]
    assert (history.steps, history.examples, history.batch_size, history.stopped_early) == (5, 7, 3, "")
    assert history.epochs == pytest.approx(15 / 7)


def test_ten_rows_are_learnt_by_heart(bench: Workbench) -> None:
    bench.training = bench.evaluation = random_dataset([16] * 10)
    history = bench.tune(steps=60, batch_size=10, learning_rate=1e-2, evaluation_interval=60)
    assert history.eval[0].fraction_of_correct_next_step_preds < 0.1
    assert history.eval[-1].fraction_of_correct_next_step_preds > 0.95
    assert history.eval[-1].total_loss < 0.3


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(bench: Workbench) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        bench.tune(name, seed=seed)
    assert bench.weights("a") == bench.weights("b") != bench.weights("c")


def test_the_cut_into_rows_changes_the_weights_by_rounding_only(bench: Workbench) -> None:
    whole, cut = (bench.tune(f"out-{size}", tokens_per_row=size) for size in (1000, 32))
    for one, other in zip(whole.eval, cut.eval, strict=True):
        assert one.total_loss == pytest.approx(other.total_loss, abs=1e-5)


def test_a_step_computes_the_loss_of_its_batch_before_the_update(bench: Workbench) -> None:
    bench.training = bench.evaluation = random_dataset([16] * 3)
    history = bench.tune(steps=1)
    assert history.train[0].total_loss == pytest.approx(history.eval[0].total_loss, abs=1e-6)
    assert history.train[0].num_predictions == history.eval[0].num_predictions == 24


def test_the_weights_are_those_of_a_plain_loop_over_single_examples(bench: Workbench) -> None:
    bench.tune(tokens_per_row=32)
    model = AutoModelForCausalLM.from_pretrained(bench.base, dtype=torch.float32, attn_implementation="eager")
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(bench.plan.steps):
        optimizer.zero_grad()
        losses = []
        for index in examples_of_step(step, num_examples=len(bench.training), batch_size=bench.plan.batch_size, seed=bench.plan.seed):
            ids, mask = (torch.from_numpy(array.astype(np.int64)) for array in bench.training.example(index))
            logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
            losses.append(cross_entropy(logits, ids[1:], reduction="none")[mask[1:] == 1])
        torch.cat(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = bench.plan.learning_rate * rate_share(step, bench.plan.steps)
        optimizer.step()
    saved = load_file(checkpoint_path(bench.outputs().checkpoints, bench.plan.steps) / STATE[0])
    apart = torch.cat([(parameter - saved[f"weights.{name}"]).abs().flatten() for name, parameter in model.named_parameters()])
    assert len(apart) > 50_000
    # A step moves a weight by up to 3e-3. Where a gradient is rounding noise AdamW makes a step of it, so not every weight agrees.
    assert apart.mean() < 1e-7
    assert apart.quantile(0.999) < 1e-5


def test_every_checkpoint_scores_as_its_history_says(bench: Workbench) -> None:
    assert bench.evaluation is not None
    measured = {row.step: row.total_loss for row in bench.tune().eval}
    for checkpoint in list_checkpoints(bench.outputs().checkpoints):
        model = load_model(checkpoint.path, packed=True, dtype=torch.float32, device=torch.device("cpu"))
        # The folder holds the weights rounded to the base model's bf16.
        assert score(model, bench.evaluation, tokens_per_row=64).loss == pytest.approx(measured[checkpoint.step], abs=2e-2)


def test_final_is_the_last_step_and_loads_in_plain_transformers(bench: Workbench) -> None:
    bench.tune()
    final = final_checkpoint(bench.outputs().checkpoints)
    assert final is not None
    assert final.step == 6
    verify(final.path)
    model = AutoModelForCausalLM.from_pretrained(final.path, local_files_only=True)
    assert model.dtype == torch.bfloat16
    assert model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert model.generation_config.eos_token_id == [6]
    tokenizer = AutoTokenizer.from_pretrained(final.path, local_files_only=True)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert model.generate(**prompt, max_new_tokens=3, do_sample=False).shape[1] <= prompt["input_ids"].shape[1] + 3
    assert tokenizer.decode(prompt["input_ids"][0]).startswith("<|begin_of_text|><|user|>")


def test_only_the_newest_checkpoint_has_training_state(bench: Workbench) -> None:
    bench.tune()
    newest_first = list_checkpoints(bench.outputs().checkpoints)[::-1]
    assert [checkpoint.has_state for checkpoint in newest_first] == [True, False, False]
    for checkpoint in newest_first[1:]:
        assert not any((checkpoint.path / name).exists() for name in STATE)
        verify(checkpoint.path)


def test_at_most_ten_checkpoints_are_kept_and_the_best_among_them(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    # A rate of several times the peak: the model is best at an early step and gets worse.
    monkeypatch.setattr(trainer, "rate_share", lambda step, _steps: 2.0**step)
    history = bench.tune(steps=16, evaluation_interval=1)
    tuned = [row for row in history.eval if row.step > 0]
    best_accuracy = max(tuned, key=lambda row: row.fraction_of_correct_next_step_preds).step
    best_loss = min(tuned, key=lambda row: row.total_loss).step
    assert best_loss <= 6  # not among the ten newest
    kept = checkpoint_steps(bench)
    assert len(kept) == 10
    assert {best_accuracy, best_loss, 16} <= set(kept)
    assert list(history.checkpoints) == kept


def test_without_evaluation_data_there_are_checkpoints_but_no_evaluations(bench: Workbench) -> None:
    bench.evaluation = None
    history = bench.tune()
    assert history.eval == []
    assert list(history.checkpoints) == [2, 4, 6]


def test_early_stopping_ends_at_the_evaluation_that_shows_it(bench: Workbench) -> None:
    history = bench.tune(steps=40, evaluation_interval=1, learning_rate=1e-9, early_stopping=True)
    assert history.steps == 3
    assert "2 evaluations" in history.stopped_early
    assert history.checkpoints[-1] == 3
    final = final_checkpoint(bench.outputs().checkpoints)
    assert final is not None
    assert final.step == 3


def test_without_early_stopping_all_steps_are_made(bench: Workbench) -> None:
    assert bench.tune(steps=5, evaluation_interval=1, learning_rate=1e-9).steps == 5


def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_step_and_lines(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.training = replace(bench.training, lines=bench.training.lines + 100)
    original = trainer.row_loss

    def spoiled(model: object, row: object, *arguments: object, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
        loss, correct = original(model, row, *arguments, **options)  # type: ignore[arg-type]
        return (loss * float("nan") if 1 in row.examples else loss), correct  # type: ignore[attr-defined]

    monkeypatch.setattr(trainer, "row_loss", spoiled)
    with pytest.raises(ParameterError, match="step ") as caught:
        bench.tune(tokens_per_row=30)  # example 1 has 30 tokens: a row of its own
    assert caught.value.problems[0].endswith("Lines of the training data: 102.")
    for checkpoint in list_checkpoints(bench.outputs().checkpoints):
        verify(checkpoint.path)


def test_infinite_gradients_stop_it_too(bench: Workbench) -> None:
    with pytest.raises(ParameterError, match="finite"):
        bench.tune(steps=20, learning_rate=1e20)


def test_a_disk_without_room_for_the_checkpoints_is_refused_before_the_first_step(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.tune("whole")
    used = sum(path.stat().st_size for path in bench.outputs("whole").checkpoints.rglob("*.safetensors") if path.parent.name != "final")
    usage = shutil.disk_usage(bench.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=used))
    with pytest.raises(InfrastructureError, match="GiB free"):
        bench.tune()
    assert list_checkpoints(bench.outputs().checkpoints) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=3 * used))
    assert bench.tune().steps == 6


def test_the_history_is_json_with_the_agreed_keys(bench: Workbench, tmp_path: Path) -> None:
    path = tmp_path / "made" / "history.json"
    bench.tune().write(path)
    history = json.loads(path.read_text())
    assert history.keys() == {
        "steps", "examples", "batch_size", "epochs", "stopped_early", "seconds", "tokens_per_second", "learning_rate", "train", "eval", "checkpoints",
    }  # fmt: skip
    assert history["eval"][0].keys() == {"step", "total_loss", "fraction_of_correct_next_step_preds", "num_predictions"}
    assert history["tokens_per_second"] > 0


def test_one_line_says_how_many_epochs_that_is_and_no_line_shows_data(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        bench.tune()
    assert "steps=6 x batch_size=3 / examples=7 = epochs=2.57" in caplog.text
    assert "step=6/6 loss=" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_more_than_ten_epochs_are_warned_about(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    bench.tune(steps=30, batch_size=7, evaluation_interval=30)
    assert "epochs=30.0" in caplog.text
