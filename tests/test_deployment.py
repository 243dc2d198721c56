"""Parameters of registration and deployment, checked before anything is paid for."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_validation import CATALOG, GOOD, LOCAL, PLACEHOLDER, found, resolved
from tuneline.catalog import load_catalog
from tuneline.deployment import aliases_in, loading_seconds
from tuneline.resolution import Machine, Resolved

DEPLOYED = replace(GOOD, deploy_model=True)
NO_ROW = '[[model]]\nreference = "own/model@1"\nspellings = []\nuri = "gs://b/m"\nkind = "any"\narchitecture = "LlamaForCausalLM"\nmodes = ["FULL"]\n'
NO_ROW += "context_window = 1024\nmax_sequence_length = 1024\nlearning_rate = 0.1\nlocal_batch_size = 1\n" + 'limits = "none"\n'


@pytest.mark.parametrize(
    ("reference", "machine_type", "accelerators"),
    [
        ("code-bison@002", "g2-standard-12", "1 x NVIDIA_L4"),
        ("meta/llama3-3@llama-3.3-70b-instruct", "a3-highgpu-4g", "4 x NVIDIA_H100_80GB"),
        ("google/gemma-3-27b-it", "a3-highgpu-4g", "4 x NVIDIA_H100_80GB"),
        ("tuneline/tiny-code@001", "e2-standard-16", ""),
    ],
)
def test_the_base_model_decides_what_serves(reference: str, machine_type: str, accelerators: str) -> None:
    serving = resolved(found(replace(DEPLOYED, large_model_reference=reference), template="tune-open-model")).serving
    assert serving is not None
    assert (serving.region, serving.machine_type) == ("us-west1", machine_type)
    assert accelerators == (f"{serving.accelerator_count} x {serving.accelerator_type}" if serving.accelerator_count else "")


def test_every_open_model_has_a_machine_that_serves_it() -> None:
    assert {row.model for row in CATALOG.serving.values()} == set(CATALOG.models)


def test_the_user_may_choose_another_machine_and_explain_says_so() -> None:
    choices = resolved(found(replace(DEPLOYED, serving_machine_type="a2-ultragpu-1g")))
    assert choices.serving == Machine(region="us-west1", machine_type="a2-ultragpu-1g", accelerator_type="NVIDIA_A100_80GB", accelerator_count=1)
    assert choices.reasons[-1] == "The model is served in us-west1 on a2-ultragpu-1g with 1 x NVIDIA_A100_80GB."
    assert Resolved.from_json(choices.to_json()) == choices


def test_a_model_without_a_row_needs_a_machine() -> None:
    catalog = load_catalog(NO_ROW, "mine.toml")
    asked = replace(DEPLOYED, large_model_reference="own/model@1")
    [problem] = found(asked, catalog=catalog, template="tune-open-model").problems
    assert problem.startswith("serving_machine_type: is empty, and no [[serving]] row is for 'own/model@1'.")
    assert resolved(found(replace(asked, serving_machine_type="g2-standard-8"), catalog=catalog, template="tune-open-model")).serving is not None
    assert resolved(found(replace(asked, deploy_model=False), catalog=catalog, template="tune-open-model")).serving is None


def test_this_machine_serves_by_itself() -> None:
    assert resolved(found(replace(LOCAL, deploy_model=True), location="local")).serving is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"serving_machine_type": "g2-standard-13"}, "serving_machine_type: found 'g2-standard-13'; expected one of"),
        ({"traffic_percentage": 101}, "traffic_percentage: found 101; expected 0 to 100"),
        ({"min_replica_count": 0}, "min_replica_count: found 0; expected 1 or more"),
        ({"min_replica_count": 3}, "max_replica_count: found 1; expected min_replica_count (3) or more"),
        ({"undeploy_after_hours": -1}, "undeploy_after_hours: found -1"),
        ({"undeploy_after_hours": 8761}, "undeploy_after_hours: found 8761; expected at most 8760 hours"),
        ({"serving_container_image_uri": "mine:2"}, "serving_container_image_uri: found the image 'mine:2', which names no registry"),
        ({"serving_container_image_uri": "localhost/mine:2"}, "serving_container_image_uri: found the image 'localhost/mine:2', which names no registry"),
        ({"version_aliases": "best, Best"}, "version_aliases: found 'Best'"),
        ({"model_output_root_dir": "/gcs/b/models"}, "model_output_root_dir: found '/gcs/b/models'; expected gs://"),
        ({"parent_model": "123"}, "parent_model: found '123'; expected projects/PROJECT/locations/REGION/models/ID"),
        ({"parent_model": "projects/p/locations/europe-west4/models/1"}, "parent_model: found one in 'europe-west4'; the model is registered in 'us-west1'"),
        ({"target_endpoint": "projects/p/locations/us-central1/endpoints/1"}, "target_endpoint: found one in 'us-central1'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(change: dict[str, object], words: str) -> None:
    [problem] = found(replace(DEPLOYED, **change)).problems
    assert problem.startswith(words)


@pytest.mark.parametrize(("location", "where"), [("local", "outside Vertex"), (PLACEHOLDER, "outside Vertex")])
def test_what_only_vertex_heeds_is_told(location: str, where: str) -> None:
    asked = replace(LOCAL, deploy_model=True, target_endpoint="projects/p/locations/us-west1/endpoints/1", serving_spot=True, undeploy_after_hours=2)
    warnings = found(asked, location=location).warnings
    assert warnings == tuple(f"{name} has no effect {where}." for name in ("target_endpoint", "serving_spot", "undeploy_after_hours"))


def test_this_machine_has_one_replica() -> None:
    assert found(replace(LOCAL, max_replica_count=2), location="local").warnings == ("max_replica_count has no effect on this machine.",)
    assert found(replace(LOCAL, max_replica_count=2), location=PLACEHOLDER).warnings == ()


def test_aliases_are_separated_by_commas() -> None:
    assert aliases_in(" best,newest , ,") == ("best", "newest")


@pytest.mark.parametrize(("num_bytes", "seconds"), [(1, 1860), (16 * 2**30, 2760), (140 * 2**30, 7200)])
def test_larger_models_may_take_longer_to_load_up_to_two_hours(num_bytes: int, seconds: int) -> None:
    assert loading_seconds(num_bytes) == seconds


def test_prices_are_by_machine_and_region() -> None:
    assert CATALOG.usd_per_hour("g2-standard-24", "us-central1") == pytest.approx(2 * 1.000416)
    assert CATALOG.usd_per_hour("e2-standard-16", "europe-west4") == pytest.approx(0.590176)
    assert CATALOG.usd_per_hour("a4-highgpu-8g", "us-central1") is None
    assert CATALOG.usd_per_hour("g2-standard-12", "local") is None
    assert all(row.date for row in CATALOG.prices.values())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('[[serving]]\nmodel = "own/model@1"\nmachine_type = "g2-standard-8"\nevidence = "calculated"', "model names 'own/model@1', which no row has"),
        ('[[serving]]\nmodel = "qwen/qwen3@qwen3-8b"\nevidence = "hearsay"', "evidence is 'hearsay'; expected one of 'notebook', 'calculated'"),
        ('[[price]]\nid = "g2-us-central1"\nmachine_types = ["g2-standard-13"]', "machine_types names 'g2-standard-13', which no row has"),
        ('[[price]]\nid = "g2-us-central1"\nregions = ["us-central9"]', "regions names 'us-central9', which no row has"),
    ],
)
def test_rows_that_name_nothing_are_refused(row: str, words: str) -> None:
    from tuneline.errors import CatalogError

    with pytest.raises(CatalogError) as caught:
        load_catalog(row, "mine.toml")
    assert words in str(caught.value)


def test_the_table_of_the_documentation_is_the_catalogues() -> None:
    page = (Path(__file__).parents[1] / "docs/deployment.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.*)` \| (\S+) \| (.*?) ?\| (notebook|calculated) \|$", page, re.MULTILINE)
    types = CATALOG.machine_types
    expected = []
    for row in CATALOG.serving.values():
        machine = types[row.machine_type]
        accelerators = f"{machine.accelerator_count} x {machine.accelerator_type}" if machine.accelerator_count else ""
        expected.append((row.model, row.machine_type, accelerators, row.evidence))
    assert rows == expected
    assert all(str(row.date) in page for row in CATALOG.prices.values())
