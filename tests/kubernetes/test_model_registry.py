"""A cluster's registry through the real client: versions once each, the champion, what had been tried, and processes that are in each other's way."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kubernetes.conftest import OpenRegistry
from tests.kubernetes.fake_config_maps import FakeConfigMaps
from tuneline.errors import InfrastructureError, ModelError, UserError
from tuneline.kubernetes import model_versions
from tuneline.kubernetes.model_registry import ModelRegistry
from tuneline.kubernetes.model_versions import ModelVersions, Record
from tuneline.resolution import Champion

DATA = [f"{number}" * 64 for number in range(10)]


def record(number: int, *, data: str = DATA[0], root: str = "gs://bucket") -> Record:
    uri, labels = f"{root}/run-{number}/checkpoint-20", {"tuneline-data": data[:40]}
    return {"name": uri, "artifactUri": uri, "labels": labels, "step": 20, "metrics": {"loss": 1.5}, "versionId": "", "versionAliases": []}


def kept(maps: FakeConfigMaps) -> dict[str, str]:
    [found] = maps.objects.values()
    data: dict[str, str] = found["data"]
    return data


def test_a_version_is_there_once_however_often_it_is_registered(maps: FakeConfigMaps, registry: OpenRegistry) -> None:
    first = registry().register(record(1), is_promoted=False)
    assert first == {**record(1), "versionId": "1", "versionAliases": ["default"]}
    second = registry().register(record(2), is_promoted=True)
    assert (second["versionId"], second["versionAliases"]) == ("2", ["default", "champion"])
    assert registry().register(record(1), is_promoted=True) == {**first, "versionAliases": []}
    assert kept(maps).keys() == {"version-1", "version-2", "champion", "refused"}
    assert kept(maps)["champion"] == "2"


def test_each_project_and_display_name_has_versions_of_its_own(maps: FakeConfigMaps, registry: OpenRegistry) -> None:
    for opened in (registry(), registry("other"), registry(display_name="My  model")):
        assert opened.register(record(1), is_promoted=False)["versionId"] == "1"
    assert len(maps.objects) == 3
    assert all(name.startswith("tuneline-my-model-") for name in maps.objects)
    assert [found["metadata"]["annotations"]["tuneline/display-name"] for found in maps.objects.values()] == ["My model", "My model", "My  model"]


def test_the_champion_is_the_last_one_promoted(registry: OpenRegistry) -> None:
    assert registry().champion() is None
    registry().register(record(1), is_promoted=True)
    registry().register(record(2), is_promoted=False)
    assert registry().champion() == Champion(model_resource_name="gs://bucket/run-1/checkpoint-20", uri="gs://bucket/run-1/checkpoint-20")


def test_a_person_may_change_the_champion_or_take_it_out(maps: FakeConfigMaps, registry: OpenRegistry) -> None:
    for number in (1, 2):
        registry().register(record(number), is_promoted=True)
    for text, uri in (("1", "gs://bucket/run-1/checkpoint-20"), ("", None), ("7", None), ("x", None)):
        kept(maps)["champion"] = text
        found = registry().champion()
        assert (found.uri if found else None) == uri


def test_a_champion_that_a_pod_cannot_read_is_told(registry: OpenRegistry) -> None:
    registry().register(record(1, root="minio://mlpipeline"), is_promoted=True)
    with pytest.raises(ModelError, match=r"the champion is at minio://mlpipeline/run-1/checkpoint-20; a later run reads it from gs:// only") as caught:
        registry().champion()
    assert "tuneline-my-model-" in caught.value.next_action


def test_data_that_were_tuned_or_refused_are_not_new(registry: OpenRegistry) -> None:
    assert registry().unchanged(DATA[1]) == ""
    registry().register(record(1, data=DATA[1]), is_promoted=True)
    assert "was tuned from the same data" in registry().unchanged(DATA[1])
    assert registry().unchanged(DATA[2]) == ""
    registry().refuse(DATA[2])
    assert "did not lead to a better model" in registry().unchanged(DATA[2])
    registry().register(record(3, data=DATA[3]), is_promoted=True)
    assert [bool(registry().unchanged(data)) for data in DATA[:4]] == [False, False, False, True]  # a new champion is another chance


def test_looking_up_makes_sure_that_registering_will_be_allowed(maps: FakeConfigMaps, registry: OpenRegistry) -> None:
    assert not registry().exists()
    maps.forbidden = {"POST"}
    with pytest.raises(UserError, match="configmaps is forbidden") as caught:
        registry().unchanged(DATA[0])
    assert "get, create and update configmaps" in caught.value.next_action
    maps.forbidden = {"PUT"}
    for look in (registry().champion, lambda: registry().unchanged(DATA[0])):
        with pytest.raises(UserError, match="configmaps is forbidden"):
            look()
    assert registry().exists()
    maps.forbidden = set()
    [before] = maps.objects.values()
    registry().unchanged(DATA[0])
    assert [before] == list(maps.objects.values())  # to look changes nothing


def test_a_config_map_that_somebody_deletes_meanwhile_is_made_anew(maps: FakeConfigMaps, registry: OpenRegistry) -> None:
    registry().register(record(1), is_promoted=False)
    opened, read = registry(), ModelRegistry._read

    def delete_after_the_first(self: ModelRegistry) -> object:
        found = read(self)
        if found:
            maps.objects.clear()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelRegistry, "_read", delete_after_the_first)
        assert opened.register(record(2), is_promoted=False)["versionId"] == "1"


def test_refusals_that_pass_are_tried_again_and_others_are_not(maps: FakeConfigMaps, registry: OpenRegistry) -> None:
    maps.faults = [503, 429]
    assert registry().register(record(1), is_promoted=False)["versionId"] == "1"
    maps.faults = [500] * 3
    with pytest.raises(InfrastructureError):
        registry().register(record(2), is_promoted=False)
    maps.faults = [422]
    with pytest.raises(UserError):
        registry().register(record(2), is_promoted=False)


@pytest.mark.parametrize("known", [0, 1])
def test_an_answer_that_is_lost_makes_no_second_version(maps: FakeConfigMaps, registry: OpenRegistry, known: int) -> None:
    for number in range(known):
        registry().register(record(number), is_promoted=False)
    maps.faults = ["lost"]
    assert registry().register(record(7), is_promoted=True)["versionId"] == str(known + 1)
    assert len([key for key in kept(maps) if key.startswith("version-")]) == known + 1


@pytest.mark.parametrize("seed", range(20))
def test_eight_processes_at_a_time_lose_and_double_nothing(maps: FakeConfigMaps, registry: OpenRegistry, seed: int) -> None:
    draws = random.Random(seed)
    maps.faults = [draws.choice(["", "", "lost", 503]) for _ in range(30)]
    wanted = [draws.randrange(4) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: registry(attempts=30).register(record(number), is_promoted=number % 2 == 0), wanted))
    assert [version["artifactUri"] for version in made] == [record(number)["artifactUri"] for number in wanted]
    versions = {key: json.loads(value)["artifactUri"] for key, value in kept(maps).items() if key.startswith("version-")}
    assert sorted(versions.values()) == sorted(record(number)["artifactUri"] for number in set(wanted))
    assert versions.keys() == {f"version-{number + 1}" for number in range(len(versions))}


def test_a_conflict_without_end_is_an_error_that_passes(registry: OpenRegistry, maps: FakeConfigMaps) -> None:
    maps.faults = [409] * 1000
    with pytest.raises(InfrastructureError, match="changes too often"):
        registry().register(record(1), is_promoted=False)


def test_the_oldest_versions_go_when_there_is_no_room_but_never_the_champion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_versions, "MOST_VERSIONS", 3)
    versions = ModelVersions()
    for number in range(1, 7):
        versions = versions.with_version(record(number), is_promoted=number == 2)
    assert versions.numbers == [6, 5, 4, 2]
    assert versions.champion == versions.record(2)
    assert versions.with_version(record(7), is_promoted=True).numbers == [7, 6, 5]


def test_as_many_versions_as_are_kept_fit_into_a_config_map(maps: FakeConfigMaps, registry: OpenRegistry) -> None:
    labels = {f"label-{number:02}": "x" * 63 for number in range(20)}
    versions = ModelVersions()
    for number in range(model_versions.MOST_VERSIONS):
        versions = versions.with_version({**record(number), "labels": labels}, is_promoted=False)
    registry().unchanged(DATA[0])
    kept(maps).update(versions.data)
    assert int(registry().register({**record(9999), "labels": labels}, is_promoted=True)["versionId"]) == model_versions.MOST_VERSIONS + 1
