"""What a tuned model comes from: the data fingerprint follows it, and nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.test_storage import storage
from tuneline.catalog import load_catalog
from tuneline.inputs import Inputs, examine_inputs
from tuneline.parameters import TuningParameters
from tuneline.resolution import Champion, Resolved
from tuneline.storage import Storage
from tuneline.validation import check

CATALOG = load_catalog()
__all__ = ["storage"]


@pytest.fixture
def job(tmp_path: Path) -> TuningParameters:
    for name in ("train", "evaluation", "general"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"input_text": "{name}", "output_text": "x"}}\n')
    return TuningParameters(
        project="p", model_display_name="weekly", dataset_uri=str(tmp_path / "train.jsonl"), evaluation_data_uri=str(tmp_path / "evaluation.jsonl"),
        general_data_uri=str(tmp_path / "general.jsonl"), champion_gate=True, large_model_reference="tuneline/tiny-code@001",
    )  # fmt: skip


def examine(job: TuningParameters, storage: Storage | None = None, **choices: Any) -> Inputs:
    """What is found; `choices` change what was resolved."""
    findings = check(job, template="tune-large-model", catalog=CATALOG, pipeline_location="local", has_gpu=False)
    assert findings.resolved is not None, findings.problems
    resolved: Resolved = replace(findings.resolved, **choices)
    return examine_inputs(job, replace(findings, resolved=resolved), CATALOG, storage=storage or Storage(), downloads=Path("/nowhere"))


def test_the_same_bytes_elsewhere_are_the_same_data(job: TuningParameters, tmp_path: Path) -> None:
    (tmp_path / "copy.jsonl").write_bytes((tmp_path / "train.jsonl").read_bytes())
    assert examine(job).data_fingerprint == examine(replace(job, dataset_uri=str(tmp_path / "copy.jsonl"))).data_fingerprint


def test_other_bytes_are_other_data(job: TuningParameters, tmp_path: Path) -> None:
    seen = {examine(job).data_fingerprint}
    for name in ("train", "evaluation", "general"):
        with (tmp_path / f"{name}.jsonl").open("a") as file:
            file.write('{"input_text": "more", "output_text": "y"}\n')
        seen.add(examine(job).data_fingerprint)
    assert len(seen) == 4


def test_the_same_bytes_written_again_to_a_bucket_are_the_same_data(job: TuningParameters, storage: Storage) -> None:
    job = replace(job, dataset_uri="gs://bucket/train.jsonl")
    found = []
    for content in ("one", "one", "two"):
        storage.write_text(job.dataset_uri, content)
        found.append(examine(job, storage))
    assert found[0].fingerprint != found[1].fingerprint
    assert found[0].data_fingerprint == found[1].data_fingerprint != found[2].data_fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"machine_type": "a3-highgpu-8g", "accelerator_type": "NVIDIA_H100_80GB", "accelerator_count": 8},
        {"pipeline_region": "europe-west4", "upload_region": "us-west1", "tuning_region": "us-central1"},
        {"champion": Champion(model_resource_name="projects/p/locations/l/models/1@1", uri="/models/1")},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_machines_places_and_champions_are_not_what_a_model_comes_from(job: TuningParameters, changes: dict[str, Any]) -> None:
    plain, changed = examine(job), examine(job, **changes)
    assert plain.data_fingerprint == changed.data_fingerprint
    assert plain.fingerprint != changed.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"train_steps": 7}, {"seed": 1}, {"learning_rate_multiplier": 2.0}, {"default_context": "x"}, {"overlength_policy": "drop"}, {"batch_size": 3},
        {"selection_metric": "loss"}, {"enable_checkpoint_selection": "false"}, {"champion_margin": 0.1}, {"champion_gate": False},
        {"max_general_loss_increase": 0.5}, {"continue_from_champion": True},
    ],
    ids=str,
)  # fmt: skip
def test_parameters_that_shape_or_choose_the_model_are(job: TuningParameters, changes: dict[str, Any]) -> None:
    assert examine(job).data_fingerprint != examine(replace(job, **changes)).data_fingerprint


@pytest.mark.parametrize(
    "changes",
    [{"project": "other"}, {"model_display_name": "other"}, {"evaluation_num_prompts": 3}, {"deploy_model": True}, {"skip_unchanged": True}],
    ids=str,
)
def test_names_and_what_happens_afterwards_are_not(job: TuningParameters, changes: dict[str, Any]) -> None:
    assert examine(job).data_fingerprint == examine(replace(job, **changes)).data_fingerprint


def test_another_base_model_counts_unless_it_is_the_champion(job: TuningParameters, tmp_path: Path) -> None:
    plain = examine(job)
    resolved = check(job, template="tune-large-model", catalog=CATALOG, pipeline_location="local", has_gpu=False).resolved
    assert resolved is not None
    champion = replace(resolved.base_model, uri=str(tmp_path / "champion"))
    assert plain.data_fingerprint != examine(job, base_model=champion).data_fingerprint
    going_on = replace(job, continue_from_champion=True)
    assert examine(going_on).data_fingerprint == examine(going_on, base_model=champion).data_fingerprint
