"""Evaluations of model versions, copies of models, and ids that a client gives: each is given once."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.api.endpoint_bench import Bench, error, model_folder, of_its_own, opened
from tuneline.registry import models as registry

SCHEMA = "gs://google-cloud-aiplatform/schema/modelevaluation/general_text_generation_metrics_1.0.0.yaml"
EVALUATION = {"displayName": "tuned", "metricsSchemaUri": SCHEMA, "metrics": {"rougeLSum": 0.25, "loss": 1.5}, "metadata": {"step": 60}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with opened(tmp_path_factory.mktemp("home")) as bench:
        yield bench


@pytest.fixture
def bench(shared: Bench) -> Bench:
    return of_its_own(shared)


def imported(bench: Bench, model: str, **values: Any) -> Any:
    return bench.client.post(f"/v1/{model}/evaluations:import", json={"modelEvaluation": {**EVALUATION, **values}})


def test_an_evaluation_belongs_to_the_version_that_was_named(bench: Bench) -> None:
    model = bench.upload(modelId="mine").partition("@")[0]
    second = bench.upload(parentModel="mine", versionAliases=["best"])
    first = imported(bench, model).json()
    assert {key: first[key] for key in EVALUATION} == EVALUATION
    assert first["name"].startswith(f"{model}@1/evaluations/")
    best = imported(bench, f"{model}@best", displayName="second").json()
    assert best["name"].startswith(f"{second}/evaluations/")
    assert bench.get(f"{model}/evaluations") == {"modelEvaluations": [first]}
    assert bench.client.get(f"/v1beta1/{model}@2/evaluations", params={"filter": 'display_name="second"'}).json() == {"modelEvaluations": [best]}
    evaluation_id = best["name"].rpartition("/")[2]
    assert bench.get(best["name"]) == bench.get(f"{model}/evaluations/{evaluation_id}") == best
    assert error(bench.client.get(f"/v1/{model}@1/evaluations/{evaluation_id}"))[:2] == (404, "NOT_FOUND")


def test_the_evaluations_of_a_version_go_with_it(bench: Bench) -> None:
    model = bench.upload(modelId="mine").partition("@")[0]
    bench.upload(parentModel="mine")
    gone, kept = imported(bench, f"{model}@2").json()["name"], imported(bench, f"{model}@1").json()["name"]
    bench.client.delete(f"/v1/{model}@2:deleteVersion")
    assert bench.service.store.find(gone) is None
    assert bench.get(kept)["name"] == kept


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"metrics": None}, "modelEvaluation.metrics: expected an object"),
        ({"metrics": []}, "modelEvaluation.metrics: expected an object"),
        ({"metricsSchemaUri": "https://example.org/x"}, "modelEvaluation.metricsSchemaUri"),
        ({"metricSchemaUri": SCHEMA}, "Did you mean 'metricsSchemaUri'?"),
    ],
)
def test_a_wrong_evaluation_is_refused(bench: Bench, values: dict[str, Any], told: str) -> None:
    code, status, message = error(imported(bench, bench.upload(), **values))
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert told in message
    assert error(imported(bench, f"{bench.place}/models/1"))[1] == "NOT_FOUND"


def test_a_copy_has_the_sources_files_and_a_key_of_its_own(bench: Bench, tmp_path: Path) -> None:
    key = "projects/p/locations/{}/keyRings/r/cryptoKeys/k"
    values: dict[str, Any] = {"labels": {"a": "b"}, "description": "d", "encryptionSpec": {"kmsKeyName": key.format("us-central1")}, "versionAliases": ["best"]}
    source = bench.upload(model_folder(tmp_path / "model"), **values)
    there = bench.models.replace("us-central1", "europe-west4")
    request = {"sourceModel": source, "modelId": "copied", "encryptionSpec": {"kmsKeyName": key.format("europe-west4")}}
    operation = bench.client.post(f"{there}:copy", json=request).json()
    assert operation["metadata"]["@type"].endswith("v1.CopyModelOperationMetadata")
    response = bench.ended(operation)["response"]
    assert (response["model"], response["modelVersionId"]) == (f"{there.removeprefix('/v1/')}/copied", "1")
    copy = bench.get(response["model"])
    assert (copy["displayName"], copy["labels"], copy["description"], copy["versionAliases"]) == ("m", {"a": "b"}, "d", ["default"])
    assert copy["encryptionSpec"] == {"kmsKeyName": key.format("europe-west4")}
    assert registry.get(f"{response['model']}@1").files == registry.get(source).files
    assert error(bench.client.post(f"{there}:copy", json=request))[:2] == (409, "ALREADY_EXISTS")
    recorded = bench.upload(tmp_path)
    assert "recorded without its files" in error(bench.client.post(f"{there}:copy", json={"sourceModel": recorded}))[2]


@pytest.mark.parametrize("has_files", [True, False])
def test_of_uploads_with_one_id_at_the_same_time_one_makes_the_model(bench: Bench, tmp_path: Path, has_files: bool) -> None:
    artifact = {"artifactUri": str(model_folder(tmp_path / "model"))} if has_files else {}
    body = {"model": {"displayName": "m", **artifact}, "modelId": "mine"}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: bench.client.post(f"{bench.models}:upload", json=body), range(8)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 7}
    [operation] = [answer.json() for answer in answers if answer.status_code == 200]
    assert bench.ended(operation)["response"]["modelVersionId"] == "1"
    assert len(bench.client.get(f"{bench.models}/mine:listVersions").json()["models"]) == 1


def test_an_upload_that_failed_does_not_keep_its_id(bench: Bench, tmp_path: Path) -> None:
    body = {"model": {"displayName": "m", "artifactUri": str(tmp_path / "nothing")}, "modelId": "mine"}
    assert "error" in bench.ended(bench.client.post(f"{bench.models}:upload", json=body).json())
    assert bench.upload(modelId="mine").endswith("/mine@1")


def test_of_endpoints_with_one_id_at_the_same_time_one_is_made(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: bench.client.post(bench.endpoints, params={"endpointId": "mine"}, json={"displayName": "e"}), range(8)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 7}
    assert {error(answer)[1] for answer in answers if answer.status_code == 409} == {"ALREADY_EXISTS"}
