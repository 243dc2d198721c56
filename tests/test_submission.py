"""Parameters before they are sent: their types, and the first task's own checks, all at once."""

import pytest

from tuneline.catalog import load_catalog
from tuneline.submission import Checked, check_parameters
from tuneline.templates import load, read

TEMPLATE, CATALOG = load("tune-large-model"), load_catalog()
GIVEN = {"project": "p", "model_display_name": "m", "dataset_uri": "gs://bucket/d.jsonl"}


def checked(*, region: str = "us-central1", **values: object) -> Checked:
    return check_parameters(TEMPLATE, {**GIVEN, **values}, pipeline_location=region, catalog=CATALOG)


def test_values_get_their_types_and_keep_their_order_and_defaults_are_left_to_the_template() -> None:
    found = checked(train_steps="20", enable_early_stopping="false", learning_rate_multiplier="2", enable_checkpoint_selection="true")
    assert found.problems == ()
    assert list(found.values.items())[3:] == [
        ("train_steps", 20),
        ("enable_early_stopping", False),
        ("learning_rate_multiplier", 2.0),
        ("enable_checkpoint_selection", "true"),
    ]
    assert found.resolved is not None
    assert (found.resolved.backend, found.resolved.tuning_region) == ("vertex", "us-central1")


def test_problems_of_types_and_of_values_come_at_once() -> None:
    found = checked(train_steps="many", location="mars", accelerator_type="CPU", batch_size="-3")
    assert sorted(problem.split()[0].rstrip(":") for problem in found.problems) == ["accelerator_type", "batch_size", "location", "train_steps"]
    assert found.resolved is None


def test_what_is_missing_is_told_once() -> None:
    found = check_parameters(TEMPLATE, {}, pipeline_location="us-central1", catalog=CATALOG)
    assert sorted(problem.split()[0].rstrip(":") for problem in found.problems) == ["dataset_uri", "model_display_name", "project"]


@pytest.mark.parametrize(
    ("region", "values", "told"),
    [
        ("us-east1", {}, "pipeline region: found 'us-east1'"),
        ("us-central1", {"dataset_uri": "rows.jsonl"}, "a job on Vertex reads gs:// only"),
        ("us-west1", {"encryption_spec_key_name": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"}, "the pipeline region is 'us-west1'"),
        ("us-west1", {"tensorboard_resource_id": "projects/p/locations/us-central1/tensorboards/1"}, "expected one in the pipeline's region 'us-west1'"),
        ("us-central1", {"large_model_reference": "gpt@1"}, "not in the model catalogue"),
    ],
)
def test_the_job_s_region_decides_as_it_does_in_the_first_task(region: str, values: dict[str, object], told: str) -> None:
    assert told in "\n".join(checked(region=region, **values).problems)


def test_a_cluster_has_rules_of_its_own() -> None:
    found = checked(region="kubernetes", dataset_uri="/data/rows.jsonl", accelerator_type="GPU", upload_model="false")
    assert found.problems == ()
    assert found.resolved is not None
    assert found.resolved.backend == "kubernetes"


def test_settings_without_effect_are_told() -> None:
    assert "evaluation_interval has no effect" in checked(evaluation_interval="5").warnings[0]


def test_a_template_of_another_kind_gets_its_types_checked() -> None:
    document = """
components: {}
deploymentSpec: {}
pipelineInfo: {name: other}
root: {inputDefinitions: {parameters: {count: {parameterType: NUMBER_INTEGER}, text: {parameterType: STRING, description: Words.}}}}
"""
    found = check_parameters(read(document, "other"), {"count": "x"}, pipeline_location="us-central1", catalog=CATALOG)
    assert found.problems == ("count is 'x'; expected a whole number.", "text is missing: Words.")
    assert found.resolved is None
