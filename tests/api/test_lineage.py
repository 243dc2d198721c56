"""Champions and refused data at the service itself: by REST as Vertex AI's clients see them, and by the registry as its jobs do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.endpoint_bench import Bench, listening, of_its_own, opened
from tuneline.registry import lineage as registry
from tuneline.registry import models
from tuneline.vertex.lineage import Lineage, model_name_of, promotion_aliases, refuse
from tuneline.vertex.rest import ENDPOINT, TOKEN, Vertex

PROMOTED = {"is_promoted": True, "reason": "better"}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with opened(tmp_path / "home") as shared, listening(shared.client.app) as url:  # type: ignore[arg-type]
        monkeypatch.setenv(ENDPOINT, url)
        monkeypatch.delenv(TOKEN, raising=False)
        yield of_its_own(shared)


def test_a_model_s_history_is_read_as_it_was_written(bench: Bench) -> None:
    _, project, _, region = bench.place.split("/")
    vertex = Vertex(region=region)
    model = model_name_of(project=project, region=region, display_name="weekly")
    lineage = Lineage(vertex=vertex, model=model)
    assert (lineage.champion(), lineage.unchanged("d1")) == (None, "")

    def upload(number: int, data: str, **place: Any) -> str:
        folder = bench.service.settings.buckets / "bucket" / f"run-{number}"
        folder.mkdir(parents=True)
        labels = {"tuneline-data": data, "team": "a"}
        return bench.upload(f"gs://bucket/run-{number}", "weekly", versionAliases=[*promotion_aliases(PROMOTED)], labels=labels, **place)

    first = upload(1, "d1", modelId=model.rpartition("/")[2])
    champion = lineage.champion()
    assert champion is not None
    assert (champion.model_resource_name, champion.uri) == (first, "gs://bucket/run-1")
    assert first == f"{model}@1"
    assert lineage.unchanged("d1").startswith(f"{first} was tuned from the same data")

    refuse(vertex, champion, "d2")
    assert "did not lead to a better model" in lineage.unchanged("d2")
    assert lineage.unchanged("d1")
    assert bench.get(first)["labels"] == {"tuneline-data": "d1", "tuneline-refused": "d2", "team": "a"}

    second = upload(3, "d3", parentModel=model)
    champion = lineage.champion()
    assert champion is not None
    assert champion.model_resource_name == second == f"{model}@2"
    assert bench.get(first)["versionAliases"] == ["default"]
    assert [bool(lineage.unchanged(data)) for data in ("d1", "d2", "d3")] == [False, False, True]


def test_a_champion_of_a_job_has_the_alias_and_a_client_s_champion_is_one_for_jobs(bench: Bench, tmp_path: Path) -> None:
    first = bench.tuned(tmp_path, "job-1")
    registry.promote(first)
    assert bench.get(f"{first.name}@champion")["versionId"] == "1"
    second = bench.tuned(tmp_path, "job-2")
    assert bench.get(f"{first.name}@1")["versionAliases"] == ["champion"]
    registry.promote(second)
    assert bench.get(f"{first.name}@champion")["versionId"] == "2"

    def merge(version: str, alias: str) -> list[str]:
        answer = bench.client.post(f"/v1/{version}:mergeVersionAliases", json={"versionAliases": [alias]})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["versionAliases"])

    assert merge(f"{first.name}@1", "champion") == ["champion"]
    assert models.get(f"{first.name}@champion").version == 1
    assert bench.get(f"{first.name}@2")["versionAliases"] == ["default"]
    assert merge(f"{first.name}@1", "-champion") == []
    assert registry.champion(first.registration) is None
    uploaded = bench.upload(name="tuned", parentModel=first.name, versionAliases=["champion"])
    assert bench.get(f"{first.name}@champion")["versionId"] == "3"
    assert models.get(f"{first.name}@champion").resource_name == uploaded
