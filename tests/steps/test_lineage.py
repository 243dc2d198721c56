"""What validate-parameters learns from earlier runs: on this machine from files, on Vertex AI from its registry."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.kubernetes.fake_config_maps import NAMESPACE, config_maps
from tests.registry.made_up import registration
from tests.registry.test_lineage import version_of
from tests.steps.test_upload_model import resolved
from tests.vertex.stub_api import StubApi, error
from tuneline.errors import ModelError
from tuneline.kubernetes.model_registry import ModelRegistry
from tuneline.parameters import TuningParameters
from tuneline.registry import lineage as registry
from tuneline.registry.models import ModelVersion
from tuneline.resolution import Champion, Resolved
from tuneline.steps import lineage
from tuneline.steps.lineage import with_champion, with_skip_reason

PLAIN = TuningParameters(project="acme", model_display_name="My model")
GATED = replace(PLAIN, champion_gate=True)
HERE = replace(resolved(), upload_region="local", data_fingerprint="d2")
ON_VERTEX = replace(resolved("vertex"), upload_region="europe-west4", data_fingerprint="d2")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))


@pytest.fixture
def champion(tmp_path: Path) -> ModelVersion:
    version = version_of(tmp_path, "job-1", "d1")
    registry.promote(version)
    return version


def looked_up(parameters: TuningParameters, choices: Resolved = HERE) -> Resolved:
    found = with_champion(parameters, choices)
    assert found is not None
    return found


def test_nobody_looks_without_being_asked(champion: ModelVersion, api: StubApi) -> None:
    for choices in (HERE, ON_VERTEX):
        assert with_champion(PLAIN, choices) == choices
        assert with_skip_reason(PLAIN, choices) == choices
    assert with_champion(GATED, None) is None
    assert api.asked == []


def test_the_gate_gets_the_champion(champion: ModelVersion) -> None:
    found = looked_up(GATED)
    assert found.champion == Champion(model_resource_name=champion.resource_name, uri=str(champion.artifact_folder))
    assert found.base_model == HERE.base_model
    assert found.reasons[-1] == f"The champion is {champion.resource_name}."
    assert Resolved.from_json(found.to_json()) == found


def test_tuning_goes_on_from_the_champion(champion: ModelVersion) -> None:
    found = looked_up(replace(PLAIN, continue_from_champion=True))
    assert found.base_model == replace(HERE.base_model, uri=str(champion.artifact_folder))
    assert "Tuning goes on from the champion" in found.reasons[-1]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        (GATED, "There is no champion yet: the first model that is registered becomes it."),
        (replace(PLAIN, continue_from_champion=True), "There is no champion yet: tuning starts from the base model."),
        (replace(GATED, continue_from_champion=True), "There is no champion yet: the first model that is registered becomes it, and tuning starts from"),
    ],
)
def test_without_a_champion_it_is_said_what_follows(parameters: TuningParameters, told: str) -> None:
    found = looked_up(parameters)
    assert (found.champion, found.base_model) == (None, HERE.base_model)
    assert found.reasons[-1].startswith(told)


def test_a_damaged_champion_is_refused_by_name(champion: ModelVersion) -> None:
    (champion.artifact_folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        looked_up(GATED)


def test_known_data_are_skipped_with_the_reason(champion: ModelVersion) -> None:
    asked = replace(PLAIN, skip_unchanged=True)
    assert with_skip_reason(asked, HERE) == HERE
    found = with_skip_reason(asked, replace(HERE, data_fingerprint="d1"))
    assert found.skip_reason == f"{champion.resource_name} was tuned from the same data with the same parameters."
    assert found.reasons[-1] == f"Skipped: {found.skip_reason}"
    registry.refuse(champion, "d2")
    assert "did not lead to a better model" in with_skip_reason(asked, HERE).skip_reason
    assert [version.is_champion for version in registry.versions(registration())] == [True]


def test_on_vertex_ai_the_registry_of_the_upload_region_is_asked(api: StubApi) -> None:
    name = "projects/acme/locations/europe-west4/models/7"
    labels = {"tuneline-data": "d1", "tuneline-refused": "d2"}
    model = {"name": name, "versionId": "3", "artifactUri": "gs://bucket/final", "labels": labels}
    api.on("GET", f"/v1/{name}@champion", (200, model)).on("GET", f"/v1/{name}:listVersions", (200, {"models": [model]}))
    asked = replace(GATED, parent_model="7", skip_unchanged=True, continue_from_champion=True)
    found = looked_up(asked, ON_VERTEX)
    assert found.champion == Champion(model_resource_name=f"{name}@3", uri="gs://bucket/final")
    assert found.base_model.uri == "gs://bucket/final"
    assert "did not lead to a better model" in with_skip_reason(asked, ON_VERTEX).skip_reason


def test_on_vertex_ai_a_model_that_is_not_there_yet_is_no_error(api: StubApi) -> None:
    asked = replace(GATED, skip_unchanged=True)
    assert looked_up(asked, ON_VERTEX).champion is None
    assert with_skip_reason(asked, ON_VERTEX) == ON_VERTEX
    assert len(api.asked) == 2


def test_a_registry_that_refuses_to_answer_is_not_one_without_a_champion(api: StubApi) -> None:
    api.on("GET", ".*", error(403, "PERMISSION_DENIED"))
    with pytest.raises(Exception, match="PERMISSION_DENIED"):
        looked_up(GATED, ON_VERTEX)


def test_in_a_cluster_its_registry_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, choices = replace(GATED, skip_unchanged=True, continue_from_champion=True), replace(resolved("kubernetes"), data_fingerprint="d1")
    record = {"name": "gs://bucket/final", "artifactUri": "gs://bucket/final", "labels": {"tuneline-data": "d1"}}
    with config_maps() as (_, client):
        registry_here = partial(ModelRegistry, client=client, namespace=NAMESPACE)
        monkeypatch.setattr(lineage, "ModelRegistry", registry_here)
        assert looked_up(asked, choices).champion is None
        assert with_skip_reason(asked, choices) == choices
        registry_here(project="acme", display_name="My model").register(record, is_promoted=True)
        found = looked_up(asked, choices)
        assert found.champion == Champion(model_resource_name="gs://bucket/final", uri="gs://bucket/final")
        assert found.base_model.uri == "gs://bucket/final"
        assert "was tuned from the same data" in with_skip_reason(asked, choices).skip_reason
