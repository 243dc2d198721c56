"""Champions and refused data by REST, at the service itself instead of a stub: aliases move, labels are a version's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.endpoint_bench import Bench, listening, of_its_own, opened
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
