"""What a launch consists of."""

from dataclasses import replace

import pytest

from tests.launching.orders import ORDER, PLACES
from tuneline.launching.order import Order, Try, make_order
from tuneline.resolution import JobSettings, Limits, Resolved, ResolvedModel

RESOLVED = Resolved(
    backend="vertex", pipeline_region="europe-west2", upload_region="europe-west2", tuning_region="us-central1", machine_type="a2-ultragpu-8g",
    accelerator_type="NVIDIA_A100_80GB", accelerator_count=8, batch_size=8, launch="custom-job", fallbacks=PLACES[1:], job=JobSettings(replica_count=2),
    base_model=ResolvedModel(reference="r", uri="hf://o/m", max_sequence_length=8192, learning_rate=1e-5), limits=Limits(), reasons=(),
)  # fmt: skip


def order(resolved: Resolved = RESOLVED, **changes: object) -> Order:
    given = {"outputs": "gs://b/run", "image": "image:1", "several": True, "labels": {"team": "a"}, **changes}
    return make_order("tune-model", ["--seed", "1", "--output-checkpoints", "gs://b/run/checkpoints"], resolved=resolved, **given)  # type: ignore[arg-type]


def test_an_order_has_the_chosen_machine_and_then_those_to_fall_back_to() -> None:
    assert order() == ORDER
    assert order(replace(RESOLVED, job=JobSettings(tuning_image_uri="mine:2"))).image == "mine:2"


def test_the_key_follows_the_flags_and_nothing_else() -> None:
    other_run = replace(ORDER, arguments=(*ORDER.arguments[:-1], "gs://b/other/checkpoints"))
    assert order().key == order().key == replace(ORDER, image="x", places=PLACES[:1]).key
    assert len({ORDER.key, other_run.key, replace(ORDER, arguments=("evaluate_model", *ORDER.arguments[1:])).key}) == 3
    assert len(ORDER.key) == 32


@pytest.mark.parametrize(("place", "processes"), [(0, "8"), (1, "4"), (2, "1")])
def test_each_job_has_a_folder_and_a_process_for_each_accelerator_of_its_place(place: int, processes: str) -> None:
    folder = f"gs://b/run/jobs/{ORDER.key[:16]}/2-{place}"
    assert ORDER.environment(Try(attempt=2, place=place)) == {"TUNELINE_JOB_FOLDER": folder, "TUNELINE_PROCESSES": processes}
    assert ORDER.replicas == 2


def test_a_step_of_one_process_takes_one_machine() -> None:
    alone = order(several=False, resume_from="gs://b/earlier")
    assert (alone.replicas, alone.processes(PLACES[0])) == (1, 1)
    assert alone.environment(Try())["TUNELINE_RESUME_FROM"] == "gs://b/earlier"
