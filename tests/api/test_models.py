"""Models: what pipeline jobs registered and what was uploaded, as one list; versions, aliases, labels, what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.endpoint_bench import Bench, error, model_folder, of_its_own, opened
from tuneline.api.app import create_app
from tuneline.api.server import open_service
from tuneline.api.settings import Settings
from tuneline.api.store import Store
from tuneline.registry import models as registry

BASE = "google-vertex-llm-tuning-base-model-id"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with opened(tmp_path_factory.mktemp("home")) as bench:
        yield bench


@pytest.fixture
def bench(shared: Bench) -> Bench:
    return of_its_own(shared)


def names(bench: Bench, **query: Any) -> list[str]:
    return [model["displayName"] for model in bench.get(f"{bench.place}/models", **query)["models"]]


def test_a_tuned_model_is_listed_where_its_job_registered_it(bench: Bench, tmp_path: Path) -> None:
    version = bench.tuned(tmp_path)
    model = bench.get(version.name)
    assert model == bench.get(f"{bench.place}/models")["models"][0]
    assert bench.client.get(f"/v1beta1/{version.name}%401").json() == {**model, "name": f"{version.name}@1"}
    assert (model["name"], model["versionId"], model["versionAliases"], model["displayName"]) == (version.name, "1", ["default"], "tuned")
    assert model["labels"] == {BASE: "code-bison-002", "tune-type": "sft", "tuneline-run": "job-1"}
    assert model["artifactUri"] == str(version.artifact_folder)
    assert model["supportedDeploymentResourcesTypes"] == ["DEDICATED_RESOURCES"]
    assert model["createTime"] == model["versionCreateTime"] <= model["versionUpdateTime"]
    assert not [key for key in model if key.startswith("_")]
    assert bench.client.get(bench.models.replace("us-central1", "europe-west4")).json() == {"models": []}


def test_a_folder_is_copied_into_the_registry_with_what_can_be_served(bench: Bench, tmp_path: Path) -> None:
    local, bucket = model_folder(tmp_path / "local"), model_folder(bench.service.settings.home / "buckets" / "bucket" / "final", b"other")
    for uri, source in ((str(local), local), (f"file://{local}", local), ("gs://bucket/final", bucket)):
        version = registry.get(bench.upload(uri))
        assert sorted(version.files) == ["config.json", "model.safetensors", "tokenizer.json"]
        assert (version.artifact_folder / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
        assert bench.get(version.name)["artifactUri"] == uri
        version.verify()


def test_a_checkpoint_is_checked_against_its_marker(bench: Bench, tmp_path: Path) -> None:
    version = registry.get(bench.upload(str(bench.tuned(tmp_path).artifact_folder)))
    assert "shards/two.safetensors" in version.files
    damaged = tmp_path / "checkpoint of job-1"
    (damaged / "config.json").write_bytes(b"damaged")
    operation = bench.ended(bench.client.post(f"{bench.models}:upload", json={"model": {"displayName": "x", "artifactUri": str(damaged)}}).json())
    assert operation["error"]["code"] == 3
    assert "config.json" in operation["error"]["message"]
    assert names(bench) == ["m", "tuned"]


def test_what_cannot_be_served_is_recorded(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "model.joblib").touch()
    container = {"imageUri": "example.org/image:1", "env": [{"name": "A", "value": "b"}], "ports": [{"containerPort": 8080}]}
    name = bench.upload(str(tmp_path / "sklearn"), containerSpec=container, predictSchemata={"instanceSchemaUri": "gs://b/i.yaml"}, description="d")
    model = bench.get(name)
    assert (model["containerSpec"], model["predictSchemata"], model["description"]) == (container, {"instanceSchemaUri": "gs://b/i.yaml"}, "d")
    version = registry.get(name)
    assert not version.is_servable
    assert (version.folder / "record.json").stat().st_mode & 0o777 == 0o600
    assert "artifactUri" not in bench.get(bench.upload())


def test_an_operation_tells_the_model_in_the_words_of_its_api_version(bench: Bench) -> None:
    body = {"model": {"display_name": "m", "labels": {"a": "b"}}, "model_id": "mine"}
    for version, place in (("v1", bench.place), ("v1beta1", f"{bench.place}1")):
        operation = bench.client.post(f"/{version}/{place}/models:upload", json=body).json()
        assert operation["name"].startswith(f"{place}/models/mine/operations/")
        assert operation["metadata"]["@type"] == f"type.googleapis.com/google.cloud.aiplatform.{version}.UploadModelOperationMetadata"
        assert operation["response"] == {
            "@type": f"type.googleapis.com/google.cloud.aiplatform.{version}.UploadModelResponse", "model": f"{place}/models/mine", "modelVersionId": "1",
        }  # fmt: skip
        assert bench.client.get(f"/ui/{operation['name']}").json() == operation


def test_uploads_of_one_name_are_models_of_their_own(bench: Bench) -> None:
    first, second = bench.upload(), bench.upload()
    assert first != second
    assert names(bench) == ["m", "m"]


def test_versions_have_numbers_aliases_and_one_default(bench: Bench, tmp_path: Path) -> None:
    first = bench.upload(str(model_folder(tmp_path / "1")), modelId="mine", labels={"a": "1"})
    values: dict[str, Any] = {"name": "n", "parentModel": f"{bench.place}/models/mine", "versionAliases": ["default", "best"], "labels": {"a": "2"}}
    second = bench.upload(model_folder(tmp_path / "2"), **values)
    third = bench.upload(parentModel="mine", name="recorded", versionDescription="third")
    assert [name.rpartition("/")[2] for name in (first, second, third)] == ["mine@1", "mine@2", "mine@3"]
    wanted = {"mine": "2", "mine@1": "1", "mine@default": "2", "mine@best": "2", "mine@3": "3"}
    assert {name: bench.client.get(f"{bench.models}/{name}").json()["versionId"] for name in wanted} == wanted
    assert names(bench) == ["n"]
    listed = bench.client.get(f"{bench.models}/mine:listVersions").json()["models"]
    assert [(model["versionId"], model["versionAliases"]) for model in listed] == [("3", []), ("2", ["default", "best"]), ("1", [])]
    assert len({model["createTime"] for model in listed}) == 1
    assert len({model["versionCreateTime"] for model in listed}) == 3
    labelled = bench.client.get(f"{bench.models}/mine:listVersions", params={"filter": "labels.a=1"}).json()["models"]
    assert [model["name"].rpartition("/")[2] for model in labelled] == ["mine@3", "mine@1"]
    page = bench.client.get(f"{bench.models}/mine:listVersions", params={"pageSize": 2}).json()
    rest = bench.client.get(f"{bench.models}/mine:listVersions", params={"pageSize": 2, "pageToken": page["nextPageToken"]}).json()
    assert [model["versionId"] for model in (*page["models"], *rest["models"])] == ["3", "2", "1"]


def test_an_alias_moves_and_the_default_always_is_one_versions(bench: Bench) -> None:
    bench.upload(modelId="mine")
    bench.upload(parentModel="mine", versionAliases=["best"])

    def merge(name: str, *aliases: str) -> Any:
        return bench.client.post(f"{bench.models}/{name}:mergeVersionAliases", json={"versionAliases": list(aliases)})

    assert merge("mine@1", "best", "old").json()["versionAliases"] == ["default", "best", "old"]
    assert merge("mine@best", "-old").json()["versionAliases"] == ["default", "best"]
    assert merge("mine@2", "default").json()["versionAliases"] == ["default"]
    assert bench.client.get(f"{bench.models}/mine").json()["versionId"] == "2"
    assert error(merge("mine@2", "-default"))[:2] == (400, "INVALID_ARGUMENT")
    assert "'1st'" in error(merge("mine@2", "1st"))[2]


def test_a_new_version_of_a_tuned_model_is_its_default_however_it_came(bench: Bench, tmp_path: Path) -> None:
    model = bench.tuned(tmp_path).name
    assert bench.get(model)["versionId"] == "1"
    bench.tuned(tmp_path, "job-2", resource={"labels": {"team": "a"}})
    assert bench.get(model)["versionId"] == "2"
    assert names(bench, filter="labels.team=a") == ["tuned"]
    bench.upload(parentModel=model)
    assert bench.get(model)["versionId"] == "2"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f'labels.{BASE}="code-bison-002"', ["tuned"]),
        ("labels.tune-type:*", ["other", "tuned"]),
        ('display_name="m"', ["m"]),
        ('display_name="m" AND labels.tune-type:*', []),
        ('display_name!="m" NOT display_name=tuned', ["other"]),
        ("model=mine", ["m"]),
        ("", ["other", "m", "tuned"]),
    ],
)
def test_lists_are_filtered(bench: Bench, tmp_path: Path, text: str, found: list[str]) -> None:
    bench.tuned(tmp_path)
    bench.upload(modelId="mine")
    bench.tuned(tmp_path, "job-2", "other", "text-bison@002")
    assert names(bench, filter=text) == found


def test_lists_are_ordered_and_paged(bench: Bench) -> None:
    for number in range(5):
        bench.upload(name=f"m{number}")
    page = bench.client.get(bench.models, params={"pageSize": 3, "orderBy": "display_name"}).json()
    rest = bench.client.get(bench.models, params={"pageSize": 3, "orderBy": "display_name", "pageToken": page["nextPageToken"]}).json()
    assert [model["displayName"] for model in (*page["models"], *rest["models"])] == ["m0", "m1", "m2", "m3", "m4"]
    assert "nextPageToken" not in rest


def test_what_clients_change_is_kept_by_the_service_and_outlives_it(bench: Bench, tmp_path: Path) -> None:
    model = bench.tuned(tmp_path).name
    bench.tuned(tmp_path, "job-2")

    def patch(version: str, mask: str, **values: object) -> dict[str, Any]:
        answer = bench.client.patch(f"/v1/{version}", params={"updateMask": mask}, json=values)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    first = patch(f"{model}@1", "labels,version_description", labels={"a": "b"}, versionDescription="first")
    assert (first["labels"]["a"], first["labels"][BASE], first["versionDescription"]) == ("b", "code-bison-002", "first")
    assert bench.get(model)["labels"] == {BASE: "code-bison-002", "tune-type": "sft", "tuneline-run": "job-2"}
    assert patch(f"{model}@-", "labels", labels={"team": "x"})["labels"] == {"team": "x", BASE: "code-bison-002", "tune-type": "sft", "tuneline-run": "job-2"}
    assert bench.get(f"{model}@1")["labels"] == {"team": "x", "a": "b"}
    assert patch(model, "", **{**bench.get(model), "displayName": "renamed"})["displayName"] == "renamed"
    assert patch(model, "description")["description"] == ""
    after = [bench.get(f"{model}@{number}") for number in (1, 2)]
    assert [version["displayName"] for version in after] == ["renamed", "renamed"]
    on_disk = replace(bench, service=replace(bench.service, store=Store(bench.service.settings.home / "service.db"))).again()
    assert [on_disk.get(f"{model}@{number}") for number in (1, 2)] == after


def test_a_deleted_version_takes_its_files_along_and_its_number_is_not_used_again(bench: Bench, tmp_path: Path) -> None:
    bench.upload(str(model_folder(tmp_path / "1")), modelId="mine")
    second = registry.get(bench.upload(str(model_folder(tmp_path / "2")), parentModel="mine", versionAliases=["default"]))
    assert bench.client.delete(f"{bench.models}/mine@2:deleteVersion").json()["done"] is True
    assert not second.folder.exists()
    assert bench.client.get(f"{bench.models}/mine").json()["versionId"] == "1"
    assert bench.client.get(f"{bench.models}/mine@2").status_code == 404
    code, status, message = error(bench.client.delete(f"{bench.models}/mine@1:deleteVersion"))
    assert (code, status) == (400, "FAILED_PRECONDITION")
    assert "only version" in message
    assert bench.upload(parentModel="mine").endswith("@3")
    assert error(bench.client.delete(f"{bench.models}/mine@3"))[0] == 400
    operation = bench.client.delete(f"{bench.models}/mine").json()
    assert operation["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert bench.client.get(f"{bench.models}/mine").status_code == 404
    assert bench.client.delete(f"{bench.models}/mine").status_code == 404
    assert not second.folder.parent.joinpath("3").exists()


def test_a_version_that_was_deleted_on_disk_is_gone(bench: Bench, tmp_path: Path) -> None:
    first, second = bench.tuned(tmp_path), bench.tuned(tmp_path, "job-2")
    assert bench.get(first.name)["versionId"] == "2"
    registry.remove(second)
    assert bench.get(first.name)["versionId"] == "1"
    registry.remove(first)
    assert names(bench) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"model": {}}, ["model.displayName is missing."]),
        ({}, ["model is missing."]),
        ({"model": {"displayName": "m", "artifactURI": "gs://b"}}, ["unknown field 'model.artifactURI'. Did you mean 'artifactUri'?"]),
        ({"model": {"displayName": "m" * 129, "labels": {"a": 1}}}, ["model.displayName", "model.labels.a"]),
        ({"model": {"displayName": "m\u0000"}}, ["model.displayName"]),
        ({"model": {"displayName": "m", "versionAliases": ["1"], "artifactUri": "here"}, "modelId": "Mine"}, ["'1'", "'here'", "'Mine'"]),
        ({"model": {"displayName": "m", "artifactUri": "gs:///etc/x"}}, ["expected a gs:// URI"]),
        ({"model": {"displayName": "m"}, "modelId": "a", "parentModel": "b"}, ["Give one of them"]),
    ],
)  # fmt: skip
def test_a_wrong_upload_is_refused_with_every_reason(bench: Bench, body: dict[str, Any], told: list[str]) -> None:
    code, status, message = error(bench.client.post(f"{bench.models}:upload", json=body))
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert not [text for text in told if text not in message], message
    assert names(bench) == []


@pytest.mark.parametrize("value", ["NaN", "1e999", '"\\ud800"', '{"\\udfff": 1}'])
def test_what_no_answer_could_hold_is_not_kept(bench: Bench, value: str) -> None:
    content = '{"model": {"displayName": "m", "containerSpec": {"x": VALUE}}}'.replace("VALUE", value)
    answer = bench.client.post(f"{bench.models}:upload", content=content, headers={"Content-Type": "application/json"})
    assert error(answer)[2].startswith("body: not JSON")
    assert names(bench) == []


def test_an_upload_that_cannot_be_found_or_exists_already_is_told(bench: Bench, tmp_path: Path) -> None:
    assert error(bench.client.post(f"{bench.models}:upload", json={"model": {"displayName": "m"}, "parentModel": "nothing"}))[1] == "NOT_FOUND"
    bench.upload(modelId="mine")
    assert error(bench.client.post(f"{bench.models}:upload", json={"model": {"displayName": "m"}, "modelId": "mine"}))[:2] == (409, "ALREADY_EXISTS")
    missing = {"model": {"displayName": "m", "artifactUri": str(tmp_path / "nowhere")}}
    assert "nowhere is no folder" in bench.ended(bench.client.post(f"{bench.models}:upload", json=missing).json())["error"]["message"]


@pytest.mark.parametrize(
    ("mask", "body", "told"),
    [
        ("artifactUri", {"artifactUri": "gs://b"}, "'artifactUri' cannot be changed here"),
        ("display_nam", {}, "Did you mean 'displayName'?"),
        ("displayName", {}, "displayName: found nothing"),
        ("versionDescription", {}, "'versionDescription' cannot be changed here"),
    ],
)
def test_a_wrong_change_is_refused(bench: Bench, mask: str, body: dict[str, Any], told: str) -> None:
    bench.upload(modelId="mine")
    assert told in error(bench.client.patch(f"{bench.models}/mine", params={"updateMask": mask}, json=body))[2]


def test_two_services_of_one_machine_see_the_same_models(bench: Bench, tmp_path: Path) -> None:
    name = bench.upload(str(model_folder(tmp_path / "1")), labels={"a": "b"}, versionAliases=["best"])
    with open_service(Settings(home=tmp_path / "second", runs_dir=tmp_path / "runs")) as other:
        model = TestClient(create_app(other), base_url="http://127.0.0.1").get(f"/v1/{name}").json()
    assert (model["labels"], model["versionAliases"]) == ({"a": "b"}, ["best", "default"])
    own = ("updateTime", "versionUpdateTime")
    assert {key: value for key, value in model.items() if key not in own} == {key: value for key, value in bench.get(name).items() if key not in own}
