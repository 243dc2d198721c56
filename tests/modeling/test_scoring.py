from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.modeling.tiny_model import llama_configuration, random_dataset, random_model, write_base
from tuneline.errors import ModelError
from tuneline.modeling.loading import load_model
from tuneline.modeling.scoring import IGNORED, packed_row, packed_rows, row_loss, score

LENGTHS = [30, 7, 2, 61, 18, 44]


def test_targets_are_the_next_trained_tokens_and_never_cross_a_document() -> None:
    dataset = random_dataset([5, 4])
    dataset.loss_mask[:] = 1  # even a trained first token cannot be predicted: nothing comes before it
    row = packed_row(dataset, [0, 1])
    first, second = (dataset.example(index)[0].tolist() for index in (0, 1))
    assert row.ids.tolist() == first + second
    assert row.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert row.targets.tolist() == [*first[1:], IGNORED, *second[1:], IGNORED]
    assert row.lengths == (5, 4)
    assert row.num_predictions == 7


def test_untrained_tokens_are_no_targets() -> None:
    dataset = random_dataset([6])
    ids, mask = dataset.example(0)
    targets = packed_row(dataset, [0]).targets.tolist()
    assert [target != IGNORED for target in targets[:-1]] == np.asarray(mask[1:], dtype=bool).tolist()
    assert targets[2:5] == ids[3:].tolist()


def test_rows_hold_every_example_once_and_keep_to_their_size() -> None:
    dataset = random_dataset(LENGTHS)
    rows = packed_rows(dataset, range(len(LENGTHS)), tokens_per_row=64)
    assert sorted(example for row in rows for example in row.examples) == list(range(len(LENGTHS)))
    assert all(len(row.ids) == sum(row.lengths) <= 64 for row in rows)


def test_an_example_longer_than_a_row_gets_a_row_of_its_size() -> None:
    rows = packed_rows(random_dataset(LENGTHS), range(len(LENGTHS)), tokens_per_row=20)
    assert max(len(row.ids) for row in rows) == max(LENGTHS)


@pytest.mark.parametrize("tokens_per_row", [16, 64, 1000])
def test_the_score_is_the_mean_over_all_predicted_tokens_however_they_are_packed(tokens_per_row: int) -> None:
    dataset = random_dataset(LENGTHS)
    plain = random_model(llama_configuration(), packed=False)
    losses, hits = [], []
    for index in range(len(dataset)):
        ids, mask = dataset.example(index)
        trained = torch.from_numpy(np.asarray(mask[1:], dtype=bool))
        targets = torch.from_numpy(ids[1:].astype(np.int64))[trained]
        with torch.no_grad():
            logits = plain(input_ids=torch.from_numpy(ids.astype(np.int64))[None], use_cache=False).logits[0, :-1][trained]
        losses += cross_entropy(logits, targets, reduction="none").tolist()
        hits += (logits.argmax(-1) == targets).tolist()
    result = score(random_model(llama_configuration(), packed=True), dataset, tokens_per_row=tokens_per_row)
    assert result.num_predictions == len(losses)
    assert result.loss == pytest.approx(np.mean(losses), abs=1e-5)
    assert result.token_accuracy == pytest.approx(np.mean(hits))


def gradients(tokens_per_row: int) -> tuple[int, list[torch.Tensor]]:
    dataset = random_dataset([20] * 8)
    model = random_model(llama_configuration(), packed=True)
    rows = packed_rows(dataset, range(8), tokens_per_row)
    total = sum(row.num_predictions for row in rows)
    for row in rows:
        row_loss(model, row, 1 / total)[0].backward()
    return len(rows), [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize(("tokens_per_row", "num_rows"), [(20, 8), (40, 4)])
def test_gradients_do_not_depend_on_the_cut_into_rows(tokens_per_row: int, num_rows: int) -> None:
    (one, together), (count, apart) = gradients(160), gradients(tokens_per_row)
    assert (one, count) == (1, num_rows)
    assert len(together) == len(apart) > 10
    assert max(float((a - b).abs().max()) for a, b in zip(together, apart, strict=True)) < 1e-6


def test_scoring_stops_when_it_is_told_to() -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(random_model(llama_configuration(), packed=True), random_dataset(LENGTHS), tokens_per_row=61, before_row=stop)


def test_a_model_is_loaded_in_the_type_that_was_asked_for(tmp_path: Path) -> None:
    model = load_model(write_base(tmp_path), packed=True, dtype=torch.float32, device=torch.device("cpu"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training


def test_a_folder_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    (write_base(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_model(tmp_path, packed=False, dtype=torch.float32, device=torch.device("cpu"))
