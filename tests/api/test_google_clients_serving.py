"""Google's own clients against a real socket and one real server of a tiny model: upload, deploy, predict, undeploy, delete."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.endpoint_bench import listening, of_its_own, opened, poll_quickly
from tests.modeling.tiny_model import write_base
from tuneline.api.app import create_app

aiplatform: Any = pytest.importorskip("google.cloud.aiplatform")
genai: Any = pytest.importorskip("google.genai")

TUNED = {"google-vertex-llm-tuning-base-model-id": "code-bison-002", "tune-type": "sft"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from google.auth.credentials import AnonymousCredentials

    with pytest.MonkeyPatch.context() as patch, opened(tmp_path_factory.mktemp("home")) as shared, listening(create_app(shared.service)) as url:
        poll_quickly(patch)
        place = of_its_own(shared).place.split("/")
        write_base(shared.service.settings.home / "buckets" / "bucket" / "tiny")
        options = {"api_endpoint": url, "api_transport": "rest", "credentials": AnonymousCredentials(), "staging_bucket": "gs://bucket"}
        aiplatform.init(project=place[1], location=place[3], **options)
        with warnings.catch_warnings(action="ignore"):
            yield url


@pytest.fixture(scope="module")
def model(url: str) -> Any:
    return aiplatform.Model.upload(
        display_name="tiny", artifact_uri="gs://bucket/tiny", serving_container_image_uri="example.org/image:1", labels={**TUNED, "team": "a"}
    )


@pytest.fixture(scope="module")
def endpoint(model: Any) -> Any:
    """A model on an endpoint, the one real server of this file."""
    endpoint = aiplatform.Endpoint.create(display_name="an endpoint", labels={"team": "a"})
    model.deploy(endpoint, machine_type="g2-standard-12", accelerator_type="NVIDIA_L4", accelerator_count=1)
    return endpoint


def test_models_are_found_changed_and_versioned(model: Any) -> None:
    assert (model.version_id, model.labels["team"], model.container_spec.image_uri) == ("1", "a", "example.org/image:1")
    assert [found.resource_name for found in aiplatform.Model.list(filter='labels.team="a"')] == [model.resource_name]
    second = aiplatform.Model.upload(display_name="recorded", parent_model=model.resource_name, is_default_version=False, version_aliases=["best"])
    assert (second.version_id, second.resource_name, second.version_aliases) == ("2", model.resource_name, ["best"])
    assert aiplatform.Model(f"{model.resource_name}@best").version_id == "2"
    model.update(description="all of them", labels={**TUNED, "team": "b"})
    assert (aiplatform.Model(f"{model.resource_name}@2").description, aiplatform.Model(model.resource_name).labels["team"]) == ("all of them", "b")
    registry = model.versioning_registry
    registry.add_version_aliases(["newest"], "2")
    assert {info.version_id: list(info.version_aliases) for info in registry.list_versions()} == {"1": ["default"], "2": ["best", "newest"]}
    registry.remove_version_aliases(["newest"], "2")
    registry.update_version("2", version_description="second", labels={"own": "c"})
    assert registry.get_version_info("2").version_description == "second"
    assert (registry.get_model("2").labels["own"], "own" in registry.get_model("1").labels) == ("c", False)
    registry.delete_version("2")
    assert [info.version_id for info in registry.list_versions()] == ["1"]


def test_an_endpoint_tells_what_is_deployed_and_who_answered(endpoint: Any) -> None:
    instance = {"prompt": "What is a car?", "max_tokens": 20, "temperature": 1.0, "top_k": 1, "raw_response": True}
    loaded = aiplatform.Endpoint(endpoint.resource_name)
    raw = loaded.predict(instances=[instance])
    [deployed] = loaded.list_models()
    assert (raw.deployed_model_id, raw.model_version_id) == (deployed.id, "1")
    [text] = loaded.predict(instances=[{**instance, "raw_response": False}]).predictions
    assert text == f"Prompt:\nWhat is a car?\nOutput:\n{raw.predictions[0].strip(chr(10))}"
    assert (deployed.dedicated_resources.machine_spec.machine_type, deployed.display_name) == ("g2-standard-12", "tiny")
    [found] = aiplatform.Endpoint.list(filter='display_name="an endpoint"')
    assert found.traffic_split == {deployed.id: 100}
    with pytest.raises(Exception, match="temperature: found 3"):
        loaded.predict(instances=[{**instance, "temperature": 3}])


def test_a_tuned_model_is_loaded_by_the_class_of_its_base_model(model: Any, endpoint: Any) -> None:
    from vertexai.language_models import CodeGenerationModel

    assert CodeGenerationModel.from_pretrained("code-bison@002").list_tuned_model_names() == [model.resource_name]
    tuned: Any = CodeGenerationModel.get_tuned_model(model.resource_name)
    response = tuned.predict(prefix="def f(", max_output_tokens=5, temperature=0.0)
    assert response.text == tuned.predict(prefix="def f(", max_output_tokens=5, temperature=0.0).text
    assert (response.is_blocked, len(response.candidates)) == (False, 1)
    assert tuned._endpoint_name == endpoint.resource_name
    pieces = [piece.text for piece in tuned.predict_streaming(prefix="def f(", max_output_tokens=5, temperature=0.0)]
    assert "".join(pieces) == response.text


def test_gemini_clients_list_tuned_models_and_generate(url: str, model: Any, endpoint: Any) -> None:
    from google.oauth2.credentials import Credentials

    project = model.resource_name.split("/")[1]
    options = genai.types.HttpOptions(base_url=url)
    client = genai.Client(vertexai=True, project=project, location="us-central1", credentials=Credentials(token="local"), http_options=options)
    [listed] = client.models.list(config={"query_base": False})
    assert (listed.name, listed.tuned_model_info.base_model) == (model.resource_name, "code-bison-002")
    assert "publishers/google/models/code-bison" in [base.name for base in client.models.list()]
    config = {"max_output_tokens": 6, "temperature": 0, "system_instruction": "Be brief."}
    whole = client.models.generate_content(model=endpoint.resource_name, contents="hi", config=config)
    assert whole.usage_metadata.total_token_count == whole.usage_metadata.prompt_token_count + whole.usage_metadata.candidates_token_count
    pieces = list(client.models.generate_content_stream(model="tiny", contents="hi", config=config))
    assert "".join(piece.text or "" for piece in pieces) == whole.text
    assert pieces[-1].candidates[0].finish_reason == whole.candidates[0].finish_reason
    assert client.models.count_tokens(model="tiny", contents="hi").total_tokens > 2
    assert client.models.compute_tokens(model="tiny", contents="hi").tokens_info[0].token_ids


def test_everything_is_undeployed_and_deleted(model: Any, endpoint: Any) -> None:
    with pytest.raises(Exception, match="is deployed on"):
        aiplatform.Model(model.resource_name).delete()
    endpoint.undeploy_all()
    endpoint.delete()
    assert endpoint.resource_name not in [found.resource_name for found in aiplatform.Endpoint.list()]
    model.delete()
    assert model.resource_name not in [found.resource_name for found in aiplatform.Model.list()]
