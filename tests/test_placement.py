"""Where a job runs: every combination of regions and accelerators, and every refusal."""

import itertools

import pytest

from tuneline.catalog import load_catalog
from tuneline.errors import ParameterError
from tuneline.placement import Placement, Request, pipeline_location_of, resolve_placement

# Written down from the documentation, not read from the catalogue.
REGIONS = (
    "us-central1", "europe-west4", "asia-southeast1", "us-west1", "europe-west3", "europe-west2", "asia-northeast1", "us-east4", "us-west4",
    "northamerica-northeast1", "europe-west9", "europe-west1", "asia-northeast3",
)  # fmt: skip
MACHINES = {
    "GPU": ("us-central1", "a2-ultragpu-8g", "NVIDIA_A100_80GB", 8),
    "TPU": ("europe-west4", "cloud-tpu", "TPU_V3", 64),
}
BATCH_SIZES = {("GPU", 8192): 8, ("TPU", 8192): 24, ("GPU", 32768): 8, ("TPU", 32768): 8}
KEY = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
CATALOG = load_catalog()


def place(pipeline_location: str, *, sequence_length: int = 8192, has_gpu: bool = False, **values: object) -> Placement:
    request = Request(pipeline_location=pipeline_location, **values)  # type: ignore[arg-type]
    return resolve_placement(CATALOG, request, sequence_length=sequence_length, local_batch_size=4, has_gpu=has_gpu)


def refusal(pipeline_location: str, **values: object) -> str:
    with pytest.raises(ParameterError) as caught:
        place(pipeline_location, **values)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("pipeline", REGIONS)
def test_on_vertex_the_accelerator_alone_decides_the_tuning_region(pipeline: str) -> None:
    combinations = list(itertools.product(REGIONS, MACHINES, (8192, 32768)))
    assert len(combinations) == 13 * 2 * 2
    for upload, accelerator, length in combinations:
        placed = place(pipeline, location=upload, accelerator_type=accelerator, sequence_length=length)
        assert placed.backend == "vertex"
        assert (placed.pipeline_region, placed.upload_region) == (pipeline, upload)
        assert (placed.tuning_region, placed.machine_type, placed.accelerator_type, placed.accelerator_count) == MACHINES[accelerator]
        assert placed.batch_size == BATCH_SIZES[accelerator, length]
        assert len(placed.reasons) == 5
        assert all(reason[0].isupper() and reason.endswith(".") for reason in placed.reasons)


@pytest.mark.parametrize("pipeline", REGIONS)
def test_the_model_goes_to_the_pipelines_region_and_gpu_is_the_default(pipeline: str) -> None:
    placed = place(pipeline)
    assert placed.upload_region == pipeline
    assert placed.accelerator_type == "NVIDIA_A100_80GB"
    assert any("location is not set" in reason for reason in placed.reasons)
    assert any("GPU is the default" in reason for reason in placed.reasons)


@pytest.mark.parametrize(
    ("length", "accelerator", "expected"), [(1, "TPU", 24), (8192, "TPU", 24), (8193, "TPU", 8), (2048, "GPU", 8), (100_000, "GPU", 8)]
)  # fmt: skip
def test_the_batch_size_follows_length_and_place(length: int, accelerator: str, expected: int) -> None:
    assert place("us-west1", accelerator_type=accelerator, sequence_length=length).batch_size == expected


@pytest.mark.parametrize("location", ["us-west1", "local"])
def test_an_asked_batch_size_wins_and_is_said_to(location: str) -> None:
    placed = place(location, batch_size=3)
    assert placed.batch_size == 3
    assert any("batch_size asks for it" in reason for reason in placed.reasons)


# This machine and Kubernetes


@pytest.mark.parametrize(
    ("accelerator", "has_gpu", "expected"),
    [("", False, ("", 0)), ("", True, ("NVIDIA_GPU", 1)), ("GPU", True, ("NVIDIA_GPU", 1)), ("TPU", False, ("TPU", 1)), ("TPU", True, ("TPU", 1))],
)
@pytest.mark.parametrize("location", ["local", "kubernetes"])
def test_outside_vertex_all_is_in_one_place(location: str, accelerator: str, has_gpu: bool, expected: tuple[str, int]) -> None:
    placed = place(location, accelerator_type=accelerator, has_gpu=has_gpu)
    assert (placed.backend, placed.pipeline_region, placed.upload_region, placed.tuning_region, placed.machine_type) == (location,) * 5
    assert (placed.accelerator_type, placed.accelerator_count) == expected
    assert placed.batch_size == 4


def test_a_gpu_that_is_not_there_is_refused_with_what_to_do() -> None:
    text = refusal("local", accelerator_type="GPU")
    assert text == "accelerator_type: found 'GPU'; this machine has no GPU that can be used. Leave accelerator_type out to tune on the CPU."


@pytest.mark.parametrize("upload", [*REGIONS, "local"])
def test_a_local_run_may_name_any_upload_region(upload: str) -> None:
    assert place("local", location=upload).upload_region == upload


def test_a_placeholder_that_nobody_replaced_means_kubernetes() -> None:
    placed = place("{{$.pipeline_google_cloud_location}}")
    assert (placed.backend, placed.pipeline_region, placed.upload_region) == ("kubernetes", "kubernetes", "kubernetes")


# Refusals


@pytest.mark.parametrize(("wrong", "meant"), [("us-east1", "us-west1"), ("us-centra1", "us-central1"), ("US-CENTRAL1", "us-central1"), ("", ""), ("mars", "")])
def test_an_unknown_pipeline_region_is_refused_with_the_list(wrong: str, meant: str) -> None:
    text = refusal(wrong)
    assert text.startswith(f"pipeline region: found {wrong!r}; expected one of ")
    assert all(region in text for region in (*REGIONS, "local"))
    assert text.partition(" Did you mean ")[2] == (f"{meant!r}?" if meant else "")


@pytest.mark.parametrize(("pipeline", "upload"), [("us-central1", "us-east1"), ("us-central1", "local"), ("local", "kubernetes"), ("local", "mars")])
def test_an_upload_region_that_is_not_there_is_refused(pipeline: str, upload: str) -> None:
    text = refusal(pipeline, location=upload)
    assert text.startswith(f"location: found {upload!r}; expected one of us-central1,")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("pipeline", ["us-central1", "local"])
@pytest.mark.parametrize(("wrong", "hint"), [("CPU", "Leave it out"), ("gpu", "Did you mean 'GPU'"), ("NVIDIA_L4", "'GPU', 'TPU' or nothing")])
def test_another_accelerator_is_refused(pipeline: str, wrong: str, hint: str) -> None:
    text = refusal(pipeline, accelerator_type=wrong, has_gpu=True)
    assert text.startswith(f"accelerator_type: found {wrong!r}")
    assert hint in text


def test_a_key_is_used_when_all_is_in_its_region() -> None:
    placed = place("us-central1", encryption_spec_key_name=KEY)
    assert any("encrypted with your key" in reason for reason in placed.reasons)


@pytest.mark.parametrize(("pipeline", "upload", "accelerator"), list(itertools.product(REGIONS, REGIONS, ("GPU", "TPU"))))
def test_a_key_needs_gpu_tuning_and_pipeline_and_upload_in_us_central1(pipeline: str, upload: str, accelerator: str) -> None:
    wrong = [accelerator == "TPU", pipeline != "us-central1", upload != "us-central1"]
    values = {"location": upload, "accelerator_type": accelerator, "encryption_spec_key_name": KEY}
    if not any(wrong):
        assert place(pipeline, **values).tuning_region == "us-central1"
        return
    lines = refusal(pipeline, **values).splitlines()
    assert len(lines) == sum(wrong)
    assert all(line.startswith("encryption_spec_key_name: ") and "us-central1" in line for line in lines)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("my-key", "expected projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY"),
        (KEY + "/cryptoKeyVersions/1", "expected projects/"),
        (KEY.replace("us-central1", "europe-west4"), "key's own region is 'europe-west4'; expected us-central1"),
        (KEY.replace("us-central1", "global"), "key's own region is 'global'"),
    ],
)
def test_a_key_of_another_form_or_region_is_refused(key: str, words: str) -> None:
    assert words in refusal("us-central1", encryption_spec_key_name=key)


def test_a_key_is_refused_where_nothing_would_be_encrypted() -> None:
    assert "expected GPU tuning in us-central1. Leave the key out." in refusal("local", encryption_spec_key_name=KEY)


def test_a_tensorboard_must_be_in_the_pipelines_region() -> None:
    name = "projects/p/locations/europe-west4/tensorboards/123"
    assert place("europe-west4", tensorboard_resource_id=name, location="us-central1").pipeline_region == "europe-west4"
    text = refusal("us-central1", tensorboard_resource_id=name, location="europe-west4")
    assert "found one in 'europe-west4'; expected one in the pipeline's region 'us-central1'" in text


@pytest.mark.parametrize("name", ["123", "projects/p/locations/us-central1/tensorboards/abc", "projects/p/locations/us-central1/tensorboards/1/x"])
@pytest.mark.parametrize("pipeline", ["us-central1", "local"])
def test_a_tensorboard_needs_its_whole_name(pipeline: str, name: str) -> None:
    assert "expected projects/PROJECT/locations/REGION/tensorboards/NUMBER" in refusal(pipeline, tensorboard_resource_id=name)


def test_a_tensorboard_of_any_region_does_no_harm_outside_vertex() -> None:
    assert place("local", tensorboard_resource_id="projects/p/locations/us-west1/tensorboards/1").backend == "local"


def test_everything_that_is_wrong_is_said_at_once() -> None:
    text = refusal("mars", location="venus", accelerator_type="NPU", encryption_spec_key_name="k", tensorboard_resource_id="t")
    assert [line.partition(":")[0] for line in text.splitlines()] == [
        "pipeline region", "location", "accelerator_type", "encryption_spec_key_name", "tensorboard_resource_id",
    ]  # fmt: skip


def test_an_unknown_pipeline_region_is_said_once() -> None:
    assert len(refusal("mars").splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "environment", "location"),
    [
        ('["us-west1"]', {}, "us-west1"),
        ('["local"]', {"CLOUD_ML_REGION": "us-west1"}, "local"),
        ('["{{$.pipeline_google_cloud_location}}"]', {"CLOUD_ML_REGION": "us-west1"}, "us-west1"),
        ('["{{$.pipeline_google_cloud_location}}"]', {}, "{{$.pipeline_google_cloud_location}}"),
    ],
)
def test_the_pipeline_location_is_what_the_task_was_given_or_what_its_container_knows(text: str, environment: dict[str, str], location: str) -> None:
    assert pipeline_location_of(text, environment) == location
