"""Which version is the champion of its model, and which data are known already."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.registry.made_up import registration, write_checkpoint
from tuneline.registry import lineage, models
from tuneline.registry.models import ModelVersion


def version_of(tmp_path: Path, job: str, data: str, name: str = "My model") -> ModelVersion:
    checkpoint = write_checkpoint(tmp_path / f"checkpoint of {job}")
    return models.register(checkpoint, replace(registration(job, name), data_fingerprint=data))


def champion() -> str:
    found = lineage.champion(registration("another job"))
    return found.resource_name if found else ""


def test_a_model_that_is_not_registered_has_no_champion_and_nothing_is_known() -> None:
    assert lineage.versions(registration()) == []
    assert lineage.champion(registration()) is None
    assert lineage.unchanged(registration(), "d1") == ""


def test_the_champion_is_the_version_that_was_promoted_last(tmp_path: Path) -> None:
    first, second = version_of(tmp_path, "job-1", "d1"), version_of(tmp_path, "job-2", "d2")
    assert lineage.champion(registration()) is None
    for promoted in (second, first):
        lineage.promote(promoted)
        assert champion() == promoted.resource_name
        assert models.get(f"{first.name}@champion").to_json()["versionAliases"][-1] == "champion"
    lineage.demote(first)
    assert champion() == ""


def test_each_model_has_a_champion_of_its_own(tmp_path: Path) -> None:
    lineage.promote(version_of(tmp_path, "job-1", "d1"))
    version_of(tmp_path, "job-2", "d1", name="Other model")
    assert lineage.champion(registration(name="Other model")) is None
    assert lineage.champion(replace(registration(), location="us-central1")) is None


def test_a_champion_that_was_removed_is_none(tmp_path: Path) -> None:
    first, second = version_of(tmp_path, "job-1", "d1"), version_of(tmp_path, "job-2", "d2")
    lineage.promote(first)
    models.remove(first)
    assert lineage.champion(registration()) is None
    assert [version.resource_name for version in lineage.versions(registration())] == [second.resource_name]


def test_only_the_newest_version_s_data_are_unchanged(tmp_path: Path) -> None:
    version_of(tmp_path, "job-1", "d1")
    newest = version_of(tmp_path, "job-2", "d2")
    assert lineage.unchanged(registration(), "d2") == f"{newest.resource_name} was tuned from the same data with the same parameters."
    assert lineage.unchanged(registration(), "d1") == ""


def test_refused_data_are_known_until_others_are_refused(tmp_path: Path) -> None:
    version = version_of(tmp_path, "job-1", "d1")
    lineage.promote(version)
    lineage.refuse(version, "d2")
    assert "did not lead to a better model than the champion" in lineage.unchanged(registration(), "d2")
    assert champion() == version.resource_name
    lineage.refuse(version, "d3")
    assert lineage.unchanged(registration(), "d2") == ""
    assert lineage.unchanged(registration(), "d3")


def test_what_did_not_beat_one_champion_may_beat_another(tmp_path: Path) -> None:
    first, second = version_of(tmp_path, "job-1", "d1"), version_of(tmp_path, "job-2", "d2")
    lineage.promote(second)
    lineage.refuse(second, "d3")
    lineage.promote(first)
    assert lineage.unchanged(registration(), "d3") == ""


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    version = version_of(tmp_path, "job-1", "d1")
    lineage.promote(version)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: lineage.demote(version) if number % 2 else lineage.refuse(version, "d2"), range(16)))
    assert champion() == ""
    assert lineage.unchanged(registration(), "d2")


def test_a_new_champion_is_a_change_of_the_registry(tmp_path: Path) -> None:
    version = version_of(tmp_path, "job-1", "d1")
    before = models.state()
    lineage.promote(version)
    assert models.state() != before
