"""Another region, another machine, several machines, places to fall back to: what each changes, and every refusal."""

import pytest

from tuneline.catalog import load_catalog
from tuneline.errors import ParameterError
from tuneline.overrides import Overrides
from tuneline.placement import Placement, Request, bucket_warnings, resolve_placement
from tuneline.resolution import JobSettings, Limits, Machine, Resolved, ResolvedModel

CATALOG = load_catalog()
OPEN_REGIONS = ("us-central1", "europe-west4", "us-west1", "us-east5", "asia-southeast1")


def place(pipeline: str = "europe-west2", *, job: JobSettings | None = None, accelerator_type: str = "", is_open: bool = False, **values: object) -> Placement:
    overrides = Overrides(job=job or JobSettings(), **values)  # type: ignore[arg-type]
    request = Request(pipeline_location=pipeline, accelerator_type=accelerator_type, is_open_model=is_open, overrides=overrides)
    return resolve_placement(CATALOG, request, sequence_length=8192, local_batch_size=5, has_gpu=False)


def refusal(**values: object) -> str:
    with pytest.raises(ParameterError) as caught:
        place(**values)  # type: ignore[arg-type]
    return str(caught.value)


def machine(placed: Placement) -> tuple[str, str, str, int]:
    return placed.tuning_region, placed.machine_type, placed.accelerator_type, placed.accelerator_count


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"tuning_location": "us-east4"}, ("us-east4", "a2-ultragpu-8g", "NVIDIA_A100_80GB", 8)),
        ({"machine_type": "a3-highgpu-4g"}, ("us-central1", "a3-highgpu-4g", "NVIDIA_H100_80GB", 4)),
        ({"machine_type": "g2-standard-24", "accelerator_count": 2}, ("us-central1", "g2-standard-24", "NVIDIA_L4", 2)),
        ({"accelerator_count": 2}, ("us-central1", "a2-ultragpu-2g", "NVIDIA_A100_80GB", 2)),
        ({"machine_type": "e2-standard-16"}, ("us-central1", "e2-standard-16", "", 0)),
    ],
)
def test_what_is_asked_for_replaces_the_usual_and_is_said(values: dict[str, object], expected: tuple[str, str, str, int]) -> None:
    placed = place(**values)  # type: ignore[arg-type]
    assert machine(placed) == expected
    [reason] = [reason for reason in placed.reasons if reason.startswith("Tuning computes")]
    assert [name for name in values if name not in reason] == []
    assert placed.launch == "custom-job"


def test_settings_of_the_job_arrive_and_are_said() -> None:
    job = JobSettings(replica_count=3, scheduling_strategy="FLEX_START", max_wait_duration="7200s", network="projects/1/global/networks/n")
    placed = place(job=job, tuning_fallbacks="us-east4/a3-highgpu-8g, europe-west4/g2-standard-96")
    assert placed.job == job
    assert placed.fallbacks == (
        Machine(region="us-east4", machine_type="a3-highgpu-8g", accelerator_type="NVIDIA_H100_80GB", accelerator_count=8),
        Machine(region="europe-west4", machine_type="g2-standard-96", accelerator_type="NVIDIA_L4", accelerator_count=8),
    )
    told = " ".join(placed.reasons)
    assert [
        word for word in ("3 such machines", "FLEX_START, for at most 7200s", "projects/1/global/networks/n", "a3-highgpu-8g in us-east4") if word not in told
    ] == []


@pytest.mark.parametrize("pipeline", OPEN_REGIONS)
def test_an_open_model_is_tuned_in_its_pipelines_region(pipeline: str) -> None:
    placed = place(pipeline, is_open=True)
    assert (placed.tuning_region, placed.upload_region, placed.accelerator_count) == (pipeline, pipeline, 8)
    assert placed.batch_size == 5
    assert any("open models are tuned in the region of their pipeline" in reason for reason in placed.reasons)


def test_an_open_model_of_another_region_is_tuned_where_hosted_ones_are() -> None:
    assert place("asia-northeast3", is_open=True).tuning_region == "us-central1"


def test_only_open_models_may_be_in_the_region_of_open_models() -> None:
    text = refusal(pipeline="us-east5")
    assert text.startswith("pipeline region: found 'us-east5'; expected one of us-central1,")
    assert text.endswith("Only open models may be there.")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"tuning_location": "us-east"}, "tuning_location: found the region 'us-east'"),
        ({"machine_type": "a2-ultragpu-9g"}, "Did you mean 'a2-ultragpu-8g'?"),
        ({"machine_type": "m1-ultramem-40"}, "needs a [[machine_type]] row"),
        ({"accelerator_count": 3}, "accelerator_count: found 3 x NVIDIA_A100_80GB; expected one of 1 (a2-ultragpu-1g), 2 (a2-ultragpu-2g)"),
        ({"machine_type": "g2-standard-24", "accelerator_count": 8}, "expected 2, which g2-standard-24 has"),
        ({"tuning_fallbacks": "us-east4"}, "expected REGION/MACHINE_TYPE"),
        ({"tuning_fallbacks": "mars/a3-highgpu-8g"}, "tuning_fallbacks: found the region 'mars'"),
        ({"job": JobSettings(max_wait_duration="2h")}, "max_wait_duration: found '2h'; expected seconds like '3600s'"),
        ({"job": JobSettings(scheduling_strategy="FLEX_START")}, "FLEX_START waits for machines"),
        ({"job": JobSettings(reservation="r")}, "reservation: found 'r'; expected projects/P/zones/Z/reservations/R"),
        ({"job": JobSettings(reservation="projects/p/zones/us-east4-a/reservations/r")}, "tuning computes in 'us-central1'. Set tuning_location to us-east4."),
        ({"job": JobSettings(reservation="projects/p/zones/us-central1-a/reservations/r", scheduling_strategy="SPOT")}, "a reservation is used at once"),
        ({"job": JobSettings(replica_count=0)}, "replica_count: found 0"),
        ({"job": JobSettings(network="default")}, "network: found 'default'"),
        ({"job": JobSettings(service_account="me")}, "service_account: found 'me'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(values: dict[str, object], told: str) -> None:
    assert told in refusal(**values)


def test_a_key_must_be_where_every_place_of_the_job_is() -> None:
    key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    overrides = Overrides(tuning_fallbacks="us-east4/a3-highgpu-8g")
    request = Request(pipeline_location="us-central1", encryption_spec_key_name=key, overrides=overrides)
    with pytest.raises(ParameterError, match="found a key with GPU tuning in us-east4; expected GPU tuning in us-central1"):
        resolve_placement(CATALOG, request, sequence_length=1, local_batch_size=1, has_gpu=False)


@pytest.mark.parametrize(("accelerator", "launch"), [("", "in-place"), ("GPU", "train-job")])
def test_in_a_cluster_an_accelerator_makes_a_train_job(accelerator: str, launch: str) -> None:
    placed = place("kubernetes", accelerator_type=accelerator, accelerator_count=4 if accelerator else 0)
    assert placed.launch == launch
    assert placed.accelerator_count == (4 if accelerator else 0)


@pytest.mark.parametrize(
    ("location", "warned"), [("us-central1", False), ("US", False), ("nam4", False), ("eu", True), ("europe-west4", True), ("us-east1", True), ("asia", True)]
)
def test_a_bucket_that_is_far_from_the_machine_is_warned_of(location: str, warned: bool) -> None:
    placed = place()
    resolved = Resolved(
        **vars(placed), limits=Limits(),
        base_model=ResolvedModel(reference="r", uri="hf://a/b", max_sequence_length=1, learning_rate=1.0),
    )  # fmt: skip
    warnings = bucket_warnings(resolved, {"dataset_uri": ("b", location), "model_output_root_dir": ("m", "europe-west2")})
    assert bool(warnings) == warned
    assert all(warning.startswith("dataset_uri: the bucket b is in ") for warning in warnings)
