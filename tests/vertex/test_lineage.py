"""Champion, data and refused data of a model in Vertex AI's registry: what is asked, what is read from the answers, what is written."""

from typing import Any

import pytest

from tests.vertex.stub_api import StubApi, error
from tuneline.errors import InfrastructureError, ModelError
from tuneline.resolution import Champion
from tuneline.vertex.lineage import Lineage, model_name_of, promotion_aliases, refuse
from tuneline.vertex.rest import Refused, Vertex

MODEL = "projects/p/locations/us-central1/models/tuneline-1"
DATA = "0123456789abcdef" * 4
LABEL = DATA[:40]


@pytest.fixture
def lineage(vertex: Vertex) -> Lineage:
    return Lineage(vertex=vertex, model=MODEL)


def version(number: int = 2, **changes: Any) -> dict[str, Any]:
    return {"name": f"{MODEL}@{number}", "versionId": str(number), "artifactUri": "gs://bucket/final/", "labels": {"team": "a"}, **changes}


def answers(api: StubApi, *, champion: dict[str, Any] | None = None, newest: dict[str, Any] | None = None) -> None:
    api.on("GET", f"/{MODEL}@champion", (200, champion) if champion else error(404, "NOT_FOUND"))
    api.on("GET", f"/{MODEL}:listVersions", (200, {"models": [newest], "nextPageToken": "more"}) if newest else error(404, "NOT_FOUND"))


def test_a_project_region_and_display_name_are_always_the_same_model() -> None:
    place = {"project": "p", "region": "us-central1", "display_name": "weekly"}
    name = model_name_of(**place)
    assert name == model_name_of(**place)
    assert name.startswith("projects/p/locations/us-central1/models/tuneline-")
    others = [model_name_of(**{**place, key: "other"}) for key in place]
    assert len({name, *others}) == 4


@pytest.mark.parametrize("given", ["7", "7@3", "projects/p/locations/us-central1/models/7", "projects/p/locations/us-central1/models/7@champion"])
def test_a_parent_model_is_a_name_or_an_id_and_its_version_does_not_count(given: str) -> None:
    name = model_name_of(project="p", region="us-central1", display_name="weekly", parent_model=given)
    assert name == "projects/p/locations/us-central1/models/7"


def test_the_champion_is_the_version_with_the_alias(lineage: Lineage, api: StubApi) -> None:
    answers(api, champion=version(2))
    assert lineage.champion() == Champion(model_resource_name=f"{MODEL}@2", uri="gs://bucket/final")
    answers(api)
    assert lineage.champion() is None


@pytest.mark.parametrize("uri", [None, "", "/a/path"])
def test_a_champion_without_files_is_refused_by_name(lineage: Lineage, api: StubApi, uri: str | None) -> None:
    answers(api, champion=version(2, artifactUri=uri))
    with pytest.raises(ModelError, match=f"the champion {MODEL}@2 has no files in Cloud Storage"):
        lineage.champion()


def test_the_newest_version_s_data_are_unchanged(lineage: Lineage, api: StubApi) -> None:
    answers(api, champion=version(1), newest=version(2, labels={"tuneline-data": LABEL}))
    assert lineage.unchanged(DATA) == f"{MODEL}@2 was tuned from the same data with the same parameters."
    assert api.asked[0].query == {"orderBy": ["create_time desc"], "pageSize": ["1"]}
    assert lineage.unchanged(DATA[::-1]) == ""


def test_data_that_the_champion_has_refused_are_known(lineage: Lineage, api: StubApi) -> None:
    answers(api, champion=version(1, labels={"tuneline-refused": LABEL}), newest=version(2, labels={}))
    assert lineage.unchanged(DATA) == f"the same data with the same parameters did not lead to a better model than the champion of {MODEL}."
    assert lineage.unchanged(DATA[::-1]) == ""


@pytest.mark.parametrize("newest", [None, version(1)])
def test_what_was_never_seen_is_new(lineage: Lineage, api: StubApi, newest: dict[str, Any] | None) -> None:
    answers(api, newest=newest)
    assert lineage.unchanged(DATA) == ""


@pytest.mark.parametrize(("answer", "kind"), [(error(403, "PERMISSION_DENIED"), Refused), (error(503, "UNAVAILABLE"), InfrastructureError)])
def test_a_registry_that_cannot_be_read_is_an_error(lineage: Lineage, api: StubApi, answer: Any, kind: type[Exception]) -> None:
    api.on("GET", ".*", answer)
    for look in (lineage.champion, lambda: lineage.unchanged(DATA)):
        with pytest.raises(kind):
            look()


def test_refusing_adds_one_label_to_the_champion_s_version(vertex: Vertex, api: StubApi) -> None:
    api.on("GET", f"/{MODEL}@2", (200, version(2, labels={"team": "a", "tuneline-refused": "old"}))).on("PATCH", f"/{MODEL}@2", (200, {}))
    refuse(vertex, Champion(model_resource_name=f"{MODEL}@2", uri="gs://bucket/final"), DATA)
    sent = api.asked[-1]
    assert (sent.method, sent.query) == ("PATCH", {"updateMask": ["labels"]})
    assert sent.body == {"name": f"{MODEL}@2", "labels": {"team": "a", "tuneline-refused": LABEL}}


def test_only_a_promoted_model_gets_the_alias() -> None:
    assert promotion_aliases({"is_promoted": True, "reason": "better"}) == ("champion",)
    assert promotion_aliases({"is_promoted": False, "reason": "worse"}) == ()
    assert promotion_aliases(None) == ()
