"""Publishers' models: what `from_pretrained` asks for, and base models that answer without having been deployed."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.endpoint_bench import Bench, error, of_its_own, opened, start_fake_servers
from tuneline.registry import endpoints as registry


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, opened(tmp_path_factory.mktemp("home")) as bench:
        start_fake_servers(patch)
        yield of_its_own(bench)


@pytest.mark.parametrize(
    ("asked", "name", "version", "kind"),
    [
        ("google/models/code-bison@002", "code-bison", "002", "code"),
        ("google/models/code-bison", "code-bison", "002", "code"),
        ("google/models/text-bison@001", "text-bison", "001", "text"),
        ("google/models/chat-bison-32k@002", "chat-bison-32k", "002", "chat"),
        ("google/models/codechat-bison%40002", "codechat-bison", "002", "codechat"),
    ],
)
def test_a_hosted_model_has_all_that_the_sdk_takes_its_class_and_pipeline_from(bench: Bench, asked: str, name: str, version: str, kind: str) -> None:
    model = bench.get(f"publishers/{asked}")
    assert model == bench.client.get(f"/v1beta1/publishers/{asked}").json()
    assert (model["name"], model["versionId"]) == (f"publishers/google/models/{name}", version)
    assert model["publisherModelTemplate"] == f"projects/{{project}}/locations/{{location}}/publishers/google/models/{name}@{version}"
    assert model["predictSchemata"]["instanceSchemaUri"] == f"gs://google-cloud-aiplatform/schema/predict/instance/{kind}_generation_1.0.0.yaml"


def test_open_models_belong_to_their_publishers(bench: Bench) -> None:
    assert bench.get("publishers/meta/models/llama3_1@llama-3.1-8b")["name"] == "publishers/meta/models/llama3_1"
    assert "predictSchemata" not in bench.get("publishers/tuneline/models/tiny-code")
    code, _, message = error(bench.client.get("/v1/publishers/google/models/code-bisn@002"))
    assert code == 404
    assert "Did you mean 'code-bison@002'?" in message


def test_lists_have_each_model_once_or_all_its_versions(bench: Bench) -> None:
    models = bench.get("publishers/google/models")["publisherModels"]
    assert {"publishers/google/models/code-bison", "publishers/google/models/gemma3"} <= {model["name"] for model in models}
    assert len({model["name"] for model in models}) == len(models)
    assert all(model["name"].startswith("publishers/google/") for model in models)
    versions = bench.get("publishers/google/models", listAllVersions=True)["publisherModels"]
    assert [model["versionId"] for model in versions if model["name"].endswith("/code-bison")] == ["001", "002"]
    everything = bench.get("publishers/*/models", pageSize=1000)["publisherModels"]
    paged: list[Any] = []
    token = ""
    while token or not paged:
        page = bench.get("publishers/*/models", pageSize=7, pageToken=token)
        paged += page["publisherModels"]
        token = page.get("nextPageToken", "")
    assert paged == everything
    assert len(paged) > 7
    assert error(bench.client.get("/v1/publishers/google/models?filter=x"))[0] == 400


def test_a_base_model_that_is_here_answers_without_a_deployment(bench: Bench) -> None:
    name = f"{bench.place}/publishers/google/models/code-bison@002"
    answer = bench.client.post(f"/v1/{name}:predict", json={"instances": [{"prefix": "x"}]}).json()
    assert answer["predictions"] == [{"content": "code-bison@002: {'prefix': 'x'}"}]
    assert (answer["model"], answer["modelVersionId"]) == ("publishers/google/models/code-bison", "002")
    server = registry.find("code-bison@002")
    assert server.deployment.model_path.endswith("tiny-code-001")
    for model in ("code-bison@002", "google/code-bison@002"):
        assert bench.client.post("/v1/chat/completions", json={"model": model, "messages": []}).json()["model"] == "code-bison@002"
    assert bench.client.post(f"/v1/{name}:countTokens", json={"contents": [{"parts": [{"text": "hello"}]}]}).json()["totalTokens"] > 1
    assert bench.get(f"{bench.place}/endpoints") == {"endpoints": []}
    assert bench.get("models") == {"object": "list", "data": []}
    registry.undeploy(server)
    assert bench.client.post(f"/v1/{name}:predict", json={"instances": [1]}).status_code == 200


def test_a_base_model_that_is_not_here_is_not_fetched_for_a_prediction(bench: Bench) -> None:
    answer = bench.client.post(f"/v1/{bench.place}/publishers/google/models/text-bison@002:predict", json={"instances": [1]})
    code, status, message = error(answer)
    assert (code, status) == (400, "FAILED_PRECONDITION")
    assert "stands for text-bison@002, is not on this machine" in message
    assert error(bench.client.post(f"/v1/{bench.place}/publishers/google/models/nothing:predict", json={}))[0] == 404
